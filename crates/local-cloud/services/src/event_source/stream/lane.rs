//! One lane of a reader: gathers batches, delivers them in order, and applies the failure policy. Failed
//! batches are in the store with their counts until they are done or given up, so that a restart
//! continues with them.

use std::collections::VecDeque;
use std::sync::Arc;

use cloud_core::{AwsError, Cloud};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::checkpoint::{self, Failed};
use super::consumer::{Abandoned, Consumer, Delivery, Settings};
use super::record::{batch_info, created_ms, lane_of, order, sequence_of};
use super::source::Source;
use crate::event_source::backoff;

/// The largest payload of a synchronous invocation, less the envelope (gettingstarted-limits).
const MAX_BATCH_BYTES: usize = 6 * 1024 * 1024 - 1_024;

/// A batch or a part of one, with its history.
#[derive(Clone)]
struct Segment {
    records: Vec<Value>,
    /// Deliveries that count against the retries.
    attempts: u32,
    /// Pauses so far, counted or not.
    pauses: u32,
    /// Why the last delivery failed; empty if there was none.
    reason: String,
    note: Value,
    /// The checkpoint once the segment is done.
    through: String,
}

/// Reads the whole stream and keeps only the records of its items.
pub struct Lane<'a, C, S> {
    cloud: &'a Arc<Cloud>,
    settings: &'a Settings,
    consumer: &'a C,
    source: S,
    lane: usize,
    /// Wanted records that are in no batch yet.
    waiting: VecDeque<Value>,
    /// The sequence number of the last record read.
    cursor: Option<String>,
    /// The stored checkpoint.
    passed: Option<String>,
    /// Whether the store has failed batches.
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
        // An error comes from the store or the table, not from the consumer: begin again at the checkpoint.
        while let Err(error) = self.work(&mut failures).await {
            tracing::warn!(target: "hop", service = "streams", resource = %self.settings.consumer, "cannot read the stream: {error}");
            self.pause(failures).await;
            if self.stop.is_cancelled() {
                return;
            }
            failures += 1;
        }
    }

    /// Ends after a stop.
    async fn work(&mut self, failures: &mut u32) -> Result<(), AwsError> {
        checkpoint::establish(self.cloud, &mut self.source, self.settings).await?;
        self.passed = checkpoint::passed(self.cloud, &self.settings.consumer, self.lane)?;
        self.cursor = self.passed.clone();
        self.waiting.clear();
        let mut changes = self.source.changes();
        let failed = self.read_failed().await?;
        self.process(failed).await?;
        while let Some(batch) = self.gather(&mut changes).await? {
            self.process(vec![batch]).await?;
            *failures = 0;
        }
        Ok(())
    }

    /// The failed batches of the last reader; the next one is the last of the list.
    async fn read_failed(&mut self) -> Result<Vec<Segment>, AwsError> {
        let failed = checkpoint::failed(self.cloud, &self.settings.consumer, self.lane)?;
        self.retrying = !failed.is_empty();
        let Some(last) = failed.last() else { return Ok(Vec::new()) };
        let end = order(Some(&last.through));
        while order(self.cursor.as_deref()) < end && self.read().await? {}
        let mut segments = Vec::new();
        for Failed { last, through, attempts, reason, note } in failed {
            let last = order(Some(&last));
            let is_part = |record: &&Value| order(Some(&sequence_of(record))) <= last;
            let count = self.waiting.iter().take_while(is_part).count();
            let records = self.waiting.drain(..count).collect();
            segments.push(Segment { records, attempts, pauses: 0, reason, note, through });
        }
        segments.reverse();
        Ok(segments)
    }

    /// Waits for a wanted record, then for a full batch or the end of the window. `None` after a stop.
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
                    // DynamoDB is gone: the cloud stops.
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

    /// The next batch.
    fn take(&mut self) -> Segment {
        let mut records: Vec<Value> = Vec::new();
        let mut bytes = 0;
        while let Some(record) = self.waiting.front() {
            bytes += record.to_string().len() + 1;
            if records.len() == self.settings.batch_size || (bytes > MAX_BATCH_BYTES && !records.is_empty()) {
                break;
            }
            records.extend(self.waiting.pop_front());
        }
        // If no other record waits, the batch also passes the unwanted records behind it.
        let through = match (&self.cursor, self.waiting.is_empty()) {
            (Some(cursor), true) => cursor.clone(),
            _ => records.last().map(sequence_of).unwrap_or_default(),
        };
        Segment { records, attempts: 0, pauses: 0, reason: String::new(), note: Value::Null, through }
    }

    /// Delivers segments, the last of the list first, until each record is done or given up, or `stop`.
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
            // There are no records if the filters have changed since the batch failed.
            if exhausted || segment.records.is_empty() {
                self.store(Some(&segment.through), &stack)?;
                continue;
            }
            self.deliver(segment, &mut stack).await?;
        }
        Ok(())
    }

    async fn deliver(&mut self, mut segment: Segment, stack: &mut Vec<Segment>) -> Result<(), AwsError> {
        match self.consumer.deliver(segment.records.clone()).await {
            Delivery::Done => self.store(Some(&segment.through), stack),
            Delivery::NotStarted { reason } => {
                self.warn(&segment, &reason);
                segment.reason = reason;
                self.pause(segment.pauses).await;
                segment.pauses += 1;
                stack.push(segment);
                Ok(())
            }
            Delivery::Failed { reason } => self.failed(stack, segment, reason, None).await,
            Delivery::FailedFrom { sequence, reason } => {
                let first = segment.records.iter().position(|record| sequence_of(record) == sequence);
                let mut done = None;
                if let Some(first) = first.filter(|first| *first > 0) {
                    done = Some(sequence_of(&segment.records[first - 1]));
                    // The rest is a new batch, and this was its first delivery.
                    segment.records.drain(..first);
                    segment.attempts = 0;
                }
                self.failed(stack, segment, reason, done).await
            }
        }
    }

    /// Counts a failure, or splits the batch. `done` is the last record before it that succeeded.
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
        let mut wait = None;
        // Splitting does not count against the retries: services-dynamodb-errors. A partial response has
        // split the batch already: services-ddb-batchfailurereporting.
        if self.settings.bisect && done.is_none() && segment.records.len() > 1 {
            let second = segment.split_off(segment.records.len() / 2);
            stack.extend([second, segment]);
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

    /// Cuts off the first records if they are above the maximum age.
    fn split_expired(&self, segment: &mut Segment) -> Option<Segment> {
        let oldest = self.cloud.clock.now_ms() - self.settings.max_age?.as_millis() as i64;
        let expired = segment.records.iter().take_while(|record| created_ms(record) < oldest).count();
        if expired == 0 {
            return None;
        }
        let rest = segment.split_off(expired);
        Some(std::mem::replace(segment, rest))
    }

    /// Gives a segment to the on-failure destination; false if `stop` comes before that succeeds.
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
            () = backoff::pause(self.cloud, nth) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Moves the checkpoint and stores the failed batches behind it, in one transaction.
    fn store(&mut self, passed: Option<&str>, stack: &[Segment]) -> Result<(), AwsError> {
        let passed = passed.filter(|sequence| self.passed.as_deref() != Some(sequence));
        let failing = stack.iter().any(|segment| !segment.reason.is_empty());
        if passed.is_none() && !failing && !self.retrying {
            return Ok(());
        }
        let failed: Vec<Failed> = stack.iter().rev().filter(|_| failing).map(Segment::stored).collect();
        let failed = (failing || self.retrying).then_some(failed.as_slice());
        checkpoint::save(self.cloud, &self.settings.consumer, self.lane, passed, failed)?;
        self.retrying = failing;
        if let Some(sequence) = passed {
            self.passed = Some(sequence.to_owned());
        }
        Ok(())
    }
}

impl Segment {
    /// Cuts off the records from `at` on, as a segment with the same history.
    fn split_off(&mut self, at: usize) -> Self {
        let rest = Self { records: self.records.split_off(at), ..self.clone() };
        if !rest.records.is_empty() {
            self.through = self.records.last().map(sequence_of).unwrap_or_default();
        }
        rest
    }

    fn stored(&self) -> Failed {
        Failed {
            last: self.records.last().map(sequence_of).unwrap_or_else(|| self.through.clone()),
            through: self.through.clone(),
            attempts: self.attempts,
            reason: self.reason.clone(),
            note: self.note.clone(),
        }
    }
}
