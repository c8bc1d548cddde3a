//! Runs the application of `template.yaml` on one machine.
//!
//! One module per AWS service, each with its state, its API actions (`call`), and the
//! template resources that it deploys (`deploy`). They meet in [`Cloud`]. What a module
//! does not emulate it refuses by name; nothing is ignored silently.

pub mod apigateway;
pub mod calls;
pub mod clock;
pub mod cloud;
pub mod cloudformation;
pub mod comprehend;
pub mod deploy;
pub mod dynamodb;
pub mod earlier;
pub mod endpoint;
pub mod error;
pub mod event_source;
pub mod eventbridge;
pub mod faults;
pub mod folder;
pub mod housekeeping;
pub mod lambda;
pub mod logs;
pub mod pipes;
pub mod port;
pub mod random;
#[cfg(test)]
mod referee;
pub mod rekognition;
pub mod resource;
pub mod s3;
mod samconfig;
pub mod schemas;
pub mod sqs;
pub mod ssm;
pub mod stepfunctions;
pub mod store;
pub mod tally;
pub mod template;
pub mod up;

pub use cloud::{Cloud, Settings};
pub use error::AwsError;
