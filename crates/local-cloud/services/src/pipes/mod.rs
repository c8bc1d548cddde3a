//! EventBridge Pipes from a table stream to a bus: filter, input template, PutEvents. The stream reader
//! owns order, retries, bisecting and checkpoints. A pipe loses no record silently, and may publish one
//! twice. Enrichment, other sources and other targets are refused by name.

use cloud_core::service::{Protocol, Service};

mod api;
mod deploy;
mod pipe;
mod running;
mod store;
#[cfg(test)]
mod tests;
mod transfer;

pub static SERVICE: Service = Service {
    protocols: &[Protocol::Rest { owns: |path| path.starts_with("/v1/pipes") }],
    open: |opening| {
        opening.store.migrate(store::TABLES)?;
        opening.keep(running::State::default());
        Ok(())
    },
    start: running::start,
    actions: api::ACTIONS,
    types: deploy::TYPES,
    ..Service::new("pipes")
};
