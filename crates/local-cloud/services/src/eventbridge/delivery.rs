//! Delivers matched events to targets: at least once, in no promised order. Each target has its own
//! worker, so that a slow target delays no other. Pending deliveries are in the store and outlive the
//! process. An event that fails for good goes to the target's dead-letter queue.
//!
//! Functions, state machines and queues are called concurrently, up to [`MAX_IN_FLIGHT`] calls per target.
//! Buses and log groups are in the same store as the pending deliveries: one transaction hands over many
//! events and marks them as delivered.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud};
use futures::future::{BoxFuture, FutureExt, join_all};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;

use super::dead_letter::bury;
use super::send::{send, send_together, takes_together};
use super::store::{self, Burial, Delivery, Next};
use super::wake::Bell;

/// Calls of one target at once.
const MAX_IN_FLIGHT: usize = 16;
/// Events that go to a bus or a log group in one transaction.
const MAX_TOGETHER: usize = 64;
/// AWS only says "exponential back off and jitter": from about 1 s, doubled, to about 15 minutes.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-retry-policy.html>
const FIRST_DELAY_MS: i64 = 1_000;
const MAX_DELAY_MS: i64 = 900_000;

/// Resumes pending deliveries, and delivers from now on.
pub fn start(cloud: &Arc<Cloud>) {
    let bell = cloud.state::<Bell>();
    let Some(rung) = bell.listen() else { return };
    tokio::spawn(wake_workers(cloud.clone(), rung));
    match cloud.store.read(store::waiting_targets) {
        Ok(targets) => targets.into_iter().for_each(|target_arn| bell.ring(target_arn)),
        Err(error) => tracing::error!(%error, "pending deliveries could not be read"),
    }
}

/// Wakes the worker of each target that has something to deliver; starts it the first time.
async fn wake_workers(cloud: Arc<Cloud>, mut rung: UnboundedReceiver<String>) {
    let mut workers: HashMap<String, Arc<Notify>> = HashMap::new();
    while let Some(Some(target_arn)) = cloud.stopping.run_until_cancelled(rung.recv()).await {
        let worker = workers.entry(target_arn).or_insert_with_key(|target_arn| {
            let wake = Arc::new(Notify::new());
            tokio::spawn(work(cloud.clone(), target_arn.clone(), wake.clone()));
            wake
        });
        worker.notify_one();
    }
}

async fn work(cloud: Arc<Cloud>, target_arn: String, wake: Arc<Notify>) {
    let mut calls = Calls::new(&cloud, &target_arn);
    loop {
        let due_ms = calls.start_due().await.unwrap_or_else(|error| {
            tracing::error!(%error, "deliveries could not be read or settled");
            Some(cloud.clock.now_ms() + FIRST_DELAY_MS)
        });
        let due = async {
            match due_ms {
                Some(due_ms) => cloud.clock.sleep_until(due_ms).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            settled = calls.settle_some(), if !calls.under_way.is_empty() => {
                if let Err(error) = settled {
                    tracing::error!(%error, "deliveries could not be settled");
                    cloud.clock.sleep_until(cloud.clock.now_ms() + FIRST_DELAY_MS).await;
                }
            }
            () = wake.notified() => {}
            () = due => {}
            () = cloud.stopping.cancelled() => return,
        }
    }
}

/// A delivery's row id, and what follows for it.
type Outcome = (i64, Next);

/// The deliveries of one target that are under way.
pub struct Calls {
    cloud: Arc<Cloud>,
    target_arn: String,
    pub under_way: FuturesUnordered<BoxFuture<'static, Outcome>>,
    ids: HashSet<i64>,
}

impl Calls {
    pub fn new(cloud: &Arc<Cloud>, target_arn: &str) -> Self {
        Self {
            cloud: cloud.clone(),
            target_arn: target_arn.to_owned(),
            under_way: FuturesUnordered::new(),
            ids: HashSet::new(),
        }
    }

    /// Starts due deliveries as far as there is room. If room is left, the answer is when the next
    /// delivery is due.
    pub async fn start_due(&mut self) -> Result<Option<i64>, StoreError> {
        let store = &self.cloud.store;
        let together = takes_together(&self.target_arn);
        let room = if together { MAX_TOGETHER } else { MAX_IN_FLIGHT };
        loop {
            let now_ms = self.cloud.clock.now_ms();
            if self.ids.len() >= room {
                return Ok(None);
            }
            let free = room - self.ids.len();
            let batch = store.read(|db| store::due(db, &self.target_arn, now_ms, free, &self.ids))?;
            if batch.is_empty() {
                return store.read(|db| store::next_due(db, &self.target_arn, now_ms));
            }
            if together {
                deliver_together(&self.cloud, &self.target_arn, batch).await?;
                // Lets other tasks run under steady load.
                tokio::task::yield_now().await;
                continue;
            }
            for delivery in batch {
                let cloud = self.cloud.clone();
                self.ids.insert(delivery.id);
                self.under_way.push(async move { attempt(&cloud, &delivery).await }.boxed());
            }
        }
    }

    /// Waits for a call to end, and settles it with all others that have ended by then.
    pub async fn settle_some(&mut self) -> Result<(), StoreError> {
        let mut outcomes: Vec<Outcome> = self.under_way.next().await.into_iter().collect();
        while let Some(Some(outcome)) = self.under_way.next().now_or_never() {
            outcomes.push(outcome);
        }
        // If settling fails, these are still due and are delivered again.
        for (id, _) in &outcomes {
            self.ids.remove(id);
        }
        self.cloud.store.write(|tx| store::settle(tx, &outcomes))
    }
}

/// Puts events onto a bus or into a log group, and settles them in the same transaction.
async fn deliver_together(
    cloud: &Arc<Cloud>,
    target_arn: &str,
    batch: Vec<Delivery>,
) -> Result<(), StoreError> {
    let (given_up, batch): (Vec<_>, Vec<_>) = batch.into_iter().partition(|one| one.burial.is_some());
    let mut outcomes = join_all(given_up.iter().map(|delivery| attempt(cloud, delivery))).await;
    match send_together(cloud, target_arn, &batch) {
        Err(failure) => {
            outcomes.extend(join_all(batch.iter().map(|delivery| failed(cloud, delivery, &failure))).await);
        }
        Ok(()) => {
            for delivery in &batch {
                tracing::info!(target: "hop", service = "events", resource = %target_arn, rule = %delivery.rule_arn, "delivered");
            }
        }
    }
    if outcomes.is_empty() {
        return Ok(());
    }
    cloud.store.write(|tx| store::settle(tx, &outcomes))
}

async fn attempt(cloud: &Arc<Cloud>, delivery: &Delivery) -> Outcome {
    if let Some(burial) = &delivery.burial {
        return give_up(cloud, delivery, burial.clone()).await;
    }
    match send(cloud, delivery).await {
        Err(failure) => failed(cloud, delivery, &failure).await,
        Ok(()) => {
            tracing::info!(target: "hop", service = "events", resource = %delivery.target.arn, rule = %delivery.rule_arn, "delivered");
            (delivery.id, Next::Done)
        }
    }
}

/// Decides after a failure: another attempt, or the dead-letter queue.
async fn failed(cloud: &Arc<Cloud>, delivery: &Delivery, failure: &AwsError) -> Outcome {
    let target = &delivery.target.arn;
    tracing::warn!(target: "hop", service = "events", resource = %target, rule = %delivery.rule_arn, "not delivered: {failure}");
    let policy = delivery.target.retry_policy.clone().unwrap_or_default();
    let deadline_ms = delivery.accepted_ms + policy.maximum_event_age_in_seconds * 1000;
    let now_ms = cloud.clock.now_ms();
    let exhausted = if !is_retryable(failure) {
        None
    } else if delivery.attempts >= policy.maximum_retry_attempts {
        Some("MaximumRetryAttempts")
    } else if now_ms >= deadline_ms {
        Some("MaximumEventAgeInSeconds")
    } else {
        let due_ms = now_ms + delay_ms(cloud, delivery.attempts);
        return (delivery.id, Next::Again(due_ms.min(deadline_ms)));
    };
    let burial = Burial {
        code: failure.code.clone(),
        message: failure.message.clone(),
        status: failure.status,
        exhausted: exhausted.map(str::to_owned),
    };
    give_up(cloud, delivery, burial).await
}

/// Sends the event to the dead-letter queue. If that fails for now, only the queue is tried again, not
/// the target.
async fn give_up(cloud: &Arc<Cloud>, delivery: &Delivery, burial: Burial) -> Outcome {
    let next = match bury(cloud, delivery, &burial).await {
        Ok(()) => Next::Done,
        Err(error) if is_retryable(&error) => Next::Bury(cloud.clock.now_ms() + FIRST_DELAY_MS, burial),
        Err(error) => {
            tracing::warn!(target: "hop", service = "events", resource = %delivery.target.arn, "an event is lost, since its dead-letter queue refuses it: {error}");
            Next::Done
        }
    };
    (delivery.id, next)
}

fn delay_ms(cloud: &Cloud, attempts: i64) -> i64 {
    let doubled = FIRST_DELAY_MS << attempts.clamp(0, 20);
    let half = doubled.min(MAX_DELAY_MS) / 2;
    half + (cloud.random.fraction() * half as f64) as i64
}

/// "For errors that result from missing permissions to a target, or a target resource that no longer
/// exists [...] EventBridge sends these events directly to the DLQ."
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html>
fn is_retryable(error: &AwsError) -> bool {
    let throttled =
        ["Throttl", "TooManyRequests", "LimitExceeded"].iter().any(|part| error.code.contains(part));
    throttled || (error.is_server_fault() && error.status != 501)
}
