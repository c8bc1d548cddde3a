//! What every Lambda main needs: configuration, clients, telemetry, the batch loop over queue messages, the
//! ledger of commands, publishing to a bus.
//!
//! It knows AWS and the format of our commands; it knows no rule of the business.

pub mod api;
pub mod batch;
pub mod clients;
pub mod command;
pub mod config;
mod error;
pub mod event;
#[cfg(feature = "fixture")]
pub mod fixture;
pub mod item;
pub mod ledger;
pub mod publish;
pub mod redelivery;
mod roots;
pub mod telemetry;
pub mod transaction;

pub use error::CallError;
