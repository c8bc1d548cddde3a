//! Sends requests to dynoxide, and does around them what AWS does and dynoxide does not. Items pass through
//! unread.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use cloud_core::service::Reply;
use cloud_core::{AwsError, Cloud};

use super::{State, arns, changes, charges, control, streams};

/// The actions that may change an item.
#[rustfmt::skip]
const WRITES: [&str; 8] = [
    "PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems", "ExecuteStatement",
    "ExecuteTransaction", "BatchExecuteStatement",
];

/// Answers one API action with the bytes that the endpoint sends to clients. A refusal of dynoxide is a reply;
/// an error is a refusal before dynoxide is asked (an action that is not emulated, an unknown stream).
pub(super) async fn forward(cloud: &Arc<Cloud>, action: &str, mut body: Bytes) -> Result<Reply, AwsError> {
    let charged = charges::charge(cloud, action, &mut body);
    if cloud.action("dynamodb", action).is_none() {
        return Err(AwsError::not_emulated("dynamodb", action));
    }
    control::check(action, &body)?;
    streams::check(action, &body)?;
    let engine = &cloud.state::<State>().engine;
    if let Some(reply) = control::answer(cloud, engine, action, &body).await {
        return reply;
    }
    let body = arns::inward(engine, action, body)?;
    let reply = if WRITES.contains(&action) {
        // A task of its own: the write wakes its readers, even when the caller has gone away.
        let (cloud, action) = (cloud.clone(), action.to_owned());
        let writing = tokio::spawn(async move { write(&cloud, &action, body).await });
        writing.await.map_err(AwsError::internal)??
    } else {
        engine.send(cloud, action, body).await?
    };
    let mut reply = arns::outward(cloud, action, reply)?;
    if let Some(charged) = charged
        && reply.status == 200
    {
        charged.settle(cloud, &mut reply.body);
    }
    if action == "DescribeStream" { streams::complete(cloud, engine, reply).await } else { Ok(reply) }
}

/// Sends a write, and wakes the readers of its tables unless it was refused: a write that ended in an error
/// of ours may have been applied.
async fn write(cloud: &Arc<Cloud>, action: &str, body: Bytes) -> Result<Reply, AwsError> {
    let state = cloud.state::<State>();
    let tables = changes::tables_of(&body);
    let reply = state.engine.send(cloud, action, body.clone()).await;
    if let Ok(reply) = &reply {
        log(action, &tables, reply.status);
        if reply.status == 200 {
            cloud.counters.write(&body);
        }
    }
    if !matches!(&reply, Ok(reply) if (400..500).contains(&reply.status)) {
        state.changes.tick(&tables);
    }
    reply
}

/// Logs action and tables only, since items hold names of people and task tokens. A condition that fails is
/// how the services see a redelivery: no reason to warn.
fn log(action: &str, tables: &BTreeSet<String>, status: u16) {
    if !tracing::enabled!(target: "hop", tracing::Level::INFO) {
        return;
    }
    let tables = tables.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    if status == 200 {
        tracing::info!(target: "hop", service = "dynamodb", resource = %tables, action, "written");
    } else {
        tracing::info!(target: "hop", service = "dynamodb", resource = %tables, action, status, "refused");
    }
}
