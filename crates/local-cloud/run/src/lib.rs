//! Runs the application of `template.yaml` on one machine: the list of services, the AWS endpoint with its
//! protocols, deployment, the state folder, and `up`.

pub mod deploy;
pub mod endpoint;
pub mod folder;
pub mod project;
mod removed;
mod samconfig;
pub mod services;
pub mod up;

pub use cloud_core::{AwsError, Cloud, Settings};
