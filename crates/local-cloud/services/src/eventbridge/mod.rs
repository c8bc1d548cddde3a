//! EventBridge: buses, rules, targets with retry and dead-letter queue, archives and replays.
//! An accepted event and its deliveries are durable before PutEvents answers; delivery is at
//! least once and in no promised order. Schedules, API destinations and permissions are not
//! emulated.

use std::sync::Arc;
use std::time::Duration;

use cloud_core::service::{Chore, JSON_1_1, Protocol, Service};
use cloud_core::store::{Store, StoreError};
use cloud_core::{AwsError, Cloud};
use serde_json::Value;

mod api;
mod archive;
mod bus;
mod delivery;
mod deploy;
mod model;
mod policy;
mod put_events;
mod rules;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use deploy::forget_undeclared;

/// The service.
pub static SERVICE: Service = Service {
    protocols: &[Protocol::Json {
        content_type: JSON_1_1,
        targets: &["AWSEvents"],
        error_prefix: "",
        forward: None,
    }],
    open: |opening| {
        let state = State::open(opening.store)?;
        opening.keep(state);
        Ok(())
    },
    start: start,
    chores: &[Chore {
        of: "expired archived events",
        every: Duration::from_secs(300),
        portion: 500,
        deletes: true,
        work: |cloud, most| Box::pin(async move { Ok(sweep(cloud, most)?) }),
    }],
    undelivered: undelivered,
    actions: api::ACTIONS,
    types: deploy::TYPES,
    ..Service::new("events")
};

/// What the service keeps besides its tables.
#[derive(Debug, Default)]
pub struct State {
    routes: bus::Cache,
    workers: delivery::Workers,
    declared: deploy::Declared,
}

impl State {
    /// Creates the service's tables, and the default bus.
    ///
    /// # Errors
    /// When the store refuses.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        store::migrate(store)?;
        store.write(|tx| {
            tx.execute("INSERT OR IGNORE INTO events_buses VALUES (?1, NULL, '{}', 0)", [bus::DEFAULT])
        })?;
        Ok(Self::default())
    }
}

/// Starts the background tasks, after every resource is deployed; they end when `cloud.stopping` is cancelled.
pub fn start(cloud: &Arc<Cloud>) {
    if let Err(error) = forget_undeclared(cloud).and_then(|()| bus::date_default(cloud)) {
        tracing::error!(%error, "the rules of an earlier template could not be deleted");
    }
    delivery::start(cloud);
    archive::start(cloud);
}

/// Deletes so many expired events of archives at most; how many.
///
/// # Errors
/// When the store refuses.
pub(crate) fn sweep(cloud: &Cloud, most: usize) -> Result<usize, StoreError> {
    cloud.store.write(|tx| store::sweep(tx, cloud.clock.now_ms(), most))
}

/// How many deliveries are pending that need what an ARN names: their target, or the bus of their rule.
///
/// # Errors
/// When the store refuses.
fn undelivered(cloud: &Cloud, arn: &str) -> Result<u64, StoreError> {
    // `arn:...:event-bus/{bus}`, and `arn:...:rule/{bus}/{rule}`.
    let rules = arn.replacen(":event-bus/", ":rule/", 1) + "/";
    cloud.store.read(|db| store::pending(db, arn, &rules))
}

/// Publishes events of an AWS service itself (`aws.states`, for one) to the default bus, each
/// with its resource and its detail, with a change of the caller's own in the same transaction.
///
/// # Errors
/// When the store refuses; then nothing is changed.
pub async fn publish_aws_events(
    cloud: &Arc<Cloud>,
    source: &str,
    detail_type: &str,
    details: Vec<(String, Value)>,
    also: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<()>,
) -> Result<(), AwsError> {
    let now_ms = cloud.clock.now_ms();
    let event = |(resource, detail): (String, Value)| {
        let event = bus::envelope(cloud, source, detail_type, now_ms, vec![resource].into(), detail);
        tracing::info!(target: "hop", service = "events", resource = bus::DEFAULT, event = event["id"].as_str(), "{source} {detail_type} accepted");
        event
    };
    let events: Vec<Value> = details.into_iter().map(event).collect();
    Ok(bus::publish_with(cloud, &[(bus::DEFAULT, &events)], bus::Origin::Put, also)?)
}

/// The next deployment declares anew, as after a restart.
#[cfg(any(test, feature = "testing"))]
pub fn declare_anew_for_tests(cloud: &Cloud) {
    cloud.state::<State>().declared.clear_for_tests();
}
