//! What has to be done from time to time, though nobody asks for it: what has expired leaves
//! the disk, idle processes end, and the time is written down. One task does it all, one chore
//! after the other, and deletes in portions: whoever wants to write comes in between.

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
    Chore { of: "time", every: Duration::from_secs(60), portion: usize::MAX, work: quick!(remember) },
    Chore {
        of: "idle function processes",
        every: Duration::from_secs(15),
        portion: usize::MAX,
        work: quick!(end_idle),
    },
    // Quick, as in a local run somebody waits for it. It goes by pages itself.
    Chore {
        of: "expired items",
        every: dynamodb::SWEEP_EVERY,
        portion: usize::MAX,
        work: |cloud, _| dynamodb::sweep(cloud).boxed(),
    },
    Chore { of: "expired messages", every: Duration::from_secs(60), portion: 500, work: quick!(sqs::sweep) },
    Chore {
        of: "expired log events",
        every: Duration::from_secs(300),
        portion: 500,
        work: quick!(logs::sweep),
    },
    Chore {
        of: "expired archived events",
        every: Duration::from_secs(300),
        portion: 500,
        work: quick!(eventbridge::sweep),
    },
    // An execution has a history of dozens of events, or of thousands.
    Chore {
        of: "expired executions",
        every: Duration::from_secs(300),
        portion: 20,
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
    let mut all = 0;
    loop {
        match (chore.work)(cloud, chore.portion).await {
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
