//! What happened since the start: counters that the services raise where it happens. They are
//! not kept; what must outlive the process is in the store.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Counts of one run.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests to the APIs, by the first digit of their status.
    requests: [AtomicU64; 6],
    events: AtomicU64,
    executions: Mutex<BTreeMap<&'static str, u64>>,
    writes: OnceLock<Observer>,
}

/// Is told the body of a request.
type Observe = dyn Fn(&[u8]) + Send + Sync;

/// Told of every successful write to a table.
struct Observer(Box<Observe>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

impl Tally {
    /// A request to an API was answered.
    pub fn request(&self, status: u16) {
        if let Some(count) = self.requests.get(usize::from(status / 100)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A bus accepted an event that is neither a replayed one nor one of another bus.
    pub fn event(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    /// An execution ended with this status.
    pub fn execution(&self, status: &'static str) {
        *self.executions.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
    }

    /// `observer` is told of every successful write to a table; only the first one is.
    pub fn observe_writes(&self, observer: impl Fn(&[u8]) + Send + Sync + 'static) {
        let _ = self.writes.set(Observer(Box::new(observer)));
    }

    /// A write to a table succeeded; `body` is its request.
    pub fn write(&self, body: &[u8]) {
        if let Some(Observer(observer)) = self.writes.get() {
            observer(body);
        }
    }

    /// How many requests were answered with a status of that first digit.
    pub fn requests(&self, digit: usize) -> u64 {
        self.requests.get(digit).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// How many events were accepted.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// How many executions ended, by status.
    pub fn executions(&self) -> BTreeMap<&'static str, u64> {
        self.executions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
