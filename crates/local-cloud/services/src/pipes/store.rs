//! The table of pipes. An operator's desired state outlives restarts, until the template asks for another.

use cloud_core::Cloud;
use cloud_core::store::StoreError;
use rusqlite::{OptionalExtension, params};

use crate::event_source::stream;

pub const TABLES: &str = "CREATE TABLE IF NOT EXISTS pipes (
    name TEXT PRIMARY KEY, declared_state TEXT NOT NULL, desired_state TEXT NOT NULL, created_ms INTEGER NOT NULL);";

/// Stores the template's desired state.
pub fn declare(cloud: &Cloud, name: &str, state: &str) -> Result<(), StoreError> {
    cloud.store.write(|tx| {
        tx.execute(
            "INSERT INTO pipes VALUES (?1, ?2, ?2, ?3) ON CONFLICT (name) DO UPDATE SET
             desired_state = iif(declared_state = ?2, desired_state, ?2), declared_state = ?2",
            params![name, state, cloud.clock.now_ms()],
        )
        .map(drop)
    })
}

/// Stores an operator's desired state.
pub fn set_desired(cloud: &Cloud, name: &str, state: &str) -> Result<(), StoreError> {
    let sql = "UPDATE pipes SET desired_state = ?2 WHERE name = ?1";
    cloud.store.write(|tx| tx.execute(sql, params![name, state]).map(drop))
}

/// The desired state of a pipe, and when it was created.
pub fn desired(cloud: &Cloud, name: &str) -> Result<Option<(String, i64)>, StoreError> {
    cloud.store.read(|db| {
        db.query_row("SELECT desired_state, created_ms FROM pipes WHERE name = ?1", [name], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
    })
}

/// Deletes a pipe and its checkpoint.
pub fn delete(cloud: &Cloud, name: &str, arn: &str) -> Result<(), StoreError> {
    cloud.store.write(|tx| {
        stream::forget(tx, arn)?;
        tx.execute("DELETE FROM pipes WHERE name = ?1", [name]).map(drop)
    })
}
