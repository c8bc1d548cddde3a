//! Lambda: functions as processes over the Runtime API. It owns the processes, their logs, and the durable
//! queue of asynchronous invocations. A process serves one invocation at a time and is kept for the next. A
//! function sees what it would see on AWS and nothing of the host's environment; its memory size bounds what
//! it can allocate.

mod api;
mod asynchronous;
mod config;
mod deploy;
mod destination;
mod function;
mod invocation;
mod logger;
mod output;
mod pool;
mod process;
mod reaper;
mod runtime_api;
mod store;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use cloud_core::service::{Chore, Protocol, Service};
use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud};
use tokio::sync::Notify;

pub(crate) use api::{page, read};
use config::EventInvoke;
pub(crate) use config::{bounded, name_of};
pub(crate) use destination::queue_url;
use function::Function;
pub use invocation::Invocation;
use pool::Pool;

pub static SERVICE: Service = Service {
    protocols: &[Protocol::Rest { owns: api::is_path }],
    open: |opening| {
        opening.store.migrate(store::TABLES)?;
        opening.keep(State::default());
        Ok(())
    },
    start,
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

#[derive(Debug, Default)]
pub struct State {
    /// The folder of the function binaries; the runner sets it before anything is invoked.
    pub binaries: OnceLock<PathBuf>,
    functions: Mutex<BTreeMap<String, Arc<Function>>>,
    event_invokes: Mutex<HashMap<String, EventInvoke>>,
    pool: Pool,
    alive: Arc<reaper::Groups>,
    /// Wakes the delivery of asynchronous invocations.
    accepted: Notify,
}

/// Finds a function by name, ARN, or partial ARN, with or without the qualifier `$LATEST`.
fn function(cloud: &Cloud, name: &str) -> Result<Arc<Function>, AwsError> {
    let mut parts: Vec<&str> = name.split(':').collect();
    if let Some(at) = parts.iter().position(|part| *part == "function") {
        parts.drain(..=at);
    }
    let known = match parts[..] {
        [name] | [name, "$LATEST"] => cloud_core::lock(&cloud.state::<State>().functions).get(name).cloned(),
        _ => None,
    };
    known.ok_or_else(|| {
        // AWS names the function by its ARN, even when the request has its name.
        let arn = cloud.arn("lambda", &format!("function:{}", parts.join(":")));
        AwsError::new(404, "ResourceNotFoundException", format!("Function not found: {arn}"))
    })
}

/// Starts the delivery of asynchronous invocations. It ends with every function process when
/// `cloud.stopping` is cancelled.
fn start(cloud: &Arc<Cloud>) {
    asynchronous::start(cloud);
    let cloud = cloud.clone();
    tokio::spawn(async move {
        cloud.stopping.cancelled().await;
        end_processes(&cloud);
    });
}

/// Kills every function process at once; the last thing to do before the local cloud exits.
pub fn end_processes(cloud: &Cloud) {
    let state = cloud.state::<State>();
    cloud_core::lock(&state.functions).values().for_each(|function| function.retire(&state.pool));
    state.alive.kill_all();
}

/// Ends the function processes that have been idle for too long; returns their number.
fn end_idle(cloud: &Cloud) -> usize {
    cloud.state::<State>().pool.end_idle(cloud.clock.now_ms())
}

/// Runs new binaries of these names from the next invocation on. Idle processes of their functions end now,
/// busy ones after their invocation.
pub fn replaced(cloud: &Cloud, binaries: &[String]) {
    let state = cloud.state::<State>();
    let functions = cloud_core::lock(&state.functions);
    let affected = functions.values().filter(|function| binaries.contains(&function.config.binary));
    affected.for_each(|function| function.retire(&state.pool));
}

/// Starts one process of each function before its first invocation, so that a function that cannot start is
/// noticed early. (AWS may start functions ahead of time, too.) The error is a sentence that names the first
/// function that does not start, and the last line of its log.
pub async fn start_all(cloud: &Arc<Cloud>) -> Result<(), String> {
    let functions: Vec<Arc<Function>> =
        cloud_core::lock(&cloud.state::<State>().functions).values().cloned().collect();
    for function in functions {
        invocation::start_one(cloud, &function).await?;
    }
    Ok(())
}

/// Invokes a function (by name or ARN) and waits for its answer. The invocation goes on when the caller
/// stops waiting, as it does on AWS. Fails with `ResourceNotFoundException`, or with
/// `TooManyRequestsException` over the function's concurrency.
pub async fn invoke(cloud: &Arc<Cloud>, name: &str, payload: Bytes) -> Result<Invocation, AwsError> {
    let function = function(cloud, name)?;
    invocation::invoke(cloud, &function, payload, cloud.random.uuid(), None).await
}

/// Accepts an asynchronous invocation: stores it, tries it up to three times, and then sends it to the
/// function's on-failure destination. Fails with `ResourceNotFoundException`.
pub async fn invoke_async(cloud: &Arc<Cloud>, function: &str, payload: Bytes) -> Result<(), AwsError> {
    asynchronous::accept(cloud, function, payload).map(drop)
}

/// How many asynchronous invocations failed or were throttled and are due again, by function.
pub fn retrying(cloud: &Cloud) -> Result<BTreeMap<String, u64>, StoreError> {
    store::retrying(&cloud.store)
}

/// The timeout of a function, in seconds.
pub(crate) fn timeout_s(cloud: &Cloud, name: &str) -> Result<u64, AwsError> {
    Ok(function(cloud, name)?.config.timeout_s)
}

#[cfg(test)]
pub(crate) mod tests;
