//! GetLogEvents and FilterLogEvents.

use std::collections::HashSet;

use cloud_core::api::{check_number, with_token};
use cloud_core::{AwsError, Cloud};
use cloud_languages::log_filter::Filter;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{find_stream, invalid, invalid_token, one_group};
use crate::logs::store::{self, Event, Position, Range};

/// An answer has up to 10,000 events and 1 MB; an event counts 26 bytes more than its message.
/// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html>
const MAX_EVENTS: i64 = 10_000;
const MAX_BYTES: usize = 1_048_576;
const EVENT_OVERHEAD: usize = 26;

const FIRST: Position = Position { timestamp_ms: i64::MIN, id: 0 };
const END: Position = Position { timestamp_ms: i64::MAX, id: 0 };

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Get {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name: String,
    start_time: Option<i64>,
    end_time: Option<i64>,
    next_token: Option<String>,
    limit: Option<i64>,
    #[serde(default)]
    start_from_head: bool,
    /// No effect here: nothing is masked.
    #[serde(rename = "unmask")]
    _unmask: Option<bool>,
}

/// One page of one stream. There is always a token for either direction; at an end of the stream the same
/// token comes back.
/// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetLogEvents.html>
pub fn get(cloud: &Cloud, input: Get) -> Result<Value, AwsError> {
    let limit = check_limit(input.limit)?;
    let group = one_group(cloud, input.log_group_name, input.log_group_identifier)?;
    let stream_id = find_stream(cloud, &group, &input.log_stream_name)?;
    let mut range = Range {
        group_id: group.id,
        stream_id: Some(stream_id),
        from: at(input.start_time, FIRST),
        until: at(input.end_time, END),
        newest_first: !input.start_from_head,
    };
    let token = input.next_token.as_deref().map(read_token).transpose()?;
    if let Some((forward, position)) = token {
        range.newest_first = !forward;
        match forward {
            true => range.from = range.from.max(position),
            false => range.until = range.until.min(position),
        }
    }
    let (mut events, _) = collect(cloud, range, limit, |_| true)?;
    if range.newest_first {
        events.reverse();
    }
    let here = token.map_or(if range.newest_first { FIRST } else { range.from }, |(_, position)| position);
    let after = events.last().map_or(here, |event| event.position.after());
    let before = events.first().map_or(here, |event| event.position);
    Ok(json!({
        "events": events.iter().map(view).collect::<Vec<_>>(),
        "nextForwardToken": write_token(true, after),
        "nextBackwardToken": write_token(false, before),
    }))
}

fn view(event: &Event) -> Value {
    json!({
        "timestamp": event.position.timestamp_ms,
        "message": event.message,
        "ingestionTime": event.ingested_ms,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FilterEvents {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_names: Option<Vec<String>>,
    log_stream_name_prefix: Option<String>,
    start_time: Option<i64>,
    end_time: Option<i64>,
    filter_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<i64>,
    /// No effect on AWS either: events are always interleaved since 17 June 2019.
    #[serde(rename = "interleaved")]
    _interleaved: Option<bool>,
    /// No effect here: nothing is masked.
    #[serde(rename = "unmask")]
    _unmask: Option<bool>,
}

/// One page of a group: the matching events of its streams, ordered by time.
pub fn filter(cloud: &Cloud, input: FilterEvents) -> Result<Value, AwsError> {
    let limit = check_limit(input.limit)?;
    let filter = Filter::parse(input.filter_pattern.as_deref().unwrap_or_default()).map_err(invalid)?;
    if input.log_stream_names.is_some() && input.log_stream_name_prefix.is_some() {
        return Err(invalid("Cannot specify both logStreamNames and logStreamNamePrefix."));
    }
    let group = one_group(cloud, input.log_group_name, input.log_group_identifier)?;
    if let Some(names) = &input.log_stream_names {
        if !(1..=100).contains(&names.len()) {
            return Err(invalid("logStreamNames takes 1 to 100 names."));
        }
        names.iter().try_for_each(|name| find_stream(cloud, &group, name).map(drop))?;
    }
    let names: Option<HashSet<String>> = input.log_stream_names.map(HashSet::from_iter);
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
    let view = |event: &Event| {
        let mut view = view(event);
        view["logStreamName"] = event.stream.as_str().into();
        view["eventId"] = format!("{:020}{:036}", event.position.timestamp_ms, event.position.id).into();
        view
    };
    // "Starting on May 15, 2020, this action no longer returns this parameter" filled.
    let answer = json!({ "events": events.iter().map(view).collect::<Vec<_>>(), "searchedLogStreams": [] });
    Ok(with_token(answer, "nextToken", next.map(|next| write_token(true, next))))
}

fn check_limit(limit: Option<i64>) -> Result<usize, AwsError> {
    let limit = limit.unwrap_or(MAX_EVENTS);
    check_number("limit", limit, 1..=MAX_EVENTS).map_err(invalid)?;
    Ok(limit as usize)
}

fn at(timestamp_ms: Option<i64>, otherwise: Position) -> Position {
    timestamp_ms.map_or(otherwise, |timestamp_ms| Position { timestamp_ms, id: 0 })
}

/// One page of a range, and the position of the next page if there is one.
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

/// `f/` reads forwards from a position, `b/` backwards. Opaque to clients.
fn write_token(forward: bool, position: Position) -> String {
    format!("{}/{}/{}", if forward { 'f' } else { 'b' }, position.timestamp_ms, position.id)
}

fn read_token(token: &str) -> Result<(bool, Position), AwsError> {
    let parse = || {
        let (direction, position) = token.split_once('/').filter(|(first, _)| ["f", "b"].contains(first))?;
        let (timestamp_ms, id) = position.split_once('/')?;
        let position = Position { timestamp_ms: timestamp_ms.parse().ok()?, id: id.parse().ok()? };
        Some((direction == "f", position))
    };
    parse().ok_or_else(invalid_token)
}
