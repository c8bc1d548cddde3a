//! Contracts: agents create them and move them through their life.
//!
//! - [`domain`]: the rules, pure: what may become of a contract.
//! - [`ports`]: what the handlers need from the outside.
//! - [`ingest`]: the commands from the queue; [`query`]: the two reads of the API.
//! - [`dynamo`]: the tables.
//!
//! Nothing here publishes: the table's stream feeds a Pipe, which tells the bus of every
//! change of status (`template.yaml`).

pub mod domain;
pub mod dynamo;
pub mod ingest;
pub mod ports;
pub mod query;
