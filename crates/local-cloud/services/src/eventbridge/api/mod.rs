//! The API actions of EventBridge, and what they share.

use cloud_core::api::{self, check_number, key_of, with_token};
use cloud_core::calls::Permission;
use cloud_core::service::{Action, Request};
use cloud_core::{AwsError, Cloud};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::names::{bus_arn, bus_name};

mod archives;
mod buses;
mod put_events;
mod replays;
mod rules;

pub(super) const ACTIONS: &[Action] = &[
    Action::new("CreateArchive", |cloud, input| archives::create(cloud, read(input)?)),
    Action::new("CreateEventBus", |cloud, input| buses::create(cloud, read(input)?)),
    Action::new("DeleteArchive", |cloud, input| archives::delete(cloud, read(input)?)),
    Action::new("DeleteEventBus", |cloud, input| buses::delete(cloud, read(input)?)),
    Action::new("DeleteRule", |cloud, input| rules::delete(cloud, read(input)?)),
    Action::new("DescribeArchive", |cloud, input| archives::describe(cloud, read(input)?)),
    Action::new("DescribeEventBus", |cloud, input| buses::describe(cloud, read(input)?)),
    Action::new("DescribeReplay", |cloud, input| replays::describe(cloud, read(input)?)),
    Action::new("DescribeRule", |cloud, input| rules::describe(cloud, read(input)?)),
    Action::new("DisableRule", |cloud, input| rules::set_state(cloud, read(input)?, "DISABLED")),
    Action::new("EnableRule", |cloud, input| rules::set_state(cloud, read(input)?, "ENABLED")),
    Action::new("ListArchives", |cloud, input| archives::list(cloud, read(input)?)),
    Action::new("ListEventBuses", |cloud, input| buses::list(cloud, read(input)?)),
    Action::new("ListReplays", |cloud, input| replays::list(cloud, read(input)?)),
    Action::new("ListRules", |cloud, input| rules::list(cloud, read(input)?)),
    Action::new("ListTagsForResource", |cloud, input| rules::list_tags(cloud, read(input)?)),
    Action::new("ListTargetsByRule", |cloud, input| rules::list_targets(cloud, read(input)?)),
    Action::new("PutEvents", |cloud, input| put_events::put(cloud, read(input)?)).needs(buses),
    Action::new("PutRule", |cloud, input| rules::put(cloud, read(input)?)),
    Action::new("PutTargets", |cloud, input| rules::put_targets(cloud, read(input)?)),
    Action::new("RemoveTargets", |cloud, input| rules::remove_targets(cloud, read(input)?)),
    Action::new("StartReplay", |cloud, input| replays::start(cloud, read(input)?)),
    Action::new("TestEventPattern", |_, input| rules::test_pattern(&read(input)?)),
];

/// The permission on each bus that an entry goes to.
fn buses(cloud: &Cloud, request: Request<'_>) -> Vec<Permission> {
    let entries = request.input["Entries"].as_array().into_iter().flatten();
    let bus = |entry: &Value| bus_arn(cloud, &bus_name(entry["EventBusName"].as_str()));
    entries.map(|entry| ("events:PutEvents".to_owned(), bus(entry))).collect()
}

fn read<T: DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    api::read(input, "ValidationException")
}

fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::client("ValidationException", message)
}

fn invalid_pattern(reason: &str) -> AwsError {
    AwsError::client("InvalidEventPatternException", format!("Event pattern is not valid. Reason: {reason}"))
}

fn not_found(what: &str, name: &str) -> AwsError {
    AwsError::client("ResourceNotFoundException", format!("{what} {name} does not exist."))
}

fn already_exists(what: &str, name: &str) -> AwsError {
    AwsError::client("ResourceAlreadyExistsException", format!("{what} {name} already exists."))
}

/// A time as the JSON protocol answers it.
fn seconds(time_ms: i64) -> f64 {
    time_ms as f64 / 1000.0
}

/// Adds the texts that there are to an answer.
fn with_texts<const N: usize>(mut answer: Value, texts: [(&str, Option<String>); N]) -> Value {
    for (member, text) in texts {
        if let Some(text) = text {
            answer[member] = text.into();
        }
    }
    answer
}

/// One page of a list that is sorted by the key beside each item.
fn page(
    member: &str,
    items: Vec<(String, Value)>,
    token: Option<String>,
    limit: Option<i64>,
) -> Result<Value, AwsError> {
    let limit = limit.unwrap_or(100);
    check_number("limit", limit, 1..=100).map_err(invalid)?;
    let read = |token: String| key_of(&token).ok_or_else(|| invalid("Parameter NextToken is not valid."));
    let after = token.map(read).transpose()?;
    let (items, next) = api::page(items, after.as_deref(), limit as usize);
    Ok(with_token(json!({ member: items }), "NextToken", next))
}
