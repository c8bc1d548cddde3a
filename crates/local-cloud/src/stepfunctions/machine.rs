//! The step function of an execution: given a definition, an execution and one stimulus, it
//! gives the execution's next tree, the history events and the requests to send. It does no
//! I/O; time and randomness are handed in. What it does not finish in one step waits in the
//! tree, so a step that was committed is never lost and one that was not never happened.

use serde_json::{Map, Value, json};

use super::asl::{Catcher, Definition, Jitter, Kind, MapState, State, Task, Workflow};
use super::history::{HistoryEvent, assigned};
use super::query::{Query, QueryError};
use super::tree::{Branches, Doing, Execution, Failure, Meta, Slot, Status, TaskAttempt, Thread, earliest};
use crate::random::Random;

/// Input, output, arguments and results: 256 KiB of JSON.
/// https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
pub const PAYLOAD_LIMIT: usize = 262_144;

/// Events in the history of a Standard execution.
/// https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
const HISTORY_LIMIT: u64 = 25_000;

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

/// Does one step.
pub fn advance(
    definition: &Definition,
    execution: &mut Execution,
    stimulus: &Stimulus,
    env: &Env<'_>,
) -> Effects {
    let mut machine = Machine { meta: &mut execution.meta, env, effects: Effects::default() };
    if machine.meta.status != Status::Running {
        return machine.effects;
    }
    let overdue = machine.meta.timeout_due.is_some_and(|due| due <= env.now_ms);
    let flow = match stimulus {
        Stimulus::Abort(failure) => {
            machine.effects.taken = true;
            machine.end(Status::Aborted, None, Some(failure.clone()));
            execution.root = None;
            return machine.effects;
        }
        Stimulus::Tick if overdue => {
            machine.effects.taken = true;
            machine.end(
                Status::TimedOut,
                None,
                Some(Failure { error: Some("States.Timeout".into()), cause: None }),
            );
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
        match outcome {
            Ok(output) => machine.end(Status::Succeeded, Some(output.to_string()), None),
            Err(failure) => machine.end(Status::Failed, None, Some(failure)),
        }
        execution.root = None;
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
        self.event(
            &mut thread,
            "ExecutionStarted",
            json!({"input": self.meta.input, "inputDetails": {"truncated": false}, "roleArn": self.meta.role_arn}),
        );
        self.meta.timeout_due =
            definition.timeout_seconds.map(|seconds| self.env.now_ms + seconds as i64 * 1000);
        let input = serde_json::from_str(&self.meta.input).unwrap_or(Value::Null);
        let first = Step::Enter(definition.workflow.start_at.clone(), input);
        let flow = self.run(&definition.workflow, &mut thread, first);
        (thread, flow)
    }

    fn end(&mut self, status: Status, output: Option<String>, failure: Option<Failure>) {
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
        let mut thread = Thread::new(Map::new(), None, self.meta.last_event);
        self.event(&mut thread, kind, details);
        self.effects.status_changed = true;
        self.meta.status = status;
        self.meta.stopped_ms = Some(self.env.now_ms);
        self.meta.timeout_due = None;
        self.meta.output = output;
        self.meta.failure = failure;
    }

    fn event(&mut self, thread: &mut Thread, kind: &str, details: Value) {
        self.meta.last_event += 1;
        let event = HistoryEvent {
            id: self.meta.last_event,
            previous: thread.last_event,
            at_ms: self.env.now_ms,
            kind: kind.into(),
            details,
        };
        thread.last_event = event.id;
        self.effects.events.push(event);
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
                        other => return Err(self.not_a(thread, &field, "a boolean", &other)),
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
                limited(thread, &input)?;
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
                let seconds = self.whole_number(thread, Some(template), "Seconds")?.unwrap_or(0);
                self.wait_until(thread, state, self.env.now_ms + seconds * 1000)
            }
            Kind::WaitUntil(template) => {
                let query = self.query(thread, None, None, None);
                let value = self.rendered(thread, query.render(template, "Timestamp"))?;
                match value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) {
                    Some(moment) => self.wait_until(thread, state, moment.as_millisecond()),
                    None => Err(self.not_a(thread, "Timestamp", "an RFC 3339 timestamp", &value)),
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
                        other => Err(self.not_a(thread, field, "a string", &other)),
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

    // --- Tasks.

    fn schedule(&mut self, thread: &mut Thread, task: &Task) -> Result<Step, Failure> {
        let token = task.resource.waits_for_token.then(|| {
            // Opaque to its holders; long enough that nobody guesses another's.
            self.env.random.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", 96)
        });
        let query = self.query(thread, None, None, token.as_deref());
        let arguments = match &task.arguments {
            Some(template) => self.rendered(thread, query.render(template, "Arguments"))?,
            None => thread.input.clone(),
        };
        limited(thread, &arguments)?;
        let timeout = self.whole_number(thread, task.timeout.as_ref(), "TimeoutSeconds")?;
        let heartbeat = self.whole_number(thread, task.heartbeat.as_ref(), "HeartbeatSeconds")?;

        let mut details = Map::new();
        let (kind, names) = if task.resource.is_function_arn() {
            details.insert("resource".into(), task.resource.arn.as_str().into());
            details.insert("input".into(), arguments.to_string().into());
            details.insert("inputDetails".into(), json!({"truncated": false}));
            ("LambdaFunctionScheduled", Map::new())
        } else {
            details.extend(names(task));
            details.insert("region".into(), self.env.region.into());
            details.insert("parameters".into(), arguments.to_string().into());
            if let Some(heartbeat) = heartbeat {
                details.insert("heartbeatInSeconds".into(), heartbeat.into());
            }
            ("TaskScheduled", names(task))
        };
        if let Some(timeout) = timeout {
            details.insert("timeoutInSeconds".into(), timeout.into());
        }
        self.event(thread, kind, Value::Object(details));
        match kind {
            "TaskScheduled" => self.event(thread, "TaskStarted", Value::Object(names)),
            _ => self.event(thread, "LambdaFunctionStarted", Value::Null),
        }

        self.meta.last_attempt += 1;
        let number = self.meta.last_attempt;
        let after = |seconds: i64| self.env.now_ms + seconds * 1000;
        thread.doing = Doing::Task(TaskAttempt {
            number,
            resource: task.resource.arn.clone(),
            request: Some(arguments.clone()),
            token: token.clone(),
            timeout_due: timeout.map(after),
            heartbeat_ms: heartbeat.map(|seconds| seconds * 1000),
            heartbeat_due: heartbeat.map(after),
        });
        self.effects.tokens.extend(token);
        self.effects.requests.push((number, task.resource.arn.clone(), arguments));
        Ok(Step::Blocked)
    }

    /// A task ended, by its reply or its token.
    fn settled(&mut self, thread: &mut Thread, task: &Task, outcome: Result<Value, Failure>) -> Step {
        let function = task.resource.is_function_arn();
        let mut details = if function { Map::new() } else { names(task) };
        let failure = match outcome {
            Ok(result) => match limited(thread, &result) {
                Ok(()) => {
                    details.insert("output".into(), result.to_string().into());
                    details.insert("outputDetails".into(), json!({"truncated": false}));
                    let kind = if function { "LambdaFunctionSucceeded" } else { "TaskSucceeded" };
                    self.event(thread, kind, Value::Object(details));
                    return Step::Result(result);
                }
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        let kind = if function { "LambdaFunctionFailed" } else { "TaskFailed" };
        self.event(thread, kind, failure_details(details, Some(&failure)));
        Step::Failed(failure)
    }

    fn timed_out(&mut self, thread: &mut Thread, task: &Task, error: &str) -> Step {
        let failure = Failure { error: Some(error.into()), cause: None };
        let (kind, details) = if task.resource.is_function_arn() {
            ("LambdaFunctionTimedOut", Map::new())
        } else {
            ("TaskTimedOut", names(task))
        };
        self.event(thread, kind, failure_details(details, Some(&failure)));
        Step::Failed(failure)
    }

    /// What a stimulus means for the attempt that a thread waits for; `None`: nothing.
    fn deliver_to_task(&mut self, thread: &mut Thread, task: &Task, stimulus: &Stimulus) -> Option<Step> {
        let now_ms = self.env.now_ms;
        let Doing::Task(attempt) = &mut thread.doing else { return None };
        match stimulus {
            Stimulus::Answered(number, outcome) if *number == attempt.number && attempt.request.is_some() => {
                attempt.request = None;
                self.effects.taken = true;
                match outcome {
                    Ok(result) if attempt.token.is_some() => {
                        let mut details = names(task);
                        details.insert("output".into(), result.to_string().into());
                        details.insert("outputDetails".into(), json!({"truncated": false}));
                        self.event(thread, "TaskSubmitted", Value::Object(details));
                        None
                    }
                    outcome => Some(self.settled(thread, task, outcome.clone())),
                }
            }
            Stimulus::Token(token, outcome) if attempt.token.as_ref() == Some(token) => {
                self.effects.taken = true;
                Some(self.settled(thread, task, outcome.clone()))
            }
            Stimulus::Heartbeat(token) if attempt.token.as_ref() == Some(token) => {
                self.effects.taken = true;
                attempt.heartbeat_due = attempt.heartbeat_ms.map(|interval| now_ms + interval);
                None
            }
            Stimulus::Tick if attempt.timeout_due.is_some_and(|due| due <= now_ms) => {
                Some(self.timed_out(thread, task, "States.Timeout"))
            }
            Stimulus::Tick if attempt.heartbeat_due.is_some_and(|due| due <= now_ms) => {
                Some(self.timed_out(thread, task, "States.HeartbeatTimeout"))
            }
            _ => None,
        }
    }

    // --- Branches and iterations.

    fn start_map(&mut self, thread: &mut Thread, state: &State, map: &MapState) -> Result<Step, Failure> {
        let query = self.query(thread, None, None, None);
        let items = match &map.items {
            Some(template) => self.rendered(thread, query.render(template, "Items"))?,
            None => thread.input.clone(),
        };
        let Value::Array(items) = items else {
            return Err(self.not_a(thread, "Items", "an array", &items));
        };
        let concurrency = self.whole_number(thread, map.max_concurrency.as_ref(), "MaxConcurrency")?;
        let mut slots = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let context = json!({"Item": {"Index": index, "Value": item}});
            let input = match &map.selector {
                Some(template) => {
                    let outer = thread.map_item.replace(context.clone());
                    let query = self.query(thread, None, None, None);
                    thread.map_item = outer;
                    self.rendered(thread, query.render(template, "ItemSelector"))?
                }
                None => item,
            };
            slots.push(Slot::Waiting(input, Some(context)));
        }
        self.event(thread, "MapStateStarted", json!({"length": slots.len()}));
        let limit = match concurrency {
            // An inline Map without a limit of its own runs up to 40 iterations at a time.
            // https://docs.aws.amazon.com/step-functions/latest/dg/state-map-inline.html
            None | Some(0) => 40,
            Some(limit) => limit as usize,
        };
        thread.doing = Doing::Branches(Branches { slots, limit });
        Ok(self.progress(thread, state))
    }

    /// Starts what may start, and ends the state when all is done or one failed.
    fn progress(&mut self, thread: &mut Thread, state: &State) -> Step {
        loop {
            let Doing::Branches(branches) = &mut thread.doing else { return Step::Blocked };
            let room = branches.count() < branches.limit;
            let waiting = branches.slots.iter().position(|slot| matches!(slot, Slot::Waiting(..)));
            match waiting {
                Some(index) if room => {
                    if let Some(failure) = self.start_inner(thread, state, index) {
                        return self.inner_failed(thread, state, failure);
                    }
                }
                _ => break,
            }
        }
        let Doing::Branches(branches) = &mut thread.doing else { return Step::Blocked };
        let outputs: Option<Vec<Value>> = branches
            .slots
            .iter()
            .map(|slot| match slot {
                Slot::Done(output) => Some(output.clone()),
                _ => None,
            })
            .collect();
        match outputs {
            Some(outputs) => {
                self.event(thread, &format!("{}StateSucceeded", state.type_name()), Value::Null);
                Step::Result(Value::Array(outputs))
            }
            None => Step::Blocked,
        }
    }

    fn start_inner(&mut self, thread: &mut Thread, state: &State, index: usize) -> Option<Failure> {
        let workflow = inner_workflow(state, index)?;
        let Doing::Branches(branches) = &mut thread.doing else { return None };
        let slot = branches.slots.get_mut(index)?;
        let Slot::Waiting(input, item) = std::mem::replace(slot, Slot::Done(Value::Null)) else {
            return None;
        };
        let mut inner = Thread::new(thread.variables.clone(), item, thread.last_event);
        if matches!(state.kind, Kind::Map(_)) {
            self.event(&mut inner, "MapIterationStarted", json!({"name": thread.state, "index": index}));
        }
        let flow = self.run(workflow, &mut inner, Step::Enter(workflow.start_at.clone(), input));
        self.settle_inner(thread, state, index, inner, flow)
    }

    /// Puts an inner thread back in its slot, or its output; its failure is the state's.
    fn settle_inner(
        &mut self,
        thread: &mut Thread,
        state: &State,
        index: usize,
        mut inner: Thread,
        flow: Flow,
    ) -> Option<Failure> {
        let is_map = matches!(state.kind, Kind::Map(_));
        let iteration = json!({"name": thread.state, "index": index});
        let (slot, failure) = match flow {
            Flow::Running => (Slot::Running(Box::new(inner)), None),
            Flow::Ended(outcome) => {
                if is_map {
                    let kind = if outcome.is_ok() { "MapIterationSucceeded" } else { "MapIterationFailed" };
                    self.event(&mut inner, kind, iteration);
                }
                thread.last_event = inner.last_event;
                match outcome {
                    Ok(output) => (Slot::Done(output), None),
                    Err(failure) => (Slot::Done(Value::Null), Some(failure)),
                }
            }
        };
        if let Doing::Branches(branches) = &mut thread.doing
            && let Some(place) = branches.slots.get_mut(index)
        {
            *place = slot;
        }
        failure
    }

    /// One failed, so the others are stopped and the whole state fails with its error.
    fn inner_failed(&mut self, thread: &mut Thread, state: &State, failure: Failure) -> Step {
        self.abort_inner(thread, state);
        let kind = format!("{}StateFailed", state.type_name());
        self.event(thread, &kind, Value::Null);
        Step::Failed(failure)
    }

    fn abort_inner(&mut self, thread: &mut Thread, state: &State) {
        let Doing::Branches(branches) = std::mem::replace(&mut thread.doing, Doing::Starting) else { return };
        for (index, slot) in branches.slots.into_iter().enumerate() {
            let (Slot::Running(mut inner), Some(workflow)) = (slot, inner_workflow(state, index)) else {
                continue;
            };
            if let Some(inner_state) = workflow.states.get(&inner.state) {
                self.abort_inner(&mut inner, inner_state);
                self.event(&mut inner, &format!("{}StateAborted", inner_state.type_name()), Value::Null);
            }
            if matches!(state.kind, Kind::Map(_)) {
                let details = json!({"name": thread.state, "index": index});
                self.event(&mut inner, "MapIterationAborted", details);
            }
            thread.last_event = inner.last_event;
        }
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

    fn deliver_inner(&mut self, thread: &mut Thread, state: &State, stimulus: &Stimulus) -> Step {
        let count = match &thread.doing {
            Doing::Branches(branches) => branches.slots.len(),
            _ => 0,
        };
        for index in 0..count {
            let Some(workflow) = inner_workflow(state, index) else { continue };
            let Doing::Branches(branches) = &mut thread.doing else { break };
            let Some(slot @ Slot::Running(_)) = branches.slots.get_mut(index) else { continue };
            let Slot::Running(mut inner) = std::mem::replace(slot, Slot::Done(Value::Null)) else { continue };
            let flow = self.deliver(workflow, &mut inner, stimulus);
            if let Some(failure) = self.settle_inner(thread, state, index, *inner, flow) {
                return self.inner_failed(thread, state, failure);
            }
        }
        self.progress(thread, state)
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
    /// https://docs.aws.amazon.com/step-functions/latest/dg/workflow-variables.html
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
        limited(thread, &output)?;
        limited(thread, &Value::Object(assigned_now.clone()))?;
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
    /// https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
    fn recover(&mut self, thread: &mut Thread, state: &State, failure: Failure) -> Step {
        let is_parallel = matches!(state.kind, Kind::Parallel { .. });
        let matching = |names: &[String]| matches_error(names, &failure, is_parallel);
        let retrier = state.retry.iter().enumerate().find(|(_, retrier)| matching(&retrier.error_equals));
        if let Some((index, retrier)) = retrier
            && let Some(count) = thread.retries.get_mut(index)
            && *count < retrier.max_attempts
        {
            let mut seconds = retrier.interval_seconds as f64 * retrier.backoff_rate.powf(*count as f64);
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
        let mut error_output = Map::new();
        if let Some(error) = &failure.error {
            error_output.insert("Error".into(), error.as_str().into());
        }
        error_output.insert("Cause".into(), failure.cause.clone().unwrap_or_default().into());
        let error_output = Value::Object(error_output);
        let query = self.query(thread, None, Some(&error_output), None);
        let output = catcher.output.as_ref();
        self.leave(thread, state, &query, &catcher.assign, output, Some(error_output), Some(&catcher.next))
    }

    // --- Expressions.

    fn query(
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

    /// https://docs.aws.amazon.com/step-functions/latest/dg/input-output-contextobject.html
    fn context(&self, thread: &Thread, token: Option<&str>) -> Value {
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
                "RetryCount": thread.retries.iter().sum::<u64>(),
            },
            "StateMachine": {"Id": meta.machine_arn, "Name": meta.machine_name},
        });
        if let Some(token) = token {
            context["Task"] = json!({"Token": token});
        }
        if let Some(item) = &thread.map_item {
            context["Map"] = item.clone();
        }
        context
    }

    /// The value, or `States.QueryEvaluationError` with its event.
    fn rendered<T>(&mut self, thread: &mut Thread, value: Result<T, QueryError>) -> Result<T, Failure> {
        value.map_err(|error| {
            let failure = Failure::new("States.QueryEvaluationError", &in_state(thread, &error.message));
            let details = json!({
                "error": failure.error,
                "cause": failure.cause,
                "location": error.location,
                "state": thread.state,
            });
            self.event(thread, "EvaluationFailed", details);
            failure
        })
    }

    fn not_a(&mut self, thread: &mut Thread, field: &str, expected: &str, found: &Value) -> Failure {
        let message = format!("The value of the field '{field}' must be {expected}, and is {found}.");
        let error = QueryError { location: field.into(), message };
        match self.rendered::<()>(thread, Err(error)) {
            Err(failure) => failure,
            Ok(()) => Failure::runtime("unreachable"),
        }
    }

    fn whole_number(
        &mut self,
        thread: &mut Thread,
        template: Option<&Value>,
        field: &str,
    ) -> Result<Option<i64>, Failure> {
        /// The longest time that AWS takes, in seconds; also far from any overflow.
        const LONGEST: i64 = 99_999_999;
        let Some(template) = template else { return Ok(None) };
        let query = self.query(thread, None, None, None);
        let value = self.rendered(thread, query.render(template, field))?;
        match value.as_i64().filter(|number| (0..=LONGEST).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.not_a(thread, field, "a whole number from 0 to 99999999", &value)),
        }
    }
}

fn inner_workflow(state: &State, index: usize) -> Option<&Workflow> {
    match &state.kind {
        Kind::Parallel { branches, .. } => branches.get(index),
        Kind::Map(map) => Some(&map.processor),
        _ => None,
    }
}

fn names(task: &Task) -> Map<String, Value> {
    let (kind, name) = task.resource.history_names();
    Map::from_iter([("resourceType".into(), kind.into()), ("resource".into(), name.into())])
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

fn limited(thread: &Thread, value: &Value) -> Result<(), Failure> {
    if value.to_string().len() <= PAYLOAD_LIMIT {
        return Ok(());
    }
    let cause = format!(
        "The state/task '{}' returned a result with a size exceeding the maximum number of bytes service limit.",
        thread.state
    );
    Err(Failure::new("States.DataLimitExceeded", &cause))
}

/// Which error names match: https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
/// `States.ALL` matches neither `States.DataLimitExceeded` nor `States.Runtime`, and nothing
/// matches the latter; `States.TaskFailed` matches all but `States.Timeout`; a missed
/// heartbeat is a `States.Timeout` too; a Parallel that fails does so with the error of its
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
        "States.TaskFailed" => !terminal && error != "States.Timeout",
        "States.Timeout" => error == "States.HeartbeatTimeout",
        "States.BranchFailed" => is_parallel && !terminal,
        _ => false,
    })
}

/// RFC 3339 in UTC with milliseconds.
pub fn rfc3339(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms)
        .map_or_else(|_| String::new(), |moment| moment.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

#[cfg(test)]
mod tests;
