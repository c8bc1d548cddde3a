//! The time at which each stack was first deployed.

use cloud_core::Cloud;
use cloud_core::store::StoreError;
use cloud_languages::template::Stack;

pub(super) const TABLES: &str = "CREATE TABLE IF NOT EXISTS cloudformation_stack (
                id TEXT PRIMARY KEY,
                created_ms INTEGER NOT NULL
            )";

/// Stores the time for stacks that are new.
pub(super) fn note_created(cloud: &Cloud, stacks: &[Stack]) -> Result<(), StoreError> {
    let now_ms = cloud.clock.now_ms();
    cloud.store.write(|transaction| {
        for stack in stacks {
            transaction.execute(
                "INSERT OR IGNORE INTO cloudformation_stack (id, created_ms) VALUES (?1, ?2)",
                (&stack.id, now_ms),
            )?;
        }
        Ok(())
    })
}

pub(super) fn created_ms(cloud: &Cloud, stack: &Stack) -> Result<i64, StoreError> {
    let query = "SELECT created_ms FROM cloudformation_stack WHERE id = ?1";
    cloud.store.read(|connection| connection.query_row(query, [&stack.id], |row| row.get(0)))
}
