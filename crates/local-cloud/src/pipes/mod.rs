//! EventBridge Pipes from a table stream to a bus.

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
    Err(AwsError::not_emulated("pipes", action))
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
