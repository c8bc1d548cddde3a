//! The tables of parameters and their older versions. `ssm_tags` is from an older version of the local cloud.

use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud};
use rusqlite::{OptionalExtension as _, Row, params};

pub(super) const TABLES: &str = "CREATE TABLE IF NOT EXISTS ssm_parameters (
                 name TEXT PRIMARY KEY,
                 type TEXT NOT NULL,
                 value TEXT NOT NULL,
                 description TEXT,
                 tier TEXT NOT NULL,
                 version INTEGER NOT NULL,
                 modified_ms INTEGER NOT NULL
             );
             -- Earlier versions; the columns are those of the newest.
             CREATE TABLE IF NOT EXISTS ssm_history (
                 name TEXT NOT NULL,
                 type TEXT NOT NULL,
                 value TEXT NOT NULL,
                 description TEXT,
                 tier TEXT NOT NULL,
                 version INTEGER NOT NULL,
                 modified_ms INTEGER NOT NULL,
                 PRIMARY KEY (name, version)
             );
             CREATE TABLE IF NOT EXISTS ssm_tags (name TEXT PRIMARY KEY, tags TEXT NOT NULL);";

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parameter {
    pub name: String,
    pub kind: String,
    pub value: String,
    pub description: Option<String>,
    pub tier: String,
    pub version: i64,
    pub modified_ms: i64,
}

impl Parameter {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            name: row.get("name")?,
            kind: row.get("type")?,
            value: row.get("value")?,
            description: row.get("description")?,
            tier: row.get("tier")?,
            version: row.get("version")?,
            modified_ms: row.get("modified_ms")?,
        })
    }
}

/// Splits a name or ARN into name and selector (a version or a label); true for an ARN.
pub(super) fn split(given: &str) -> (bool, &str, Option<&str>) {
    let (arn, name) = match given.strip_prefix("arn:").and_then(|_| given.split_once(":parameter")) {
        Some((_, name)) => (true, name),
        None => (false, given),
    };
    match name.split_once(':') {
        Some((name, selector)) => (arn, name, Some(selector)),
        None => (arn, name, None),
    }
}

/// Finds a parameter by name or ARN, with or without `:version` at the end.
/// <https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html>
pub(super) fn find(cloud: &Cloud, given: &str) -> Result<Option<Parameter>, AwsError> {
    let (arn, name, version) = split(given);
    // The ARN of `stage` and that of `/stage` are the same.
    let other = if arn { name.trim_start_matches('/') } else { name };
    let found = cloud.store.read(|connection| {
        connection
            .prepare_cached("SELECT * FROM ssm_parameters WHERE name IN (?1, ?2)")?
            .query_row(params![name, other], Parameter::from_row)
            .optional()
    })?;
    let (Some(found), Some(version)) = (&found, version) else { return Ok(found) };
    if found.version.to_string() == version {
        return Ok(Some(found.clone()));
    }
    let older = cloud.store.read(|connection| {
        connection
            .prepare_cached("SELECT * FROM ssm_history WHERE name = ?1 AND version = ?2")?
            .query_row(params![found.name, version.parse::<i64>().ok()], Parameter::from_row)
            .optional()
    })?;
    older.map(Some).ok_or_else(|| {
        let sentence = format!(
            "Systems Manager could not find version {version} of {name}. Verify the version and try again."
        );
        AwsError::client("ParameterVersionNotFound", sentence)
    })
}

/// All parameters by name.
pub(super) fn all(cloud: &Cloud) -> Result<Vec<Parameter>, StoreError> {
    cloud.store.read(|connection| {
        connection
            .prepare_cached("SELECT * FROM ssm_parameters ORDER BY name")?
            .query_map([], Parameter::from_row)?
            .collect()
    })
}

/// "Parameter Store retains the 100 most recently created versions of a parameter."
/// <https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-versions.html>
const VERSIONS: i64 = 100;

/// Stores a new version of a parameter.
pub(super) fn put(cloud: &Cloud, parameter: &Parameter) -> Result<(), StoreError> {
    let Parameter { name, kind, value, description, tier, version, modified_ms } = parameter;
    cloud.store.write(|tx| {
        tx.execute(
            "INSERT OR REPLACE INTO ssm_history SELECT name, type, value, description, tier, version, modified_ms
             FROM ssm_parameters WHERE name = ?1",
            [name],
        )?;
        tx.execute(
            "DELETE FROM ssm_history WHERE name = ?1 AND version <= ?2",
            params![name, version - VERSIONS],
        )?;
        tx.execute(
            "INSERT OR REPLACE INTO ssm_parameters
             (name, type, value, description, tier, version, modified_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![name, kind, value, description, tier, version, modified_ms],
        )
        .map(drop)
    })
}

/// Deletes a parameter with its versions; false if there is none.
pub(super) fn delete(cloud: &Cloud, name: &str) -> Result<bool, AwsError> {
    Ok(cloud.store.write(|tx| {
        tx.execute("DELETE FROM ssm_history WHERE name = ?1", [name])?;
        Ok(tx.execute("DELETE FROM ssm_parameters WHERE name = ?1", [name])? == 1)
    })?)
}
