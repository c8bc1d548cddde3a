//! Actions on log streams.

use cloud_core::api::with_token;
use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{already_exists, find_group, find_stream, invalid, one_group, page};
use crate::logs::store;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OneStream {
    log_group_name: String,
    log_stream_name: String,
}

pub fn create(cloud: &Cloud, input: OneStream) -> Result<Value, AwsError> {
    let name = &input.log_stream_name;
    // https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_CreateLogStream.html
    if !(1..=512).contains(&name.chars().count()) || name.contains([':', '*']) {
        return Err(invalid(format!(
            "'{name}' is not a log stream name: 1 to 512 characters, no ':' or '*'."
        )));
    }
    let group = find_group(cloud, &input.log_group_name)?;
    let now_ms = cloud.clock.now_ms();
    let new = cloud.store.write(|tx| store::create_stream(tx, group.id, name, now_ms))?;
    if new { Ok(json!({})) } else { Err(already_exists("log stream")) }
}

pub fn delete(cloud: &Cloud, input: OneStream) -> Result<Value, AwsError> {
    let group = find_group(cloud, &input.log_group_name)?;
    let stream = find_stream(cloud, &group, &input.log_stream_name)?;
    cloud.store.write(|tx| tx.execute("DELETE FROM log_streams WHERE id = ?1", [stream]))?;
    cloud.state::<store::Ids>().clear();
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Describe {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name_prefix: Option<String>,
    order_by: Option<String>,
    #[serde(default)]
    descending: bool,
    next_token: Option<String>,
    limit: Option<i64>,
}

pub fn describe(cloud: &Cloud, input: Describe) -> Result<Value, AwsError> {
    let by_time = match input.order_by.as_deref() {
        None | Some("LogStreamName") => false,
        Some("LastEventTime") => true,
        Some(other) => return Err(invalid(format!("orderBy does not take '{other}'."))),
    };
    if by_time && input.log_stream_name_prefix.is_some() {
        return Err(invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
    }
    let group = one_group(cloud, input.log_group_name, input.log_group_identifier)?;
    let mut streams = cloud.store.read(|db| store::streams(db, group.id))?;
    if let Some(prefix) = &input.log_stream_name_prefix {
        streams.retain(|stream| stream.name.starts_with(prefix));
    }
    if by_time {
        streams.sort_by_key(|stream| stream.times.map(|(_, last, _)| last));
    }
    if input.descending {
        streams.reverse();
    }
    let (streams, next) = page(streams, |stream| &stream.name, input.next_token, input.limit)?;
    let described: Vec<Value> = streams.iter().map(|stream| view(cloud, &group.name, stream)).collect();
    Ok(with_token(json!({ "logStreams": described }), "nextToken", next))
}

fn view(cloud: &Cloud, group: &str, stream: &store::Stream) -> Value {
    let mut view = json!({
        "logStreamName": stream.name,
        "creationTime": stream.created_ms,
        "arn": cloud.arn("logs", &format!("log-group:{group}:log-stream:{}", stream.name)),
        // AWS reports zero since 17 June 2019.
        // https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_LogStream.html
        "storedBytes": 0,
    });
    if let Some((first, last, ingested)) = stream.times {
        view["firstEventTimestamp"] = first.into();
        view["lastEventTimestamp"] = last.into();
        view["lastIngestionTime"] = ingested.into();
    }
    view
}
