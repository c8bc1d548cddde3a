//! The API actions on mappings, a part of the service `lambda`.

use std::sync::{Arc, Mutex};

use cloud_core::service::Action;
use cloud_core::{AwsError, Cloud, lock};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::mapping::{self, Mapping, Source};
use super::pollers::{Deployed, State};
use super::{queue, store};
use crate::lambda::{self, page, read};

#[rustfmt::skip]
pub(super) const ACTIONS: &[Action] = &[
    Action::new("ListEventSourceMappings", |cloud, input| list(cloud, read(input)?))
        .route("GET", "/2015-03-31/event-source-mappings", 200),
    Action::new("GetEventSourceMapping", |cloud, input| get(cloud, &read(input)?))
        .route("GET", "/2015-03-31/event-source-mappings/{UUID}", 200),
    Action::later("UpdateEventSourceMapping", |cloud, input| Box::pin(async { update(cloud, read(input)?).await }))
        .route("PUT", "/2015-03-31/event-source-mappings/{UUID}", 202),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Get {
    #[serde(rename = "UUID")]
    uuid: String,
}

fn get(cloud: &Cloud, Get { uuid }: &Get) -> Result<Value, AwsError> {
    let Deployed { mapping, state } = cloud.state::<State>().find(uuid)?.borrow().clone();
    Ok(mapping.view(cloud, state))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct List {
    event_source_arn: Option<String>,
    function_name: Option<String>,
    marker: Option<String>,
    max_items: Option<usize>,
}

fn list(cloud: &Cloud, input: List) -> Result<Value, AwsError> {
    let function = input.function_name.as_deref().map(lambda::name_of);
    let wanted = |mapping: &Mapping| {
        input.event_source_arn.as_ref().is_none_or(|arn| *arn == mapping.source_arn)
            && function.as_ref().is_none_or(|name| *name == mapping.function)
    };
    let deployed = cloud.state::<State>().all().into_iter().map(|poller| poller.borrow().clone());
    let found = deployed.filter(|deployed| wanted(&deployed.mapping));
    let views =
        found.map(|Deployed { mapping, state }| (mapping.uuid.clone(), mapping.view(cloud, state))).collect();
    page(views, "EventSourceMappings", input.marker, input.max_items)
}

/// The emulated members of UpdateEventSourceMapping, besides the UUID.
#[rustfmt::skip]
const UPDATABLE: [&str; 13] = [
    "FunctionName", "Enabled", "BatchSize", "MaximumBatchingWindowInSeconds", "FilterCriteria", "ScalingConfig",
    "FunctionResponseTypes", "ParallelizationFactor", "BisectBatchOnFunctionError", "MaximumRetryAttempts",
    "MaximumRecordAgeInSeconds", "TumblingWindowInSeconds", "DestinationConfig",
];

#[derive(Deserialize)]
struct Update {
    #[serde(rename = "UUID")]
    uuid: String,
    #[serde(flatten)]
    changes: Map<String, Value>,
}

fn invalid(message: String) -> AwsError {
    AwsError::client("InvalidParameterValueException", message)
}

/// Answers before the poller uses the change, as AWS does; until then the mapping cannot be changed again.
async fn update(cloud: &Arc<Cloud>, update: Update) -> Result<Value, AwsError> {
    let _one_by_one = cloud.state::<State>().updating.lock().await;
    let poller = cloud.state::<State>().find(&update.uuid)?;
    let known = poller.borrow().clone();
    if known.is_changing() {
        return Err(AwsError::client(
            "ResourceInUseException",
            "Cannot update the event source mapping because it is in use.",
        ));
    }
    let mapping = Arc::new(changed(cloud, &known.mapping, update.changes)?);
    if matches!(mapping.source, Source::Queue(_)) {
        queue::check(cloud, &mapping).await?;
    }
    store::save(cloud, &mapping)?;
    let state = match (known.mapping.enabled, mapping.enabled) {
        (false, true) => "Enabling",
        (true, false) => "Disabling",
        _ => "Updating",
    };
    tracing::info!(target: "hop", service = "lambda", resource = %mapping.function, "event source mapping {}", state.to_lowercase());
    let answer = mapping.view(cloud, state);
    poller.send_replace(Deployed { mapping, state });
    Ok(answer)
}

/// The mapping with changed properties; the others stay.
fn changed(cloud: &Cloud, known: &Mapping, changes: Map<String, Value>) -> Result<Mapping, AwsError> {
    if let Some(name) = changes.keys().find(|name| !UPDATABLE.contains(&name.as_str())) {
        return Err(invalid(format!("The parameter {name} is not emulated by the local cloud.")));
    }
    let mut resource = known.resource.clone();
    if let Some(properties) = resource.properties.as_object_mut() {
        properties.extend(changes.into_iter().filter(|(_, value)| !value.is_null()));
    }
    let mut mapping = mapping::read(cloud, &resource, cloud.clock.now_ms()).map_err(|refusal| {
        let member = refusal.path.rsplit("Properties.").next().unwrap_or_default();
        // A reason that begins with a capital letter is AWS's own sentence.
        match refusal.reason.starts_with(char::is_uppercase) {
            true => invalid(refusal.reason),
            false => invalid(format!("{member}: {}", refusal.reason)),
        }
    })?;
    lambda::timeout_s(cloud, &mapping.function)?;
    mapping.last_result = Mutex::new(*lock(&known.last_result));
    // A new function continues where the one before it stopped.
    if let (Source::Table(settings), Source::Table(before)) = (&mut mapping.source, &known.source) {
        settings.consumer.clone_from(&before.consumer);
    }
    Ok(mapping)
}
