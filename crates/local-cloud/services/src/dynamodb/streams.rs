//! What AWS checks and shows of a stream beyond dynoxide.

use std::sync::Arc;

use cloud_core::service::Reply;
use cloud_core::{AwsError, Cloud};
use dynoxide::types::{Item, item_size};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A shard has a first number from the start; that of an empty one is before all of dynoxide's.
const FIRST_SEQUENCE: &str = "100000000000000000001";

/// The constraints that dynoxide words in its own way, or passes over.
pub(super) fn check(action: &str, body: &[u8]) -> Result<(), AwsError> {
    let (member, constraint) = match action {
        "GetRecords" => ("Limit", "limit"),
        "GetShardIterator" => ("ShardIteratorType", "shardIteratorType"),
        _ => return Ok(()),
    };
    let input: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    let broken = match input.get(member) {
        Some(Value::Number(limit)) if limit.as_f64().is_some_and(|limit| limit < 1.0) => Some(format!(
            "Value '{limit}' at '{constraint}' failed to satisfy constraint: Member must have value greater than or equal to 1"
        )),
        Some(Value::Number(limit)) if limit.as_f64().is_some_and(|limit| limit > 1000.0) => Some(format!(
            "Value '{limit}' at '{constraint}' failed to satisfy constraint: Member must have value less than or equal to 1000"
        )),
        Some(Value::String(kind))
            if !["AFTER_SEQUENCE_NUMBER", "LATEST", "AT_SEQUENCE_NUMBER", "TRIM_HORIZON"]
                .contains(&kind.as_str()) =>
        {
            Some(format!(
                "Value '{kind}' at '{constraint}' failed to satisfy constraint: Member must satisfy enum value set: [AFTER_SEQUENCE_NUMBER, LATEST, AT_SEQUENCE_NUMBER, TRIM_HORIZON]"
            ))
        }
        _ => None,
    };
    match broken {
        Some(broken) => {
            Err(AwsError::client("ValidationException", format!("1 validation error detected: {broken}")))
        }
        None => Ok(()),
    }
}

/// A record's size is that of its keys and images as items; dynoxide gives that of their JSON.
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
pub(super) async fn complete(cloud: &Arc<Cloud>, reply: Reply) -> Result<Reply, AwsError> {
    if reply.status != 200 {
        return Ok(reply);
    }
    let mut answer: Value = serde_json::from_slice(&reply.body).map_err(AwsError::internal)?;
    let stream = &mut answer["StreamDescription"];
    let table = json!({ "TableName": stream["TableName"] }).to_string();
    let table =
        cloud.state::<crate::dynamodb::State>().engine.send(cloud, "DescribeTable", table.into()).await?;
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
