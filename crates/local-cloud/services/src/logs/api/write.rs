//! PutLogEvents.

use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{find_group, find_stream, invalid};
use crate::logs::store;

/// The limits of a batch.
/// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html>
const MAX_BATCH: usize = 10_000;
const MAX_BATCH_BYTES: usize = 1_048_576;
const EVENT_OVERHEAD: usize = 26;
pub const MAX_EVENT_BYTES: usize = MAX_BATCH_BYTES - EVENT_OVERHEAD;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Put {
    log_group_name: String,
    log_stream_name: String,
    log_events: Vec<InputEvent>,
    /// "The sequence token is now ignored in PutLogEvents actions."
    #[serde(rename = "sequenceToken")]
    _sequence_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct InputEvent {
    timestamp: i64,
    message: String,
}

/// Stores a batch; reports and drops events that are too old or too new.
pub fn put(cloud: &Cloud, input: Put) -> Result<Value, AwsError> {
    let group = find_group(cloud, &input.log_group_name)?;
    find_stream(cloud, &group, &input.log_stream_name)?;
    let events = &input.log_events;
    check_batch(events)?;
    let now_ms = cloud.clock.now_ms();
    let oldest_kept_ms = group.retention_days.map_or(i64::MIN, |days| now_ms - days * DAY_MS);
    // The batch is in order: too old or expired, then accepted, then too new.
    let before = |limit_ms: i64| events.partition_point(|event| event.timestamp < limit_ms);
    let too_old = before(now_ms - 14 * DAY_MS);
    let expired = before(oldest_kept_ms);
    let too_new = before(now_ms + 2 * HOUR_MS + 1);
    let accepted = events.get(too_old.max(expired)..too_new).unwrap_or_default();
    let accepted: Vec<(i64, &str)> =
        accepted.iter().map(|event| (event.timestamp, event.message.as_str())).collect();
    cloud.store.write(|tx| {
        store::append_within(cloud, tx, &input.log_group_name, &input.log_stream_name, &accepted)
    })?;
    let mut answer = json!({ "nextSequenceToken": cloud.random.text("0123456789", 56) });
    let mut rejected = json!({});
    for (member, index, is_rejected) in [
        ("tooNewLogEventStartIndex", too_new, too_new < events.len()),
        ("tooOldLogEventEndIndex", too_old, too_old > 0),
        ("expiredLogEventEndIndex", expired, expired > 0),
    ] {
        if is_rejected {
            rejected[member] = index.into();
        }
    }
    if rejected != json!({}) {
        answer["rejectedLogEventsInfo"] = rejected;
    }
    Ok(answer)
}

fn check_batch(events: &[InputEvent]) -> Result<(), AwsError> {
    if !(1..=MAX_BATCH).contains(&events.len()) {
        return Err(invalid(format!("logEvents takes 1 to {MAX_BATCH} events.")));
    }
    if events.iter().any(|event| event.message.is_empty()) {
        return Err(invalid("Log event message must not be empty."));
    }
    if events.iter().any(|event| event.timestamp < 0) {
        return Err(invalid("Log event timestamps must not be negative."));
    }
    let bytes: usize = events.iter().map(|event| event.message.len() + EVENT_OVERHEAD).sum();
    if bytes > MAX_BATCH_BYTES {
        return Err(invalid(format!("Upload too large: {bytes} bytes exceeds limit of {MAX_BATCH_BYTES}")));
    }
    if !events.is_sorted_by_key(|event| event.timestamp) {
        return Err(invalid("Log events in a single PutLogEvents request must be in chronological order."));
    }
    match events {
        [first, .., last] if last.timestamp - first.timestamp > DAY_MS => Err(invalid(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.",
        )),
        _ => Ok(()),
    }
}
