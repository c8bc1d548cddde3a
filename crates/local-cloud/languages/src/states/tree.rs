//! What an execution is while it runs: a tree of threads (the workflow itself, branches,
//! iterations), each in one state and waiting for something. It is plain data that can be
//! written down after every step and read back after `kill -9`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The states of an execution as its API names them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Goes on.
    #[default]
    Running,
    /// Ended well.
    Succeeded,
    /// Ended with an error.
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

/// One execution, whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Execution {
    /// What is known of it from outside.
    pub meta: Meta,
    /// The running workflow; `None` once it ended.
    pub root: Option<Thread>,
}

/// What is known of an execution from outside.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Meta {
    /// Its ARN.
    pub arn: String,
    /// Its name.
    pub name: String,
    /// The state machine's ARN.
    pub machine_arn: String,
    /// The state machine's name.
    pub machine_name: String,
    /// The definition that it runs, whatever is deployed later.
    pub revision: String,
    /// The role that it would run as.
    pub role_arn: String,
    /// The input, byte for byte.
    pub input: String,
    /// As given to `StartExecution`; no traces are taken here.
    #[serde(default)]
    pub trace_header: Option<String>,
    /// Milliseconds since the epoch.
    pub started_ms: i64,
    /// Milliseconds since the epoch.
    pub stopped_ms: Option<i64>,
    /// Where it stands.
    pub status: Status,
    /// The output of one that succeeded.
    pub output: Option<String>,
    /// Why it ended badly.
    pub failure: Option<Failure>,
    /// When the execution as a whole times out; milliseconds since the epoch.
    pub timeout_due: Option<i64>,
    /// The id of the last history event.
    pub last_event: u64,
    /// The number of the last attempt of any task.
    pub last_attempt: u64,
}

/// How Retry and Catch know a missed heartbeat. Histories, outputs and executions show it as
/// `States.Timeout`.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>
pub const HEARTBEAT_TIMEOUT: &str = "States.HeartbeatTimeout";

/// An error with its cause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The error's name; a Fail state may give none.
    pub error: Option<String>,
    /// Its cause.
    pub cause: Option<String>,
}

impl Failure {
    /// An error with a name and a cause.
    pub fn new(error: &str, cause: &str) -> Self {
        Self { error: Some(error.into()), cause: Some(cause.into()) }
    }

    /// What no Retry and no Catch can handle.
    /// <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>
    pub fn runtime(cause: &str) -> Self {
        Self::new("States.Runtime", cause)
    }

    /// As it is shown outside of Retry and Catch.
    pub fn shown(mut self) -> Self {
        if self.error.as_deref() == Some(HEARTBEAT_TIMEOUT) {
            self.error = Some("States.Timeout".into());
        }
        self
    }
}

/// A line of states, one after the other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Thread {
    /// The current state.
    pub state: String,
    /// Its input.
    pub input: Value,
    /// When it was entered; milliseconds since the epoch.
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
    /// All variables that it sees; what an inner thread sets ends with it.
    pub variables: Map<String, Value>,
    /// `$states.context.Map` inside an iteration.
    pub map_item: Option<Value>,
    /// What it waits for.
    pub doing: Doing,
}

impl Thread {
    /// A thread before its first state.
    pub fn new(variables: Map<String, Value>, map_item: Option<Value>, last_event: u64) -> Self {
        Self {
            state: String::new(),
            input: Value::Null,
            entered_ms: 0,
            entered_event: last_event,
            last_event,
            can_retry: false,
            retries: Vec::new(),
            variables,
            map_item,
            doing: Doing::Starting,
        }
    }

    /// The earliest moment at which something is due in here; milliseconds since the epoch.
    pub fn due(&self) -> Option<i64> {
        match &self.doing {
            Doing::Starting => None,
            Doing::Task(task) => earliest(task.timeout_due, task.heartbeat_due),
            Doing::Retry { due } | Doing::Wait { due } => Some(*due),
            Doing::Branches(branches) => branches.running().filter_map(Self::due).min(),
        }
    }

    /// Requests that were sent and are not answered: after a restart they are sent again.
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

/// The earlier of two moments.
pub fn earliest(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}

/// What a thread waits for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Doing {
    /// Its first state.
    Starting,
    /// The reply to a request, or a task token.
    Task(TaskAttempt),
    /// The next attempt.
    Retry {
        /// Milliseconds since the epoch.
        due: i64,
    },
    /// The end of a Wait.
    Wait {
        /// Milliseconds since the epoch.
        due: i64,
    },
    /// Inner threads.
    Branches(Branches),
}

/// One attempt of a Task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskAttempt {
    /// Unique in the execution.
    pub number: u64,
    /// The task's resource.
    pub resource: String,
    /// The arguments of a request that is not answered yet.
    pub request: Option<Value>,
    /// The token, where the task waits for one.
    pub token: Option<String>,
    /// Milliseconds since the epoch.
    pub timeout_due: Option<i64>,
    /// Milliseconds between heartbeats.
    pub heartbeat_ms: Option<i64>,
    /// Milliseconds since the epoch.
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
    fn running(&self) -> impl Iterator<Item = &Thread> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Running(thread) => Some(thread.as_ref()),
            _ => None,
        })
    }

    /// How many run now.
    pub fn count(&self) -> usize {
        self.running().count()
    }
}

/// One branch or iteration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Slot {
    /// Not started; its input, and its item in a Map.
    Waiting(Value, Option<Value>),
    /// Started.
    Running(Box<Thread>),
    /// Its output.
    Done(Value),
}
