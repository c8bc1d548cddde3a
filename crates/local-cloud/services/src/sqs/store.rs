//! The tables of SQS, and the queues in them.

use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::fault;
use super::queue::{Queue, name_in_arn, name_in_url};

/// In `sqs_messages`, `receives` counts in this queue only, for the redrive policy; `total_receives` is the
/// count that is reported. `source` is the queue from which redrive brought the message.
pub(super) const TABLES: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS sqs_queues (
    name TEXT PRIMARY KEY, attributes TEXT NOT NULL, tags TEXT NOT NULL,
    created_ms INTEGER NOT NULL, modified_ms INTEGER NOT NULL, purged_ms INTEGER) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS sqs_deleted_queues (name TEXT PRIMARY KEY, deleted_ms INTEGER NOT NULL) WITHOUT ROWID;",
    "CREATE TABLE IF NOT EXISTS sqs_messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, message_id TEXT NOT NULL,
    body TEXT NOT NULL, attributes TEXT NOT NULL, system_attributes TEXT NOT NULL, group_id TEXT,
    sent_ms INTEGER NOT NULL, visible_ms INTEGER NOT NULL, receives INTEGER NOT NULL DEFAULT 0,
    total_receives INTEGER NOT NULL DEFAULT 0, first_received_ms INTEGER, received_ms INTEGER,
    receipt TEXT, source TEXT);
    CREATE INDEX IF NOT EXISTS sqs_messages_visible ON sqs_messages (queue, visible_ms, id);
    CREATE INDEX IF NOT EXISTS sqs_messages_sent ON sqs_messages (queue, sent_ms);",
    "CREATE TABLE IF NOT EXISTS sqs_move_tasks (
    handle TEXT PRIMARY KEY, source TEXT NOT NULL, destination TEXT, rate INTEGER, status TEXT NOT NULL,
    moved INTEGER NOT NULL DEFAULT 0, to_move INTEGER NOT NULL, started_ms INTEGER NOT NULL, failure TEXT);",
];

/// For 60 seconds after DeleteQueue the name is barred, and after PurgeQueue another purge
/// (API_DeleteQueue, API_PurgeQueue).
const COOL_DOWN_MS: i64 = 60_000;

const COLUMNS: &str = "SELECT name, attributes, tags, created_ms, modified_ms, purged_ms FROM sqs_queues";

fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Queue> {
    let map = |text: String| serde_json::from_str(&text).unwrap_or_default();
    Ok(Queue {
        name: row.get(0)?,
        attributes: map(row.get(1)?),
        tags: map(row.get(2)?),
        created_ms: row.get(3)?,
        modified_ms: row.get(4)?,
        purged_ms: row.get(5)?,
    })
}

/// Reads a queue within a transaction, which is a connection.
pub(super) fn read(connection: &Connection, name: &str) -> rusqlite::Result<Option<Queue>> {
    connection.prepare_cached(&format!("{COLUMNS} WHERE name = ?1"))?.query_row([name], from_row).optional()
}

pub(super) fn by_name(cloud: &Cloud, name: &str) -> Result<Option<Queue>, StoreError> {
    cloud.store.read(|c| read(c, name))
}

pub(super) fn by_arn(cloud: &Cloud, arn: &str) -> Result<Option<Queue>, StoreError> {
    name_in_arn(arn).map_or(Ok(None), |name| by_name(cloud, name))
}

pub(super) fn by_url(cloud: &Cloud, url: &str) -> Result<Queue, AwsError> {
    by_name(cloud, name_in_url(url)?)?.ok_or_else(fault::no_queue)
}

/// Every queue, by name.
pub(super) fn all(cloud: &Cloud) -> Result<Vec<Queue>, StoreError> {
    cloud.store.read(|c| c.prepare(&format!("{COLUMNS} ORDER BY name"))?.query_map([], from_row)?.collect())
}

/// The queues whose dead-letter queue this is.
pub(super) fn sources_of(cloud: &Cloud, target: &str) -> Result<Vec<Queue>, StoreError> {
    let mut queues = all(cloud)?;
    queues.retain(|queue| queue.redrive().is_some_and(|redrive| redrive.target == target));
    Ok(queues)
}

/// Inserts or replaces a queue.
pub(super) fn save(tx: &Transaction<'_>, queue: &Queue) -> rusqlite::Result<()> {
    let json = |map| serde_json::to_string(map).unwrap_or_default();
    let (attributes, tags) = (json(&queue.attributes), json(&queue.tags));
    tx.execute("DELETE FROM sqs_deleted_queues WHERE name = ?1", [&queue.name])?;
    tx.execute(
        "INSERT OR REPLACE INTO sqs_queues (name, attributes, tags, created_ms, modified_ms, purged_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![queue.name, attributes, tags, queue.created_ms, queue.modified_ms, queue.purged_ms],
    )?;
    Ok(())
}

/// Changes a queue that exists, in one transaction.
pub(super) fn change(cloud: &Cloud, name: &str, change: impl FnOnce(&mut Queue)) -> Result<(), AwsError> {
    let known = cloud.store.write(|tx| {
        let Some(mut queue) = read(tx, name)? else { return Ok(false) };
        change(&mut queue);
        save(tx, &queue)?;
        Ok(true)
    })?;
    if known { Ok(()) } else { Err(fault::no_queue()) }
}

/// Deletes a queue with its messages, and bars its name for a while.
pub(super) fn delete(cloud: &Cloud, name: &str) -> Result<(), StoreError> {
    cloud.store.write(|tx| {
        tx.execute("DELETE FROM sqs_messages WHERE queue = ?1", [name])?;
        tx.execute("DELETE FROM sqs_queues WHERE name = ?1", [name])?;
        tx.execute(
            "INSERT OR REPLACE INTO sqs_deleted_queues (name, deleted_ms) VALUES (?1, ?2)",
            params![name, cloud.clock.now_ms()],
        )?;
        Ok(())
    })
}

pub(super) fn is_barred(tx: &Transaction<'_>, name: &str, now_ms: i64) -> rusqlite::Result<bool> {
    tx.query_row(
        "SELECT count(*) > 0 FROM sqs_deleted_queues WHERE name = ?1 AND deleted_ms > ?2",
        params![name, now_ms - COOL_DOWN_MS],
        |row| row.get(0),
    )
}

/// Deletes the names that are barred no longer.
pub(super) fn forget_deleted(tx: &Transaction<'_>, now_ms: i64) -> rusqlite::Result<usize> {
    tx.execute("DELETE FROM sqs_deleted_queues WHERE deleted_ms < ?1", [now_ms - COOL_DOWN_MS])
}

/// Deletes the messages of a queue; false within a minute after the last purge.
pub(super) fn purge(cloud: &Cloud, name: &str) -> Result<bool, StoreError> {
    let now_ms = cloud.clock.now_ms();
    cloud.store.write(|tx| {
        let purged = tx.execute(
            "UPDATE sqs_queues SET purged_ms = ?2 WHERE name = ?1 AND ifnull(purged_ms, 0) <= ?3",
            params![name, now_ms, now_ms - COOL_DOWN_MS],
        )?;
        if purged > 0 {
            tx.execute("DELETE FROM sqs_messages WHERE queue = ?1", [name])?;
        }
        Ok(purged > 0)
    })
}
