//! EventBridge: buses, rules, targets with retry and dead-letter queue, archives and replays.
//! An accepted event and its deliveries are durable before PutEvents answers; delivery is at
//! least once and in no promised order. Schedules, API destinations and permissions are not
//! emulated.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::error::AwsError;
use crate::resource::{Refusal, Resource};
use crate::store::{Store, StoreError};

mod archive;
mod bus;
mod delivery;
mod deploy;
mod model;
pub mod pattern;
mod policy;
mod put_events;
mod rules;
mod store;
pub mod template;
#[cfg(test)]
mod tests;

pub(crate) use deploy::forget_undeclared;

/// What the service keeps besides its tables.
#[derive(Debug, Default)]
pub struct State {
    routes: bus::Cache,
    workers: delivery::Workers,
    declared: deploy::Declared,
}

impl State {
    /// Creates the service's tables, and the default bus.
    ///
    /// # Errors
    /// When the store refuses.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        store::migrate(store)?;
        store.write(|tx| {
            tx.execute("INSERT OR IGNORE INTO events_buses VALUES (?1, NULL, '{}', 0)", [bus::DEFAULT])
        })?;
        Ok(Self::default())
    }
}

/// Answers one API action; `input` and the answer have the members of AWS's API reference.
///
/// # Errors
/// AWS's own error codes.
pub async fn call(cloud: &Arc<Cloud>, action: &str, input: Value) -> Result<Value, AwsError> {
    match action {
        "CancelReplay" => archive::cancel_replay(cloud, input),
        "CreateArchive" => archive::create_archive(cloud, input),
        "CreateEventBus" => bus::create(cloud, input),
        "DeleteArchive" => archive::delete_archive(cloud, input),
        "DeleteEventBus" => bus::delete(cloud, input),
        "DeleteRule" => rules::delete_rule(cloud, input),
        "DescribeArchive" => archive::describe_archive(cloud, input),
        "DescribeEventBus" => bus::describe(cloud, input),
        "DescribeReplay" => archive::describe_replay(cloud, input),
        "DescribeRule" => rules::describe_rule(cloud, input),
        "DisableRule" => rules::set_state(cloud, input, "DISABLED"),
        "EnableRule" => rules::set_state(cloud, input, "ENABLED"),
        "ListArchives" => archive::list_archives(cloud, input),
        "ListEventBuses" => bus::list(cloud, input),
        "ListReplays" => archive::list_replays(cloud, input),
        "ListRuleNamesByTarget" => rules::list_rule_names(cloud, input),
        "ListRules" => rules::list_rules(cloud, input),
        "ListTagsForResource" => rules::list_tags(cloud, input),
        "ListTargetsByRule" => rules::list_targets(cloud, input),
        "PutEvents" => put_events::put_events(cloud, input),
        "PutPermission" => policy::put_permission(cloud, input),
        "PutRule" => rules::put_rule(cloud, input),
        "PutTargets" => rules::put_targets(cloud, input),
        "RemovePermission" => policy::remove_permission(cloud, input),
        "RemoveTargets" => rules::remove_targets(cloud, input),
        "StartReplay" => archive::start_replay(cloud, input),
        "TagResource" => rules::tag(cloud, input),
        "TestEventPattern" => rules::test_pattern(input),
        "UntagResource" => rules::untag(cloud, input),
        "UpdateArchive" => archive::update_archive(cloud, input),
        _ => Err(AwsError::not_emulated("events", action)),
    }
}

/// Deploys one resource of this service.
///
/// # Errors
/// Names what is not emulated.
pub async fn deploy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    deploy::deploy(cloud, resource)
}

/// Starts the background tasks, after every resource is deployed; they end when `cloud.stopping` is cancelled.
pub fn start(cloud: &Arc<Cloud>) {
    if let Err(error) = forget_undeclared(cloud).and_then(|()| bus::date_default(cloud)) {
        tracing::error!(%error, "the rules of an earlier template could not be deleted");
    }
    delivery::start(cloud);
    archive::start(cloud);
}

/// Deletes so many expired events of archives at most; how many.
///
/// # Errors
/// When the store refuses.
pub(crate) fn sweep(cloud: &Cloud, most: usize) -> Result<usize, StoreError> {
    cloud.store.write(|tx| store::sweep(tx, cloud.clock.now_ms(), most))
}

/// How many deliveries are pending that need what an ARN names: their target, or the bus of their rule.
///
/// # Errors
/// When the store refuses.
pub(crate) fn pending(cloud: &Cloud, arn: &str) -> Result<u64, StoreError> {
    // `arn:...:event-bus/{bus}`, and `arn:...:rule/{bus}/{rule}`.
    let rules = arn.replacen(":event-bus/", ":rule/", 1) + "/";
    cloud.store.read(|db| store::pending(db, arn, &rules))
}

/// Publishes events of an AWS service itself (`aws.states`, for one) to the default bus, each
/// with its resource and its detail, with a change of the caller's own in the same transaction.
///
/// # Errors
/// When the store refuses; then nothing is changed.
pub async fn publish_aws_events(
    cloud: &Arc<Cloud>,
    source: &str,
    detail_type: &str,
    details: Vec<(String, Value)>,
    also: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<()>,
) -> Result<(), AwsError> {
    let now_ms = cloud.clock.now_ms();
    let event = |(resource, detail): (String, Value)| {
        let event = bus::envelope(cloud, source, detail_type, now_ms, vec![resource].into(), detail);
        tracing::info!(target: "hop", service = "events", resource = bus::DEFAULT, event = event["id"].as_str(), "{source} {detail_type} accepted");
        event
    };
    let events: Vec<Value> = details.into_iter().map(event).collect();
    Ok(bus::publish_with(cloud, &[(bus::DEFAULT, &events)], bus::Origin::Put, also)?)
}

/// The next deployment declares anew, as after a restart.
#[cfg(test)]
pub(crate) fn declare_anew_for_tests(cloud: &Cloud) {
    cloud.eventbridge.declared.clear_for_tests();
}

fn read_input<T: serde::de::DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    serde_json::from_value(input).map_err(|error| AwsError::unreadable(&error))
}

/// A value that breaks a constraint of the API, in AWS's words.
fn violated(value: impl std::fmt::Display, member: &str, constraint: &str) -> AwsError {
    invalid(violation(value, member, constraint))
}

fn violation(value: impl std::fmt::Display, member: &str, constraint: &str) -> String {
    format!(
        "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {constraint}"
    )
}

/// A name of at most `longest` letters, digits and `._-`.
fn check_name(name: &str, member: &str, longest: usize) -> Result<(), String> {
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

fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::client("ValidationException", message)
}

/// A timestamp as the JSON protocol sends it (seconds, with a fraction) or as text, in
/// milliseconds since the epoch.
fn time_ms(time: &Value) -> Option<i64> {
    match time {
        Value::Number(seconds) => seconds.as_f64().map(|seconds| (seconds * 1000.0).round() as i64),
        Value::String(text) => text.parse::<jiff::Timestamp>().ok().map(|time| time.as_millisecond()),
        _ => None,
    }
}

/// Tags as lists of `Key` and `Value`.
type Tags = Vec<Tag>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Tag {
    key: String,
    value: String,
}

fn tag_object(tags: Tags) -> Value {
    let tags: BTreeMap<String, String> = tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
    json!(tags)
}

fn tag_list(tags: &Value) -> Value {
    let tags = tags.as_object().into_iter().flatten();
    tags.map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}

/// One page of a list that is sorted by the key beside each item; the token is the last key.
fn page(
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
