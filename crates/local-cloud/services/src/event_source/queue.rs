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
    let input = json!({ "AttributeNames": ["VisibilityTimeout"] });
    let answer = sqs(cloud, mapping, "GetQueueAttributes", input).await?;
    let visibility = answer["Attributes"]["VisibilityTimeout"].as_str().and_then(|text| text.parse().ok());
    Ok(visibility.unwrap_or_default())
}

/// Polls until `stop`, with up to `concurrency` batches with the function at once. A stop lets these end.
pub async fn run(cloud: &Arc<Cloud>, mapping: &Arc<Mapping>, polling: &Polling, stop: &CancellationToken) {
    let poller = Poller { cloud: cloud.clone(), mapping: mapping.clone(), stop: stop.clone() };
    let places = Arc::new(Semaphore::new(polling.concurrency));
    let mut failures = 0;
    loop {
        let place = stop.run_until_cancelled(places.clone().acquire_owned()).await;
        let Some(Ok(place)) = place else { return };
        match poller.gather(polling).await {
            Ok((batch, _)) if batch.is_empty() => return,
            Ok((batch, expires_ms)) => {
                failures = 0;
                let poller = poller.clone();
                tokio::spawn(async move {
                    let _place = place;
                    poller.cloud.stopping.run_until_cancelled(poller.process(batch, expires_ms)).await;
                });
            }
            Err(error) => {
                poller.warn(&format!("cannot poll {}: {error}", mapping.source_arn));
                if stop.run_until_cancelled(pause(cloud, failures)).await.is_none() {
                    return;
                }
                failures += 1;
            }
        }
    }
}

#[derive(Clone)]
struct Poller {
    cloud: Arc<Cloud>,
    mapping: Arc<Mapping>,
    stop: CancellationToken,
}

impl Poller {
    fn warn(&self, message: &str) {
        tracing::warn!(target: "hop", service = "lambda", resource = %self.mapping.function, "{message}");
    }

    async fn sqs(&self, action: &str, input: Value) -> Result<Value, AwsError> {
        sqs(&self.cloud, &self.mapping, action, input).await
    }

    /// Receives a batch: the messages that are there, or with a window those that arrive until the batch
    /// is full or the window ends. Also returns when its first message becomes visible again. Empty only
    /// after a stop.
    async fn gather(&self, polling: &Polling) -> Result<(Vec<Value>, i64), AwsError> {
        let clock = &self.cloud.clock;
        let mut batch = Vec::new();
        let mut window_ends_ms = i64::MAX;
        let mut expires_ms = i64::MAX;
        while batch.len() < polling.batch_size && clock.now_ms() < window_ends_ms {
            let receive = json!({
                "MaxNumberOfMessages": (polling.batch_size - batch.len()).min(10),
                "AttributeNames": ["All"],
                "MessageAttributeNames": ["All"],
                "WaitTimeSeconds": MAX_WAIT_S,
            });
            // A dropped receive takes no messages: it takes them when it ends.
            let mut answer = tokio::select! {
                biased;
                answer = self.sqs("ReceiveMessage", receive) => answer?,
                () = clock.sleep_until(window_ends_ms) => break,
                () = self.stop.cancelled() => break,
            };
            let Some(messages) = answer["Messages"].as_array_mut() else {
                // A stopping queue answers at once: yield, so that this task sees the end of the run.
                tokio::task::yield_now().await;
                continue;
            };
            self.cloud.calls.received();
            if batch.is_empty() {
                let now = clock.now_ms();
                window_ends_ms = now + polling.window.as_millis() as i64;
                expires_ms = now + visibility_s(&self.cloud, &self.mapping).await? * 1_000;
            }
            batch.append(messages);
        }
        Ok((batch, expires_ms))
    }

    /// Filters, invokes and settles one batch.
    async fn process(&self, batch: Vec<Value>, expires_ms: i64) {
        let record = |message| record(&self.cloud, &self.mapping, message);
        let wants = |record: &Value| wants(&self.mapping, record);
        // Messages that match no filter are deleted (invocation-eventfiltering).
        let (wanted, unwanted): (Vec<_>, Vec<_>) = batch.into_iter().map(record).partition(wants);
        self.delete(&unwanted).await;
        for part in split(wanted) {
            match self.deliver(&part, expires_ms).await {
                Ok(failed) => {
                    if !failed.is_empty() {
                        self.warn(&format!("{} messages failed", failed.len()));
                    }
                    let done = part.into_iter().filter(|record| !failed.contains(id(record)));
                    self.delete(&done.collect::<Vec<_>>()).await;
                }
                Err(reason) => self.warn(&format!("a batch of {} messages failed: {reason}", part.len())),
            }
        }
    }

    /// Invokes the function. Returns the ids of the failed messages, or why the whole batch failed.
    async fn deliver(&self, records: &[Value], expires_ms: i64) -> Result<HashSet<String>, String> {
        let payload = Bytes::from(json!({ "Records": records }).to_string());
        let mut throttles = 0;
        let done = loop {
            match lambda::invoke(&self.cloud, &self.mapping.function, payload.clone()).await {
                Ok(done) => break done,
                // Lambda retries until the messages are visible again (services-sqs-errorhandling,
                // "Backoff strategy").
                Err(error) if self.stop.is_cancelled() || self.cloud.clock.now_ms() >= expires_ms => {
                    return Err(error.to_string());
                }
                Err(error) => {
                    self.warn(&format!("not invoked: {error}"));
                    pause(&self.cloud, throttles).await;
                    throttles += 1;
                }
            }
        };
        if let Some(error) = done.function_error {
            return Err(error);
        }
        if !self.mapping.partial {
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

    async fn delete(&self, records: &[Value]) {
        for ten in records.chunks(10) {
            let entry = |(n, record): (usize, &Value)| json!({ "Id": n.to_string(), "ReceiptHandle": record["receiptHandle"] });
            let entries: Vec<Value> = ten.iter().enumerate().map(entry).collect();
            if let Err(error) = self.sqs("DeleteMessageBatch", json!({ "Entries": entries })).await {
                // They become visible and are delivered again: at least once.
                self.warn(&format!("cannot delete messages: {error}"));
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

fn id(record: &Value) -> &str {
    record["messageId"].as_str().unwrap_or_default()
}

/// Filters see the members of a JSON body, and any other body as text (invocation-eventfiltering, with SQS).
fn wants(mapping: &Mapping, record: &Value) -> bool {
    let mut seen = record.clone();
    if let Some(body) = record["body"].as_str().and_then(|body| serde_json::from_str::<Value>(body).ok()) {
        seen["body"] = body;
    }
    mapping.filters.want(&seen)
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
