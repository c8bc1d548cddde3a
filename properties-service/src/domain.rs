//! The rules of waiting and answering: which status ends the wait for a contract, which event is news to an
//! execution, and the answer for an execution that failed. No clock, no I/O, no randomness.

use std::fmt;

use events::{ContractStatusChanged, PublicationEvaluationCompleted};
use serde::{Deserialize, Serialize};
use vocabulary::{
    ApprovalRequestId, ContractStatus, ContractVersion, EvaluationReason, EvaluationResult, PropertyId,
    Timestamp,
};

/// The task token of a waiting task. `Debug` hides it: whoever reads it in a log could answer the task.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskToken(String);

impl TaskToken {
    /// The token itself, for Step Functions and the waiting room only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for TaskToken {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for TaskToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskToken(hidden)")
    }
}

/// The state of the contract that an execution has read. It has no status: somebody would take the old
/// status for the current one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// `None` if the event of that state had no version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_version: Option<ContractVersion>,
    /// When the contract got into that state.
    pub contract_last_modified_on: Timestamp,
}

/// One execution that waits for the contract of one property.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The property whose contract it waits for.
    pub property_id: PropertyId,
    /// The execution that waits.
    pub execution_arn: String,
    /// The token to answer it with.
    pub task_token: TaskToken,
    /// The state of the contract that it read before it began to wait.
    pub seen: Seen,
}

/// The answer to a waiting execution: the output of its task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wake {
    /// `APPROVED`, or one of the statuses of an ended contract.
    pub contract_status: ContractStatus,
    /// The version that the answer relies on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_version: Option<ContractVersion>,
    /// When the contract got into the state that the answer relies on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_last_modified_on: Option<Timestamp>,
}

impl Wake {
    /// The answer that this state of the contract gives, if it is approved or ended. A draft does not end
    /// the wait.
    pub fn from_contract(contract: &ContractStatusChanged) -> Option<Self> {
        let settled =
            contract.contract_status == ContractStatus::Approved || contract.contract_status.is_ended();
        settled.then_some(Self {
            contract_status: contract.contract_status,
            contract_version: contract.contract_version,
            contract_last_modified_on: Some(contract.contract_last_modified_on),
        })
    }
}

/// The answer that `news` gives to a waiting execution. News that is not newer than what it has seen gives
/// none: a late event of the previous contract does not end the wait for the new one.
pub fn wake(waiting: &Waiting, news: &ContractStatusChanged) -> Option<Wake> {
    let seen = ContractStatusChanged {
        contract_version: waiting.seen.contract_version,
        contract_last_modified_on: waiting.seen.contract_last_modified_on,
        ..news.clone()
    };
    if news.is_newer_than(&seen) { Wake::from_contract(news) } else { None }
}

/// One request for approval, as the workflow claims it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The request's own id, or the id of its event.
    pub id: ApprovalRequestId,
    /// The property of the listing.
    pub property_id: PropertyId,
}

/// The answer to a request. It is stored with the claim before it is published, so every repetition
/// publishes the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether the listing may be published.
    pub evaluation_result: EvaluationResult,
    /// Why it was declined.
    #[serde(default, deserialize_with = "events::null_as_none")]
    pub evaluation_reasons: Vec<EvaluationReason>,
    /// The version of the contract that it relies on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_version: Option<ContractVersion>,
    /// When the contract got into the state that it relies on. `None` in answers that were stored before
    /// this field existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_last_modified_on: Option<Timestamp>,
}

impl Answer {
    /// The answer for an execution that failed before it had one.
    pub fn evaluation_failed() -> Self {
        Self {
            evaluation_result: EvaluationResult::Declined,
            evaluation_reasons: vec![EvaluationReason::EvaluationFailed],
            contract_version: None,
            contract_last_modified_on: None,
        }
    }

    /// The event that carries this answer to `request`.
    pub fn to_event(&self, request: &Request) -> PublicationEvaluationCompleted {
        PublicationEvaluationCompleted {
            property_id: request.property_id.clone(),
            evaluation_result: self.evaluation_result,
            approval_request_id: Some(request.id.clone()),
            evaluation_reasons: self.evaluation_reasons.clone(),
            contract_version: self.contract_version,
            contract_last_modified_on: self.contract_last_modified_on,
        }
    }
}

/// The claim on a request, with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledClaim {
    /// The one answer that this request gets.
    pub answer: Answer,
    /// Whether the answer is marked as published.
    pub answered: bool,
}

#[cfg(test)]
pub(crate) mod tests {
    use ContractStatus::{Approved, Cancelled, Closed, Draft, Expired};

    use super::*;

    pub(crate) fn property() -> PropertyId {
        "usa/anytown/main-street/111".parse().unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(1_795_458_126_000 + second * 1_000).unwrap()
    }

    /// A contract whose time is that of its version, as contracts publish them.
    pub(crate) fn contract(status: ContractStatus, version: u64) -> ContractStatusChanged {
        ContractStatusChanged {
            property_id: property(),
            contract_id: "b5c1f3c4".into(),
            contract_status: status,
            contract_last_modified_on: at(version.cast_signed()),
            contract_version: Some(ContractVersion(version)),
        }
    }

    pub(crate) fn waiting(token: &str, seen: u64) -> Waiting {
        Waiting {
            property_id: property(),
            execution_arn: format!("arn:aws:states:::execution:{token}"),
            task_token: token.into(),
            seen: Seen {
                contract_version: Some(ContractVersion(seen)),
                contract_last_modified_on: at(seen.cast_signed()),
            },
        }
    }

    #[test]
    fn an_approved_and_an_ended_contract_end_the_wait_and_a_draft_does_not() {
        assert_eq!(Wake::from_contract(&contract(Draft, 1)), None);
        for status in [Approved, Cancelled, Closed, Expired] {
            let wake = Wake::from_contract(&contract(status, 2)).unwrap();
            assert_eq!((wake.contract_status, wake.contract_version), (status, Some(ContractVersion(2))));
            assert_eq!(wake.contract_last_modified_on, Some(at(2)), "the time of the state relied on");
        }
    }

    #[test]
    fn the_end_of_the_previous_contract_told_late_does_not_end_the_wait_for_the_new_one() {
        let waiting = waiting("t", 4);
        assert_eq!(wake(&waiting, &contract(Cancelled, 3)), None);
        assert_eq!(wake(&waiting, &contract(Approved, 4)), None, "what it has seen is not news");
        assert!(wake(&waiting, &contract(Approved, 5)).is_some());
    }

    #[test]
    fn where_one_of_two_has_no_version_the_time_orders_them() {
        let mut waiting = waiting("t", 4);
        waiting.seen.contract_version = None;
        assert_eq!(wake(&waiting, &contract(Approved, 4)), None);
        assert!(wake(&waiting, &contract(Approved, 5)).is_some());
    }

    /// Known fault 30: task tokens were logged.
    #[test]
    fn a_task_token_cannot_be_logged_by_accident() {
        assert!(!format!("{:?}", waiting("secret-token", 1)).contains("\"secret-token\""));
        assert_eq!(format!("{:?}", TaskToken::from("secret")), "TaskToken(hidden)");
    }

    #[test]
    fn the_answer_and_its_event_tell_the_time_of_the_contract_relied_on() {
        let stored = serde_json::json!({
            "evaluation_result": "APPROVED", "evaluation_reasons": null, "contract_version": 3,
            "contract_last_modified_on": "2026-11-23T18:22:06.123Z",
        });
        let answer: Answer = serde_json::from_value(stored).unwrap();
        let request = Request { id: "r-1".parse().unwrap(), property_id: property() };
        let event = serde_json::to_value(answer.to_event(&request)).unwrap();
        assert_eq!(event["contract_last_modified_on"], "2026-11-23T18:22:06.123Z");
        let old = serde_json::json!({ "evaluation_result": "APPROVED" });
        assert_eq!(serde_json::from_value::<Answer>(old).unwrap().contract_last_modified_on, None);
    }

    #[test]
    fn a_dead_execution_is_answered_with_declined_evaluation_failed() {
        let request = Request { id: "r-1".parse().unwrap(), property_id: property() };
        assert_eq!(
            serde_json::to_value(Answer::evaluation_failed().to_event(&request)).unwrap(),
            serde_json::json!({
                "property_id": "usa/anytown/main-street/111",
                "evaluation_result": "DECLINED",
                "approval_request_id": "r-1",
                "evaluation_reasons": ["evaluation_failed"],
            })
        );
    }
}
