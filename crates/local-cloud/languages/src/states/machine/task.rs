//! A Task state: one attempt from its request to its result, timeout or token.

use cloud_core::random::stable_uuid;
use serde_json::{Map, Value, json};

use super::{Machine, Step, Stimulus, failure_details, limited};
use crate::states::asl::Task;
use crate::states::tree::{Doing, Failure, HEARTBEAT_TIMEOUT, TaskAttempt, Thread};

impl Machine<'_> {
    pub(super) fn schedule(&mut self, thread: &mut Thread, task: &Task) -> Result<Step, Failure> {
        self.meta.last_attempt += 1;
        let number = self.meta.last_attempt;
        let token = task.resource.waits_for_token.then(|| self.token(number));
        let query = self.query(thread, None, None, token.as_deref());
        let arguments = match &task.arguments {
            Some(template) => self.rendered(thread, query.render(template, "Arguments"))?,
            None => thread.input.clone(),
        };
        limited(&thread.state, &arguments)?;
        let timeout = self.whole_number(thread, task.timeout.as_ref(), "TimeoutSeconds", 1)?;
        let heartbeat = self.whole_number(thread, task.heartbeat.as_ref(), "HeartbeatSeconds", 1)?;

        let mut details = shared_details(task);
        let mut add = |name: &str, value: Value| drop(details.insert(name.into(), value));
        if task.resource.is_function_arn() {
            add("resource", task.resource.arn.as_str().into());
            add("input", arguments.to_string().into());
            add("inputDetails", json!({"truncated": false}));
        } else {
            add("region", self.env.region.into());
            add("parameters", arguments.to_string().into());
            if let Some(heartbeat) = heartbeat {
                add("heartbeatInSeconds", heartbeat.into());
            }
        }
        if let Some(timeout) = timeout {
            add("timeoutInSeconds", timeout.into());
        }
        self.event(thread, &event_kind(task, "Scheduled"), Value::Object(details));
        let started = shared_details(task);
        let started = if started.is_empty() { Value::Null } else { Value::Object(started) };
        self.event(thread, &event_kind(task, "Started"), started);

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

    /// Opaque, too long to guess, and unique even if a seed repeats the random part.
    fn token(&self, number: u64) -> String {
        const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let unique = stable_uuid(&format!("{}#{number}", self.meta.arn)).replace('-', "");
        format!("{}{unique}", self.env.random.text(LETTERS, 64))
    }

    /// Ends a task by its reply or its token.
    fn settled(&mut self, thread: &mut Thread, task: &Task, outcome: Result<Value, Failure>) -> Step {
        let outcome =
            outcome.and_then(|result| limited(task.resource.limited_as(), &result).map(|()| result));
        match outcome {
            Ok(result) => {
                let details = with_output(shared_details(task), &result);
                self.event(thread, &event_kind(task, "Succeeded"), details);
                Step::Result(result)
            }
            Err(failure) => {
                let details = failure_details(shared_details(task), Some(&failure));
                self.event(thread, &event_kind(task, "Failed"), details);
                Step::Failed(failure)
            }
        }
    }

    fn timed_out(&mut self, thread: &mut Thread, task: &Task, error: &str) -> Step {
        let failure = Failure { error: Some(error.into()), cause: None };
        let details = failure_details(shared_details(task), Some(&failure.clone().shown()));
        self.event(thread, &event_kind(task, "TimedOut"), details);
        Step::Failed(failure)
    }

    /// The step that a stimulus leads to, if it is for the attempt that the thread waits for.
    pub(super) fn deliver_to_task(
        &mut self,
        thread: &mut Thread,
        task: &Task,
        stimulus: &Stimulus,
    ) -> Option<Step> {
        let now_ms = self.env.now_ms;
        let Doing::Task(attempt) = &mut thread.doing else { return None };
        match stimulus {
            Stimulus::Answered(number, outcome) if *number == attempt.number && attempt.request.is_some() => {
                attempt.request = None;
                self.effects.taken = true;
                match outcome {
                    Ok(result) if attempt.token.is_some() => {
                        let details = with_output(shared_details(task), result);
                        self.event(thread, "TaskSubmitted", details);
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
                Some(self.timed_out(thread, task, HEARTBEAT_TIMEOUT))
            }
            _ => None,
        }
    }
}

/// A function that a task names by its ARN has history events of its own.
fn event_kind(task: &Task, event: &str) -> String {
    let kind = if task.resource.is_function_arn() { "LambdaFunction" } else { "Task" };
    format!("{kind}{event}")
}

/// The details that all events of a task have: none for a function by its ARN.
fn shared_details(task: &Task) -> Map<String, Value> {
    if task.resource.is_function_arn() {
        return Map::new();
    }
    let (kind, name) = task.resource.history_names();
    Map::from_iter([("resourceType".into(), kind.into()), ("resource".into(), name.into())])
}

fn with_output(mut details: Map<String, Value>, result: &Value) -> Value {
    details.insert("output".into(), result.to_string().into());
    details.insert("outputDetails".into(), json!({"truncated": false}));
    Value::Object(details)
}
