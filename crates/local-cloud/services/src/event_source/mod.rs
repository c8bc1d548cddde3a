//! Event source mappings: queues and table streams that invoke functions. A mapping polls its source,
//! filters, batches, invokes, and settles the batch by the function's answer, in the way that the Lambda
//! guide describes for each source. Other sources and tumbling windows are refused.

use cloud_core::service::Service;

mod api;
mod backoff;
mod deploy;
pub(crate) mod filters;
mod mapping;
mod pollers;
mod queue;
mod response;
mod store;
pub mod stream;
mod table;
#[cfg(test)]
mod tests;

/// A part of the service `lambda`.
pub static SERVICE: Service = Service {
    open: |opening| {
        store::open(opening.store)?;
        opening.keep(pollers::State::default());
        Ok(())
    },
    start: pollers::start,
    actions: api::ACTIONS,
    types: deploy::TYPES,
    ..Service::new("lambda")
};
