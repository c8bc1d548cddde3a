//! One process of a function: its environment, its start, one invocation at a time, and its
//! end. It is its own process group, so that it dies with everything it started and a
//! Ctrl-C at the terminal does not reach it first; [`super::reaper`] ends it when the local
//! cloud itself is killed.

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
use super::runtime_api::{self, Phase, Reply, Task, Worker};

/// A running function.
#[derive(Debug)]
pub(super) struct Process {
    cloud: std::sync::Weak<Cloud>,
    child: Child,
    group: i32,
    worker: Arc<Worker>,
    /// Ends the process's Runtime API with it.
    _server: DropGuard,
    pub logger: Arc<Logger>,
    output: Vec<Arc<Output>>,
    /// The name of the function.
    pub function: String,
    /// Of the function when the process started; an older one is not used again.
    pub generation: u64,
    /// Free for another process once this one has ended.
    _place: OwnedSemaphorePermit,
}

/// How an invocation ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The process is as good as before.
    Answered(Bytes),
    /// The function said so; the process lives.
    Failed(Bytes),
    /// The function said so before it asked for an event.
    InitFailed(Bytes),
    /// The process is to be thrown away; type and message of the error.
    Broken { kind: &'static str, message: String },
    /// The process had died before it took the event.
    Untouched,
}

impl From<Reply> for Ending {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Answer(payload) => Self::Answered(payload),
            Reply::Error(payload) => Self::Failed(payload),
            Reply::TooLarge => broken(
                "Function.ResponseSizeTooLarge",
                format!(
                    "Response payload size exceeded maximum allowed payload size ({} bytes).",
                    runtime_api::LARGEST_RESPONSE
                ),
            ),
        }
    }
}

impl Ending {
    /// The type of the error.
    pub fn kind(&self) -> String {
        match self {
            Self::Failed(document) | Self::InitFailed(document) => error_type_of(document),
            Self::Broken { kind, .. } => (*kind).to_owned(),
            Self::Answered(_) | Self::Untouched => String::new(),
        }
    }
}

/// `errorType` of an error document.
fn error_type_of(document: &[u8]) -> String {
    let document: Value = serde_json::from_slice(document).unwrap_or_default();
    document["errorType"].as_str().unwrap_or("Runtime.Unknown").to_owned()
}

impl Process {
    /// Spawns the binary, once there is a place for it; it is not initialised yet. For one who has
    /// a turn ([`super::pool`]).
    pub async fn spawn(
        cloud: &Arc<Cloud>,
        config: &Config,
        generation: u64,
        logger: Arc<Logger>,
    ) -> Result<Self, AwsError> {
        let Some(folder) = cloud.state::<crate::lambda::State>().binaries.get() else {
            return Err(AwsError::internal("the folder of the function binaries is not set"));
        };
        let place = cloud.state::<crate::lambda::State>().pool.place().await;
        let worker = Arc::new(Worker::new());
        let (api, server) = runtime_api::serve(cloud, worker.clone()).await.map_err(AwsError::internal)?;
        let mut command = Command::new(folder.join(&config.binary));
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
        let mut child = command.spawn().map_err(|error| {
            let binary = folder.join(&config.binary);
            AwsError::internal(format!("cannot start {}: {error}", binary.display()))
        })?;
        let group = child.id().unwrap_or_default() as i32;
        cloud.state::<crate::lambda::State>().alive.add(group);
        limit(group, config.memory_mb);
        let pipes = [
            child.stdout.take().map(|pipe| (pipe.into_owned_fd(), Source::Standard)),
            child.stderr.take().map(|pipe| (pipe.into_owned_fd(), Source::Error)),
        ];
        // From here on, an error ends the process with all that is known of it.
        let (cloud, output) = (Arc::downgrade(cloud), Vec::new());
        let function = config.name.clone();
        let mut process = Self {
            cloud,
            child,
            group,
            worker,
            _server: server,
            logger,
            output,
            function,
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

    /// Waits until the process asks for its first event, so many seconds at most.
    pub async fn initialise(&mut self, cloud: &Cloud, seconds: u64) -> Result<(), Ending> {
        let deadline_ms = cloud.clock.now_ms() + seconds as i64 * 1_000;
        let mut phase = self.worker.phase();
        let failed = tokio::select! {
            reached = phase.wait_for(|phase| *phase != Phase::Starting) => match reached.as_deref() {
                Ok(Phase::Failed(document)) => Ending::InitFailed(document.clone()),
                _ => return Ok(()),
            },
            status = self.child.wait() => {
                // A report of the error may have come just before the end.
                match &*self.worker.phase().borrow() {
                    Phase::Failed(document) => Ending::InitFailed(document.clone()),
                    _ => self.exited(status.ok()),
                }
            }
            () = cloud.clock.sleep_until(deadline_ms) => timed_out(seconds),
        };
        Err(failed)
    }

    /// Sends one event and waits for what becomes of it.
    pub async fn run(
        &mut self,
        cloud: &Cloud,
        config: &Config,
        request_id: &str,
        deadline_ms: i64,
        payload: Bytes,
        client_context: Option<String>,
    ) -> Ending {
        let (reply, mut answer) = oneshot::channel();
        let task = Task {
            request_id: request_id.to_owned(),
            arn: config.arn.clone(),
            // The function compares it with the clock of the machine.
            deadline_ms: cloud.clock.to_machine_ms(deadline_ms),
            trace_id: trace_id(cloud),
            client_context,
            payload,
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
            status = self.child.wait() => {
                match answer.try_recv() {
                    // It answered with its last breath.
                    Ok(reply) => reply.into(),
                    _ if self.worker.took(request_id) => self.exited(status.ok()),
                    _ => Ending::Untouched,
                }
            }
            () = cloud.clock.sleep_until(deadline_ms) => timed_out(config.timeout_s),
        }
    }

    /// Whether the process is still there.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Logs what it printed before it answered or ended.
    pub fn drain(&self) {
        self.output.iter().for_each(|output| output.catch_up());
    }

    /// What the end of the process means for its invocation.
    fn exited(&self, status: Option<ExitStatus>) -> Ending {
        self.drain();
        if self.output.iter().any(|output| output.out_of_memory()) {
            // On AWS the kernel kills what holds too much; here the process was refused more
            // and aborted. The caller is told what it would be told there.
            return broken("Runtime.OutOfMemory", "Error: Runtime exited with error: signal: killed");
        }
        broken("Runtime.ExitError", format!("Error: Runtime exited {}", how(status)))
    }

    /// The most memory that the process has held, in MB.
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
        if let Some(cloud) = self.cloud.upgrade() {
            cloud.state::<crate::lambda::State>().alive.remove(self.group);
        }
    }
}

/// Kills a process and all that it started; no effect where they are gone.
pub(super) fn kill_group(group: i32) {
    if let Some(group) = Pid::from_raw(group) {
        // The only error is that there is nothing left to kill.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

/// Files that a function may have open at once (gettingstarted-limits).
#[cfg(target_os = "linux")]
const OPEN_FILES: u64 = 1_024;

/// Bounds the address space of the process, and the files that it may open, of which this very
/// process may open more. What is resident, which is what AWS counts, is never more than that:
/// what fits here fits there. The functions of this application map 26 MB when they wait for an
/// event.
#[cfg(target_os = "linux")]
fn limit(group: i32, memory_mb: u64) {
    use rustix::process::{Resource, Rlimit, prlimit};
    let bytes = memory_mb.saturating_mul(1_048_576);
    for (resource, most) in [(Resource::As, bytes), (Resource::Nofile, OPEN_FILES)] {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        if let Err(error) = prlimit(Pid::from_raw(group), resource, limit) {
            // It may have ended already; its invocation tells.
            tracing::debug!(%error, ?resource, "a function is not limited");
        }
    }
}

/// Other systems have no way to limit another process: the size is only told to it.
#[cfg(not(target_os = "linux"))]
fn limit(_group: i32, _memory_mb: u64) {}

fn broken(kind: &'static str, message: impl Into<String>) -> Ending {
    Ending::Broken { kind, message: message.into() }
}

/// The text that AWS shows, with the configured seconds.
fn timed_out(seconds: u64) -> Ending {
    broken("Sandbox.Timedout", format!("Error: Task timed out after {seconds}.00 seconds"))
}

/// How a process ended, in the words of Lambda's own supervisor.
fn how(status: Option<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status.map(|status| (status.code(), status.signal())) {
        Some((Some(code @ 1..), _)) => format!("with error: exit status {code}"),
        Some((None, Some(signal))) => format!("with error: signal: {}", name_of(signal)),
        _ => "without providing a reason".to_owned(),
    }
}

fn name_of(signal: i32) -> String {
    let known = match Signal::from_named_raw(signal) {
        Some(Signal::ABORT) => "aborted",
        Some(Signal::BUS) => "bus error",
        Some(Signal::FPE) => "floating point exception",
        Some(Signal::ILL) => "illegal instruction",
        Some(Signal::INT) => "interrupt",
        Some(Signal::KILL) => "killed",
        Some(Signal::PIPE) => "broken pipe",
        Some(Signal::SEGV) => "segmentation fault",
        Some(Signal::TERM) => "terminated",
        _ => return signal.to_string(),
    };
    known.to_owned()
}

/// An error document in the form of Lambda's own.
pub(super) fn error_document(kind: &str, request_id: &str, message: &str) -> Bytes {
    let message = match kind {
        "Function.ResponseSizeTooLarge" => message.to_owned(),
        _ => format!("RequestId: {request_id} {message}"),
    };
    // Only the REPORT line knows a type of its own for it.
    let kind = if kind == "Runtime.OutOfMemory" { "Runtime.ExitError" } else { kind };
    json!({ "errorType": kind, "errorMessage": message }).to_string().into()
}

/// `Root=1-{seconds}-{24 digits};Parent={16 digits};Sampled=0`: nothing is traced here.
fn trace_id(cloud: &Cloud) -> String {
    let digits = |length| cloud.random.text("0123456789abcdef", length);
    format!("Root=1-{:08x}-{};Parent={};Sampled=0", cloud.clock.now_ms() / 1_000, digits(24), digits(16))
}

/// The environment of configuration-envvars for a custom runtime (which has no
/// AWS_EXECUTION_ENV), the template's variables, and the one address that makes SDKs find
/// the local cloud.
fn environment(cloud: &Cloud, config: &Config, folder: &Path, stream: &str) -> Vec<(String, String)> {
    let fixed = [
        ("_HANDLER", config.handler.clone()),
        ("AWS_REGION", cloud.settings.region.clone()),
        ("AWS_DEFAULT_REGION", cloud.settings.region.clone()),
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
    // Lambda tells a function of these two only in the JSON format (monitoring-cloudwatchlogs-advanced).
    let json = config.logging.json.then(|| {
        [
            ("AWS_LAMBDA_LOG_FORMAT", "JSON".to_owned()),
            ("AWS_LAMBDA_LOG_LEVEL", config.logging.application_level.clone()),
        ]
    });
    let endpoint = cloud.endpoint_url.get().map(|url| ("AWS_ENDPOINT_URL", url.clone()));
    let own =
        fixed.into_iter().chain(json.into_iter().flatten()).map(|(name, value)| (name.to_owned(), value));
    own.chain(config.variables.clone())
        .chain(endpoint.map(|(name, value)| (name.to_owned(), value)))
        .collect()
}
