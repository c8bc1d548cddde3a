//! The work of a state, one function per type; [`super::task`] and [`super::inner`] have Task and Map.

use serde_json::Value;

use super::{Exit, Machine, Step, in_state, limited};
use crate::states::asl::{Kind, Rule, State, Workflow};
use crate::states::tree::{Branches, Doing, Failure, Slot, Thread};

impl Machine<'_> {
    pub(super) fn attempt(&mut self, thread: &mut Thread, state: &State) -> Result<Step, Failure> {
        match &state.kind {
            Kind::Task(task) => self.schedule(thread, task),
            Kind::Choice { rules, default } => self.choose(thread, state, rules, default.as_deref()),
            Kind::Parallel { branches, arguments } => {
                self.start_parallel(thread, state, branches, arguments.as_ref())
            }
            Kind::Map(map) => self.start_map(thread, state, map),
            Kind::Pass | Kind::Succeed => self.leave_with_input(thread, state),
            Kind::WaitSeconds(template) => {
                let seconds = self.whole_number(thread, Some(template), "Seconds", 0)?.unwrap_or(0);
                self.wait_until(thread, state, self.env.now_ms + seconds * 1000)
            }
            Kind::WaitUntil(template) => {
                let due = self.timestamp(thread, template)?;
                self.wait_until(thread, state, due)
            }
            Kind::Fail { error, cause } => self.fail(thread, error.as_ref(), cause.as_ref()),
        }
    }

    fn choose(
        &mut self,
        thread: &mut Thread,
        state: &State,
        rules: &[Rule],
        default: Option<&str>,
    ) -> Result<Step, Failure> {
        let query = self.query(thread, None, None, None);
        for (index, rule) in rules.iter().enumerate() {
            let field = format!("Choices[{index}]/Condition");
            match self.rendered(thread, query.render(&rule.condition, &field))? {
                Value::Bool(false) => {}
                Value::Bool(true) => {
                    let (assign, output) = (&rule.assign, rule.output.as_ref());
                    let exit = Exit { assign, output, next: Some(&rule.next) };
                    return self.leave(thread, state, &query, exit, None);
                }
                other => {
                    let expected = ("boolean", "a boolean");
                    return Err(self.not_a(thread, &field, Some(&rule.condition), expected, &other));
                }
            }
        }
        if default.is_none() {
            // A runtime error, which nothing catches.
            // https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
            let cause = "Failed to transition out of the state. The state does not point to a next state.";
            return Err(Failure::runtime(&in_state(thread, cause)));
        }
        self.leave(thread, state, &query, Exit { next: default, ..Exit::of(state) }, None)
    }

    fn start_parallel(
        &mut self,
        thread: &mut Thread,
        state: &State,
        branches: &[Workflow],
        arguments: Option<&Value>,
    ) -> Result<Step, Failure> {
        let input = match arguments {
            Some(template) => self.value(thread, template, "Arguments")?,
            None => thread.input.clone(),
        };
        limited(&thread.state, &input)?;
        self.event(thread, "ParallelStateStarted", Value::Null);
        let slots = branches.iter().map(|_| Slot::Waiting(input.clone(), thread.map_item.clone()));
        thread.doing = Doing::Branches(Branches { slots: slots.collect(), limit: usize::MAX });
        Ok(self.progress(thread, state))
    }

    fn timestamp(&mut self, thread: &mut Thread, template: &Value) -> Result<i64, Failure> {
        let value = self.value(thread, template, "Timestamp")?;
        match value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) {
            Some(moment) => Ok(moment.as_millisecond()),
            None => {
                let expected = ("string", "an RFC 3339 timestamp");
                Err(self.not_a(thread, "Timestamp", Some(template), expected, &value))
            }
        }
    }

    fn wait_until(&mut self, thread: &mut Thread, state: &State, due: i64) -> Result<Step, Failure> {
        if due <= self.env.now_ms {
            return self.leave_with_input(thread, state);
        }
        thread.doing = Doing::Wait { due };
        Ok(Step::Blocked)
    }

    fn fail(
        &mut self,
        thread: &mut Thread,
        error: Option<&Value>,
        cause: Option<&Value>,
    ) -> Result<Step, Failure> {
        let mut text = |template: Option<&Value>, field: &str| {
            let Some(template) = template else { return Ok(None) };
            match self.value(thread, template, field)? {
                Value::String(text) => Ok(Some(text)),
                other => Err(self.not_a(thread, field, Some(template), ("string", "a string"), &other)),
            }
        };
        let failure = Failure { error: text(error, "Error")?, cause: text(cause, "Cause")? };
        Ok(Step::Ended(Err(failure)))
    }
}
