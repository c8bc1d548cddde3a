//! The step function of an execution: given a definition, an execution and one stimulus, it
//! gives the execution's next tree, the history events and the requests to send. It does no
//! I/O; time and randomness are handed in. What it does not finish in one step waits in the
//! tree, so a step that was committed is never lost and one that was not never happened.

mod expressions;
mod inner;
mod task;

use serde_json::{Map, Value, json};

pub use expressions::rfc3339;

use cloud_core::random::Random;

use super::asl::{Catcher, Definition, Jitter, Kind, State, Workflow};
use super::history::{HistoryEvent, assigned};
use super::query::Query;
use super::tree::{
    Branches, Doing, Execution, Failure, HEARTBEAT_TIMEOUT, Meta, Slot, Status, Thread, earliest,
};

/// Input, output, arguments and results: 256 KiB of JSON.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>
pub const PAYLOAD_LIMIT: usize = 262_144;

/// Events in the history of a Standard execution.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>
pub const HISTORY_LIMIT: u64 = 25_000;

/// Seconds; no retry is later, however often the interval was multiplied. AWS takes no
/// `MaxDelaySeconds` above it.
const LONGEST_DELAY: f64 = 31_622_400.0;

/// What a step is given beside the execution.
pub struct Env<'a> {
    /// Milliseconds since the epoch.
    pub now_ms: i64,
    /// Tokens, jitter, `$uuid`.
    pub random: &'a Random,
    /// For `TaskScheduled`.
    pub region: &'a str,
}

/// What happened to an execution.
#[derive(Debug, Clone)]
pub enum Stimulus {
    /// It was created.
    Start,
    /// Something of it may be due.
    Tick,
    /// The request of an attempt was answered.
    Answered(u64, Result<Value, Failure>),
    /// A task token came back.
    Token(String, Result<Value, Failure>),
    /// The holder of a task token is alive.
    Heartbeat(String),
    /// `StopExecution`.
    Abort(Failure),
}

/// What a step wants done once it is committed.
#[derive(Debug, Default)]
pub struct Effects {
    /// New history events.
    pub events: Vec<HistoryEvent>,
    /// Requests to send: attempt, resource, arguments.
    pub requests: Vec<(u64, String, Value)>,
    /// New task tokens.
    pub tokens: Vec<String>,
    /// The execution began or ended.
    pub status_changed: bool,
    /// Something waited for the stimulus.
    pub taken: bool,
}

/// Does one step. What was due before the stimulus came happens first: a token that comes
/// back too late finds its task timed out, even where no timer could run in between.
pub fn advance(
    definition: &Definition,
    execution: &mut Execution,
    stimulus: &Stimulus,
    env: &Env<'_>,
) -> Effects {
    let late = due(execution).is_some_and(|due| due <= env.now_ms);
    if !late || matches!(stimulus, Stimulus::Start | Stimulus::Tick) {
        return step(definition, execution, stimulus, env);
    }
    let mut effects = step(definition, execution, &Stimulus::Tick, env);
    let then = step(definition, execution, stimulus, env);
    effects.events.extend(then.events);
    effects.requests.extend(then.requests);
    effects.tokens.extend(then.tokens);
    effects.status_changed |= then.status_changed;
    effects.taken = then.taken;
    effects
}

fn step(definition: &Definition, execution: &mut Execution, stimulus: &Stimulus, env: &Env<'_>) -> Effects {
    let mut machine = Machine { meta: &mut execution.meta, env, effects: Effects::default() };
    if machine.meta.status != Status::Running {
        return machine.effects;
    }
    let overdue = machine.meta.timeout_due.is_some_and(|due| due <= env.now_ms);
    let flow = match stimulus {
        Stimulus::Abort(failure) => {
            machine.effects.taken = true;
            machine.end(Status::Aborted, 0, None, Some(failure.clone()));
            execution.root = None;
            return machine.effects;
        }
        Stimulus::Tick if overdue => {
            machine.effects.taken = true;
            // AWS gives it neither an error nor a cause.
            machine.end(Status::TimedOut, 0, None, None);
            execution.root = None;
            return machine.effects;
        }
        Stimulus::Start => {
            let (thread, flow) = machine.begin(definition);
            execution.root = Some(thread);
            flow
        }
        stimulus => match &mut execution.root {
            Some(thread) => machine.deliver(&definition.workflow, thread, stimulus),
            None => Flow::Running,
        },
    };
    if let Flow::Ended(outcome) = flow {
        let previous = execution.root.take().map_or(0, |thread| thread.last_event);
        match outcome {
            Ok(output) => machine.end(Status::Succeeded, previous, Some(output.to_string()), None),
            Err(failure) => machine.end(Status::Failed, previous, None, Some(failure)),
        }
    }
    machine.effects
}

/// When the execution must be looked at next; milliseconds since the epoch.
pub fn due(execution: &Execution) -> Option<i64> {
    earliest(execution.meta.timeout_due, execution.root.as_ref().and_then(Thread::due))
}

enum Flow {
    Running,
    Ended(Result<Value, Failure>),
}

enum Step {
    /// Enter a state with an input.
    Enter(String, Value),
    /// Do what the current state does, for the first time or again.
    Attempt,
    /// The current Task, Parallel or Map has its result.
    Result(Value),
    /// The current state failed.
    Failed(Failure),
    /// Wait for a stimulus.
    Blocked,
    /// The thread is done.
    Ended(Result<Value, Failure>),
}

struct Machine<'a> {
    meta: &'a mut Meta,
    env: &'a Env<'a>,
    effects: Effects,
}

impl Machine<'_> {
    fn begin(&mut self, definition: &Definition) -> (Thread, Flow) {
        self.effects.taken = true;
        self.effects.status_changed = true;
        let mut thread = Thread::new(Map::new(), None, 0);
        let details = json!({
            "input": self.meta.input,
            "inputDetails": {"truncated": false},
            "roleArn": self.meta.role_arn,
        });
        self.aside(0, "ExecutionStarted", details);
        self.meta.timeout_due =
            definition.timeout_seconds.map(|seconds| self.env.now_ms + seconds as i64 * 1000);
        let input = serde_json::from_str(&self.meta.input).unwrap_or(Value::Null);
        let first = Step::Enter(definition.workflow.start_at.clone(), input);
        let flow = self.run(&definition.workflow, &mut thread, first);
        (thread, flow)
    }

    /// `previous` is the event that led to the end: 0 for one that came from outside.
    fn end(&mut self, status: Status, previous: u64, output: Option<String>, failure: Option<Failure>) {
        let failure = failure.map(Failure::shown);
        let kind = match status {
            Status::Running => return,
            Status::Succeeded => "ExecutionSucceeded",
            Status::Failed => "ExecutionFailed",
            Status::TimedOut => "ExecutionTimedOut",
            Status::Aborted => "ExecutionAborted",
        };
        let details = match (&output, &failure) {
            (Some(output), _) => json!({"output": output, "outputDetails": {"truncated": false}}),
            (_, failure) => failure_details(Map::new(), failure.as_ref()),
        };
        self.aside(previous, kind, details);
        self.effects.status_changed = true;
        self.meta.status = status;
        self.meta.stopped_ms = Some(self.env.now_ms);
        self.meta.timeout_due = None;
        self.meta.output = output;
        self.meta.failure = failure;
    }

    fn event(&mut self, thread: &mut Thread, kind: &str, details: Value) {
        thread.last_event = self.aside(thread.last_event, kind, details);
    }

    /// An event that none of its thread's later ones points back to.
    fn aside(&mut self, previous: u64, kind: &str, details: Value) -> u64 {
        self.meta.last_event += 1;
        let id = self.meta.last_event;
        let kind = kind.into();
        self.effects.events.push(HistoryEvent { id, previous, at_ms: self.env.now_ms, kind, details });
        id
    }

    // --- Running a thread until it blocks or ends.

    fn run(&mut self, workflow: &Workflow, thread: &mut Thread, mut step: Step) -> Flow {
        loop {
            if self.meta.last_event >= HISTORY_LIMIT - 1 {
                let cause =
                    format!("The execution reached the maximum number of history events ({HISTORY_LIMIT}).");
                return Flow::Ended(Err(Failure::runtime(&cause)));
            }
            let state = |name: &str| workflow.states.get(name);
            step = match step {
                Step::Blocked => return Flow::Running,
                Step::Ended(outcome) => return Flow::Ended(outcome),
                Step::Enter(name, input) => match state(&name) {
                    Some(state) => self.enter(thread, name, state, input),
                    None => Step::Ended(Err(Failure::runtime(&format!("There is no state '{name}'.")))),
                },
                other => match state(&thread.state) {
                    Some(state) => match other {
                        Step::Result(result) => {
                            self.leave_with_result(thread, state, result).unwrap_or_else(Step::Failed)
                        }
                        Step::Failed(failure) => self.recover(thread, state, failure),
                        _ => self.attempt(thread, state).unwrap_or_else(Step::Failed),
                    },
                    None => Step::Ended(Err(Failure::runtime("The state does not exist."))),
                },
            };
        }
    }

    fn enter(&mut self, thread: &mut Thread, name: String, state: &State, input: Value) -> Step {
        thread.state = name;
        thread.input = input;
        thread.entered_ms = self.env.now_ms;
        thread.can_retry = matches!(state.kind, Kind::Task(_) | Kind::Parallel { .. } | Kind::Map(_));
        thread.retries = vec![0; state.retry.len()];
        thread.doing = Doing::Starting;
        let details = json!({
            "name": thread.state,
            "input": thread.input.to_string(),
            "inputDetails": {"truncated": false},
        });
        self.event(thread, &format!("{}StateEntered", state.type_name()), details);
        thread.entered_event = thread.last_event;
        Step::Attempt
    }

    fn attempt(&mut self, thread: &mut Thread, state: &State) -> Result<Step, Failure> {
        match &state.kind {
            Kind::Task(task) => self.schedule(thread, task),
            Kind::Choice { rules, default } => {
                let query = self.query(thread, None, None, None);
                for (index, rule) in rules.iter().enumerate() {
                    let field = format!("Choices[{index}]/Condition");
                    match self.rendered(thread, query.render(&rule.condition, &field))? {
                        Value::Bool(false) => {}
                        Value::Bool(true) => {
                            let output = rule.output.as_ref();
                            return self.leave(
                                thread,
                                state,
                                &query,
                                &rule.assign,
                                output,
                                None,
                                Some(&rule.next),
                            );
                        }
                        other => {
                            let expected = ("boolean", "a boolean");
                            return Err(self.not_a(thread, &field, Some(&rule.condition), expected, &other));
                        }
                    }
                }
                match default {
                    Some(next) => self.leave(
                        thread,
                        state,
                        &query,
                        &state.assign,
                        state.output.as_ref(),
                        None,
                        Some(next),
                    ),
                    // Reported as a runtime error, which nothing catches.
                    // https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
                    None => Err(Failure::runtime(&in_state(
                        thread,
                        "Failed to transition out of the state. The state does not point to a next state.",
                    ))),
                }
            }
            Kind::Parallel { branches, arguments } => {
                let input = match arguments {
                    Some(template) => {
                        let query = self.query(thread, None, None, None);
                        self.rendered(thread, query.render(template, "Arguments"))?
                    }
                    None => thread.input.clone(),
                };
                limited(&thread.state, &input)?;
                self.event(thread, "ParallelStateStarted", Value::Null);
                let slots = branches.iter().map(|_| Slot::Waiting(input.clone(), thread.map_item.clone()));
                thread.doing = Doing::Branches(Branches { slots: slots.collect(), limit: usize::MAX });
                Ok(self.progress(thread, state))
            }
            Kind::Map(map) => self.start_map(thread, state, map),
            Kind::Pass => {
                let query = self.query(thread, None, None, None);
                self.leave(
                    thread,
                    state,
                    &query,
                    &state.assign,
                    state.output.as_ref(),
                    None,
                    state.next.as_deref(),
                )
            }
            Kind::WaitSeconds(template) => {
                let seconds = self.whole_number(thread, Some(template), "Seconds", 0)?.unwrap_or(0);
                self.wait_until(thread, state, self.env.now_ms + seconds * 1000)
            }
            Kind::WaitUntil(template) => {
                let query = self.query(thread, None, None, None);
                let value = self.rendered(thread, query.render(template, "Timestamp"))?;
                match value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) {
                    Some(moment) => self.wait_until(thread, state, moment.as_millisecond()),
                    None => {
                        let expected = ("string", "an RFC 3339 timestamp");
                        Err(self.not_a(thread, "Timestamp", Some(template), expected, &value))
                    }
                }
            }
            Kind::Succeed => {
                let query = self.query(thread, None, None, None);
                self.leave(thread, state, &query, &state.assign, state.output.as_ref(), None, None)
            }
            Kind::Fail { error, cause } => {
                let query = self.query(thread, None, None, None);
                let mut text = |template: &Option<Value>, field: &str| match template {
                    None => Ok(None),
                    Some(template) => match self.rendered(thread, query.render(template, field))? {
                        Value::String(text) => Ok(Some(text)),
                        other => {
                            Err(self.not_a(thread, field, Some(template), ("string", "a string"), &other))
                        }
                    },
                };
                let failure = Failure { error: text(error, "Error")?, cause: text(cause, "Cause")? };
                Ok(Step::Ended(Err(failure)))
            }
        }
    }

    fn wait_until(&mut self, thread: &mut Thread, state: &State, due: i64) -> Result<Step, Failure> {
        if due <= self.env.now_ms {
            return self.waited(thread, state);
        }
        thread.doing = Doing::Wait { due };
        Ok(Step::Blocked)
    }

    fn waited(&mut self, thread: &mut Thread, state: &State) -> Result<Step, Failure> {
        let query = self.query(thread, None, None, None);
        self.leave(thread, state, &query, &state.assign, state.output.as_ref(), None, state.next.as_deref())
    }

    // --- A stimulus finds whoever waits for it.

    fn deliver(&mut self, workflow: &Workflow, thread: &mut Thread, stimulus: &Stimulus) -> Flow {
        let Some(state) = workflow.states.get(&thread.state) else { return Flow::Running };
        let now_ms = self.env.now_ms;
        let step = match (&thread.doing, &state.kind) {
            (Doing::Task(_), Kind::Task(task)) => {
                self.deliver_to_task(thread, task, stimulus).unwrap_or(Step::Blocked)
            }
            (Doing::Retry { due }, _) if matches!(stimulus, Stimulus::Tick) && *due <= now_ms => {
                Step::Attempt
            }
            (Doing::Wait { due }, _) if matches!(stimulus, Stimulus::Tick) && *due <= now_ms => {
                self.waited(thread, state).unwrap_or_else(Step::Failed)
            }
            (Doing::Branches(_), _) => self.deliver_inner(thread, state, stimulus),
            _ => Step::Blocked,
        };
        self.run(workflow, thread, step)
    }

    // --- Leaving a state.

    fn leave_with_result(
        &mut self,
        thread: &mut Thread,
        state: &State,
        result: Value,
    ) -> Result<Step, Failure> {
        let query = self.query(thread, Some(&result), None, None);
        let next = state.next.as_deref();
        self.leave(thread, state, &query, &state.assign, state.output.as_ref(), Some(result), next)
    }

    /// Evaluates `Assign` and `Output`, both with the variables as they were on entry.
    /// <https://docs.aws.amazon.com/step-functions/latest/dg/workflow-variables.html>
    #[expect(clippy::too_many_arguments, reason = "what a state, a rule and a catcher leave with")]
    fn leave(
        &mut self,
        thread: &mut Thread,
        state: &State,
        query: &Query,
        assign: &Map<String, Value>,
        output: Option<&Value>,
        unless_output: Option<Value>,
        next: Option<&str>,
    ) -> Result<Step, Failure> {
        let assigned_now = self.rendered(thread, query.render_map(assign, "Assign"))?;
        let output = match output {
            Some(template) => self.rendered(thread, query.render(template, "Output"))?,
            None => unless_output.unwrap_or_else(|| thread.input.clone()),
        };
        limited(&thread.state, &output)?;
        limited(&thread.state, &Value::Object(assigned_now.clone()))?;
        let mut details = json!({
            "name": thread.state,
            "output": output.to_string(),
            "outputDetails": {"truncated": false},
        });
        if !assigned_now.is_empty() {
            details["assignedVariables"] = assigned(&assigned_now);
            details["assignedVariablesDetails"] = json!({"truncated": false});
        }
        self.event(thread, &format!("{}StateExited", state.type_name()), details);
        thread.variables.extend(assigned_now);
        Ok(match next {
            Some(next) => Step::Enter(next.into(), output),
            None => Step::Ended(Ok(output)),
        })
    }

    // --- Errors.

    /// Retry first, then Catch, then the failure is the thread's.
    /// <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>
    fn recover(&mut self, thread: &mut Thread, state: &State, failure: Failure) -> Step {
        let is_parallel = matches!(state.kind, Kind::Parallel { .. });
        let matching = |names: &[String]| matches_error(names, &failure, is_parallel);
        let retrier = state.retry.iter().enumerate().find(|(_, retrier)| matching(&retrier.error_equals));
        if let Some((index, retrier)) = retrier
            && let Some(count) = thread.retries.get_mut(index)
            && *count < retrier.max_attempts
        {
            let growth = retrier.backoff_rate.powf(*count as f64);
            let mut seconds = (retrier.interval_seconds as f64 * growth).min(LONGEST_DELAY);
            if let Some(longest) = retrier.max_delay_seconds {
                seconds = seconds.min(longest as f64);
            }
            if retrier.jitter_strategy == Jitter::Full {
                seconds *= self.env.random.fraction();
            }
            *count += 1;
            thread.doing = Doing::Retry { due: self.env.now_ms + (seconds * 1000.0) as i64 };
            return Step::Blocked;
        }
        match state.catch.iter().find(|catcher| matching(&catcher.error_equals)) {
            Some(catcher) => self
                .caught(thread, state, catcher, &failure)
                .unwrap_or_else(|failure| Step::Ended(Err(failure))),
            None => Step::Ended(Err(failure)),
        }
    }

    fn caught(
        &mut self,
        thread: &mut Thread,
        state: &State,
        catcher: &Catcher,
        failure: &Failure,
    ) -> Result<Step, Failure> {
        let failure = failure.clone().shown();
        let mut error_output = Map::new();
        if let Some(error) = failure.error {
            error_output.insert("Error".into(), error.into());
        }
        error_output.insert("Cause".into(), failure.cause.unwrap_or_default().into());
        let error_output = Value::Object(error_output);
        let query = self.query(thread, None, Some(&error_output), None);
        let output = catcher.output.as_ref();
        self.leave(thread, state, &query, &catcher.assign, output, Some(error_output), Some(&catcher.next))
    }
}

fn failure_details(mut details: Map<String, Value>, failure: Option<&Failure>) -> Value {
    if let Some(error) = failure.and_then(|failure| failure.error.as_deref()) {
        details.insert("error".into(), error.into());
    }
    if let Some(cause) = failure.and_then(|failure| failure.cause.as_deref()) {
        details.insert("cause".into(), cause.into());
    }
    Value::Object(details)
}

fn in_state(thread: &Thread, what: &str) -> String {
    format!(
        "An error occurred while executing the state '{}' (entered at the event id #{}). {what}",
        thread.state, thread.entered_event
    )
}

/// `what` is the state, the function's ARN or the integration's service.
fn limited(what: &str, value: &Value) -> Result<(), Failure> {
    if value.to_string().len() <= PAYLOAD_LIMIT {
        return Ok(());
    }
    let cause = format!(
        "The state/task '{what}' returned a result with a size exceeding the maximum number of bytes service limit."
    );
    Err(Failure::new("States.DataLimitExceeded", &cause))
}

/// Which error names match: <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>
/// `States.ALL` matches neither `States.DataLimitExceeded` nor `States.Runtime`, and nothing
/// matches the latter; `States.TaskFailed` matches all but time-outs; a missed heartbeat
/// is a `States.Timeout` too; a Parallel that fails does so with the error of its
/// branch, and is also `States.BranchFailed`.
fn matches_error(names: &[String], failure: &Failure, is_parallel: bool) -> bool {
    let error = failure.error.as_deref().unwrap_or_default();
    if error == "States.Runtime" {
        return false;
    }
    let terminal = error == "States.DataLimitExceeded";
    names.iter().any(|name| match name.as_str() {
        name if name == error => true,
        "States.ALL" => !terminal,
        "States.TaskFailed" => !terminal && error != "States.Timeout" && error != HEARTBEAT_TIMEOUT,
        "States.Timeout" => error == HEARTBEAT_TIMEOUT,
        "States.BranchFailed" => is_parallel && !terminal,
        _ => false,
    })
}

#[cfg(test)]
mod tests;
