//! The tables of Step Functions: machines, the revisions that executions run, executions
//! with their trees, history events, task tokens, and status changes still to be published.
//! A step is written in one transaction.

use cloud_core::store::{Store, StoreError};
use cloud_languages::states::history::{HistoryEvent, seconds};
use cloud_languages::states::machine::{Effects, HISTORY_LIMIT, due};
use cloud_languages::states::tree::{Execution, Meta, Status};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde_json::{Value, json};

/// Creates the tables.
///
/// # Errors
/// When the store refuses.
pub fn create(store: &Store) -> Result<(), StoreError> {
    store.migrate(
        "CREATE TABLE IF NOT EXISTS sfn_machines (
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
            id INTEGER PRIMARY KEY AUTOINCREMENT, resource TEXT NOT NULL, detail TEXT NOT NULL);",
    )
}

/// A stored execution.
#[derive(Debug)]
pub struct Record {
    /// Orders executions by their start, and keys their events.
    pub seq: i64,
    /// The execution.
    pub execution: Execution,
}

fn record(row: &rusqlite::Row<'_>) -> rusqlite::Result<Record> {
    let tree: String = row.get("tree")?;
    let execution = serde_json::from_str(&tree).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(Record { seq: row.get("seq")?, execution })
}

/// The execution of that machine and name.
///
/// # Errors
/// When SQLite refuses.
pub fn find(connection: &Connection, machine: &str, name: &str) -> rusqlite::Result<Option<Record>> {
    connection
        .query_row(
            "SELECT seq, tree FROM sfn_executions WHERE machine = ?1 AND name = ?2",
            [machine, name],
            record,
        )
        .optional()
}

/// The execution with that key.
///
/// # Errors
/// When SQLite refuses.
pub fn get(connection: &Connection, seq: i64) -> rusqlite::Result<Option<Record>> {
    connection.query_row("SELECT seq, tree FROM sfn_executions WHERE seq = ?1", [seq], record).optional()
}

/// The execution that a task token belongs to.
///
/// # Errors
/// When SQLite refuses.
pub fn of_token(connection: &Connection, token: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .query_row("SELECT execution FROM sfn_tokens WHERE token = ?1", [token], |row| row.get(0))
        .optional()
}

/// Executions whose time has come.
///
/// # Errors
/// When SQLite refuses.
pub fn due_now(connection: &Connection, now_ms: i64) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached("SELECT seq FROM sfn_executions WHERE due_ms <= ?1 ORDER BY due_ms, seq")?
        .query_map([now_ms], |row| row.get(0))?
        .collect()
}

/// The next moment at which an execution is due.
///
/// # Errors
/// When SQLite refuses.
pub fn next_due(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection
        .query_row("SELECT min(due_ms) FROM sfn_executions WHERE due_ms IS NOT NULL", [], |row| row.get(0))
}

/// All executions that run.
///
/// # Errors
/// When SQLite refuses.
pub fn running(connection: &Connection) -> rusqlite::Result<Vec<Record>> {
    connection
        .prepare("SELECT seq, tree FROM sfn_executions WHERE status = 'RUNNING' ORDER BY seq")?
        .query_map([], record)?
        .collect()
}

/// Puts a new execution into the place of `instead`, where there is one, and gives its key.
///
/// # Errors
/// When SQLite refuses.
pub fn insert(
    transaction: &Transaction<'_>,
    execution: &Execution,
    instead: Option<i64>,
) -> rusqlite::Result<i64> {
    if let Some(seq) = instead {
        transaction.execute("DELETE FROM sfn_executions WHERE seq = ?1", [seq])?;
    }
    let meta = &execution.meta;
    transaction
        .prepare_cached(
            "INSERT INTO sfn_executions (machine, name, status, due_ms, tree) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            meta.machine_name,
            meta.name,
            meta.status.name(),
            due(execution),
            text(execution)?
        ])?;
    Ok(transaction.last_insert_rowid())
}

/// Writes the new tree of an execution.
///
/// # Errors
/// When SQLite refuses.
pub fn update(transaction: &Transaction<'_>, record: &Record) -> rusqlite::Result<()> {
    let (execution, status) = (&record.execution, record.execution.meta.status.name());
    transaction
        .prepare_cached("UPDATE sfn_executions SET status = ?2, due_ms = ?3, tree = ?4 WHERE seq = ?1")?
        .execute(params![record.seq, status, due(execution), text(execution)?])
        .map(drop)
}

/// How long an execution is kept after its end: its history is there no longer, and its name may
/// be used again.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>
/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html>
pub const KEPT_MS: i64 = 90 * 24 * 60 * 60 * 1000;

/// Deletes so many executions at most that are kept no longer, with their events, and so many
/// tokens at most that belong to no execution; how many.
///
/// # Errors
/// When the store refuses.
pub fn sweep(store: &Store, now_ms: i64, most: usize) -> Result<usize, StoreError> {
    let oldest_ms = now_ms - KEPT_MS;
    let (mut expired, mut last) = (Vec::new(), 0_i64);
    // In the order of their starts, and not beyond the first that began too late to have expired:
    // in a store without old executions this reads one row.
    'rows: while expired.len() < most {
        let rows = store.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT seq, json_extract(tree, '$.meta.started_ms'), json_extract(tree, '$.meta.stopped_ms')
                     FROM sfn_executions WHERE seq > ?1 ORDER BY seq LIMIT 20",
                )?
                .query_map([last], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<rusqlite::Result<Vec<(i64, i64, Option<i64>)>>>()
        })?;
        if rows.is_empty() {
            break;
        }
        for (seq, started_ms, stopped_ms) in rows {
            if started_ms >= oldest_ms || expired.len() == most {
                break 'rows;
            }
            if stopped_ms.is_some_and(|stopped_ms| stopped_ms < oldest_ms) {
                expired.push(seq);
            }
            last = seq;
        }
    }
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

/// Writes what a step has made beside the tree: history events and task tokens.
///
/// # Errors
/// When SQLite refuses.
pub fn add(transaction: &Transaction<'_>, seq: i64, effects: &Effects) -> rusqlite::Result<()> {
    let mut insert =
        transaction.prepare_cached("INSERT INTO sfn_events (execution, id, event) VALUES (?1, ?2, ?3)")?;
    for event in &effects.events {
        insert.execute(params![seq, event.id as i64, text(event)?])?;
    }
    for token in &effects.tokens {
        transaction
            .prepare_cached("INSERT OR REPLACE INTO sfn_tokens (token, execution) VALUES (?1, ?2)")?
            .execute(params![token, seq])?;
    }
    Ok(())
}

/// Puts a status change where it waits to be published.
///
/// # Errors
/// When SQLite refuses.
pub fn announce(transaction: &Transaction<'_>, meta: &Meta) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT INTO sfn_outbox (resource, detail) VALUES (?1, ?2)")?
        .execute(params![meta.arn, status_change(meta).to_string()])
        .map(drop)
}

fn text<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// How long an execution can be redriven after it ended without success.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/redrive-executions.html>
const REDRIVABLE_MS: i64 = 14 * 24 * 60 * 60 * 1000;

/// `redriveStatus` and the reason for it. The action itself, `RedriveExecution`, is not emulated.
/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_DescribeExecution.html>
pub fn redrive_status(meta: &Meta, now_ms: i64) -> (&'static str, Option<String>) {
    let reason = match meta.status {
        Status::Running | Status::Succeeded => {
            format!("Execution is {} and cannot be redriven", meta.status.name())
        }
        _ if meta.last_event >= HISTORY_LIMIT - 1 => "Execution history event limit exceeded".into(),
        _ if meta.stopped_ms.is_some_and(|stopped| stopped + REDRIVABLE_MS < now_ms) => {
            "Execution redrivable period exceeded".into()
        }
        _ => return ("REDRIVABLE", None),
    };
    ("NOT_REDRIVABLE", Some(reason))
}

/// Input and output leave the event where they would not fit into it: together more than
/// 248 KiB, escaped, leaves out the input, the output alone the output.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html>
const DATA_LIMIT: usize = 248 * 1024;

/// The detail of `Step Functions Execution Status Change`; members that do not apply are null.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html>
pub fn status_change(meta: &Meta) -> Value {
    let escaped = |text: &str| Value::from(text).to_string().len();
    let output_size = meta.output.as_deref().map_or(0, escaped);
    let with_input = escaped(&meta.input) + output_size <= DATA_LIMIT;
    let with_output = output_size <= DATA_LIMIT;
    let failure = meta.failure.as_ref();
    let (redrive_status, redrive_reason) = redrive_status(meta, meta.stopped_ms.unwrap_or(meta.started_ms));
    json!({
        "executionArn": meta.arn,
        "stateMachineArn": meta.machine_arn,
        "name": meta.name,
        "status": meta.status.name(),
        "startDate": meta.started_ms,
        "stopDate": meta.stopped_ms,
        "input": with_input.then_some(&meta.input),
        "output": meta.output.as_ref().filter(|_| with_output),
        "stateMachineVersionArn": null,
        "stateMachineAliasArn": null,
        "redriveCount": 0,
        "redriveDate": null,
        "redriveStatus": redrive_status,
        "redriveStatusReason": redrive_reason,
        "inputDetails": {"included": with_input},
        "outputDetails": meta.output.as_ref().map(|_| json!({"included": with_output})),
        "error": failure.and_then(|failure| failure.error.clone()),
        "cause": failure.and_then(|failure| failure.cause.clone()),
    })
}

/// One page of a history: the events after `last` in the given order, or from its beginning.
///
/// # Errors
/// When SQLite refuses.
pub fn history(
    connection: &Connection,
    seq: i64,
    reverse: bool,
    last: Option<i64>,
    count: i64,
) -> rusqlite::Result<Vec<HistoryEvent>> {
    let sql = if reverse {
        "SELECT event FROM sfn_events WHERE execution = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3"
    } else {
        "SELECT event FROM sfn_events WHERE execution = ?1 AND id > ?2 ORDER BY id LIMIT ?3"
    };
    let last = last.unwrap_or(if reverse { i64::MAX } else { 0 });
    connection
        .prepare_cached(sql)?
        .query_map(params![seq, last, count], |row| row.get::<_, String>(0))?
        .map(|event| {
            serde_json::from_str(&event?).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
            })
        })
        .collect()
}

/// One page of a machine's executions, newest first.
///
/// # Errors
/// When SQLite refuses.
pub fn list(
    connection: &Connection,
    machine: &str,
    status: Option<&str>,
    before: i64,
    count: i64,
) -> rusqlite::Result<Vec<Record>> {
    connection
        .prepare_cached(
            "SELECT seq, tree FROM sfn_executions
             WHERE machine = ?1 AND seq < ?2 AND (?3 IS NULL OR status = ?3) ORDER BY seq DESC LIMIT ?4",
        )?
        .query_map(params![machine, before, status, count], record)?
        .collect()
}

/// An execution as `ListExecutions` gives it.
pub fn summary(meta: &Meta) -> Value {
    let mut item = json!({
        "executionArn": meta.arn,
        "stateMachineArn": meta.machine_arn,
        "name": meta.name,
        "status": meta.status.name(),
        "startDate": seconds(meta.started_ms),
        "redriveCount": 0,
    });
    if let Some(stopped) = meta.stopped_ms {
        item["stopDate"] = seconds(stopped).into();
    }
    item
}
