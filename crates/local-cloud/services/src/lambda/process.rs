//! One process of a function: its environment, its start, one invocation at a time, and its end. It is its
//! own process group, so that it dies with everything it started, and a Ctrl-C at the terminal does not reach
//! it first. [`super::reaper`] ends it when the local cloud itself is killed.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use cloud_core::{AwsError, Cloud};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::sync::DropGuard;

use super::config::Config;
use super::logger::{Logger, Source};
use super::output::Output;
use super::reaper::{Groups, kill_group};
use super::runtime_api::{self, Phase, Reply, Task, Worker};

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    group: i32,
    /// All groups that are alive.
    groups: Arc<Groups>,
    worker: Arc<Worker>,
    /// Ends the process's Runtime API with it.
    _server: DropGuard,
    pub logger: Arc<Logger>,
    output: Vec<Arc<Output>>,
    /// The name of the function.
    pub function: String,
    /// That of the function when the process started.
    pub generation: u64,
    /// Free for another process once this one has ended.
    _place: OwnedSemaphorePermit,
}

/// The event of one invocation.
pub(super) struct Call<'a> {
    pub request_id: &'a str,
    pub payload: Bytes,
    /// JSON.
    pub client_context: Option<String>,
}

/// How an invocation ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The function answered; the process can be used again.
    Answered(Bytes),
    /// The function reported an error; the process can be used again.
    Failed(Bytes),
    /// The function reported an error before it asked for an event.
    InitFailed(Bytes),
    /// The process cannot be used again; type and message of the error.
    Broken { kind: &'static str, message: String },
    /// The process had died before it took the event.
    Untouched,
}

impl From<Reply> for Ending {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Answer(payload) => Self::Answered(payload),
            Reply::Error(payload) => Self::Failed(payload),
            Reply::TooLarge => Self::Broken {
                kind: "Function.ResponseSizeTooLarge",
                message: format!(
                    "Response payload size exceeded maximum allowed payload size ({} bytes).",
                    runtime_api::MAX_RESPONSE_BYTES
                ),
            },
        }
    }
}

impl Ending {
    /// The process exited, or was killed.
    pub fn exit(message: impl Into<String>) -> Self {
        Self::Broken { kind: "Runtime.ExitError", message: message.into() }
    }

    /// The text that AWS shows, with the configured seconds.
    fn timed_out(seconds: u64) -> Self {
        let message = format!("Error: Task timed out after {seconds}.00 seconds");
        Self::Broken { kind: "Sandbox.Timedout", message }
    }

    /// The type of the error; empty where there is none.
    pub fn kind(&self) -> String {
        match self {
            Self::Failed(document) | Self::InitFailed(document) => {
                let document: Value = serde_json::from_slice(document).unwrap_or_default();
                document["errorType"].as_str().unwrap_or("Runtime.Unknown").to_owned()
            }
            Self::Broken { kind, .. } => (*kind).to_owned(),
            Self::Answered(_) | Self::Untouched => String::new(),
        }
    }
}

impl Process {
    /// Spawns the binary; the process is not initialised yet.
    pub async fn spawn(
        cloud: &Cloud,
        config: &Config,
        folder: &Path,
        logger: Arc<Logger>,
        generation: u64,
        place: OwnedSemaphorePermit,
        groups: &Arc<Groups>,
    ) -> Result<Self, AwsError> {
        let worker = Arc::new(Worker::new());
        let (api, server) = runtime_api::serve(cloud, worker.clone()).await.map_err(AwsError::internal)?;
        let binary = folder.join(&config.binary);
        let mut command = Command::new(&binary);
        command
            .env_clear()
            .envs(environment(cloud, config, folder, &logger.stream))
            .env("AWS_LAMBDA_RUNTIME_API", api)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .map_err(|error| AwsError::internal(format!("cannot start {}: {error}", binary.display())))?;
        let group = child.id().unwrap_or_default() as i32;
        groups.add(group);
        limit(group, config.memory_mb);
        let pipes = [
            child.stdout.take().map(|pipe| (pipe.into_owned_fd(), Source::Standard)),
            child.stderr.take().map(|pipe| (pipe.into_owned_fd(), Source::Error)),
        ];
        // From here on, an error drops the process and so ends it.
        let mut process = Self {
            child,
            group,
            groups: groups.clone(),
            worker,
            _server: server,
            logger,
            output: Vec::new(),
            function: config.name.clone(),
            generation,
            _place: place,
        };
        for (pipe, source) in pipes.into_iter().flatten() {
            let pipe: std::io::Result<OwnedFd> = pipe;
            let output = pipe.and_then(|pipe| Output::follow(pipe, source, &process.logger));
            process.output.push(output.map_err(AwsError::internal)?);
        }
        Ok(process)
    }

    /// Waits until the process asks for its first event.
    pub async fn initialise(&mut self, cloud: &Cloud, seconds: u64) -> Result<(), Ending> {
        let deadline_ms = cloud.clock.now_ms() + seconds as i64 * 1_000;
        let mut phase = self.worker.phase();
        let failed = tokio::select! {
            reached = phase.wait_for(|phase| *phase != Phase::Starting) => match reached.as_deref() {
                Ok(Phase::Failed(document)) => Ending::InitFailed(document.clone()),
                _ => return Ok(()),
            },
            // The function may have reported its error just before the end.
            status = self.child.wait() => match &*self.worker.phase().borrow() {
                Phase::Failed(document) => Ending::InitFailed(document.clone()),
                _ => self.exited(status.ok()),
            },
            () = cloud.clock.sleep_until(deadline_ms) => Ending::timed_out(seconds),
        };
        Err(failed)
    }

    /// Sends one event and waits for its outcome; the timeout counts from `begun_ms`.
    pub async fn run(&mut self, cloud: &Cloud, config: &Config, call: &Call<'_>, begun_ms: i64) -> Ending {
        let deadline_ms = begun_ms + config.timeout_s as i64 * 1_000;
        let (reply, mut answer) = oneshot::channel();
        let task = Task {
            request_id: call.request_id.to_owned(),
            arn: config.arn.clone(),
            // The function compares it with the clock of the machine.
            deadline_ms: cloud.clock.to_machine_ms(deadline_ms),
            trace_id: trace_id(cloud),
            client_context: call.client_context.clone(),
            payload: call.payload.clone(),
            reply,
        };
        if !self.worker.give(task) {
            return Ending::Untouched;
        }
        tokio::select! {
            biased;
            answered = &mut answer => match answered {
                Ok(reply) => reply.into(),
                Err(_) => self.exited(None),
            },
            // The function may have answered just before the end.
            status = self.child.wait() => match answer.try_recv() {
                Ok(reply) => reply.into(),
                _ if self.worker.took(call.request_id) => self.exited(status.ok()),
                _ => Ending::Untouched,
            },
            () = cloud.clock.sleep_until(deadline_ms) => Ending::timed_out(config.timeout_s),
        }
    }

    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Logs the output that it printed before it answered or ended.
    pub fn drain(&self) {
        self.output.iter().for_each(|output| output.catch_up());
    }

    /// The ending of an invocation whose process ended.
    fn exited(&self, status: Option<ExitStatus>) -> Ending {
        self.drain();
        if self.output.iter().any(|output| output.out_of_memory()) {
            // On AWS the kernel kills a process that holds too much memory. Here the process gets no more
            // memory and aborts; its caller gets the error of AWS.
            let message = "Error: Runtime exited with error: signal: killed".into();
            return Ending::Broken { kind: "Runtime.OutOfMemory", message };
        }
        Ending::exit(format!("Error: Runtime exited {}", how(status)))
    }

    /// The peak of its resident memory, in MB.
    pub fn peak_mb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.group)).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb = peak.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        kb.unwrap_or_default().div_ceil(1_024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        kill_group(self.group);
        self.groups.remove(self.group);
    }
}

/// Files that a function may have open at once (gettingstarted-limits).
#[cfg(target_os = "linux")]
const MAX_OPEN_FILES: u64 = 1_024;

/// Bounds the address space of the process and the number of its open files. AWS counts resident memory,
/// which is never more than the address space: a function that fits here fits there. The functions of this
/// application map 26 MB when they wait for an event.
#[cfg(target_os = "linux")]
fn limit(group: i32, memory_mb: u64) {
    use rustix::process::{Resource, Rlimit, prlimit};
    let bytes = memory_mb.saturating_mul(1_048_576);
    for (resource, most) in [(Resource::As, bytes), (Resource::Nofile, MAX_OPEN_FILES)] {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        if let Err(error) = prlimit(Pid::from_raw(group), resource, limit) {
            // The process may have ended already; its invocation reports that.
            tracing::debug!(%error, ?resource, "a function is not limited");
        }
    }
}

/// Only Linux can limit another process. Elsewhere the function only gets its memory size as a variable.
#[cfg(not(target_os = "linux"))]
fn limit(_group: i32, _memory_mb: u64) {}

/// How a process ended, in the words of Lambda.
fn how(status: Option<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status.map(|status| (status.code(), status.signal())) {
        Some((Some(code @ 1..), _)) => format!("with error: exit status {code}"),
        Some((None, Some(signal))) => format!("with error: signal: {}", name_of(signal)),
        _ => "without providing a reason".to_owned(),
    }
}

fn name_of(signal: i32) -> String {
    const NAMES: [(Signal, &str); 9] = [
        (Signal::ABORT, "aborted"),
        (Signal::BUS, "bus error"),
        (Signal::FPE, "floating point exception"),
        (Signal::ILL, "illegal instruction"),
        (Signal::INT, "interrupt"),
        (Signal::KILL, "killed"),
        (Signal::PIPE, "broken pipe"),
        (Signal::SEGV, "segmentation fault"),
        (Signal::TERM, "terminated"),
    ];
    let known = NAMES.iter().find(|(known, _)| known.as_raw() == signal);
    known.map_or_else(|| signal.to_string(), |(_, name)| (*name).to_owned())
}

/// An error document in the form of Lambda's own.
pub(super) fn error_document(kind: &str, request_id: &str, message: &str) -> Bytes {
    let message = match kind {
        "Function.ResponseSizeTooLarge" => message.to_owned(),
        _ => format!("RequestId: {request_id} {message}"),
    };
    // Only the REPORT line names the type OutOfMemory.
    let kind = if kind == "Runtime.OutOfMemory" { "Runtime.ExitError" } else { kind };
    json!({ "errorType": kind, "errorMessage": message }).to_string().into()
}

/// `Root=1-{seconds}-{24 digits};Parent={16 digits};Sampled=0`: nothing is traced here.
fn trace_id(cloud: &Cloud) -> String {
    let digits = |length| cloud.random.text("0123456789abcdef", length);
    format!("Root=1-{:08x}-{};Parent={};Sampled=0", cloud.clock.now_ms() / 1_000, digits(24), digits(16))
}

/// The variables that Lambda sets for a custom runtime (configuration-envvars; without AWS_EXECUTION_ENV),
/// the template's variables, and the address at which SDKs find the local cloud.
fn environment(cloud: &Cloud, config: &Config, folder: &Path, stream: &str) -> Vec<(String, String)> {
    let region = &cloud.settings.region;
    let mut own = vec![
        ("_HANDLER", config.handler.clone()),
        ("AWS_REGION", region.clone()),
        ("AWS_DEFAULT_REGION", region.clone()),
        ("AWS_ACCESS_KEY_ID", cloud.calls.key_of(&config.arn)),
        ("AWS_SECRET_ACCESS_KEY", cloud.secret.clone()),
        ("AWS_SESSION_TOKEN", "made-up-and-accepted-by-the-local-cloud".into()),
        ("AWS_LAMBDA_FUNCTION_NAME", config.name.clone()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".into()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", config.memory_mb.to_string()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".into()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", config.logging.group.clone()),
        ("AWS_LAMBDA_LOG_STREAM_NAME", stream.to_owned()),
        ("LAMBDA_TASK_ROOT", folder.display().to_string()),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime".into()),
        ("TZ", ":UTC".into()),
        ("LANG", "en_US.UTF-8".into()),
        ("PATH", "/usr/local/bin:/usr/bin/:/bin:/opt/bin".into()),
    ];
    // Lambda sets these two only in the JSON format (monitoring-cloudwatchlogs-advanced).
    if config.logging.json {
        own.push(("AWS_LAMBDA_LOG_FORMAT", "JSON".into()));
        own.push(("AWS_LAMBDA_LOG_LEVEL", config.logging.application_level.clone()));
    }
    let named = |(name, value): (&str, String)| (name.to_owned(), value);
    let endpoint = cloud.endpoint_url.get().map(|url| ("AWS_ENDPOINT_URL", url.clone()));
    own.into_iter().map(named).chain(config.variables.clone()).chain(endpoint.map(named)).collect()
}
