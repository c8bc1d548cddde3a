//! Sends events that could not be delivered to dead-letter queues.
//! <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html>

use std::sync::Arc;

use cloud_core::{AwsError, Cloud};
use serde_json::json;

use super::send::send_message;
use super::store::{Burial, Delivery};

/// Sends the original event, not the target's input, with the attributes that EventBridge adds. Without
/// a queue the event is dropped.
pub async fn bury(cloud: &Arc<Cloud>, delivery: &Delivery, burial: &Burial) -> Result<(), AwsError> {
    let failure = &AwsError::new(burial.status, burial.code.as_str(), burial.message.as_str());
    let Some(queue) = delivery.target.dead_letter_queue() else {
        tracing::warn!(target: "hop", service = "events", resource = %delivery.target.arn, "an event is dropped: {failure}");
        return Ok(());
    };
    let text = |value: &str| json!({ "DataType": "String", "StringValue": value });
    let message = if failure.message.is_empty() { &failure.code } else { &failure.message };
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
    send_message(cloud, name, delivery.event.clone(), Some(attributes)).await?;
    tracing::warn!(target: "hop", service = "events", resource = %name, "an event was dead-lettered: {failure}");
    Ok(())
}

/// One of the codes that EventBridge documents for its dead-letter queues.
fn error_code(failure: &AwsError) -> &'static str {
    let has = |parts: &[&str]| parts.iter().any(|part| failure.code.contains(part));
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
