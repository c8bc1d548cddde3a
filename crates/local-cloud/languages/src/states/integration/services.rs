//! The services that tasks can call through the SDK integrations.

#[derive(Debug, PartialEq)]
pub struct Sdk {
    /// Its name in the ARN.
    pub name: &'static str,
    /// The prefix of its error names.
    pub prefix: &'static str,
    /// Its name at the endpoint.
    pub endpoint: &'static str,
    /// As the API names them.
    pub actions: &'static [&'static str],
    /// Errors that keep their name; others become the service's base exception.
    pub modelled: &'static [&'static str],
}

/// Prefixes and suffix rule: <https://docs.aws.amazon.com/step-functions/latest/dg/supported-services-awssdk.html>
/// Modelled errors: each service's API reference.
#[rustfmt::skip]
pub const SDKS: [Sdk; 7] = [
    Sdk {
        name: "comprehend", prefix: "Comprehend", endpoint: "comprehend",
        actions: &["DetectSentiment"],
        modelled: &["InternalServerException", "InvalidRequestException", "TextSizeLimitExceededException",
                    "UnsupportedLanguageException"],
    },
    Sdk {
        name: "dynamodb", prefix: "DynamoDb", endpoint: "dynamodb",
        actions: &["BatchGetItem", "BatchWriteItem", "DeleteItem", "GetItem", "PutItem", "Query", "Scan",
                   "TransactGetItems", "TransactWriteItems", "UpdateItem"],
        modelled: DYNAMODB_ERRORS,
    },
    Sdk {
        name: "eventbridge", prefix: "EventBridge", endpoint: "events",
        actions: &["PutEvents"],
        modelled: &["InternalException", "ResourceNotFoundException"],
    },
    Sdk {
        name: "lambda", prefix: "Lambda", endpoint: "lambda",
        actions: &["Invoke"],
        modelled: LAMBDA_ERRORS,
    },
    Sdk {
        name: "rekognition", prefix: "Rekognition", endpoint: "rekognition",
        actions: &["DetectModerationLabels"],
        modelled: &["AccessDeniedException", "HumanLoopQuotaExceededException", "ImageTooLargeException",
                    "InternalServerError", "InvalidImageFormatException", "InvalidParameterException",
                    "InvalidS3ObjectException", "ProvisionedThroughputExceededException",
                    "ResourceNotFoundException", "ResourceNotReadyException", "ThrottlingException"],
    },
    Sdk {
        name: "s3", prefix: "S3", endpoint: "s3",
        actions: &["DeleteObject", "GetObject", "HeadObject", "ListObjectsV2", "PutObject"],
        modelled: &["InvalidObjectState", "NoSuchBucket", "NoSuchKey"],
    },
    Sdk {
        name: "sfn", prefix: "Sfn", endpoint: "states",
        actions: &["DescribeExecution", "ListExecutions", "SendTaskFailure", "SendTaskHeartbeat",
                   "SendTaskSuccess", "StartExecution", "StopExecution"],
        modelled: &["ExecutionAlreadyExists", "ExecutionDoesNotExist", "ExecutionLimitExceeded", "InvalidArn",
                    "InvalidExecutionInput", "InvalidName", "InvalidOutput", "InvalidToken",
                    "StateMachineDoesNotExist", "TaskDoesNotExist", "TaskTimedOut", "ValidationException"],
    },
];

#[rustfmt::skip]
pub const DYNAMODB_ERRORS: &[&str] = &[
    "ConditionalCheckFailedException", "IdempotentParameterMismatchException", "InternalServerError",
    "ItemCollectionSizeLimitExceededException", "ProvisionedThroughputExceededException",
    "RequestLimitExceeded", "ResourceNotFoundException", "ThrottlingException",
    "TransactionCanceledException", "TransactionConflictException", "TransactionInProgressException",
];

#[rustfmt::skip]
pub const LAMBDA_ERRORS: &[&str] = &[
    "InvalidParameterValueException", "InvalidRequestContentException", "RequestTooLargeException",
    "ResourceConflictException", "ResourceNotFoundException", "ServiceException", "TooManyRequestsException",
];
