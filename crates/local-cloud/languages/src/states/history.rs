//! Execution history events, in the types and details of AWS's API reference
//! (<https://docs.aws.amazon.com/step-functions/latest/apireference/API_HistoryEvent.html>),
//! and their form in CloudWatch Logs.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryEvent {
    /// From 1, without gaps.
    pub id: u64,
    /// The event before it in the same thread; 0 for the first.
    pub previous: u64,
    pub at_ms: i64,
    /// For example `TaskStateEntered`.
    pub kind: String,
    /// The members of its details; null where the type has none.
    pub details: Value,
}

/// The members with execution data; `includeExecutionData: false` leaves them out.
#[rustfmt::skip]
const EXECUTION_DATA: [&str; 7] = [
    "input", "inputDetails", "output", "outputDetails", "parameters", "assignedVariables", "assignedVariablesDetails",
];

/// Milliseconds as seconds with a fraction, as AWS JSON 1.0 writes a timestamp.
pub fn seconds(at_ms: i64) -> f64 {
    at_ms as f64 / 1000.0
}

impl HistoryEvent {
    /// As `GetExecutionHistory` gives it.
    pub fn api(&self, with_data: bool) -> Value {
        let mut event = json!({
            "timestamp": seconds(self.at_ms),
            "type": self.kind,
            "id": self.id,
            "previousEventId": self.previous,
        });
        if !self.details.is_null() {
            event[self.details_name()] = self.details(with_data);
        }
        event
    }

    /// As Step Functions logs it.
    /// <https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html>
    pub fn log_line(&self, execution_arn: &str, with_data: bool) -> String {
        json!({
            "id": self.id.to_string(),
            "type": self.kind,
            "details": if self.details.is_null() { json!({}) } else { self.details(with_data) },
            "previous_event_id": self.previous.to_string(),
            "event_timestamp": self.at_ms.to_string(),
            "execution_arn": execution_arn,
            "redrive_count": "0",
        })
        .to_string()
    }

    /// Whether a log level writes this event.
    /// <https://docs.aws.amazon.com/step-functions/latest/dg/cloudwatch-log-level.html>
    pub fn is_logged_at(&self, level: &str) -> bool {
        let fatal =
            ["ExecutionAborted", "ExecutionFailed", "ExecutionTimedOut"].contains(&self.kind.as_str());
        let error = fatal
            || self.kind == "FailStateEntered"
            || ["Failed", "TimedOut", "Aborted"].iter().any(|end| self.kind.ends_with(end));
        match level {
            "ALL" => true,
            "ERROR" => error,
            "FATAL" => fatal,
            _ => false,
        }
    }

    fn details(&self, with_data: bool) -> Value {
        let mut details = self.details.clone();
        if !with_data && let Some(members) = details.as_object_mut() {
            members.retain(|name, _| !EXECUTION_DATA.contains(&name.as_str()));
        }
        details
    }

    fn details_name(&self) -> String {
        match &self.kind {
            kind if kind.ends_with("StateEntered") => "stateEnteredEventDetails".into(),
            kind if kind.ends_with("StateExited") => "stateExitedEventDetails".into(),
            kind => {
                let (first, rest) = kind.split_at(1);
                format!("{}{rest}EventDetails", first.to_lowercase())
            }
        }
    }
}

/// Variables as `assignedVariables` shows them: each value as text.
pub fn assigned(variables: &Map<String, Value>) -> Value {
    variables.iter().map(|(name, value)| (name.clone(), Value::String(value.to_string()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, details: Value) -> HistoryEvent {
        HistoryEvent { id: 2, previous: 1, at_ms: 1_500, kind: kind.into(), details }
    }

    #[test]
    fn details_stand_under_the_name_that_the_api_gives_them() {
        let entered = event("WaitStateEntered", json!({"name": "W", "input": "{}"}));
        assert_eq!(
            entered.api(true),
            json!({
                "timestamp": 1.5, "type": "WaitStateEntered", "id": 2, "previousEventId": 1,
                "stateEnteredEventDetails": {"name": "W", "input": "{}"},
            })
        );
        assert_eq!(entered.api(false)["stateEnteredEventDetails"], json!({"name": "W"}));
        let submitted = event("TaskSubmitted", json!({"resource": "invoke"}));
        assert!(submitted.api(true).get("taskSubmittedEventDetails").is_some());
        assert_eq!(event("ParallelStateStarted", Value::Null).api(true).as_object().unwrap().len(), 4);
    }

    #[test]
    fn a_log_level_writes_only_its_events() {
        let at = |level| {
            ["TaskScheduled", "TaskFailed", "FailStateEntered", "ExecutionFailed"]
                .map(|kind| event(kind, Value::Null).is_logged_at(level))
        };
        assert_eq!(at("ALL"), [true; 4]);
        assert_eq!(at("ERROR"), [false, true, true, true]);
        assert_eq!(at("FATAL"), [false, false, false, true]);
        assert_eq!(at("OFF"), [false; 4]);
    }
}
