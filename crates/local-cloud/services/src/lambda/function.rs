//! A deployed function: its concurrency, and the course of one invocation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cloud_core::faults::Crash;
use cloud_core::resource::{Refusal, Resource};
use cloud_core::{AwsError, Cloud};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::Invocation;
use super::config::{self, Config};
use super::logger::{Logger, Report};
use super::process::{Ending, Process, error_document};

/// Longest initialisation (lambda-runtime-environment).
const INIT_S: u64 = 10;

/// Largest payload of a synchronous invocation: 6 MB (gettingstarted-limits).
pub(super) const LARGEST_REQUEST: usize = 6_291_456;

/// A function.
#[derive(Debug)]
pub(super) struct Function {
    pub config: Config,
    /// Reserved concurrency; `None` shares the account's.
    reserved: Option<Arc<Semaphore>>,
    generation: AtomicU64,
}

impl Function {
    pub fn new(cloud: &Cloud, resource: &Resource) -> Result<Self, Refusal> {
        let config = config::function(cloud, resource)?;
        if let Some(folder) = cloud.state::<crate::lambda::State>().binaries.get() {
            let binary = folder.join(&config.binary);
            if !binary.is_file() {
                let reason = format!("there is no binary {}", binary.display());
                return Err(resource.refuse("Metadata.Binary", reason));
            }
        }
        Ok(Self {
            reserved: config.reserved_concurrency.map(|most| Arc::new(Semaphore::new(most))),
            generation: AtomicU64::new(cloud.state::<crate::lambda::State>().pool.next_generation()),
            config,
        })
    }

    /// Starts a process that waits, unless there is one.
    pub async fn start_one(&self, cloud: &Arc<Cloud>) -> Result<(), String> {
        let (name, pool) = (&self.config.name, &cloud.state::<crate::lambda::State>().pool);
        let unusable = |error: &AwsError| format!("the function {name} does not start: {}", error.message);
        let turn = pool.turns.clone().acquire_owned().await.map_err(AwsError::internal);
        let _turn = turn.map_err(|error| unusable(&error))?;
        if let Some(process) = self.take_idle(cloud) {
            self.keep(cloud, process);
            return Ok(());
        }
        let generation = self.generation.load(Ordering::SeqCst);
        let logger = Arc::new(Logger::new(cloud, &self.config));
        logger.init(&self.config.runtime);
        let mut process = Process::spawn(cloud, &self.config, generation, logger)
            .await
            .map_err(|error| unusable(&error))?;
        let Err(ending) = process.initialise(cloud, INIT_S).await else {
            self.keep(cloud, process);
            return Ok(());
        };
        process.drain();
        let why = match ending {
            Ending::InitFailed(document) => {
                let document: Value = serde_json::from_slice(&document).unwrap_or_default();
                document["errorMessage"].as_str().unwrap_or("its initialisation failed").to_owned()
            }
            Ending::Broken { message, .. } => message.trim_start_matches("Error: ").to_owned(),
            _ => "it ended".to_owned(),
        };
        // What it said last tells more than how it ended.
        let last = process.logger.last_words().map(|line| format!(" ({line})")).unwrap_or_default();
        Err(format!("the function {name} does not start: {why}{last}"))
    }

    /// Ends idle processes; busy ones end after their invocation.
    pub fn retire(&self, cloud: &Cloud) {
        self.generation.store(cloud.state::<crate::lambda::State>().pool.next_generation(), Ordering::SeqCst);
        cloud.state::<crate::lambda::State>().pool.end(&self.config.name);
    }

    fn take_idle(&self, cloud: &Cloud) -> Option<Process> {
        loop {
            let mut process = cloud.state::<crate::lambda::State>().pool.take(&self.config.name)?;
            if self.is_usable(&mut process) {
                return Some(process);
            }
        }
    }

    fn keep(&self, cloud: &Cloud, process: Process) {
        cloud
            .state::<crate::lambda::State>()
            .pool
            .keep(process, cloud.clock.now_ms(), |process| self.is_usable(process));
    }

    fn is_usable(&self, process: &mut Process) -> bool {
        process.generation == self.generation.load(Ordering::SeqCst) && process.is_alive()
    }
}

fn throttled(reason: &str) -> AwsError {
    let mut error = AwsError::new(429, "TooManyRequestsException", "Rate Exceeded.");
    error.details.insert("Reason".into(), Value::from(reason));
    error
}

/// One invocation, from the checks of the API to the REPORT line.
pub(super) async fn invoke(
    cloud: &Arc<Cloud>,
    function: &Arc<Function>,
    payload: Bytes,
    request_id: String,
    client_context: Option<String>,
) -> Result<Invocation, AwsError> {
    let payload = check(payload, LARGEST_REQUEST)?;
    let permit = match &function.reserved {
        Some(reserved) => reserved
            .clone()
            .try_acquire_owned()
            .map_err(|_| "ReservedFunctionConcurrentInvocationLimitExceeded"),
        None => cloud
            .state::<crate::lambda::State>()
            .account
            .clone()
            .try_acquire_owned()
            .map_err(|_| "ConcurrentInvocationLimitExceeded"),
    };
    let permit = permit.map_err(throttled)?;
    let (cloud, function) = (cloud.clone(), function.clone());
    // A task of its own: it goes on when the caller goes away.
    let invocation = tokio::spawn(async move {
        let _permit = permit;
        tokio::select! {
            // First: a process that the stop has ended did not fail.
            biased;
            () = cloud.stopping.cancelled() => Err(stopping()),
            outcome = execute(&cloud, &function, payload, &request_id, client_context) => outcome,
        }
    });
    invocation.await.map_err(AwsError::internal)?
}

fn stopping() -> AwsError {
    AwsError::new(503, "ServiceException", "The local cloud is stopping.")
}

/// An empty payload is `{}`; anything else must be JSON.
pub(super) fn check(payload: Bytes, most: usize) -> Result<Bytes, AwsError> {
    if payload.len() > most {
        let bytes = payload.len();
        let message = match most {
            LARGEST_REQUEST => {
                format!("Request must be smaller than {most} bytes for the InvokeFunction operation")
            }
            _ => format!(
                "{bytes} byte payload is too large for the Event invocation type (limit {most} bytes)"
            ),
        };
        return Err(AwsError::new(413, "RequestTooLargeException", message));
    }
    if payload.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    match serde_json::from_slice::<serde::de::IgnoredAny>(&payload) {
        Ok(_) => Ok(payload),
        Err(error) => Err(AwsError::client(
            "InvalidRequestContentException",
            format!("Could not parse request body into json: Could not parse payload into json: {error}"),
        )),
    }
}

async fn execute(
    cloud: &Arc<Cloud>,
    function: &Function,
    payload: Bytes,
    request_id: &str,
    client_context: Option<String>,
) -> Result<Invocation, AwsError> {
    let config = &function.config;
    let _turn = cloud
        .state::<crate::lambda::State>()
        .pool
        .turns
        .clone()
        .acquire_owned()
        .await
        .map_err(AwsError::internal)?;
    loop {
        let generation = function.generation.load(Ordering::SeqCst);
        let (mut process, mut init_ms, mut failed) = match function.take_idle(cloud) {
            Some(process) => (process, None, None),
            None => {
                let logger = Arc::new(Logger::new(cloud, config));
                logger.init(&config.runtime);
                let started_ms = cloud.clock.now_ms();
                let mut process = Process::spawn(cloud, config, generation, logger).await?;
                let failed = process.initialise(cloud, INIT_S).await.err();
                (process, Some(cloud.clock.now_ms() - started_ms), failed)
            }
        };
        let fresh = init_ms.is_some();
        let begun_ms = cloud.clock.now_ms();
        let deadline_ms = begun_ms + config.timeout_s as i64 * 1_000;
        if let Some(ending) = failed.take() {
            // It is tried once more, within the invocation and its time (lambda-runtime-environment).
            process.drain();
            let logger = process.logger.clone();
            logger.init_failed("init", init_ms.take().unwrap_or_default(), ending.kind());
            drop(process);
            process = Process::spawn(cloud, config, generation, logger).await?;
            failed = process.initialise(cloud, config.timeout_s).await.err();
            process.drain();
            if let Some(ending) = &failed {
                process.logger.init_failed("invoke", cloud.clock.now_ms() - begun_ms, ending.kind());
            }
        }
        process.logger.begin(request_id);
        let ending = match failed {
            Some(ending) => ending,
            None => {
                let crash = cloud.faults.crash();
                let (payload, context) = (payload.clone(), client_context.clone());
                let run = process.run(cloud, config, request_id, deadline_ms, payload, context);
                match crash {
                    None => run.await,
                    Some(Crash::Before) => killed(),
                    Some(Crash::After(time)) => {
                        let due_ms = cloud.clock.now_ms() + time.as_millis() as i64;
                        tokio::select! {
                            ending = run => ending,
                            () = cloud.clock.sleep_until(due_ms) => killed(),
                        }
                    }
                    Some(Crash::Answered) => {
                        run.await;
                        killed()
                    }
                }
            }
        };
        let ending = match ending {
            // It had died while it was idle: another one takes the event.
            Ending::Untouched if !fresh => continue,
            Ending::Untouched => Ending::Broken {
                kind: "Runtime.ExitError",
                message: "Error: Runtime exited without providing a reason".into(),
            },
            ending => ending,
        };
        let duration_ms = cloud.clock.now_ms() - begun_ms;
        return Ok(finish(cloud, function, process, request_id, ending, duration_ms, init_ms).await);
    }
}

/// How a process ends that a fault plan kills: it is not used again, and dies when it is dropped.
fn killed() -> Ending {
    Ending::Broken {
        kind: "Runtime.ExitError",
        message: "Error: Runtime exited with error: signal: killed".into(),
    }
}

async fn finish(
    cloud: &Cloud,
    function: &Function,
    process: Process,
    request_id: &str,
    ending: Ending,
    duration_ms: i64,
    init_ms: Option<i64>,
) -> Invocation {
    let config = &function.config;
    process.drain();
    let kind = Some(ending.kind());
    let (payload, error_type, keep) = match ending {
        Ending::Answered(payload) => (payload, None, true),
        Ending::Failed(document) => (document, kind, true),
        Ending::InitFailed(document) => (document, kind, false),
        Ending::Broken { kind: broken, message } => {
            process.logger.failure(request_id, broken, &message);
            (error_document(broken, request_id, &message), kind, false)
        }
        Ending::Untouched => (Bytes::new(), None, false),
    };
    let status = match error_type.as_deref() {
        None => None,
        Some("Sandbox.Timedout") => Some("timeout"),
        Some(_) => Some("error"),
    };
    let report = Report {
        duration_ms,
        init_ms,
        memory_mb: config.memory_mb,
        used_mb: match error_type.as_deref() {
            Some("Runtime.OutOfMemory") => config.memory_mb,
            _ => process.peak_mb(),
        },
        status,
        error_type: error_type.clone(),
    };
    process.logger.end(request_id, &report);
    let log_tail = process.logger.tail();
    let cold = init_ms.map(|ms| format!(" after {ms} ms of start")).unwrap_or_default();
    match &error_type {
        None => {
            tracing::info!(target: "hop", service = "lambda", resource = %config.name, request = %request_id, "finished in {duration_ms} ms{cold}");
        }
        Some(kind) => {
            tracing::warn!(target: "hop", service = "lambda", resource = %config.name, request = %request_id, "failed with {kind} in {duration_ms} ms{cold}");
        }
    }
    if keep {
        function.keep(cloud, process);
    }
    Invocation {
        payload,
        function_error: error_type.map(|_| "Unhandled".to_owned()),
        request_id: request_id.to_owned(),
        log_tail,
    }
}
