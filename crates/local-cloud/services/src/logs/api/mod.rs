//! The API actions of CloudWatch Logs, and what they share.

use cloud_core::api::{self, check_number, key_of};
use cloud_core::service::Action;
use cloud_core::{AwsError, Cloud};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::names::group_name;
use super::store;

mod groups;
mod read;
mod streams;
mod write;

pub(crate) use write::MAX_EVENT_BYTES;

pub(super) const ACTIONS: &[Action] = &[
    Action::new("CreateLogGroup", |cloud, input| groups::create(cloud, read(input)?)),
    Action::new("CreateLogStream", |cloud, input| streams::create(cloud, read(input)?)),
    Action::new("DeleteLogGroup", |cloud, input| groups::delete(cloud, read(input)?)),
    Action::new("DeleteLogStream", |cloud, input| streams::delete(cloud, read(input)?)),
    Action::new("DeleteRetentionPolicy", |cloud, input| groups::delete_retention(cloud, read(input)?)),
    Action::new("DescribeLogGroups", |cloud, input| groups::describe(cloud, read(input)?)),
    Action::new("DescribeLogStreams", |cloud, input| streams::describe(cloud, read(input)?)),
    Action::new("FilterLogEvents", |cloud, input| read::filter(cloud, read(input)?)),
    Action::new("GetLogEvents", |cloud, input| read::get(cloud, read(input)?)),
    Action::new("ListTagsForResource", |cloud, input| groups::list_tags(cloud, read(input)?)),
    Action::new("PutLogEvents", |cloud, input| write::put(cloud, read(input)?)),
    Action::new("PutRetentionPolicy", |cloud, input| groups::put_retention(cloud, read(input)?)),
];

fn read<T: DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    api::read(input, "InvalidParameterException")
}

fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::client("InvalidParameterException", message)
}

fn not_found(what: &str) -> AwsError {
    AwsError::client("ResourceNotFoundException", format!("The specified {what} does not exist."))
}

fn already_exists(what: &str) -> AwsError {
    AwsError::client("ResourceAlreadyExistsException", format!("The specified {what} already exists"))
}

/// The group of this name, without its expired events.
fn find_group(cloud: &Cloud, name: &str) -> Result<store::Group, AwsError> {
    let group = cloud.store.read(|db| store::group(db, name))?.ok_or_else(|| not_found("log group"))?;
    store::expire(&cloud.store, &group, cloud.clock.now_ms())?;
    Ok(group)
}

/// The row id of a stream.
fn find_stream(cloud: &Cloud, group: &store::Group, name: &str) -> Result<i64, AwsError> {
    let id = cloud.store.read(|db| store::stream_id(db, group.id, name))?;
    id.ok_or_else(|| not_found("log stream"))
}

/// The group of an action that takes either `logGroupName` or `logGroupIdentifier`.
fn one_group(
    cloud: &Cloud,
    name: Option<String>,
    identifier: Option<String>,
) -> Result<store::Group, AwsError> {
    match (name, identifier) {
        (Some(name), None) => find_group(cloud, &name),
        (None, Some(identifier)) => find_group(cloud, group_name(&identifier)),
        (Some(_), Some(_)) => Err(invalid("LogGroupName and LogGroupIdentifier cannot both be specified.")),
        (None, None) => Err(invalid("LogGroupName or LogGroupIdentifier is required.")),
    }
}

fn invalid_token() -> AwsError {
    invalid("The specified nextToken is invalid.")
}

/// One page of a sorted list, and the token of the next one. The token has the name of the page's last
/// item; a list may be sorted by something else.
fn page<T>(
    mut items: Vec<T>,
    name: impl Fn(&T) -> &str,
    token: Option<String>,
    limit: Option<i64>,
) -> Result<(Vec<T>, Option<String>), AwsError> {
    let limit = limit.unwrap_or(50);
    check_number("limit", limit, 1..=50).map_err(invalid)?;
    if let Some(token) = token {
        let last = key_of(&token).ok_or_else(invalid_token)?;
        let last = items.iter().position(|item| name(item) == last).ok_or_else(invalid_token)?;
        items.drain(..=last);
    }
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| more).map(|last| api::token(name(last)));
    Ok((items, next))
}
