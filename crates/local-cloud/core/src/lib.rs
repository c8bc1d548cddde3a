//! What every emulated service stands on: the clock, randomness, the store, faults, recorded calls,
//! errors, resources, HTTP ports, and a [`Cloud`] that knows no service. A service is a static row
//! ([`service::Service`]) that the layers above put together.

pub mod api;
pub mod calls;
pub mod clock;
mod cloud;
mod error;
pub mod faults;
pub mod housekeeping;
pub mod port;
pub mod private_file;
pub mod random;
pub mod resource;
pub mod service;
pub mod store;
pub mod tally;

pub use cloud::{Cloud, Settings};
pub use error::AwsError;
