//! The contracts service: agents create contracts and change their status.
//!
//! - [`domain`]: the rules, pure: what may become of a contract.
//! - [`ports`]: what the handlers need from the outside.
//! - [`handlers`]: what each function does with its event.
//! - [`dynamo`]: the tables.
//!
//! Nothing here publishes events: a Pipe reads the table's stream and publishes every change of status
//! (`template.yaml`).

pub mod domain;
pub mod dynamo;
pub mod handlers;
pub mod ports;

#[cfg(test)]
mod tests;
