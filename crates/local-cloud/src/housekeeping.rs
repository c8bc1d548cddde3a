//! What has to be done from time to time, though nobody asks for it: what has expired is deleted,
//! idle processes end, and the time is written down. One task does it all, one chore after the
//! other, and deletes in portions: whoever wants to write comes in between. Nothing is deleted
//! while the time is in doubt. SQLite uses the room of deleted rows again; its files do not get smaller.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::cloud::Cloud;
use crate::error::AwsError;
use crate::store::{Store, StoreError};
use crate::{dynamodb, eventbridge, lambda, logs, sqs, stepfunctions};

/// Something to be done again and again.
struct Chore {
    /// What goes, for the log.
    of: &'static str,
    every: Duration,
    /// How much is done at most before others may write.
    portion: usize,
    /// Whether it deletes for good, by the time.
    deletes: bool,
    /// Does so much at most; how much it did.
    work: Work,
}

type Work = for<'a> fn(&'a Arc<Cloud>, usize) -> BoxFuture<'a, Result<usize, AwsError>>;

/// A chore that only uses the store.
macro_rules! quick {
    ($work:path) => {
        |cloud, portion| std::future::ready($work(cloud, portion).map_err(AwsError::from)).boxed()
    };
}

/// How often is a matter of taste: AWS itself promises no time, and takes up to days for some.
const CHORES: [Chore; 7] = [
    Chore {
        of: "time",
        every: Duration::from_secs(60),
        portion: usize::MAX,
        deletes: false,
        work: quick!(remember),
    },
    Chore {
        of: "idle function processes",
        every: Duration::from_secs(15),
        portion: usize::MAX,
        deletes: false,
        work: quick!(end_idle),
    },
    // Quick, as in a local run somebody waits for it. It goes by pages itself.
    Chore {
        of: "expired items",
        every: dynamodb::SWEEP_EVERY,
        portion: usize::MAX,
        deletes: true,
        work: |cloud, _| dynamodb::sweep(cloud).boxed(),
    },
    Chore {
        of: "expired messages",
        every: Duration::from_secs(60),
        portion: 500,
        deletes: true,
        work: quick!(sqs::sweep),
    },
    Chore {
        of: "expired log events",
        every: Duration::from_secs(300),
        portion: 500,
        deletes: true,
        work: quick!(logs::sweep),
    },
    Chore {
        of: "expired archived events",
        every: Duration::from_secs(300),
        portion: 500,
        deletes: true,
        work: quick!(eventbridge::sweep),
    },
    // An execution has a history of dozens of events, or of thousands.
    Chore {
        of: "expired executions",
        every: Duration::from_secs(300),
        portion: 20,
        deletes: true,
        work: quick!(stepfunctions::sweep),
    },
];

/// When each chore is done for the first time at the latest: a run may be short.
const FIRST: Duration = Duration::from_secs(30);

/// Between two portions, for those who want to write.
const PAUSE: Duration = Duration::from_millis(5);

/// Creates the table of the time.
///
/// # Errors
/// When the store refuses.
pub(crate) fn open(store: &Store) -> Result<(), StoreError> {
    store.migrate("CREATE TABLE IF NOT EXISTS clock (id INTEGER PRIMARY KEY CHECK (id = 1), shown_ms INTEGER NOT NULL);")
}

/// The time that an earlier run has shown last, so that this one does not begin before it.
///
/// # Errors
/// When the store refuses.
pub(crate) fn remembered(store: &Store) -> Result<Option<i64>, StoreError> {
    use rusqlite::OptionalExtension;
    store.read(|db| db.query_row("SELECT shown_ms FROM clock", [], |row| row.get(0)).optional())
}

/// Writes down the time.
pub(crate) fn remember(cloud: &Cloud, _: usize) -> Result<usize, StoreError> {
    let now_ms = cloud.clock.now_ms();
    cloud.store.write(|tx| tx.execute("INSERT OR REPLACE INTO clock VALUES (1, ?1)", [now_ms]))?;
    Ok(0)
}

fn end_idle(cloud: &Cloud, _: usize) -> Result<usize, StoreError> {
    Ok(lambda::end_idle(cloud))
}

/// Starts the chores; they end when `cloud.stopping` is cancelled.
pub fn start(cloud: &Arc<Cloud>) {
    let now_ms = cloud.clock.now_ms();
    let due_ms = CHORES.map(|chore| now_ms + chore.every.min(FIRST).as_millis() as i64);
    let cloud = cloud.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = cloud.stopping.cancelled() => {}
            () = keep_house(&cloud, due_ms) => {}
        }
    });
}

async fn keep_house(cloud: &Arc<Cloud>, mut due_ms: [i64; CHORES.len()]) {
    loop {
        let next_ms = due_ms.iter().copied().min().unwrap_or(i64::MAX);
        cloud.clock.sleep_until(next_ms).await;
        for (chore, due_ms) in CHORES.iter().zip(&mut due_ms) {
            if *due_ms <= cloud.clock.now_ms() {
                perform(cloud, chore).await;
                *due_ms = cloud.clock.now_ms() + chore.every.as_millis() as i64;
            }
        }
    }
}

async fn perform(cloud: &Arc<Cloud>, chore: &Chore) {
    if chore.deletes && cloud.clock.is_in_doubt() {
        return;
    }
    let mut all = 0;
    loop {
        // A chore that panics ends none of the others.
        let work = AssertUnwindSafe(async { (chore.work)(cloud, chore.portion).await }).catch_unwind();
        let done = work.await.unwrap_or_else(|_| Err(AwsError::internal("it panicked")));
        match done {
            Ok(done) => {
                all += done;
                if done < chore.portion {
                    break;
                }
            }
            Err(error) => {
                tracing::warn!(target: "hop", service = "housekeeping", %error, "{} could not be seen to; it is tried again", chore.of);
                break;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    if all > 0 {
        tracing::info!(target: "hop", service = "housekeeping", "{all} {} removed", chore.of);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::cloud::Settings;
    use crate::random::Random;
    use std::path::Path;

    const NOW_MS: i64 = 1_800_000_000_000;
    const HOUR_MS: i64 = 3_600_000;

    fn open_at(folder: &Path, now_ms: i64) -> Arc<Cloud> {
        let settings = Settings { state: Some(folder.to_owned()), ..Settings::for_tests() };
        Cloud::open(settings, Clock::manual(now_ms), Random::seeded(1)).unwrap()
    }

    #[test]
    fn a_clock_that_is_set_back_between_two_runs_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let cloud = open_at(folder.path(), NOW_MS);
        cloud.clock.advance(Duration::from_secs(90));
        remember(&cloud, 0).unwrap();
        drop(cloud);
        let again = open_at(folder.path(), NOW_MS - HOUR_MS);
        assert_eq!(again.clock.now_ms(), NOW_MS + 90_000);
    }

    #[tokio::test]
    async fn the_time_is_written_down_though_nobody_ends_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let cloud = open_at(folder.path(), NOW_MS);
        start(&cloud);
        cloud.clock.advance(Duration::from_secs(61));
        let written = async {
            while remembered(&cloud.store).unwrap().is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), written).await.unwrap();
        cloud.stopping.cancel();
        while Arc::strong_count(&cloud) > 1 {
            tokio::task::yield_now().await;
        }
        drop(cloud);
        let again = open_at(folder.path(), NOW_MS - HOUR_MS);
        assert_eq!(again.clock.now_ms(), NOW_MS + 61_000);
    }

    /// A chore that did all that it had to do at its first portion.
    fn chore(deletes: bool, work: Work) -> Chore {
        Chore { of: "tests", every: Duration::from_secs(1), portion: usize::MAX, deletes, work }
    }

    /// Leaves a trace that can be seen.
    fn trace(cloud: &Cloud, _: usize) -> Result<usize, StoreError> {
        cloud.store.write(|tx| tx.execute("INSERT OR REPLACE INTO clock VALUES (1, 0)", []))
    }

    #[tokio::test]
    async fn nothing_is_deleted_while_the_time_is_in_doubt() {
        let folder = tempfile::tempdir().unwrap();
        let cloud = open_at(folder.path(), NOW_MS);
        cloud.clock.jump(30 * 24 * HOUR_MS);
        perform(&cloud, &chore(true, quick!(trace))).await;
        assert_eq!(remembered(&cloud.store).unwrap(), None);
        cloud.clock.advance(Duration::from_secs(600));
        perform(&cloud, &chore(true, quick!(trace))).await;
        assert_eq!(remembered(&cloud.store).unwrap(), Some(0));
        let kept = CHORES.iter().filter(|chore| !chore.deletes).map(|chore| chore.of);
        assert_eq!(kept.collect::<Vec<_>>(), ["time", "idle function processes"], "all others delete");
    }

    #[tokio::test]
    async fn a_chore_that_panics_ends_no_other() {
        let cloud = Cloud::for_tests().unwrap();
        let panics = chore(false, |_, _| panic!("as a fault in a chore does"));
        perform(&cloud, &panics).await;
        let panics = chore(false, |_, _| async { panic!("later") }.boxed());
        perform(&cloud, &panics).await;
    }
}
