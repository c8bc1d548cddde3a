//! The one clock of the local cloud. Everything durable is timed in milliseconds since
//! the Unix epoch, so that a due time outlives a restart; a test can hold the clock and
//! move it by hand.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

/// Wall-clock time, or a time that a test sets.
#[derive(Debug)]
pub struct Clock {
    /// Milliseconds since the epoch; `None` follows the system.
    manual: Option<AtomicI64>,
    moved: Notify,
}

impl Clock {
    /// Follows the system's clock.
    pub fn system() -> Self {
        Self { manual: None, moved: Notify::new() }
    }

    /// Stands still at `now_ms` (milliseconds since the epoch) until [`Clock::advance`].
    pub fn manual(now_ms: i64) -> Self {
        Self { manual: Some(AtomicI64::new(now_ms)), moved: Notify::new() }
    }

    /// Now, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        match &self.manual {
            Some(now) => now.load(Ordering::SeqCst),
            None => {
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64)
            }
        }
    }

    /// Moves a manual clock forward and wakes all that sleep on it. No effect on the system's.
    pub fn advance(&self, by: Duration) {
        if let Some(now) = &self.manual {
            now.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
            self.moved.notify_waiters();
        }
    }

    /// Returns once the clock shows `due_ms` (milliseconds since the epoch) or later.
    pub async fn sleep_until(&self, due_ms: i64) {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let left = due_ms - self.now_ms();
            if left <= 0 {
                return;
            }
            if self.manual.is_some() {
                moved.await;
            } else {
                tokio::time::sleep(Duration::from_millis(left as u64)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_its_sleepers_when_it_is_moved() {
        let clock = std::sync::Arc::new(Clock::manual(1_000));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(3_000).await }
        });
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(2));
        sleeper.await.unwrap();
        assert_eq!(clock.now_ms(), 3_000);
    }
}
