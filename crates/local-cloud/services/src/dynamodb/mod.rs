//! DynamoDB and DynamoDB Streams, on dynoxide. Tables live in `dynamodb.sqlite`, beside the other services'
//! store, so there is no `store.rs` here. This module owns what dynoxide leaves to its host: ARNs of this
//! account, stable stream labels, time to live, and the tick that wakes the readers of streams. It never
//! interprets an item. It never trims a stream: AWS does after 24 hours, but here a reader may have been
//! switched off for a weekend.

mod api;
mod arns;
mod changes;
mod charges;
mod control;
mod deploy;
mod engine;
mod forward;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use cloud_core::service::{Chore, JSON_1_0, Protocol, Service};
use cloud_core::{AwsError, Cloud};
use tokio::sync::watch;

pub use arns::{SHARD_ID, STREAM_LABEL};

pub static SERVICE: Service = Service {
    protocols: &[Protocol::Json {
        content_type: JSON_1_0,
        targets: &["DynamoDB_20120810", "DynamoDBStreams_20120810"],
        error_prefix: "com.amazonaws.dynamodb.v20120810#",
        forward: Some(|cloud, action, body| Box::pin(forward::forward(cloud, action, body))),
    }],
    open: |opening| {
        let path = opening.settings.state.as_ref().map(|folder| folder.join("dynamodb.sqlite"));
        let engine = engine::Engine::open(path.as_deref())?;
        opening.keep(State { engine, changes: changes::Changes::default() });
        Ok(())
    },
    chores: &[Chore {
        of: "expired items",
        every: SWEEP_EVERY,
        // The sweep pages by itself.
        portion: usize::MAX,
        deletes: true,
        work: |cloud, _| Box::pin(sweep(cloud)),
    }],
    actions: api::ACTIONS,
    types: deploy::TYPES,
    ..Service::new("dynamodb")
};

/// AWS only promises "within a few days" (DynamoDB developer guide, "How it works: TTL"); half a minute
/// keeps a local run lively.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct State {
    engine: engine::Engine,
    changes: changes::Changes,
}

/// Removes the expired items; returns their number.
async fn sweep(cloud: &Arc<Cloud>) -> Result<usize, AwsError> {
    let state = cloud.state::<State>();
    let expired = state.engine.sweep(cloud).await?;
    if expired > 0 {
        state.changes.tick([]);
    }
    Ok(expired)
}

/// Ticks whenever an item of the stream's table may have changed, so that readers need not poll.
pub fn changes(cloud: &Arc<Cloud>, stream_arn: &str) -> watch::Receiver<u64> {
    let resource = stream_arn.split_once(arns::TABLE).map_or(stream_arn, |(_, resource)| resource);
    cloud.state::<State>().changes.of(resource.split('/').next().unwrap_or(resource))
}

#[cfg(test)]
mod api_tests;
#[cfg(test)]
mod tests;
