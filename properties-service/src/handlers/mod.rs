//! One module per function: what it does with its event, through the ports.

pub mod await_contract_approval;
pub mod on_approval_ended;
pub mod on_contract_status_changed;
pub mod on_contract_status_stream;

use lambda_kit::CallError;

use crate::domain::{Waiting, Wake};
use crate::ports::{Executions, WaitingRoom};

/// Answers an execution and removes its token, even a dead one. The token is removed last: after a crash,
/// both steps are repeated.
async fn answer_task(
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
