//! Why a handler of events fails.

use events::Malformed;
use lambda_runtime::Diagnostic;

use crate::CallError;

/// Why an event could not be handled. The invocation fails. Lambda, or the workflow that called the
/// function, repeats it if that can help, and finally dead-letters the event or answers the request itself.
#[derive(Debug, thiserror::Error)]
pub enum EventFailure {
    /// The event is not valid. No retry can help.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// `properties-service/approval.asl.yaml` has these error types: it does not retry those that no retry can
/// cure.
impl From<EventFailure> for Diagnostic {
    fn from(failure: EventFailure) -> Self {
        let error_type = match &failure {
            EventFailure::Malformed(_) => "Malformed",
            EventFailure::Call(failure) => failure.kind(),
        };
        Self { error_type: error_type.into(), error_message: failure.to_string() }
    }
}
