//! Why a handler of events fails.

use events::Malformed;
use lambda_runtime::Diagnostic;

use crate::CallError;

/// Why an event could not be handled. The invocation fails: Lambda, or the workflow that called the
/// function, repeats it as far as that can help, and then hands it to a dead-letter queue or ends.
#[derive(Debug, thiserror::Error)]
pub enum EventFailure {
    /// It is not what it should be, and never will be.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// `properties-service/approval.asl.yaml` names these types: it does not repeat those that no
/// repetition can cure.
impl From<EventFailure> for Diagnostic {
    fn from(failure: EventFailure) -> Self {
        let error_type = match &failure {
            EventFailure::Malformed(_) => "Malformed",
            EventFailure::Call(failure) => failure.kind(),
        };
        Self { error_type: error_type.into(), error_message: failure.to_string() }
    }
}
