//! Actions on log groups and log streams.

use std::collections::BTreeMap;

use cloud_core::{AwsError, Cloud};
use rusqlite::params;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{find_group, find_stream, invalid, one_group, page, read_input};
use super::{group_arn, group_name, store};

/// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html>
const RETENTIONS: [i64; 22] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];

/// 1 to 512 letters, digits and `_-/.#`, not beginning with `aws/`.
/// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_CreateLogGroup.html>
pub fn check_name(name: &str) -> Result<(), AwsError> {
    if name.starts_with("aws/") {
        return Err(invalid(format!("'{name}' is not a log group name: it can't start with aws/.")));
    }
    let valid = |letter: char| letter.is_ascii_alphanumeric() || "_-/.#".contains(letter);
    if (1..=512).contains(&name.len()) && name.chars().all(valid) {
        return Ok(());
    }
    Err(invalid(format!("'{name}' is not a log group name: 1 to 512 of [.-_/#A-Za-z0-9].")))
}

/// Only certain numbers of days are allowed.
pub fn check_retention(days: i64) -> Result<(), AwsError> {
    if RETENTIONS.contains(&days) {
        return Ok(());
    }
    Err(invalid(format!("{days} is not a retention period that CloudWatch Logs offers.")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CreateGroup {
    log_group_name: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    log_group_class: Option<String>,
}

pub fn create_group(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: CreateGroup = read_input(input)?;
    check_name(&input.log_group_name)?;
    if input.log_group_class.as_deref().is_some_and(|class| class != store::STANDARD) {
        return Err(invalid("Only the log group class STANDARD is emulated by the local cloud."));
    }
    let tags = json!(input.tags).to_string();
    let now_ms = cloud.clock.now_ms();
    let new = cloud
        .store
        .write(|tx| store::create_group(tx, &input.log_group_name, now_ms, store::STANDARD, &tags))?;
    if new { Ok(json!({})) } else { Err(already_exists("log group")) }
}

fn already_exists(what: &str) -> AwsError {
    AwsError::client("ResourceAlreadyExistsException", format!("The specified {what} already exists"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct OneStream {
    log_group_name: String,
    log_stream_name: String,
}

pub fn create_stream(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: OneStream = read_input(input)?;
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct OneGroup {
    log_group_name: String,
}

pub fn delete_group(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: OneGroup = read_input(input)?;
    let group = find_group(cloud, &input.log_group_name)?;
    cloud.store.write(|tx| tx.execute("DELETE FROM log_groups WHERE id = ?1", [group.id]))?;
    cloud.state::<crate::logs::State>().ids.clear();
    Ok(json!({}))
}

pub fn delete_stream(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: OneStream = read_input(input)?;
    let group = find_group(cloud, &input.log_group_name)?;
    let stream = find_stream(cloud, &group, &input.log_stream_name)?;
    cloud.store.write(|tx| tx.execute("DELETE FROM log_streams WHERE id = ?1", [stream]))?;
    cloud.state::<crate::logs::State>().ids.clear();
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PutRetention {
    log_group_name: String,
    retention_in_days: i64,
}

pub fn put_retention(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: PutRetention = read_input(input)?;
    check_retention(input.retention_in_days)?;
    set_retention(cloud, &input.log_group_name, Some(input.retention_in_days))
}

pub fn delete_retention(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: OneGroup = read_input(input)?;
    set_retention(cloud, &input.log_group_name, None)
}

fn set_retention(cloud: &Cloud, group: &str, days: Option<i64>) -> Result<Value, AwsError> {
    let group = find_group(cloud, group)?;
    cloud.store.write(|tx| {
        tx.execute("UPDATE log_groups SET retention_days = ?2 WHERE id = ?1", params![group.id, days])
    })?;
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DescribeGroups {
    log_group_name_prefix: Option<String>,
    log_group_name_pattern: Option<String>,
    log_group_identifiers: Option<Vec<String>>,
    log_group_class: Option<String>,
    next_token: Option<String>,
    limit: Option<usize>,
    account_identifiers: Option<Vec<String>>,
    /// No effect here: no account is linked.
    #[serde(rename = "includeLinkedAccounts")]
    _include_linked_accounts: Option<bool>,
}

pub fn describe_groups(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: DescribeGroups = read_input(input)?;
    if input.log_group_name_prefix.is_some() && input.log_group_name_pattern.is_some() {
        return Err(invalid(
            "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.",
        ));
    }
    let by_name = input.log_group_name_prefix.is_some() || input.log_group_name_pattern.is_some();
    if by_name && input.log_group_identifiers.is_some() {
        return Err(invalid("logGroupIdentifiers cannot be specified with a name prefix or a name pattern."));
    }
    let ours = input.account_identifiers.is_none_or(|accounts| accounts.contains(&cloud.settings.account));
    let pattern = input.log_group_name_pattern.map(|pattern| pattern.to_lowercase());
    let wanted = |group: &store::Group| {
        ours && input.log_group_name_prefix.as_ref().is_none_or(|prefix| group.name.starts_with(prefix))
            && pattern.as_ref().is_none_or(|pattern| group.name.to_lowercase().contains(pattern))
            && input.log_group_class.as_ref().is_none_or(|class| group.class == *class)
            && input.log_group_identifiers.as_ref().is_none_or(|identifiers| {
                identifiers.iter().any(|identifier| group_name(identifier) == group.name)
            })
    };
    let mut groups = cloud.store.read(store::groups)?;
    groups.retain(wanted);
    let (groups, next) = page(groups, |group| group.name.clone(), input.next_token, input.limit)?;
    let mut described = Vec::with_capacity(groups.len());
    for group in groups {
        store::expire(&cloud.store, &group, cloud.clock.now_ms())?;
        let bytes = cloud.store.read(|db| store::stored_bytes(db, group.id))?;
        described.push(describe(cloud, &group, bytes));
    }
    let mut answer = json!({ "logGroups": described });
    if let Some(next) = next {
        answer["nextToken"] = next.into();
    }
    Ok(answer)
}

fn describe(cloud: &Cloud, group: &store::Group, bytes: i64) -> Value {
    let arn = group_arn(cloud, &group.name);
    let mut described = json!({
        "logGroupName": group.name,
        "creationTime": group.created_ms,
        "metricFilterCount": 0,
        "arn": arn,
        "logGroupArn": arn.trim_end_matches(":*"),
        "logGroupClass": group.class,
        "storedBytes": bytes,
    });
    if let Some(days) = group.retention_days {
        described["retentionInDays"] = days.into();
    }
    described
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DescribeStreams {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name_prefix: Option<String>,
    order_by: Option<String>,
    #[serde(default)]
    descending: bool,
    next_token: Option<String>,
    limit: Option<usize>,
}

pub fn describe_streams(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: DescribeStreams = read_input(input)?;
    let by_time = match input.order_by.as_deref() {
        None | Some("LogStreamName") => false,
        Some("LastEventTime") => true,
        Some(other) => return Err(invalid(format!("orderBy does not take '{other}'."))),
    };
    if by_time && input.log_stream_name_prefix.is_some() {
        return Err(invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
    }
    let group = find_group(cloud, &one_group(input.log_group_name, input.log_group_identifier)?)?;
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
    let (streams, next) = page(streams, |stream| stream.name.clone(), input.next_token, input.limit)?;
    let described: Vec<Value> =
        streams.iter().map(|stream| describe_stream(cloud, &group.name, stream)).collect();
    let mut answer = json!({ "logStreams": described });
    if let Some(next) = next {
        answer["nextToken"] = next.into();
    }
    Ok(answer)
}

fn describe_stream(cloud: &Cloud, group: &str, stream: &store::Stream) -> Value {
    let mut described = json!({
        "logStreamName": stream.name,
        "creationTime": stream.created_ms,
        "arn": cloud.arn("logs", &format!("log-group:{group}:log-stream:{}", stream.name)),
        // Reported as zero since 17 June 2019.
        // https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_LogStream.html
        "storedBytes": 0,
    });
    if let Some((first, last, ingested)) = stream.times {
        described["firstEventTimestamp"] = first.into();
        described["lastEventTimestamp"] = last.into();
        described["lastIngestionTime"] = ingested.into();
    }
    described
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct OfArn {
    resource_arn: String,
}

pub fn tags_of_arn(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: OfArn = read_input(input)?;
    tags(cloud, group_name(&input.resource_arn))
}

pub fn tags_of_name(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: OneGroup = read_input(input)?;
    tags(cloud, &input.log_group_name)
}

fn tags(cloud: &Cloud, group: &str) -> Result<Value, AwsError> {
    let group = find_group(cloud, group)?;
    let tags: Value = serde_json::from_str(&group.tags).map_err(AwsError::internal)?;
    Ok(json!({ "tags": tags }))
}
