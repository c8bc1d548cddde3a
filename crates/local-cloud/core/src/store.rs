//! A small layer over SQLite. It keeps what must survive `kill -9`: queues, logs, deliveries, executions,
//! checkpoints. (DynamoDB's tables are in dynoxide's own file.) Each service owns its tables and creates
//! them with [`Store::migrate`]; each [`Store::write`] is one transaction.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use crate::error::AwsError;
use crate::lock;

/// The version of what the columns hold (mostly JSON). Raise it when this version can no longer read what
/// an older one wrote. A changed table or column needs no new version: [`Store::migrate`] notices it.
const CONTENT_VERSION: i64 = 1;

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the state store failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error(
        "the DynamoDB tables could not be opened: {0}; start once with --fresh, or choose another --state-dir"
    )]
    Tables(String),
    /// Another version of the local cloud wrote the state folder; `what` is different.
    #[error(
        "the state was written by another version of the local cloud ({what}); start once with --fresh, or choose another --state-dir"
    )]
    OtherVersion { what: String },
}

impl From<StoreError> for AwsError {
    fn from(error: StoreError) -> Self {
        AwsError::internal(error)
    }
}

/// A SQLite database, shared by all services.
#[derive(Debug)]
pub struct Store {
    connection: Mutex<Connection>,
    /// The tables that the services of this version have.
    tables: Mutex<BTreeSet<String>>,
}

/// A table or an index as SQLite keeps it: kind, name and statement.
type Part = (String, String, String);

impl Store {
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        // A failure shows again below, where SQLite's message is better.
        let _ = crate::private_file::open(path);
        Self::prepare(Connection::open(path)?)
    }

    /// A database that ends with its value, for tests.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::prepare(Connection::open_in_memory()?)
    }

    fn prepare(connection: Connection) -> Result<Self, StoreError> {
        // WAL with synchronous=NORMAL survives the end of the process (not of the machine), which is what
        // the local cloud promises, without an fsync for each transaction.
        // https://www.sqlite.org/pragma.html#pragma_synchronous
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;",
        )?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match found {
            0 => connection.pragma_update(None, "user_version", CONTENT_VERSION)?,
            CONTENT_VERSION => {}
            found => {
                let what = format!("contents {found}, this one reads {CONTENT_VERSION}");
                return Err(StoreError::OtherVersion { what });
            }
        }
        Ok(Self { connection: Mutex::new(connection), tables: Mutex::default() })
    }

    /// Creates a service's tables; statements must be repeatable (`IF NOT EXISTS`). An index that differs
    /// from its statement is built anew, and so is an empty table.
    ///
    /// # Errors
    /// [`StoreError::OtherVersion`] when a table differs and holds rows.
    pub fn migrate(&self, statements: &str) -> Result<(), StoreError> {
        let wanted = Connection::open_in_memory()?;
        wanted.execute_batch(statements)?;
        let connection = lock(&self.connection);
        for (kind, name, statement) in parts(&wanted)? {
            let found: Option<String> = connection
                .query_row("SELECT sql FROM sqlite_schema WHERE name = ?1", [&name], |row| row.get(0))
                .optional()?;
            if found.is_some_and(|found| words(&found) != words(&statement)) {
                drop_if_empty(&connection, &kind, &name)?;
            }
            if kind == "table" {
                lock(&self.tables).insert(name);
            }
        }
        Ok(connection.execute_batch(statements)?)
    }

    /// Removes the empty tables that no service has any longer; called after all services created theirs.
    ///
    /// # Errors
    /// [`StoreError::OtherVersion`] when such a table holds rows, which nobody would read.
    pub fn forget_unknown_tables(&self) -> Result<(), StoreError> {
        let connection = lock(&self.connection);
        let known = lock(&self.tables);
        for (kind, name, _) in parts(&connection)? {
            if kind == "table" && !known.contains(&name) {
                drop_if_empty(&connection, &kind, &name)?;
            }
        }
        Ok(())
    }

    /// Reads. A query must be short: all services share one connection.
    pub fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        Ok(query(&lock(&self.connection))?)
    }

    /// Writes in one transaction: all statements of the closure, or none where it returns an error.
    pub fn write<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut connection = lock(&self.connection);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = change(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }
}

/// All tables and indices of a database without SQLite's own; each table stands before its indices.
fn parts(connection: &Connection) -> rusqlite::Result<Vec<Part>> {
    connection
        .prepare("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
}

/// The words of a statement: two statements that differ in white space only are the same.
fn words(statement: &str) -> Vec<&str> {
    statement.split_whitespace().collect()
}

/// Drops an index, or a table that holds no rows.
fn drop_if_empty(connection: &Connection, kind: &str, name: &str) -> Result<(), StoreError> {
    if kind == "table" {
        let exists = format!("SELECT EXISTS (SELECT 1 FROM \"{name}\")");
        if connection.query_row(&exists, [], |row| row.get(0))? {
            return Err(StoreError::OtherVersion { what: format!("its table {name} is another") });
        }
    }
    Ok(connection.execute_batch(&format!("DROP {kind} \"{name}\""))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let store = Store::in_memory().unwrap();
        store.migrate("CREATE TABLE IF NOT EXISTS t (x INTEGER)").unwrap();
        let failed: Result<(), _> = store.write(|tx| {
            tx.execute("INSERT INTO t VALUES (1)", [])?;
            Err(rusqlite::Error::InvalidQuery)
        });
        assert!(failed.is_err());
        let rows: i64 = store.read(|c| c.query_row("SELECT count(*) FROM t", [], |r| r.get(0))).unwrap();
        assert_eq!(rows, 0);
    }

    /// A database with one table, as an earlier version left it.
    fn left_behind(folder: &Path, statements: &str) -> Store {
        let path = folder.join("cloud.sqlite");
        Store::open(&path).unwrap().migrate(statements).unwrap();
        Store::open(&path).unwrap()
    }

    const OLD: &str = "CREATE TABLE IF NOT EXISTS t (x INTEGER); CREATE INDEX IF NOT EXISTS i ON t (x);";
    const NEW: &str =
        "CREATE TABLE IF NOT EXISTS t (x INTEGER, y TEXT); CREATE INDEX IF NOT EXISTS i ON t (x);";

    #[test]
    fn contents_of_another_version_are_refused_with_one_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cloud.sqlite");
        drop(Store::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let refusal = Store::open(&path).unwrap_err().to_string();
        assert!(refusal.contains("contents 99") && refusal.contains("--fresh"), "{refusal}");
    }

    #[test]
    fn a_table_of_another_version_that_holds_something_is_refused_with_one_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let store = left_behind(folder.path(), OLD);
        store.write(|tx| tx.execute("INSERT INTO t VALUES (1)", [])).unwrap();
        let refusal = store.migrate(NEW).unwrap_err().to_string();
        assert!(refusal.contains("its table t is another") && refusal.contains("--fresh"), "{refusal}");
    }

    #[test]
    fn an_empty_table_of_another_version_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let store = left_behind(folder.path(), OLD);
        store.migrate(NEW).unwrap();
        store.write(|tx| tx.execute("INSERT INTO t (x, y) VALUES (1, 'a')", [])).unwrap();
    }

    #[test]
    fn an_index_of_another_version_is_made_anew_and_a_new_layout_of_the_text_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = left_behind(folder.path(), OLD);
        store.write(|tx| tx.execute("INSERT INTO t VALUES (1)", [])).unwrap();
        let same =
            "CREATE TABLE IF NOT EXISTS t\n  (x\n INTEGER); CREATE INDEX IF NOT EXISTS i ON t (x DESC);";
        store.migrate(same).unwrap();
        let index: String = store
            .read(|c| c.query_row("SELECT sql FROM sqlite_schema WHERE name = 'i'", [], |row| row.get(0)))
            .unwrap();
        assert!(index.contains("DESC"), "{index}");
    }

    #[test]
    fn a_table_that_nobody_has_any_more_is_refused_where_it_holds_something() {
        let folder = tempfile::tempdir().unwrap();
        let store = left_behind(folder.path(), OLD);
        store.write(|tx| tx.execute("INSERT INTO t VALUES (1)", [])).unwrap();
        let refusal = store.forget_unknown_tables().unwrap_err().to_string();
        assert!(refusal.contains("its table t is another"), "{refusal}");
        store.write(|tx| tx.execute("DELETE FROM t", [])).unwrap();
        store.forget_unknown_tables().unwrap();
        assert!(parts(&lock(&store.connection)).unwrap().is_empty());
    }
}
