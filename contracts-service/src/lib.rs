//! Contracts: agents create them and move them through their life.
//!
//! - [`domain`]: the rules, pure: what may become of a contract.
//! - [`ports`]: what the handlers need from the outside.
//! - [`handlers`]: what each function does with its event.
//! - [`dynamo`]: the tables.
//!
//! Nothing here publishes: the table's stream feeds a Pipe, which tells the bus of every
//! change of status (`template.yaml`).

pub mod domain;
pub mod dynamo;
pub mod handlers;
pub mod ports;

#[cfg(test)]
mod tests;
