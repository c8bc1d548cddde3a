//! The API actions of EventBridge, and what they share.

use std::collections::BTreeMap;

use cloud_core::calls::Permission;
use cloud_core::service::{Action, Request};
use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{archive, bus, policy, put_events, rules};

/// The actions, with the members of AWS's API reference.
pub(super) const ACTIONS: &[Action] = &[
    Action::new("CancelReplay", |cloud, input| archive::cancel_replay(cloud, input)),
    Action::new("CreateArchive", |cloud, input| archive::create_archive(cloud, input)),
    Action::new("CreateEventBus", |cloud, input| bus::create(cloud, input)),
    Action::new("DeleteArchive", |cloud, input| archive::delete_archive(cloud, input)),
    Action::new("DeleteEventBus", |cloud, input| bus::delete(cloud, input)),
    Action::new("DeleteRule", |cloud, input| rules::delete_rule(cloud, input)),
    Action::new("DescribeArchive", |cloud, input| archive::describe_archive(cloud, input)),
    Action::new("DescribeEventBus", |cloud, input| bus::describe(cloud, input)),
    Action::new("DescribeReplay", |cloud, input| archive::describe_replay(cloud, input)),
    Action::new("DescribeRule", |cloud, input| rules::describe_rule(cloud, input)),
    Action::new("DisableRule", |cloud, input| rules::set_state(cloud, input, "DISABLED")),
    Action::new("EnableRule", |cloud, input| rules::set_state(cloud, input, "ENABLED")),
    Action::new("ListArchives", |cloud, input| archive::list_archives(cloud, input)),
    Action::new("ListEventBuses", |cloud, input| bus::list(cloud, input)),
    Action::new("ListReplays", |cloud, input| archive::list_replays(cloud, input)),
    Action::new("ListRuleNamesByTarget", |cloud, input| rules::list_rule_names(cloud, input)),
    Action::new("ListRules", |cloud, input| rules::list_rules(cloud, input)),
    Action::new("ListTagsForResource", |cloud, input| rules::list_tags(cloud, input)),
    Action::new("ListTargetsByRule", |cloud, input| rules::list_targets(cloud, input)),
    Action::new("PutEvents", |cloud, input| put_events::put_events(cloud, input)).needs(buses),
    Action::new("PutPermission", |cloud, input| policy::put_permission(cloud, input)),
    Action::new("PutRule", |cloud, input| rules::put_rule(cloud, input)),
    Action::new("PutTargets", |cloud, input| rules::put_targets(cloud, input)),
    Action::new("RemovePermission", |cloud, input| policy::remove_permission(cloud, input)),
    Action::new("RemoveTargets", |cloud, input| rules::remove_targets(cloud, input)),
    Action::new("StartReplay", |cloud, input| archive::start_replay(cloud, input)),
    Action::new("TagResource", |cloud, input| rules::tag(cloud, input)),
    Action::new("TestEventPattern", |_, input| rules::test_pattern(input)),
    Action::new("UntagResource", |cloud, input| rules::untag(cloud, input)),
    Action::new("UpdateArchive", |cloud, input| archive::update_archive(cloud, input)),
];

/// The permission on each bus that an entry goes to.
fn buses(cloud: &Cloud, request: Request<'_>) -> Vec<Permission> {
    let entries = request.input["Entries"].as_array().into_iter().flatten();
    let bus = |entry: &Value| bus::bus_arn(cloud, entry["EventBusName"].as_str().unwrap_or("default"));
    entries.map(|entry| ("events:PutEvents".to_owned(), bus(entry))).collect()
}

pub(super) fn read_input<T: serde::de::DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    serde_json::from_value(input).map_err(|error| AwsError::unreadable(&error))
}

/// A value that breaks a constraint of the API, in AWS's words.
pub(super) fn violated(value: impl std::fmt::Display, member: &str, constraint: &str) -> AwsError {
    invalid(violation(value, member, constraint))
}

pub(super) fn violation(value: impl std::fmt::Display, member: &str, constraint: &str) -> String {
    format!(
        "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {constraint}"
    )
}

/// A name of at most `longest` letters, digits and `._-`.
pub(super) fn check_name(name: &str, member: &str, longest: usize) -> Result<(), String> {
    let valid = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    if name.is_empty() {
        return Err(violation(name, member, "Member must have length greater than or equal to 1"));
    }
    if name.len() > longest {
        let constraint = format!("Member must have length less than or equal to {longest}");
        return Err(violation(name, member, &constraint));
    }
    if !name.chars().all(valid) {
        let constraint = "Member must satisfy regular expression pattern: [\\.\\-_A-Za-z0-9]+";
        return Err(violation(name, member, constraint));
    }
    Ok(())
}

pub(super) fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::client("ValidationException", message)
}

/// A timestamp as the JSON protocol sends it (seconds, with a fraction) or as text, in
/// milliseconds since the epoch.
pub(super) fn time_ms(time: &Value) -> Option<i64> {
    match time {
        Value::Number(seconds) => seconds.as_f64().map(|seconds| (seconds * 1000.0).round() as i64),
        Value::String(text) => text.parse::<jiff::Timestamp>().ok().map(|time| time.as_millisecond()),
        _ => None,
    }
}

/// Tags as lists of `Key` and `Value`.
pub(super) type Tags = Vec<Tag>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Tag {
    key: String,
    value: String,
}

pub(super) fn tag_object(tags: Tags) -> Value {
    let tags: BTreeMap<String, String> = tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
    json!(tags)
}

pub(super) fn tag_list(tags: &Value) -> Value {
    let tags = tags.as_object().into_iter().flatten();
    tags.map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}

/// One page of a list that is sorted by the key beside each item; the token is the last key.
pub(super) fn page(
    member: &str,
    items: Vec<(String, Value)>,
    token: Option<String>,
    limit: Option<usize>,
) -> Result<Value, AwsError> {
    let limit = limit.unwrap_or(100);
    if limit < 1 {
        return Err(violated(limit, "limit", "Member must have value greater than or equal to 1"));
    }
    if limit > 100 {
        return Err(violated(limit, "limit", "Member must have value less than or equal to 100"));
    }
    let behind = |key: &String| token.as_ref().is_none_or(|token| key > token);
    let mut items: Vec<(String, Value)> = items.into_iter().filter(|(key, _)| behind(key)).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let last = items.last().map(|(key, _)| key.clone());
    let items: Vec<Value> = items.into_iter().map(|(_, item)| item).collect();
    let mut answer = json!({ member: items });
    if let (true, Some(last)) = (more, last) {
        answer["NextToken"] = last.into();
    }
    Ok(answer)
}
