//! CloudWatch Logs: groups, streams and their events, durable and searchable. An append is cheap, since
//! every line of every function passes here; expired events are deleted before a group is read. Logs
//! Insights and subscriptions are refused.

use std::time::Duration;

use cloud_core::Cloud;
use cloud_core::service::{Chore, JSON_1_1, Protocol, Service};
use cloud_core::store::StoreError;

mod api;
mod deploy;
mod names;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use api::MAX_EVENT_BYTES;
pub use names::{group_arn, group_name};
pub use store::append_within;

pub static SERVICE: Service = Service {
    protocols: &[Protocol::Json {
        content_type: JSON_1_1,
        targets: &["Logs_20140328"],
        error_prefix: "",
        forward: None,
    }],
    open: |opening| {
        store::open(opening.store)?;
        opening.keep(store::Ids::default());
        Ok(())
    },
    chores: &[Chore {
        of: "expired log events",
        every: Duration::from_secs(300),
        portion: 500,
        deletes: true,
        work: |cloud, limit| {
            let now_ms = cloud.clock.now_ms();
            Box::pin(async move { Ok(store::sweep(&cloud.store, now_ms, limit)?) })
        },
    }],
    actions: api::ACTIONS,
    types: deploy::TYPES,
    ..Service::new("logs")
};

/// Appends one event to a stream. Creates the group and the stream if they do not exist.
/// `timestamp_ms`: milliseconds since the epoch.
pub fn append(
    cloud: &Cloud,
    group: &str,
    stream: &str,
    timestamp_ms: i64,
    message: &str,
) -> Result<(), StoreError> {
    cloud.store.write(|tx| append_within(cloud, tx, group, stream, &[(timestamp_ms, message)]))
}

pub fn exists(cloud: &Cloud, group: &str) -> Result<bool, StoreError> {
    Ok(cloud.store.read(|db| store::group(db, group))?.is_some())
}
