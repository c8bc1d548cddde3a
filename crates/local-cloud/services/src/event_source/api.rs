//! The API actions on mappings, which belong to the service `lambda`.

use cloud_core::service::Action;
use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;

use super::{Deployed, change, describe};
use crate::lambda::{page, read};

/// The actions, with the members of AWS's API reference.
pub(super) const ACTIONS: &[Action] = &[
    Action::new("ListEventSourceMappings", |cloud, input| list(cloud, read(input)?)).route(
        "GET",
        "/2015-03-31/event-source-mappings",
        200,
    ),
    Action::new("GetEventSourceMapping", |cloud, input| {
        let Get { uuid } = read(input)?;
        let deployed = cloud.state::<crate::event_source::State>().find(&uuid)?;
        Ok(describe(cloud, &deployed))
    })
    .route("GET", "/2015-03-31/event-source-mappings/{UUID}", 200),
    Action::later("UpdateEventSourceMapping", |cloud, input| {
        Box::pin(async move { change(cloud, read(input)?).await })
    })
    .route("PUT", "/2015-03-31/event-source-mappings/{UUID}", 202),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Get {
    #[serde(rename = "UUID")]
    uuid: String,
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
    let wanted = |deployed: &watch::Sender<Deployed>| {
        let mapping = deployed.borrow().mapping.clone();
        let wanted = input.event_source_arn.as_ref().is_none_or(|arn| *arn == mapping.source_arn)
            && function.as_ref().is_none_or(|name| *name == mapping.function);
        wanted.then(|| (mapping.uuid.clone(), describe(cloud, deployed)))
    };
    let found = cloud
        .state::<crate::event_source::State>()
        .all()
        .iter()
        .filter_map(|deployed| wanted(deployed))
        .collect();
    page(found, "EventSourceMappings", input.marker, input.max_items)
}
