//! Lambda: functions as processes over the Runtime API, invocations, logs.

use std::sync::Arc;

use serde_json::Value;

use crate::cloud::Cloud;
use crate::error::AwsError;
use crate::resource::{Refusal, Resource};
use crate::store::{Store, StoreError};

/// What the service keeps.
#[derive(Debug, Default)]
pub struct State {}

impl State {
    /// Creates the service's tables.
    ///
    /// # Errors
    /// When the store refuses.
    pub fn open(_store: &Store) -> Result<Self, StoreError> {
        Ok(Self::default())
    }
}

/// Answers one API action; `input` and the answer have the members of AWS's API reference.
///
/// # Errors
/// AWS's own error codes.
pub async fn call(_cloud: &Arc<Cloud>, action: &str, _input: Value) -> Result<Value, AwsError> {
    Err(AwsError::not_emulated("lambda", action))
}

/// Deploys one resource of this service.
///
/// # Errors
/// Names what is not emulated.
pub async fn deploy(_cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    Err(resource.refuse("Type", format!("{} is not emulated", resource.kind)))
}

/// Starts the background tasks, after every resource is deployed; they end when `cloud.stopping` is cancelled.
pub fn start(_cloud: &Arc<Cloud>) {}

/// The outcome of a synchronous invocation.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The function's answer, or its error document (`errorType`, `errorMessage`).
    pub payload: bytes::Bytes,
    /// `Unhandled` (or `Handled`) when the function failed, timed out or died.
    pub function_error: Option<String>,
    /// The `x-amzn-requestid` of the invocation.
    pub request_id: String,
}

/// Invokes a function (by name or ARN) and waits for its answer.
///
/// # Errors
/// `ResourceNotFoundException` where there is no such function, `TooManyRequestsException` over its concurrency.
pub async fn invoke(
    _cloud: &Arc<Cloud>,
    _function: &str,
    _payload: bytes::Bytes,
) -> Result<Invocation, AwsError> {
    Err(AwsError::not_emulated("lambda", "Invoke"))
}

/// Accepts an asynchronous invocation: it is stored, tried up to three times, and then sent
/// to the function's on-failure destination.
///
/// # Errors
/// `ResourceNotFoundException` where there is no such function.
pub async fn invoke_async(
    _cloud: &Arc<Cloud>,
    _function: &str,
    _payload: bytes::Bytes,
) -> Result<(), AwsError> {
    Err(AwsError::not_emulated("lambda", "Invoke"))
}
