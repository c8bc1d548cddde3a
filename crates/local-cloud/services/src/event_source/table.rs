//! Delivers a table stream's records to a function (with-ddb).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cloud_core::{AwsError, Cloud, lock};
use serde_json::{Value, json};

use super::mapping::Mapping;
use super::response::failures;
use super::stream::{Abandoned, Consumer, Delivery, sequence_of};
use crate::lambda;

pub struct Functions {
    cloud: Arc<Cloud>,
    mapping: Arc<Mapping>,
    /// Request id and function error of a failed invocation, by the last record of its batch.
    /// [`Consumer::note`] removes them.
    last: Mutex<HashMap<String, Value>>,
}

impl Functions {
    pub fn new(cloud: &Arc<Cloud>, mapping: &Arc<Mapping>) -> Self {
        Self { cloud: cloud.clone(), mapping: mapping.clone(), last: Mutex::default() }
    }

    fn settle(&self, records: &[Value], payload: &[u8]) -> Delivery {
        if !self.mapping.partial {
            return Delivery::Done;
        }
        match failures(payload) {
            Err(reason) => Delivery::Failed { reason },
            Ok(failed) if failed.is_empty() => Delivery::Done,
            // The lowest sequence number is the checkpoint (services-ddb-batchfailurereporting).
            Ok(failed) => match records.iter().map(sequence_of).find(|sequence| failed.contains(sequence)) {
                Some(sequence) => {
                    Delivery::FailedFrom { sequence, reason: "the function reported it".into() }
                }
                None => Delivery::Failed { reason: "the batch response names no record of the batch".into() },
            },
        }
    }
}

fn last_of(records: &[Value]) -> String {
    records.last().map(sequence_of).unwrap_or_default()
}

impl Consumer for Functions {
    fn wants(&self, record: &Value) -> bool {
        self.mapping.filters.want(record)
    }

    async fn deliver(&self, records: Vec<Value>) -> Delivery {
        let payload = Bytes::from(json!({ "Records": records }).to_string());
        let done = match lambda::invoke(&self.cloud, &self.mapping.function, payload).await {
            Ok(done) => done,
            Err(error) => return Delivery::NotStarted { reason: error.to_string() },
        };
        let delivery = match &done.function_error {
            None => self.settle(&records, &done.payload),
            Some(error) => {
                Delivery::Failed { reason: format!("{error}: {}", String::from_utf8_lossy(&done.payload)) }
            }
        };
        let done_with = delivery == Delivery::Done;
        *lock(&self.mapping.last_result) = if done_with { "OK" } else { "PROBLEM: Function call failed" };
        if !done_with {
            let note = json!({ "requestId": done.request_id, "functionError": done.function_error });
            lock(&self.last).insert(last_of(&records), note);
        }
        delivery
    }

    fn note(&self, records: &[Value]) -> Value {
        lock(&self.last).remove(&last_of(records)).unwrap_or_default()
    }

    /// Sends the invocation record of services-dynamodb-errors. Without a destination the batch is skipped.
    async fn abandon(&self, batch: Abandoned) -> Result<(), AwsError> {
        tracing::warn!(target: "hop", service = "lambda", resource = %self.mapping.function, "{} records given up: {}", batch.records.len(), batch.condition);
        let Some(queue) = &self.mapping.on_failure else { return Ok(()) };
        let mut record = json!({
            "requestContext": {
                "functionArn": self.mapping.function_arn,
                "condition": batch.condition,
                "approximateInvokeCount": batch.attempts,
            },
            "version": "1.0",
            "timestamp": self.cloud.clock.timestamp(),
            "DDBStreamBatchInfo": batch.batch_info,
        });
        // Without a note the records were too old before the first delivery.
        if let Value::Object(note) = batch.note {
            record["requestContext"]["requestId"] = note["requestId"].clone();
            record["responseContext"] = json!({ "statusCode": 200, "executedVersion": "$LATEST" });
            if note["functionError"].is_string() {
                record["responseContext"]["functionError"] = note["functionError"].clone();
            }
        }
        let input =
            json!({ "QueueUrl": lambda::queue_url(&self.cloud, queue), "MessageBody": record.to_string() });
        self.cloud.call("sqs", "SendMessage", input).await.map(drop)
    }
}
