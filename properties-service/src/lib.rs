//! The approval service: it answers requests to publish a listing, and knows of contracts
//! what their events tell.
//!
//! The workflow itself is `approval.asl.yaml`. This crate holds the four functions around
//! it: one keeps the last known contract status, one lets an execution wait for a contract,
//! one wakes those that wait, one answers for executions that died. None of them calls
//! another service or reads another service's table.

pub mod domain;
pub mod dynamo;
pub mod handlers;
pub mod ports;
pub mod workflow;

#[cfg(test)]
mod tests;
