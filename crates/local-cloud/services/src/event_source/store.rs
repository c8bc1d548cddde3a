//! The table of mappings. It keeps changes through the API with the template on which they were made.
//! They outlive restarts until the template changes, as CloudFormation treats drift.

use cloud_core::Cloud;
use cloud_core::resource::Resource;
use cloud_core::store::{Store, StoreError};
use rusqlite::{OptionalExtension, params};
use serde_json::Value;

use super::mapping::Mapping;
use super::stream;

const TABLES: &str = "CREATE TABLE IF NOT EXISTS event_source_mappings (
    uuid TEXT PRIMARY KEY, template TEXT NOT NULL, properties TEXT NOT NULL, modified_ms INTEGER NOT NULL) WITHOUT ROWID;";

pub fn open(store: &Store) -> Result<(), StoreError> {
    store.migrate(stream::TABLES)?;
    store.migrate(TABLES)
}

/// A template's mapping with the properties that are valid now, and when they were last changed.
pub fn deployed(cloud: &Cloud, resource: &Resource) -> Result<(Resource, i64), StoreError> {
    let template = resource.properties.to_string();
    let known: Option<(String, i64)> = cloud.store.read(|c| {
        c.query_row(
            "SELECT properties, modified_ms FROM event_source_mappings WHERE uuid = ?1 AND template = ?2",
            params![resource.physical_id, template],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()
    })?;
    let known = known.and_then(|(text, at)| Some((serde_json::from_str::<Value>(&text).ok()?, at)));
    if let Some((properties, modified_ms)) = known {
        return Ok((Resource { properties, ..resource.clone() }, modified_ms));
    }
    let now = cloud.clock.now_ms();
    cloud.store.write(|tx| {
        tx.execute(
            "INSERT OR REPLACE INTO event_source_mappings (uuid, template, properties, modified_ms) VALUES (?1, ?2, ?2, ?3)",
            params![resource.physical_id, template, now],
        )
    })?;
    Ok((resource.clone(), now))
}

/// The properties of a mapping in the last template; null if there is none.
pub fn template(cloud: &Cloud, uuid: &str) -> Result<Value, StoreError> {
    let template: Option<String> = cloud.store.read(|c| {
        c.query_row("SELECT template FROM event_source_mappings WHERE uuid = ?1", [uuid], |row| row.get(0))
            .optional()
    })?;
    Ok(template.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

pub fn save(cloud: &Cloud, mapping: &Mapping) -> Result<(), StoreError> {
    let properties = mapping.resource.properties.to_string();
    cloud.store.write(|tx| {
        tx.execute(
            "UPDATE event_source_mappings SET properties = ?2, modified_ms = ?3 WHERE uuid = ?1",
            params![mapping.uuid, properties, mapping.modified_ms],
        )
        .map(drop)
    })
}

/// Deletes a mapping, and the checkpoints of `consumer`.
pub fn delete(cloud: &Cloud, uuid: &str, consumer: Option<&str>) -> Result<(), StoreError> {
    cloud.store.write(|tx| {
        consumer.into_iter().try_for_each(|consumer| stream::forget(tx, consumer))?;
        tx.execute("DELETE FROM event_source_mappings WHERE uuid = ?1", [uuid]).map(drop)
    })
}
