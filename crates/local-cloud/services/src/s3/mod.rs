//! S3, as far as the images bucket needs it: buckets and objects in the local cloud's own store, so that an
//! object and its metadata appear in one transaction. Buckets have no versions. Nothing checks who asks.

mod api;
mod deploy;
mod list;
mod store;

use cloud_core::service::{Protocol, Service};

pub use list::{Listing, Page, list, position};
pub use store::{
    Info, Upload, buckets, check_bucket, copy, create_bucket, delete, delete_bucket, get, head,
    precondition_failed, put,
};

pub static SERVICE: Service = Service {
    protocols: &[Protocol::S3],
    open: |opening| store::open(opening.store),
    actions: api::ACTIONS,
    types: deploy::TYPES,
    ..Service::new("s3")
};

#[cfg(test)]
mod tests;
