//! The errors of SQS, each with its code in both protocols. The JSON protocol has the
//! names of the API model; SDKs that knew the query protocol get its codes in a header
//! (SQSDeveloperGuide, sqs-making-api-requests-json).

use cloud_core::AwsError;
use serde_json::Value;

fn fault(status: u16, code: &str, query_code: &str, message: impl Into<String>) -> AwsError {
    let mut error = AwsError::new(status, code, message);
    error.details.insert("QueryErrorCode".into(), Value::from(query_code));
    error
}

/// The code that the query protocol and the entries of a batch answer use.
pub(super) fn query_code(error: &AwsError) -> &str {
    error.details.get("QueryErrorCode").and_then(Value::as_str).unwrap_or(&error.code)
}

pub(super) fn no_queue() -> AwsError {
    fault(
        400,
        "QueueDoesNotExist",
        "AWS.SimpleQueueService.NonExistentQueue",
        "The specified queue does not exist.",
    )
}

pub(super) fn invalid(message: impl Into<String>) -> AwsError {
    fault(400, "InvalidParameterValueException", "InvalidParameterValue", message)
}

pub(super) fn invalid_value(value: &str, parameter: &str, reason: &str) -> AwsError {
    invalid(format!("Value {value} for parameter {parameter} is invalid. Reason: {reason}"))
}

pub(super) fn missing(parameter: &str) -> AwsError {
    fault(
        400,
        "MissingRequiredParameterException",
        "MissingParameter",
        format!("The request must contain the parameter {parameter}."),
    )
}

pub(super) fn unsupported(message: impl Into<String>) -> AwsError {
    fault(400, "UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation", message)
}

pub(super) fn attribute_name(name: &str) -> AwsError {
    fault(400, "InvalidAttributeName", "InvalidAttributeName", format!("Unknown Attribute {name}."))
}

pub(super) fn attribute_value(name: &str) -> AwsError {
    fault(
        400,
        "InvalidAttributeValue",
        "InvalidAttributeValue",
        format!("Invalid value for the parameter {name}."),
    )
}

pub(super) fn contents() -> AwsError {
    fault(
        400,
        "InvalidMessageContents",
        "InvalidMessageContents",
        "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF",
    )
}

pub(super) fn receipt_handle(handle: &str) -> AwsError {
    fault(
        400,
        "ReceiptHandleIsInvalid",
        "ReceiptHandleIsInvalid",
        format!("The input receipt handle \"{handle}\" is not a valid receipt handle."),
    )
}

pub(super) fn not_in_flight() -> AwsError {
    fault(
        400,
        "MessageNotInflight",
        "AWS.SimpleQueueService.MessageNotInflight",
        "The specified message isn't in flight.",
    )
}

pub(super) fn name_exists(attribute: &str) -> AwsError {
    fault(
        400,
        "QueueNameExists",
        "QueueAlreadyExists",
        format!("A queue already exists with the same name and a different value for attribute {attribute}"),
    )
}

pub(super) fn over_limit() -> AwsError {
    fault(400, "OverLimit", "OverLimit", "The queue has as many messages in flight as it may have.")
}

pub(super) fn deleted_recently() -> AwsError {
    fault(
        400,
        "QueueDeletedRecently",
        "AWS.SimpleQueueService.QueueDeletedRecently",
        "You must wait 60 seconds after deleting a queue before you can create another with the same name.",
    )
}

pub(super) fn purge_in_progress(name: &str) -> AwsError {
    fault(
        403,
        "PurgeQueueInProgress",
        "AWS.SimpleQueueService.PurgeQueueInProgress",
        format!("Only one PurgeQueue operation on {name} is allowed every 60 seconds."),
    )
}

pub(super) fn no_resource(message: impl Into<String>) -> AwsError {
    fault(404, "ResourceNotFoundException", "ResourceNotFoundException", message)
}

pub(super) fn empty_batch(entry: &str) -> AwsError {
    fault(
        400,
        "EmptyBatchRequest",
        "AWS.SimpleQueueService.EmptyBatchRequest",
        format!("There should be at least one {entry} in the request."),
    )
}

pub(super) fn too_many_entries(count: usize) -> AwsError {
    fault(
        400,
        "TooManyEntriesInBatchRequest",
        "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
        format!("Maximum number of entries per request are 10. You have sent {count}."),
    )
}

pub(super) fn ids_not_distinct(id: &str) -> AwsError {
    fault(
        400,
        "BatchEntryIdsNotDistinct",
        "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
        format!("Id {id} repeated."),
    )
}

pub(super) fn entry_id() -> AwsError {
    fault(
        400,
        "InvalidBatchEntryId",
        "AWS.SimpleQueueService.InvalidBatchEntryId",
        "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.",
    )
}

pub(super) fn batch_too_long(bytes: usize) -> AwsError {
    fault(
        400,
        "BatchRequestTooLong",
        "AWS.SimpleQueueService.BatchRequestTooLong",
        format!(
            "Batch requests cannot be longer than {} bytes. You have sent {bytes} bytes.",
            super::queue::LARGEST_MESSAGE
        ),
    )
}
