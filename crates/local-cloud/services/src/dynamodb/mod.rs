//! DynamoDB and DynamoDB Streams, on dynoxide: tables live in `dynamodb.sqlite`, beside
//! the other services' store. This module owns what dynoxide leaves to its host: ARNs of
//! this account, stable stream labels, time to live, and the tick that wakes the readers
//! of streams. It never interprets an item, and never trims a stream: AWS does after 24
//! hours, but here a reader may have been switched off for a weekend.

mod api;
mod arns;
mod changes;
mod charges;
mod engine;
mod hops;
mod own;
mod streams;
mod table;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloud_core::service::{Chore, JSON_1_0, Protocol, Service};
use cloud_core::store::{Store, StoreError};
use cloud_core::{AwsError, Cloud, Settings};
use serde_json::{Map, Value};
use tokio::sync::watch;

pub use arns::{SHARD_ID, STREAM_LABEL};
use cloud_core::service::Reply;
use engine::Engine;

/// The service, with DynamoDB Streams.
pub static SERVICE: Service = Service {
    protocols: &[Protocol::Json {
        content_type: JSON_1_0,
        targets: &["DynamoDB_20120810", "DynamoDBStreams_20120810"],
        error_prefix: "com.amazonaws.dynamodb.v20120810#",
        forward: Some(|cloud, action, body| Box::pin(forward(cloud, action, body))),
    }],
    open: |opening| {
        let state = State::open(opening.store, opening.settings)?;
        opening.keep(state);
        Ok(())
    },
    chores: &[Chore {
        of: "expired items",
        every: SWEEP_EVERY,
        // Goes by pages itself.
        portion: usize::MAX,
        deletes: true,
        work: |cloud, _| Box::pin(sweep(cloud)),
    }],
    actions: api::ACTIONS,
    types: table::TYPES,
    ..Service::new("dynamodb")
};

/// How often expired items are looked for. AWS only promises "within a few days"
/// (DynamoDB developer guide, "How it works: TTL"); half a minute keeps a local run lively.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// The tables, and the tick of their writers.
#[derive(Debug)]
pub struct State {
    engine: Engine,
    changes: changes::Changes,
}

impl State {
    /// Opens the tables: a file in the state folder, or memory where there is none.
    ///
    /// # Errors
    /// When dynoxide cannot open its database.
    pub fn open(_store: &Store, settings: &Settings) -> Result<Self, StoreError> {
        let path = settings.state.as_ref().map(|folder| folder.join("dynamodb.sqlite"));
        Ok(Self { engine: Engine::open(path.as_deref())?, changes: changes::Changes::default() })
    }
}

/// Answers one API action with the very bytes that go over the wire: what the endpoint
/// serves to SDK clients. Items pass through unread.
///
/// # Errors
/// Where dynoxide is not asked: an action that is not emulated, an unknown stream.
/// Refusals of dynoxide are replies.
pub async fn forward(cloud: &Arc<Cloud>, action: &str, mut body: Bytes) -> Result<Reply, AwsError> {
    let charged = charges::charge(cloud, action, &mut body);
    let state = &cloud.state::<State>();
    let writes = api::WRITES.contains(&action);
    if own::ACTIONS.contains(&action) {
        return own::answer(cloud, action, body).await;
    }
    if cloud.action("dynamodb", action).is_none() {
        return Err(AwsError::not_emulated("dynamodb", action));
    }
    own::check(action, &body)?;
    streams::check(action, &body)?;
    let body = arns::inward(&state.engine, action, body)?;
    let reply = if writes {
        // A task of its own: what is written is told to its readers, though the caller has gone away.
        let (cloud, action) = (cloud.clone(), action.to_owned());
        let writing = tokio::spawn(async move { write(&cloud, &action, body).await });
        writing.await.map_err(AwsError::internal)??
    } else {
        state.engine.send(cloud, action, body).await?
    };
    let mut reply = arns::outward(cloud, action, reply)?;
    if let Some(charged) = charged
        && reply.status == 200
    {
        charged.settle(cloud, &mut reply.body);
    }
    if action == "DescribeStream" { streams::complete(cloud, reply).await } else { Ok(reply) }
}

/// Sends a write, and wakes the readers of its tables unless it was refused: what ended in an
/// error of ours may have been applied.
async fn write(cloud: &Arc<Cloud>, action: &str, body: Bytes) -> Result<Reply, AwsError> {
    let state = &cloud.state::<State>();
    let tables = hops::tables_of(&body);
    let reply = state.engine.send(cloud, action, body.clone()).await;
    if let Ok(reply) = &reply {
        hops::log(action, &tables, reply.status);
        if reply.status == 200 {
            cloud.counters.write(&body);
        }
    }
    if !matches!(&reply, Ok(reply) if (400..500).contains(&reply.status)) {
        state.changes.tick(&tables);
    }
    reply
}

/// `{"__type": "com.amazonaws.dynamodb.v20120810#Code", "message": ..., ...}` as an error.
fn error_of(reply: &Reply) -> AwsError {
    let mut body: Map<String, Value> = serde_json::from_slice(&reply.body).unwrap_or_default();
    let kind = body.remove("__type");
    let kind = kind.as_ref().and_then(Value::as_str).unwrap_or("InternalServerError");
    let code = kind.rsplit('#').next().unwrap_or(kind).to_string();
    // Most errors say `message`, some `Message`; SDKs read both.
    let message = body.remove("message").or_else(|| body.remove("Message"));
    let message = message.as_ref().and_then(Value::as_str).unwrap_or_default().to_string();
    AwsError { code, message, status: reply.status, details: body }
}

/// Removes the items that have expired; how many.
///
/// # Errors
/// When a table cannot be read or written.
pub(crate) async fn sweep(cloud: &Arc<Cloud>) -> Result<usize, AwsError> {
    let expired = cloud.state::<State>().engine.sweep(cloud).await?;
    if expired > 0 {
        cloud.state::<State>().changes.tick([]);
    }
    Ok(expired)
}

/// Ticks whenever an item of the stream's table may have changed: its readers wait for it instead of polling.
pub fn changes(cloud: &Arc<Cloud>, stream_arn: &str) -> watch::Receiver<u64> {
    let resource = stream_arn.split_once(":table/").map_or(stream_arn, |(_, resource)| resource);
    cloud.state::<State>().changes.of(resource.split('/').next().unwrap_or(resource))
}

#[cfg(test)]
mod api_tests;
#[cfg(test)]
mod tests;
