//! Step Functions Standard workflows in JSONata. This service owns state machines, executions, histories and
//! task tokens. Each step of an execution is one transaction, so that after `kill -9` timers and tokens go on
//! and the runner repeats the requests that were in flight. It never ignores a field of a definition: it
//! refuses at deployment what is not emulated.

mod api;
mod deploy;
mod machines;
mod runner;
mod shown;
mod store;

#[cfg(test)]
mod tests;

use std::time::Duration;

use cloud_core::Cloud;
use cloud_core::service::{Chore, JSON_1_0, Protocol, Service};
use cloud_core::store::StoreError;

pub static SERVICE: Service = Service {
    protocols: &[Protocol::Json {
        content_type: JSON_1_0,
        targets: &["AWSStepFunctions"],
        error_prefix: "",
        forward: None,
    }],
    open: |opening| {
        opening.store.migrate(store::TABLES)?;
        opening.keep(runner::Runner::default());
        opening.keep(machines::Revisions::default());
        Ok(())
    },
    check,
    start: runner::resume,
    chores: &[Chore {
        of: "expired executions",
        every: Duration::from_secs(300),
        // An execution has a history of dozens of events, or of thousands.
        portion: 20,
        deletes: true,
        work: |cloud, most| {
            Box::pin(async move { Ok(store::sweep(&cloud.store, cloud.clock.now_ms(), most)?) })
        },
    }],
    actions: api::ACTIONS,
    types: deploy::TYPES,
    ..Service::new("states")
};

/// Checks that this version can read every running execution.
fn check(cloud: &Cloud) -> Result<(), StoreError> {
    match cloud.store.read(store::running) {
        Err(StoreError::Sqlite(rusqlite::Error::FromSqlConversionFailure(..))) => {
            Err(StoreError::OtherVersion { what: "an execution that runs cannot be read".into() })
        }
        other => other.map(drop),
    }
}
