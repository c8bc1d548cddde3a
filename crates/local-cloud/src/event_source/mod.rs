//! Event source mappings: queues and table streams that invoke functions. A mapping polls
//! its source, filters, batches, invokes, and settles what the function answered, in the
//! way that the Lambda guide describes per source.

mod mapping;
mod queue;
pub mod stream;
mod table;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::Value;

use crate::cloud::Cloud;
use crate::error::AwsError;
use crate::lambda::{page, read};
use crate::resource::{Refusal, Resource};
use crate::store::{Store, StoreError};
use mapping::{Mapping, Source};

/// What the service keeps.
#[derive(Debug, Default)]
pub struct State {
    mappings: Mutex<BTreeMap<String, Arc<Mapping>>>,
}

impl State {
    /// Creates the service's tables.
    ///
    /// # Errors
    /// When the store refuses.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        store.migrate(stream::TABLES)?;
        Ok(Self::default())
    }

    fn all(&self) -> Vec<Arc<Mapping>> {
        self.mappings.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// Deploys one resource of this service.
///
/// # Errors
/// Names what is not emulated.
pub async fn deploy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    if resource.kind != "AWS::Lambda::EventSourceMapping" {
        return Err(resource.refuse("Type", format!("{} is not emulated", resource.kind)));
    }
    let mapping = mapping::read(cloud, resource)?;
    match &mapping.source {
        Source::Queue(_) => queue::check(cloud, &mapping)
            .await
            .map_err(|error| resource.refuse("Properties.EventSourceArn", error.message))?,
        Source::Table(settings) => stream::establish(cloud, settings)
            .await
            .map_err(|error| resource.refuse("Properties.EventSourceArn", error.to_string()))?,
    }
    let mut mappings = cloud.event_source.mappings.lock().unwrap_or_else(PoisonError::into_inner);
    mappings.insert(mapping.uuid.clone(), Arc::new(mapping));
    Ok(())
}

/// Starts the background tasks, after every resource is deployed; they end when `cloud.stopping` is cancelled.
pub fn start(cloud: &Arc<Cloud>) {
    for mapping in cloud.event_source.all() {
        if matches!(mapping.source, Source::Queue(_))
            && let Err(error) = crate::sqs::release(cloud, &mapping.source_arn)
        {
            tracing::error!(%error, "what was in flight shows again when its visibility timeout ends");
        }
        let cloud = cloud.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = cloud.stopping.cancelled() => {}
                () = run(&cloud, &mapping) => {}
            }
        });
    }
}

/// Polls while the mapping is enabled.
async fn run(cloud: &Arc<Cloud>, mapping: &Arc<Mapping>) {
    let mut enabled = mapping.enabled.subscribe();
    while enabled.wait_for(|enabled| *enabled).await.is_ok() {
        let poll = async {
            match &mapping.source {
                Source::Queue(settings) => queue::run(cloud, mapping, settings).await,
                Source::Table(settings) => {
                    let consumer = table::Functions::new(cloud, mapping);
                    stream::run(cloud.clone(), settings.clone(), consumer).await;
                }
            }
        };
        tokio::select! {
            () = poll => return,
            disabled = enabled.wait_for(|enabled| !*enabled) => if disabled.is_err() { return },
        }
    }
}

/// The API actions on mappings, which belong to the service `lambda`.
///
/// # Errors
/// AWS's own error codes.
pub(crate) fn call(cloud: &Cloud, action: &str, input: Value) -> Result<Value, AwsError> {
    match action {
        "ListEventSourceMappings" => list(cloud, read(input)?),
        "GetEventSourceMapping" => {
            let Get { uuid } = read(input)?;
            Ok(find(cloud, &uuid)?.describe())
        }
        "UpdateEventSourceMapping" => {
            let Update { uuid, enabled } = read(input)?;
            let mapping = find(cloud, &uuid)?;
            if let Some(enabled) = enabled {
                mapping.enabled.send_replace(enabled);
                tracing::info!(target: "hop", service = "lambda", resource = %mapping.function, "event source mapping {}", if enabled { "enabled" } else { "disabled" });
            }
            Ok(mapping.describe())
        }
        _ => Err(AwsError::not_emulated("lambda", action)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Get {
    #[serde(rename = "UUID")]
    uuid: String,
}

/// The template decides all else; `Enabled` holds until the next start.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    #[serde(rename = "UUID")]
    uuid: String,
    #[serde(rename = "Enabled")]
    enabled: Option<bool>,
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
    let function = input.function_name.as_deref().map(crate::lambda::name_of);
    let wanted = |mapping: &Arc<Mapping>| {
        input.event_source_arn.as_ref().is_none_or(|arn| *arn == mapping.source_arn)
            && function.as_ref().is_none_or(|name| *name == mapping.function)
    };
    let all = cloud.event_source.all();
    let found = all
        .iter()
        .filter(|mapping| wanted(mapping))
        .map(|mapping| (mapping.uuid.clone(), mapping.describe()));
    page(found.collect(), "EventSourceMappings", input.marker, input.max_items)
}

fn find(cloud: &Cloud, uuid: &str) -> Result<Arc<Mapping>, AwsError> {
    cloud.event_source.all().into_iter().find(|mapping| mapping.uuid == uuid).ok_or_else(|| {
        AwsError::new(404, "ResourceNotFoundException", "The resource you requested does not exist.")
    })
}

/// Now, as invocation records write it.
pub(crate) fn timestamp(cloud: &Cloud) -> String {
    let now = jiff::Timestamp::from_millisecond(cloud.clock.now_ms()).unwrap_or_default();
    now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// What a function answered under `ReportBatchItemFailures`: the identifiers that failed.
/// Nothing, null and an empty list are success; whatever else does not fit the form is an
/// error, for which the whole batch fails (services-sqs-errorhandling,
/// services-ddb-batchfailurereporting).
fn failures(payload: &[u8]) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        batch_item_failures: Option<Vec<Failure>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Failure {
        item_identifier: String,
    }
    if payload.is_empty() {
        return Ok(Vec::new());
    }
    let answer: Option<Answer> =
        serde_json::from_slice(payload).map_err(|error| format!("malformed batch response: {error}"))?;
    let failures = answer.and_then(|answer| answer.batch_item_failures).unwrap_or_default();
    if failures.iter().any(|failure| failure.item_identifier.is_empty()) {
        return Err("malformed batch response: an item identifier is empty".into());
    }
    Ok(failures.into_iter().map(|failure| failure.item_identifier).collect())
}

#[cfg(test)]
mod tests;
