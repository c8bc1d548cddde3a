//! Counters since the start, which the services raise. They end with the process.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use crate::lock;

#[derive(Debug, Default)]
pub struct Counters {
    /// Requests to the APIs, by the first digit of their status.
    requests: [AtomicU64; 6],
    events: AtomicU64,
    executions: Mutex<BTreeMap<&'static str, u64>>,
    writes: OnceLock<Observer>,
}

/// Called with the body of every successful write to a table.
struct Observer(Box<Observe>);

type Observe = dyn Fn(&[u8]) + Send + Sync;

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

impl Counters {
    /// Counts an answered request to an API.
    pub fn request(&self, status: u16) {
        if let Some(count) = self.requests.get(usize::from(status / 100)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an event that a bus accepted; not a replayed one, nor one that another bus forwards.
    pub fn event(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an execution that ended with this status.
    pub fn execution(&self, status: &'static str) {
        *lock(&self.executions).entry(status).or_default() += 1;
    }

    /// Calls `observer` with the body of every successful write to a table. Only the first call has an
    /// effect: there is one observer.
    pub fn observe_writes(&self, observer: impl Fn(&[u8]) + Send + Sync + 'static) {
        let _ = self.writes.set(Observer(Box::new(observer)));
    }

    /// Passes the body of a successful write to the observer.
    pub fn write(&self, body: &[u8]) {
        if let Some(Observer(observer)) = self.writes.get() {
            observer(body);
        }
    }

    /// How many requests were answered with a status of that first digit.
    pub fn requests(&self, digit: usize) -> u64 {
        self.requests.get(digit).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// How many executions ended, by status.
    pub fn executions(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.executions).clone()
    }
}
