//! Replays an archive in the background. A replay stores its position with each step, so that it resumes
//! after a restart, and marks its events with `replay-name`.
//! <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-archive.html>

use std::sync::Arc;

use cloud_core::Cloud;
use cloud_core::store::StoreError;
use serde_json::Value;

use super::routing::{self, Origin};
use super::store;

/// Events of one step.
const STEP: usize = 100;

/// Resumes the replays of an earlier run.
pub fn start(cloud: &Arc<Cloud>) {
    match cloud.store.read(store::replays) {
        Ok(replays) => {
            for replay in replays.into_iter().filter(|replay| replay.ended_ms.is_none()) {
                tokio::spawn(run(cloud.clone(), replay.name));
            }
        }
        Err(error) => tracing::error!(%error, "replays could not be read"),
    }
}

pub async fn run(cloud: Arc<Cloud>, name: String) {
    while !cloud.stopping.is_cancelled() {
        match step(&cloud, &name) {
            Ok(true) => tokio::task::yield_now().await,
            Ok(false) => return,
            Err(error) => {
                tracing::error!(%error, replay = %name, "a replay failed");
                let failed = finish(&cloud, &name, "FAILED");
                return failed.unwrap_or_else(|error| tracing::error!(%error, "and could not be marked"));
            }
        }
    }
}

/// Replays some events and moves on, in one transaction; false once the replay is over.
fn step(cloud: &Arc<Cloud>, name: &str) -> Result<bool, StoreError> {
    let replay = cloud.store.read(|db| store::replay(db, name))?;
    // A state folder of an earlier version may have a cancelled replay.
    let runs = |replay: &store::Replay| ["STARTING", "RUNNING"].contains(&replay.state.as_str());
    let Some(replay) = replay.filter(runs) else { return Ok(false) };
    let events = cloud.store.read(|db| store::archived(db, &replay, STEP))?;
    let Some((last_id, last_ms, _)) = events.last() else {
        finish(cloud, name, "COMPLETED")?;
        return Ok(false);
    };
    let mark = |text: &String| {
        let mut event: Value = serde_json::from_str(text).ok()?;
        event["replay-name"] = name.into();
        Some(event)
    };
    let marked: Vec<Value> = events.iter().filter_map(|(_, _, text)| mark(text)).collect();
    let batches = [(replay.bus.as_str(), marked.as_slice())];
    routing::publish(cloud, &batches, Origin::Replay(&replay.filters), |tx| {
        store::move_replay(tx, name, *last_ms, *last_id)
    })?;
    Ok(true)
}

fn finish(cloud: &Cloud, name: &str, state: &str) -> Result<(), StoreError> {
    let now_ms = cloud.clock.now_ms();
    cloud.store.write(|tx| store::end_replay(tx, name, state, now_ms))
}
