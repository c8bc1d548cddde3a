//! The life of messages in the store: visible, in flight, deleted, expired, or moved to the dead-letter queue.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud};
use rusqlite::{OptionalExtension, Transaction, params};

use super::digest::{self, Attributes};
use super::outgoing::Outgoing;
use super::queue::Queue;
use super::{arrival, fault, store};

/// Messages of a standard queue that may be in flight at once (quotas-queues).
const MAX_IN_FLIGHT: usize = 120_000;

/// Visibility timeout, also in total since a receive (API_ChangeMessageVisibility).
const MAX_VISIBILITY_S: i64 = 43_200;

/// The answer to a sender.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub message_id: String,
    pub body_md5: String,
    pub attributes_md5: Option<String>,
    pub system_attributes_md5: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Received {
    pub message_id: String,
    pub handle: String,
    pub body: String,
    pub attributes: Attributes,
    /// ApproximateReceiveCount, SentTimestamp and so on.
    pub system: BTreeMap<&'static str, String>,
}

pub(super) fn send(cloud: &Cloud, queue: &Queue, message: Outgoing) -> Result<Sent, AwsError> {
    send_all(cloud, queue, vec![message])?
        .pop()
        .unwrap_or_else(|| Err(AwsError::internal("a message was lost between check and store")))
}

/// Stores messages in one transaction; each is checked on its own.
pub(super) fn send_all(
    cloud: &Cloud,
    queue: &Queue,
    messages: Vec<Outgoing>,
) -> Result<Vec<Result<Sent, AwsError>>, AwsError> {
    let now = cloud.clock.now_ms();
    let checked: Vec<_> =
        messages.into_iter().map(|m| m.check(queue).map(|()| (cloud.random.uuid(), m))).collect();
    cloud.store.write(|tx| {
        checked.iter().flatten().try_for_each(|(id, message)| {
            let delay = message.delay_seconds.unwrap_or(queue.number("DelaySeconds"));
            tx.prepare_cached(
                "INSERT INTO sqs_messages (queue, message_id, body, attributes, system_attributes, group_id, sent_ms, visible_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                queue.name,
                id,
                message.body(),
                to_json(&message.message_attributes),
                to_json(&message.message_system_attributes),
                message.message_group_id,
                now,
                now + delay * 1_000,
            ])?;
            Ok(())
        })
    })?;
    arrival(cloud, &queue.name).notify_waiters();
    let sent = |(message_id, message): (String, Outgoing)| {
        tracing::info!(target: "hop", service = "sqs", resource = %queue.name, id = %message_id, "message accepted");
        Sent {
            message_id,
            body_md5: digest::of_body(message.body()),
            attributes_md5: digest::of_attributes(&message.message_attributes),
            system_attributes_md5: digest::of_attributes(&message.message_system_attributes),
        }
    };
    Ok(checked.into_iter().map(|checked| checked.map(sent)).collect())
}

fn to_json(attributes: &Attributes) -> String {
    serde_json::to_string(attributes).unwrap_or_default()
}

/// Receives up to `most` messages, waiting up to `wait_ms` for the first (long polling).
pub(super) async fn receive(
    cloud: &Arc<Cloud>,
    queue: &Queue,
    most: usize,
    visibility_s: i64,
    wait_ms: i64,
) -> Result<Vec<Received>, AwsError> {
    let give_up_ms = cloud.clock.now_ms() + wait_ms;
    let arrivals = arrival(cloud, &queue.name);
    loop {
        let arrived = arrivals.notified();
        tokio::pin!(arrived);
        arrived.as_mut().enable();
        let received = match take(cloud, queue, most, visibility_s)? {
            Some(received) => received,
            // Only a short poll gets an error for the limit (quotas-queues).
            None if wait_ms == 0 => return Err(fault::over_limit()),
            None => Vec::new(),
        };
        if !received.is_empty() || cloud.clock.now_ms() >= give_up_ms {
            return Ok(received);
        }
        let wake_ms = next_visible_ms(cloud, queue)?.map_or(give_up_ms, |next| next.min(give_up_ms));
        tokio::select! {
            () = arrived => {}
            () = cloud.clock.sleep_until(wake_ms) => {}
            () = cloud.stopping.cancelled() => return Ok(Vec::new()),
        }
    }
}

/// When the next hidden message becomes visible.
fn next_visible_ms(cloud: &Cloud, queue: &Queue) -> Result<Option<i64>, StoreError> {
    cloud.store.read(|c| {
        c.prepare_cached("SELECT min(visible_ms) FROM sqs_messages WHERE queue = ?1 AND visible_ms > ?2")?
            .query_row(params![queue.name, cloud.clock.now_ms()], |row| row.get(0))
    })
}

struct Row {
    id: i64,
    message_id: String,
    body: String,
    attributes: String,
    system_attributes: String,
    group_id: Option<String>,
    sent_ms: i64,
    receives: u64,
    total_receives: u64,
    first_received_ms: Option<i64>,
    source: Option<String>,
}

/// One receive, in one transaction: hides the messages that it returns, and moves those that were received
/// too often to the dead-letter queue. `None` where no more may be in flight.
fn take(
    cloud: &Cloud,
    queue: &Queue,
    most: usize,
    visibility_s: i64,
) -> Result<Option<Vec<Received>>, AwsError> {
    let redrive = match queue.redrive() {
        // Where the dead-letter queue was deleted, messages stay.
        Some(redrive) => {
            store::by_name(cloud, &redrive.target)?.map(|target| (redrive.receives, target.name))
        }
        None => None,
    };
    let now = cloud.clock.now_ms();
    let mut dead = Vec::new();
    let received = cloud.store.write(|tx| {
        expire(tx, queue, now)?;
        let most = most.min(MAX_IN_FLIGHT.saturating_sub(in_flight(tx, &queue.name, now)?));
        if most == 0 {
            return Ok(None);
        }
        let mut received = Vec::new();
        while received.len() < most {
            let Some(row) = next_visible(tx, cloud, &queue.name, now)? else { break };
            match &redrive {
                Some((receives, target)) if row.receives >= *receives => {
                    bury(tx, &row, target, &cloud.arn("sqs", &queue.name), now)?;
                    dead.push((row.message_id, target.clone()));
                }
                _ => received.push(hide(tx, cloud, queue, row, now, visibility_s)?),
            }
        }
        Ok(Some(received))
    })?;
    for (message, target) in dead {
        tracing::warn!(target: "hop", service = "sqs", resource = %queue.name, id = %message, queue = %target, "message moved to its dead-letter queue");
        arrival(cloud, &target).notify_waiters();
    }
    Ok(received)
}

/// Received, not deleted, and hidden; counted no further than the limit.
fn in_flight(tx: &Transaction<'_>, queue: &str, now: i64) -> rusqlite::Result<usize> {
    tx.prepare_cached(
        "SELECT count(*) FROM (SELECT 1 FROM sqs_messages WHERE queue = ?1 AND visible_ms > ?2 AND receives > 0 LIMIT ?3)",
    )?
    .query_row(params![queue, now, MAX_IN_FLIGHT], |row| row.get(0))
}

/// Deletes the messages that are older than the retention period.
fn expire(tx: &Transaction<'_>, queue: &Queue, now: i64) -> rusqlite::Result<()> {
    let oldest = now - queue.number("MessageRetentionPeriod") * 1_000;
    tx.prepare_cached("DELETE FROM sqs_messages WHERE queue = ?1 AND sent_ms < ?2")?
        .execute(params![queue.name, oldest])?;
    Ok(())
}

/// The same for up to `most` messages; returns their number.
pub(super) fn sweep(tx: &Transaction<'_>, queue: &Queue, now: i64, most: usize) -> rusqlite::Result<usize> {
    let oldest = now - queue.number("MessageRetentionPeriod") * 1_000;
    tx.prepare_cached(
        "DELETE FROM sqs_messages WHERE id IN
             (SELECT id FROM sqs_messages WHERE queue = ?1 AND sent_ms < ?2 LIMIT ?3)",
    )?
    .execute(params![queue.name, oldest, most as i64])
}

/// The oldest visible message, or under a fault plan one of the oldest.
fn next_visible(tx: &Transaction<'_>, cloud: &Cloud, queue: &str, now: i64) -> rusqlite::Result<Option<Row>> {
    let overtaken = cloud.faults.overtaken();
    match visible(tx, queue, now, overtaken)? {
        None if overtaken > 0 => visible(tx, queue, now, 0),
        row => Ok(row),
    }
}

fn visible(tx: &Transaction<'_>, queue: &str, now: i64, overtaken: u64) -> rusqlite::Result<Option<Row>> {
    tx.prepare_cached(
        "SELECT id, message_id, body, attributes, system_attributes, group_id, sent_ms, receives,
                total_receives, first_received_ms, source
         FROM sqs_messages WHERE queue = ?1 AND visible_ms <= ?2 ORDER BY visible_ms, id LIMIT 1 OFFSET ?3",
    )?
    .query_row(params![queue, now, overtaken as i64], |row| {
        Ok(Row {
            id: row.get(0)?,
            message_id: row.get(1)?,
            body: row.get(2)?,
            attributes: row.get(3)?,
            system_attributes: row.get(4)?,
            group_id: row.get(5)?,
            sent_ms: row.get(6)?,
            receives: row.get(7)?,
            total_receives: row.get(8)?,
            first_received_ms: row.get(9)?,
            source: row.get(10)?,
        })
    })
    .optional()
}

/// Moves a message to its dead-letter queue. It keeps id, body, attributes and, for standard queues, the time
/// of sending (SQSDeveloperGuide, sqs-dead-letter-queues).
fn bury(tx: &Transaction<'_>, row: &Row, target: &str, source: &str, now: i64) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "UPDATE sqs_messages SET queue = ?2, source = ?3, visible_ms = ?4, receives = 0, receipt = NULL WHERE id = ?1",
    )?
    .execute(params![row.id, target, source, now])?;
    Ok(())
}

/// Hides a message for its receiver.
fn hide(
    tx: &Transaction<'_>,
    cloud: &Cloud,
    queue: &Queue,
    row: Row,
    now: i64,
    visibility_s: i64,
) -> rusqlite::Result<Received> {
    let receipt = cloud.random.uuid();
    let first_ms = row.first_received_ms.unwrap_or(now);
    let visibility_s = if cloud.faults.shows_again() { 0 } else { visibility_s };
    // With a timeout of zero the message stays visible, but the same receive does not return it again.
    let visible_ms = (now + visibility_s * 1_000).max(now + 1);
    tx.prepare_cached(
        "UPDATE sqs_messages SET receives = receives + 1, total_receives = total_receives + 1,
         first_received_ms = ?2, received_ms = ?3, visible_ms = ?4, receipt = ?5 WHERE id = ?1",
    )?
    .execute(params![row.id, first_ms, now, visible_ms, receipt])?;
    let mut system = BTreeMap::from([
        ("ApproximateFirstReceiveTimestamp", first_ms.to_string()),
        ("ApproximateReceiveCount", (row.total_receives + 1).to_string()),
        // There are no identities here: one made-up role sends all messages.
        ("SenderId", "AROALOCALCLOUDUNICORN:local".to_owned()),
        ("SentTimestamp", row.sent_ms.to_string()),
    ]);
    system.extend(row.group_id.map(|group| ("MessageGroupId", group)));
    system.extend(row.source.map(|source| ("DeadLetterQueueSourceArn", source)));
    let traced: Attributes = serde_json::from_str(&row.system_attributes).unwrap_or_default();
    let trace = traced.get("AWSTraceHeader").and_then(|attribute| attribute.string_value.clone());
    system.extend(trace.map(|trace| ("AWSTraceHeader", trace)));
    Ok(Received {
        message_id: row.message_id,
        handle: URL_SAFE_NO_PAD.encode(format!("{} {} {receipt}", queue.name, row.id)),
        body: row.body,
        attributes: serde_json::from_str(&row.attributes).unwrap_or_default(),
        system,
    })
}

/// Reads a receipt handle: the id of a message, and the receipt of one of its receives.
fn open_handle(queue: &Queue, handle: &str) -> Result<(i64, String), AwsError> {
    let decoded = URL_SAFE_NO_PAD.decode(handle).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let parts: Vec<&str> = decoded.as_deref().unwrap_or_default().split(' ').collect();
    let read = match parts[..] {
        [name, id, receipt] if name == queue.name => id.parse().ok().map(|id| (id, receipt.to_owned())),
        _ => None,
    };
    read.ok_or_else(|| fault::receipt_handle(handle))
}

/// Deletes a message by its latest receipt handle; an older handle succeeds and deletes
/// nothing (API_DeleteMessage).
pub(super) fn delete(cloud: &Cloud, queue: &Queue, handle: &str) -> Result<(), AwsError> {
    let (id, receipt) = open_handle(queue, handle)?;
    cloud.store.write(|tx| {
        tx.prepare_cached("DELETE FROM sqs_messages WHERE id = ?1 AND queue = ?2 AND receipt = ?3")?
            .execute(params![id, queue.name, receipt])
    })?;
    Ok(())
}

/// Sets when a message in flight becomes visible again.
pub(super) fn change_visibility(
    cloud: &Cloud,
    queue: &Queue,
    handle: &str,
    timeout_s: i64,
) -> Result<(), AwsError> {
    if !(0..=MAX_VISIBILITY_S).contains(&timeout_s) {
        let reason = "VisibilityTimeout must be an integer between 0 and 43200.";
        return Err(fault::invalid_value(timeout_s, "VisibilityTimeout", reason));
    }
    let (id, receipt) = open_handle(queue, handle)?;
    let visible_ms = cloud.clock.now_ms() + timeout_s * 1_000;
    // In one transaction: a message that is received again meanwhile belongs to another receiver. A message
    // whose timeout has just ended can be hidden again; one that was given back cannot.
    let changed = cloud.store.write(|tx| {
        let received: Option<Option<i64>> = tx
            .query_row(
                "SELECT received_ms FROM sqs_messages WHERE id = ?1 AND queue = ?2 AND receipt = ?3",
                params![id, queue.name, receipt],
                |row| row.get(0),
            )
            .optional()?;
        let received_ms = match received {
            Some(Some(received_ms)) => received_ms,
            Some(None) => return Ok(Err(fault::not_in_flight())),
            None => {
                let reason = "Message does not exist or is not available for visibility timeout change.";
                return Ok(Err(fault::invalid_value(handle, "ReceiptHandle", reason)));
            }
        };
        if visible_ms > received_ms + MAX_VISIBILITY_S * 1_000 {
            let reason = "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]";
            return Ok(Err(fault::invalid_value(timeout_s, "VisibilityTimeout", reason)));
        }
        tx.execute(
            "UPDATE sqs_messages SET visible_ms = ?2, received_ms = ?3 WHERE id = ?1",
            params![id, visible_ms, (timeout_s > 0).then_some(received_ms)],
        )?;
        Ok(Ok(()))
    })?;
    changed.map(|()| arrival(cloud, &queue.name).notify_waiters())
}

/// Shows the messages that are in flight since their receive. The receive does not count for the redrive
/// policy, because on AWS its receiver would not have died. A message whose visibility was changed since then
/// was put off on purpose, and stays hidden.
pub(super) fn release(cloud: &Cloud, queue: &Queue) -> Result<usize, StoreError> {
    let timeout_ms = queue.number("VisibilityTimeout") * 1_000;
    let released = cloud.store.write(|tx| {
        tx.execute(
            "UPDATE sqs_messages SET visible_ms = ?2, receives = max(receives - 1, 0)
             WHERE queue = ?1 AND visible_ms > ?2 AND receipt IS NOT NULL AND visible_ms = received_ms + ?3",
            params![queue.name, cloud.clock.now_ms(), timeout_ms],
        )
    })?;
    arrival(cloud, &queue.name).notify_waiters();
    Ok(released)
}

/// Messages visible, in flight, and delayed.
pub(super) fn counts(cloud: &Cloud, queue: &Queue) -> Result<[i64; 3], StoreError> {
    let now = cloud.clock.now_ms();
    cloud.store.write(|tx| {
        expire(tx, queue, now)?;
        tx.query_row(
            "SELECT count(*) FILTER (WHERE visible_ms <= ?2), count(*) FILTER (WHERE visible_ms > ?2 AND receives > 0),
                    count(*) FILTER (WHERE visible_ms > ?2 AND receives = 0) FROM sqs_messages WHERE queue = ?1",
            params![queue.name, now],
            |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]),
        )
    })
}
