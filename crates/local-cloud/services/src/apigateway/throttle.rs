//! Method throttling: a token bucket per stage and method.
//! Source: API Gateway guide, "Throttle requests to your REST APIs": the rate refills the
//! bucket, the burst is its size.

use std::sync::Mutex;

#[derive(Debug)]
pub(super) struct Bucket {
    /// Tokens per second.
    rate: f64,
    burst: f64,
    level: Mutex<Level>,
}

#[derive(Debug)]
struct Level {
    tokens: f64,
    at_ms: i64,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: f64, burst: u32, now_ms: i64) -> Self {
        let burst = f64::from(burst);
        Self { rate, burst, level: Mutex::new(Level { tokens: burst, at_ms: now_ms }) }
    }

    /// Takes one token; false where none is left.
    pub fn take(&self, now_ms: i64) -> bool {
        let mut level = cloud_core::lock(&self.level);
        // Concurrent calls may arrive in another order than their times.
        let seconds = (now_ms - level.at_ms).max(0) as f64 / 1000.0;
        level.tokens = (level.tokens + seconds * self.rate).min(self.burst);
        level.at_ms = level.at_ms.max(now_ms);
        let enough = level.tokens >= 1.0;
        if enough {
            level.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_its_rate_after_that() {
        let bucket = Bucket::new(2.0, 3, 0);
        assert_eq!((0..5).filter(|_| bucket.take(0)).count(), 3);
        assert!(!bucket.take(499));
        assert!(bucket.take(500));
        assert!(!bucket.take(500));
        assert_eq!((0..9).filter(|_| bucket.take(60_000)).count(), 3, "never more than the burst");
    }

    #[test]
    fn two_calls_in_another_order_than_their_times_are_given_the_time_between_them_once() {
        let bucket = Bucket::new(1.0, 1, 0);
        assert!(bucket.take(1_000));
        assert!(!bucket.take(0));
        assert!(!bucket.take(1_500), "half a second after the last one");
    }
}
