//! What each function does, over the ports: free functions without an SDK client in sight.

pub mod await_contract_approval;
pub mod on_approval_ended;
pub mod on_contract_status_changed;
pub mod on_contract_status_stream;

use events::Malformed;
use lambda_kit::CallError;
use lambda_runtime::Diagnostic;

use crate::domain::{Waiting, Wake};
use crate::ports::{Executions, WaitingRoom};

/// Why what a function was given could not be dealt with. Its invocation fails: Lambda or the
/// workflow repeats it as far as that can help, and then gives it up where somebody sees it.
#[derive(Debug, thiserror::Error)]
pub enum EventFailure {
    /// It is not what it should be, and never will be.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The execution's input names no request: there is nobody to answer.
    #[error("event {event_id}: the input of {execution_arn} names no request: {cause}")]
    NoRequest {
        /// The event that told of the execution's end.
        event_id: String,
        /// The execution.
        execution_arn: String,
        /// What is wrong with the input.
        cause: String,
    },
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// `approval.asl.yaml` names these types: it repeats none that no repetition can cure.
impl From<EventFailure> for Diagnostic {
    fn from(failure: EventFailure) -> Self {
        let error_type = match &failure {
            EventFailure::Malformed(_) => "Malformed",
            EventFailure::NoRequest { .. } => "NoRequest",
            EventFailure::Call(failure) => failure.kind(),
        };
        Self { error_type: error_type.into(), error_message: failure.to_string() }
    }
}

/// Tells an execution how its wait ended and clears its token, also one that was dead
/// already. The token goes last: a crash before leaves it to be told, and cleared, again.
async fn tell(
    waiting: &Waiting,
    wake: &Wake,
    executions: &impl Executions,
    room: &impl WaitingRoom,
) -> Result<(), CallError> {
    let woken = executions.wake(&waiting.task_token, wake).await?;
    room.leave(waiting).await?;
    tracing::info!(
        property_id = %waiting.property_id,
        execution_arn = waiting.execution_arn,
        contract_status = %wake.contract_status,
        ?woken,
        "the wait for the contract is over"
    );
    Ok(())
}
