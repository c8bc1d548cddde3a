//! What each function does with its event, over the ports. One module per function.

pub mod ingest;
pub mod listings_query;
pub mod on_contract_ended;
pub mod on_evaluation_completed;
pub mod search;

use events::Malformed;
use lambda_kit::CallError;
use lambda_runtime::Diagnostic;

/// Why an event could not be dealt with: its invocation fails, so that Lambda repeats it and
/// hands it to the dead-letter queue in the end.
#[derive(Debug, thiserror::Error)]
pub enum EventFailure {
    /// It is not what its detail-type promises, and never will be.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl From<EventFailure> for Diagnostic {
    fn from(failure: EventFailure) -> Self {
        let error_type = match &failure {
            EventFailure::Malformed(_) => "Malformed",
            EventFailure::Call(failure) => failure.kind(),
        };
        Self { error_type: error_type.into(), error_message: failure.to_string() }
    }
}

fn contended() -> EventFailure {
    CallError::Unavailable("the listing is contended".into()).into()
}
