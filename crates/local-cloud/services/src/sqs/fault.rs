//! The errors of SQS, each with its code in both protocols. The JSON protocol has the names of the API model;
//! SDKs that knew the query protocol get its codes in a header
//! (SQSDeveloperGuide, sqs-making-api-requests-json).

use cloud_core::AwsError;
use serde_json::Value;

fn fault(code: &str, query_code: &str, message: impl Into<String>) -> AwsError {
    let mut error = AwsError::client(code, message);
    error.details.insert("QueryErrorCode".into(), Value::from(query_code));
    error
}

/// An error whose query code has the prefix of most.
fn prefixed(code: &str, query_code: &str, message: impl Into<String>) -> AwsError {
    fault(code, &format!("AWS.SimpleQueueService.{query_code}"), message)
}

/// The code in the query protocol and in the entries of a batch answer.
pub(super) fn query_code(error: &AwsError) -> &str {
    error.details.get("QueryErrorCode").and_then(Value::as_str).unwrap_or(&error.code)
}

pub(super) fn no_queue() -> AwsError {
    prefixed("QueueDoesNotExist", "NonExistentQueue", "The specified queue does not exist.")
}

pub(super) fn invalid(message: impl Into<String>) -> AwsError {
    fault("InvalidParameterValueException", "InvalidParameterValue", message)
}

pub(super) fn invalid_value(value: impl ToString, parameter: &str, reason: &str) -> AwsError {
    let value = value.to_string();
    invalid(format!("Value {value} for parameter {parameter} is invalid. Reason: {reason}"))
}

pub(super) fn missing(parameter: &str) -> AwsError {
    let message = format!("The request must contain the parameter {parameter}.");
    fault("MissingRequiredParameterException", "MissingParameter", message)
}

pub(super) fn unsupported(message: &str) -> AwsError {
    prefixed("UnsupportedOperation", "UnsupportedOperation", message)
}

pub(super) fn fifo() -> AwsError {
    unsupported("FIFO queues are not emulated by the local cloud.")
}

pub(super) fn attribute_name(name: &str) -> AwsError {
    fault("InvalidAttributeName", "InvalidAttributeName", format!("Unknown Attribute {name}."))
}

pub(super) fn attribute_value(name: &str) -> AwsError {
    let message = format!("Invalid value for the parameter {name}.");
    fault("InvalidAttributeValue", "InvalidAttributeValue", message)
}

pub(super) fn contents() -> AwsError {
    let message = "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF";
    fault("InvalidMessageContents", "InvalidMessageContents", message)
}

pub(super) fn receipt_handle(handle: &str) -> AwsError {
    let message = format!("The input receipt handle \"{handle}\" is not a valid receipt handle.");
    fault("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", message)
}

pub(super) fn not_in_flight() -> AwsError {
    prefixed("MessageNotInflight", "MessageNotInflight", "The specified message isn't in flight.")
}

pub(super) fn name_exists(attribute: &str) -> AwsError {
    let message =
        format!("A queue already exists with the same name and a different value for attribute {attribute}");
    fault("QueueNameExists", "QueueAlreadyExists", message)
}

pub(super) fn over_limit() -> AwsError {
    fault("OverLimit", "OverLimit", "The queue has as many messages in flight as it may have.")
}

pub(super) fn deleted_recently() -> AwsError {
    let message =
        "You must wait 60 seconds after deleting a queue before you can create another with the same name.";
    prefixed("QueueDeletedRecently", "QueueDeletedRecently", message)
}

pub(super) fn purge_in_progress(name: &str) -> AwsError {
    let message = format!("Only one PurgeQueue operation on {name} is allowed every 60 seconds.");
    AwsError { status: 403, ..prefixed("PurgeQueueInProgress", "PurgeQueueInProgress", message) }
}

pub(super) fn no_resource(message: &str) -> AwsError {
    AwsError { status: 404, ..fault("ResourceNotFoundException", "ResourceNotFoundException", message) }
}

pub(super) fn empty_batch(entry: &str) -> AwsError {
    let message = format!("There should be at least one {entry} in the request.");
    prefixed("EmptyBatchRequest", "EmptyBatchRequest", message)
}

pub(super) fn too_many_entries(count: usize) -> AwsError {
    let message = format!("Maximum number of entries per request are 10. You have sent {count}.");
    prefixed("TooManyEntriesInBatchRequest", "TooManyEntriesInBatchRequest", message)
}

pub(super) fn ids_not_distinct(id: &str) -> AwsError {
    prefixed("BatchEntryIdsNotDistinct", "BatchEntryIdsNotDistinct", format!("Id {id} repeated."))
}

pub(super) fn entry_id() -> AwsError {
    let message = "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.";
    prefixed("InvalidBatchEntryId", "InvalidBatchEntryId", message)
}

pub(super) fn batch_too_long(bytes: usize, most: usize) -> AwsError {
    let message = format!("Batch requests cannot be longer than {most} bytes. You have sent {bytes} bytes.");
    prefixed("BatchRequestTooLong", "BatchRequestTooLong", message)
}
