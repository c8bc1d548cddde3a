//! The tables of groups, streams and events. An append is one insert: the time of a stream's last event is
//! read from its events, not stored. Times (`_ms`) are in milliseconds since the epoch.

use std::collections::HashMap;
use std::sync::Mutex;

use cloud_core::Cloud;
use cloud_core::store::{Store, StoreError};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

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

/// The log group class; the others are not emulated.
pub const STANDARD: &str = "STANDARD";

#[derive(Debug, Clone)]
pub struct Group {
    pub id: i64,
    pub name: String,
    pub created_ms: i64,
    /// `None` keeps events for ever.
    pub retention_days: Option<i64>,
    pub class: String,
    /// A JSON object of texts.
    pub tags: String,
}

#[derive(Debug, Clone)]
pub struct Stream {
    pub name: String,
    pub created_ms: i64,
    /// First and last timestamp and last ingestion of its events; `None` without events.
    pub times: Option<(i64, i64, i64)>,
}

#[derive(Debug, Clone)]
pub struct Event {
    pub position: Position,
    /// The stream's name.
    pub stream: String,
    pub ingested_ms: i64,
    pub message: String,
}

/// The place just before an event, in the order of timestamps, then of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub timestamp_ms: i64,
    /// The event's row id.
    pub id: i64,
}

impl Position {
    /// The place just after the event.
    pub fn after(self) -> Self {
        Self { id: self.id + 1, ..self }
    }
}

/// The events of a group, or of one of its streams, from one position to another.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    pub group_id: i64,
    pub stream_id: Option<i64>,
    /// Inclusive.
    pub from: Position,
    /// Exclusive.
    pub until: Position,
    pub newest_first: bool,
}

/// Streams whose ids are cached. A log group of a bus gets a new stream for each batch of up to 64
/// events, so the cache is bounded; a miss costs a look-up.
const MAX_CACHED: usize = 4_096;

/// Row ids by the names of group and stream, so that an append needs no look-up.
#[derive(Debug, Default)]
pub struct Ids(Mutex<HashMap<(String, String), (i64, i64)>>);

impl Ids {
    fn with<T>(&self, use_ids: impl FnOnce(&mut HashMap<(String, String), (i64, i64)>) -> T) -> T {
        use_ids(&mut cloud_core::lock(&self.0))
    }

    /// Call this after deleting a group or a stream.
    pub fn clear(&self) {
        self.with(HashMap::clear);
    }
}

pub fn open(store: &Store) -> Result<(), StoreError> {
    store.migrate(TABLES)
}

/// Appends events (milliseconds since the epoch, text) to a stream, in the caller's transaction. Creates
/// the group and the stream if they do not exist.
pub fn append_within(
    cloud: &Cloud,
    tx: &Transaction<'_>,
    group: &str,
    stream: &str,
    events: &[(i64, &str)],
) -> rusqlite::Result<()> {
    let ids = cloud.state::<Ids>();
    let now_ms = cloud.clock.now_ms();
    let key = (group.to_owned(), stream.to_owned());
    let insert = |(group_id, stream_id): (i64, i64)| {
        let mut insert = tx.prepare_cached(
            "INSERT INTO log_events (group_id, stream_id, timestamp_ms, ingested_ms, message) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        events.iter().try_for_each(|(timestamp_ms, message)| {
            insert.execute(params![group_id, stream_id, timestamp_ms, now_ms, message]).map(drop)
        })
    };
    // The insert fails if the group was deleted just now; then it is created again.
    if let Some(known) = ids.with(|ids| ids.get(&key).copied())
        && insert(known).is_ok()
    {
        return Ok(());
    }
    let (found, is_new) = ensure(tx, now_ms, group, stream)?;
    insert(found)?;
    // New rows are not cached: they are gone if the caller's transaction fails.
    if !is_new {
        ids.with(|ids| {
            if ids.len() >= MAX_CACHED {
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
    let new_group = create_group(tx, group, now_ms, "{}")?;
    let group_id = tx.query_row("SELECT id FROM log_groups WHERE name = ?1", [group], |row| row.get(0))?;
    let new_stream = create_stream(tx, group_id, stream, now_ms)?;
    let stream_id = stream_id(tx, group_id, stream)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    Ok(((group_id, stream_id), new_group || new_stream))
}

/// Returns whether the group is new.
pub fn create_group(tx: &Transaction<'_>, name: &str, now_ms: i64, tags: &str) -> rusqlite::Result<bool> {
    let inserted = tx.execute(
        "INSERT OR IGNORE INTO log_groups (name, created_ms, class, tags) VALUES (?1, ?2, ?3, ?4)",
        params![name, now_ms, STANDARD, tags],
    )?;
    Ok(inserted == 1)
}

/// Returns whether the stream is new.
pub fn create_stream(tx: &Transaction<'_>, group_id: i64, name: &str, now_ms: i64) -> rusqlite::Result<bool> {
    let inserted = tx.execute(
        "INSERT OR IGNORE INTO log_streams (group_id, name, created_ms) VALUES (?1, ?2, ?3)",
        params![group_id, name, now_ms],
    )?;
    Ok(inserted == 1)
}

const GROUP: &str = "SELECT id, name, created_ms, retention_days, class, tags FROM log_groups";

impl Group {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            name: row.get(1)?,
            created_ms: row.get(2)?,
            retention_days: row.get(3)?,
            class: row.get(4)?,
            tags: row.get(5)?,
        })
    }
}

pub fn group(db: &Connection, name: &str) -> rusqlite::Result<Option<Group>> {
    db.prepare_cached(&format!("{GROUP} WHERE name = ?1"))?.query_row([name], Group::of).optional()
}

/// All groups, by name.
pub fn groups(db: &Connection) -> rusqlite::Result<Vec<Group>> {
    db.prepare_cached(&format!("{GROUP} ORDER BY name"))?.query_map([], Group::of)?.collect()
}

pub fn stream_id(db: &Connection, group_id: i64, name: &str) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT id FROM log_streams WHERE group_id = ?1 AND name = ?2")?
        .query_row(params![group_id, name], |row| row.get(0))
        .optional()
}

/// The bytes of a group's messages, as `storedBytes` reports them.
pub fn stored_bytes(db: &Connection, group_id: i64) -> rusqlite::Result<i64> {
    db.query_row(
        "SELECT coalesce(sum(length(CAST(message AS BLOB))), 0) FROM log_events WHERE group_id = ?1",
        [group_id],
        |row| row.get(0),
    )
}

/// The streams of a group, by name.
pub fn streams(db: &Connection, group_id: i64) -> rusqlite::Result<Vec<Stream>> {
    db.prepare_cached(
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

/// Passes the events of a range to `take`, until it returns false.
pub fn scan(db: &Connection, range: Range, mut take: impl FnMut(Event) -> bool) -> rusqlite::Result<()> {
    let owner = if range.stream_id.is_some() { "stream_id" } else { "group_id" };
    let order = if range.newest_first { "DESC" } else { "ASC" };
    let sql = format!(
        "SELECT e.timestamp_ms, e.id, s.name, e.ingested_ms, e.message
         FROM log_events e JOIN log_streams s ON s.id = e.stream_id
         WHERE e.{owner} = ?1 AND (e.timestamp_ms, e.id) >= (?2, ?3) AND (e.timestamp_ms, e.id) < (?4, ?5)
         ORDER BY e.timestamp_ms {order}, e.id {order}"
    );
    let mut statement = db.prepare_cached(&sql)?;
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

/// Deletes up to `limit` expired events of all groups; returns how many.
pub fn sweep(store: &Store, now_ms: i64, limit: usize) -> Result<usize, StoreError> {
    store.write(|tx| {
        tx.execute(
            "DELETE FROM log_events WHERE id IN (
                 SELECT e.id FROM log_groups g JOIN log_events e ON e.group_id = g.id
                 WHERE g.retention_days IS NOT NULL AND e.timestamp_ms < ?1 - g.retention_days * 86400000
                 LIMIT ?2)",
            params![now_ms, limit as i64],
        )
    })
}

/// Deletes all expired events of a group, before somebody reads it.
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
