//! The shape in which every emulated AWS service refuses a call. The endpoint renders it
//! in the protocol of the caller; Step Functions turns its code into an error name.

use serde_json::{Map, Value};

/// An AWS service error: what an SDK turns into a typed exception.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct AwsError {
    /// The error code, for example `ResourceNotFoundException`.
    pub code: String,
    /// A sentence for a person.
    pub message: String,
    /// The HTTP status code.
    pub status: u16,
    /// Members of the error beyond its message, for example `CancellationReasons`.
    pub details: Map<String, Value>,
}

impl AwsError {
    /// An error with the given HTTP status.
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), status, details: Map::new() }
    }

    /// The caller's fault: status 400.
    pub fn client(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    /// Our fault: status 500, `InternalFailure`.
    pub fn internal(message: impl ToString) -> Self {
        Self::new(500, "InternalFailure", message.to_string())
    }

    /// The operation exists on AWS, but not here.
    pub fn not_emulated(service: &str, action: &str) -> Self {
        Self::new(501, "NotImplemented", format!("{service}:{action} is not emulated by the local cloud."))
    }

    /// An input whose members are not those of the action: in AWS's words, where one is
    /// missing; by name, where one is not emulated.
    pub fn unreadable(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        let named = |before: &str| {
            let (name, _) = text.strip_prefix(before)?.split_once('`')?;
            Some(name.to_owned())
        };
        if let Some(mut name) = named("missing field `") {
            name.get_mut(..1).map(str::make_ascii_lowercase);
            return Self::client(
                "ValidationException",
                format!(
                    "1 validation error detected: Value null at '{name}' failed to satisfy constraint: Member must not be null"
                ),
            );
        }
        match named("unknown field `") {
            Some(name) => {
                let message = format!("The parameter {name} is not emulated by the local cloud.");
                Self::client("ValidationException", message)
            }
            None => Self::client("SerializationException", text),
        }
    }

    /// Whether the service, not the caller, is to blame (5xx).
    pub fn is_server_fault(&self) -> bool {
        self.status >= 500
    }
}
