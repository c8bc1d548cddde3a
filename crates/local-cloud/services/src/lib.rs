//! The emulated services of AWS, one folder each: `mod.rs` says what it promises and has its row, `api.rs`
//! its actions, `deploy.rs` its CloudFormation types, `store.rs` its tables. They call each other
//! downwards only: pipes and Step Functions stand on EventBridge, event sources and API Gateway; those on
//! Lambda; Lambda on logs, queues, tables and buckets.

pub mod apigateway;
pub mod cloudformation;
pub mod comprehend;
pub mod dynamodb;
pub mod event_source;
pub mod eventbridge;
pub mod inert;
pub mod lambda;
pub mod logs;
pub mod pipes;
pub mod rekognition;
pub mod s3;
pub mod schemas;
pub mod sqs;
pub mod ssm;
pub mod stepfunctions;
#[cfg(test)]
mod testing;

// The tests read the one list of services, which names this crate.
#[cfg(test)]
extern crate self as cloud_services;
