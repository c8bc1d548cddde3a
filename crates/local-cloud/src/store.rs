//! The one small layer over SQLite in which the local cloud keeps what must outlive
//! `kill -9`: queues, logs, deliveries, executions, checkpoints. (Tables of DynamoDB live
//! in dynoxide's own file.) Each service owns its tables and creates them with
//! [`Store::migrate`]; a closure passed to [`Store::write`] is one transaction.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::error::AwsError;

/// The version of the layout; a state folder of another version is refused.
const LAYOUT_VERSION: i64 = 1;

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused.
    #[error("the state store failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// dynoxide could not open the DynamoDB tables.
    #[error("the DynamoDB tables could not be opened: {0}")]
    Tables(String),
    /// The state folder was written by another version of the local cloud.
    #[error(
        "the state was written by another version of the local cloud (layout {found}, this one reads {LAYOUT_VERSION}); start once with --fresh"
    )]
    OtherVersion {
        /// The layout version found in the folder.
        found: i64,
    },
}

impl From<StoreError> for AwsError {
    fn from(error: StoreError) -> Self {
        AwsError::internal(error)
    }
}

/// A SQLite database, shared by all services.
#[derive(Debug)]
pub struct Store(Mutex<Connection>);

impl Store {
    /// Opens or creates the database file.
    ///
    /// # Errors
    /// When the file cannot be opened or has another layout version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
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
            0 => connection.pragma_update(None, "user_version", LAYOUT_VERSION)?,
            LAYOUT_VERSION => {}
            found => return Err(StoreError::OtherVersion { found }),
        }
        Ok(Self(Mutex::new(connection)))
    }

    /// Creates a service's tables; statements must be repeatable (`IF NOT EXISTS`).
    ///
    /// # Errors
    /// When SQLite refuses a statement.
    pub fn migrate(&self, statements: &str) -> Result<(), StoreError> {
        Ok(self.lock().execute_batch(statements)?)
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

    #[test]
    fn a_state_of_another_version_is_refused_with_one_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cloud.sqlite");
        drop(Store::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let refusal = Store::open(&path).unwrap_err().to_string();
        assert!(refusal.contains("layout 99") && refusal.contains("--fresh"), "{refusal}");
    }
}
