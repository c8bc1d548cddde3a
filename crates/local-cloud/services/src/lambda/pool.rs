//! The function processes: how many there may be, and those that wait for their next invocation. An idle
//! process ends after a minute, or when another function needs its place. The process that a function used
//! last stays, so that its next invocation starts warm. (AWS does not say for how long it keeps an environment:
//! <https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html>.)

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cloud_core::lock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::config::ACCOUNT_CONCURRENCY;
use super::process::Process;

/// Processes at once, idle ones included; further invocations wait. AWS has no such bound, but one machine is
/// not a fleet.
pub(super) const PROCESSES: usize = 64;

const MAX_IDLE_MS: i64 = 60_000;

#[derive(Debug)]
pub(super) struct Pool {
    /// A permit for each invocation that has its turn; it may have a process or need one.
    pub turns: Arc<Semaphore>,
    /// A permit for each process.
    pub places: Arc<Semaphore>,
    /// The concurrency that functions without reserved concurrency share.
    pub account: Arc<Semaphore>,
    /// The process that has been idle for longest is the first. The lock ensures that a process is taken or
    /// ended, never both.
    idle: Mutex<Vec<Idle>>,
    generations: AtomicU64,
}

#[derive(Debug)]
struct Idle {
    process: Process,
    since_ms: i64,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(PROCESSES)),
            places: Arc::new(Semaphore::new(PROCESSES)),
            account: Arc::new(Semaphore::new(ACCOUNT_CONCURRENCY)),
            idle: Mutex::default(),
            generations: AtomicU64::default(),
        }
    }
}

impl Pool {
    /// A number that no function and no process has had.
    pub fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::SeqCst)
    }

    /// The idle process that a function used last.
    pub fn take(&self, function: &str) -> Option<Process> {
        let mut idle = lock(&self.idle);
        let at = idle.iter().rposition(|idle| idle.process.function == function)?;
        Some(idle.remove(at).process)
    }

    /// Keeps a process for the next invocation, if it is still `usable`. It asks under the lock, so that a
    /// later [`Pool::end`] finds the process.
    pub fn keep(&self, mut process: Process, now_ms: i64, usable: impl FnOnce(&mut Process) -> bool) {
        let mut idle = lock(&self.idle);
        if usable(&mut process) {
            idle.push(Idle { process, since_ms: now_ms });
        }
    }

    /// A place for a new process. Where all are taken, the process that has been idle for longest ends. The
    /// caller has a turn and no process yet, so there is a free place or an idle process.
    pub async fn place(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(place) = self.places.clone().try_acquire_owned() {
                return place;
            }
            self.end_oldest();
            // Another caller may take the place first.
            tokio::task::yield_now().await;
        }
    }

    fn end_oldest(&self) {
        let mut idle = lock(&self.idle);
        if !idle.is_empty() {
            idle.remove(0);
        }
    }

    /// Ends the idle processes of a function.
    pub fn end(&self, function: &str) {
        lock(&self.idle).retain(|idle| idle.process.function != function);
    }

    /// Ends the processes that have been idle for too long; returns their number.
    pub fn end_idle(&self, now_ms: i64) -> usize {
        let mut idle = lock(&self.idle);
        let before = idle.len();
        let mut functions = HashSet::new();
        let mut stays: Vec<bool> = idle
            .iter()
            .rev()
            .map(|idle| {
                functions.insert(idle.process.function.clone()) || now_ms - idle.since_ms < MAX_IDLE_MS
            })
            .collect();
        // `stays` begins with the newest process, `retain` with the oldest.
        idle.retain(|_| stays.pop().unwrap_or(true));
        before - idle.len()
    }

    #[cfg(test)]
    pub fn idle_of(&self, function: &str) -> usize {
        lock(&self.idle).iter().filter(|idle| idle.process.function == function).count()
    }
}
