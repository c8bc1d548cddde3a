//! A running execution as plain data: a tree of threads (the workflow itself, branches, iterations), each in
//! one state and waiting for something. It is written down after every step and read back after `kill -9`.
//! All times are milliseconds since the epoch.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    #[default]
    Running,
    Succeeded,
    Failed,
    /// Ran longer than the machine's `TimeoutSeconds`.
    TimedOut,
    /// Stopped by `StopExecution`.
    Aborted,
}

impl Status {
    /// `RUNNING`, `SUCCEEDED`, ...
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::TimedOut => "TIMED_OUT",
            Self::Aborted => "ABORTED",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Execution {
    pub meta: Meta,
    /// The running workflow; `None` once it ended.
    pub root: Option<Thread>,
}

/// What the API shows of an execution.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Meta {
    pub arn: String,
    pub name: String,
    pub machine_arn: String,
    pub machine_name: String,
    /// The definition that it runs, whatever is deployed later.
    pub revision: String,
    pub role_arn: String,
    /// The input, byte for byte.
    pub input: String,
    /// As given to `StartExecution`; the local cloud takes no traces.
    #[serde(default)]
    pub trace_header: Option<String>,
    pub started_ms: i64,
    pub stopped_ms: Option<i64>,
    pub status: Status,
    pub output: Option<String>,
    pub failure: Option<Failure>,
    /// When the execution as a whole times out.
    pub timeout_due: Option<i64>,
    /// The id of the last history event.
    pub last_event: u64,
    /// The number of the last attempt of any task.
    pub last_attempt: u64,
}

/// The name that Retry and Catch have for a missed heartbeat. Histories, outputs and executions show it as
/// `States.Timeout`.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>
pub const HEARTBEAT_TIMEOUT: &str = "States.HeartbeatTimeout";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The error's name; a Fail state may give none.
    pub error: Option<String>,
    pub cause: Option<String>,
}

impl Failure {
    pub fn new(error: &str, cause: &str) -> Self {
        Self { error: Some(error.into()), cause: Some(cause.into()) }
    }

    /// An error that no Retry and no Catch can handle.
    /// <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>
    pub fn runtime(cause: &str) -> Self {
        Self::new("States.Runtime", cause)
    }

    /// The error as everything but Retry and Catch names it.
    pub fn shown(mut self) -> Self {
        if self.error.as_deref() == Some(HEARTBEAT_TIMEOUT) {
            self.error = Some("States.Timeout".into());
        }
        self
    }
}

/// A sequence of states.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Thread {
    /// The current state.
    pub state: String,
    /// Its input.
    pub input: Value,
    pub entered_ms: i64,
    /// The id of the history event of entering.
    pub entered_event: u64,
    /// The id of this thread's last history event.
    pub last_event: u64,
    /// Whether the current state is of a type that can be retried.
    #[serde(default)]
    pub can_retry: bool,
    /// Retries so far, per retrier of the state.
    pub retries: Vec<u64>,
    /// All variables that it sees; the variables that an inner thread sets end with it.
    pub variables: Map<String, Value>,
    /// `$states.context.Map` inside an iteration.
    pub map_item: Option<Value>,
    pub doing: Doing,
}

impl Thread {
    /// A thread before its first state.
    pub fn new(variables: Map<String, Value>, map_item: Option<Value>, last_event: u64) -> Self {
        Self { entered_event: last_event, last_event, variables, map_item, ..Self::default() }
    }

    /// The earliest moment at which something in the thread is due.
    pub fn due(&self) -> Option<i64> {
        match &self.doing {
            Doing::Starting => None,
            Doing::Task(task) => earliest(task.timeout_due, task.heartbeat_due),
            Doing::Retry { due } | Doing::Wait { due } => Some(*due),
            Doing::Branches(branches) => branches.running().filter_map(Self::due).min(),
        }
    }

    /// Requests without an answer yet: the runner sends them again after a restart.
    pub fn open_requests(&self) -> Vec<(u64, String, Value)> {
        match &self.doing {
            Doing::Task(TaskAttempt { number, resource, request: Some(arguments), .. }) => {
                vec![(*number, resource.clone(), arguments.clone())]
            }
            Doing::Branches(branches) => branches.running().flat_map(Self::open_requests).collect(),
            _ => Vec::new(),
        }
    }
}

pub fn earliest(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}

/// What a thread waits for.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub enum Doing {
    /// Its first state.
    #[default]
    Starting,
    /// The reply to a request, or a task token.
    Task(TaskAttempt),
    /// The next attempt.
    Retry { due: i64 },
    /// The end of a Wait.
    Wait { due: i64 },
    /// Inner threads.
    Branches(Branches),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskAttempt {
    /// Unique in the execution.
    pub number: u64,
    pub resource: String,
    /// The arguments of a request without an answer yet.
    pub request: Option<Value>,
    /// The token, where the task waits for one.
    pub token: Option<String>,
    pub timeout_due: Option<i64>,
    /// Milliseconds between heartbeats.
    pub heartbeat_ms: Option<i64>,
    pub heartbeat_due: Option<i64>,
}

/// The inner threads of a Parallel or a Map.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Branches {
    /// In the order of the branches or items.
    pub slots: Vec<Slot>,
    /// How many may run at a time.
    pub limit: usize,
}

impl Branches {
    pub fn running(&self) -> impl Iterator<Item = &Thread> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Running(thread) => Some(thread.as_ref()),
            _ => None,
        })
    }
}

/// One branch or iteration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Slot {
    /// Not started: its input, and its item in a Map.
    Waiting(Value, Option<Value>),
    Running(Box<Thread>),
    /// Its output.
    Done(Value),
}
