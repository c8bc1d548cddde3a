//! The checkpoints of consumers, one for each lane, and the batches behind them that failed.

use std::sync::Arc;

use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud};
use rusqlite::{OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::consumer::{Settings, StartingPosition};
use super::record::{order, sequence_of};
use super::source::Source;

/// `sequence` is NULL while no record of the stream is passed. `stream_retries` has the batches behind a
/// checkpoint that failed and are tried again, in order.
pub const TABLES: &str = "CREATE TABLE IF NOT EXISTS stream_checkpoints (
    consumer TEXT NOT NULL, lane INTEGER NOT NULL, lanes INTEGER NOT NULL, sequence TEXT,
    PRIMARY KEY (consumer, lane)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS stream_retries (
    consumer TEXT NOT NULL, lane INTEGER NOT NULL, batches TEXT NOT NULL,
    PRIMARY KEY (consumer, lane)) WITHOUT ROWID;";

/// A batch that failed: its records are those of the stream up to `last`.
#[derive(Serialize, Deserialize)]
pub struct Failed {
    pub last: String,
    /// The checkpoint once the batch is done.
    pub through: String,
    pub attempts: u32,
    pub reason: String,
    pub note: Value,
}

/// Creates the checkpoints of a new consumer, and adapts those of a known one to the number of lanes.
pub async fn establish(
    cloud: &Arc<Cloud>,
    source: &mut impl Source,
    settings: &Settings,
) -> Result<(), AwsError> {
    let known: Option<i64> = cloud.store.read(|c| {
        c.query_row("SELECT lanes FROM stream_checkpoints WHERE consumer = ?1", [&settings.consumer], |row| {
            row.get(0)
        })
        .optional()
    })?;
    if known.is_some() {
        return Ok(respread(cloud, settings)?);
    }
    let mut sequence = None;
    if settings.start == StartingPosition::Latest {
        while let Some(last) = source.read(sequence.as_deref()).await?.last() {
            sequence = Some(sequence_of(last));
        }
    }
    Ok(cloud.store.write(|tx| write_lanes(tx, settings, sequence.as_deref()))?)
}

/// A new number of lanes moves items between lanes: all lanes go back to the one furthest behind.
fn respread(cloud: &Cloud, settings: &Settings) -> Result<(), StoreError> {
    cloud.store.write(|tx| {
        let mut rows = tx.prepare("SELECT lanes, sequence FROM stream_checkpoints WHERE consumer = ?1")?;
        let rows: Vec<(usize, Option<String>)> = rows
            .query_map([&settings.consumer], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        if rows.iter().all(|(lanes, _)| *lanes == settings.lanes.max(1)) {
            return Ok(());
        }
        let sequences = rows.into_iter().map(|(_, sequence)| sequence);
        let behind = sequences.min_by_key(|sequence| order(sequence.as_deref())).flatten();
        write_lanes(tx, settings, behind.as_deref())
    })
}

fn write_lanes(tx: &Transaction<'_>, settings: &Settings, sequence: Option<&str>) -> rusqlite::Result<()> {
    forget(tx, &settings.consumer)?;
    for lane in 0..settings.lanes.max(1) {
        tx.execute(
            "INSERT INTO stream_checkpoints (consumer, lane, lanes, sequence) VALUES (?1, ?2, ?3, ?4)",
            params![settings.consumer, lane, settings.lanes.max(1), sequence],
        )?;
    }
    Ok(())
}

/// Deletes the checkpoints of a consumer.
pub fn forget(tx: &Transaction<'_>, consumer: &str) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM stream_checkpoints WHERE consumer = ?1", [consumer])?;
    tx.execute("DELETE FROM stream_retries WHERE consumer = ?1", [consumer]).map(drop)
}

/// The sequence number that a lane has passed.
pub fn passed(cloud: &Cloud, consumer: &str, lane: usize) -> Result<Option<String>, StoreError> {
    let query = "SELECT sequence FROM stream_checkpoints WHERE consumer = ?1 AND lane = ?2";
    cloud.store.read(|c| c.query_row(query, params![consumer, lane], |row| row.get(0)))
}

/// The failed batches of a lane, in the order of the stream.
pub fn failed(cloud: &Cloud, consumer: &str, lane: usize) -> Result<Vec<Failed>, AwsError> {
    let query = "SELECT batches FROM stream_retries WHERE consumer = ?1 AND lane = ?2";
    let batches: Option<String> =
        cloud.store.read(|c| c.query_row(query, params![consumer, lane], |row| row.get(0)).optional())?;
    batches.map_or(Ok(Vec::new()), |text| serde_json::from_str(&text).map_err(AwsError::internal))
}

/// Moves the checkpoint of a lane if `passed` is given, and replaces its failed batches if `failed` is.
pub fn save(
    cloud: &Cloud,
    consumer: &str,
    lane: usize,
    passed: Option<&str>,
    failed: Option<&[Failed]>,
) -> Result<(), AwsError> {
    let failed = failed.map(serde_json::to_string).transpose().map_err(AwsError::internal)?;
    cloud.store.write(|tx| {
        if let Some(sequence) = passed {
            tx.execute(
                "UPDATE stream_checkpoints SET sequence = ?3 WHERE consumer = ?1 AND lane = ?2",
                params![consumer, lane, sequence],
            )?;
        }
        match failed.as_deref() {
            None => Ok(0),
            Some("[]") => tx.execute(
                "DELETE FROM stream_retries WHERE consumer = ?1 AND lane = ?2",
                params![consumer, lane],
            ),
            Some(batches) => tx.execute(
                "INSERT OR REPLACE INTO stream_retries (consumer, lane, batches) VALUES (?1, ?2, ?3)",
                params![consumer, lane, batches],
            ),
        }
    })?;
    Ok(())
}
