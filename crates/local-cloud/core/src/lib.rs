//! The base of every emulated service: clock, randomness, store, faults, recorded calls, errors, resources,
//! HTTP ports, and a [`Cloud`] that knows no service. A service is a static row ([`service::Service`]); the
//! layers above put the rows together.

pub mod api;
pub mod calls;
pub mod clock;
mod cloud;
pub mod counters;
mod error;
pub mod faults;
pub mod housekeeping;
pub mod port;
pub mod private_file;
pub mod random;
pub mod resource;
pub mod service;
pub mod store;

pub use cloud::{Cloud, Settings};
pub use error::AwsError;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex even after another holder panicked: what the mutexes here hold is whole at any moment, and
/// SQLite rolls back the transaction of a closure that panics.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
