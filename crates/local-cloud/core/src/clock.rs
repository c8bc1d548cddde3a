//! The one clock of the local cloud. Everything durable is timed in milliseconds since the Unix epoch, so
//! that a due time survives a restart; a test can stop the clock and move it by hand.
//!
//! The clock of a machine jumps: a person sets it, a laptop sleeps. This clock follows it forwards at once.
//! It never goes back, because everything that waits would then wait longer. It runs on, one hundredth
//! slower, until the machine's clock has caught up. A jump by more than an hour may be a mistake, and
//! deleted data does not come back; so such a time is in doubt ([`Clock::is_in_doubt`]) for some minutes.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::OptionalExtension;
use tokio::sync::Notify;

use crate::lock;
use crate::store::{Store, StoreError};

/// The longest sleep without a look at the clock: a timer stops while the machine sleeps, and the system
/// does not report that its clock was set.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The speed of the clock, in hundredths, while the machine's clock is behind.
const SLOW: i64 = 99;

/// The smallest step back that is logged.
const NOTEWORTHY_MS: i64 = 60_000;

/// The smallest jump, or difference from the machine's clock, that may be a mistake.
const DOUBTFUL_MS: i64 = 3_600_000;

/// How long a time stays in doubt after a jump forwards. A person who sets a clock wrong notices it soon,
/// and a machine without a clock battery asks a time server within this time after its start.
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
    /// This machine; the moment from which `passed_ms` counts.
    System(Instant),
    /// A test.
    Manual(Mutex<Hands>),
}

#[derive(Debug, Clone, Copy)]
struct Hands {
    /// Milliseconds since the epoch; may jump.
    wall_ms: i64,
    /// Milliseconds since some moment; does not jump.
    passed_ms: i64,
}

/// The time that this clock showed last, and when. Renewed unless the machine's clock is behind.
#[derive(Debug)]
struct Shown {
    time_ms: i64,
    passed_ms: i64,
    is_ahead: bool,
    /// The `passed_ms` at which the last doubtful jump forwards was noticed.
    jumped_ms: Option<i64>,
}

impl Clock {
    pub fn system() -> Self {
        Self::of(Machine::System(Instant::now()))
    }

    /// Stands still at `now_ms` until [`Clock::advance`].
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

    /// The time on the machine's clock when this one shows `time_ms`, for a process that reads the former.
    pub fn to_machine_ms(&self, time_ms: i64) -> i64 {
        let (now_ms, wall_ms) = self.read();
        time_ms - (now_ms - wall_ms)
    }

    /// Never shows an earlier time than this one, which it showed before a restart.
    pub fn not_before(&self, time_ms: i64) {
        let mut shown = lock(&self.shown);
        let Hands { passed_ms, .. } = self.machine.hands();
        if shown.time_ms - time_ms > DOUBTFUL_MS {
            // The machine was off, or its clock was set: there is no way to find out which.
            shown.jumped_ms = Some(passed_ms);
        }
        if shown.time_ms < time_ms {
            *shown = Shown { time_ms, passed_ms, is_ahead: false, jumped_ms: None };
        }
    }

    /// Whether the time may be wrong; nothing may be deleted because of such a time. It is in doubt for ten
    /// minutes after it jumped forwards by more than an hour, and while it is more than an hour ahead of the
    /// machine's.
    pub fn is_in_doubt(&self) -> bool {
        let (now_ms, wall_ms) = self.read();
        let shown = lock(&self.shown);
        let since = |jumped_ms| self.machine.hands().passed_ms - jumped_ms;
        now_ms - wall_ms > DOUBTFUL_MS || shown.jumped_ms.is_some_and(|jumped_ms| since(jumped_ms) < HOLD_MS)
    }

    /// The time that this clock shows, and the one that the machine shows.
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
            tracing::warn!(target: "hop", service = "clock", "{}", ahead_warning(ahead_ms));
        }
        (least_ms, wall_ms)
    }

    /// Lets time pass on a manual clock, and wakes every sleeper. No effect on the system's clock.
    pub fn advance(&self, by: Duration) {
        if let Machine::Manual(hands) = &self.machine {
            let mut hands = lock(hands);
            let by_ms = by.as_millis() as i64;
            *hands = Hands { wall_ms: hands.wall_ms + by_ms, passed_ms: hands.passed_ms + by_ms };
            drop(hands);
            self.moved.notify_waiters();
        }
    }

    /// Sets a manual clock forwards or backwards, as a person sets the clock of a machine: no time passes,
    /// and no sleeper wakes. No effect on the system's clock.
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

/// How far the clock is ahead of the machine's, and what the user can do.
fn ahead_warning(ahead_ms: i64) -> String {
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
            Self::System(since) => {
                let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Hands { wall_ms: wall.as_millis() as i64, passed_ms: since.elapsed().as_millis() as i64 }
            }
            Self::Manual(hands) => *lock(hands),
        }
    }
}

/// Creates the table of the time.
pub fn open(store: &Store) -> Result<(), StoreError> {
    store.migrate("CREATE TABLE IF NOT EXISTS clock (id INTEGER PRIMARY KEY CHECK (id = 1), shown_ms INTEGER NOT NULL);")
}

/// The last time that an earlier run wrote down.
pub fn remembered(store: &Store) -> Result<Option<i64>, StoreError> {
    store.read(|db| db.query_row("SELECT shown_ms FROM clock", [], |row| row.get(0)).optional())
}

/// Writes down the time, in milliseconds since the epoch.
pub fn remember(store: &Store, now_ms: i64) -> Result<(), StoreError> {
    store.write(|tx| tx.execute("INSERT OR REPLACE INTO clock VALUES (1, ?1)", [now_ms]).map(drop))
}

/// Milliseconds since the epoch as RFC 3339 in UTC, with milliseconds: the form of times in records,
/// histories and logs. Empty for a time beyond the year 9999.
pub fn rfc3339(time_ms: i64) -> String {
    formatted(time_ms, "%Y-%m-%dT%H:%M:%S%.3fZ")
}

/// The same in whole seconds.
pub fn rfc3339_seconds(time_ms: i64) -> String {
    formatted(time_ms, "%Y-%m-%dT%H:%M:%SZ")
}

fn formatted(time_ms: i64, format: &str) -> String {
    jiff::Timestamp::from_millisecond(time_ms)
        .map_or_else(|_| String::new(), |time| time.strftime(format).to_string())
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

    /// A laptop wakes: its timers stood still, and the system reports nothing.
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
            // Reading the clock often does not slow it down further.
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
            let warning = ahead_warning(ahead_ms);
            assert!(warning.starts_with(&format!("the local cloud's clock is {ahead} ahead")), "{warning}");
            assert_eq!(warning.contains("deletes nothing"), ahead_ms > HOUR_MS, "{warning}");
            assert!(warning.contains("--fresh"), "{warning}");
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
