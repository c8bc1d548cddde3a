//! What each function does with its event, over the ports. One module per function.

pub mod ingest;
pub mod listings_query;
pub mod on_contract_ended;
pub mod on_evaluation_completed;
pub mod search;

use events::Envelope;
use lambda_kit::CallError;
use lambda_runtime::Diagnostic;

/// How often a lost race is decided anew before the event goes back to its queue.
const MOST_RACES: usize = 8;

/// Why an event could not be dealt with: its invocation fails, so that Lambda repeats it and
/// hands it to the dead-letter queue in the end.
#[derive(Debug, thiserror::Error)]
pub enum EventFailure {
    /// It is not what its detail-type promises, and never will be.
    #[error("event {id} cannot be read: {cause}")]
    Malformed {
        /// The event's id, as far as it has one.
        id: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl From<EventFailure> for Diagnostic {
    fn from(failure: EventFailure) -> Self {
        let error_type = match &failure {
            EventFailure::Malformed { .. } => "Malformed",
            EventFailure::Call(failure) => failure.kind(),
        };
        Self { error_type: error_type.into(), error_message: failure.to_string() }
    }
}

fn contended() -> EventFailure {
    CallError::Unavailable("the listing is contended".into()).into()
}

/// Reads an event as a rule's target receives it.
fn envelope<T: serde::de::DeserializeOwned>(event: serde_json::Value) -> Result<Envelope<T>, EventFailure> {
    let id = event.get("id").and_then(serde_json::Value::as_str).unwrap_or("without id").to_owned();
    serde_json::from_value(event).map_err(|cause| EventFailure::Malformed { id, cause: cause.to_string() })
}

#[cfg(test)]
mod order_tests;
