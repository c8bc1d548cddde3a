//! Runs the application of `template.yaml` on one machine.
//!
//! One module per AWS service, each with its state, its API actions (`call`), and the
//! template resources that it deploys (`deploy`). They meet in [`Cloud`]. What a module
//! does not emulate it refuses by name; nothing is ignored silently.

pub mod clock;
pub mod cloud;
pub mod error;
pub mod random;
pub mod resource;
pub mod store;

pub use cloud::{Cloud, Settings};
pub use error::AwsError;
