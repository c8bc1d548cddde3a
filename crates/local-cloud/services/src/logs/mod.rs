//! CloudWatch Logs: groups, streams and their events, durable and searchable. Appending is
//! cheap, since every line of every function passes here; retention is applied when a group
//! is read. Logs Insights and subscriptions are not emulated.

use std::time::Duration;

use cloud_core::Cloud;
use cloud_core::service::{Chore, JSON_1_1, Protocol, Service};
use cloud_core::store::{Store, StoreError};

mod api;
mod deploy;
mod groups;
mod read;
mod store;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use write::LARGEST_EVENT;

/// The service.
pub static SERVICE: Service = Service {
    protocols: &[Protocol::Json {
        content_type: JSON_1_1,
        targets: &["Logs_20140328"],
        error_prefix: "",
        forward: None,
    }],
    open: |opening| {
        let state = State::open(opening.store)?;
        opening.keep(state);
        Ok(())
    },
    chores: &[Chore {
        of: "expired log events",
        every: Duration::from_secs(300),
        portion: 500,
        deletes: true,
        work: |cloud, most| Box::pin(async move { Ok(sweep(cloud, most)?) }),
    }],
    actions: api::ACTIONS,
    types: deploy::TYPES,
    ..Service::new("logs")
};

/// What the service keeps besides its tables.
#[derive(Debug, Default)]
pub struct State {
    ids: store::Ids,
}

impl State {
    /// Creates the service's tables.
    ///
    /// # Errors
    /// When the store refuses.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        store::migrate(store)?;
        Ok(Self::default())
    }
}

/// Appends one event to a stream, which (with its group) is created where it is missing.
/// `timestamp_ms`: milliseconds since the epoch.
///
/// # Errors
/// When the store refuses.
pub fn append(
    cloud: &Cloud,
    group: &str,
    stream: &str,
    timestamp_ms: i64,
    message: &str,
) -> Result<(), StoreError> {
    append_all(cloud, group, stream, &[(timestamp_ms, message)])
}

/// Appends several events (milliseconds since the epoch, text) in one transaction.
///
/// # Errors
/// When the store refuses.
pub fn append_all(
    cloud: &Cloud,
    group: &str,
    stream: &str,
    events: &[(i64, &str)],
) -> Result<(), StoreError> {
    cloud.store.write(|tx| append_within(cloud, tx, group, stream, events))
}

/// Like [`append_all`], within a transaction of the caller's own.
///
/// # Errors
/// When SQLite refuses.
pub fn append_within(
    cloud: &Cloud,
    tx: &rusqlite::Transaction<'_>,
    group: &str,
    stream: &str,
    events: &[(i64, &str)],
) -> rusqlite::Result<()> {
    store::append(tx, &cloud.state::<State>().ids, cloud.clock.now_ms(), group, stream, events)
}

/// The ARN of a group as DescribeLogGroups gives it in `arn`, with its trailing `:*`.
pub fn group_arn(cloud: &Cloud, name: &str) -> String {
    format!("{}:*", cloud.arn("logs", &format!("log-group:{name}")))
}

/// The group that an ARN (with or without `:*`) or a plain name means.
pub fn group_name(identifier: &str) -> &str {
    match identifier.split_once(":log-group:") {
        Some((arn, name)) if arn.starts_with("arn:") => name.trim_end_matches(":*"),
        _ => identifier,
    }
}

/// Deletes so many expired events at most, of all groups; how many.
///
/// # Errors
/// When the store refuses.
pub(crate) fn sweep(cloud: &Cloud, most: usize) -> Result<usize, StoreError> {
    store::sweep(&cloud.store, cloud.clock.now_ms(), most)
}

/// Whether there is such a group.
///
/// # Errors
/// When the store refuses.
pub fn exists(cloud: &Cloud, group: &str) -> Result<bool, StoreError> {
    Ok(cloud.store.read(|db| store::group(db, group))?.is_some())
}
