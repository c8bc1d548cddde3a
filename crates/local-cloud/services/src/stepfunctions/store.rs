//! The tables of Step Functions, and the executions in them: trees, history events, task tokens, and the
//! status changes that wait to be published. Each step is written in one transaction.

use cloud_core::store::{Store, StoreError};
use cloud_languages::states::history::HistoryEvent;
use cloud_languages::states::machine::{Effects, due};
use cloud_languages::states::tree::{Execution, Meta};
use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension as _, Result, Row, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::shown::status_change;

pub const TABLES: &str = "CREATE TABLE IF NOT EXISTS sfn_machines (
            name TEXT PRIMARY KEY, arn TEXT NOT NULL, revision TEXT NOT NULL, created_ms INTEGER NOT NULL,
            tags TEXT NOT NULL);
        CREATE TABLE IF NOT EXISTS sfn_revisions (
            revision TEXT PRIMARY KEY, machine TEXT NOT NULL, settings TEXT NOT NULL, created_ms INTEGER NOT NULL);
        CREATE TABLE IF NOT EXISTS sfn_executions (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, machine TEXT NOT NULL, name TEXT NOT NULL,
            status TEXT NOT NULL, due_ms INTEGER, tree TEXT NOT NULL, UNIQUE (machine, name));
        CREATE INDEX IF NOT EXISTS sfn_due ON sfn_executions (due_ms) WHERE due_ms IS NOT NULL;
        CREATE INDEX IF NOT EXISTS sfn_by_status ON sfn_executions (status, seq);
        CREATE TABLE IF NOT EXISTS sfn_events (
            execution INTEGER NOT NULL REFERENCES sfn_executions (seq) ON DELETE CASCADE,
            id INTEGER NOT NULL, event TEXT NOT NULL, PRIMARY KEY (execution, id)) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS sfn_tokens (token TEXT PRIMARY KEY, execution INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS sfn_outbox (
            id INTEGER PRIMARY KEY AUTOINCREMENT, resource TEXT NOT NULL, detail TEXT NOT NULL);";

/// A stored execution.
#[derive(Debug)]
pub struct Record {
    /// Orders executions by their start, and is the key of their events.
    pub seq: i64,
    pub execution: Execution,
}

fn to_text<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::ToSqlConversionFailure(Box::new(error)))
}

fn from_text<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|error| Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}

fn record(row: &Row<'_>) -> Result<Record> {
    let tree: String = row.get("tree")?;
    Ok(Record { seq: row.get("seq")?, execution: from_text(&tree)? })
}

pub fn find(connection: &Connection, machine: &str, name: &str) -> Result<Option<Record>> {
    let query = "SELECT seq, tree FROM sfn_executions WHERE machine = ?1 AND name = ?2";
    connection.query_row(query, [machine, name], record).optional()
}

pub fn get(connection: &Connection, seq: i64) -> Result<Option<Record>> {
    connection.query_row("SELECT seq, tree FROM sfn_executions WHERE seq = ?1", [seq], record).optional()
}

/// The execution that a task token belongs to.
pub fn of_token(connection: &Connection, token: &str) -> Result<Option<i64>> {
    let query = "SELECT execution FROM sfn_tokens WHERE token = ?1";
    connection.query_row(query, [token], |row| row.get(0)).optional()
}

/// Executions whose time has come.
pub fn due_now(connection: &Connection, now_ms: i64) -> Result<Vec<i64>> {
    connection
        .prepare_cached("SELECT seq FROM sfn_executions WHERE due_ms <= ?1 ORDER BY due_ms, seq")?
        .query_map([now_ms], |row| row.get(0))?
        .collect()
}

/// The next moment at which an execution is due.
pub fn next_due(connection: &Connection) -> Result<Option<i64>> {
    connection
        .query_row("SELECT min(due_ms) FROM sfn_executions WHERE due_ms IS NOT NULL", [], |row| row.get(0))
}

pub fn running(connection: &Connection) -> Result<Vec<Record>> {
    connection
        .prepare("SELECT seq, tree FROM sfn_executions WHERE status = 'RUNNING' ORDER BY seq")?
        .query_map([], record)?
        .collect()
}

/// Inserts a new execution, in place of `instead` if given; returns its key.
pub fn insert(transaction: &Transaction<'_>, execution: &Execution, instead: Option<i64>) -> Result<i64> {
    if let Some(seq) = instead {
        transaction.execute("DELETE FROM sfn_executions WHERE seq = ?1", [seq])?;
    }
    let meta = &execution.meta;
    let (status, tree) = (meta.status.name(), to_text(execution)?);
    transaction
        .prepare_cached(
            "INSERT INTO sfn_executions (machine, name, status, due_ms, tree) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![meta.machine_name, meta.name, status, due(execution), tree])?;
    Ok(transaction.last_insert_rowid())
}

pub fn update(transaction: &Transaction<'_>, record: &Record) -> Result<()> {
    let (execution, status) = (&record.execution, record.execution.meta.status.name());
    transaction
        .prepare_cached("UPDATE sfn_executions SET status = ?2, due_ms = ?3, tree = ?4 WHERE seq = ?1")?
        .execute(params![record.seq, status, due(execution), to_text(execution)?])
        .map(drop)
}

/// Writes the history events and task tokens of a step.
pub fn add(transaction: &Transaction<'_>, seq: i64, effects: &Effects) -> Result<()> {
    let mut insert =
        transaction.prepare_cached("INSERT INTO sfn_events (execution, id, event) VALUES (?1, ?2, ?3)")?;
    for event in &effects.events {
        insert.execute(params![seq, event.id as i64, to_text(event)?])?;
    }
    for token in &effects.tokens {
        transaction
            .prepare_cached("INSERT OR REPLACE INTO sfn_tokens (token, execution) VALUES (?1, ?2)")?
            .execute(params![token, seq])?;
    }
    Ok(())
}

/// Queues a status change to be published.
pub fn announce(transaction: &Transaction<'_>, meta: &Meta) -> Result<()> {
    transaction
        .prepare_cached("INSERT INTO sfn_outbox (resource, detail) VALUES (?1, ?2)")?
        .execute(params![meta.arn, status_change(meta).to_string()])
        .map(drop)
}

/// The oldest status changes that wait: id, resource and detail.
pub fn announced(connection: &Connection) -> Result<Vec<(i64, String, String)>> {
    connection
        .prepare_cached("SELECT id, resource, detail FROM sfn_outbox ORDER BY id LIMIT 100")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
}

/// How long an execution is kept after its end. Then its history is gone, and its name is free.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>
/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html>
pub const KEPT_MS: i64 = 90 * 24 * 60 * 60 * 1000;

/// Deletes at most `most` expired executions with their events, and at most as many tokens without an
/// execution; returns how many.
pub fn sweep(store: &Store, now_ms: i64, most: usize) -> std::result::Result<usize, StoreError> {
    let oldest_ms = now_ms - KEPT_MS;
    // In the order of their starts, up to the first that began too late to have expired: in a store without
    // old executions this reads one row.
    let expired = store.read(|connection| {
        let mut statement = connection.prepare_cached(
            "SELECT seq, json_extract(tree, '$.meta.started_ms'), json_extract(tree, '$.meta.stopped_ms')
             FROM sfn_executions ORDER BY seq",
        )?;
        let (mut rows, mut expired) = (statement.query([])?, Vec::new());
        while expired.len() < most
            && let Some(row) = rows.next()?
            && row.get::<_, i64>(1)? < oldest_ms
        {
            if row.get::<_, Option<i64>>(2)?.is_some_and(|stopped_ms| stopped_ms < oldest_ms) {
                expired.push(row.get::<_, i64>(0)?);
            }
        }
        Ok(expired)
    })?;
    store.write(|transaction| {
        for seq in &expired {
            transaction.execute("DELETE FROM sfn_executions WHERE seq = ?1", [seq])?;
        }
        let orphans = transaction.execute(
            "DELETE FROM sfn_tokens WHERE token IN (SELECT token FROM sfn_tokens
                 WHERE NOT EXISTS (SELECT 1 FROM sfn_executions WHERE seq = execution) LIMIT ?1)",
            [most as i64],
        )?;
        Ok(expired.len().max(orphans))
    })
}

/// One page of a history: the events after `last` in the given order, or from its beginning.
pub fn history(
    connection: &Connection,
    seq: i64,
    reverse: bool,
    last: Option<i64>,
    count: i64,
) -> Result<Vec<HistoryEvent>> {
    let sql = if reverse {
        "SELECT event FROM sfn_events WHERE execution = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3"
    } else {
        "SELECT event FROM sfn_events WHERE execution = ?1 AND id > ?2 ORDER BY id LIMIT ?3"
    };
    let last = last.unwrap_or(if reverse { i64::MAX } else { 0 });
    connection
        .prepare_cached(sql)?
        .query_map(params![seq, last, count], |row| from_text(&row.get::<_, String>(0)?))?
        .collect()
}

/// One page of a machine's executions, newest first.
pub fn list(
    connection: &Connection,
    machine: &str,
    status: Option<&str>,
    before: i64,
    count: i64,
) -> Result<Vec<Record>> {
    connection
        .prepare_cached(
            "SELECT seq, tree FROM sfn_executions
             WHERE machine = ?1 AND seq < ?2 AND (?3 IS NULL OR status = ?3) ORDER BY seq DESC LIMIT ?4",
        )?
        .query_map(params![machine, before, status, count], record)?
        .collect()
}
