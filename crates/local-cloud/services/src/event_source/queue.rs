//! Polls a queue for a function (with-sqs). Messages that the function has processed are deleted; the
//! others become visible again when their visibility timeout ends.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use cloud_core::{AwsError, Cloud, calls};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::backoff::pause;
use super::mapping::{Mapping, Polling};
use super::response::failures;
use crate::lambda;

/// The largest payload of an invocation, less the envelope (gettingstarted-limits).
const MAX_BATCH_BYTES: usize = 6 * 1024 * 1024 - 1_024;

/// The longest wait of ReceiveMessage (API_ReceiveMessage).
const MAX_WAIT_S: i64 = 20;

/// Refuses a queue that shows messages again before the function may have finished, as
/// CreateEventSourceMapping does.
pub async fn check(cloud: &Arc<Cloud>, mapping: &Mapping) -> Result<(), AwsError> {
    let visibility = visibility_s(cloud, mapping).await?;
    let timeout = lambda::timeout_s(cloud, &mapping.function)? as i64;
    if visibility < timeout {
        return Err(AwsError::client(
            "InvalidParameterValueException",
            format!(
                "Queue visibility timeout: {visibility} seconds is less than Function timeout: {timeout} seconds"
            ),
        ));
    }
    Ok(())
}

async fn sqs(
    cloud: &Arc<Cloud>,
    mapping: &Mapping,
    action: &str,
    mut input: Value,
) -> Result<Value, AwsError> {
    input["QueueUrl"] = lambda::queue_url(cloud, &mapping.source_arn).into();
    // A poller assumes the function's role.
    // https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html#events-sqs-permissions
    calls::by(mapping.function_arn.as_str(), cloud.call("sqs", action, input)).await
}

async fn visibility_s(cloud: &Arc<Cloud>, mapping: &Mapping) -> Result<i64, AwsError> {
    let asked = json!({ "AttributeNames": ["VisibilityTimeout"] });
    let answer = sqs(cloud, mapping, "GetQueueAttributes", asked).await?;
    Ok(answer["Attributes"]["VisibilityTimeout"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default())
}

/// Polls until `stop`, with up to `concurrency` batches with the function at once. A stop lets these end.
pub async fn run(cloud: &Arc<Cloud>, mapping: &Arc<Mapping>, polling: &Polling, stop: &CancellationToken) {
    let places = Arc::new(Semaphore::new(polling.concurrency));
    let mut failures = 0;
    loop {
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place,
            () = stop.cancelled() => return,
        };
        let Ok(place) = place else { return };
        match gather(cloud, mapping, polling, stop).await {
            Ok((batch, _)) if batch.is_empty() => return,
            Ok((batch, expires_ms)) => {
                failures = 0;
                let (cloud, mapping, stop) = (cloud.clone(), mapping.clone(), stop.clone());
                tokio::spawn(async move {
                    let _place = place;
                    tokio::select! {
                        biased;
                        () = cloud.stopping.cancelled() => {}
                        () = process(&cloud, &mapping, batch, expires_ms, &stop) => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(target: "hop", service = "lambda", resource = %mapping.function, "cannot poll {}: {error}", mapping.source_arn);
                tokio::select! {
                    () = pause(cloud, failures) => {}
                    () = stop.cancelled() => return,
                }
                failures += 1;
            }
        }
    }
}

/// Receives a batch: the messages that are there, or with a window those that arrive until the batch is
/// full or the window ends. Also returns when its first message becomes visible again. Empty only after a
/// stop.
async fn gather(
    cloud: &Arc<Cloud>,
    mapping: &Mapping,
    polling: &Polling,
    stop: &CancellationToken,
) -> Result<(Vec<Value>, i64), AwsError> {
    let mut batch = Vec::new();
    let mut window_ends_ms = i64::MAX;
    let mut expires_ms = i64::MAX;
    loop {
        if batch.len() >= polling.batch_size || cloud.clock.now_ms() >= window_ends_ms {
            return Ok((batch, expires_ms));
        }
        let receive = json!({
            "MaxNumberOfMessages": (polling.batch_size - batch.len()).min(10),
            "AttributeNames": ["All"],
            "MessageAttributeNames": ["All"],
            "WaitTimeSeconds": MAX_WAIT_S,
        });
        // A dropped receive takes no messages: it takes them when it ends.
        let mut answer = tokio::select! {
            biased;
            answer = sqs(cloud, mapping, "ReceiveMessage", receive) => answer?,
            () = cloud.clock.sleep_until(window_ends_ms) => continue,
            () = stop.cancelled() => return Ok((batch, expires_ms)),
        };
        let Some(messages) = answer["Messages"].as_array_mut() else {
            // A stopping queue answers at once: yield, so that this task sees the end of the run.
            tokio::task::yield_now().await;
            continue;
        };
        cloud.calls.received();
        if batch.is_empty() {
            let now = cloud.clock.now_ms();
            window_ends_ms = now + polling.window.as_millis() as i64;
            expires_ms = now + visibility_s(cloud, mapping).await? * 1_000;
        }
        batch.append(messages);
    }
}

/// Filters, invokes and settles one batch.
async fn process(
    cloud: &Arc<Cloud>,
    mapping: &Mapping,
    batch: Vec<Value>,
    expires_ms: i64,
    stop: &CancellationToken,
) {
    let records: Vec<Value> = batch.into_iter().map(|message| record(cloud, mapping, message)).collect();
    // Messages that match no filter are deleted (invocation-eventfiltering).
    let (wanted, unwanted): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| wants(mapping, record));
    delete(cloud, mapping, &unwanted).await;
    for part in split(wanted) {
        match deliver(cloud, mapping, &part, expires_ms, stop).await {
            Ok(failed) => {
                let (_, done): (Vec<_>, Vec<_>) =
                    part.into_iter().partition(|record| failed.contains(id(record)));
                if !failed.is_empty() {
                    tracing::warn!(target: "hop", service = "lambda", resource = %mapping.function, "{} messages failed", failed.len());
                }
                delete(cloud, mapping, &done).await;
            }
            Err(reason) => {
                tracing::warn!(target: "hop", service = "lambda", resource = %mapping.function, "a batch of {} messages failed: {reason}", part.len());
            }
        }
    }
}

/// Splits records into parts that each fit into an invocation.
fn split(records: Vec<Value>) -> Vec<Vec<Value>> {
    let mut parts: Vec<Vec<Value>> = Vec::new();
    let mut bytes = usize::MAX;
    for record in records {
        let size = record.to_string().len() + 1;
        bytes = bytes.saturating_add(size);
        match parts.last_mut() {
            Some(part) if bytes <= MAX_BATCH_BYTES => part.push(record),
            _ => {
                bytes = size;
                parts.push(vec![record]);
            }
        }
    }
    parts
}

/// Invokes the function. Returns the ids of the failed messages, or why the whole batch failed.
async fn deliver(
    cloud: &Arc<Cloud>,
    mapping: &Mapping,
    records: &[Value],
    expires_ms: i64,
    stop: &CancellationToken,
) -> Result<HashSet<String>, String> {
    let payload = Bytes::from(json!({ "Records": records }).to_string());
    let mut throttles = 0;
    let done = loop {
        match lambda::invoke(cloud, &mapping.function, payload.clone()).await {
            Ok(done) => break done,
            // Lambda retries until the messages are visible again (services-sqs-errorhandling, "Backoff strategy").
            Err(error) if stop.is_cancelled() || cloud.clock.now_ms() >= expires_ms => {
                return Err(error.to_string());
            }
            Err(error) => {
                tracing::warn!(target: "hop", service = "lambda", resource = %mapping.function, "not invoked: {error}");
                pause(cloud, throttles).await;
                throttles += 1;
            }
        }
    };
    if let Some(error) = done.function_error {
        return Err(error);
    }
    if !mapping.partial {
        return Ok(HashSet::new());
    }
    let failed: HashSet<String> = failures(&done.payload)?.into_iter().collect();
    match failed.iter().find(|failed| !records.iter().any(|record| id(record) == failed.as_str())) {
        Some(unknown) => {
            Err(format!("the batch response names a message that is not in the batch: {unknown}"))
        }
        None => Ok(failed),
    }
}

fn id(record: &Value) -> &str {
    record["messageId"].as_str().unwrap_or_default()
}

async fn delete(cloud: &Arc<Cloud>, mapping: &Mapping, records: &[Value]) {
    for ten in records.chunks(10) {
        let entries: Vec<Value> = ten
            .iter()
            .enumerate()
            .map(|(n, record)| json!({ "Id": n.to_string(), "ReceiptHandle": record["receiptHandle"] }))
            .collect();
        if let Err(error) = sqs(cloud, mapping, "DeleteMessageBatch", json!({ "Entries": entries })).await {
            // They become visible and are delivered again: at least once.
            tracing::warn!(target: "hop", service = "lambda", resource = %mapping.function, "cannot delete messages: {error}");
        }
    }
}

/// Filters see the members of a JSON body, and any other body as text (invocation-eventfiltering, with SQS).
fn wants(mapping: &Mapping, record: &Value) -> bool {
    let mut seen = record.clone();
    if let Some(body) = record["body"].as_str().and_then(|body| serde_json::from_str::<Value>(body).ok()) {
        seen["body"] = body;
    }
    mapping.wants(&seen)
}

/// The function's record of a message (with-sqs, "Example Amazon SQS message event").
pub fn record(cloud: &Cloud, mapping: &Mapping, mut message: Value) -> Value {
    let attributes: Map<String, Value> = message["MessageAttributes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, attribute)| (name.clone(), attribute_of(attribute)))
        .collect();
    let mut record = json!({
        "messageId": message["MessageId"].take(),
        "receiptHandle": message["ReceiptHandle"].take(),
        "body": message["Body"].take(),
        "attributes": message["Attributes"].take(),
        "messageAttributes": attributes,
        "md5OfBody": message["MD5OfBody"].take(),
        "eventSource": "aws:sqs",
        "eventSourceARN": mapping.source_arn,
        "awsRegion": cloud.settings.region,
    });
    if let Some(md5) = message.get_mut("MD5OfMessageAttributes") {
        record["md5OfMessageAttributes"] = md5.take();
    }
    record
}

fn attribute_of(attribute: &Value) -> Value {
    let mut shown =
        json!({ "stringListValues": [], "binaryListValues": [], "dataType": attribute["DataType"] });
    for (ours, theirs) in [("stringValue", "StringValue"), ("binaryValue", "BinaryValue")] {
        if let Some(value) = attribute.get(theirs) {
            shown[ours] = value.clone();
        }
    }
    shown
}
