//! The source of a reader's records: a table's stream, or a fake in tests.

use std::future::Future;
use std::sync::Arc;

use cloud_core::{AwsError, Cloud};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::record::{sequence_of, text};

/// The most records of one GetRecords call (API_streams_GetRecords).
const PAGE: usize = 1_000;

pub trait Source: Send {
    /// Up to [`PAGE`] records after a sequence number, or from the oldest on.
    fn read(&mut self, after: Option<&str>) -> impl Future<Output = Result<Vec<Value>, AwsError>> + Send;
    /// Ticks when there may be more.
    fn changes(&self) -> watch::Receiver<u64>;
    /// The id of the shard.
    fn shard(&self) -> &str;
}

/// A stream of the emulated DynamoDB, which has one shard per stream and never closes it.
pub struct TableStream {
    cloud: Arc<Cloud>,
    arn: String,
    shard: String,
    /// The position and the iterator after the last read: an idle stream needs no new iterator.
    next: Option<(Option<String>, String)>,
}

impl TableStream {
    pub fn new(cloud: &Arc<Cloud>, arn: &str) -> Self {
        Self { cloud: cloud.clone(), arn: arn.into(), shard: String::new(), next: None }
    }

    async fn call(&self, action: &str, input: Value) -> Result<Value, AwsError> {
        self.cloud.call("dynamodb", action, input).await
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
            // Records after the checkpoint are trimmed: continue with the oldest record that is left.
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
        crate::dynamodb::changes(&self.cloud, &self.arn)
    }

    fn shard(&self) -> &str {
        &self.shard
    }
}
