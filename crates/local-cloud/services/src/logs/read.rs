//! GetLogEvents and FilterLogEvents.

use std::collections::HashSet;

use cloud_core::{AwsError, Cloud};
use cloud_languages::log_filter::Filter;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{find_group, find_stream, invalid, one_group, read_input};
use super::store::{self, Event, Position, Range};

/// An answer holds 10,000 events and 1 MB at most; each event counts 26 bytes beside its message.
/// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html>
const MAX_EVENTS: usize = 10_000;
const MAX_BYTES: usize = 1_048_576;
const EVENT_OVERHEAD: usize = 26;

const FIRST: Position = Position { timestamp_ms: i64::MIN, id: 0 };
const END: Position = Position { timestamp_ms: i64::MAX, id: 0 };

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct GetEvents {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name: String,
    start_time: Option<i64>,
    end_time: Option<i64>,
    next_token: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    start_from_head: bool,
    /// No effect here: nothing is masked.
    #[serde(rename = "unmask")]
    _unmask: Option<bool>,
}

/// A page of one stream. Tokens go both ways and never run out: at an end of the stream the
/// same token comes back.
/// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetLogEvents.html>
pub fn get_events(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: GetEvents = read_input(input)?;
    let limit = check_limit(input.limit)?;
    let group = find_group(cloud, &one_group(input.log_group_name, input.log_group_identifier)?)?;
    let stream_id = find_stream(cloud, &group, &input.log_stream_name)?;
    let mut range = Range {
        group_id: group.id,
        stream_id: Some(stream_id),
        from: at(input.start_time, FIRST),
        until: at(input.end_time, END),
        newest_first: !input.start_from_head,
    };
    let token = input.next_token.as_deref().map(read_token).transpose()?;
    match token {
        Some((true, position)) => {
            range.from = range.from.max(position);
            range.newest_first = false;
        }
        Some((false, position)) => {
            range.until = range.until.min(position);
            range.newest_first = true;
        }
        None => {}
    }
    let (mut events, _) = collect(cloud, range, limit, |_| true)?;
    if range.newest_first {
        events.reverse();
    }
    let here = token.map_or(if range.newest_first { FIRST } else { range.from }, |(_, position)| position);
    let behind = events.last().map_or(here, |event| event.position.after());
    let before = events.first().map_or(here, |event| event.position);
    let events: Vec<Value> = events
        .iter()
        .map(|event| {
            json!({
                "timestamp": event.position.timestamp_ms,
                "message": event.message,
                "ingestionTime": event.ingested_ms,
            })
        })
        .collect();
    Ok(json!({
        "events": events,
        "nextForwardToken": write_token(true, behind),
        "nextBackwardToken": write_token(false, before),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct FilterEvents {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_names: Option<Vec<String>>,
    log_stream_name_prefix: Option<String>,
    start_time: Option<i64>,
    end_time: Option<i64>,
    filter_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<usize>,
    /// No effect on AWS either: events are always interleaved since 17 June 2019.
    #[serde(rename = "interleaved")]
    _interleaved: Option<bool>,
    /// No effect here: nothing is masked.
    #[serde(rename = "unmask")]
    _unmask: Option<bool>,
}

/// A page of a group: the matching events of its streams, ordered by time.
pub fn filter_events(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: FilterEvents = read_input(input)?;
    let limit = check_limit(input.limit)?;
    let filter = Filter::parse(input.filter_pattern.as_deref().unwrap_or_default()).map_err(invalid)?;
    if input.log_stream_names.is_some() && input.log_stream_name_prefix.is_some() {
        return Err(invalid("Cannot specify both logStreamNames and logStreamNamePrefix."));
    }
    let group = find_group(cloud, &one_group(input.log_group_name, input.log_group_identifier)?)?;
    let names: Option<HashSet<String>> = match input.log_stream_names {
        Some(names) if !(1..=100).contains(&names.len()) => {
            return Err(invalid("logStreamNames takes 1 to 100 names."));
        }
        Some(names) => {
            for name in &names {
                find_stream(cloud, &group, name)?;
            }
            Some(names.into_iter().collect())
        }
        None => None,
    };
    let prefix = input.log_stream_name_prefix.unwrap_or_default();
    let mut from = at(input.start_time, FIRST);
    if let Some(token) = &input.next_token {
        let (_, position) = read_token(token)?;
        from = from.max(position);
    }
    // "endTime: events with a timestamp later than this time are not returned."
    let until = input.end_time.map_or(END, |end| Position { timestamp_ms: end, id: i64::MAX });
    let range = Range { group_id: group.id, stream_id: None, from, until, newest_first: false };
    let (events, next) = collect(cloud, range, limit, |event| {
        names.as_ref().is_none_or(|names| names.contains(&event.stream))
            && event.stream.starts_with(&prefix)
            && filter.matches(&event.message)
    })?;
    let events: Vec<Value> = events
        .iter()
        .map(|event| {
            json!({
                "logStreamName": event.stream,
                "timestamp": event.position.timestamp_ms,
                "message": event.message,
                "ingestionTime": event.ingested_ms,
                "eventId": format!("{:020}{:036}", event.position.timestamp_ms, event.position.id),
            })
        })
        .collect();
    // "Starting on May 15, 2020, this action no longer returns this parameter" filled.
    let mut answer = json!({ "events": events, "searchedLogStreams": [] });
    if let Some(next) = next {
        answer["nextToken"] = write_token(true, next).into();
    }
    Ok(answer)
}

fn check_limit(limit: Option<usize>) -> Result<usize, AwsError> {
    match limit.unwrap_or(MAX_EVENTS) {
        limit @ 1..=MAX_EVENTS => Ok(limit),
        _ => Err(invalid(format!("limit must be between 1 and {MAX_EVENTS}."))),
    }
}

fn at(timestamp_ms: Option<i64>, otherwise: Position) -> Position {
    timestamp_ms.map_or(otherwise, |timestamp_ms| Position { timestamp_ms, id: 0 })
}

/// One page of a range, and where the next one begins if there is more.
fn collect(
    cloud: &Cloud,
    range: Range,
    limit: usize,
    wanted: impl Fn(&Event) -> bool,
) -> Result<(Vec<Event>, Option<Position>), AwsError> {
    let mut events = Vec::new();
    let mut bytes = 0;
    let mut next = None;
    cloud.store.read(|db| {
        store::scan(db, range, |event| {
            if !wanted(&event) {
                return true;
            }
            bytes += event.message.len() + EVENT_OVERHEAD;
            if events.len() == limit || (bytes > MAX_BYTES && !events.is_empty()) {
                next = Some(event.position);
                return false;
            }
            events.push(event);
            true
        })
    })?;
    Ok((events, next))
}

/// `f/` reads on from a position, `b/` back from it. Opaque to clients.
fn write_token(forward: bool, position: Position) -> String {
    format!("{}/{}/{}", if forward { 'f' } else { 'b' }, position.timestamp_ms, position.id)
}

fn read_token(token: &str) -> Result<(bool, Position), AwsError> {
    let parse = || {
        let mut parts = token.split('/');
        let forward = match parts.next()? {
            "f" => true,
            "b" => false,
            _ => return None,
        };
        let timestamp_ms = parts.next()?.parse().ok()?;
        Some((forward, Position { timestamp_ms, id: parts.next()?.parse().ok()? }))
    };
    parse().ok_or_else(|| invalid("The specified nextToken is invalid."))
}
