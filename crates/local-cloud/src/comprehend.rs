//! A documented stand-in for Comprehend `DetectSentiment`: a small lexicon.

use std::sync::Arc;

use serde_json::Value;

use crate::cloud::Cloud;
use crate::error::AwsError;
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
    Err(AwsError::not_emulated("comprehend", action))
}
