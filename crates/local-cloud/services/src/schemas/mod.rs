//! EventBridge schema registries: it describes and lists the registries and schemas of the template, and keeps
//! the versions of schemas. Discovery, code bindings and search are not emulated, and nothing validates
//! events against a schema (nor does AWS).

mod api;
mod deploy;
mod store;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Mutex;

use cloud_core::service::{Protocol, Service};

pub static SERVICE: Service = Service {
    protocols: &[Protocol::Rest { owns: |path| path.starts_with("/v1/registries") }],
    open: |opening| {
        opening.store.migrate(store::TABLES)?;
        opening.keep(Declared::default());
        Ok(())
    },
    actions: api::ACTIONS,
    types: deploy::TYPES,
    ..Service::new("schemas")
};

/// The registries in the template of this run, and its schemas as `registry/schema`.
#[derive(Debug, Default)]
struct Declared(Mutex<BTreeSet<String>>);

impl Declared {
    fn add(&self, key: String) {
        cloud_core::lock(&self.0).insert(key);
    }

    fn has(&self, key: &str) -> bool {
        cloud_core::lock(&self.0).contains(key)
    }
}
