//! Delivers matched events to targets: at least once, in no promised order. Each target has
//! a worker of its own, so that a slow one delays nobody else; what is pending is in the
//! store and outlives the process. What fails for good goes to the target's dead-letter queue.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::bus::{self, Origin};
use super::model::Receiver;
use super::store::{self, Delivery};
use crate::cloud::Cloud;
use crate::error::AwsError;
use crate::random::stable_uuid;
use crate::{endpoint, lambda, logs};

/// How many deliveries of one target are under way at once.
const IN_FLIGHT: usize = 16;
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
    cloud.eventbridge.workers.started.store(true, Ordering::SeqCst);
    match cloud.store.read(store::waiting_targets) {
        Ok(targets) => targets.iter().for_each(|target| wake(cloud, target)),
        Err(error) => tracing::error!(%error, "pending deliveries could not be read"),
    }
}

/// Tells a target's worker that there is something to deliver; starts the worker if need be.
pub fn wake(cloud: &Arc<Cloud>, target_arn: &str) {
    let workers = &cloud.eventbridge.workers;
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
    loop {
        let wait = match deliver_due(&cloud, &target_arn).await {
            Ok(true) => continue,
            Ok(false) => cloud.store.read(|db| store::next_due(db, &target_arn)),
            Err(error) => Err(error),
        };
        let due_ms = wait.unwrap_or_else(|error| {
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
            () = bell.notified() => {}
            () = due => {}
            () = cloud.stopping.cancelled() => return,
        }
    }
}

/// Delivers one batch; false where nothing was due.
pub(super) async fn deliver_due(
    cloud: &Arc<Cloud>,
    target_arn: &str,
) -> Result<bool, crate::store::StoreError> {
    let now_ms = cloud.clock.now_ms();
    let batch = cloud.store.read(|db| store::due(db, target_arn, now_ms, IN_FLIGHT))?;
    if batch.is_empty() {
        return Ok(false);
    }
    let attempts = futures::future::join_all(batch.iter().map(|delivery| attempt(cloud, delivery)));
    let outcomes = tokio::select! {
        outcomes = attempts => outcomes,
        () = cloud.stopping.cancelled() => return Ok(false),
    };
    cloud.store.write(|tx| store::settle(tx, &outcomes))?;
    Ok(true)
}

/// Tries once. The outcome is the delivery's id and when to try again, if at all.
async fn attempt(cloud: &Arc<Cloud>, delivery: &Delivery) -> (i64, Option<i64>) {
    let target = &delivery.target.arn;
    let Err(failure) = send(cloud, delivery).await else {
        tracing::info!(target: "hop", service = "events", resource = %target, rule = %delivery.rule_arn, "delivered");
        return (delivery.id, None);
    };
    tracing::warn!(target: "hop", service = "events", resource = %target, rule = %delivery.rule_arn, "not delivered: {failure}");
    let policy = delivery.target.retry_policy.clone().unwrap_or_default();
    let deadline_ms = delivery.accepted_ms + policy.maximum_event_age_in_seconds * 1000;
    let now_ms = cloud.clock.now_ms();
    let exhausted = if !is_passing(&failure) {
        None
    } else if delivery.attempts >= policy.maximum_retry_attempts {
        Some("MaximumRetryAttempts")
    } else if now_ms >= deadline_ms {
        Some("MaximumEventAgeInSeconds")
    } else {
        let due_ms = now_ms + delay_ms(cloud, delivery.attempts);
        return (delivery.id, Some(due_ms.min(deadline_ms)));
    };
    match bury(cloud, delivery, &failure, exhausted).await {
        Err(error) if is_passing(&error) => (delivery.id, Some(now_ms + FIRST_DELAY_MS)),
        Err(error) => {
            tracing::warn!(target: "hop", service = "events", resource = %target, "an event is lost, since its dead-letter queue refuses it: {error}");
            (delivery.id, None)
        }
        Ok(()) => (delivery.id, None),
    }
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
    let malformed = |what: &str| AwsError::client("INVALID_JSON", format!("{what} is not valid JSON."));
    let event: Value = serde_json::from_str(&delivery.event).map_err(|_| malformed("the event"))?;
    let ingested = bus::seconds(delivery.accepted_ms);
    let payload = delivery.target.payload(&event, &delivery.rule_arn, &ingested);
    let receiver = Receiver::parse(&delivery.target.arn)
        .map_err(|reason| AwsError::client("ValidationException", reason))?;
    let needs_json = matches!(receiver, Receiver::Function(_) | Receiver::StateMachine(_));
    if needs_json && serde_json::from_str::<serde::de::IgnoredAny>(&payload).is_err() {
        return Err(malformed("the transformed input"));
    }
    match receiver {
        Receiver::Function(arn) => lambda::invoke_async(cloud, &arn, payload.into()).await,
        Receiver::StateMachine(arn) => start_execution(cloud, &arn, payload, delivery, &event).await,
        Receiver::Queue(queue) => send_message(cloud, &queue, payload, json!({})).await,
        Receiver::LogGroup(group) => log(cloud, &group, &payload, delivery),
        Receiver::Bus(name) => {
            bus::find(cloud, Some(&name))?;
            Ok(bus::publish(cloud, &name, &[event], Origin::Bus)?)
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
    match endpoint::call(cloud, "states", "StartExecution", input).await {
        Err(error) if error.code == "ExecutionAlreadyExists" => Ok(()),
        other => other.map(|_| ()),
    }
}

/// A log target gets a stream per event, with an opaque name.
fn log(cloud: &Cloud, group: &str, message: &str, delivery: &Delivery) -> Result<(), AwsError> {
    let groups = logs::exists(cloud, group)?;
    if !groups {
        return Err(AwsError::client("ResourceNotFoundException", "The specified log group does not exist."));
    }
    let stream = stable_uuid(&format!("{}/{}/{}", delivery.rule_arn, delivery.target.id, delivery.id));
    Ok(logs::append(cloud, group, &stream, cloud.clock.now_ms(), message)?)
}

async fn send_message(
    cloud: &Arc<Cloud>,
    queue: &str,
    body: String,
    attributes: Value,
) -> Result<(), AwsError> {
    let url = endpoint::call(cloud, "sqs", "GetQueueUrl", json!({ "QueueName": queue })).await?;
    let mut input = json!({ "QueueUrl": url["QueueUrl"], "MessageBody": body });
    if attributes != json!({}) {
        input["MessageAttributes"] = attributes;
    }
    endpoint::call(cloud, "sqs", "SendMessage", input).await.map(|_| ())
}

/// Sends the event itself, not what was made of it for the target, to the dead-letter queue,
/// with the attributes that EventBridge adds.
async fn bury(
    cloud: &Arc<Cloud>,
    delivery: &Delivery,
    failure: &AwsError,
    exhausted: Option<&str>,
) -> Result<(), AwsError> {
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
    if let Some(condition) = exhausted {
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
