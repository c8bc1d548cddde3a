//! SQS standard queues: durable messages with visibility timeouts, receive counts, redrive
//! to a dead-letter queue and back, over the JSON protocol ([`call`]) and the query
//! protocol that API Gateway speaks ([`query`]). FIFO queues are refused.

mod api;
mod deploy;
mod digest;
mod fault;
mod message;
mod move_task;
mod query;
mod queue;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloud_core::service::{Chore, JSON_1_0, Protocol, Service};
use tokio::sync::Notify;

pub use query::query;

use cloud_core::Cloud;
use cloud_core::store::{Store, StoreError};

/// The service.
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
        let state = State::open(opening.store)?;
        opening.keep(state);
        Ok(())
    },
    start: start,
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

#[cfg(test)]
mod tests;
