//! One lane of a reader: gathers batches, delivers them in order, and applies the failure
//! policy. What has failed stands in the store with its count until it is done or given up, so
//! that a restart goes on where it was.

use std::collections::VecDeque;
use std::sync::Arc;

use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud};
use md5::{Digest, Md5};
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::source::Source;
use super::{Abandoned, Consumer, Delivery, Settings, establish_on, order, sequence_of};

/// Largest payload of a synchronous invocation, less the envelope (gettingstarted-limits).
const BATCH_BYTES: usize = 6 * 1024 * 1024 - 1_024;

/// Part of a batch, with what has been tried already.
struct Segment {
    records: Vec<Value>,
    /// Deliveries that count against the retries.
    attempts: u32,
    /// Pauses so far, counted or not.
    pauses: u32,
    /// Why the last delivery failed; empty where there was none.
    reason: String,
    note: Value,
    /// What is passed once the segment is done.
    through: String,
}

/// A [`Segment`] as the store keeps it: its records are those of the stream up to `last`.
#[derive(Serialize, Deserialize)]
struct Stored {
    last: String,
    through: String,
    attempts: u32,
    reason: String,
    note: Value,
}

/// One reader of the whole stream that keeps only the records of its items.
pub(super) struct Lane<'a, C, S> {
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
    /// Whether batches are stored as failed.
    retrying: bool,
    stop: &'a CancellationToken,
}

impl<'a, C: Consumer, S: Source> Lane<'a, C, S> {
    pub fn new(
        cloud: &'a Arc<Cloud>,
        settings: &'a Settings,
        consumer: &'a C,
        source: S,
        lane: usize,
        stop: &'a CancellationToken,
    ) -> Self {
        let (waiting, cursor, passed, retrying) = (VecDeque::new(), None, None, false);
        Self { cloud, settings, consumer, source, lane, waiting, cursor, passed, retrying, stop }
    }

    pub async fn run(mut self) {
        let mut failures = 0;
        // An error is one of our own (the store, the stream's table): begin again at the checkpoint.
        while let Err(error) = self.work(&mut failures).await {
            tracing::warn!(target: "hop", service = "streams", resource = %self.settings.consumer, "cannot read the stream: {error}");
            self.pause(failures).await;
            if self.stop.is_cancelled() {
                return;
            }
            failures += 1;
        }
    }

    /// Ends when it is told to stop.
    async fn work(&mut self, failures: &mut u32) -> Result<(), AwsError> {
        establish_on(self.cloud, &mut self.source, self.settings).await?;
        self.passed = self.checkpoint()?;
        self.cursor = self.passed.clone();
        self.waiting.clear();
        let mut changes = self.source.changes();
        let failed = self.failed_before().await?;
        self.process(failed).await?;
        while let Some(batch) = self.gather(&mut changes).await? {
            self.process(vec![batch]).await?;
            *failures = 0;
        }
        Ok(())
    }

    /// The batches that had failed when the last reader ended; the next one is the last of the list.
    async fn failed_before(&mut self) -> Result<Vec<Segment>, AwsError> {
        let stored: Option<String> = self.cloud.store.read(|c| {
            c.query_row(
                "SELECT batches FROM stream_retries WHERE consumer = ?1 AND lane = ?2",
                params![self.settings.consumer, self.lane],
                |row| row.get(0),
            )
            .optional()
        })?;
        self.retrying = stored.is_some();
        let stored: Vec<Stored> = match stored {
            Some(text) => serde_json::from_str(&text).map_err(AwsError::internal)?,
            None => return Ok(Vec::new()),
        };
        let end = order(stored.last().map(|last| last.through.as_str()));
        while order(self.cursor.as_deref()) < end && self.read().await? {}
        let mut segments = Vec::new();
        for batch in stored {
            let last = order(Some(&batch.last));
            let count = self.waiting.iter().take_while(|record| order(Some(&sequence_of(record))) <= last);
            let count = count.count();
            segments.push(Segment {
                records: self.waiting.drain(..count).collect(),
                attempts: batch.attempts,
                pauses: 0,
                reason: batch.reason,
                note: batch.note,
                through: batch.through,
            });
        }
        segments.reverse();
        Ok(segments)
    }

    /// Waits for at least one wanted record, then for a full batch or the end of the window.
    async fn gather(&mut self, changes: &mut watch::Receiver<u64>) -> Result<Option<Segment>, AwsError> {
        let mut due = None;
        loop {
            if self.stop.is_cancelled() {
                return Ok(None);
            }
            changes.borrow_and_update();
            while self.waiting.len() < self.settings.batch_size && self.read().await? {}
            let now = self.cloud.clock.now_ms();
            if !self.waiting.is_empty() {
                let due = *due.get_or_insert(now + self.settings.window.as_millis() as i64);
                if self.waiting.len() >= self.settings.batch_size || due <= now {
                    return Ok(Some(self.take()));
                }
            } else if let Some(cursor) = self.cursor.clone() {
                self.store(Some(&cursor), &[])?;
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
                () = self.stop.cancelled() => {}
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
        Segment { records, attempts: 0, pauses: 0, reason: String::new(), note: Value::Null, through }
    }

    /// Delivers batches, the last of the list first, until each of their records is done or
    /// given up, or until it is told to stop.
    async fn process(&mut self, mut stack: Vec<Segment>) -> Result<(), AwsError> {
        while let Some(mut segment) = stack.pop().filter(|_| !self.stop.is_cancelled()) {
            if let Some(expired) = self.split_expired(&mut segment) {
                if !segment.records.is_empty() {
                    stack.push(segment);
                }
                if !self.give_up(&expired, "RecordAgeExceeded").await {
                    return Ok(());
                }
                self.store(Some(&expired.through), &stack)?;
                continue;
            }
            let exhausted = self.settings.retries.is_some_and(|retries| segment.attempts > retries);
            if exhausted && !self.give_up(&segment, "RetryAttemptsExhausted").await {
                return Ok(());
            }
            // Without records, the filters have changed since the batch failed.
            if exhausted || segment.records.is_empty() {
                self.store(Some(&segment.through), &stack)?;
                continue;
            }
            match self.consumer.deliver(segment.records.clone()).await {
                Delivery::Done => self.store(Some(&segment.through), &stack)?,
                Delivery::NotStarted { reason } => {
                    self.warn(&segment, &reason);
                    segment.reason = reason;
                    self.pause(segment.pauses).await;
                    segment.pauses += 1;
                    stack.push(segment);
                }
                Delivery::Failed { reason } => self.failed(&mut stack, segment, reason, None).await?,
                Delivery::FailedFrom { sequence, reason } => {
                    let first = segment.records.iter().position(|record| sequence_of(record) == sequence);
                    let mut done = None;
                    if let Some(first) = first.filter(|first| *first > 0) {
                        done = Some(sequence_of(&segment.records[first - 1]));
                        // What remains is a new batch, of which this was the first delivery.
                        segment.records.drain(..first);
                        segment.attempts = 0;
                    }
                    self.failed(&mut stack, segment, reason, done).await?;
                }
            }
        }
        Ok(())
    }

    /// Counts a failure, or splits the batch; `done` is what came before it and succeeded.
    async fn failed(
        &mut self,
        stack: &mut Vec<Segment>,
        mut segment: Segment,
        reason: String,
        done: Option<String>,
    ) -> Result<(), AwsError> {
        self.warn(&segment, &reason);
        segment.reason = reason;
        segment.note = self.consumer.note(&segment.records);
        // Splitting does not count against the retries: services-dynamodb-errors. A partial
        // response has split the batch already: services-ddb-batchfailurereporting.
        let split = self.settings.bisect && done.is_none() && segment.records.len() > 1;
        let mut wait = None;
        if split {
            let second = segment.records.split_off(segment.records.len() / 2);
            let through = segment.records.last().map(sequence_of).unwrap_or_default();
            let first = Segment {
                records: segment.records,
                through,
                reason: segment.reason.clone(),
                note: segment.note.clone(),
                ..segment
            };
            stack.push(Segment {
                records: second,
                through: segment.through,
                reason: segment.reason,
                note: segment.note,
                ..first
            });
            stack.push(first);
        } else {
            segment.attempts += u32::from(!self.settings.bisect || done.is_none());
            if self.settings.retries.is_none_or(|retries| segment.attempts <= retries) {
                wait = Some(segment.pauses);
                segment.pauses += 1;
            }
            stack.push(segment);
        }
        self.store(done.as_deref(), stack)?;
        if let Some(pauses) = wait {
            self.pause(pauses).await;
        }
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
            note: segment.note.clone(),
        })
    }

    /// Hands a batch over; false where it is told to stop before that succeeds.
    async fn give_up(&self, segment: &Segment, condition: &'static str) -> bool {
        let mut failures = 0;
        loop {
            let batch = Abandoned {
                condition,
                attempts: segment.attempts,
                reason: segment.reason.clone(),
                note: segment.note.clone(),
                batch_info: batch_info(&segment.records, self.source.shard(), &self.settings.stream_arn),
                records: segment.records.clone(),
            };
            let Err(error) = self.consumer.abandon(batch).await else { return true };
            self.warn(segment, &format!("the on-failure destination refused the batch: {error}"));
            self.pause(failures).await;
            if self.stop.is_cancelled() {
                return false;
            }
            failures += 1;
        }
    }

    fn warn(&self, segment: &Segment, reason: &str) {
        tracing::warn!(target: "hop", service = "streams", resource = %self.settings.consumer,
            "{} records not delivered: {reason}", segment.records.len());
    }

    async fn pause(&self, nth: u32) {
        tokio::select! {
            () = crate::event_source::pause(self.cloud, nth) => {}
            () = self.stop.cancelled() => {}
        }
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

    /// Moves the checkpoint and stores which batches behind it have failed, in one transaction.
    fn store(&mut self, passed: Option<&str>, stack: &[Segment]) -> Result<(), AwsError> {
        let passed = passed.filter(|sequence| self.passed.as_deref() != Some(sequence));
        let failed = stack.iter().any(|segment| !segment.reason.is_empty());
        if passed.is_none() && !failed && !self.retrying {
            return Ok(());
        }
        let key = params![self.settings.consumer, self.lane];
        let stored: Vec<Stored> = stack.iter().rev().map(Segment::stored).collect();
        let stored = serde_json::to_string(&stored).map_err(AwsError::internal)?;
        self.cloud.store.write(|tx| {
            if let Some(sequence) = passed {
                tx.execute(
                    "UPDATE stream_checkpoints SET sequence = ?3 WHERE consumer = ?1 AND lane = ?2",
                    params![self.settings.consumer, self.lane, sequence],
                )?;
            }
            if failed {
                tx.execute(
                    "INSERT OR REPLACE INTO stream_retries (consumer, lane, batches) VALUES (?1, ?2, ?3)",
                    params![self.settings.consumer, self.lane, stored],
                )?;
            } else if self.retrying {
                tx.execute("DELETE FROM stream_retries WHERE consumer = ?1 AND lane = ?2", key)?;
            }
            Ok(())
        })?;
        self.retrying = failed;
        if let Some(sequence) = passed {
            self.passed = Some(sequence.to_owned());
        }
        Ok(())
    }
}

impl Segment {
    fn stored(&self) -> Stored {
        Stored {
            last: self.records.last().map(sequence_of).unwrap_or_else(|| self.through.clone()),
            through: self.through.clone(),
            attempts: self.attempts,
            reason: self.reason.clone(),
            note: self.note.clone(),
        }
    }
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
