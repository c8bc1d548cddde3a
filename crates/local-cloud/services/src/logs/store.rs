//! The tables of groups, streams and events. An append is one insert; when a stream had its
//! last event is read from the events, not kept beside them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use cloud_core::store::{Store, StoreError};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS log_groups (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_ms INTEGER NOT NULL,
    retention_days INTEGER, class TEXT NOT NULL, tags TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS log_streams (
    id INTEGER PRIMARY KEY, group_id INTEGER NOT NULL REFERENCES log_groups ON DELETE CASCADE,
    name TEXT NOT NULL, created_ms INTEGER NOT NULL, UNIQUE (group_id, name));
CREATE TABLE IF NOT EXISTS log_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    group_id INTEGER NOT NULL REFERENCES log_groups ON DELETE CASCADE,
    stream_id INTEGER NOT NULL REFERENCES log_streams ON DELETE CASCADE,
    timestamp_ms INTEGER NOT NULL, ingested_ms INTEGER NOT NULL, message TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS log_events_of_group ON log_events (group_id, timestamp_ms, id);
CREATE INDEX IF NOT EXISTS log_events_of_stream ON log_events (stream_id, timestamp_ms, id);
";

/// The class of a group that was not given one.
pub const STANDARD: &str = "STANDARD";

/// A log group.
#[derive(Debug, Clone)]
pub struct Group {
    /// Row id.
    pub id: i64,
    /// Its name, for example `/aws/lambda/f`.
    pub name: String,
    /// Milliseconds since the epoch.
    pub created_ms: i64,
    /// Days that events are kept; `None` keeps them for ever.
    pub retention_days: Option<i64>,
    /// `STANDARD`, for one.
    pub class: String,
    /// A JSON object of texts.
    pub tags: String,
}

/// A log stream, with the times of its events.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Its name, unique in the group.
    pub name: String,
    /// Milliseconds since the epoch.
    pub created_ms: i64,
    /// The earliest and latest timestamp and the latest ingestion, where there is any event.
    pub times: Option<(i64, i64, i64)>,
}

/// A stored event.
#[derive(Debug, Clone)]
pub struct Event {
    /// Where it stands among the others.
    pub position: Position,
    /// The stream it belongs to.
    pub stream: String,
    /// When it was stored, in milliseconds since the epoch.
    pub ingested_ms: i64,
    /// Its text.
    pub message: String,
}

/// Events are ordered by timestamp, then by arrival. A position is a place between events:
/// just before the event that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// Row id of the event.
    pub id: i64,
}

impl Position {
    /// Just behind the event that has this position.
    pub fn after(self) -> Self {
        Self { id: self.id + 1, ..self }
    }
}

/// What to read: events of a group or of one stream, between two positions.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// The group.
    pub group_id: i64,
    /// Only this stream.
    pub stream_id: Option<i64>,
    /// The first position that is included.
    pub from: Position,
    /// The first position that is not.
    pub until: Position,
    /// Reads from the end towards the beginning.
    pub newest_first: bool,
}

/// Streams whose ids are remembered. Event log groups get a stream per batch of up to
/// 64 events, so the memory is bounded; forgetting costs a look-up.
const REMEMBERED: usize = 4_096;

/// Row ids of groups and streams by name, so that an append looks nothing up.
#[derive(Debug, Default)]
pub struct Ids(Mutex<HashMap<(String, String), (i64, i64)>>);

impl Ids {
    fn with<T>(&self, use_ids: impl FnOnce(&mut HashMap<(String, String), (i64, i64)>) -> T) -> T {
        use_ids(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Forgets everything, after something was deleted.
    pub fn clear(&self) {
        self.with(HashMap::clear);
    }
}

/// Creates the tables.
pub fn migrate(store: &Store) -> Result<(), StoreError> {
    store.migrate(TABLES)
}

/// Appends events to a stream, which (with its group) is created where it is missing.
pub fn append(
    tx: &Transaction<'_>,
    ids: &Ids,
    now_ms: i64,
    group: &str,
    stream: &str,
    events: &[(i64, &str)],
) -> rusqlite::Result<()> {
    let key = (group.to_owned(), stream.to_owned());
    let insert = |(group_id, stream_id): (i64, i64)| {
        let mut insert = tx.prepare_cached(
            "INSERT INTO log_events (group_id, stream_id, timestamp_ms, ingested_ms, message) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        events.iter().try_for_each(|(timestamp_ms, message)| {
            insert.execute(params![group_id, stream_id, timestamp_ms, now_ms, message]).map(drop)
        })
    };
    // A group that was deleted just now refuses the first event: it is made anew, as a group
    // that never was.
    if let Some(known) = ids.with(|ids| ids.get(&key).copied())
        && insert(known).is_ok()
    {
        return Ok(());
    }
    let (found, is_new) = ensure(tx, now_ms, group, stream)?;
    insert(found)?;
    // What was made just now is gone if the caller's transaction fails, and its ids with it.
    if !is_new {
        ids.with(|ids| {
            if ids.len() >= REMEMBERED {
                ids.clear();
            }
            ids.insert(key, found);
        });
    }
    Ok(())
}

/// The ids of a group and its stream, and whether either is new.
fn ensure(
    tx: &Transaction<'_>,
    now_ms: i64,
    group: &str,
    stream: &str,
) -> rusqlite::Result<((i64, i64), bool)> {
    let new_group = create_group(tx, group, now_ms, STANDARD, "{}")?;
    let group_id =
        tx.query_row("SELECT id FROM log_groups WHERE name = ?1", [group], |row| row.get::<_, i64>(0))?;
    let new_stream = create_stream(tx, group_id, stream, now_ms)?;
    let stream_id = tx.query_row(
        "SELECT id FROM log_streams WHERE group_id = ?1 AND name = ?2",
        params![group_id, stream],
        |row| row.get::<_, i64>(0),
    )?;
    Ok(((group_id, stream_id), new_group || new_stream))
}

/// Whether the group is new.
pub fn create_group(
    tx: &Transaction<'_>,
    name: &str,
    now_ms: i64,
    class: &str,
    tags: &str,
) -> rusqlite::Result<bool> {
    let inserted = tx.execute(
        "INSERT OR IGNORE INTO log_groups (name, created_ms, class, tags) VALUES (?1, ?2, ?3, ?4)",
        params![name, now_ms, class, tags],
    )?;
    Ok(inserted == 1)
}

/// Whether the stream is new.
pub fn create_stream(tx: &Transaction<'_>, group_id: i64, name: &str, now_ms: i64) -> rusqlite::Result<bool> {
    let inserted = tx.execute(
        "INSERT OR IGNORE INTO log_streams (group_id, name, created_ms) VALUES (?1, ?2, ?3)",
        params![group_id, name, now_ms],
    )?;
    Ok(inserted == 1)
}

fn group_of_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Group> {
    Ok(Group {
        id: row.get(0)?,
        name: row.get(1)?,
        created_ms: row.get(2)?,
        retention_days: row.get(3)?,
        class: row.get(4)?,
        tags: row.get(5)?,
    })
}

/// One group by name.
pub fn group(connection: &Connection, name: &str) -> rusqlite::Result<Option<Group>> {
    connection
        .query_row(
            "SELECT id, name, created_ms, retention_days, class, tags FROM log_groups WHERE name = ?1",
            [name],
            group_of_row,
        )
        .optional()
}

/// All groups, by name.
pub fn groups(connection: &Connection) -> rusqlite::Result<Vec<Group>> {
    connection
        .prepare_cached(
            "SELECT id, name, created_ms, retention_days, class, tags FROM log_groups ORDER BY name",
        )?
        .query_map([], group_of_row)?
        .collect()
}

/// The bytes of a group's messages, as `storedBytes` reports them.
pub fn stored_bytes(connection: &Connection, group_id: i64) -> rusqlite::Result<i64> {
    connection.query_row(
        "SELECT coalesce(sum(length(CAST(message AS BLOB))), 0) FROM log_events WHERE group_id = ?1",
        [group_id],
        |row| row.get(0),
    )
}

/// The streams of a group, by name.
pub fn streams(connection: &Connection, group_id: i64) -> rusqlite::Result<Vec<Stream>> {
    connection
        .prepare_cached(
            "SELECT s.name, s.created_ms, min(e.timestamp_ms), max(e.timestamp_ms), max(e.ingested_ms)
             FROM log_streams s LEFT JOIN log_events e ON e.stream_id = s.id
             WHERE s.group_id = ?1 GROUP BY s.id ORDER BY s.name",
        )?
        .query_map([group_id], |row| {
            let first: Option<i64> = row.get(2)?;
            let times = match first {
                Some(first) => Some((first, row.get(3)?, row.get(4)?)),
                None => None,
            };
            Ok(Stream { name: row.get(0)?, created_ms: row.get(1)?, times })
        })?
        .collect()
}

/// Hands over the events of a range one by one until `take` returns false.
pub fn scan(
    connection: &Connection,
    range: Range,
    mut take: impl FnMut(Event) -> bool,
) -> rusqlite::Result<()> {
    let owner = if range.stream_id.is_some() { "stream_id" } else { "group_id" };
    let order = if range.newest_first { "DESC" } else { "ASC" };
    let sql = format!(
        "SELECT e.timestamp_ms, e.id, s.name, e.ingested_ms, e.message
         FROM log_events e JOIN log_streams s ON s.id = e.stream_id
         WHERE e.{owner} = ?1 AND (e.timestamp_ms, e.id) >= (?2, ?3) AND (e.timestamp_ms, e.id) < (?4, ?5)
         ORDER BY e.timestamp_ms {order}, e.id {order}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![
        range.stream_id.unwrap_or(range.group_id),
        range.from.timestamp_ms,
        range.from.id,
        range.until.timestamp_ms,
        range.until.id,
    ])?;
    while let Some(row) = rows.next()? {
        let event = Event {
            position: Position { timestamp_ms: row.get(0)?, id: row.get(1)? },
            stream: row.get(2)?,
            ingested_ms: row.get(3)?,
            message: row.get(4)?,
        };
        if !take(event) {
            break;
        }
    }
    Ok(())
}

/// Deletes so many events at most that are older than the retention of their groups; how many.
pub fn sweep(store: &Store, now_ms: i64, most: usize) -> Result<usize, StoreError> {
    store.write(|tx| {
        tx.execute(
            "DELETE FROM log_events WHERE id IN (
                 SELECT e.id FROM log_groups g JOIN log_events e ON e.group_id = g.id
                 WHERE g.retention_days IS NOT NULL AND e.timestamp_ms < ?1 - g.retention_days * 86400000
                 LIMIT ?2)",
            params![now_ms, most as i64],
        )
    })
}

/// Deletes what is older than the group's retention: all of it, since somebody is about to read.
pub fn expire(store: &Store, group: &Group, now_ms: i64) -> Result<(), StoreError> {
    let Some(days) = group.retention_days else { return Ok(()) };
    let oldest_ms = now_ms - days * 86_400_000;
    store.write(|tx| {
        tx.execute(
            "DELETE FROM log_events WHERE group_id = ?1 AND timestamp_ms < ?2",
            params![group.id, oldest_ms],
        )?;
        Ok(())
    })
}
