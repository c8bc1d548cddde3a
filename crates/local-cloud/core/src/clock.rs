//! The one clock of the local cloud. Everything durable is timed in milliseconds since
//! the Unix epoch, so that a due time outlives a restart; a test can hold the clock and
//! move it by hand.
//!
//! The clock of a machine jumps: it is set, a laptop sleeps. This one follows it forwards
//! at once. It never goes back, or all that waits would wait that much longer: it runs on,
//! a hundredth slower, until the machine's clock has caught up with it. A jump by more than an
//! hour may be a mistake, and what is deleted does not come back: such a time is in doubt
//! ([`Clock::is_in_doubt`]) for some minutes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::OptionalExtension;
use tokio::sync::Notify;

use crate::store::{Store, StoreError};

/// No sleeper sleeps longer without a look at the clock: a timer does not run while the
/// machine sleeps, and nobody tells that its clock was set.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How much of the time that passes is shown, in hundredths, while the machine's clock is behind.
const SLOW: i64 = 99;

/// A step back that is worth a line in the log.
const NOTEWORTHY_MS: i64 = 60_000;

/// A jump, or a difference from the machine's clock, that may be a mistake.
const DOUBTFUL_MS: i64 = 3_600_000;

/// How long a time must hold after a doubtful jump forwards. Somebody who sets a clock wrong soon
/// notices; a machine that starts without a battery for its clock asks a time server by then.
const HOLD_MS: i64 = 10 * 60_000;

/// Wall-clock time that never goes back, or a time that a test sets.
#[derive(Debug)]
pub struct Clock {
    machine: Machine,
    shown: Mutex<Shown>,
    moved: Notify,
}

/// Where the time comes from.
#[derive(Debug)]
enum Machine {
    /// This machine, which has run since this moment.
    System(Instant),
    /// A test.
    Manual(Mutex<Hands>),
}

/// What a machine says.
#[derive(Debug, Clone, Copy)]
struct Hands {
    /// Milliseconds since the epoch; may jump.
    wall_ms: i64,
    /// Milliseconds that have passed since some moment; does not jump.
    passed_ms: i64,
}

/// What was shown, and when. It is renewed as long as the machine's clock is not behind.
#[derive(Debug)]
struct Shown {
    time_ms: i64,
    passed_ms: i64,
    is_ahead: bool,
    /// When the last doubtful jump forwards was noticed, in the time that passes.
    jumped_ms: Option<i64>,
}

impl Clock {
    /// Follows the system's clock.
    pub fn system() -> Self {
        Self::of(Machine::System(Instant::now()))
    }

    /// Stands still at `now_ms` (milliseconds since the epoch) until [`Clock::advance`].
    pub fn manual(now_ms: i64) -> Self {
        Self::of(Machine::Manual(Mutex::new(Hands { wall_ms: now_ms, passed_ms: 0 })))
    }

    fn of(machine: Machine) -> Self {
        let Hands { wall_ms, passed_ms } = machine.hands();
        let shown = Shown { time_ms: wall_ms, passed_ms, is_ahead: false, jumped_ms: None };
        Self { machine, shown: Mutex::new(shown), moved: Notify::new() }
    }

    /// Now, as RFC 3339 with milliseconds.
    pub fn timestamp(&self) -> String {
        rfc3339(self.now_ms())
    }

    /// Now, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        self.read().0
    }

    /// `time_ms` of this clock as the machine's clock shows it, for a process that looks at that one.
    pub fn to_machine_ms(&self, time_ms: i64) -> i64 {
        let (now_ms, wall_ms) = self.read();
        time_ms - (now_ms - wall_ms)
    }

    /// Shows no earlier time than this, which it had shown before a restart.
    pub fn not_before(&self, time_ms: i64) {
        let mut shown = lock(&self.shown);
        let Hands { passed_ms, .. } = self.machine.hands();
        if shown.time_ms - time_ms > DOUBTFUL_MS {
            // Nobody can tell a machine that was off from one whose clock was set.
            shown.jumped_ms = Some(passed_ms);
        }
        if shown.time_ms < time_ms {
            *shown = Shown { time_ms, passed_ms, is_ahead: false, jumped_ms: None };
        }
    }

    /// Whether the time may be a mistake, so that nothing may be deleted because of it: it jumped
    /// forwards by more than an hour less than ten minutes ago, or is more than an hour ahead of
    /// the machine's.
    pub fn is_in_doubt(&self) -> bool {
        let (now_ms, wall_ms) = self.read();
        let shown = lock(&self.shown);
        let holds_for = |jumped_ms| self.machine.hands().passed_ms - jumped_ms;
        now_ms - wall_ms > DOUBTFUL_MS
            || shown.jumped_ms.is_some_and(|jumped_ms| holds_for(jumped_ms) < HOLD_MS)
    }

    /// What is shown now, and what the machine shows.
    fn read(&self) -> (i64, i64) {
        let mut shown = lock(&self.shown);
        let Hands { wall_ms, passed_ms } = self.machine.hands();
        let least_ms = shown.time_ms + (passed_ms - shown.passed_ms) * SLOW / 100;
        if wall_ms >= least_ms {
            let jump_ms = wall_ms - shown.time_ms - (passed_ms - shown.passed_ms);
            let mut jumped_ms = shown.jumped_ms;
            if jump_ms > DOUBTFUL_MS {
                jumped_ms = Some(passed_ms);
                let hours = jump_ms / DOUBTFUL_MS;
                tracing::warn!(target: "hop", service = "clock", "the clock of this machine jumped {hours} h forwards; nothing that expires is deleted for ten minutes");
            }
            *shown = Shown { time_ms: wall_ms, passed_ms, is_ahead: false, jumped_ms };
            return (wall_ms, wall_ms);
        }
        let ahead_ms = least_ms - wall_ms;
        if ahead_ms >= NOTEWORTHY_MS && !std::mem::replace(&mut shown.is_ahead, true) {
            tracing::warn!(target: "hop", service = "clock", "{}", told_ahead(ahead_ms));
        }
        (least_ms, wall_ms)
    }

    /// Lets time pass on a manual clock, and wakes all that sleep on it. No effect on the system's.
    pub fn advance(&self, by: Duration) {
        if let Machine::Manual(hands) = &self.machine {
            let mut hands = lock(hands);
            let by_ms = by.as_millis() as i64;
            *hands = Hands { wall_ms: hands.wall_ms + by_ms, passed_ms: hands.passed_ms + by_ms };
            drop(hands);
            self.moved.notify_waiters();
        }
    }

    /// Sets a manual clock to another time, forwards or backwards, as somebody sets that of a
    /// machine: no time passes, and nobody is told. No effect on the system's.
    pub fn jump(&self, by_ms: i64) {
        if let Machine::Manual(hands) = &self.machine {
            lock(hands).wall_ms += by_ms;
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
            let nap = match self.machine {
                Machine::System(_) => LOOK_EVERY.min(Duration::from_millis(left as u64)),
                Machine::Manual(_) => LOOK_EVERY,
            };
            tokio::select! {
                () = moved => {}
                () = tokio::time::sleep(nap) => {}
            }
        }
    }
}

/// What to do about a clock that is so far ahead of the machine's.
fn told_ahead(ahead_ms: i64) -> String {
    let ahead = match ahead_ms / DOUBTFUL_MS {
        0 => format!("{} s", ahead_ms / 1_000),
        hours @ 1..48 => format!("{hours} h"),
        hours => format!("{} days", hours / 24),
    };
    let deletes = if ahead_ms > DOUBTFUL_MS { ", and deletes nothing that expires" } else { "" };
    format!(
        "the local cloud's clock is {ahead} ahead of this machine's, which was set back; it runs a hundredth \
         slower{deletes} until it is caught up: set the machine's clock right, or start with --fresh, which \
         deletes the state"
    )
}

impl Machine {
    fn hands(&self) -> Hands {
        match self {
            Self::System(since) => Hands {
                wall_ms: SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .map_or(0, |elapsed| elapsed.as_millis() as i64),
                passed_ms: since.elapsed().as_millis() as i64,
            },
            Self::Manual(hands) => *lock(hands),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Creates the table of the time.
pub fn open(store: &Store) -> Result<(), StoreError> {
    store.migrate("CREATE TABLE IF NOT EXISTS clock (id INTEGER PRIMARY KEY CHECK (id = 1), shown_ms INTEGER NOT NULL);")
}

/// The last time that an earlier run has shown, so that this one does not begin before it.
pub fn remembered(store: &Store) -> Result<Option<i64>, StoreError> {
    store.read(|db| db.query_row("SELECT shown_ms FROM clock", [], |row| row.get(0)).optional())
}

/// Writes down the time, in milliseconds since the epoch.
///
/// # Errors
/// When the store refuses.
pub fn remember(store: &Store, now_ms: i64) -> Result<(), StoreError> {
    store.write(|tx| tx.execute("INSERT OR REPLACE INTO clock VALUES (1, ?1)", [now_ms]).map(drop))
}

/// Milliseconds since the epoch as RFC 3339 in UTC, with milliseconds: how records, histories and logs
/// write a time. Empty for a time beyond the year 9999.
pub fn rfc3339(time_ms: i64) -> String {
    moment(time_ms).map_or_else(String::new, |moment| moment.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// The same in whole seconds.
pub fn rfc3339_seconds(time_ms: i64) -> String {
    moment(time_ms).map_or_else(String::new, |moment| moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn moment(time_ms: i64) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(time_ms).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

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

    /// As when a laptop wakes: its timers stood still, and nobody tells.
    #[tokio::test(start_paused = true)]
    async fn a_sleeper_notices_within_a_minute_that_the_clock_jumped_past_its_due_time() {
        let clock = Clock::manual(0);
        let began = tokio::time::Instant::now();
        let jump = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            clock.jump(2 * HOUR_MS);
        };
        tokio::join!(clock.sleep_until(HOUR_MS), jump);
        assert!(began.elapsed() <= Duration::from_secs(60), "{:?}", began.elapsed());
    }

    #[test]
    fn a_clock_that_is_set_back_goes_on_and_meets_the_machines_again() {
        let clock = Clock::manual(10 * HOUR_MS);
        clock.jump(-HOUR_MS);
        assert_eq!(clock.now_ms(), 10 * HOUR_MS);
        clock.advance(Duration::from_secs(100));
        assert_eq!(clock.now_ms(), 10 * HOUR_MS + 99_000, "a wait of 100 s is a second late");
        assert_eq!(clock.to_machine_ms(10 * HOUR_MS + 99_000), 9 * HOUR_MS + 100_000);
        for _ in 0..1_000 {
            // However often it is read, time passes.
            clock.advance(Duration::from_millis(1));
            clock.now_ms();
        }
        assert_eq!(clock.now_ms(), 10 * HOUR_MS + 99_990);
        clock.advance(Duration::from_secs(100 * 3_600));
        assert_eq!(clock.now_ms(), clock.to_machine_ms(clock.now_ms()), "it is caught up");
    }

    #[test]
    fn a_time_is_in_doubt_for_ten_minutes_after_a_jump_and_while_it_is_far_ahead() {
        let clock = Clock::manual(HOUR_MS);
        clock.advance(Duration::from_secs(2 * 3_600));
        assert!(!clock.is_in_doubt(), "that time passed");
        clock.jump(HOUR_MS / 2);
        assert!(!clock.is_in_doubt());
        clock.jump(2 * HOUR_MS);
        assert!(clock.is_in_doubt());
        clock.advance(Duration::from_secs(599));
        assert!(clock.is_in_doubt());
        clock.advance(Duration::from_secs(1));
        assert!(!clock.is_in_doubt());
        clock.jump(-2 * HOUR_MS);
        assert!(clock.is_in_doubt(), "it had jumped by mistake");
        clock.advance(Duration::from_secs(100 * 3_600 + 1));
        assert!(!clock.is_in_doubt(), "an hour is caught up");
    }

    #[test]
    fn a_time_is_in_doubt_after_a_start_long_after_the_last_run_or_before_it() {
        let started = |hours| {
            let clock = Clock::manual(10 * HOUR_MS);
            clock.not_before(hours * HOUR_MS);
            clock
        };
        for (remembered, minutes, expected) in
            [(10, 0, false), (9, 0, false), (8, 0, true), (8, 10, false), (11, 0, false), (12, 10, true)]
        {
            let clock = started(remembered);
            clock.advance(Duration::from_secs(minutes * 60));
            assert_eq!(clock.is_in_doubt(), expected, "remembered {remembered}, after {minutes} minutes");
        }
    }

    #[test]
    fn a_clock_that_is_ahead_tells_by_how_much_and_what_to_do() {
        for (ahead_ms, ahead) in [(61_000, "61 s"), (3 * HOUR_MS, "3 h"), (75 * HOUR_MS, "3 days")] {
            let told = told_ahead(ahead_ms);
            assert!(told.starts_with(&format!("the local cloud's clock is {ahead} ahead")), "{told}");
            assert_eq!(told.contains("deletes nothing"), ahead_ms > HOUR_MS, "{told}");
            assert!(told.contains("--fresh"), "{told}");
        }
    }

    #[test]
    fn a_clock_follows_a_jump_forwards_at_once_and_a_restart_does_not_set_it_back() {
        let clock = Clock::manual(HOUR_MS);
        clock.jump(HOUR_MS);
        assert_eq!(clock.now_ms(), 2 * HOUR_MS);
        let again = Clock::manual(HOUR_MS);
        again.not_before(2 * HOUR_MS);
        assert_eq!(again.now_ms(), 2 * HOUR_MS);
        again.advance(Duration::from_secs(10));
        assert_eq!(again.now_ms(), 2 * HOUR_MS + 9_900);
    }
}
