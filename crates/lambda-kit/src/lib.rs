//! What every Lambda main needs, written once: configuration, clients, telemetry, the batch
//! loop over queue messages, the ledger of commands, publishing to a bus.
//!
//! It knows AWS and the shape of our commands; it never knows a rule of the business.

pub mod api;
pub mod batch;
pub mod clients;
pub mod command;
pub mod config;
#[cfg(feature = "fixture")]
pub mod fixture;
pub mod ledger;
pub mod publish;
pub mod telemetry;

/// A dependency did not do its work: the message, event or request fails, and is delivered again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

impl Unavailable {
    /// Takes over an SDK error with all its causes, which its own `Display` leaves out.
    pub fn from_sdk(error: impl std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        Self(text)
    }
}

impl From<Unavailable> for lambda_runtime::Diagnostic {
    fn from(error: Unavailable) -> Self {
        Self { error_type: "Unavailable".into(), error_message: error.0 }
    }
}
