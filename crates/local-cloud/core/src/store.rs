//! The one small layer over SQLite in which the local cloud keeps what must outlive
//! `kill -9`: queues, logs, deliveries, executions, checkpoints. (Tables of DynamoDB live
//! in dynoxide's own file.) Each service owns its tables and creates them with
//! [`Store::migrate`]; a closure passed to [`Store::write`] is one transaction.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use crate::error::AwsError;

/// The version of what stands in the columns (JSON, for the most part). It is raised by hand when
/// what an older version wrote cannot be read any more; a changed column or table is noticed
/// without it, by [`Store::migrate`].
const CONTENT_VERSION: i64 = 1;

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused.
    #[error("the state store failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// dynoxide could not open the DynamoDB tables.
    #[error(
        "the DynamoDB tables could not be opened: {0}; start once with --fresh, or choose another --state-dir"
    )]
    Tables(String),
    /// The state folder was written by another version of the local cloud.
    #[error(
        "the state was written by another version of the local cloud ({what}); start once with --fresh, or choose another --state-dir"
    )]
    OtherVersion {
        /// What is different.
        what: String,
    },
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
    /// Opens or creates the database file.
    ///
    /// # Errors
    /// When the file cannot be opened or has contents of another version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        // SQLite says better than this what is wrong with a path.
        let _ = crate::private_file::open(path);
        Self::prepare(Connection::open(path)?)
    }

    /// A database that is gone when dropped, for tests.
    ///
    /// # Errors
    /// When SQLite cannot allocate it.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::prepare(Connection::open_in_memory()?)
    }

    fn prepare(connection: Connection) -> Result<Self, StoreError> {
        // WAL with synchronous=NORMAL survives the death of the process (not of the
        // machine), which is what is promised, without an fsync per transaction.
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

    /// Creates a service's tables; statements must be repeatable (`IF NOT EXISTS`).
    ///
    /// What is there already is compared with what the statements would create: an index that
    /// differs is built anew, and so is a table that holds nothing.
    ///
    /// # Errors
    /// When a table differs and holds rows; when SQLite refuses a statement.
    pub fn migrate(&self, statements: &str) -> Result<(), StoreError> {
        let wanted = Connection::open_in_memory()?;
        wanted.execute_batch(statements)?;
        let connection = self.lock();
        for (kind, name, statement) in parts(&wanted)? {
            let found: Option<String> = connection
                .query_row("SELECT sql FROM sqlite_schema WHERE name = ?1", [&name], |row| row.get(0))
                .optional()?;
            if found.is_some_and(|found| words(&found) != words(&statement)) {
                replace(&connection, &kind, &name)?;
            }
            if kind == "table" {
                self.tables.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
            }
        }
        Ok(connection.execute_batch(statements)?)
    }

    /// Removes the empty tables that no service has any more; called once all have created theirs.
    ///
    /// # Errors
    /// When one of them holds rows, which nobody would read.
    pub fn forget_unknown_tables(&self) -> Result<(), StoreError> {
        let connection = self.lock();
        let known = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        for (kind, name, _) in parts(&connection)? {
            if kind == "table" && !known.contains(&name) {
                replace(&connection, &kind, &name)?;
            }
        }
        Ok(())
    }

    /// Reads; short, since all services share one connection.
    ///
    /// # Errors
    /// What the closure returns.
    pub fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        Ok(query(&self.lock())?)
    }

    /// Writes in one transaction: all of the closure's statements, or none on `Err`.
    ///
    /// # Errors
    /// What the closure or the commit returns.
    pub fn write<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = change(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Connection> {
        // A panic inside a closure rolled its transaction back; the connection is sound.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All tables and indices of a database, each table before its indices, SQLite's own left out.
fn parts(connection: &Connection) -> rusqlite::Result<Vec<Part>> {
    connection
        .prepare("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
}

/// How a statement is laid out does not matter.
fn words(statement: &str) -> Vec<&str> {
    statement.split_whitespace().collect()
}

/// Drops what is about to be created in another form, unless that would lose something.
fn replace(connection: &Connection, kind: &str, name: &str) -> Result<(), StoreError> {
    if kind == "table" {
        let holds: bool =
            connection
                .query_row(&format!("SELECT EXISTS (SELECT 1 FROM \"{name}\")"), [], |row| row.get(0))?;
        if holds {
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
        assert!(parts(&store.lock()).unwrap().is_empty());
    }
}
