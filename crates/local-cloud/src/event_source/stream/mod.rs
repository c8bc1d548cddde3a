//! Reads a table stream for one consumer (an event source mapping or a pipe). It owns the
//! consumer's checkpoints in the store and the failure policy: retries, bisecting, maximum
//! age, and what is handed over when it gives up. Records of one item are delivered in
//! order and at least once; a checkpoint never moves past a record that was neither
//! delivered, filtered out, nor handed over.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use md5::{Digest, Md5};
use rusqlite::{OptionalExtension, params};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cloud::Cloud;
use crate::endpoint;
use crate::error::AwsError;
use crate::store::StoreError;

/// What [`State::open`](super::State::open) creates for the checkpoints. `sequence` is NULL
/// while nothing of the stream has been passed.
pub(super) const TABLES: &str = "CREATE TABLE IF NOT EXISTS stream_checkpoints (
    consumer TEXT NOT NULL, lane INTEGER NOT NULL, lanes INTEGER NOT NULL, sequence TEXT,
    PRIMARY KEY (consumer, lane)) WITHOUT ROWID;";

/// Most records that one GetRecords call returns (API_streams_GetRecords).
const PAGE: usize = 1_000;

/// Largest payload of a synchronous invocation, less the envelope (gettingstarted-limits).
const BATCH_BYTES: usize = 6 * 1024 * 1024 - 1_024;

/// AWS retries with a growing pause and does not publish the figures; these are ours.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

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

/// Reads until `cloud.stopping`. Dropping the future at any point is safe: what was not
/// checkpointed is delivered again.
pub async fn run(cloud: Arc<Cloud>, settings: Settings, consumer: impl Consumer) {
    let lanes = (0..settings.lanes.max(1)).map(|lane| {
        let stream = TableStream::new(&cloud, &settings.stream_arn);
        Lane::new(&cloud, &settings, &consumer, stream, lane).run()
    });
    let lanes = futures::future::join_all(lanes);
    tokio::select! {
        () = cloud.stopping.cancelled() => {}
        _ = lanes => {}
    }
}

/// A stream of records; the tests have one of their own.
trait Source: Send {
    /// Up to [`PAGE`] records after `sequence`, or from the oldest.
    fn read(&mut self, after: Option<&str>) -> impl Future<Output = Result<Vec<Value>, AwsError>> + Send;
    /// Ticks when there may be more.
    fn changes(&self) -> watch::Receiver<u64>;
    /// The shard that the records come from.
    fn shard(&self) -> &str;
}

/// A stream of a table here. DynamoDB here has one shard per stream, which never closes.
struct TableStream {
    cloud: Arc<Cloud>,
    arn: String,
    shard: String,
    /// Where the last read ended, so that an idle stream is not asked for a new iterator.
    next: Option<(Option<String>, String)>,
}

impl TableStream {
    fn new(cloud: &Arc<Cloud>, arn: &str) -> Self {
        Self { cloud: cloud.clone(), arn: arn.into(), shard: String::new(), next: None }
    }

    async fn call(&self, action: &str, input: Value) -> Result<Value, AwsError> {
        endpoint::call(&self.cloud, "streams.dynamodb", action, input).await
    }

    async fn iterator(&mut self, after: Option<&str>) -> Result<String, AwsError> {
        if self.shard.is_empty() {
            let answer = self.call("DescribeStream", json!({ "StreamArn": self.arn })).await?;
            self.shard = text(&answer["StreamDescription"]["Shards"][0]["ShardId"]);
        }
        let mut input = json!({ "StreamArn": self.arn, "ShardId": self.shard });
        match after {
            None => input["ShardIteratorType"] = json!("TRIM_HORIZON"),
            Some(sequence) => {
                input["ShardIteratorType"] = json!("AFTER_SEQUENCE_NUMBER");
                input["SequenceNumber"] = json!(sequence);
            }
        }
        match self.call("GetShardIterator", input.clone()).await {
            // What came after the checkpoint is trimmed in part: go on with the oldest that is left.
            Err(error) if error.code == "TrimmedDataAccessException" => {
                input["ShardIteratorType"] = json!("TRIM_HORIZON");
                input.as_object_mut().map(|input| input.remove("SequenceNumber"));
                Ok(text(&self.call("GetShardIterator", input).await?["ShardIterator"]))
            }
            answer => Ok(text(&answer?["ShardIterator"])),
        }
    }
}

impl Source for TableStream {
    async fn read(&mut self, after: Option<&str>) -> Result<Vec<Value>, AwsError> {
        let iterator = match self.next.take() {
            Some((position, iterator)) if position.as_deref() == after => iterator,
            _ => self.iterator(after).await?,
        };
        let mut answer = self.call("GetRecords", json!({ "ShardIterator": iterator, "Limit": PAGE })).await?;
        let records = match answer["Records"].take() {
            Value::Array(records) => records,
            _ => Vec::new(),
        };
        if let Some(iterator) = answer["NextShardIterator"].as_str() {
            let position = records.last().map(sequence_of).or(after.map(str::to_owned));
            self.next = Some((position, iterator.to_owned()));
        }
        Ok(records)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        crate::dynamodb::changes(&self.cloud)
    }

    fn shard(&self) -> &str {
        &self.shard
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
        let behind = rows.into_iter().map(|(_, sequence)| sequence).min_by_key(order).flatten();
        write_lanes(tx, settings, behind.as_deref())
    })
}

/// Sequence numbers are whole numbers of up to 40 digits: the longer text is the greater.
fn order(sequence: &Option<String>) -> Option<(usize, String)> {
    sequence.as_ref().map(|text| {
        let digits = text.trim_start_matches('0');
        (digits.len(), digits.to_owned())
    })
}

fn write_lanes(
    tx: &rusqlite::Transaction<'_>,
    settings: &Settings,
    sequence: Option<&str>,
) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM stream_checkpoints WHERE consumer = ?1", [&settings.consumer])?;
    for lane in 0..settings.lanes.max(1) {
        tx.execute(
            "INSERT INTO stream_checkpoints (consumer, lane, lanes, sequence) VALUES (?1, ?2, ?3, ?4)",
            params![settings.consumer, lane, settings.lanes.max(1), sequence],
        )?;
    }
    Ok(())
}

/// Part of a batch, with what has been tried already.
struct Segment {
    records: Vec<Value>,
    /// Deliveries that count against the retries.
    attempts: u32,
    /// Pauses so far, counted or not.
    pauses: u32,
    reason: String,
    /// What is passed once the segment is done.
    through: String,
}

/// One reader of the whole stream that keeps only the records of its items.
struct Lane<'a, C, S> {
    cloud: &'a Arc<Cloud>,
    settings: &'a Settings,
    consumer: &'a C,
    source: S,
    lane: usize,
    /// Read, wanted, and not yet taken into a batch.
    waiting: VecDeque<Value>,
    /// The last record read.
    cursor: Option<String>,
    /// The checkpoint as it is stored.
    passed: Option<String>,
}

impl<'a, C: Consumer, S: Source> Lane<'a, C, S> {
    fn new(cloud: &'a Arc<Cloud>, settings: &'a Settings, consumer: &'a C, source: S, lane: usize) -> Self {
        Self { cloud, settings, consumer, source, lane, waiting: VecDeque::new(), cursor: None, passed: None }
    }

    async fn run(mut self) {
        let mut failures = 0;
        // An error is one of our own (the store, the stream's table): begin again at the checkpoint.
        while let Err(error) = self.work(&mut failures).await {
            tracing::warn!(target: "hop", service = "streams", resource = %self.settings.consumer, "cannot read the stream: {error}");
            self.pause(failures).await;
            failures += 1;
        }
    }

    async fn work(&mut self, failures: &mut u32) -> Result<(), AwsError> {
        establish_on(self.cloud, &mut self.source, self.settings).await?;
        self.passed = self.checkpoint()?;
        self.cursor = self.passed.clone();
        self.waiting.clear();
        let mut changes = self.source.changes();
        loop {
            let batch = self.gather(&mut changes).await?;
            self.process(batch).await?;
            *failures = 0;
        }
    }

    /// Waits for at least one wanted record, then for a full batch or the end of the window.
    async fn gather(&mut self, changes: &mut watch::Receiver<u64>) -> Result<Segment, AwsError> {
        let mut due = None;
        loop {
            changes.borrow_and_update();
            while self.waiting.len() < self.settings.batch_size && self.read().await? {}
            let now = self.cloud.clock.now_ms();
            if !self.waiting.is_empty() {
                let due = *due.get_or_insert(now + self.settings.window.as_millis() as i64);
                if self.waiting.len() >= self.settings.batch_size || due <= now {
                    return Ok(self.take());
                }
            } else if let Some(cursor) = self.cursor.clone() {
                self.pass(&cursor)?;
            }
            let window_ends = async {
                match due {
                    Some(due) => self.cloud.clock.sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    // The table's owner is gone, which happens while the cloud stops.
                    return std::future::pending().await;
                },
                () = window_ends => {}
            }
        }
    }

    /// Reads one page; false at the end of the stream.
    async fn read(&mut self) -> Result<bool, AwsError> {
        let page = self.source.read(self.cursor.as_deref()).await?;
        let Some(last) = page.last() else { return Ok(false) };
        self.cursor = Some(sequence_of(last));
        for mut record in page {
            record["eventSourceARN"] = json!(self.settings.stream_arn);
            if lane_of(&record, self.settings.lanes) == self.lane && self.consumer.wants(&record) {
                self.waiting.push_back(record);
            }
        }
        Ok(true)
    }

    fn take(&mut self) -> Segment {
        let mut records: Vec<Value> = Vec::new();
        let mut bytes = 0;
        while let Some(record) = self.waiting.front() {
            bytes += record.to_string().len() + 1;
            if records.len() == self.settings.batch_size || (bytes > BATCH_BYTES && !records.is_empty()) {
                break;
            }
            records.extend(self.waiting.pop_front());
        }
        // With nothing left waiting, the records behind the batch that nobody wants are passed with it.
        let through = match (&self.cursor, self.waiting.is_empty()) {
            (Some(cursor), true) => cursor.clone(),
            _ => records.last().map(sequence_of).unwrap_or_default(),
        };
        Segment { records, attempts: 0, pauses: 0, reason: String::new(), through }
    }

    /// Delivers a batch until each of its records is done or given up.
    async fn process(&mut self, batch: Segment) -> Result<(), AwsError> {
        let mut stack = vec![batch];
        while let Some(mut segment) = stack.pop() {
            if let Some(expired) = self.split_expired(&mut segment) {
                self.give_up(&expired, "RecordAgeExceeded").await;
                self.pass(&expired.through)?;
                if segment.records.is_empty() {
                    continue;
                }
            }
            match self.consumer.deliver(segment.records.clone()).await {
                Delivery::Done => self.pass(&segment.through)?,
                Delivery::NotStarted { reason } => {
                    self.warn(&segment, &reason);
                    segment.reason = reason;
                    self.pause(segment.pauses).await;
                    segment.pauses += 1;
                    stack.push(segment);
                }
                Delivery::Failed { reason } => self.failed(&mut stack, segment, reason).await?,
                Delivery::FailedFrom { sequence, reason } => {
                    let first = segment.records.iter().position(|record| sequence_of(record) == sequence);
                    if let Some(first) = first.filter(|first| *first > 0) {
                        self.pass(&sequence_of(&segment.records[first - 1]))?;
                        // What remains is a new batch, of which this was the first delivery.
                        segment.records.drain(..first);
                        segment.attempts = 0;
                    }
                    self.failed(&mut stack, segment, reason).await?;
                }
            }
        }
        Ok(())
    }

    async fn failed(
        &mut self,
        stack: &mut Vec<Segment>,
        mut segment: Segment,
        reason: String,
    ) -> Result<(), AwsError> {
        self.warn(&segment, &reason);
        segment.reason = reason;
        if self.settings.bisect && segment.records.len() > 1 {
            // Splitting does not count against the retries: services-dynamodb-errors.
            let second = segment.records.split_off(segment.records.len() / 2);
            let first_through = segment.records.last().map(sequence_of).unwrap_or_default();
            let first = Segment {
                records: segment.records,
                through: first_through,
                reason: segment.reason.clone(),
                attempts: segment.attempts,
                pauses: segment.pauses,
            };
            stack.push(Segment { records: second, ..segment });
            stack.push(first);
            return Ok(());
        }
        segment.attempts += 1;
        if self.settings.retries.is_some_and(|retries| segment.attempts > retries) {
            self.give_up(&segment, "RetryAttemptsExhausted").await;
            return self.pass(&segment.through);
        }
        self.pause(segment.pauses).await;
        segment.pauses += 1;
        stack.push(segment);
        Ok(())
    }

    /// Takes the records at the front that are older than the maximum age.
    fn split_expired(&self, segment: &mut Segment) -> Option<Segment> {
        let oldest = self.cloud.clock.now_ms() - self.settings.max_age?.as_millis() as i64;
        let expired = segment.records.iter().take_while(|record| created_ms(record) < oldest).count();
        if expired == 0 {
            return None;
        }
        let rest = segment.records.split_off(expired);
        let records = std::mem::replace(&mut segment.records, rest);
        let through = match segment.records.is_empty() {
            true => segment.through.clone(),
            false => records.last().map(sequence_of).unwrap_or_default(),
        };
        Some(Segment {
            records,
            through,
            attempts: segment.attempts,
            pauses: segment.pauses,
            reason: segment.reason.clone(),
        })
    }

    async fn give_up(&self, segment: &Segment, condition: &'static str) {
        let mut failures = 0;
        loop {
            let batch = Abandoned {
                condition,
                attempts: segment.attempts,
                reason: segment.reason.clone(),
                batch_info: batch_info(&segment.records, self.source.shard(), &self.settings.stream_arn),
                records: segment.records.clone(),
            };
            let Err(error) = self.consumer.abandon(batch).await else { return };
            self.warn(segment, &format!("the on-failure destination refused the batch: {error}"));
            self.pause(failures).await;
            failures += 1;
        }
    }

    fn warn(&self, segment: &Segment, reason: &str) {
        tracing::warn!(target: "hop", service = "streams", resource = %self.settings.consumer,
            "{} records not delivered: {reason}", segment.records.len());
    }

    async fn pause(&self, nth: u32) {
        let pause = FIRST_PAUSE.saturating_mul(1 << nth.min(16)).min(LONGEST_PAUSE);
        self.cloud.clock.sleep_until(self.cloud.clock.now_ms() + pause.as_millis() as i64).await;
    }

    fn checkpoint(&self) -> Result<Option<String>, StoreError> {
        self.cloud.store.read(|c| {
            c.query_row(
                "SELECT sequence FROM stream_checkpoints WHERE consumer = ?1 AND lane = ?2",
                params![self.settings.consumer, self.lane],
                |row| row.get(0),
            )
        })
    }

    fn pass(&mut self, sequence: &str) -> Result<(), AwsError> {
        if self.passed.as_deref() == Some(sequence) {
            return Ok(());
        }
        self.cloud.store.write(|tx| {
            tx.execute(
                "UPDATE stream_checkpoints SET sequence = ?3 WHERE consumer = ?1 AND lane = ?2",
                params![self.settings.consumer, self.lane, sequence],
            )
        })?;
        self.passed = Some(sequence.to_owned());
        Ok(())
    }
}

/// The sequence number of a stream record.
pub fn sequence_of(record: &Value) -> String {
    text(&record["dynamodb"]["SequenceNumber"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// When a record was written, in milliseconds since the epoch; the stream has whole seconds.
fn created_ms(record: &Value) -> i64 {
    let seconds = record["dynamodb"]["ApproximateCreationDateTime"].as_f64().unwrap_or_default();
    (seconds * 1000.0) as i64
}

/// Records of one item are always in the same lane, over restarts too, so the hash is a
/// fixed one. Batches under way at once keep the order per item: services-dynamodb-eventsourcemapping.
fn lane_of(record: &Value, lanes: usize) -> usize {
    if lanes <= 1 {
        return 0;
    }
    let digest = Md5::digest(record["dynamodb"]["Keys"].to_string());
    usize::from(digest[0]) % lanes
}

/// `DDBStreamBatchInfo` of an invocation record: services-dynamodb-errors.
fn batch_info(records: &[Value], shard: &str, stream_arn: &str) -> Value {
    let seconds = |record: Option<&Value>| {
        record
            .and_then(|record| jiff::Timestamp::from_second(created_ms(record) / 1000).ok())
            .map(|at| at.to_string())
    };
    json!({
        "shardId": shard,
        "startSequenceNumber": records.first().map(sequence_of),
        "endSequenceNumber": records.last().map(sequence_of),
        "approximateArrivalOfFirstRecord": seconds(records.first()),
        "approximateArrivalOfLastRecord": seconds(records.last()),
        "batchSize": records.len(),
        "streamArn": stream_arn,
    })
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
