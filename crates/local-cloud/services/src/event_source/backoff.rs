//! Pauses between attempts that fail.

use std::time::Duration;

use cloud_core::Cloud;

/// AWS retries with a growing pause and does not publish the figures; these are ours.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Waits after the first failure (0), the second (1), and so on.
pub async fn pause(cloud: &Cloud, nth: u32) {
    let pause = FIRST_PAUSE.saturating_mul(1 << nth.min(16)).min(MAX_PAUSE);
    cloud.clock.sleep_until(cloud.clock.now_ms() + pause.as_millis() as i64).await;
}
