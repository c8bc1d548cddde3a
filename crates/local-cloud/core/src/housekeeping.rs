//! Periodic work that no caller starts: deleting what has expired, ending idle processes, and writing down
//! the time. One task does one chore after the other, and deletes in portions, so that writers need not wait
//! long. It deletes nothing while the time is in doubt. SQLite reuses the space of deleted rows; its files
//! do not shrink.

use std::future::ready;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use crate::service::Chore;
use crate::{AwsError, Cloud, clock};

/// Writes down the time, so that the next start does not begin before it.
const REMEMBER: Chore = Chore {
    of: "time",
    every: Duration::from_secs(60),
    portion: usize::MAX,
    deletes: false,
    work: |cloud, _| {
        let written = clock::remember(&cloud.store, cloud.clock.now_ms());
        Box::pin(ready(written.map(|()| 0).map_err(AwsError::from)))
    },
};

/// Every chore runs for the first time within this time after the start: a run may be short.
const FIRST: Duration = Duration::from_secs(30);

/// The pause between two portions, in which others can write.
const PAUSE: Duration = Duration::from_millis(5);

/// Starts the chores; they end when `cloud.stopping` is cancelled.
pub fn start(cloud: &Arc<Cloud>) {
    let now_ms = cloud.clock.now_ms();
    let chores = std::iter::once(&REMEMBER).chain(cloud.services().flat_map(|service| service.chores));
    let due = |chore: &'static Chore| (now_ms + chore.every.min(FIRST).as_millis() as i64, chore);
    let due: Vec<(i64, &Chore)> = chores.map(due).collect();
    let cloud = cloud.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = cloud.stopping.cancelled() => {}
            () = perform_when_due(&cloud, due) => {}
        }
    });
}

async fn perform_when_due(cloud: &Arc<Cloud>, mut due: Vec<(i64, &'static Chore)>) {
    loop {
        let next_ms = due.iter().map(|(due_ms, _)| *due_ms).min().unwrap_or(i64::MAX);
        cloud.clock.sleep_until(next_ms).await;
        for (due_ms, chore) in &mut due {
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
        // A chore that panics does not end the others.
        let work = AssertUnwindSafe(async { (chore.work)(cloud, chore.portion).await }).catch_unwind();
        match work.await.unwrap_or_else(|_| Err(AwsError::internal("it panicked"))) {
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
    use std::path::Path;

    use super::*;
    use crate::Settings;
    use crate::clock::{Clock, remember, remembered};
    use crate::random::Random;
    use crate::service::Work;
    use crate::store::StoreError;

    const NOW_MS: i64 = 1_800_000_000_000;
    const HOUR_MS: i64 = 3_600_000;

    fn open_at(folder: &Path, now_ms: i64) -> Arc<Cloud> {
        let settings = Settings { state: Some(folder.to_owned()), ..Settings::for_tests() };
        Cloud::open(settings, Clock::manual(now_ms), Random::seeded(1), &[]).unwrap()
    }

    #[test]
    fn a_clock_that_is_set_back_between_two_runs_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let cloud = open_at(folder.path(), NOW_MS);
        cloud.clock.advance(Duration::from_secs(90));
        remember(&cloud.store, cloud.clock.now_ms()).unwrap();
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
    fn trace(cloud: &Cloud) -> Result<usize, StoreError> {
        cloud.store.write(|tx| tx.execute("INSERT OR REPLACE INTO clock VALUES (1, 0)", []))
    }

    #[tokio::test]
    async fn nothing_is_deleted_while_the_time_is_in_doubt() {
        let folder = tempfile::tempdir().unwrap();
        let cloud = open_at(folder.path(), NOW_MS);
        cloud.clock.jump(30 * 24 * HOUR_MS);
        perform(&cloud, &chore(true, |cloud, _| Box::pin(ready(trace(cloud).map_err(AwsError::from))))).await;
        assert_eq!(remembered(&cloud.store).unwrap(), None);
        cloud.clock.advance(Duration::from_secs(600));
        perform(&cloud, &chore(true, |cloud, _| Box::pin(ready(trace(cloud).map_err(AwsError::from))))).await;
        assert_eq!(remembered(&cloud.store).unwrap(), Some(0));
    }

    #[tokio::test]
    async fn a_chore_that_panics_ends_no_other() {
        let cloud = Cloud::open(Settings::for_tests(), Clock::system(), Random::seeded(1), &[]).unwrap();
        let panics = chore(false, |_, _| panic!("as a fault in a chore does"));
        perform(&cloud, &panics).await;
        let panics = chore(false, |_, _| async { panic!("later") }.boxed());
        perform(&cloud, &panics).await;
    }
}
