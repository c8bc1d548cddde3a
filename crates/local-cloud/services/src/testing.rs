//! What the tests of services share: a cloud with all of them.

use std::sync::Arc;

use cloud_core::clock::Clock;
use cloud_core::random::Random;
use cloud_core::store::StoreError;
use cloud_core::{Cloud, Settings};

#[path = "../../run/src/services.rs"]
mod services;
pub(crate) use services::SERVICES;

/// A cloud in memory, with the system's clock and a fixed seed.
pub(crate) fn cloud() -> Arc<Cloud> {
    open(Settings::for_tests(), Clock::system(), Random::seeded(1)).unwrap()
}

/// A cloud of one's own clock and settings.
pub(crate) fn open(settings: Settings, clock: Clock, random: Random) -> Result<Arc<Cloud>, StoreError> {
    Cloud::open(settings, clock, random, SERVICES)
}
