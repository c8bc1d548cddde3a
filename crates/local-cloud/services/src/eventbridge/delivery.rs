//! Delivers matched events to targets: at least once, in no promised order. Each target has
//! a worker of its own, so that a slow one delays nobody else; what is pending is in the
//! store and outlives the process. What fails for good goes to the target's dead-letter queue.
//!
//! Calls of functions, state machines and queues are under way side by side, and each makes
//! room for the next when it ends. Buses and log groups are in the same store as what is
//! pending: many events go there in one transaction, which also says that they are delivered.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cloud_core::random::stable_uuid;
use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud, calls};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::bus::{self, Origin};
use super::model::Receiver;
use super::store::{self, Burial, Delivery, Next};
use crate::{lambda, logs};

/// How many calls of one target are under way at once.
const IN_FLIGHT: usize = 16;
/// How many events go to a bus or a log group in one transaction.
const TOGETHER: usize = 64;
/// AWS only says "exponential back off and jitter": from about 1 s, doubled, to about 15 minutes.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-retry-policy.html>
const FIRST_DELAY_MS: i64 = 1_000;
const LAST_DELAY_MS: i64 = 900_000;

/// The workers, by target ARN.
#[derive(Debug, Default)]
pub struct Workers {
    started: AtomicBool,
    bells: Mutex<HashMap<String, Arc<Notify>>>,
}

/// Resumes what was pending and delivers from now on.
pub fn start(cloud: &Arc<Cloud>) {
    cloud.state::<crate::eventbridge::State>().workers.started.store(true, Ordering::SeqCst);
    match cloud.store.read(store::waiting_targets) {
        Ok(targets) => targets.iter().for_each(|target| wake(cloud, target)),
        Err(error) => tracing::error!(%error, "pending deliveries could not be read"),
    }
}

/// Tells a target's worker that there is something to deliver; starts the worker if need be.
pub fn wake(cloud: &Arc<Cloud>, target_arn: &str) {
    let workers = &cloud.state::<crate::eventbridge::State>().workers;
    if !workers.started.load(Ordering::SeqCst) {
        return;
    }
    let mut bells = workers.bells.lock().unwrap_or_else(PoisonError::into_inner);
    let bell = bells.entry(target_arn.to_owned()).or_insert_with(|| {
        let bell = Arc::new(Notify::new());
        tokio::spawn(work(cloud.clone(), target_arn.to_owned(), bell.clone()));
        bell
    });
    bell.notify_one();
}

async fn work(cloud: Arc<Cloud>, target_arn: String, bell: Arc<Notify>) {
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
            () = bell.notified() => {}
            () = due => {}
            () = cloud.stopping.cancelled() => return,
        }
    }
}

/// A delivery's id, and what is next for it.
type Outcome = (i64, Next);

/// The deliveries of one target that are under way.
struct Calls {
    cloud: Arc<Cloud>,
    target_arn: String,
    under_way: FuturesUnordered<BoxFuture<'static, Outcome>>,
    ids: HashSet<i64>,
}

impl Calls {
    fn new(cloud: &Arc<Cloud>, target_arn: &str) -> Self {
        Self {
            cloud: cloud.clone(),
            target_arn: target_arn.to_owned(),
            under_way: FuturesUnordered::new(),
            ids: HashSet::new(),
        }
    }

    /// Starts what is due, as far as there is room. Where there is still room then, the
    /// answer is when the next is due.
    async fn start_due(&mut self) -> Result<Option<i64>, StoreError> {
        let store = &self.cloud.store;
        let together =
            matches!(Receiver::parse(&self.target_arn), Ok(Receiver::Bus(_) | Receiver::LogGroup(_)));
        let room = if together { TOGETHER } else { IN_FLIGHT };
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
                // Under steady load, others have their turn in between.
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

    /// Waits for a call to end, and settles it and all that have ended by then.
    async fn settle_some(&mut self) -> Result<(), StoreError> {
        let mut outcomes: Vec<Outcome> = self.under_way.next().await.into_iter().collect();
        while let Some(Some(outcome)) = self.under_way.next().now_or_never() {
            outcomes.push(outcome);
        }
        // One that cannot be settled is still due, and delivered again.
        for (id, _) in &outcomes {
            self.ids.remove(id);
        }
        self.cloud.store.write(|tx| store::settle(tx, &outcomes))
    }
}

/// Delivers what is due now and waits for it; false where nothing was due.
#[cfg(test)]
pub(super) async fn deliver_due(cloud: &Arc<Cloud>, target_arn: &str) -> Result<bool, StoreError> {
    let now_ms = cloud.clock.now_ms();
    let due = cloud.store.read(|db| store::due(db, target_arn, now_ms, 1, &HashSet::new()))?;
    let mut calls = Calls::new(cloud, target_arn);
    loop {
        calls.start_due().await?;
        if calls.under_way.is_empty() {
            return Ok(!due.is_empty());
        }
        calls.settle_some().await?;
    }
}

/// Puts events onto a bus or into a log group, and settles them in the same transaction.
async fn deliver_together(
    cloud: &Arc<Cloud>,
    target_arn: &str,
    batch: Vec<Delivery>,
) -> Result<(), StoreError> {
    let (given_up, batch): (Vec<_>, Vec<_>) = batch.into_iter().partition(|one| one.burial.is_some());
    let given_up = given_up.iter().map(|delivery| attempt(cloud, delivery));
    let mut outcomes = futures::future::join_all(given_up).await;
    match send_together(cloud, target_arn, &batch) {
        Err(failure) => {
            let failed = batch.iter().map(|delivery| failed(cloud, delivery, &failure));
            outcomes.extend(futures::future::join_all(failed).await);
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

fn send_together(cloud: &Arc<Cloud>, target_arn: &str, batch: &[Delivery]) -> Result<(), AwsError> {
    if batch.is_empty() {
        return Ok(());
    }
    for delivery in batch {
        let log = target_arn.starts_with("arn:aws:logs:");
        let action = if log { "logs:PutLogEvents" } else { "events:PutEvents" };
        cloud.calls.add(&delivery.rule_arn, action, target_arn);
    }
    let delivered: Vec<Outcome> = batch.iter().map(|delivery| (delivery.id, Next::Done)).collect();
    match Receiver::parse(target_arn) {
        Ok(Receiver::Bus(name)) => {
            bus::find(cloud, Some(&name))?;
            let events: Vec<Value> = batch.iter().map(event_of).collect::<Result<_, _>>()?;
            Ok(bus::publish_with(cloud, &[(&name, &events)], Origin::Bus, |tx| {
                store::settle(tx, &delivered)
            })?)
        }
        Ok(Receiver::LogGroup(group)) => {
            if !logs::exists(cloud, &group)? {
                let message = "The specified log group does not exist.";
                return Err(AwsError::client("ResourceNotFoundException", message));
            }
            // A stream with an opaque name, as EventBridge makes them.
            let first = batch.first().map(|delivery| delivery.id).unwrap_or_default();
            let stream = stable_uuid(&format!("{target_arn}/{first}"));
            let now_ms = cloud.clock.now_ms();
            let events: Vec<(i64, &str)> =
                batch.iter().map(|delivery| (now_ms, delivery.event.as_str())).collect();
            Ok(cloud.store.write(|tx| {
                logs::append_within(cloud, tx, &group, &stream, &events)?;
                store::settle(tx, &delivered)
            })?)
        }
        _ => Err(AwsError::client("ValidationException", format!("{target_arn} takes no events together"))),
    }
}

fn malformed(what: &str) -> AwsError {
    AwsError::client("INVALID_JSON", format!("{what} is not valid JSON."))
}

fn event_of(delivery: &Delivery) -> Result<Value, AwsError> {
    serde_json::from_str(&delivery.event).map_err(|_| malformed("the event"))
}

/// Tries once.
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

/// What follows from a failure: another attempt, or the dead-letter queue.
async fn failed(cloud: &Arc<Cloud>, delivery: &Delivery, failure: &AwsError) -> Outcome {
    let target = &delivery.target.arn;
    tracing::warn!(target: "hop", service = "events", resource = %target, rule = %delivery.rule_arn, "not delivered: {failure}");
    let policy = delivery.target.retry_policy.clone().unwrap_or_default();
    let deadline_ms = delivery.accepted_ms + policy.maximum_event_age_in_seconds * 1000;
    let now_ms = cloud.clock.now_ms();
    let exhausted = if !is_passing(failure) {
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

/// Buries a delivery. Where its dead-letter queue is in trouble that is tried again, and no more
/// the target.
async fn give_up(cloud: &Arc<Cloud>, delivery: &Delivery, burial: Burial) -> Outcome {
    let next = match bury(cloud, delivery, &burial).await {
        Ok(()) => Next::Done,
        Err(error) if is_passing(&error) => Next::Bury(cloud.clock.now_ms() + FIRST_DELAY_MS, burial),
        Err(error) => {
            tracing::warn!(target: "hop", service = "events", resource = %delivery.target.arn, "an event is lost, since its dead-letter queue refuses it: {error}");
            Next::Done
        }
    };
    (delivery.id, next)
}

fn delay_ms(cloud: &Cloud, attempts: i64) -> i64 {
    let doubled = FIRST_DELAY_MS << attempts.clamp(0, 20);
    let ceiling = doubled.min(LAST_DELAY_MS);
    ceiling / 2 + (cloud.random.fraction() * (ceiling / 2) as f64) as i64
}

/// Whether trying again may help. "For errors that result from missing permissions to a
/// target, or a target resource that no longer exists [...] EventBridge sends these events
/// directly to the DLQ." <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html>
fn is_passing(error: &AwsError) -> bool {
    let throttled =
        ["Throttl", "TooManyRequests", "LimitExceeded"].iter().any(|part| error.code.contains(part));
    throttled || (error.is_server_fault() && error.status != 501)
}

async fn send(cloud: &Arc<Cloud>, delivery: &Delivery) -> Result<(), AwsError> {
    let event = event_of(delivery)?;
    let ingested = bus::seconds(delivery.accepted_ms);
    let payload = delivery.target.payload(&event, &delivery.rule_arn, &ingested);
    let receiver = Receiver::parse(&delivery.target.arn)
        .map_err(|reason| AwsError::client("ValidationException", reason))?;
    let needs_json = matches!(receiver, Receiver::Function(_) | Receiver::StateMachine(_));
    if needs_json && serde_json::from_str::<serde::de::IgnoredAny>(&payload).is_err() {
        return Err(malformed("the transformed input"));
    }
    match receiver {
        Receiver::Function(arn) => {
            cloud.calls.add(&delivery.rule_arn, "lambda:InvokeFunction", &arn);
            lambda::invoke_async(cloud, &arn, payload.into()).await
        }
        Receiver::StateMachine(arn) => {
            let start = start_execution(cloud, &arn, payload, delivery, &event);
            calls::by(delivery.rule_arn.as_str(), start).await
        }
        Receiver::Queue(queue) => send_message(cloud, &queue, payload, json!({})).await,
        Receiver::LogGroup(_) | Receiver::Bus(_) => {
            Err(AwsError::internal("buses and log groups get their events together"))
        }
    }
}

/// The execution's name is fixed by the delivery, so that a repeated attempt starts no second one.
async fn start_execution(
    cloud: &Arc<Cloud>,
    state_machine: &str,
    input: String,
    delivery: &Delivery,
    event: &Value,
) -> Result<(), AwsError> {
    let id = event["id"].as_str().unwrap_or_default();
    let unique = stable_uuid(&format!("{}/{}/{}", delivery.rule_arn, delivery.target.id, delivery.id));
    let input = json!({ "stateMachineArn": state_machine, "name": format!("{id}_{unique}"), "input": input });
    match cloud.call("states", "StartExecution", input).await {
        Err(error) if error.code == "ExecutionAlreadyExists" => Ok(()),
        other => other.map(|_| ()),
    }
}

async fn send_message(
    cloud: &Arc<Cloud>,
    queue: &str,
    body: String,
    attributes: Value,
) -> Result<(), AwsError> {
    let url = cloud.call("sqs", "GetQueueUrl", json!({ "QueueName": queue })).await?;
    let mut input = json!({ "QueueUrl": url["QueueUrl"], "MessageBody": body });
    if attributes != json!({}) {
        input["MessageAttributes"] = attributes;
    }
    cloud.call("sqs", "SendMessage", input).await.map(|_| ())
}

/// Sends the event itself, not what was made of it for the target, to the dead-letter queue,
/// with the attributes that EventBridge adds.
async fn bury(cloud: &Arc<Cloud>, delivery: &Delivery, burial: &Burial) -> Result<(), AwsError> {
    let failure = &AwsError::new(burial.status, burial.code.as_str(), burial.message.as_str());
    let Some(queue) = delivery.target.dead_letter_queue() else {
        tracing::warn!(target: "hop", service = "events", resource = %delivery.target.arn, "an event is dropped: {failure}");
        return Ok(());
    };
    let text = |value: &str| json!({ "DataType": "String", "StringValue": value });
    let message = if failure.message.is_empty() { failure.code.as_str() } else { failure.message.as_str() };
    let mut attributes = json!({
        "RULE_ARN": text(&delivery.rule_arn),
        "TARGET_ARN": text(&delivery.target.arn),
        "ERROR_CODE": text(error_code(failure)),
        "ERROR_MESSAGE": text(message),
        "RETRY_ATTEMPTS": { "DataType": "Number", "StringValue": delivery.attempts.to_string() },
    });
    if let Some(condition) = &burial.exhausted {
        attributes["EXHAUSTED_RETRY_CONDITION"] = text(condition);
    }
    let name = queue.rsplit(':').next().unwrap_or_default();
    send_message(cloud, name, delivery.event.clone(), attributes).await?;
    tracing::warn!(target: "hop", service = "events", resource = %name, "an event was dead-lettered: {failure}");
    Ok(())
}

/// The codes that EventBridge documents for its dead-letter queues.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html>
fn error_code(failure: &AwsError) -> &'static str {
    let code = failure.code.as_str();
    let has = |parts: &[&str]| parts.iter().any(|part| code.contains(part));
    if has(&["INVALID_JSON"]) {
        "INVALID_JSON"
    } else if has(&["NotFound", "DoesNotExist", "NonExistent"]) {
        "NO_RESOURCE"
    } else if has(&["AccessDenied"]) {
        "NO_PERMISSIONS"
    } else if has(&["Throttl", "TooManyRequests", "LimitExceeded"]) {
        "THROTTLING"
    } else if has(&["Timeout"]) {
        "TIMEOUT"
    } else if failure.is_server_fault() {
        "INTERNAL_ERROR"
    } else {
        "SDK_CLIENT_ERROR"
    }
}
