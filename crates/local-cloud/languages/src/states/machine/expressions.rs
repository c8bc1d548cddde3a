//! The values that the expressions of a state see, and the errors that they end in.

use cloud_core::clock::rfc3339;
use serde_json::{Value, json};

use super::{Machine, in_state};
use crate::states::query::{Query, QueryError, expression};
use crate::states::tree::{Failure, Thread};

impl Machine<'_> {
    pub(super) fn query(
        &self,
        thread: &Thread,
        result: Option<&Value>,
        error_output: Option<&Value>,
        token: Option<&str>,
    ) -> Query {
        let mut states = json!({"input": thread.input, "context": self.context(thread, token)});
        if let Some(result) = result {
            states["result"] = result.clone();
        }
        if let Some(error_output) = error_output {
            states["errorOutput"] = error_output.clone();
        }
        Query::new(states, &thread.variables, self.env.now_ms, self.env.random.below(u64::MAX))
    }

    /// <https://docs.aws.amazon.com/step-functions/latest/dg/input-output-contextobject.html>
    pub(super) fn context(&self, thread: &Thread, token: Option<&str>) -> Value {
        let meta = &self.meta;
        let mut context = json!({
            "Execution": {
                "Id": meta.arn,
                "Input": serde_json::from_str::<Value>(&meta.input).unwrap_or(Value::Null),
                "Name": meta.name,
                "RoleArn": meta.role_arn,
                "StartTime": rfc3339(meta.started_ms),
                "RedriveCount": 0,
            },
            "State": {
                "EnteredTime": rfc3339(thread.entered_ms),
                "Name": thread.state,
            },
            "StateMachine": {"Id": meta.machine_arn, "Name": meta.machine_name},
        });
        if thread.can_retry {
            context["State"]["RetryCount"] = thread.retries.iter().sum::<u64>().into();
        }
        if let Some(token) = token {
            context["Task"] = json!({"Token": token});
        }
        if let Some(item) = &thread.map_item {
            context["Map"] = item.clone();
        }
        context
    }

    /// The value of a template outside of a result, an error and a task token.
    pub(super) fn value(
        &mut self,
        thread: &mut Thread,
        template: &Value,
        field: &str,
    ) -> Result<Value, Failure> {
        let query = self.query(thread, None, None, None);
        self.rendered(thread, query.render(template, field))
    }

    /// The value, or `States.QueryEvaluationError` and its history event.
    pub(super) fn rendered<T>(
        &mut self,
        thread: &mut Thread,
        value: Result<T, QueryError>,
    ) -> Result<T, Failure> {
        value.map_err(|error| self.evaluation_failed(thread, &error))
    }

    fn evaluation_failed(&mut self, thread: &mut Thread, error: &QueryError) -> Failure {
        let failure = Failure::new("States.QueryEvaluationError", &in_state(thread, &error.message));
        let details = json!({
            "error": failure.error,
            "cause": failure.cause,
            "location": error.location,
            "state": thread.state,
        });
        self.event(thread, "EvaluationFailed", details);
        failure
    }

    /// The failure of a template whose value does not fit its field; `kind` is the JSON type that fits,
    /// `expected` a full description.
    pub(super) fn not_a(
        &mut self,
        thread: &mut Thread,
        field: &str,
        template: Option<&Value>,
        (kind, expected): (&str, &str),
        found: &Value,
    ) -> Failure {
        let message = match template.and_then(Value::as_str).and_then(expression) {
            Some(source) if type_of(found) != kind => format!(
                "The JSONata expression '{source}' specified for the field '{field}' returned an unexpected result type. Expected '{kind}', but was '{}' for value: {found}",
                type_of(found)
            ),
            _ => format!("The value of the field '{field}' must be {expected}, and is {found}."),
        };
        self.evaluation_failed(thread, &QueryError { location: field.into(), message })
    }

    pub(super) fn whole_number(
        &mut self,
        thread: &mut Thread,
        template: Option<&Value>,
        field: &str,
        least: i64,
    ) -> Result<Option<i64>, Failure> {
        /// AWS takes no larger number of seconds or iterations; it is also far from any overflow.
        const MAX: i64 = 99_999_999;
        let Some(template) = template else { return Ok(None) };
        let value = self.value(thread, template, field)?;
        match value.as_i64().filter(|number| (least..=MAX).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let expected = format!("a whole number from {least} to {MAX}");
                Err(self.not_a(thread, field, Some(template), ("number", &expected), &value))
            }
        }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
