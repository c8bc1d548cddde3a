//! The error of every emulated service. The endpoint renders it in the protocol of the caller; Step
//! Functions makes an error name of its code.

use serde_json::{Map, Value};

/// An AWS service error, which an SDK turns into a typed exception.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct AwsError {
    /// For example `ResourceNotFoundException`.
    pub code: String,
    pub message: String,
    /// The HTTP status code.
    pub status: u16,
    /// Members of the error beyond its message, for example `CancellationReasons`.
    pub details: Map<String, Value>,
}

impl AwsError {
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), status, details: Map::new() }
    }

    /// An error of the caller: status 400.
    pub fn client(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    /// An error of the local cloud: status 500, `InternalFailure`.
    pub fn internal(message: impl ToString) -> Self {
        Self::new(500, "InternalFailure", message.to_string())
    }

    /// AWS has this operation, the local cloud does not: status 501, `NotImplemented`.
    pub fn not_emulated(service: &str, action: &str) -> Self {
        Self::new(501, "NotImplemented", format!("{service}:{action} is not emulated by the local cloud."))
    }

    pub fn is_server_fault(&self) -> bool {
        self.status >= 500
    }
}
