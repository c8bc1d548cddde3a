//! A reader's settings, and its consumer.

use std::future::Future;
use std::time::Duration;

use cloud_core::AwsError;
use serde::Deserialize;
use serde_json::Value;

/// Where a consumer without a checkpoint begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StartingPosition {
    /// With the oldest record of the stream.
    TrimHorizon,
    /// After the newest record at deployment.
    Latest,
}

#[derive(Debug, Clone)]
pub struct Settings {
    /// The checkpoint's name.
    pub consumer: String,
    pub stream_arn: String,
    pub start: StartingPosition,
    /// The most records of a batch.
    pub batch_size: usize,
    /// How long a batch may wait for more records; zero delivers at once.
    pub window: Duration,
    /// ParallelizationFactor: batches under way at once, each with other items.
    pub lanes: usize,
    /// MaximumRetryAttempts; `None` retries for ever.
    pub retries: Option<u32>,
    /// MaximumRecordAgeInSeconds; `None` sets no bound.
    pub max_age: Option<Duration>,
    /// Whether to split a failing batch in two before the retry.
    pub bisect: bool,
}

/// The result of a delivery; reasons are for the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    Done,
    /// Only the records before this sequence number are done.
    FailedFrom {
        sequence: String,
        reason: String,
    },
    /// No record is known to be done.
    Failed {
        reason: String,
    },
    /// The target was not reached, e.g. throttled. The retry is not counted.
    NotStarted {
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
    /// Why the last delivery failed; empty if there was none.
    pub reason: String,
    /// The [`Consumer::note`] of the last delivery; null if there was none.
    pub note: Value,
    /// The `DDBStreamBatchInfo` object of an invocation record.
    pub batch_info: Value,
    pub records: Vec<Value>,
}

pub trait Consumer: Send + Sync + 'static {
    /// The filter criteria; an unwanted record is skipped.
    fn wants(&self, record: &Value) -> bool;
    fn deliver(&self, records: Vec<Value>) -> impl Future<Output = Delivery> + Send;
    /// Makes the [`Abandoned::note`] of a batch that has just failed. The store keeps it over a restart.
    fn note(&self, _records: &[Value]) -> Value {
        Value::Null
    }
    /// Sends an abandoned batch to the on-failure destination, if there is one. The reader repeats this
    /// until it succeeds; only then the checkpoint moves.
    fn abandon(&self, batch: Abandoned) -> impl Future<Output = Result<(), AwsError>> + Send;
}
