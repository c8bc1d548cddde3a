//! EventBridge: buses, rules, targets with retry and dead-letter queue, archives and replays. PutEvents
//! answers once the event and its deliveries are durable; an event is delivered at least once, in no
//! promised order. Schedules and API destinations are refused; permissions are shown, not enforced.

use std::sync::Arc;
use std::time::Duration;

use cloud_core::service::{Chore, JSON_1_1, Protocol, Service};
use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud};
use serde_json::Value;

mod api;
mod dead_letter;
mod delivery;
mod deploy;
mod event;
mod names;
mod policy;
mod replay;
mod routing;
mod rule;
mod send;
mod store;
mod target;
#[cfg(test)]
mod tests;
mod wake;

pub static SERVICE: Service = Service {
    protocols: &[Protocol::Json {
        content_type: JSON_1_1,
        targets: &["AWSEvents"],
        error_prefix: "",
        forward: None,
    }],
    open: |opening| {
        store::open(opening.store)?;
        opening.keep(routing::Cache::default());
        opening.keep(wake::Bell::default());
        opening.keep(deploy::Declared::default());
        Ok(())
    },
    start,
    chores: &[Chore {
        of: "expired archived events",
        every: Duration::from_secs(300),
        portion: 500,
        deletes: true,
        work: |cloud, most| {
            let now_ms = cloud.clock.now_ms();
            Box::pin(async move { Ok(cloud.store.write(|tx| store::sweep(tx, now_ms, most))?) })
        },
    }],
    undelivered,
    actions: api::ACTIONS,
    types: deploy::TYPES,
    ..Service::new("events")
};

/// Deletes what the template no longer declares, and resumes deliveries and replays.
pub(crate) fn start(cloud: &Arc<Cloud>) {
    if let Err(error) = deploy::forget_undeclared(cloud).and_then(|()| store::date_default_bus(cloud)) {
        tracing::error!(%error, "the rules of an earlier template could not be deleted");
    }
    delivery::start(cloud);
    replay::start(cloud);
}

/// Counts the pending deliveries that need `arn`: their target, or the bus of their rule.
fn undelivered(cloud: &Cloud, arn: &str) -> Result<u64, StoreError> {
    // `arn:...:event-bus/{bus}`, and `arn:...:rule/{bus}/{rule}`.
    let rules = arn.replacen(":event-bus/", ":rule/", 1) + "/";
    cloud.store.read(|db| store::pending(db, arn, &rules))
}

/// Publishes events of an AWS service (e.g. `aws.states`) to the default bus, each with its resource and
/// its detail. `also` is the caller's own change, in the same transaction.
pub async fn publish_aws_events(
    cloud: &Arc<Cloud>,
    source: &str,
    detail_type: &str,
    details: Vec<(String, Value)>,
    also: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<()>,
) -> Result<(), AwsError> {
    let now_ms = cloud.clock.now_ms();
    let event = |(resource, detail): (String, Value)| {
        let event = event::envelope(cloud, source, detail_type, now_ms, vec![resource].into(), detail);
        tracing::info!(target: "hop", service = "events", resource = store::DEFAULT_BUS, event = event["id"].as_str(), "{source} {detail_type} accepted");
        event
    };
    let events: Vec<Value> = details.into_iter().map(event).collect();
    Ok(routing::publish(cloud, &[(store::DEFAULT_BUS, &events)], routing::Origin::Put, also)?)
}

/// Forgets what was deployed, so that the next deployment is like one after a restart.
#[cfg(any(test, feature = "testing"))]
pub fn declare_anew_for_tests(cloud: &Cloud) {
    cloud.state::<deploy::Declared>().clear_for_tests();
}
