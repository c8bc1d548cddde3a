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

    /// Opaque, too long to guess, and unique even where a seed repeats what is random.
    fn token(&self, number: u64) -> String {
        const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let unique = stable_uuid(&format!("{}#{number}", self.meta.arn)).replace('-', "");
        format!("{}{unique}", self.env.random.text(LETTERS, 64))
    }

    /// A task ended, by its reply or its token.
    pub(super) fn settled(
        &mut self,
        thread: &mut Thread,
        task: &Task,
        outcome: Result<Value, Failure>,
    ) -> Step {
        let function = task.resource.is_function_arn();
        let mut details = if function { Map::new() } else { names(task) };
        let failure = match outcome {
            Ok(result) => match limited(task.resource.limited_as(), &result) {
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

    pub(super) fn timed_out(&mut self, thread: &mut Thread, task: &Task, error: &str) -> Step {
        let failure = Failure { error: Some(error.into()), cause: None };
        let (kind, details) = if task.resource.is_function_arn() {
            ("LambdaFunctionTimedOut", Map::new())
        } else {
            ("TaskTimedOut", names(task))
        };
        self.event(thread, kind, failure_details(details, Some(&failure.clone().shown())));
        Step::Failed(failure)
    }

    /// What a stimulus means for the attempt that a thread waits for; `None`: nothing.
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
                Some(self.timed_out(thread, task, HEARTBEAT_TIMEOUT))
            }
            _ => None,
        }
    }
}

fn names(task: &Task) -> Map<String, Value> {
    let (kind, name) = task.resource.history_names();
    Map::from_iter([("resourceType".into(), kind.into()), ("resource".into(), name.into())])
}
