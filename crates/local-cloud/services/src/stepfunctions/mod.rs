//! Step Functions Standard workflows in JSONata. It owns state machines, their executions
//! and histories, and task tokens. It promises that every step of an execution is one
//! transaction, so that after `kill -9` timers and tokens go on and requests that were in
//! flight are sent again. It never ignores a field of a definition: what is not emulated is
//! refused when the machine is deployed.
//!
//! `asl` parses definitions, `query` evaluates JSONata, `tree` is an execution as data,
//! `machine` its pure step function, `runner` does steps and what they ask for,
//! `integration` makes requests of tasks and results of replies, `records` and
//! `machines` are the tables, `api` the actions.

mod api;
mod deploy;
mod machines;
mod records;
mod runner;

#[cfg(test)]
mod together;

use std::sync::Arc;
use std::time::Duration;

use cloud_core::Cloud;
use cloud_core::service::{Chore, JSON_1_0, Protocol, Service};
use cloud_core::store::{Store, StoreError};

/// The service.
pub static SERVICE: Service = Service {
    protocols: &[Protocol::Json {
        content_type: JSON_1_0,
        targets: &["AWSStepFunctions"],
        error_prefix: "",
        forward: None,
    }],
    open: |opening| {
        let state = State::open(opening.store)?;
        opening.keep(state);
        Ok(())
    },
    check: check,
    start: start,
    chores: &[Chore {
        of: "expired executions",
        every: Duration::from_secs(300),
        // An execution has a history of dozens of events, or of thousands.
        portion: 20,
        deletes: true,
        work: |cloud, most| Box::pin(async move { Ok(sweep(cloud, most)?) }),
    }],
    actions: api::ACTIONS,
    types: deploy::TYPES,
    ..Service::new("states")
};

/// What the service keeps in memory; everything else is in the store.
#[derive(Debug, Default)]
pub struct State {
    runner: runner::Runner,
}

impl State {
    /// Creates the service's tables.
    ///
    /// # Errors
    /// When the store refuses.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        records::create(store)?;
        Ok(Self::default())
    }
}

/// Whether every execution that runs can be read: one that an older version wrote might not be.
///
/// # Errors
/// When one cannot.
pub(crate) fn check(cloud: &Cloud) -> Result<(), StoreError> {
    match cloud.store.read(records::running) {
        Err(StoreError::Sqlite(rusqlite::Error::FromSqlConversionFailure(..))) => {
            Err(StoreError::OtherVersion { what: "an execution that runs cannot be read".into() })
        }
        other => other.map(|_| ()),
    }
}

/// Deletes so many executions at most that ended 90 days ago, with their histories and tokens; how many.
///
/// # Errors
/// When the store refuses.
pub(crate) fn sweep(cloud: &Cloud, most: usize) -> Result<usize, StoreError> {
    records::sweep(&cloud.store, cloud.clock.now_ms(), most)
}

/// The ARN of the state machine whose execution has handed out a task token.
pub(crate) fn machine_of(cloud: &Cloud, token: &str) -> Option<String> {
    let found = cloud.store.read(|connection| {
        let seq = records::of_token(connection, token)?;
        seq.map_or(Ok(None), |seq| records::get(connection, seq))
    });
    Some(found.ok()??.execution.meta.machine_arn)
}

/// Starts the background tasks, after every resource is deployed; they end when `cloud.stopping` is cancelled.
pub fn start(cloud: &Arc<Cloud>) {
    runner::resume(cloud);
}
