//! SSM parameters of the types String and StringList, with their last hundred versions. It refuses secrets
//! (`SecureString`), since nothing here encrypts; labels, filters and policies are not emulated.

mod api;
mod deploy;
mod put;
mod store;

#[cfg(test)]
mod tests;

use cloud_core::service::{JSON_1_1, Protocol, Service};

pub static SERVICE: Service = Service {
    protocols: &[Protocol::Json {
        content_type: JSON_1_1,
        targets: &["AmazonSSM"],
        error_prefix: "",
        forward: None,
    }],
    open: |opening| opening.store.migrate(store::TABLES),
    actions: api::ACTIONS,
    types: deploy::TYPES,
    ..Service::new("ssm")
};
