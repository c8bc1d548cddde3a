//! Where the services meet: settings, clock, randomness, store, and the state of each
//! service. Modules call each other through free functions that take `&Arc<Cloud>`.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::random::Random;
use crate::store::{Store, StoreError};

/// What is fixed for a run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The AWS region in every ARN.
    pub region: String,
    /// The twelve-digit account id in every ARN.
    pub account: String,
    /// The stage: `local`, `dev` or `prod`.
    pub stage: String,
    /// The folder of the root `template.yaml`.
    pub project: PathBuf,
    /// Where state lives; `None` keeps it in memory, for tests.
    pub state: Option<PathBuf>,
}

impl Settings {
    /// Settings for tests: stage `local`, everything in memory.
    pub fn for_tests() -> Self {
        Self {
            region: "us-east-1".into(),
            account: "123456789012".into(),
            stage: "local".into(),
            project: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.."),
            state: None,
        }
    }
}

/// The whole local cloud.
#[derive(Debug)]
pub struct Cloud {
    /// What is fixed for this run.
    pub settings: Settings,
    /// The one clock.
    pub clock: Clock,
    /// The one source of randomness.
    pub random: Random,
    /// What outlives `kill -9`.
    pub store: Store,
    /// Cancelled when the cloud stops; every background task ends on it.
    pub stopping: CancellationToken,
    /// `http://127.0.0.1:4566`: the AWS endpoint, once it listens.
    pub endpoint_url: OnceLock<String>,
    /// `http://127.0.0.1:3000`: the APIs, once they listen.
    pub api_url: OnceLock<String>,
}

impl Cloud {
    /// Opens the state; starts nothing yet.
    ///
    /// # Errors
    /// When the state cannot be opened.
    pub fn open(settings: Settings, clock: Clock, random: Random) -> Result<Arc<Self>, StoreError> {
        let store = match &settings.state {
            Some(folder) => Store::open(&folder.join("cloud.sqlite"))?,
            None => Store::in_memory()?,
        };
        Ok(Arc::new(Self {
            settings,
            clock,
            random,
            store,
            stopping: CancellationToken::new(),
            endpoint_url: OnceLock::new(),
            api_url: OnceLock::new(),
        }))
    }

    /// In memory, with the system's clock and a fixed seed.
    ///
    /// # Errors
    /// When SQLite cannot allocate its database.
    pub fn for_tests() -> Result<Arc<Self>, StoreError> {
        Self::open(Settings::for_tests(), Clock::system(), Random::seeded(1))
    }

    /// `arn:aws:{service}:{region}:{account}:{resource}`.
    pub fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:aws:{service}:{}:{}:{resource}", self.settings.region, self.settings.account)
    }
}
