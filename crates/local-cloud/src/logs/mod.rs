//! CloudWatch Logs: groups, streams and their events, durable and searchable. Appending is
//! cheap, since every line of every function passes here; retention is applied when a group
//! is read. Logs Insights and subscriptions are not emulated.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::error::AwsError;
use crate::resource::{Refusal, Resource};
use crate::store::{Store, StoreError};

mod delimited;
mod filter;
mod groups;
mod read;
mod store;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use write::LARGEST_EVENT;

/// What the service keeps besides its tables.
#[derive(Debug, Default)]
pub struct State {
    ids: store::Ids,
}

impl State {
    /// Creates the service's tables.
    ///
    /// # Errors
    /// When the store refuses.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        store::migrate(store)?;
        Ok(Self::default())
    }
}

/// Answers one API action; `input` and the answer have the members of AWS's API reference.
///
/// # Errors
/// AWS's own error codes.
pub async fn call(cloud: &Arc<Cloud>, action: &str, input: Value) -> Result<Value, AwsError> {
    match action {
        "CreateLogGroup" => groups::create_group(cloud, input),
        "CreateLogStream" => groups::create_stream(cloud, input),
        "DeleteLogGroup" => groups::delete_group(cloud, input),
        "DeleteLogStream" => groups::delete_stream(cloud, input),
        "DeleteRetentionPolicy" => groups::delete_retention(cloud, input),
        "DescribeLogGroups" => groups::describe_groups(cloud, input),
        "DescribeLogStreams" => groups::describe_streams(cloud, input),
        "FilterLogEvents" => read::filter_events(cloud, input),
        "GetLogEvents" => read::get_events(cloud, input),
        "ListTagsForResource" => groups::tags_of_arn(cloud, input),
        "ListTagsLogGroup" => groups::tags_of_name(cloud, input),
        "PutLogEvents" => write::put_events(cloud, input),
        "PutRetentionPolicy" => groups::put_retention(cloud, input),
        _ => Err(AwsError::not_emulated("logs", action)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct GroupProps {
    log_group_name: Option<String>,
    retention_in_days: Option<i64>,
    log_group_class: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    value: String,
}

/// Deploys one resource of this service.
///
/// # Errors
/// Names what is not emulated.
pub async fn deploy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    match resource.kind.as_str() {
        "AWS::Logs::LogGroup" => deploy_group(cloud, resource),
        kind => Err(resource.refuse("Type", format!("{kind} is not emulated"))),
    }
}

fn deploy_group(cloud: &Cloud, resource: &Resource) -> Result<(), Refusal> {
    let props: GroupProps = resource.read()?;
    let name = props.log_group_name.as_deref().unwrap_or(&resource.physical_id);
    groups::check_name(name).map_err(|error| resource.refuse("Properties.LogGroupName", error.message))?;
    if let Some(days) = props.retention_in_days {
        groups::check_retention(days)
            .map_err(|error| resource.refuse("Properties.RetentionInDays", error.message))?;
    }
    let class = props.log_group_class.as_deref().unwrap_or(store::STANDARD);
    if class != store::STANDARD {
        let reason = format!("{class} is not emulated, since its events cannot be read back");
        return Err(resource.refuse("Properties.LogGroupClass", reason));
    }
    let tags: BTreeMap<String, String> = props.tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
    cloud
        .store
        .write(|tx| {
            store::create_group(tx, name, cloud.clock.now_ms(), class, "{}")?;
            tx.execute(
                "UPDATE log_groups SET retention_days = ?2, tags = ?3 WHERE name = ?1",
                rusqlite::params![name, props.retention_in_days, json!(tags).to_string()],
            )
        })
        .map_err(|error| resource.refuse("Properties", error.to_string()))?;
    Ok(())
}

/// Appends one event to a stream, which (with its group) is created where it is missing.
/// `timestamp_ms`: milliseconds since the epoch.
///
/// # Errors
/// When the store refuses.
pub fn append(
    cloud: &Cloud,
    group: &str,
    stream: &str,
    timestamp_ms: i64,
    message: &str,
) -> Result<(), StoreError> {
    append_all(cloud, group, stream, &[(timestamp_ms, message)])
}

/// Appends several events (milliseconds since the epoch, text) in one transaction.
///
/// # Errors
/// When the store refuses.
pub fn append_all(
    cloud: &Cloud,
    group: &str,
    stream: &str,
    events: &[(i64, &str)],
) -> Result<(), StoreError> {
    cloud.store.write(|tx| append_within(cloud, tx, group, stream, events))
}

/// Like [`append_all`], within a transaction of the caller's own.
///
/// # Errors
/// When SQLite refuses.
pub fn append_within(
    cloud: &Cloud,
    tx: &rusqlite::Transaction<'_>,
    group: &str,
    stream: &str,
    events: &[(i64, &str)],
) -> rusqlite::Result<()> {
    store::append(tx, &cloud.logs.ids, cloud.clock.now_ms(), group, stream, events)
}

/// The ARN of a group as DescribeLogGroups gives it in `arn`, with its trailing `:*`.
pub fn group_arn(cloud: &Cloud, name: &str) -> String {
    format!("{}:*", cloud.arn("logs", &format!("log-group:{name}")))
}

/// The group that an ARN (with or without `:*`) or a plain name means.
pub fn group_name(identifier: &str) -> &str {
    match identifier.split_once(":log-group:") {
        Some((arn, name)) if arn.starts_with("arn:") => name.trim_end_matches(":*"),
        _ => identifier,
    }
}

fn read_input<T: serde::de::DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    serde_json::from_value(input).map_err(|error| invalid(error.to_string()))
}

fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::client("InvalidParameterException", message)
}

fn no_such(what: &str) -> AwsError {
    AwsError::client("ResourceNotFoundException", format!("The specified {what} does not exist."))
}

/// Deletes so many expired events at most, of all groups; how many.
///
/// # Errors
/// When the store refuses.
pub(crate) fn sweep(cloud: &Cloud, most: usize) -> Result<usize, StoreError> {
    store::sweep(&cloud.store, cloud.clock.now_ms(), most)
}

/// The group, after what it need not keep any more is gone.
fn find_group(cloud: &Cloud, name: &str) -> Result<store::Group, AwsError> {
    let group = cloud.store.read(|db| store::group(db, name))?.ok_or_else(|| no_such("log group"))?;
    store::expire(&cloud.store, &group, cloud.clock.now_ms())?;
    Ok(group)
}

fn find_stream(cloud: &Cloud, group: &store::Group, name: &str) -> Result<i64, AwsError> {
    use rusqlite::OptionalExtension;
    let id = cloud.store.read(|db| {
        db.prepare_cached("SELECT id FROM log_streams WHERE group_id = ?1 AND name = ?2")?
            .query_row(rusqlite::params![group.id, name], |row| row.get(0))
            .optional()
    })?;
    id.ok_or_else(|| no_such("log stream"))
}

/// Either `logGroupName` or `logGroupIdentifier`, as the actions take them.
fn one_group(name: Option<String>, identifier: Option<String>) -> Result<String, AwsError> {
    match (name, identifier) {
        (Some(name), None) => Ok(name),
        (None, Some(identifier)) => Ok(group_name(&identifier).to_owned()),
        (Some(_), Some(_)) => Err(invalid("LogGroupName and LogGroupIdentifier cannot both be specified.")),
        (None, None) => Err(invalid("LogGroupName or LogGroupIdentifier is required.")),
    }
}

/// Cuts one page out of a sorted list; the token is the key of the last item before it.
fn page<T>(
    items: Vec<T>,
    key: impl Fn(&T) -> String,
    token: Option<String>,
    limit: Option<usize>,
) -> Result<(Vec<T>, Option<String>), AwsError> {
    let limit = limit.unwrap_or(50);
    if !(1..=50).contains(&limit) {
        return Err(invalid("limit must be between 1 and 50."));
    }
    let start = match token {
        None => 0,
        Some(token) => {
            let last = items.iter().position(|item| key(item) == token);
            last.ok_or_else(|| invalid("The specified nextToken is invalid."))? + 1
        }
    };
    let more = items.len() > start + limit;
    let page: Vec<T> = items.into_iter().skip(start).take(limit).collect();
    let next = if more { page.last().map(key) } else { None };
    Ok((page, next))
}

/// Whether there is such a group.
///
/// # Errors
/// When the store refuses.
pub fn exists(cloud: &Cloud, group: &str) -> Result<bool, StoreError> {
    Ok(cloud.store.read(|db| store::group(db, group))?.is_some())
}
