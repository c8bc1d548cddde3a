//! The ARNs of tables and streams: dynoxide has a region, an account and stream labels of its own; clients
//! see those of this cloud.

use bytes::Bytes;
use cloud_core::service::Reply;
use cloud_core::{AwsError, Cloud};
use serde_json::{Map, Value};

use super::engine::Engine;
use super::streams;

/// The label of every table's stream. On AWS it is the time at which the stream was enabled. Here all streams
/// have the same, so that `GetAtt Table.StreamArn` is known before the table exists and after every restart.
pub const STREAM_LABEL: &str = "2026-01-01T00:00:00.000";

/// The one shard of every stream, in the form of AWS's: clients refuse dynoxide's ids, which are shorter than
/// the 28 characters that the API reference demands.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_Shard.html>
pub const SHARD_ID: &str = "shardId-00000001767225600000-00000001";

/// `region:account` in all of dynoxide's ARNs.
const ENGINE: &str = ":dynoxide:000000000000:";

/// The text before a table's name in its ARN.
pub(super) const TABLE: &str = ":table/";

/// The ARN of a table that is given by its name or ARN.
pub(super) fn table_arn(cloud: &Cloud, name: Option<&str>) -> String {
    match name.unwrap_or("*") {
        arn if arn.starts_with("arn:") => arn.into(),
        name => cloud.arn("dynamodb", &format!("table/{name}")),
    }
}

/// Rewrites a request for dynoxide, which reads only the table's name of an ARN (any region and account will
/// do), except where a listing continues after one.
pub(super) fn inward(engine: &Engine, action: &str, body: Bytes) -> Result<Bytes, AwsError> {
    if !matches!(action, "DescribeStream" | "GetShardIterator" | "ListStreams") {
        return Ok(name_tables(body));
    }
    let Ok(mut input) = serde_json::from_slice::<Map<String, Value>>(&body) else {
        return Ok(body);
    };
    if let Some(arn) = input.get("StreamArn").and_then(Value::as_str) {
        let own_shard = dynoxide::streams::shard_id(stream_table(arn)?);
        match input.get("ShardId") {
            Some(shard) if shard == SHARD_ID => input.insert("ShardId".into(), own_shard.into()),
            Some(Value::String(other)) => return Err(not_found(&format!("Shard: {other} does not exist"))),
            _ => None,
        };
    }
    if let Some(arn) = input.get("ExclusiveStartStreamArn").and_then(Value::as_str) {
        let own = engine_stream_arn(engine, stream_table(arn)?)?;
        input.insert("ExclusiveStartStreamArn".into(), own.into());
    }
    Ok(Value::Object(input).to_string().into())
}

/// A table may be named by its ARN, which dynoxide does not know.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_GetItem.html> (TableName)
fn name_tables(body: Bytes) -> Bytes {
    // Hardly any body holds an ARN, so most items need not be read.
    if !body.windows(TABLE.len()).any(|window| window == TABLE.as_bytes()) {
        return body;
    }
    let Ok(mut input) = serde_json::from_slice::<Value>(&body) else { return body };
    name_table(&mut input);
    if let Some(tables) = input.get_mut("RequestItems").and_then(Value::as_object_mut) {
        *tables =
            std::mem::take(tables).into_iter().map(|(table, items)| (table_name(&table), items)).collect();
    }
    for write in input.get_mut("TransactItems").and_then(Value::as_array_mut).into_iter().flatten() {
        write.as_object_mut().into_iter().flat_map(|write| write.values_mut()).for_each(name_table);
    }
    input.to_string().into()
}

fn name_table(request: &mut Value) {
    if let Some(Value::String(table)) = request.get_mut("TableName") {
        *table = table_name(table);
    }
}

fn table_name(table: &str) -> String {
    let arn = table.strip_prefix("arn:").and_then(|arn| arn.split_once(TABLE));
    arn.map_or(table, |(_, name)| name).to_owned()
}

/// The table of a stream's ARN, which must carry the one label.
fn stream_table(arn: &str) -> Result<&str, AwsError> {
    let table = arn.split_once(TABLE).and_then(|(_, rest)| rest.split_once("/stream/"));
    let table = table.filter(|(_, label)| *label == STREAM_LABEL).map(|(table, _)| table);
    table.ok_or_else(|| not_found(&format!("Stream: {arn} not found")))
}

fn not_found(what: &str) -> AwsError {
    AwsError::client("ResourceNotFoundException", format!("Requested resource not found: {what}"))
}

fn engine_stream_arn(engine: &Engine, table: &str) -> Result<String, AwsError> {
    let request = dynoxide::actions::list_streams::ListStreamsRequest {
        table_name: Some(table.into()),
        ..Default::default()
    };
    let found = engine.database().list_streams(request).map_err(AwsError::internal)?;
    Ok(found.streams.into_iter().next().map(|stream| stream.stream_arn).unwrap_or_default())
}

/// The actions whose answers have names in them.
#[rustfmt::skip]
const NAMING: [&str; 7] = [
    "CreateTable", "DeleteTable", "DescribeStream", "DescribeTable", "GetRecords", "ListStreams", "UpdateTable",
];

/// Rewrites an answer of dynoxide. Items are never touched, neither in answers nor in refusals that show one.
pub(super) fn outward(cloud: &Cloud, action: &str, reply: Reply) -> Result<Reply, AwsError> {
    if reply.status == 200 && !NAMING.contains(&action) {
        return Ok(reply);
    }
    // The HTTP server itself answers with other text than JSON: to a body over its limit, say.
    let mut body: Value = serde_json::from_slice(&reply.body).map_err(|_| {
        let sentence = String::from_utf8_lossy(&reply.body).into_owned();
        AwsError::new(reply.status, "SerializationException", sentence)
    })?;
    match action {
        _ if reply.status != 200 => {
            for name in ["message", "Message"] {
                body.get_mut(name).into_iter().for_each(|message| rename(cloud, message));
            }
        }
        "GetRecords" => {
            drop_writes_without_change(&mut body);
            for record in body["Records"].as_array_mut().into_iter().flatten() {
                record["awsRegion"] = Value::from(cloud.settings.region.as_str());
            }
            streams::measure(&mut body);
        }
        "DescribeStream" => {
            rename(cloud, &mut body);
            show_shard(&mut body);
        }
        _ => rename(cloud, &mut body),
    }
    Ok(Reply { status: reply.status, body: body.to_string().into() })
}

/// "If you perform a PutItem or UpdateItem operation that does not change any data in an item, DynamoDB
/// Streams does not write a stream record for that operation": dynoxide writes one. It is recognised where
/// the stream shows both images, as all of this project's do.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html>
fn drop_writes_without_change(answer: &mut Value) {
    if let Some(records) = answer["Records"].as_array_mut() {
        records.retain(|record| {
            let change = &record["dynamodb"];
            record["eventName"] != "MODIFY"
                || change.get("OldImage").is_none()
                || change.get("OldImage") != change.get("NewImage")
        });
    }
}

/// The shard never closes, and an open shard has no last number.
fn show_shard(answer: &mut Value) {
    for shard in answer["StreamDescription"]["Shards"].as_array_mut().into_iter().flatten() {
        shard["ShardId"] = SHARD_ID.into();
        if let Some(range) = shard["SequenceNumberRange"].as_object_mut() {
            range.remove("EndingSequenceNumber");
        }
    }
}

fn rename(cloud: &Cloud, value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match name.as_str() {
                    "LatestStreamLabel" | "StreamLabel" => *member = STREAM_LABEL.into(),
                    _ => rename(cloud, member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(cloud, item)),
        Value::String(text) if text.contains(ENGINE) => *text = our_arn(cloud, text),
        _ => {}
    }
}

/// An ARN of dynoxide, alone or within a sentence, as one of this cloud.
fn our_arn(cloud: &Cloud, text: &str) -> String {
    let here = format!(":{}:{}:", cloud.settings.region, cloud.settings.account);
    let text = text.replace(ENGINE, &here);
    match text.split_once("/stream/") {
        Some((table, _)) if text.starts_with("arn:") => format!("{table}/stream/{STREAM_LABEL}"),
        _ => text,
    }
}
