//! Answers for executions that died without an answer: aborted, timed out as a whole, or
//! failed in a way that no Catch sees.

use events::Envelope;
use lambda_kit::CallError;
use serde::Deserialize;
use vocabulary::{ApprovalRequestId, PropertyId};

use crate::domain::{Answer, Request};
use crate::ports::{Answers, Claims};

/// `Step Functions Execution Status Change`.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html>
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionStatusChange {
    /// The execution.
    pub execution_arn: String,
    /// `FAILED`, `TIMED_OUT` or `ABORTED` by the rule's pattern.
    pub status: String,
    /// Its input as text: the event that started it. Absent where it was too long for the event.
    pub input: Option<String>,
}

/// What of a `PublicationApprovalRequested` names the request.
#[derive(Deserialize)]
struct RequestNames {
    property_id: PropertyId,
    approval_request_id: Option<ApprovalRequestId>,
}

/// What became of the request of an execution that ended badly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It had its answer already.
    AnsweredBefore,
    /// It has it now.
    AnsweredNow,
    /// Another execution has the claim, and answers.
    ClaimedByAnother,
}

/// Why an execution could not be answered for.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The input names no request: there is nobody to answer.
    #[error("the execution's input names no request: {0}")]
    NoRequest(String),
    /// A call failed: the event is delivered again.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Publishes the answer that the claim holds, or `DECLINED` (`evaluation_failed`) where it
/// holds none, unless it is marked answered.
///
/// # Errors
/// See [`Failure`]. The event is delivered again, and dead-lettered in the end.
pub async fn handle(
    event: Envelope<ExecutionStatusChange>,
    claims: &impl Claims,
    answers: &impl Answers,
) -> Result<Outcome, Failure> {
    let ended = event.detail;
    let request = request(&ended)?;
    let settled = claims.settle(&request, &ended.execution_arn, &Answer::evaluation_failed()).await?;
    let outcome = match settled {
        None => Outcome::ClaimedByAnother,
        Some(claim) if claim.answered => Outcome::AnsweredBefore,
        Some(claim) => {
            answers.publish(&claim.answer.to_event(&request)).await?;
            claims.mark_answered(&request).await?;
            Outcome::AnsweredNow
        }
    };
    tracing::info!(
        event_id = event.id,
        property_id = %request.property_id,
        approval_request_id = %request.id,
        execution_arn = ended.execution_arn,
        status = ended.status,
        ?outcome,
        "an execution ended badly"
    );
    Ok(outcome)
}

fn request(ended: &ExecutionStatusChange) -> Result<Request, Failure> {
    let input = ended.input.as_deref().ok_or_else(|| Failure::NoRequest("it was left out".into()))?;
    let event: Envelope<RequestNames> =
        serde_json::from_str(input).map_err(|error| Failure::NoRequest(error.to_string()))?;
    let id = match event.detail.approval_request_id {
        Some(id) => id,
        None => event.id.parse().map_err(|_| Failure::NoRequest("its event has no id".into()))?,
    };
    Ok(Request { id, property_id: event.detail.property_id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::fakes::{Fault, World};
    use serde_json::json;
    use vocabulary::EvaluationResult::{Approved, Declined};

    const ME: &str = "arn:aws:states:us-east-1:123456789012:execution:approval:me";

    fn ended(detail: serde_json::Value) -> Envelope<ExecutionStatusChange> {
        let input = json!({
            "id": "event-1", "source": "unicorn-web", "detail-type": "PublicationApprovalRequested",
            "time": "2026-11-23T18:22:06Z", "detail": detail,
        });
        serde_json::from_value(json!({
            "id": "e-1", "source": "aws.states", "detail-type": "Step Functions Execution Status Change",
            "time": "2026-11-23T18:22:06Z",
            "detail": { "executionArn": ME, "status": "TIMED_OUT", "input": input.to_string() },
        }))
        .unwrap()
    }

    fn request_of(id: Option<&str>) -> Envelope<ExecutionStatusChange> {
        ended(match id {
            Some(id) => json!({ "property_id": "usa/anytown/main-street/111", "approval_request_id": id }),
            None => json!({ "property_id": "usa/anytown/main-street/111" }),
        })
    }

    async fn run(world: &World) -> Result<Outcome, Failure> {
        handle(request_of(Some("r-1")), world, world).await
    }

    fn approved() -> Answer {
        Answer { evaluation_result: Approved, evaluation_reasons: vec![], contract_version: None }
    }

    /// Known fault 17: failures published nothing.
    #[tokio::test]
    async fn an_execution_that_died_without_an_answer_is_answered_evaluation_failed() {
        let world = World::default();
        world.claim("r-1", ME, None, false);
        assert_eq!(run(&world).await.unwrap(), Outcome::AnsweredNow);
        assert_eq!(world.published.borrow()[0].evaluation_result, Declined);
        assert!(world.is_answered("r-1"));
        assert_eq!(run(&world).await.unwrap(), Outcome::AnsweredBefore);
        assert_eq!(world.published.borrow().len(), 1);
    }

    #[tokio::test]
    async fn an_answer_that_was_stored_and_not_confirmed_is_published_as_it_was_decided() {
        let world = World::default();
        world.claim("r-1", ME, Some(approved()), false);
        run(&world).await.unwrap();
        assert_eq!(world.published.borrow()[0].evaluation_result, Approved);
    }

    #[tokio::test]
    async fn an_answered_request_and_the_request_of_another_execution_are_left_alone() {
        for (claimant, answered, outcome) in
            [(ME, true, Outcome::AnsweredBefore), ("another", false, Outcome::ClaimedByAnother)]
        {
            let world = World::default();
            world.claim("r-1", claimant, Some(approved()), answered);
            assert_eq!(run(&world).await.unwrap(), outcome);
            assert!(world.published.borrow().is_empty());
        }
    }

    #[tokio::test]
    async fn an_execution_that_died_before_its_claim_is_answered_too() {
        let world = World::default();
        assert_eq!(run(&world).await.unwrap(), Outcome::AnsweredNow);
        assert_eq!(world.published.borrow().len(), 1);
    }

    #[tokio::test]
    async fn the_event_id_stands_in_where_the_request_has_none() {
        let world = World::default();
        handle(request_of(None), &world, &world).await.unwrap();
        let id = world.published.borrow()[0].approval_request_id.clone().unwrap();
        assert_eq!(id.as_str(), "event-1");
    }

    #[tokio::test]
    async fn an_input_that_names_no_request_is_an_error_and_publishes_nothing() {
        let world = World::default();
        for detail in [json!({}), json!({ "property_id": "nowhere" }), json!(null)] {
            assert!(matches!(handle(ended(detail), &world, &world).await, Err(Failure::NoRequest(_))));
        }
        let mut left_out = request_of(Some("r-1"));
        left_out.detail.input = None;
        assert!(matches!(handle(left_out, &world, &world).await, Err(Failure::NoRequest(_))));
        assert_eq!(world.calls(), 0);
    }

    #[tokio::test]
    async fn a_crash_at_any_call_is_mended_by_the_redelivery_with_the_same_answer() {
        for fault in [Fault::Before, Fault::After] {
            for call in 0..3 {
                let world = World::default();
                world.claim("r-1", ME, None, false);
                world.fail(call, fault);
                assert!(run(&world).await.is_err(), "call {call} {fault:?}");
                run(&world).await.unwrap();
                assert!(world.is_answered("r-1"));
                let published = world.published.borrow();
                assert!(!published.is_empty() && published.iter().all(|answer| *answer == published[0]));
            }
        }
    }
}
