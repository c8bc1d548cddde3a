//! Checks and answers of streams that AWS has beyond dynoxide.

use std::sync::Arc;

use cloud_core::api::{check_enum, check_number};
use cloud_core::service::Reply;
use cloud_core::{AwsError, Cloud};
use dynoxide::types::{Item, item_size};
use serde::Deserialize;
use serde_json::{Value, json};

use super::engine::Engine;

/// A shard has a first number from the start; that of an empty one is before all of dynoxide's.
const FIRST_SEQUENCE: &str = "100000000000000000001";

/// Checks the constraints that dynoxide ignores or refuses in other words.
pub(super) fn check(action: &str, body: &[u8]) -> Result<(), AwsError> {
    const KINDS: [&str; 4] = ["AFTER_SEQUENCE_NUMBER", "LATEST", "AT_SEQUENCE_NUMBER", "TRIM_HORIZON"];
    if !matches!(action, "GetRecords" | "GetShardIterator") {
        return Ok(());
    }
    let input: Value = serde_json::from_slice(body).unwrap_or_default();
    let checked = match (action, input["Limit"].as_i64()) {
        ("GetRecords", Some(limit)) => check_number("limit", limit, 1..=1000),
        ("GetRecords", None) => Ok(()),
        _ => check_enum("shardIteratorType", input["ShardIteratorType"].as_str(), &KINDS),
    };
    checked.map_err(|broken| AwsError::client("ValidationException", broken))
}

/// Sets a record's size to that of its keys and images as items; dynoxide gives that of their JSON.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_StreamRecord.html>
pub(super) fn measure(answer: &mut Value) {
    for record in answer["Records"].as_array_mut().into_iter().flatten() {
        let change = &mut record["dynamodb"];
        let images = ["Keys", "NewImage", "OldImage"].into_iter().filter_map(|image| change.get(image));
        let items = images.filter_map(|image| Item::deserialize(image).ok());
        let bytes: usize = items.map(|item| item_size(&item)).sum();
        change["SizeBytes"] = bytes.into();
    }
}

/// Adds the table's key schema and the first number of an empty shard to a description.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_StreamDescription.html>
pub(super) async fn complete(cloud: &Arc<Cloud>, engine: &Engine, reply: Reply) -> Result<Reply, AwsError> {
    if reply.status != 200 {
        return Ok(reply);
    }
    let mut answer: Value = serde_json::from_slice(&reply.body).map_err(AwsError::internal)?;
    let stream = &mut answer["StreamDescription"];
    let table = json!({ "TableName": stream["TableName"] }).to_string();
    let table = engine.send(cloud, "DescribeTable", table.into()).await?;
    let mut table: Value = serde_json::from_slice(&table.body).map_err(AwsError::internal)?;
    stream["KeySchema"] = table["Table"]["KeySchema"].take();
    for shard in stream["Shards"].as_array_mut().into_iter().flatten() {
        let first = &mut shard["SequenceNumberRange"]["StartingSequenceNumber"];
        if first.is_null() {
            *first = FIRST_SEQUENCE.into();
        }
    }
    Ok(Reply { status: 200, body: answer.to_string().into() })
}
