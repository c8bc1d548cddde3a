//! The rules of waiting and answering: what ends the wait for a contract, what news is new
//! to an execution, what is answered for one that died. No clock, no I/O, no randomness.

use std::fmt;

use events::{ContractStatusChanged, PublicationEvaluationCompleted};
use serde::{Deserialize, Serialize};
use vocabulary::{
    ApprovalRequestId, ContractStatus, ContractVersion, EvaluationReason, EvaluationResult, PropertyId,
    Timestamp,
};

/// What proves to Step Functions that an answer is for this waiting task. Its `Debug` hides
/// it: whoever reads it in a log could answer for the contract.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskToken(String);

impl TaskToken {
    /// The secret itself, for Step Functions and the waiting room only.
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

/// Which state of the contract an execution has looked at. It has no status: a waiting room
/// full of old statuses would sooner or later be read as the truth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Absent where the event that told of it had none.
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
    /// Who waits.
    pub execution_arn: String,
    /// How it is answered.
    pub task_token: TaskToken,
    /// What it knew of the contract before it began to wait.
    pub seen: Seen,
}

/// What a waiting execution is told: the output of its task.
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
    /// The end of the wait that this state of the contract brings: approved or over. A draft
    /// brings none.
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

/// What `news` means to an execution that waits. Older news than it has seen means nothing:
/// the end of the previous contract, told late, does not end the wait for the new one.
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
    /// The request's own id, or its event's.
    pub id: ApprovalRequestId,
    /// The property whose listing is to be published.
    pub property_id: PropertyId,
}

/// The answer as it is stored with the claim before it is published, so that whoever
/// publishes it again publishes the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// May the listing be published?
    pub evaluation_result: EvaluationResult,
    /// Why not.
    #[serde(default, deserialize_with = "events::null_as_none")]
    pub evaluation_reasons: Vec<EvaluationReason>,
    /// The version of the contract that it relies on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_version: Option<ContractVersion>,
    /// When the contract got into the state that it relies on; absent in answers that were stored
    /// before there was this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_last_modified_on: Option<Timestamp>,
}

impl Answer {
    /// What is answered for an execution that died before it knew better.
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

/// The claim on a request, once it holds an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledClaim {
    /// The one answer that this request gets.
    pub answer: Answer,
    /// Whether it is known to be published.
    pub answered: bool,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ContractStatus::{Approved, Cancelled, Closed, Draft, Expired};

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
