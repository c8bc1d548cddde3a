//! The asynchronous invocations in the store.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use cloud_core::store::{Store, StoreError};
use rusqlite::params;

pub(super) const TABLES: &str = "CREATE TABLE IF NOT EXISTS lambda_events (
    request_id TEXT PRIMARY KEY, function TEXT NOT NULL, payload BLOB NOT NULL, accepted_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, throttled INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX IF NOT EXISTS lambda_events_due ON lambda_events (due_ms);";

/// An accepted event.
pub(super) struct Event {
    pub request_id: String,
    pub function: String,
    pub payload: Bytes,
    pub accepted_ms: i64,
    pub attempts: u32,
    pub throttled: u32,
}

fn read_event(row: &rusqlite::Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        request_id: row.get(0)?,
        function: row.get(1)?,
        payload: row.get::<_, Vec<u8>>(2)?.into(),
        accepted_ms: row.get(3)?,
        attempts: row.get(4)?,
        throttled: row.get(5)?,
    })
}

pub(super) fn insert(
    store: &Store,
    request_id: &str,
    function: &str,
    payload: &[u8],
    now_ms: i64,
) -> Result<(), StoreError> {
    let statement = "INSERT INTO lambda_events (request_id, function, payload, accepted_ms, due_ms)
                     VALUES (?1, ?2, ?3, ?4, ?4)";
    store.write(|tx| tx.execute(statement, params![request_id, function, payload, now_ms]).map(drop))
}

/// The events that are due and not `under_way`, as long as there is room for `most` under way; and the time
/// at which the next one is due.
pub(super) fn due(
    store: &Store,
    now_ms: i64,
    under_way: &HashSet<String>,
    most: usize,
) -> Result<(Vec<Event>, Option<i64>), StoreError> {
    store.read(|c| {
        let mut ids: Vec<String> = c
            .prepare_cached(
                "SELECT request_id FROM lambda_events WHERE due_ms <= ?1 ORDER BY due_ms LIMIT ?2",
            )?
            .query_map(params![now_ms, most as i64], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        ids.retain(|request_id| !under_way.contains(request_id));
        ids.truncate(most.saturating_sub(under_way.len()));
        let mut event = c.prepare_cached(
            "SELECT request_id, function, payload, accepted_ms, attempts, throttled FROM lambda_events
             WHERE request_id = ?1",
        )?;
        let events = ids.iter().map(|request_id| event.query_row([request_id], read_event));
        let events = events.collect::<Result<Vec<_>, _>>()?;
        let next = "SELECT min(due_ms) FROM lambda_events WHERE due_ms > ?1";
        Ok((events, c.query_row(next, [now_ms], |row| row.get(0))?))
    })
}

pub(super) fn delete(store: &Store, request_id: &str) -> Result<(), StoreError> {
    store.write(|tx| tx.execute("DELETE FROM lambda_events WHERE request_id = ?1", [request_id]).map(drop))
}

/// Sets when an event is due again, and counts up `counter`: `attempts` or `throttled`.
pub(super) fn postpone(
    store: &Store,
    request_id: &str,
    counter: &str,
    due_ms: i64,
) -> Result<(), StoreError> {
    let statement =
        format!("UPDATE lambda_events SET {counter} = {counter} + 1, due_ms = ?2 WHERE request_id = ?1");
    store.write(|tx| tx.execute(&statement, params![request_id, due_ms]).map(drop))
}

/// How many events failed or were throttled and are due again, by function.
pub(super) fn retrying(store: &Store) -> Result<BTreeMap<String, u64>, StoreError> {
    store.read(|db| {
        let statement =
            "SELECT function, count(*) FROM lambda_events WHERE attempts + throttled > 0 GROUP BY function";
        db.prepare(statement)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    })
}

/// How many events of a function are not delivered yet.
pub(super) fn pending(store: &Store, function: &str) -> Result<u64, StoreError> {
    store.read(|db| {
        db.query_row("SELECT count(*) FROM lambda_events WHERE function = ?1", [function], |row| row.get(0))
    })
}
