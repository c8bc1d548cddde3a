//! Event source mappings: queues and table streams that invoke functions.

pub mod stream;

use std::sync::Arc;

use crate::cloud::Cloud;
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
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        store.migrate(stream::TABLES)?;
        Ok(Self::default())
    }
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
