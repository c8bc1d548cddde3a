//! Why a call to a table, a bus, a queue or a workflow failed, named by what the caller does next. A
//! failure that may pass is never mixed with one that no retry can cure.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The error may be temporary: throttled, timed out, unreachable, not allowed yet. Try again later.
    #[error("{0}")]
    Unavailable(String),
    /// The service always refuses this request: it is too large or invalid.
    #[error("{0}")]
    Refused(String),
    /// A stored or delivered value cannot be read. Somebody must look at it.
    #[error("{0}")]
    Corrupt(String),
}

/// Error codes that no retry can cure.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>,
/// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsResultEntry.html>
const PERMANENT_CODES: [&str; 9] = [
    "ValidationException",
    "ValidationError", // of one write in a transaction, for example an item that is too large
    "ItemCollectionSizeLimitExceededException",
    "ItemCollectionSizeLimitExceeded",
    "SerializationException",
    "InvalidParameterValue",
    "InvalidArgument",
    "MalformedDetail",
    "InvalidOutput",
];

impl CallError {
    /// Converts an SDK error. The text includes all causes, which the error's `Display` leaves out.
    pub fn from_sdk<E, R>(error: SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug,
    {
        let text = with_causes(&error);
        match &error {
            SdkError::ConstructionFailure(_) => Self::Refused(text),
            SdkError::ServiceError(service) => Self::by_code(service.err().code(), text),
            _ => Self::Unavailable(text),
        }
    }

    /// Classifies an error code of a service.
    pub fn by_code(code: Option<&str>, text: String) -> Self {
        match code {
            Some(code) if PERMANENT_CODES.contains(&code) => Self::Refused(text),
            _ => Self::Unavailable(text),
        }
    }

    /// A stored or delivered value that cannot be read.
    pub fn corrupt(error: impl std::error::Error) -> Self {
        Self::Corrupt(with_causes(&error))
    }

    /// A request that cannot be built.
    pub fn refused(error: impl std::error::Error) -> Self {
        Self::Refused(with_causes(&error))
    }

    /// The same kind of failure with another text.
    #[must_use]
    pub fn map_text(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Unavailable(text) => Self::Unavailable(change(text)),
            Self::Refused(text) => Self::Refused(change(text)),
            Self::Corrupt(text) => Self::Corrupt(change(text)),
        }
    }

    /// The name of the kind, for logs and for the Lambda runtime.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "Unavailable",
            Self::Refused(_) => "Refused",
            Self::Corrupt(_) => "Corrupt",
        }
    }
}

/// The error, followed by its causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl From<CallError> for lambda_runtime::Diagnostic {
    fn from(error: CallError) -> Self {
        Self { error_type: error.kind().into(), error_message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;
    use crate::fixture::dynamodb;

    #[tokio::test]
    async fn an_item_that_is_too_large_is_refused_and_a_missing_table_may_still_come() {
        let client = dynamodb(&[("things", &["pk"])]).await.unwrap();
        let put = async |table: &str, size: usize| {
            let sent = client.put_item().table_name(table).item("pk", AttributeValue::S("one".into()));
            let sent = sent.item("text", AttributeValue::S("x".repeat(size))).send().await;
            sent.map_err(CallError::from_sdk)
        };
        put("things", 10).await.unwrap();
        let too_large = put("things", 500_000).await.unwrap_err();
        assert!(matches!(too_large, CallError::Refused(_)), "{too_large:?}");
        let missing = put("nowhere", 10).await.unwrap_err();
        assert!(matches!(missing, CallError::Unavailable(_)), "{missing:?}");
    }

    #[test]
    fn a_value_that_cannot_be_read_is_corrupt() {
        let error = serde_json::from_str::<u32>("\"text\"").map_err(CallError::corrupt).unwrap_err();
        assert_eq!(error.kind(), "Corrupt");
    }
}
