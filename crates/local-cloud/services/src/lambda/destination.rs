//! Where events go in the end: to destinations, as records, and to the dead-letter queue, as they came
//! (invocation-async-retain-records).

use std::sync::Arc;

use bytes::Bytes;
use cloud_core::{AwsError, Cloud};
use serde_json::{Value, json};

use super::config::EventInvoke;
use super::function::Function;
use super::invocation::Invocation;
use super::store::Event;

/// The end of an event.
pub(super) struct Outcome<'a> {
    pub event: &'a Event,
    pub function: &'a Function,
    /// `Success`, or why no further attempt is made.
    pub condition: &'a str,
    /// The last invocation, where there was one just now.
    pub last: Option<&'a Invocation>,
    pub attempts: u32,
}

pub(super) async fn succeeded(cloud: &Arc<Cloud>, config: &EventInvoke, outcome: &Outcome<'_>) {
    if let Some(destination) = &config.on_success {
        send(cloud, destination, "Success", outcome).await;
    }
}

pub(super) async fn give_up(cloud: &Arc<Cloud>, config: &EventInvoke, outcome: &Outcome<'_>) {
    let Outcome { event, condition, .. } = outcome;
    tracing::warn!(target: "hop", service = "lambda", resource = %event.function, request = %event.request_id, "event given up: {condition}");
    if let Some(destination) = &config.on_failure {
        send(cloud, destination, "Failure", outcome).await;
    }
    if let Some(queue) = &outcome.function.config.dead_letter_target {
        dead_letter(cloud, queue, outcome).await;
    }
}

/// The invocation record of invocation-async-retain-records.
fn record(cloud: &Cloud, outcome: &Outcome<'_>) -> Value {
    let parsed = |bytes: &Bytes| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let mut record = json!({
        "version": "1.0",
        "timestamp": cloud.clock.timestamp(),
        "requestContext": {
            "requestId": outcome.event.request_id,
            "functionArn": format!("{}:$LATEST", outcome.function.config.arn),
            "condition": outcome.condition,
            "approximateInvokeCount": outcome.attempts,
        },
        "requestPayload": parsed(&outcome.event.payload),
    });
    if let Some(last) = outcome.last {
        record["responseContext"] = json!({ "statusCode": 200, "executedVersion": "$LATEST" });
        if let Some(error) = &last.function_error {
            record["responseContext"]["functionError"] = error.clone().into();
        }
        record["responsePayload"] = parsed(&last.payload);
    }
    record
}

/// Sends a record. A destination that refuses it loses it, as on AWS (DestinationDeliveryFailures).
async fn send(cloud: &Arc<Cloud>, destination: &str, result: &str, outcome: &Outcome<'_>) {
    let record = record(cloud, outcome).to_string();
    let sent = match destination.split(':').nth(2) {
        Some("sqs") => {
            let input = json!({ "QueueUrl": queue_url(cloud, destination), "MessageBody": record });
            cloud.call("sqs", "SendMessage", input).await.map(drop)
        }
        Some("lambda") => {
            let input = json!({ "FunctionName": destination, "InvocationType": "Event", "Payload": record });
            cloud.call("lambda", "Invoke", input).await.map(drop)
        }
        _ => put_event(cloud, destination, result, outcome.function, record).await,
    };
    if let Err(error) = sent {
        let function = &outcome.function.config.name;
        tracing::warn!(target: "hop", service = "lambda", resource = %function, "the destination {destination} refused a record: {error}");
    }
}

async fn put_event(
    cloud: &Arc<Cloud>,
    bus: &str,
    result: &str,
    function: &Function,
    record: String,
) -> Result<(), AwsError> {
    let entry = json!({
        "Source": "lambda",
        "DetailType": format!("Lambda Function Invocation Result - {result}"),
        "Detail": record,
        "Resources": [bus, format!("{}:$LATEST", function.config.arn)],
        "EventBusName": bus,
    });
    let answer = cloud.call("events", "PutEvents", json!({ "Entries": [entry] })).await?;
    match answer["FailedEntryCount"].as_i64() {
        Some(1..) => Err(AwsError::internal(&answer["Entries"][0])),
        _ => Ok(()),
    }
}

/// Sends the event itself, with the error as attributes ("Adding a dead-letter queue").
async fn dead_letter(cloud: &Arc<Cloud>, queue: &str, outcome: &Outcome<'_>) {
    let Outcome { event, condition, last, .. } = *outcome;
    let document: Value =
        last.and_then(|last| serde_json::from_slice(&last.payload).ok()).unwrap_or_default();
    let (code, message) = match (last, condition) {
        (Some(_), _) => (Some("200"), document["errorMessage"].as_str().unwrap_or("Unknown error.")),
        // Not documented; the text that AWS writes.
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

/// SQS accepts any URL that ends in `/{account}/{name}`.
pub(crate) fn queue_url(cloud: &Cloud, arn: &str) -> String {
    format!("/{}/{}", cloud.settings.account, arn.rsplit(':').next().unwrap_or_default())
}
