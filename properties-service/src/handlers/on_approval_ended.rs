//! Answers for executions that ended without an answer: aborted, timed out, or failed with an error that no
//! Catch handles.

use events::{Envelope, Malformed};
use lambda_kit::CallError;
use lambda_kit::event::EventFailure;
use lambda_runtime::Diagnostic;
use serde::Deserialize;
use serde_json::Value;
use vocabulary::{ApprovalRequestId, PropertyId};

use crate::domain::{Answer, Request};
use crate::ports::{Answers, Claims, Executions};

/// `Step Functions Execution Status Change`.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html>
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecutionStatusChange {
    execution_arn: String,
    /// `FAILED`, `TIMED_OUT` or `ABORTED`: the rule's pattern passes no other.
    status: String,
    /// Its input as text: the event that started it. Null if it was too long for this event.
    input: Option<String>,
    input_details: Option<InputDetails>,
}

#[derive(Debug, Deserialize)]
struct InputDetails {
    included: Option<bool>,
}

/// The members of a `PublicationApprovalRequested` that identify the request.
#[derive(Deserialize)]
struct RequestNames {
    property_id: PropertyId,
    approval_request_id: Option<ApprovalRequestId>,
}

/// What was done for an execution that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The request had its answer.
    AnsweredBefore,
    /// The answer was published now.
    AnsweredNow,
    /// Another execution has the claim on the request, and answers it.
    ClaimedByAnother,
}

/// Why the request of an execution that failed could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The execution's input names no request, so there is nothing to answer.
    #[error("event {event_id}: the input of {execution_arn} names no request: {cause}")]
    NoRequest {
        /// The event about the execution's end.
        event_id: String,
        execution_arn: String,
        /// What is wrong with the input.
        cause: String,
    },
    #[error(transparent)]
    Event(EventFailure),
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Self::Event(malformed.into())
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::Event(error.into())
    }
}

impl From<Failure> for Diagnostic {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoRequest { .. } => {
                Self { error_type: "NoRequest".into(), error_message: failure.to_string() }
            }
            Failure::Event(failure) => failure.into(),
        }
    }
}

/// Publishes the answer that the claim holds, or `DECLINED` (`evaluation_failed`) if it holds none, unless
/// the claim is marked as answered. If the event does not include the input, the function reads it from
/// Step Functions.
///
/// # Errors
/// When the event or the execution's input cannot be read, or a call fails. The event is delivered again,
/// and finally dead-lettered.
pub async fn handle(
    event: Value,
    executions: &impl Executions,
    claims: &impl Claims,
    answers: &impl Answers,
) -> Result<Outcome, Failure> {
    let Envelope { id: event_id, detail: ended, .. } = Envelope::<ExecutionStatusChange>::read(&event)?;
    let is_included = ended.input_details.and_then(|details| details.included) != Some(false);
    let input = match ended.input.filter(|_| is_included) {
        Some(input) => Some(input),
        None => executions.input(&ended.execution_arn).await?,
    };
    let request = request(input.as_deref()).map_err(|cause| Failure::NoRequest {
        event_id: event_id.clone(),
        execution_arn: ended.execution_arn.clone(),
        cause,
    })?;
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
        event_id,
        property_id = %request.property_id,
        approval_request_id = %request.id,
        execution_arn = ended.execution_arn,
        status = ended.status,
        ?outcome,
        "an execution ended badly"
    );
    Ok(outcome)
}

/// The request of an execution, or why its input names none.
fn request(input: Option<&str>) -> Result<Request, String> {
    let input = input.ok_or("Step Functions does not know the execution any more")?;
    let event: Value = serde_json::from_str(input).map_err(|cause| format!("it is not JSON: {cause}"))?;
    let event = Envelope::<RequestNames>::read(&event).map_err(|malformed| malformed.to_string())?;
    let id = match event.detail.approval_request_id {
        Some(id) => id,
        None => event.id.parse().map_err(|_| "its event has no id")?,
    };
    Ok(Request { id, property_id: event.detail.property_id })
}

#[cfg(test)]
mod tests {
    use lambda_kit::fixture::{Call, Fault};
    use serde_json::json;
    use vocabulary::EvaluationResult::{Approved, Declined};

    use super::*;
    use crate::tests::world::World;

    const ME: &str = "arn:aws:states:us-east-1:123456789012:execution:approval:me";

    fn input(detail: Value) -> String {
        let event = json!({
            "id": "event-1", "source": "unicorn-web", "detail-type": "PublicationApprovalRequested",
            "time": "2026-11-23T18:22:06Z", "detail": detail,
        });
        event.to_string()
    }

    fn ended(input: Option<String>) -> Value {
        json!({
            "id": "e-1", "source": "aws.states", "detail-type": "Step Functions Execution Status Change",
            "time": "2026-11-23T18:22:06Z",
            "detail": {
                "executionArn": ME, "status": "TIMED_OUT", "input": input,
                "inputDetails": { "included": input.is_some() },
            },
        })
    }

    fn names(id: Option<&str>) -> String {
        input(json!({ "property_id": "usa/anytown/main-street/111", "approval_request_id": id }))
    }

    async fn tell(world: &World, event: Value) -> Result<Outcome, Failure> {
        handle(event, world, world, world).await
    }

    async fn run(world: &World) -> Result<Outcome, Failure> {
        tell(world, ended(Some(names(Some("r-1"))))).await
    }

    /// A world that knows the input, and an event that does not tell it.
    fn left_out(input: impl Into<String>) -> (World, Value) {
        let world = World::default();
        world.inputs.borrow_mut().insert(ME.into(), input.into());
        (world, ended(None))
    }

    fn approved() -> Answer {
        Answer { evaluation_result: Approved, evaluation_reasons: vec![], ..Answer::evaluation_failed() }
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
        tell(&world, ended(Some(names(None)))).await.unwrap();
        let id = world.published.borrow()[0].approval_request_id.clone().unwrap();
        assert_eq!(id.as_str(), "event-1");
    }

    /// Step Functions leaves an input out that is too long for its event.
    #[tokio::test]
    async fn an_execution_whose_input_was_left_out_of_the_event_is_answered_too() {
        let (world, event) = left_out(names(Some("r-1")));
        world.claim("r-1", ME, None, false);
        assert_eq!(tell(&world, event).await.unwrap(), Outcome::AnsweredNow);
        assert_eq!(world.published.borrow()[0].approval_request_id, Some("r-1".parse().unwrap()));
        assert!(world.is_answered("r-1"));
    }

    #[tokio::test]
    async fn an_input_that_is_marked_as_left_out_is_asked_for_whatever_the_event_holds() {
        let (world, mut event) = left_out(names(Some("r-1")));
        event["detail"]["input"] = "".into();
        assert_eq!(tell(&world, event).await.unwrap(), Outcome::AnsweredNow);
    }

    #[tokio::test]
    async fn a_property_id_in_upper_case_is_the_same_property() {
        let world = World::default();
        let upper = json!({ "property_id": "USA/Anytown/Main-Street/111", "approval_request_id": "r-1" });
        tell(&world, ended(Some(input(upper)))).await.unwrap();
        assert_eq!(world.published.borrow()[0].property_id.as_str(), "usa/anytown/main-street/111");
    }

    #[tokio::test]
    async fn an_input_that_names_no_request_is_an_error_and_publishes_nothing() {
        let no_requests = [json!({}), json!({ "property_id": "nowhere" }), json!(null)];
        let inputs = no_requests.map(input).into_iter().chain(["[".repeat(100_000), "1".into()]);
        for input in inputs {
            for (world, event) in [left_out(&*input), (World::default(), ended(Some(input.clone())))] {
                let failure = tell(&world, event).await.unwrap_err();
                let text = failure.to_string();
                assert!(matches!(failure, Failure::NoRequest { .. }), "{text}");
                assert!(text.contains("e-1") && text.contains(ME) && text.len() < 1_500, "{text}");
                assert!(world.published.borrow().is_empty());
            }
        }
    }

    #[tokio::test]
    async fn an_execution_that_step_functions_does_not_know_any_more_is_an_error() {
        let failure = tell(&World::default(), ended(None)).await.unwrap_err();
        assert!(failure.to_string().contains("does not know the execution"), "{failure}");
        assert_eq!(lambda_runtime::Diagnostic::from(failure).error_type, "NoRequest");
    }

    #[tokio::test]
    async fn a_crash_at_any_call_is_mended_by_the_redelivery_with_the_same_answer() {
        for fault in Fault::BOTH {
            for call in 0..4 {
                let (world, event) = left_out(names(Some("r-1")));
                world.claim("r-1", ME, None, false);
                world.calls.fail(Call::Nth(call), fault);
                assert!(tell(&world, event.clone()).await.is_err(), "call {call} {fault:?}");
                tell(&world, event).await.unwrap();
                assert!(world.is_answered("r-1"));
                let published = world.published.borrow();
                assert!(!published.is_empty() && published.iter().all(|answer| *answer == published[0]));
            }
        }
    }
}
