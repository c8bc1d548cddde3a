//! Lambda: functions as processes over the Runtime API. It owns the processes, of which
//! each serves one invocation at a time and is kept for the next, their logs, and the
//! durable queue of asynchronous invocations. A function sees what it would see on AWS
//! and nothing of the host's environment; its memory size bounds what it can allocate.

mod api;
mod asynchronous;
mod config;
mod deploy;
mod function;
mod logger;
mod output;
mod pool;
mod process;
mod reaper;
mod runtime_api;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

pub(crate) use api::{page, read};
pub(crate) use asynchronous::queue_url;
use bytes::Bytes;
use cloud_core::service::{Chore, Protocol, Service};
use cloud_core::store::{Store, StoreError};
use cloud_core::{AwsError, Cloud, Settings};
use config::{EventInvoke, Permission};
pub(crate) use config::{bounded, name_of};
use function::Function;
use pool::Pool;
use tokio::sync::{Notify, Semaphore};

/// The service.
pub static SERVICE: Service = Service {
    protocols: &[Protocol::Rest { owns: api::is_path }],
    open: |opening| {
        let state = State::open(opening.store, opening.settings)?;
        opening.keep(state);
        Ok(())
    },
    start: start,
    chores: &[Chore {
        of: "idle function processes",
        every: Duration::from_secs(15),
        portion: usize::MAX,
        deletes: false,
        work: |cloud, _| Box::pin(async move { Ok(end_idle(cloud)) }),
    }],
    actions: api::ACTIONS,
    types: deploy::TYPES,
    ..Service::new("lambda")
};

/// Concurrent executions of all functions of an account (gettingstarted-limits).
const ACCOUNT_CONCURRENCY: usize = 1_000;

/// What the service keeps.
#[derive(Debug)]
pub struct State {
    /// What stands before a function's name in its ARN.
    prefix: String,
    /// The folder of the function binaries; the runner sets it before anything is invoked.
    pub binaries: OnceLock<PathBuf>,
    functions: Mutex<BTreeMap<String, Arc<Function>>>,
    event_invokes: Mutex<HashMap<String, EventInvoke>>,
    permissions: Mutex<Vec<Permission>>,
    account: Arc<Semaphore>,
    pool: Pool,
    /// Process groups that are alive.
    alive: reaper::Groups,
    accepted: Notify,
}

impl State {
    /// Creates the service's tables.
    ///
    /// # Errors
    /// When the store refuses.
    pub fn open(store: &Store, settings: &Settings) -> Result<Self, StoreError> {
        store.migrate(asynchronous::TABLES)?;
        Ok(Self {
            prefix: format!("arn:aws:lambda:{}:{}:function:", settings.region, settings.account),
            binaries: OnceLock::new(),
            functions: Mutex::default(),
            event_invokes: Mutex::default(),
            permissions: Mutex::default(),
            account: Arc::new(Semaphore::new(ACCOUNT_CONCURRENCY)),
            pool: Pool::default(),
            alive: reaper::Groups::default(),
            accepted: Notify::new(),
        })
    }

    /// A function by name, ARN, or partial ARN, with or without the qualifier `$LATEST`.
    fn function(&self, name: &str) -> Result<Arc<Function>, AwsError> {
        let mut parts: Vec<&str> = name.split(':').collect();
        if let Some(at) = parts.iter().position(|part| *part == "function") {
            parts.drain(..=at);
        }
        let known = match parts[..] {
            [name] | [name, "$LATEST"] => lock(&self.functions).get(name).cloned(),
            _ => None,
        };
        known.ok_or_else(|| {
            // AWS names it by its ARN, however it was asked for.
            let message = format!("Function not found: {}{}", self.prefix, parts.join(":"));
            AwsError::new(404, "ResourceNotFoundException", message)
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the delivery of asynchronous invocations; when `cloud.stopping` is cancelled,
/// that and every function process ends.
pub fn start(cloud: &Arc<Cloud>) {
    asynchronous::start(cloud);
    let cloud = cloud.clone();
    tokio::spawn(async move {
        cloud.stopping.cancelled().await;
        end_processes(&cloud);
    });
}

/// Kills every function process at once; the last thing to do before the local cloud exits.
pub fn end_processes(cloud: &Cloud) {
    lock(&cloud.state::<State>().functions).values().for_each(|function| function.retire(cloud));
    cloud.state::<State>().alive.kill_all();
}

/// Ends the function processes that have been idle for too long; how many.
pub(crate) fn end_idle(cloud: &Cloud) -> usize {
    cloud.state::<State>().pool.end_idle(cloud.clock.now_ms())
}

/// Other binaries of these names are in place: idle processes of their functions end now, busy
/// ones after their invocation, and whatever is invoked from here on runs the new ones.
pub fn replaced(cloud: &Cloud, binaries: &[String]) {
    let functions = lock(&cloud.state::<State>().functions);
    functions
        .values()
        .filter(|function| binaries.contains(&function.config.binary))
        .for_each(|function| function.retire(cloud));
}

/// Starts one process of each function, so that one that cannot start is noticed before it is
/// needed; they wait for their first invocations. (AWS may start functions ahead of time, too.)
///
/// # Errors
/// A sentence that names the first function that does not start, and its log.
pub async fn start_all(cloud: &Arc<Cloud>) -> Result<(), String> {
    let functions: Vec<Arc<Function>> = lock(&cloud.state::<State>().functions).values().cloned().collect();
    for function in functions {
        function.start_one(cloud).await?;
    }
    Ok(())
}

/// The outcome of a synchronous invocation.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The function's answer, or its error document (`errorType`, `errorMessage`).
    pub payload: Bytes,
    /// `Unhandled` (or `Handled`) when the function failed, timed out or died.
    pub function_error: Option<String>,
    /// The `x-amzn-requestid` of the invocation.
    pub request_id: String,
    /// The last 4 KB of the invocation's log, for `LogType: Tail`.
    pub log_tail: String,
}

/// Invokes a function (by name or ARN) and waits for its answer. The invocation goes on
/// when the caller stops waiting, as it does on AWS.
///
/// # Errors
/// `ResourceNotFoundException` where there is no such function, `TooManyRequestsException` over its concurrency.
pub async fn invoke(cloud: &Arc<Cloud>, function: &str, payload: Bytes) -> Result<Invocation, AwsError> {
    let function = cloud.state::<State>().function(function)?;
    function::invoke(cloud, &function, payload, cloud.random.uuid(), None).await
}

/// Accepts an asynchronous invocation: it is stored, tried up to three times, and then sent
/// to the function's on-failure destination.
///
/// # Errors
/// `ResourceNotFoundException` where there is no such function.
pub async fn invoke_async(cloud: &Arc<Cloud>, function: &str, payload: Bytes) -> Result<(), AwsError> {
    asynchronous::accept(cloud, function, payload).map(|_| ())
}

/// How many asynchronous invocations failed or were throttled and are due again, by function.
///
/// # Errors
/// When the store refuses.
pub fn retrying(cloud: &Cloud) -> Result<BTreeMap<String, u64>, StoreError> {
    cloud.store.read(|db| {
        let statement =
            "SELECT function, count(*) FROM lambda_events WHERE attempts + throttled > 0 GROUP BY function";
        db.prepare(statement)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    })
}

/// How many asynchronous invocations of a function are still to be done.
///
/// # Errors
/// When the store refuses.
pub(crate) fn pending(cloud: &Cloud, function: &str) -> Result<u64, StoreError> {
    cloud.store.read(|db| {
        db.query_row("SELECT count(*) FROM lambda_events WHERE function = ?1", [function], |row| row.get(0))
    })
}

/// The timeout of a function.
pub(crate) fn timeout_s(cloud: &Cloud, function: &str) -> Result<u64, AwsError> {
    Ok(cloud.state::<State>().function(function)?.config.timeout_s)
}

#[cfg(test)]
pub(crate) mod tests;
