//! Messages: what SQS checks when one is sent, and their life in the store: visible,
//! in flight, deleted, expired, or moved to the dead-letter queue.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud};
use rusqlite::{OptionalExtension, Transaction, params};
use serde::Deserialize;

use super::digest::{self, Attributes};
use super::fault;
use super::queue::{self, Queue};

/// `receives` counts in this queue only, for the redrive policy; `total_receives` is what
/// is reported. `source` is the queue from which redrive brought the message.
pub(super) const TABLES: &str = "CREATE TABLE IF NOT EXISTS sqs_messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, message_id TEXT NOT NULL,
    body TEXT NOT NULL, attributes TEXT NOT NULL, system_attributes TEXT NOT NULL, group_id TEXT,
    sent_ms INTEGER NOT NULL, visible_ms INTEGER NOT NULL, receives INTEGER NOT NULL DEFAULT 0,
    total_receives INTEGER NOT NULL DEFAULT 0, first_received_ms INTEGER, received_ms INTEGER,
    receipt TEXT, source TEXT);
    CREATE INDEX IF NOT EXISTS sqs_messages_visible ON sqs_messages (queue, visible_ms, id);
    CREATE INDEX IF NOT EXISTS sqs_messages_sent ON sqs_messages (queue, sent_ms);";

/// Messages of a standard queue that may be in flight at once (quotas-queues).
const MOST_IN_FLIGHT: usize = 120_000;

/// Longest visibility timeout, also in all since a receive (API_ChangeMessageVisibility).
const LONGEST_VISIBILITY_S: i64 = 43_200;

/// A message that a client wants to send.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Outgoing {
    /// The entry's id in a batch.
    pub id: Option<String>,
    pub message_body: Option<String>,
    pub delay_seconds: Option<i64>,
    #[serde(default)]
    pub message_attributes: Attributes,
    #[serde(default)]
    pub message_system_attributes: Attributes,
    pub message_group_id: Option<String>,
    /// FIFO queues only.
    pub message_deduplication_id: Option<String>,
}

/// What the sender is told.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub message_id: String,
    pub body_md5: String,
    pub attributes_md5: Option<String>,
    pub system_attributes_md5: Option<String>,
}

/// A message that was received.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub message_id: String,
    pub handle: String,
    pub body: String,
    pub attributes: Attributes,
    /// ApproximateReceiveCount, SentTimestamp and so on.
    pub system: BTreeMap<&'static str, String>,
}

impl Outgoing {
    fn body(&self) -> &str {
        self.message_body.as_deref().unwrap_or_default()
    }

    /// Bytes that count against the limits: body and attributes, names and types included
    /// (SQSDeveloperGuide, quotas-messages, sqs-message-metadata).
    pub fn size(&self) -> usize {
        let attributes = self.message_attributes.iter().map(|(name, attribute)| {
            name.len() + attribute.data_type.len() + attribute.bytes().map_or(0, |value| value.len())
        });
        self.body().len() + attributes.sum::<usize>()
    }

    fn check(&self, queue: &Queue) -> Result<(), AwsError> {
        if self.body().is_empty() {
            return Err(fault::missing("MessageBody"));
        }
        if !self.body().chars().all(allowed) {
            return Err(fault::contents());
        }
        if let Some(delay) = self.delay_seconds.filter(|delay| !(0..=900).contains(delay)) {
            let reason = "DelaySeconds must be >= 0 and <= 900.";
            return Err(fault::invalid_value(&delay.to_string(), "DelaySeconds", reason));
        }
        if self.message_deduplication_id.is_some() {
            return Err(fault::invalid_value(
                self.message_deduplication_id.as_deref().unwrap_or_default(),
                "MessageDeduplicationId",
                "The request include parameter that is not valid for this queue type.",
            ));
        }
        if let Some(group) = &self.message_group_id {
            let sound = (1..=128).contains(&group.len()) && group.bytes().all(|byte| byte.is_ascii_graphic());
            if !sound {
                let reason = "MessageGroupId can only include alphanumeric and punctuation characters. 1 to 128 in length.";
                return Err(fault::invalid_value(group, "MessageGroupId", reason));
            }
        }
        check_attributes(&self.message_attributes)?;
        for (name, attribute) in &self.message_system_attributes {
            // The only system attribute that a sender may set (API_SendMessage).
            if name != "AWSTraceHeader" || attribute.data_type != "String" || attribute.string_value.is_none()
            {
                return Err(fault::invalid(format!("Message system attribute name '{name}' is invalid.")));
            }
        }
        let limit = queue.number("MaximumMessageSize") as usize;
        if self.size() > limit {
            return Err(fault::invalid(format!(
                "One or more parameters are invalid. Reason: Message must be shorter than {limit} bytes."
            )));
        }
        Ok(())
    }
}

/// The characters of XML 1.0 (API_SendMessage).
fn allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

/// SQSDeveloperGuide, sqs-message-metadata.
fn check_attributes(attributes: &Attributes) -> Result<(), AwsError> {
    if attributes.len() > 10 {
        let count = attributes.len();
        return Err(fault::invalid(format!(
            "Number of message attributes [{count}] exceeds the allowed maximum [10]."
        )));
    }
    for (name, attribute) in attributes {
        let lower = name.to_ascii_lowercase();
        let sound = (1..=256).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
            && !name.starts_with('.')
            && !name.ends_with('.')
            && !name.contains("..")
            && !lower.starts_with("aws.")
            && !lower.starts_with("amazon.");
        if !sound {
            return Err(fault::invalid(format!("Message (user) attribute name '{name}' is invalid.")));
        }
        if !attribute.string_list_values.is_empty() || !attribute.binary_list_values.is_empty() {
            return Err(fault::unsupported(
                "Message attribute list values in SendMessage operation are not supported.",
            ));
        }
        check_value(name, attribute)?;
    }
    Ok(())
}

fn check_value(name: &str, attribute: &digest::Attribute) -> Result<(), AwsError> {
    let kind = attribute.data_type.split('.').next().unwrap_or_default();
    let refuse = |reason: String| Err(fault::invalid(reason));
    if attribute.data_type.len() > 256 || !matches!(kind, "String" | "Number" | "Binary") {
        return refuse(format!(
            "The type of message (user) attribute '{name}' is invalid. You must use only the following supported type prefixes: Binary, Number, String."
        ));
    }
    let wrong_member = match kind {
        "Binary" => attribute.binary_value.is_none(),
        _ => attribute.string_value.is_none(),
    };
    match attribute.bytes() {
        Some(value) if !wrong_member && !value.is_empty() => {}
        _ => {
            return refuse(format!(
                "Message (user) attribute '{name}' must contain a non-empty value of type '{kind}'."
            ));
        }
    }
    let text = attribute.string_value.as_deref().unwrap_or_default();
    if !text.chars().all(allowed) {
        return Err(fault::contents());
    }
    if kind == "Number" && !text.parse::<f64>().is_ok_and(f64::is_finite) {
        return refuse(format!("Can't cast the value of message (user) attribute '{name}' to a number."));
    }
    Ok(())
}

/// Stores one message.
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
            let delay = message.delay_seconds.unwrap_or(queue.number("DelaySeconds") as i64);
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
    cloud.state::<crate::sqs::State>().arrival(&queue.name).notify_waiters();
    Ok(checked
        .into_iter()
        .map(|checked| {
            checked.map(|(message_id, message)| {
                tracing::info!(target: "hop", service = "sqs", resource = %queue.name, id = %message_id, "message accepted");
                Sent {
                    message_id,
                    body_md5: digest::of_body(message.body()),
                    attributes_md5: digest::of_attributes(&message.message_attributes),
                    system_attributes_md5: digest::of_attributes(&message.message_system_attributes),
                }
            })
        })
        .collect())
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
    let arrival = cloud.state::<crate::sqs::State>().arrival(&queue.name);
    loop {
        let arrived = arrival.notified();
        tokio::pin!(arrived);
        arrived.as_mut().enable();
        let received = match take(cloud, queue, most, visibility_s)? {
            Some(received) => received,
            // Only a short poll is told of the limit (quotas-queues).
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

/// One receive, in one transaction: messages that were received too often go to the
/// dead-letter queue instead, the others are hidden. `None` where no more may be in flight.
fn take(
    cloud: &Cloud,
    queue: &Queue,
    most: usize,
    visibility_s: i64,
) -> Result<Option<Vec<Received>>, AwsError> {
    let redrive = match queue.redrive() {
        // Where the dead-letter queue was deleted, messages stay.
        Some(redrive) => queue::named(cloud, &redrive.target)?.map(|target| (redrive.receives, target.name)),
        None => None,
    };
    let now = cloud.clock.now_ms();
    let mut dead = Vec::new();
    let received = cloud.store.write(|tx| {
        expire(tx, queue, now)?;
        let most = most.min(MOST_IN_FLIGHT.saturating_sub(in_flight(tx, &queue.name, now)?));
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
        cloud.state::<crate::sqs::State>().arrival(&target).notify_waiters();
    }
    Ok(received)
}

/// Received, not deleted, and hidden; counted no further than the limit.
fn in_flight(tx: &Transaction<'_>, queue: &str, now: i64) -> rusqlite::Result<usize> {
    tx.prepare_cached(
        "SELECT count(*) FROM (SELECT 1 FROM sqs_messages WHERE queue = ?1 AND visible_ms > ?2 AND receives > 0 LIMIT ?3)",
    )?
    .query_row(params![queue, now, MOST_IN_FLIGHT], |row| row.get(0))
}

/// Deletes what is older than the retention period.
fn expire(tx: &Transaction<'_>, queue: &Queue, now: i64) -> rusqlite::Result<()> {
    let oldest = now - queue.number("MessageRetentionPeriod") as i64 * 1_000;
    tx.prepare_cached("DELETE FROM sqs_messages WHERE queue = ?1 AND sent_ms < ?2")?
        .execute(params![queue.name, oldest])?;
    Ok(())
}

/// Deletes so many at most that are older than the retention period; how many.
pub(super) fn sweep(tx: &Transaction<'_>, queue: &Queue, now: i64, most: usize) -> rusqlite::Result<usize> {
    let oldest = now - queue.number("MessageRetentionPeriod") as i64 * 1_000;
    tx.prepare_cached(
        "DELETE FROM sqs_messages WHERE id IN
             (SELECT id FROM sqs_messages WHERE queue = ?1 AND sent_ms < ?2 LIMIT ?3)",
    )?
    .execute(params![queue.name, oldest, most as i64])
}

/// The oldest message that is due, or under a fault plan any of the oldest.
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

/// Redrive keeps id, body, attributes and, for standard queues, the time of sending
/// (SQSDeveloperGuide, sqs-dead-letter-queues).
fn bury(tx: &Transaction<'_>, row: &Row, target: &str, source: &str, now: i64) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "UPDATE sqs_messages SET queue = ?2, source = ?3, visible_ms = ?4, receives = 0, receipt = NULL WHERE id = ?1",
    )?
    .execute(params![row.id, target, source, now])?;
    Ok(())
}

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
    // With a timeout of zero the message stays visible, but not for this very receive.
    let visible_ms = (now + visibility_s * 1_000).max(now + 1);
    tx.prepare_cached(
        "UPDATE sqs_messages SET receives = receives + 1, total_receives = total_receives + 1,
         first_received_ms = ?2, received_ms = ?3, visible_ms = ?4, receipt = ?5 WHERE id = ?1",
    )?
    .execute(params![row.id, first_ms, now, visible_ms, receipt])?;
    let mut system = BTreeMap::from([
        ("ApproximateFirstReceiveTimestamp", first_ms.to_string()),
        ("ApproximateReceiveCount", (row.total_receives + 1).to_string()),
        // There are no identities here: one made-up role sends everything.
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

/// What a receipt handle names: one receive of one message.
struct Receipt {
    id: i64,
    nonce: String,
}

fn open_handle(queue: &Queue, handle: &str) -> Result<Receipt, AwsError> {
    let decoded = URL_SAFE_NO_PAD.decode(handle).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let parts: Vec<&str> = decoded.as_deref().unwrap_or_default().split(' ').collect();
    match parts[..] {
        [name, id, nonce] if name == queue.name => match id.parse() {
            Ok(id) => Ok(Receipt { id, nonce: nonce.to_owned() }),
            Err(_) => Err(fault::receipt_handle(handle)),
        },
        _ => Err(fault::receipt_handle(handle)),
    }
}

/// Deletes a message by its latest receipt handle; an older handle succeeds and deletes
/// nothing (API_DeleteMessage).
pub(super) fn delete(cloud: &Cloud, queue: &Queue, handle: &str) -> Result<(), AwsError> {
    let receipt = open_handle(queue, handle)?;
    cloud.store.write(|tx| {
        tx.prepare_cached("DELETE FROM sqs_messages WHERE id = ?1 AND queue = ?2 AND receipt = ?3")?
            .execute(params![receipt.id, queue.name, receipt.nonce])
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
    let parameter = |value: &str, name: &str, reason: &str| Err(fault::invalid_value(value, name, reason));
    let seconds = timeout_s.to_string();
    if !(0..=LONGEST_VISIBILITY_S).contains(&timeout_s) {
        let reason = "VisibilityTimeout must be an integer between 0 and 43200.";
        return parameter(&seconds, "VisibilityTimeout", reason);
    }
    let receipt = open_handle(queue, handle)?;
    let now = cloud.clock.now_ms();
    let visible_ms = now + timeout_s * 1_000;
    // In one transaction: a message that is received anew meanwhile is another's. One whose
    // timeout has just ended can be hidden again; one that was given back cannot.
    let found = cloud.store.write(|tx| {
        let received: Option<Option<i64>> = tx
            .query_row(
                "SELECT received_ms FROM sqs_messages WHERE id = ?1 AND queue = ?2 AND receipt = ?3",
                params![receipt.id, queue.name, receipt.nonce],
                |row| row.get(0),
            )
            .optional()?;
        let Some(received) = received else { return Ok(Change::NotFound) };
        let Some(received_ms) = received else { return Ok(Change::GivenBack) };
        if visible_ms > received_ms + LONGEST_VISIBILITY_S * 1_000 {
            return Ok(Change::TooLong);
        }
        tx.execute(
            "UPDATE sqs_messages SET visible_ms = ?2, received_ms = ?3 WHERE id = ?1",
            params![receipt.id, visible_ms, (timeout_s > 0).then_some(received_ms)],
        )?;
        Ok(Change::Made)
    })?;
    match found {
        Change::NotFound => {
            let reason = "Message does not exist or is not available for visibility timeout change.";
            parameter(handle, "ReceiptHandle", reason)
        }
        Change::GivenBack => Err(fault::not_in_flight()),
        Change::TooLong => {
            let reason = "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]";
            parameter(&seconds, "VisibilityTimeout", reason)
        }
        Change::Made => {
            cloud.state::<crate::sqs::State>().arrival(&queue.name).notify_waiters();
            Ok(())
        }
    }
}

/// What becomes of a change of visibility.
enum Change {
    Made,
    NotFound,
    GivenBack,
    TooLong,
}

/// Shows what is in flight since its receive, which does not count for the redrive policy: on
/// AWS its receiver would not have died. What had its visibility changed since then was put off
/// on purpose, and stays hidden.
pub(super) fn release(cloud: &Cloud, queue: &Queue) -> Result<usize, StoreError> {
    let timeout_ms = queue.number("VisibilityTimeout") as i64 * 1_000;
    let released = cloud.store.write(|tx| {
        tx.execute(
            "UPDATE sqs_messages SET visible_ms = ?2, receives = max(receives - 1, 0)
             WHERE queue = ?1 AND visible_ms > ?2 AND receipt IS NOT NULL AND visible_ms = received_ms + ?3",
            params![queue.name, cloud.clock.now_ms(), timeout_ms],
        )
    })?;
    cloud.state::<crate::sqs::State>().arrival(&queue.name).notify_waiters();
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
