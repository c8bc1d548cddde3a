//! The tables of buses, policies, rules, targets, archives, replays and pending deliveries. Times (`_ms`)
//! are in milliseconds since the epoch.

use std::collections::HashSet;

use cloud_core::Cloud;
use cloud_core::store::{Store, StoreError};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::target::Target;

/// The bus that exists without being created.
pub const DEFAULT_BUS: &str = "default";

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS events_buses (
    name TEXT PRIMARY KEY, description TEXT, tags TEXT NOT NULL, created_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS events_policies (
    bus TEXT NOT NULL REFERENCES events_buses ON DELETE CASCADE, sid TEXT NOT NULL, statement TEXT NOT NULL,
    from_template INTEGER NOT NULL, PRIMARY KEY (bus, sid));
CREATE TABLE IF NOT EXISTS events_rules (
    bus TEXT NOT NULL, name TEXT NOT NULL, description TEXT, pattern TEXT NOT NULL, state TEXT NOT NULL,
    role_arn TEXT, tags TEXT NOT NULL, from_template INTEGER NOT NULL, declared_state TEXT, PRIMARY KEY (bus, name));
CREATE TABLE IF NOT EXISTS events_targets (
    bus TEXT NOT NULL, rule TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (bus, rule, id),
    FOREIGN KEY (bus, rule) REFERENCES events_rules ON DELETE CASCADE);
CREATE TABLE IF NOT EXISTS events_archives (
    name TEXT PRIMARY KEY, bus TEXT NOT NULL, pattern TEXT, description TEXT, retention_days INTEGER NOT NULL,
    created_ms INTEGER NOT NULL, from_template INTEGER NOT NULL DEFAULT 1);
CREATE TABLE IF NOT EXISTS events_archived (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    archive TEXT NOT NULL REFERENCES events_archives ON DELETE CASCADE,
    time_ms INTEGER NOT NULL, event TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_archived_by_time ON events_archived (archive, time_ms, id);
CREATE TABLE IF NOT EXISTS events_replays (
    name TEXT PRIMARY KEY, description TEXT, archive TEXT NOT NULL, bus TEXT NOT NULL, filters TEXT NOT NULL,
    from_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL, state TEXT NOT NULL,
    at_ms INTEGER, at_id INTEGER NOT NULL, started_ms INTEGER NOT NULL, ended_ms INTEGER);
CREATE TABLE IF NOT EXISTS events_deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, target_arn TEXT NOT NULL, target TEXT NOT NULL, rule_arn TEXT NOT NULL,
    event TEXT NOT NULL, accepted_ms INTEGER NOT NULL, attempts INTEGER NOT NULL, due_ms INTEGER NOT NULL,
    burial TEXT);
CREATE INDEX IF NOT EXISTS events_deliveries_due ON events_deliveries (target_arn, due_ms, id);
";

/// Creates the tables, and the default bus; [`date_default_bus`] gives it a time, which the store has not.
pub fn open(store: &Store) -> Result<(), StoreError> {
    store.migrate(TABLES)?;
    store.write(|tx| {
        tx.execute("INSERT OR IGNORE INTO events_buses VALUES (?1, NULL, '{}', 0)", [DEFAULT_BUS]).map(drop)
    })
}

pub fn date_default_bus(cloud: &Cloud) -> Result<(), StoreError> {
    let now_ms = cloud.clock.now_ms();
    cloud.store.write(|tx| {
        tx.execute("UPDATE events_buses SET created_ms = ?1 WHERE created_ms = 0", [now_ms]).map(drop)
    })
}

fn json_column<T: DeserializeOwned>(row: &Row<'_>, index: usize) -> rusqlite::Result<T> {
    let text: String = row.get(index)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn json_text(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

#[derive(Debug)]
pub struct Bus {
    pub name: String,
    pub description: Option<String>,
    /// An object of texts.
    pub tags: Value,
    pub created_ms: i64,
}

const BUS: &str = "SELECT name, description, tags, created_ms FROM events_buses";

impl Bus {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            name: row.get(0)?,
            description: row.get(1)?,
            tags: json_column(row, 2)?,
            created_ms: row.get(3)?,
        })
    }
}

/// All buses, by name.
pub fn buses(db: &Connection) -> rusqlite::Result<Vec<Bus>> {
    db.prepare_cached(&format!("{BUS} ORDER BY name"))?.query_map([], Bus::of)?.collect()
}

pub fn bus(db: &Connection, name: &str) -> rusqlite::Result<Option<Bus>> {
    db.prepare_cached(&format!("{BUS} WHERE name = ?1"))?.query_row([name], Bus::of).optional()
}

/// Creates or updates a bus; its time of creation stays.
pub fn put_bus(tx: &Transaction<'_>, bus: &Bus) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO events_buses VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (name) DO UPDATE SET description = excluded.description, tags = excluded.tags",
        params![bus.name, bus.description, bus.tags.to_string(), bus.created_ms],
    )
    .map(drop)
}

/// The statements of a bus's policy, in the order in which they were added.
pub fn statements(db: &Connection, bus: &str) -> rusqlite::Result<Vec<Value>> {
    db.prepare_cached("SELECT statement FROM events_policies WHERE bus = ?1 ORDER BY rowid")?
        .query_map([bus], |row| json_column(row, 0))?
        .collect()
}

/// Adds a template's statement, or replaces the one with its id.
pub fn put_statement(tx: &Transaction<'_>, bus: &str, statement: &Value) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO events_policies VALUES (?1, ?2, ?3, ?4) ON CONFLICT (bus, sid) DO UPDATE SET
         statement = excluded.statement, from_template = excluded.from_template",
        params![bus, statement["Sid"].as_str(), statement.to_string(), true],
    )
    .map(drop)
}

/// A rule without its targets.
#[derive(Debug)]
pub struct Rule {
    pub bus: String,
    pub name: String,
    pub description: Option<String>,
    pub pattern: String,
    /// `ENABLED` or `DISABLED`.
    pub state: String,
    /// No effect here.
    pub role_arn: Option<String>,
    /// An object of texts.
    pub tags: Value,
    /// Whether the template declares it, rather than an API caller.
    pub from_template: bool,
    /// The state in the last template.
    pub declared_state: Option<String>,
}

const RULE: &str =
    "SELECT bus, name, description, pattern, state, role_arn, tags, from_template, declared_state
    FROM events_rules WHERE bus = ?1";

impl Rule {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            bus: row.get(0)?,
            name: row.get(1)?,
            description: row.get(2)?,
            pattern: row.get(3)?,
            state: row.get(4)?,
            role_arn: row.get(5)?,
            tags: json_column(row, 6)?,
            from_template: row.get(7)?,
            declared_state: row.get(8)?,
        })
    }
}

/// The rules of a bus, by name.
pub fn rules(db: &Connection, bus: &str) -> rusqlite::Result<Vec<Rule>> {
    db.prepare_cached(&format!("{RULE} ORDER BY name"))?.query_map([bus], Rule::of)?.collect()
}

pub fn rule(db: &Connection, bus: &str, name: &str) -> rusqlite::Result<Option<Rule>> {
    db.prepare_cached(&format!("{RULE} AND name = ?2"))?.query_row([bus, name], Rule::of).optional()
}

/// Creates or replaces a rule; its targets stay.
pub fn put_rule(tx: &Transaction<'_>, rule: &Rule) -> rusqlite::Result<()> {
    let Rule { bus, name, description, pattern, state, role_arn, tags, from_template, declared_state } = rule;
    let tags = tags.to_string();
    tx.execute(
        "INSERT INTO events_rules VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (bus, name) DO UPDATE SET description = excluded.description, pattern = excluded.pattern,
         state = excluded.state, role_arn = excluded.role_arn, tags = excluded.tags,
         from_template = excluded.from_template, declared_state = excluded.declared_state",
        params![bus, name, description, pattern, state, role_arn, tags, from_template, declared_state],
    )
    .map(drop)
}

/// The targets of a rule, by id.
pub fn targets(db: &Connection, bus: &str, rule: &str) -> rusqlite::Result<Vec<Target>> {
    db.prepare_cached("SELECT body FROM events_targets WHERE bus = ?1 AND rule = ?2 ORDER BY id")?
        .query_map([bus, rule], |row| json_column(row, 0))?
        .collect()
}

pub fn put_target(tx: &Transaction<'_>, bus: &str, rule: &str, target: &Target) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT OR REPLACE INTO events_targets VALUES (?1, ?2, ?3, ?4)",
        params![bus, rule, target.id, json_text(target)?],
    )
    .map(drop)
}

#[derive(Debug)]
pub struct Archive {
    pub name: String,
    pub bus: String,
    pub pattern: Option<String>,
    pub description: Option<String>,
    /// Days; 0 keeps events for ever.
    pub retention_days: i64,
    pub created_ms: i64,
    /// Whether the template declares it, rather than an API caller.
    pub from_template: bool,
}

/// All archives, by name.
pub fn archives(db: &Connection) -> rusqlite::Result<Vec<Archive>> {
    db.prepare_cached(
        "SELECT name, bus, pattern, description, retention_days, created_ms, from_template
         FROM events_archives ORDER BY name",
    )?
    .query_map([], |row| {
        Ok(Archive {
            name: row.get(0)?,
            bus: row.get(1)?,
            pattern: row.get(2)?,
            description: row.get(3)?,
            retention_days: row.get(4)?,
            created_ms: row.get(5)?,
            from_template: row.get(6)?,
        })
    })?
    .collect()
}

/// Creates or updates an archive; its events stay.
pub fn put_archive(tx: &Transaction<'_>, archive: &Archive) -> rusqlite::Result<()> {
    let Archive { name, bus, pattern, description, retention_days, created_ms, from_template } = archive;
    tx.execute(
        "INSERT INTO events_archives VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (name) DO UPDATE SET bus = excluded.bus, pattern = excluded.pattern,
         description = excluded.description, retention_days = excluded.retention_days,
         from_template = excluded.from_template",
        params![name, bus, pattern, description, retention_days, created_ms, from_template],
    )
    .map(drop)
}

pub fn archive_event(tx: &Transaction<'_>, archive: &str, time_ms: i64, event: &str) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT INTO events_archived (archive, time_ms, event) VALUES (?1, ?2, ?3)")?
        .execute(params![archive, time_ms, event])
        .map(drop)
}

/// How many events an archive has, and how many bytes.
pub fn archive_size(db: &Connection, archive: &str) -> rusqlite::Result<(i64, i64)> {
    db.query_row(
        "SELECT count(*), coalesce(sum(length(CAST(event AS BLOB))), 0) FROM events_archived WHERE archive = ?1",
        [archive],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

/// Deletes all expired events of an archive, before somebody reads it.
pub fn expire(tx: &Transaction<'_>, archive: &Archive, now_ms: i64) -> rusqlite::Result<()> {
    if archive.retention_days == 0 {
        return Ok(());
    }
    let oldest_ms = now_ms - archive.retention_days * 86_400_000;
    tx.execute(
        "DELETE FROM events_archived WHERE archive = ?1 AND time_ms < ?2",
        params![archive.name, oldest_ms],
    )
    .map(drop)
}

/// Deletes up to `limit` expired events of all archives; returns how many.
pub fn sweep(tx: &Transaction<'_>, now_ms: i64, limit: usize) -> rusqlite::Result<usize> {
    tx.execute(
        "DELETE FROM events_archived WHERE id IN (
             SELECT e.id FROM events_archives a JOIN events_archived e ON e.archive = a.name
             WHERE a.retention_days > 0 AND e.time_ms < ?1 - a.retention_days * 86400000 LIMIT ?2)",
        params![now_ms, limit as i64],
    )
}

/// An event on its way to one target.
#[derive(Debug)]
pub struct Delivery {
    pub id: i64,
    /// The target as it was when the event matched.
    pub target: Target,
    pub rule_arn: String,
    pub event: String,
    pub accepted_ms: i64,
    /// Failed attempts so far.
    pub attempts: i64,
    /// Set once the target is given up, and only the dead-letter queue is tried.
    pub burial: Option<Burial>,
}

/// Why a delivery was given up: its last error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Burial {
    pub code: String,
    pub message: String,
    pub status: u16,
    /// The limit that was reached, if any: `MaximumRetryAttempts` or `MaximumEventAgeInSeconds`.
    pub exhausted: Option<String>,
}

/// The next step of a delivery after an attempt.
#[derive(Debug)]
pub enum Next {
    Done,
    /// Try the target again at this time.
    Again(i64),
    /// Try the dead-letter queue again at this time.
    Bury(i64, Burial),
}

/// Stores a delivery of an event that is accepted now.
pub fn add_delivery(
    tx: &Transaction<'_>,
    target: &Target,
    rule_arn: &str,
    event: &str,
    now_ms: i64,
    due_ms: i64,
) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO events_deliveries (target_arn, target, rule_arn, event, accepted_ms, attempts, due_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6)",
    )?
    .execute(params![target.arn, json_text(target)?, rule_arn, event, now_ms, due_ms])
    .map(drop)
}

/// Up to `limit` due deliveries of a target, without those that are under way.
pub fn due(
    db: &Connection,
    target_arn: &str,
    now_ms: i64,
    limit: usize,
    under_way: &HashSet<i64>,
) -> rusqlite::Result<Vec<Delivery>> {
    let mut query = db.prepare_cached(
        "SELECT id, target, rule_arn, event, accepted_ms, attempts, burial FROM events_deliveries
         WHERE target_arn = ?1 AND due_ms <= ?2 ORDER BY due_ms, id LIMIT ?3",
    )?;
    let mut rows = query.query(params![target_arn, now_ms, (limit + under_way.len()) as i64])?;
    let mut due = Vec::new();
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        if due.len() == limit {
            break;
        }
        if !under_way.contains(&id) {
            due.push(Delivery {
                id,
                target: json_column(row, 1)?,
                rule_arn: row.get(2)?,
                event: row.get(3)?,
                accepted_ms: row.get(4)?,
                attempts: row.get(5)?,
                burial: row.get_ref(6)?.as_str_or_null()?.map(|_| json_column(row, 6)).transpose()?,
            });
        }
    }
    Ok(due)
}

/// When the next delivery of a target is due, after now.
pub fn next_due(db: &Connection, target_arn: &str, now_ms: i64) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT min(due_ms) FROM events_deliveries WHERE target_arn = ?1 AND due_ms > ?2")?
        .query_row(params![target_arn, now_ms], |row| row.get(0))
}

/// The targets that have pending deliveries.
pub fn waiting_targets(db: &Connection) -> rusqlite::Result<Vec<String>> {
    db.prepare_cached("SELECT DISTINCT target_arn FROM events_deliveries")?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// Counts the deliveries to a target or from a rule whose ARN begins with `rules`.
pub fn pending(db: &Connection, target: &str, rules: &str) -> rusqlite::Result<u64> {
    db.query_row(
        "SELECT count(*) FROM events_deliveries WHERE target_arn = ?1 OR substr(rule_arn, 1, length(?2)) = ?2",
        [target, rules],
        |row| row.get(0),
    )
}

/// Deletes deliveries that are done, and postpones those that are tried again.
pub fn settle(tx: &Transaction<'_>, outcomes: &[(i64, Next)]) -> rusqlite::Result<()> {
    let mut delete = tx.prepare_cached("DELETE FROM events_deliveries WHERE id = ?1")?;
    let mut postpone =
        tx.prepare_cached("UPDATE events_deliveries SET due_ms = ?2, attempts = attempts + 1 WHERE id = ?1")?;
    let mut bury =
        tx.prepare_cached("UPDATE events_deliveries SET due_ms = ?2, burial = ?3 WHERE id = ?1")?;
    for (id, next) in outcomes {
        match next {
            Next::Done => delete.execute([id])?,
            Next::Again(due_ms) => postpone.execute(params![id, due_ms])?,
            Next::Bury(due_ms, burial) => bury.execute(params![id, due_ms, json_text(burial)?])?,
        };
    }
    Ok(())
}

#[derive(Debug)]
pub struct Replay {
    pub name: String,
    pub description: Option<String>,
    pub archive: String,
    pub bus: String,
    /// ARNs of the rules that get its events; all rules if empty.
    pub filters: Vec<String>,
    /// Events from this time on, in milliseconds since the epoch.
    pub from_ms: i64,
    /// Events before this time.
    pub until_ms: i64,
    /// `STARTING`, `RUNNING`, `COMPLETED` or `FAILED`.
    pub state: String,
    /// Time and row id of the last replayed event.
    pub at: Option<(i64, i64)>,
    pub started_ms: i64,
    /// `None` while it runs.
    pub ended_ms: Option<i64>,
}

const REPLAY: &str =
    "SELECT name, description, archive, bus, filters, from_ms, until_ms, state, at_ms, at_id,
    started_ms, ended_ms FROM events_replays";

impl Replay {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let at_ms: Option<i64> = row.get(8)?;
        let at_id = row.get(9)?;
        Ok(Self {
            name: row.get(0)?,
            description: row.get(1)?,
            archive: row.get(2)?,
            bus: row.get(3)?,
            filters: json_column(row, 4)?,
            from_ms: row.get(5)?,
            until_ms: row.get(6)?,
            state: row.get(7)?,
            at: at_ms.map(|at_ms| (at_ms, at_id)),
            started_ms: row.get(10)?,
            ended_ms: row.get(11)?,
        })
    }
}

/// All replays, by name.
pub fn replays(db: &Connection) -> rusqlite::Result<Vec<Replay>> {
    db.prepare_cached(&format!("{REPLAY} ORDER BY name"))?.query_map([], Replay::of)?.collect()
}

pub fn replay(db: &Connection, name: &str) -> rusqlite::Result<Option<Replay>> {
    db.prepare_cached(&format!("{REPLAY} WHERE name = ?1"))?.query_row([name], Replay::of).optional()
}

/// Creates a replay; false if the name is taken.
pub fn add_replay(tx: &Transaction<'_>, replay: &Replay) -> rusqlite::Result<bool> {
    let Replay { name, description, archive, bus, filters, from_ms, until_ms, state, started_ms, .. } =
        replay;
    let filters = json_text(filters)?;
    let added = tx.execute(
        "INSERT OR IGNORE INTO events_replays VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, NULL, 0, ?9, NULL)",
        params![name, description, archive, bus, filters, from_ms, until_ms, state, started_ms],
    )?;
    Ok(added == 1)
}

/// Stores the position of a running replay.
pub fn move_replay(tx: &Transaction<'_>, name: &str, at_ms: i64, at_id: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE events_replays SET state = 'RUNNING', at_ms = ?2, at_id = ?3 WHERE name = ?1 AND ended_ms IS NULL";
    tx.execute(sql, params![name, at_ms, at_id]).map(drop)
}

/// Ends a running replay with `COMPLETED` or `FAILED`.
pub fn end_replay(tx: &Transaction<'_>, name: &str, state: &str, now_ms: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE events_replays SET state = ?2, ended_ms = ?3 WHERE name = ?1 AND ended_ms IS NULL";
    tx.execute(sql, params![name, state, now_ms]).map(drop)
}

/// Up to `limit` archived events after a replay's position: row id, time, text.
pub fn archived(db: &Connection, replay: &Replay, limit: usize) -> rusqlite::Result<Vec<(i64, i64, String)>> {
    let (at_ms, at_id) = replay.at.unwrap_or((i64::MIN, 0));
    db.prepare_cached(
        "SELECT id, time_ms, event FROM events_archived
         WHERE archive = ?1 AND time_ms >= ?2 AND time_ms < ?3 AND (time_ms, id) > (?4, ?5)
         ORDER BY time_ms, id LIMIT ?6",
    )?
    .query_map(params![replay.archive, replay.from_ms, replay.until_ms, at_ms, at_id, limit as i64], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })?
    .collect()
}
