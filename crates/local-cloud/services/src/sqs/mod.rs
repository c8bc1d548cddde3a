//! SQS standard queues: durable messages with visibility timeouts, receive counts, redrive to a dead-letter
//! queue and back, over the JSON protocol and over the query protocol that API Gateway speaks (`query.rs`).
//! FIFO queues are refused.

mod api;
mod attributes;
mod deploy;
mod digest;
mod fault;
mod message;
mod move_task;
mod outgoing;
mod query;
mod queue;
mod store;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloud_core::Cloud;
use cloud_core::service::{Chore, JSON_1_0, Protocol, Service};
use cloud_core::store::StoreError;
pub(crate) use query::query;
use tokio::sync::Notify;

pub static SERVICE: Service = Service {
    protocols: &[
        Protocol::Json {
            content_type: JSON_1_0,
            targets: &["AmazonSQS"],
            error_prefix: "com.amazonaws.sqs#",
            forward: None,
        },
        Protocol::Query { version: "2012-11-05", namespace: "http://queue.amazonaws.com/doc/2012-11-05/" },
    ],
    open: |opening| {
        store::TABLES.iter().try_for_each(|table| opening.store.migrate(table))?;
        opening.keep(State::default());
        Ok(())
    },
    start: move_task::resume,
    chores: &[Chore {
        of: "expired messages",
        every: Duration::from_secs(60),
        portion: 500,
        deletes: true,
        work: |cloud, most| Box::pin(async move { Ok(sweep(cloud, most)?) }),
    }],
    actions: api::ACTIONS,
    types: deploy::TYPES,
    ..Service::new("sqs")
};

/// Wakes receivers that wait for messages.
#[derive(Debug, Default)]
struct State {
    arrivals: Mutex<HashMap<String, Arc<Notify>>>,
}

/// Ticks when a message of the queue may have become visible.
fn arrival(cloud: &Cloud, queue: &str) -> Arc<Notify> {
    let arrivals = &cloud.state::<State>().arrivals;
    cloud_core::lock(arrivals).entry(queue.to_owned()).or_default().clone()
}

/// Deletes up to `most` expired messages of all queues, and the records of deleted queues and ended move
/// tasks that nobody can read any more; returns the number of messages.
fn sweep(cloud: &Cloud, most: usize) -> Result<usize, StoreError> {
    let now_ms = cloud.clock.now_ms();
    let queues = store::all(cloud)?;
    cloud.store.write(|tx| {
        let mut gone = 0;
        for queue in &queues {
            gone += message::sweep(tx, queue, now_ms, most - gone)?;
        }
        store::forget_deleted(tx, now_ms)?;
        move_task::forget_ended(tx)?;
        Ok(gone)
    })
}

/// Shows again the messages that an event source mapping had received, and not settled, when the local cloud
/// ended. On AWS the pollers do not end with anything of ours; here nobody is left who could settle the
/// messages, so there is no reason to wait for their visibility timeouts.
pub(crate) fn release(cloud: &Cloud, arn: &str) -> Result<usize, StoreError> {
    let queue = store::by_arn(cloud, arn)?;
    queue.map_or(Ok(0), |queue| message::release(cloud, &queue))
}

#[cfg(test)]
mod tests;
