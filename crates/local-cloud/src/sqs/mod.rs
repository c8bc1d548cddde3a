//! SQS standard queues: durable messages with visibility timeouts, receive counts, redrive
//! to a dead-letter queue and back, over the JSON protocol ([`call`]) and the query
//! protocol that API Gateway speaks ([`query`]). FIFO queues are refused.

mod actions;
mod digest;
mod fault;
mod message;
mod move_task;
mod query;
mod queue;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Notify;

pub use query::query;

use crate::cloud::Cloud;
use crate::error::AwsError;
use crate::resource::{Refusal, Resource};
use crate::store::{Store, StoreError};

/// What the service keeps in memory: who waits for messages.
#[derive(Debug, Default)]
pub struct State {
    arrivals: Mutex<HashMap<String, Arc<Notify>>>,
}

impl State {
    /// Creates the service's tables.
    ///
    /// # Errors
    /// When the store refuses.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        store.migrate(queue::TABLES)?;
        store.migrate(message::TABLES)?;
        store.migrate(move_task::TABLES)?;
        Ok(Self::default())
    }

    /// Ticks when a message of the queue may have become visible.
    fn arrival(&self, queue: &str) -> Arc<Notify> {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.entry(queue.to_owned()).or_default().clone()
    }
}

/// Answers one API action; `input` and the answer have the members of AWS's API reference.
///
/// # Errors
/// AWS's own error codes; `details["QueryErrorCode"]` has the code of the query protocol
/// where it differs, for the `x-amzn-query-error` header.
pub async fn call(cloud: &Arc<Cloud>, action: &str, input: Value) -> Result<Value, AwsError> {
    actions::call(cloud, action, input).await
}

/// Resumes the message move tasks that were running; ends them when `cloud.stopping` is cancelled.
pub fn start(cloud: &Arc<Cloud>) {
    move_task::resume(cloud);
}

/// Deletes so many expired messages at most, of all queues, and what nobody can read of deleted
/// queues and ended move tasks; how many.
///
/// # Errors
/// When the store refuses.
pub(crate) fn sweep(cloud: &Cloud, most: usize) -> Result<usize, StoreError> {
    let now_ms = cloud.clock.now_ms();
    let queues = queue::all(cloud)?;
    cloud.store.write(|tx| {
        let mut gone = 0;
        for queue in &queues {
            gone += message::sweep(tx, queue, now_ms, most - gone)?;
        }
        queue::forget_deleted(tx, now_ms)?;
        move_task::forget_ended(tx)?;
        Ok(gone)
    })
}

/// Shows again what the pollers of an event source mapping had received, and not settled,
/// when the local cloud ended. On AWS the pollers do not end with anything of ours; here
/// nobody is left who could settle it, and there is no reason to wait for its time to run out.
///
/// # Errors
/// When the store refuses.
pub(crate) fn release(cloud: &Cloud, arn: &str) -> Result<usize, StoreError> {
    let queue = match queue::name_in_arn(arn) {
        Some(name) => queue::named(cloud, name)?,
        None => None,
    };
    queue.map_or(Ok(0), |queue| message::release(cloud, &queue))
}

/// Deploys one resource of this service.
///
/// # Errors
/// Names what is not emulated.
pub async fn deploy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    match resource.kind.as_str() {
        "AWS::SQS::Queue" => queue::deploy(cloud, resource),
        "AWS::SQS::QueuePolicy" => deploy_policy(cloud, resource),
        _ => Err(resource.refuse("Type", format!("{} is not emulated", resource.kind))),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct QueuePolicy {
    queues: Vec<String>,
    policy_document: Value,
}

/// A policy is kept and shown as the queue's `Policy`; calls are not authorised here.
fn deploy_policy(cloud: &Cloud, resource: &Resource) -> Result<(), Refusal> {
    let properties: QueuePolicy = resource.read()?;
    for url in &properties.queues {
        let policy = properties.policy_document.to_string();
        queue::change(cloud, url, |queue| {
            queue.attributes.insert("Policy".into(), policy);
        })
        .map_err(|error| resource.refuse("Properties.Queues", error.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
