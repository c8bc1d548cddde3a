//! When a message that stays in its queue is delivered again, and how often a lost race is repeated.
//!
//! The numbers depend on each other, and the policy test checks the templates against them:
//!
//! - [`PREDECESSOR_WAITS`] add up to twice the queue's visibility timeout. A predecessor whose function was
//!   killed comes back after one visibility timeout.
//! - `maxReceiveCount` is at least [`RECEIVES`]: waits, contention and an outage of 15 minutes together
//!   dead-letter no message.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Seconds between the attempts of a command whose predecessor may arrive later.
pub const PREDECESSOR_WAITS: [u64; 7] = [2, 4, 8, 16, 30, 30, 30];

/// Seconds between the attempts of a command that the present state does not allow.
pub const STATE_WAITS: [u64; 3] = [2, 4, 8];

/// Seconds between the attempts of a command that lost too many races; the last one repeats.
const CONTENTION_WAITS: [u64; 4] = [1, 2, 4, 8];

/// The greatest number of seconds between two attempts while a service is unavailable. SQS allows 12 hours,
/// but an operator wants to see the recovery sooner.
const MAX_BACKOFF: u64 = 300;

/// An outage of this many seconds dead-letters no message.
pub const OUTAGE_SECONDS: u64 = 15 * 60;

/// Jitter shortens a back-off to a share between this and 1.
const MIN_BACKOFF_SHARE: f64 = 0.75;

/// The number of receives that a command can need: all its waits, one more after faults and the attempt
/// after them; contention; an outage of 15 minutes with the shortest back-off; and four killed invocations.
pub const RECEIVES: u64 = PREDECESSOR_WAITS.len() as u64
    + STATE_WAITS.len() as u64
    + 2
    + CONTENTION_WAITS.len() as u64
    + receives_in_an_outage()
    + 4;

/// How often a message is received in an outage of 15 minutes with the shortest back-off.
const fn receives_in_an_outage() -> u64 {
    let (mut waited, mut receives, mut backoff) = (0, 1, 1);
    // Three quarters, in whole numbers.
    while waited * 3 / 4 < OUTAGE_SECONDS {
        waited += backoff;
        receives += 1;
        backoff = if backoff * 2 > MAX_BACKOFF { MAX_BACKOFF } else { backoff * 2 };
    }
    receives
}

/// The greatest number of attempts of a command or an event that loses races. The pauses between 8 attempts
/// add up to less than a second, well below every function's timeout. If the property is still contended
/// then, the queue or Lambda tries again later.
pub const MAX_ATTEMPTS: u32 = 8;

/// The back-off after `lost` receives with an unavailable service: 1 s, doubling up to 300 s; 0 after none.
pub fn backoff(lost: u32) -> Duration {
    match lost {
        0 => Duration::ZERO,
        // 2^9 is above the cap.
        _ => Duration::from_secs((1 << (lost - 1).min(9)).min(MAX_BACKOFF)),
    }
}

/// After which time a message is delivered again if a service was unavailable; `receive_count` is from 1.
/// Jitter spreads messages that failed together.
pub fn after_unavailable(message_id: &str, receive_count: u32) -> Duration {
    let share = MIN_BACKOFF_SHARE + (1.0 - MIN_BACKOFF_SHARE) * fraction((message_id, receive_count));
    whole_seconds(backoff(receive_count).mul_f64(share))
}

/// After which time a contended message is delivered again: 1, 2, 4, then always 8 s.
pub fn after_contention(receive_count: u32) -> Duration {
    let index = (receive_count.saturating_sub(1) as usize).min(CONTENTION_WAITS.len() - 1);
    Duration::from_secs(CONTENTION_WAITS[index])
}

/// Pauses before `attempt` (from 0): not before the first attempt and its first repetition, then about 10
/// ms, doubling up to 200 ms. `who` spreads the pauses of those who compete.
pub async fn pause(who: &str, attempt: u32) {
    if let Some(repetition) = attempt.checked_sub(1).filter(|repetition| *repetition > 0) {
        let max = Duration::from_millis((10 << repetition.min(5)).min(200));
        tokio::time::sleep(max.mul_f64(0.5 + fraction((who, attempt)) / 2.0)).await;
    }
}

/// A visibility timeout has whole seconds. Rounded up, so that no attempt is too early.
fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0))
}

/// A number from 0 up to 1, derived from `value`: it needs no source of randomness.
fn fraction(value: impl Hash) -> f64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unavailable_service_is_tried_after_1_s_doubling_up_to_300_s() {
        let waits: Vec<_> = (1..=11).map(|lost| backoff(lost).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff(u32::MAX).as_secs(), 300);
    }

    #[test]
    fn jitter_takes_up_to_a_quarter_off_and_spreads_messages() {
        let waits: Vec<_> = (0..100).map(|n| after_unavailable(&format!("m-{n}"), 9).as_secs()).collect();
        assert!(waits.iter().all(|wait| (192..=256).contains(wait)), "{waits:?}");
        assert!(waits.iter().collect::<std::collections::BTreeSet<_>>().len() > 20, "{waits:?}");
    }

    #[test]
    fn the_receives_cover_an_outage_of_15_minutes() {
        let shortest: f64 = (1..receives_in_an_outage())
            .map(|lost| backoff(lost as u32).as_secs_f64() * MIN_BACKOFF_SHARE)
            .sum();
        assert!(shortest >= OUTAGE_SECONDS as f64, "{shortest}");
        assert_eq!((receives_in_an_outage(), RECEIVES), (13, 33));
    }

    #[test]
    fn contention_is_tried_again_after_1_2_4_and_8_s() {
        let waits: Vec<_> = (1..=6).map(|receive| after_contention(receive).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
    }

    #[tokio::test(start_paused = true)]
    async fn all_pauses_of_a_lost_race_take_less_than_a_second() {
        let begun = tokio::time::Instant::now();
        pause("c-1", 0).await;
        pause("c-1", 1).await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "the first repetition is immediate");
        for attempt in 2..MAX_ATTEMPTS {
            pause("c-1", attempt).await;
        }
        assert!((200..1_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    }
}
