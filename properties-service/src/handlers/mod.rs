//! What each function does, over the ports: free functions without an SDK client in sight.

pub mod await_contract_approval;
pub mod on_approval_ended;
pub mod on_contract_status_changed;
pub mod on_contract_status_stream;

use lambda_kit::CallError;

use crate::domain::{Waiting, Wake};
use crate::ports::{Executions, WaitingRoom};

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
