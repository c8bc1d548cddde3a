//! Lets an execution wait for its property's contract. The token is stored before the contract is read. So
//! either this function sees the new status, or the function that handles the new status sees the token: no
//! approval is missed.

use events::Malformed;
use lambda_kit::event::EventFailure;
use serde_json::Value;

use crate::domain::{Waiting, Wake};
use crate::handlers::answer_task;
use crate::ports::{ContractStatuses, Executions, WaitingRoom};

/// Stores the token, and answers it at once if the contract is approved or has ended.
///
/// # Errors
/// When the token cannot be stored, the contract cannot be read or the execution cannot be answered. The
/// task fails then. The workflow retries it with a new token, or answers the request at once if no retry
/// can help.
pub async fn handle(
    task: Value,
    room: &impl WaitingRoom,
    statuses: &impl ContractStatuses,
    executions: &impl Executions,
) -> Result<(), EventFailure> {
    let waiting = read(&task)?;
    room.enter(&waiting).await?;
    let contract = statuses.current(&waiting.property_id).await?;
    match contract.as_ref().and_then(Wake::from_contract) {
        Some(wake) => Ok(answer_task(&waiting, &wake, executions, room).await?),
        None => {
            tracing::info!(
                property_id = %waiting.property_id,
                execution_arn = waiting.execution_arn,
                "waiting for the contract"
            );
            Ok(())
        }
    }
}

/// The error names the execution, never the token.
fn read(task: &Value) -> Result<Waiting, Malformed> {
    serde::Deserialize::deserialize(task).map_err(|cause: serde_json::Error| {
        let mut cause = cause.to_string();
        if let Some(token) = task["task_token"].as_str().filter(|token| !token.is_empty()) {
            cause = cause.replace(token, "(token)");
        }
        let execution = task["execution_arn"].as_str().map(str::to_owned);
        Malformed { id: execution, ..Malformed::new(task, cause) }
    })
}

#[cfg(test)]
mod tests {
    use lambda_kit::fixture::{Call, Fault, at_once};
    use vocabulary::ContractStatus::{Approved, Cancelled, Draft};

    use super::*;
    use crate::domain::tests::{contract, waiting};
    use crate::handlers::on_contract_status_stream::tests::deliver;
    use crate::tests::world::World;

    async fn wait(world: &World, token: &str) -> Result<(), EventFailure> {
        handle(serde_json::to_value(waiting(token, 1)).unwrap(), world, world, world).await
    }

    #[tokio::test]
    async fn a_malformed_task_fails_by_its_execution_and_without_its_token() {
        let world = World::default();
        let mut task = serde_json::to_value(waiting("secret", 1)).unwrap();
        task["seen"] = "secret".into();
        let failure = handle(task, &world, &world, &world).await.unwrap_err();
        let text = format!("{failure:?}");
        assert!(text.contains(&waiting("secret", 1).execution_arn.replace("secret", "")), "{text}");
        assert!(!text.replace(&waiting("secret", 1).execution_arn, "").contains("secret"), "{text}");
        assert_eq!(lambda_runtime::Diagnostic::from(failure).error_type, "Malformed");
        assert_eq!(world.calls.count(), 0);
    }

    fn woken(world: &World) -> Vec<(String, String)> {
        let woken = world.woken.borrow();
        woken.iter().map(|(token, wake)| (token.clone(), wake.contract_status.to_string())).collect()
    }

    fn one(token: &str, status: &str) -> Vec<(String, String)> {
        vec![(token.into(), status.into())]
    }

    #[tokio::test]
    async fn a_contract_that_is_approved_or_over_already_is_answered_at_once_and_leaves_no_token() {
        for status in [Approved, Cancelled] {
            let world = World::default();
            world.contract_is(contract(status, 2));
            wait(&world, "t").await.unwrap();
            assert_eq!(woken(&world), one("t", status.as_str()));
            assert_eq!(world.tokens(), Vec::<String>::new());
        }
    }

    #[tokio::test]
    async fn a_draft_is_waited_for() {
        let world = World::default();
        world.contract_is(contract(Draft, 1));
        wait(&world, "t").await.unwrap();
        assert_eq!((woken(&world), world.tokens()), (vec![], vec!["t".to_owned()]));
    }

    /// The status may be written before any call of the wait or after the last, and the
    /// record of that write handled at any point from then on.
    #[tokio::test]
    async fn an_approval_is_never_missed_wherever_it_falls_between_the_calls() {
        for written in 0..=4 {
            for delivered in written..=4 {
                let world = World::default();
                world.contract_is(contract(Draft, 1));
                let approve = |world: &World| world.contract_is(contract(Approved, 2));
                world.calls.meanwhile(Call::Nth(written), approve);
                world.calls.meanwhile(Call::Nth(delivered), |world| {
                    at_once(deliver(world, &[("s-1", contract(Approved, 2))]));
                });
                wait(&world, "t").await.unwrap();
                world.calls.let_others_act(&world);
                assert_eq!(woken(&world), one("t", "APPROVED"), "written {written}, delivered {delivered}");
                assert_eq!(world.tokens(), Vec::<String>::new(), "written {written}, delivered {delivered}");
            }
        }
    }

    /// Known fault 12: the second request overwrote the token of the first.
    #[tokio::test]
    async fn two_executions_that_wait_for_one_property_are_both_woken() {
        let world = World::default();
        world.contract_is(contract(Draft, 1));
        wait(&world, "first").await.unwrap();
        wait(&world, "second").await.unwrap();
        deliver(&world, &[("s-1", contract(Approved, 2))]).await;
        let mut tokens: Vec<_> = woken(&world).into_iter().map(|(token, _)| token).collect();
        tokens.sort();
        assert_eq!(tokens, ["first", "second"]);
    }

    /// Known fault 19: an error inside the waiting function was swallowed and the execution hung.
    #[tokio::test]
    async fn every_failure_fails_the_task_and_the_retry_is_answered() {
        for fault in Fault::BOTH {
            for call in 0.. {
                let world = World::default();
                world.contract_is(contract(Approved, 2));
                world.calls.fail(Call::Nth(call), fault);
                let first = wait(&world, "t").await;
                if world.calls.are_planned() {
                    assert_eq!(call, 4, "enter, read, wake and leave can fail");
                    break;
                }
                assert!(first.is_err(), "call {call} {fault:?}");
                // The workflow calls again: with a new token, and the old one is dead.
                let woken_before = woken(&world);
                world.kill("t");
                wait(&world, "t2").await.unwrap();
                if woken_before.is_empty() {
                    assert_eq!(woken(&world), one("t2", "APPROVED"));
                }
                // The next event removes the rest of the first token.
                deliver(&world, &[("s-2", contract(Cancelled, 3))]).await;
                assert_eq!(world.tokens(), Vec::<String>::new());
            }
        }
    }
}
