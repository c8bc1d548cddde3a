//! The step function of an execution: from a definition, an execution and one stimulus it makes the
//! execution's next tree, the history events and the requests to send. It does no I/O; the caller gives the
//! time and the randomness. Whatever a step does not finish waits in the tree, so a kill never loses a
//! committed step, and an uncommitted step never happened.

mod expressions;
mod inner;
mod kinds;
mod task;

use cloud_core::random::Random;
use serde_json::{Map, Value, json};

use super::asl::{Catcher, Definition, Jitter, Kind, State, Workflow};
use super::history::{HistoryEvent, assigned};
use super::query::Query;
use super::tree::{Doing, Execution, Failure, HEARTBEAT_TIMEOUT, Meta, Status, Thread, earliest};

/// Bytes of JSON in an input, an output, arguments and a result: 256 KiB.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>
pub const PAYLOAD_LIMIT: usize = 262_144;

/// Events in the history of a Standard execution.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>
pub const HISTORY_LIMIT: u64 = 25_000;

/// Seconds before a retry, however often the interval was multiplied. AWS takes no `MaxDelaySeconds` above
/// it.
const MAX_DELAY: f64 = 31_622_400.0;

/// What a step gets beside the execution.
pub struct Env<'a> {
    pub now_ms: i64,
    /// For tokens, jitter, `$uuid`.
    pub random: &'a Random,
    /// For `TaskScheduled`.
    pub region: &'a str,
}

#[derive(Debug, Clone)]
pub enum Stimulus {
    /// The execution was created.
    Start,
    /// Something in it may be due.
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

/// What the caller does once the step is committed.
#[derive(Debug, Default)]
pub struct Effects {
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

/// Does one step. It first does whatever was due before the stimulus: a token that comes back too late finds
/// its task timed out, even if no timer ran in between.
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

/// When the execution has something to do next; milliseconds since the epoch.
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
    /// Do the work of the current state, for the first time or again.
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

/// The way out of a state: its own, a rule's or a catcher's.
struct Exit<'a> {
    assign: &'a Map<String, Value>,
    output: Option<&'a Value>,
    next: Option<&'a str>,
}

impl<'a> Exit<'a> {
    fn of(state: &'a State) -> Self {
        Self { assign: &state.assign, output: state.output.as_ref(), next: state.next.as_deref() }
    }
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

    /// `previous` is the event that led to the end: 0 where the end came from outside.
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

    /// Adds an event that no later event of its thread points back to.
    fn aside(&mut self, previous: u64, kind: &str, details: Value) -> u64 {
        self.meta.last_event += 1;
        let id = self.meta.last_event;
        let kind = kind.into();
        self.effects.events.push(HistoryEvent { id, previous, at_ms: self.env.now_ms, kind, details });
        id
    }

    /// Runs a thread until it blocks or ends.
    fn run(&mut self, workflow: &Workflow, thread: &mut Thread, mut step: Step) -> Flow {
        loop {
            if self.meta.last_event >= HISTORY_LIMIT - 1 {
                let cause =
                    format!("The execution reached the maximum number of history events ({HISTORY_LIMIT}).");
                return Flow::Ended(Err(Failure::runtime(&cause)));
            }
            step = match step {
                Step::Blocked => return Flow::Running,
                Step::Ended(outcome) => return Flow::Ended(outcome),
                Step::Enter(name, input) => match workflow.states.get(&name) {
                    Some(state) => self.enter(thread, name, state, input),
                    None => Step::Ended(Err(Failure::runtime(&format!("There is no state '{name}'.")))),
                },
                other => match workflow.states.get(&thread.state) {
                    Some(state) => self.go_on(thread, state, other),
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

    fn go_on(&mut self, thread: &mut Thread, state: &State, step: Step) -> Step {
        let next = match step {
            Step::Result(result) => {
                let query = self.query(thread, Some(&result), None, None);
                self.leave(thread, state, &query, Exit::of(state), Some(result))
            }
            Step::Failed(failure) => return self.recover(thread, state, failure),
            _ => self.attempt(thread, state),
        };
        next.unwrap_or_else(Step::Failed)
    }

    /// Gives the stimulus to whatever waits for it.
    fn deliver(&mut self, workflow: &Workflow, thread: &mut Thread, stimulus: &Stimulus) -> Flow {
        let Some(state) = workflow.states.get(&thread.state) else { return Flow::Running };
        let is_due = |due: i64| matches!(stimulus, Stimulus::Tick) && due <= self.env.now_ms;
        let step = match (&thread.doing, &state.kind) {
            (Doing::Task(_), Kind::Task(task)) => {
                self.deliver_to_task(thread, task, stimulus).unwrap_or(Step::Blocked)
            }
            (Doing::Retry { due }, _) if is_due(*due) => Step::Attempt,
            (Doing::Wait { due }, _) if is_due(*due) => {
                self.leave_with_input(thread, state).unwrap_or_else(Step::Failed)
            }
            (Doing::Branches(_), _) => self.deliver_inner(thread, state, stimulus),
            _ => Step::Blocked,
        };
        self.run(workflow, thread, step)
    }

    fn leave_with_input(&mut self, thread: &mut Thread, state: &State) -> Result<Step, Failure> {
        let query = self.query(thread, None, None, None);
        self.leave(thread, state, &query, Exit::of(state), None)
    }

    /// Evaluates `Assign` and `Output`, both with the variables as they were on entry. Without an `Output`,
    /// the output is `result`, or else the input.
    /// <https://docs.aws.amazon.com/step-functions/latest/dg/workflow-variables.html>
    fn leave(
        &mut self,
        thread: &mut Thread,
        state: &State,
        query: &Query,
        exit: Exit<'_>,
        result: Option<Value>,
    ) -> Result<Step, Failure> {
        let assigned_now = self.rendered(thread, query.render_map(exit.assign, "Assign"))?;
        let output = match exit.output {
            Some(template) => self.rendered(thread, query.render(template, "Output"))?,
            None => result.unwrap_or_else(|| thread.input.clone()),
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
        Ok(match exit.next {
            Some(next) => Step::Enter(next.into(), output),
            None => Step::Ended(Ok(output)),
        })
    }

    /// Retry first, then Catch; otherwise the thread fails.
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
            let mut seconds = (retrier.interval_seconds as f64 * growth).min(MAX_DELAY);
            if let Some(max_delay) = retrier.max_delay_seconds {
                seconds = seconds.min(max_delay as f64);
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
        let mut error_output = json!({});
        if let Some(error) = failure.error {
            error_output["Error"] = error.into();
        }
        error_output["Cause"] = failure.cause.unwrap_or_default().into();
        let query = self.query(thread, None, Some(&error_output), None);
        let exit =
            Exit { assign: &catcher.assign, output: catcher.output.as_ref(), next: Some(&catcher.next) };
        self.leave(thread, state, &query, exit, Some(error_output))
    }
}

fn failure_details(mut details: Map<String, Value>, failure: Option<&Failure>) -> Value {
    let Some(Failure { error, cause }) = failure else { return Value::Object(details) };
    for (member, text) in [("error", error), ("cause", cause)] {
        details.extend(text.as_ref().map(|text| (member.to_owned(), text.as_str().into())));
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

/// Whether an error has one of these names. `States.ALL` matches neither `States.DataLimitExceeded` nor
/// `States.Runtime`, and nothing matches the latter; `States.TaskFailed` matches all but time-outs; a missed
/// heartbeat is also a `States.Timeout`; a Parallel fails with the error of its branch, which is also
/// `States.BranchFailed`.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>
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
