//! The tables of registries and of the versions of schemas. Reading shows only what the template of this run
//! declares.

use cloud_core::Cloud;
use cloud_core::store::StoreError;
use rusqlite::{OptionalExtension as _, params};
use serde_json::Value;

use super::Declared;

pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS schema_registries (name TEXT PRIMARY KEY, description TEXT, tags TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS schema_versions (
    registry TEXT NOT NULL REFERENCES schema_registries, name TEXT NOT NULL, version INTEGER NOT NULL,
    type TEXT NOT NULL, content TEXT NOT NULL, description TEXT, tags TEXT NOT NULL, created_ms INTEGER NOT NULL,
    PRIMARY KEY (registry, name, version));
";

pub(super) struct Registry {
    pub name: String,
    pub description: Option<String>,
    /// An object.
    pub tags: Value,
}

/// A version of a schema.
pub(super) struct Schema {
    pub registry: String,
    pub name: String,
    pub version: i64,
    pub kind: String,
    pub content: String,
    pub description: Option<String>,
    /// An object.
    pub tags: Value,
    pub created_ms: i64,
}

pub(super) fn registries(cloud: &Cloud) -> Result<Vec<Registry>, StoreError> {
    let mut found: Vec<Registry> = cloud.store.read(|db| {
        db.prepare_cached("SELECT name, description, tags FROM schema_registries ORDER BY name")?
            .query_map([], |row| {
                let tags = serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_default();
                Ok(Registry { name: row.get(0)?, description: row.get(1)?, tags })
            })?
            .collect()
    })?;
    found.retain(|registry| cloud.state::<Declared>().has(&registry.name));
    Ok(found)
}

pub(super) fn put_registry(cloud: &Cloud, registry: &Registry) -> Result<(), StoreError> {
    let Registry { name, description, tags } = registry;
    cloud.store.write(|tx| {
        tx.execute(
            "INSERT INTO schema_registries VALUES (?1, ?2, ?3) ON CONFLICT (name)
             DO UPDATE SET description = excluded.description, tags = excluded.tags",
            params![name, description, tags.to_string()],
        )
    })?;
    cloud.state::<Declared>().add(name.clone());
    Ok(())
}

/// All versions of the schemas of a registry, by name, newest first.
pub(super) fn versions(cloud: &Cloud, registry: &str) -> Result<Vec<Schema>, StoreError> {
    let mut schemas: Vec<Schema> = cloud.store.read(|db| {
        db.prepare_cached(
            "SELECT registry, name, version, type, content, description, tags, created_ms
             FROM schema_versions WHERE registry = ?1 ORDER BY name, version DESC",
        )?
        .query_map([registry], |row| {
            Ok(Schema {
                registry: row.get(0)?,
                name: row.get(1)?,
                version: row.get(2)?,
                kind: row.get(3)?,
                content: row.get(4)?,
                description: row.get(5)?,
                tags: serde_json::from_str(&row.get::<_, String>(6)?).unwrap_or_default(),
                created_ms: row.get(7)?,
            })
        })?
        .collect()
    })?;
    schemas.retain(|schema| cloud.state::<Declared>().has(&format!("{registry}/{}", schema.name)));
    Ok(schemas)
}

/// Stores a schema: a new version if its content is new, whatever `schema.version` says.
pub(super) fn put_schema(cloud: &Cloud, schema: &Schema) -> Result<(), StoreError> {
    let Schema { registry, name, kind, content, description, tags, created_ms, .. } = schema;
    cloud.store.write(|tx| {
        let latest: Option<(i64, String)> = tx
            .query_row(
                "SELECT version, content FROM schema_versions WHERE registry = ?1 AND name = ?2 ORDER BY version DESC",
                [registry, name],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        let version = match latest {
            None => 1,
            Some((version, latest)) if latest == *content => version,
            Some((version, _)) => version + 1,
        };
        tx.execute(
            "INSERT INTO schema_versions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (registry, name, version)
             DO UPDATE SET type = excluded.type, description = excluded.description, tags = excluded.tags",
            params![registry, name, version, kind, content, description, tags.to_string(), created_ms],
        )
    })?;
    cloud.state::<Declared>().add(format!("{registry}/{name}"));
    Ok(())
}
