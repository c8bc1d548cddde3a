//! The API actions of CloudWatch Logs, and what they share.

use cloud_core::service::Action;
use cloud_core::{AwsError, Cloud};
use serde_json::Value;

use super::{group_name, groups, read, store, write};

/// The actions, with the members of AWS's API reference.
pub(super) const ACTIONS: &[Action] = &[
    Action::new("CreateLogGroup", |cloud, input| groups::create_group(cloud, input)),
    Action::new("CreateLogStream", |cloud, input| groups::create_stream(cloud, input)),
    Action::new("DeleteLogGroup", |cloud, input| groups::delete_group(cloud, input)),
    Action::new("DeleteLogStream", |cloud, input| groups::delete_stream(cloud, input)),
    Action::new("DeleteRetentionPolicy", |cloud, input| groups::delete_retention(cloud, input)),
    Action::new("DescribeLogGroups", |cloud, input| groups::describe_groups(cloud, input)),
    Action::new("DescribeLogStreams", |cloud, input| groups::describe_streams(cloud, input)),
    Action::new("FilterLogEvents", |cloud, input| read::filter_events(cloud, input)),
    Action::new("GetLogEvents", |cloud, input| read::get_events(cloud, input)),
    Action::new("ListTagsForResource", |cloud, input| groups::tags_of_arn(cloud, input)),
    Action::new("ListTagsLogGroup", |cloud, input| groups::tags_of_name(cloud, input)),
    Action::new("PutLogEvents", |cloud, input| write::put_events(cloud, input)),
    Action::new("PutRetentionPolicy", |cloud, input| groups::put_retention(cloud, input)),
];

pub(super) fn read_input<T: serde::de::DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    serde_json::from_value(input).map_err(|error| invalid(error.to_string()))
}

pub(super) fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::client("InvalidParameterException", message)
}

pub(super) fn no_such(what: &str) -> AwsError {
    AwsError::client("ResourceNotFoundException", format!("The specified {what} does not exist."))
}

/// The group, after what it need not keep any more is gone.
pub(super) fn find_group(cloud: &Cloud, name: &str) -> Result<store::Group, AwsError> {
    let group = cloud.store.read(|db| store::group(db, name))?.ok_or_else(|| no_such("log group"))?;
    store::expire(&cloud.store, &group, cloud.clock.now_ms())?;
    Ok(group)
}

pub(super) fn find_stream(cloud: &Cloud, group: &store::Group, name: &str) -> Result<i64, AwsError> {
    use rusqlite::OptionalExtension;
    let id = cloud.store.read(|db| {
        db.prepare_cached("SELECT id FROM log_streams WHERE group_id = ?1 AND name = ?2")?
            .query_row(rusqlite::params![group.id, name], |row| row.get(0))
            .optional()
    })?;
    id.ok_or_else(|| no_such("log stream"))
}

/// Either `logGroupName` or `logGroupIdentifier`, as the actions take them.
pub(super) fn one_group(name: Option<String>, identifier: Option<String>) -> Result<String, AwsError> {
    match (name, identifier) {
        (Some(name), None) => Ok(name),
        (None, Some(identifier)) => Ok(group_name(&identifier).to_owned()),
        (Some(_), Some(_)) => Err(invalid("LogGroupName and LogGroupIdentifier cannot both be specified.")),
        (None, None) => Err(invalid("LogGroupName or LogGroupIdentifier is required.")),
    }
}

/// Cuts one page out of a sorted list; the token is the key of the last item before it.
pub(super) fn page<T>(
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
