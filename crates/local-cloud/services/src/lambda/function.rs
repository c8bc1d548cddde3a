//! A deployed function, and which processes it may use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;

use super::config::Config;
use super::pool::Pool;
use super::process::Process;

#[derive(Debug)]
pub(super) struct Function {
    pub config: Config,
    /// Reserved concurrency; `None` shares the account's.
    pub reserved: Option<Arc<Semaphore>>,
    /// Changes when its processes become old. A process is used only in the generation that started it.
    generation: AtomicU64,
}

impl Function {
    pub fn new(config: Config, pool: &Pool) -> Self {
        Self {
            reserved: config.reserved_concurrency.map(|most| Arc::new(Semaphore::new(most))),
            generation: AtomicU64::new(pool.next_generation()),
            config,
        }
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Ends idle processes; busy ones end after their invocation.
    pub fn retire(&self, pool: &Pool) {
        self.generation.store(pool.next_generation(), Ordering::SeqCst);
        pool.end(&self.config.name);
    }

    pub fn take_idle(&self, pool: &Pool) -> Option<Process> {
        loop {
            let mut process = pool.take(&self.config.name)?;
            if self.is_usable(&mut process) {
                return Some(process);
            }
        }
    }

    pub fn keep(&self, pool: &Pool, process: Process, now_ms: i64) {
        pool.keep(process, now_ms, |process| self.is_usable(process));
    }

    fn is_usable(&self, process: &mut Process) -> bool {
        process.generation == self.generation() && process.is_alive()
    }
}
