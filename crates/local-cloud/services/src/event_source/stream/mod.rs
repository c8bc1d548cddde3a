//! Reads a table stream for one consumer (an event source mapping or a pipe). It owns the
//! consumer's checkpoints in the store and the failure policy: retries, bisecting, maximum
//! age, and what is handed over when it gives up. Records of one item are delivered in
//! order and at least once; a checkpoint never moves past a record that was neither
//! delivered, filtered out, nor handed over.

mod lane;
mod source;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud};
use lane::Lane;
use rusqlite::{OptionalExtension, params};
use serde_json::Value;
use source::{Source, TableStream};
use tokio_util::sync::CancellationToken;

/// What [`State::open`](super::State::open) creates for the checkpoints. `sequence` is NULL
/// while nothing of the stream has been passed. `stream_retries` has the batches behind a
/// checkpoint that failed and are tried again, in order: where each ends, and how often it failed.
pub(super) const TABLES: &str = "CREATE TABLE IF NOT EXISTS stream_checkpoints (
    consumer TEXT NOT NULL, lane INTEGER NOT NULL, lanes INTEGER NOT NULL, sequence TEXT,
    PRIMARY KEY (consumer, lane)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS stream_retries (
    consumer TEXT NOT NULL, lane INTEGER NOT NULL, batches TEXT NOT NULL,
    PRIMARY KEY (consumer, lane)) WITHOUT ROWID;";

/// Where a consumer that has no checkpoint yet begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StartingPosition {
    /// With the oldest record of the stream.
    TrimHorizon,
    /// After the newest record that is there when the consumer is deployed.
    Latest,
}

/// What a reader does, apart from what its [`Consumer`] does.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of the durable checkpoint.
    pub consumer: String,
    /// The stream.
    pub stream_arn: String,
    /// Where to begin the first time.
    pub start: StartingPosition,
    /// Most records in a batch.
    pub batch_size: usize,
    /// How long to wait for a batch to fill; zero delivers what is there.
    pub window: Duration,
    /// ParallelizationFactor: batches under way at once, each with items of its own.
    pub lanes: usize,
    /// MaximumRetryAttempts; `None` retries for ever.
    pub retries: Option<u32>,
    /// MaximumRecordAgeInSeconds; `None` sets no bound.
    pub max_age: Option<Duration>,
    /// Whether a failing batch is split in two before it is retried.
    pub bisect: bool,
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    /// Every record is done.
    Done,
    /// Records before this sequence number are done; it and those behind it are not.
    FailedFrom {
        /// The lowest sequence number that failed.
        sequence: String,
        /// For the log.
        reason: String,
    },
    /// None is known to be done.
    Failed {
        /// For the log.
        reason: String,
    },
    /// The target was not reached (throttled, for one): retried without counting.
    NotStarted {
        /// For the log.
        reason: String,
    },
}

/// A batch that the reader gives up.
#[derive(Debug, Clone)]
pub struct Abandoned {
    /// `RetryAttemptsExhausted` or `RecordAgeExceeded`.
    pub condition: &'static str,
    /// How often it was delivered.
    pub attempts: u32,
    /// Why the last delivery failed; empty where there was none.
    pub reason: String,
    /// What [`Consumer::note`] gave after the last delivery; null where there was none.
    pub note: Value,
    /// The `DDBStreamBatchInfo` object of an invocation record.
    pub batch_info: Value,
    /// The records themselves.
    pub records: Vec<Value>,
}

/// Who takes the records.
pub trait Consumer: Send + Sync + 'static {
    /// The filter criteria; a record that is not wanted is passed over.
    fn wants(&self, record: &Value) -> bool;
    /// Delivers one batch.
    fn deliver(&self, records: Vec<Value>) -> impl Future<Output = Delivery> + Send;
    /// What the consumer wants to know again when it gives up a batch that has just failed;
    /// it is kept over a restart.
    fn note(&self, _records: &[Value]) -> Value {
        Value::Null
    }
    /// Sends a batch that is given up to the on-failure destination, where there is one.
    /// Repeated until it succeeds; only then the checkpoint moves.
    fn abandon(&self, batch: Abandoned) -> impl Future<Output = Result<(), AwsError>> + Send;
}

/// Fixes where a consumer begins that has no checkpoint yet; called at deployment.
///
/// # Errors
/// When the stream cannot be read.
pub async fn establish(cloud: &Arc<Cloud>, settings: &Settings) -> Result<(), AwsError> {
    let mut stream = TableStream::new(cloud, &settings.stream_arn);
    establish_on(cloud, &mut stream, settings).await
}

/// Reads until `cloud.stopping`, or until it is told to stop: then it ends after the delivery
/// under way, so that the next reader delivers nothing beside it. Dropping the future at any
/// point is safe: what was not checkpointed is delivered again.
pub async fn run_until(
    cloud: Arc<Cloud>,
    settings: Settings,
    consumer: impl Consumer,
    stop: &CancellationToken,
) {
    let lanes = (0..settings.lanes.max(1)).map(|lane| {
        let stream = TableStream::new(&cloud, &settings.stream_arn);
        Lane::new(&cloud, &settings, &consumer, stream, lane, stop).run()
    });
    let lanes = futures::future::join_all(lanes);
    tokio::select! {
        // First: what a stop breaks off is no failure of the consumer.
        biased;
        () = cloud.stopping.cancelled() => {}
        _ = lanes => {}
    }
}

async fn establish_on(
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

/// Where the number of lanes has changed, items have moved between lanes: all lanes go back
/// to the one that was furthest behind.
fn respread(cloud: &Cloud, settings: &Settings) -> Result<(), StoreError> {
    cloud.store.write(|tx| {
        let mut rows = tx.prepare("SELECT lanes, sequence FROM stream_checkpoints WHERE consumer = ?1")?;
        let rows: Vec<(usize, Option<String>)> = rows
            .query_map([&settings.consumer], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        if rows.iter().all(|(lanes, _)| *lanes == settings.lanes.max(1)) {
            return Ok(());
        }
        let behind = rows
            .into_iter()
            .map(|(_, sequence)| sequence)
            .min_by_key(|sequence| order(sequence.as_deref()))
            .flatten();
        write_lanes(tx, settings, behind.as_deref())
    })
}

/// Sequence numbers are whole numbers of up to 40 digits: the longer text is the greater.
fn order(sequence: Option<&str>) -> Option<(usize, String)> {
    sequence.map(|text| {
        let digits = text.trim_start_matches('0');
        (digits.len(), digits.to_owned())
    })
}

/// Forgets how far a consumer was.
pub(crate) fn forget(tx: &rusqlite::Transaction<'_>, consumer: &str) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM stream_checkpoints WHERE consumer = ?1", [consumer])?;
    tx.execute("DELETE FROM stream_retries WHERE consumer = ?1", [consumer]).map(drop)
}

fn write_lanes(
    tx: &rusqlite::Transaction<'_>,
    settings: &Settings,
    sequence: Option<&str>,
) -> rusqlite::Result<()> {
    forget(tx, &settings.consumer)?;
    for lane in 0..settings.lanes.max(1) {
        tx.execute(
            "INSERT INTO stream_checkpoints (consumer, lane, lanes, sequence) VALUES (?1, ?2, ?3, ?4)",
            params![settings.consumer, lane, settings.lanes.max(1), sequence],
        )?;
    }
    Ok(())
}

/// The sequence number of a stream record.
pub fn sequence_of(record: &Value) -> String {
    text(&record["dynamodb"]["SequenceNumber"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
