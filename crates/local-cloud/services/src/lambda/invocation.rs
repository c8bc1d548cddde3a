//! One invocation: from the checks of the API through a process to the REPORT line.

use std::sync::Arc;

use bytes::Bytes;
use cloud_core::faults::Crash;
use cloud_core::{AwsError, Cloud};
use serde_json::Value;

use super::State;
use super::function::Function;
use super::logger::{Logger, Report};
use super::process::{Call, Ending, Process, error_document};

/// Seconds that an initialisation may take (lambda-runtime-environment).
const MAX_INIT_S: u64 = 10;

/// Payload of a synchronous invocation: 6 MB (gettingstarted-limits).
pub(super) const MAX_REQUEST_BYTES: usize = 6_291_456;

/// The outcome of a synchronous invocation.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The function's answer, or its error document (`errorType`, `errorMessage`).
    pub payload: Bytes,
    /// `Unhandled` when the function failed, timed out or died.
    pub function_error: Option<String>,
    /// The `x-amzn-requestid` of the invocation.
    pub request_id: String,
    /// The last 4 KB of the invocation's log, for `LogType: Tail`.
    pub log_tail: String,
}

pub(super) async fn invoke(
    cloud: &Arc<Cloud>,
    function: &Arc<Function>,
    payload: Bytes,
    request_id: String,
    client_context: Option<String>,
) -> Result<Invocation, AwsError> {
    let payload = check(payload, MAX_REQUEST_BYTES)?;
    let (concurrency, reason) = match &function.reserved {
        Some(reserved) => (reserved, "ReservedFunctionConcurrentInvocationLimitExceeded"),
        None => (&cloud.state::<State>().pool.account, "ConcurrentInvocationLimitExceeded"),
    };
    let permit = concurrency.clone().try_acquire_owned().map_err(|_| throttled(reason))?;
    let (cloud, function) = (cloud.clone(), function.clone());
    // A task of its own: it goes on when the caller goes away.
    let invocation = tokio::spawn(async move {
        let _permit = permit;
        let call = Call { request_id: &request_id, payload, client_context };
        tokio::select! {
            // First: a process that the stop has ended did not fail.
            biased;
            () = cloud.stopping.cancelled() => {
                Err(AwsError::new(503, "ServiceException", "The local cloud is stopping."))
            }
            outcome = execute(&cloud, &function, &call) => outcome,
        }
    });
    invocation.await.map_err(AwsError::internal)?
}

fn throttled(reason: &str) -> AwsError {
    let mut error = AwsError::new(429, "TooManyRequestsException", "Rate Exceeded.");
    error.details.insert("Reason".into(), Value::from(reason));
    error
}

/// An empty payload is `{}`; anything else must be JSON.
pub(super) fn check(payload: Bytes, max_bytes: usize) -> Result<Bytes, AwsError> {
    if payload.len() > max_bytes {
        let bytes = payload.len();
        let message = match max_bytes {
            MAX_REQUEST_BYTES => {
                format!("Request must be smaller than {max_bytes} bytes for the InvokeFunction operation")
            }
            _ => format!(
                "{bytes} byte payload is too large for the Event invocation type (limit {max_bytes} bytes)"
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

/// A process for an invocation, and how its start went.
struct Started {
    process: Process,
    /// How long a cold start took; `None` where it failed, too.
    init_ms: Option<i64>,
    failed: Option<Ending>,
    /// The process was started for this invocation.
    is_new: bool,
}

async fn execute(cloud: &Arc<Cloud>, function: &Function, call: &Call<'_>) -> Result<Invocation, AwsError> {
    let pool = &cloud.state::<State>().pool;
    let _turn = pool.turns.clone().acquire_owned().await.map_err(AwsError::internal)?;
    loop {
        let mut started = match function.take_idle(pool) {
            Some(process) => Started { process, init_ms: None, failed: None, is_new: false },
            None => start(cloud, function).await?,
        };
        let begun_ms = cloud.clock.now_ms();
        if let Some(failed) = started.failed.take() {
            started = start_again(cloud, function, started, &failed, begun_ms).await?;
        }
        let Started { mut process, init_ms, failed, is_new } = started;
        process.logger.begin(call.request_id);
        let ending = match failed {
            Some(ending) => ending,
            None => run(cloud, function, &mut process, call, begun_ms).await,
        };
        let ending = match ending {
            // The process had died while it was idle: another one takes the event.
            Ending::Untouched if !is_new => continue,
            Ending::Untouched => Ending::exit("Error: Runtime exited without providing a reason"),
            ending => ending,
        };
        let duration_ms = cloud.clock.now_ms() - begun_ms;
        return Ok(finish(cloud, function, process, call.request_id, ending, duration_ms, init_ms));
    }
}

/// Starts a process, once the pool has a place for it.
async fn spawn(cloud: &Arc<Cloud>, function: &Function, logger: Arc<Logger>) -> Result<Process, AwsError> {
    let state = cloud.state::<State>();
    let Some(folder) = state.binaries.get() else {
        return Err(AwsError::internal("the folder of the function binaries is not set"));
    };
    let generation = function.generation();
    let place = state.pool.place().await;
    Process::spawn(cloud, &function.config, folder, logger, generation, place, &state.alive).await
}

async fn start(cloud: &Arc<Cloud>, function: &Function) -> Result<Started, AwsError> {
    let logger = Arc::new(Logger::new(cloud, &function.config));
    logger.init(&function.config.runtime);
    let started_ms = cloud.clock.now_ms();
    let mut process = spawn(cloud, function, logger).await?;
    let failed = process.initialise(cloud, MAX_INIT_S).await.err();
    Ok(Started { process, init_ms: Some(cloud.clock.now_ms() - started_ms), failed, is_new: true })
}

/// Tries a failed initialisation once more, within the invocation and its time
/// (lambda-runtime-environment).
async fn start_again(
    cloud: &Arc<Cloud>,
    function: &Function,
    first: Started,
    failed: &Ending,
    begun_ms: i64,
) -> Result<Started, AwsError> {
    first.process.drain();
    let logger = first.process.logger.clone();
    logger.init_failed("init", first.init_ms.unwrap_or_default(), failed.kind());
    drop(first);
    let mut process = spawn(cloud, function, logger).await?;
    let failed = process.initialise(cloud, function.config.timeout_s).await.err();
    process.drain();
    if let Some(ending) = &failed {
        process.logger.init_failed("invoke", cloud.clock.now_ms() - begun_ms, ending.kind());
    }
    Ok(Started { process, init_ms: None, failed, is_new: true })
}

/// Gives the event to the process, and kills the process where a fault plan says so: it is not used again,
/// and ends when it is dropped.
async fn run(
    cloud: &Cloud,
    function: &Function,
    process: &mut Process,
    call: &Call<'_>,
    begun_ms: i64,
) -> Ending {
    let killed = || Ending::exit("Error: Runtime exited with error: signal: killed");
    let run = process.run(cloud, &function.config, call, begun_ms);
    match cloud.faults.crash() {
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

/// Logs the end of an invocation, and keeps the process where it can be used again.
fn finish(
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
    let used_mb = match error_type.as_deref() {
        Some("Runtime.OutOfMemory") => config.memory_mb,
        _ => process.peak_mb(),
    };
    let error_type = error_type.as_deref();
    let report = Report { duration_ms, init_ms, memory_mb: config.memory_mb, used_mb, error_type };
    process.logger.end(request_id, &report);
    let log_tail = process.logger.tail();
    let cold = init_ms.map(|ms| format!(" after {ms} ms of start")).unwrap_or_default();
    match error_type {
        None => {
            tracing::info!(target: "hop", service = "lambda", resource = %config.name, request = %request_id, "finished in {duration_ms} ms{cold}");
        }
        Some(kind) => {
            tracing::warn!(target: "hop", service = "lambda", resource = %config.name, request = %request_id, "failed with {kind} in {duration_ms} ms{cold}");
        }
    }
    if keep {
        function.keep(&cloud.state::<State>().pool, process, cloud.clock.now_ms());
    }
    let function_error = error_type.map(|_| "Unhandled".to_owned());
    Invocation { payload, function_error, request_id: request_id.to_owned(), log_tail }
}

/// Starts a process that waits for an invocation, unless there is one.
pub(super) async fn start_one(cloud: &Arc<Cloud>, function: &Function) -> Result<(), String> {
    let (name, pool) = (&function.config.name, &cloud.state::<State>().pool);
    let unusable = |error: AwsError| format!("the function {name} does not start: {}", error.message);
    let turn = pool.turns.clone().acquire_owned().await;
    let _turn = turn.map_err(|error| unusable(AwsError::internal(error)))?;
    let (process, failed) = match function.take_idle(pool) {
        Some(process) => (process, None),
        None => {
            let started = start(cloud, function).await.map_err(unusable)?;
            (started.process, started.failed)
        }
    };
    let Some(ending) = failed else {
        function.keep(pool, process, cloud.clock.now_ms());
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
    // The last line of its log explains more than how it ended.
    let last = process.logger.last_line().map(|line| format!(" ({line})")).unwrap_or_default();
    Err(format!("the function {name} does not start: {why}{last}"))
}
