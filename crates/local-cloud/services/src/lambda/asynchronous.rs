//! Asynchronous invocations (invocation-async): accepted into the store, delivered by a
//! background task, retried, and in the end handed to a destination or dead-letter queue.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud};
use rusqlite::params;
use serde_json::{Value, json};

use super::config::EventInvoke;
use super::function::{self, Function};
use super::{Invocation, lock};

pub(super) const TABLES: &str = "CREATE TABLE IF NOT EXISTS lambda_events (
    request_id TEXT PRIMARY KEY, function TEXT NOT NULL, payload BLOB NOT NULL, accepted_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, throttled INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX IF NOT EXISTS lambda_events_due ON lambda_events (due_ms);";

/// Largest payload of an asynchronous invocation: 1 MB (API_Invoke).
const LARGEST_EVENT: usize = 1_048_576;

/// One minute before the first retry, two before the second (invocation-async-error-handling).
const RETRY_PAUSES_MS: [i64; 2] = [60_000, 120_000];

/// After a throttle the pause grows from one second to five minutes (the same page).
const LONGEST_THROTTLE_PAUSE_MS: i64 = 300_000;

/// How many events are under way at once, most of them waiting for a process; the others stay
/// in the store until there is room.
const UNDER_WAY: usize = 256;

/// Stores the event; the request id.
pub(super) fn accept(cloud: &Arc<Cloud>, function: &str, payload: Bytes) -> Result<String, AwsError> {
    let function = cloud.state::<crate::lambda::State>().function(function)?;
    let payload = function::check(payload, LARGEST_EVENT)?;
    let request_id = cloud.random.uuid();
    let now = cloud.clock.now_ms();
    cloud.store.write(|tx| {
        tx.execute(
            "INSERT INTO lambda_events (request_id, function, payload, accepted_ms, due_ms) VALUES (?1, ?2, ?3, ?4, ?4)",
            params![request_id, function.config.name, payload.as_ref(), now],
        )
    })?;
    tracing::info!(target: "hop", service = "lambda", resource = %function.config.name, request = %request_id, "event accepted");
    cloud.state::<crate::lambda::State>().accepted.notify_one();
    Ok(request_id)
}

/// Delivers what is due, until `cloud.stopping`; what was under way at a crash is due again.
pub(super) fn start(cloud: &Arc<Cloud>) {
    let cloud = cloud.clone();
    tokio::spawn(async move {
        let under_way = Arc::new(Mutex::new(HashSet::new()));
        loop {
            match dispatch(&cloud, &under_way) {
                Ok(next_due) => {
                    let due = async {
                        match next_due {
                            Some(due_ms) => cloud.clock.sleep_until(due_ms).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        () = cloud.state::<crate::lambda::State>().accepted.notified() => {}
                        () = due => {}
                        () = cloud.stopping.cancelled() => return,
                    }
                }
                Err(error) => {
                    tracing::warn!(target: "hop", service = "lambda", "cannot read the asynchronous events: {error}");
                    tokio::select! {
                        () = cloud.clock.sleep_until(cloud.clock.now_ms() + 1_000) => {}
                        () = cloud.stopping.cancelled() => return,
                    }
                }
            }
        }
    });
}

/// An accepted event.
struct Event {
    request_id: String,
    function: String,
    payload: Bytes,
    accepted_ms: i64,
    attempts: u32,
    throttled: u32,
}

/// Spawns the delivery of what is due, as far as there is room: each that ends asks for the next.
/// Answers when another one will be due.
fn dispatch(cloud: &Arc<Cloud>, under_way: &Arc<Mutex<HashSet<String>>>) -> Result<Option<i64>, StoreError> {
    let now = cloud.clock.now_ms();
    let known = lock(under_way).clone();
    let (due, next_due) = cloud.store.read(|c| {
        let mut due: Vec<String> = c
            .prepare_cached(
                "SELECT request_id FROM lambda_events WHERE due_ms <= ?1 ORDER BY due_ms LIMIT ?2",
            )?
            .query_map(params![now, UNDER_WAY as i64], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        due.retain(|request_id| !known.contains(request_id));
        due.truncate(UNDER_WAY.saturating_sub(known.len()));
        let mut event = c.prepare_cached(
            "SELECT request_id, function, payload, accepted_ms, attempts, throttled FROM lambda_events
             WHERE request_id = ?1",
        )?;
        let due = due.iter().map(|request_id| event.query_row([request_id], read_event));
        let due = due.collect::<Result<Vec<_>, _>>()?;
        let next: Option<i64> =
            c.query_row("SELECT min(due_ms) FROM lambda_events WHERE due_ms > ?1", [now], |row| row.get(0))?;
        Ok((due, next))
    })?;
    for event in due {
        let (cloud, under_way) = (cloud.clone(), under_way.clone());
        lock(&under_way).insert(event.request_id.clone());
        tokio::spawn(async move {
            tokio::select! {
                // First: what a stop breaks off is not an attempt.
                biased;
                () = cloud.stopping.cancelled() => {}
                result = deliver(&cloud, &event) => if let Err(error) = result {
                    tracing::warn!(target: "hop", service = "lambda", resource = %event.function, "cannot record an asynchronous invocation: {error}");
                }
            }
            lock(&under_way).remove(&event.request_id);
            cloud.state::<crate::lambda::State>().accepted.notify_one();
        });
    }
    Ok(next_due)
}

fn read_event(row: &rusqlite::Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        request_id: row.get(0)?,
        function: row.get(1)?,
        payload: row.get::<_, Vec<u8>>(2)?.into(),
        accepted_ms: row.get(3)?,
        attempts: row.get(4)?,
        throttled: row.get(5)?,
    })
}

/// One attempt, and what follows from it.
async fn deliver(cloud: &Arc<Cloud>, event: &Event) -> Result<(), AwsError> {
    let Ok(function) = cloud.state::<crate::lambda::State>().function(&event.function) else {
        tracing::warn!(target: "hop", service = "lambda", resource = %event.function, request = %event.request_id, "event dropped: the function is no longer in the template");
        return done(cloud, event);
    };
    let config = lock(&cloud.state::<crate::lambda::State>().event_invokes)
        .get(&event.function)
        .cloned()
        .unwrap_or_default();
    let now = cloud.clock.now_ms();
    if now - event.accepted_ms > config.max_age_s * 1_000 {
        return give_up(cloud, event, &function, &config, "EventAgeExceeded", None).await;
    }
    // With no concurrency at all there is nothing to wait for (invocation-async-retain-records).
    if function.config.reserved_concurrency == Some(0) {
        return give_up(cloud, event, &function, &config, "ZeroReservedConcurrency", None).await;
    }
    match function::invoke(cloud, &function, event.payload.clone(), event.request_id.clone(), None).await {
        Ok(invocation) if invocation.function_error.is_none() => {
            if let Some(destination) = &config.on_success {
                let record =
                    record(cloud, event, &function, "Success", Some(&invocation), event.attempts + 1);
                send(cloud, destination, &function, "Success", record).await;
            }
            done(cloud, event)
        }
        Ok(invocation) => {
            if event.attempts >= config.retries {
                return give_up(cloud, event, &function, &config, "RetriesExhausted", Some(&invocation))
                    .await;
            }
            let pause = RETRY_PAUSES_MS[(event.attempts as usize).min(1)];
            if cloud.clock.now_ms() + pause - event.accepted_ms >= config.max_age_s * 1_000 {
                return give_up(cloud, event, &function, &config, "EventAgeExceeded", Some(&invocation))
                    .await;
            }
            tracing::warn!(target: "hop", service = "lambda", resource = %event.function, request = %event.request_id, "will be retried in {} s", pause / 1_000);
            postpone(cloud, event, "attempts", pause)
        }
        // Throttled or failed on our side: tried again until the event is too old.
        Err(error) => {
            let pause = 1_000_i64.saturating_mul(1 << event.throttled.min(16)).min(LONGEST_THROTTLE_PAUSE_MS);
            tracing::warn!(target: "hop", service = "lambda", resource = %event.function, request = %event.request_id, "not invoked, will be retried in {} s: {error}", pause / 1_000);
            postpone(cloud, event, "throttled", pause)
        }
    }
}

fn done(cloud: &Cloud, event: &Event) -> Result<(), AwsError> {
    cloud
        .store
        .write(|tx| tx.execute("DELETE FROM lambda_events WHERE request_id = ?1", [&event.request_id]))?;
    Ok(())
}

fn postpone(cloud: &Cloud, event: &Event, counter: &str, pause_ms: i64) -> Result<(), AwsError> {
    let statement =
        format!("UPDATE lambda_events SET {counter} = {counter} + 1, due_ms = ?2 WHERE request_id = ?1");
    cloud
        .store
        .write(|tx| tx.execute(&statement, params![event.request_id, cloud.clock.now_ms() + pause_ms]))?;
    Ok(())
}

async fn give_up(
    cloud: &Arc<Cloud>,
    event: &Event,
    function: &Function,
    config: &EventInvoke,
    condition: &str,
    last: Option<&Invocation>,
) -> Result<(), AwsError> {
    tracing::warn!(target: "hop", service = "lambda", resource = %event.function, request = %event.request_id, "event given up: {condition}");
    if let Some(destination) = &config.on_failure {
        // The last attempt is not counted in the store any more.
        let attempts = event.attempts + u32::from(last.is_some());
        let record = record(cloud, event, function, condition, last, attempts);
        send(cloud, destination, function, "Failure", record).await;
    }
    if let Some(queue) = &function.config.dead_letter_target {
        dead_letter(cloud, event, queue, condition, last).await;
    }
    done(cloud, event)
}

/// The invocation record of invocation-async-retain-records.
fn record(
    cloud: &Cloud,
    event: &Event,
    function: &Function,
    condition: &str,
    last: Option<&Invocation>,
    attempts: u32,
) -> Value {
    let parsed = |bytes: &Bytes| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let mut record = json!({
        "version": "1.0",
        "timestamp": cloud.clock.timestamp(),
        "requestContext": {
            "requestId": event.request_id,
            "functionArn": format!("{}:$LATEST", function.config.arn),
            "condition": condition,
            "approximateInvokeCount": attempts,
        },
        "requestPayload": parsed(&event.payload),
    });
    if let Some(last) = last {
        record["responseContext"] = json!({ "statusCode": 200, "executedVersion": "$LATEST" });
        if let Some(error) = &last.function_error {
            record["responseContext"]["functionError"] = error.clone().into();
        }
        record["responsePayload"] = parsed(&last.payload);
    }
    record
}

/// A destination that refuses the record loses it, as on AWS (DestinationDeliveryFailures).
async fn send(cloud: &Arc<Cloud>, destination: &str, function: &Function, outcome: &str, record: Value) {
    let sent = match destination.split(':').nth(2) {
        Some("sqs") => {
            let input =
                json!({ "QueueUrl": queue_url(cloud, destination), "MessageBody": record.to_string() });
            cloud.call("sqs", "SendMessage", input).await.map(drop)
        }
        Some("lambda") => accept(cloud, destination, record.to_string().into()).map(drop),
        _ => {
            let entry = json!({
                "Source": "lambda",
                "DetailType": format!("Lambda Function Invocation Result - {outcome}"),
                "Detail": record.to_string(),
                "Resources": [destination, format!("{}:$LATEST", function.config.arn)],
                "EventBusName": destination,
            });
            match cloud.call("events", "PutEvents", json!({ "Entries": [entry] })).await {
                Ok(answer) if answer["FailedEntryCount"].as_i64() > Some(0) => {
                    Err(AwsError::internal(&answer["Entries"][0]))
                }
                answer => answer.map(drop),
            }
        }
    };
    if let Err(error) = sent {
        tracing::warn!(target: "hop", service = "lambda", resource = %function.config.name, "the destination {destination} refused a record: {error}");
    }
}

/// The event itself, with what went wrong as attributes (invocation-async-retain-records,
/// "Adding a dead-letter queue").
async fn dead_letter(
    cloud: &Arc<Cloud>,
    event: &Event,
    queue: &str,
    condition: &str,
    last: Option<&Invocation>,
) {
    let document: Value =
        last.and_then(|last| serde_json::from_slice(&last.payload).ok()).unwrap_or_default();
    let (code, message) = match (last, condition) {
        (Some(_), _) => (Some("200"), document["errorMessage"].as_str().unwrap_or("Unknown error.")),
        // Not documented; what AWS writes.
        (None, "ZeroReservedConcurrency") => {
            (None, "Function not invoked. Function isconfigured with zero reserved concurrent executions")
        }
        (None, _) => (Some("429"), "Rate Exceeded."),
    };
    let message: String = message.chars().take(1_024).collect();
    let text = |value: &str| json!({ "DataType": "String", "StringValue": value });
    let mut input = json!({
        "QueueUrl": queue_url(cloud, queue),
        "MessageBody": String::from_utf8_lossy(&event.payload),
        "MessageAttributes": { "RequestID": text(&event.request_id), "ErrorMessage": text(&message) },
    });
    if let Some(code) = code {
        input["MessageAttributes"]["ErrorCode"] = json!({ "DataType": "Number", "StringValue": code });
    }
    if let Err(error) = cloud.call("sqs", "SendMessage", input).await {
        tracing::warn!(target: "hop", service = "lambda", resource = %event.function, "the dead-letter queue refused an event: {error}");
    }
}

/// A path that ends in `/{account}/{name}` is address enough.
pub(crate) fn queue_url(cloud: &Cloud, arn: &str) -> String {
    format!("/{}/{}", cloud.settings.account, arn.rsplit(':').next().unwrap_or_default())
}

#[cfg(test)]
#[path = "asynchronous_tests.rs"]
mod tests;
