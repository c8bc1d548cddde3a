//! The approval service: it answers requests to publish a listing. It knows contracts only from their
//! events.
//!
//! The workflow is `approval.asl.yaml`. This crate holds the four functions around it: one stores the last
//! known contract status, one lets an execution wait for a contract, one wakes the waiting executions, and
//! one answers for executions that failed. None of them calls another service or reads its tables.

pub mod domain;
pub mod dynamo;
pub mod handlers;
pub mod ports;
pub mod workflow;

#[cfg(test)]
mod tests;
