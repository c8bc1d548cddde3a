//! Changes of a mapping through the API. They are stored with the template that they were made
//! on, and hold over restarts until the template itself says something else: the way
//! CloudFormation treats what was changed beside it.

use std::sync::{Arc, Mutex};

use cloud_core::resource::Resource;
use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud};
use rusqlite::{OptionalExtension, params};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::mapping::{self, Mapping, Source};
use crate::lambda;

pub(super) const TABLES: &str = "CREATE TABLE IF NOT EXISTS event_source_mappings (
    uuid TEXT PRIMARY KEY, template TEXT NOT NULL, properties TEXT NOT NULL, modified_ms INTEGER NOT NULL) WITHOUT ROWID;";

/// The properties that hold for a mapping of the template, and when they were last changed.
pub(super) fn deployed(cloud: &Cloud, resource: &Resource) -> Result<(Resource, i64), StoreError> {
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
    let mut resource = resource.clone();
    if let Some((properties, modified_ms)) = known {
        resource.properties = properties;
        return Ok((resource, modified_ms));
    }
    let now = cloud.clock.now_ms();
    cloud.store.write(|tx| {
        tx.execute(
            "INSERT OR REPLACE INTO event_source_mappings (uuid, template, properties, modified_ms) VALUES (?1, ?2, ?2, ?3)",
            params![resource.physical_id, template, now],
        )
    })?;
    Ok((resource, now))
}

/// The name of the checkpoint of a mapping that was deployed before; a queue's has none.
pub(super) fn consumer(cloud: &Cloud, uuid: &str) -> Result<Option<String>, StoreError> {
    let template: Option<String> = cloud.store.read(|c| {
        c.query_row("SELECT template FROM event_source_mappings WHERE uuid = ?1", [uuid], |row| row.get(0))
            .optional()
    })?;
    let template: Value = template.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let (function, source) = (template["FunctionName"].as_str(), template["EventSourceArn"].as_str());
    Ok(function
        .zip(source)
        .filter(|(_, source)| source.contains(":dynamodb:"))
        .map(|(function, source)| mapping::consumer(&lambda::name_of(function), source)))
}

/// The members of UpdateEventSourceMapping that are emulated; any other is refused by its name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Update {
    #[serde(rename = "UUID")]
    pub uuid: String,
    function_name: Option<Value>,
    enabled: Option<Value>,
    batch_size: Option<Value>,
    maximum_batching_window_in_seconds: Option<Value>,
    filter_criteria: Option<Value>,
    scaling_config: Option<Value>,
    function_response_types: Option<Value>,
    parallelization_factor: Option<Value>,
    bisect_batch_on_function_error: Option<Value>,
    maximum_retry_attempts: Option<Value>,
    maximum_record_age_in_seconds: Option<Value>,
    tumbling_window_in_seconds: Option<Value>,
    destination_config: Option<Value>,
}

impl Update {
    /// The mapping with what the update changes; what it does not name stays.
    pub fn apply(self, cloud: &Cloud, known: &Mapping) -> Result<Mapping, AwsError> {
        let changes = [
            ("FunctionName", self.function_name),
            ("Enabled", self.enabled),
            ("BatchSize", self.batch_size),
            ("MaximumBatchingWindowInSeconds", self.maximum_batching_window_in_seconds),
            ("FilterCriteria", self.filter_criteria),
            ("ScalingConfig", self.scaling_config),
            ("FunctionResponseTypes", self.function_response_types),
            ("ParallelizationFactor", self.parallelization_factor),
            ("BisectBatchOnFunctionError", self.bisect_batch_on_function_error),
            ("MaximumRetryAttempts", self.maximum_retry_attempts),
            ("MaximumRecordAgeInSeconds", self.maximum_record_age_in_seconds),
            ("TumblingWindowInSeconds", self.tumbling_window_in_seconds),
            ("DestinationConfig", self.destination_config),
        ];
        let given = changes.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let given: Map<String, Value> = given.collect();
        let mut resource = known.resource.clone();
        if let Some(properties) = resource.properties.as_object_mut() {
            properties.extend(given);
        }
        let mut mapping = mapping::read(cloud, &resource, cloud.clock.now_ms()).map_err(|refusal| {
            let member = refusal.path.rsplit("Properties.").next().unwrap_or_default();
            // Whole sentences are AWS's own.
            let message = match refusal.reason.starts_with(char::is_uppercase) {
                true => refusal.reason,
                false => format!("{member}: {}", refusal.reason),
            };
            AwsError::client("InvalidParameterValueException", message)
        })?;
        lambda::timeout_s(cloud, &mapping.function)?;
        mapping.last_result = Mutex::new(*super::lock(&known.last_result));
        // Another function goes on where the one before it was.
        if let (Source::Table(settings), Source::Table(before)) = (&mut mapping.source, &known.source) {
            settings.consumer.clone_from(&before.consumer);
        }
        Ok(mapping)
    }
}

pub(super) fn save(cloud: &Cloud, mapping: &Arc<Mapping>) -> Result<(), StoreError> {
    cloud.store.write(|tx| {
        tx.execute(
            "UPDATE event_source_mappings SET properties = ?2, modified_ms = ?3 WHERE uuid = ?1",
            params![mapping.uuid, mapping.resource.properties.to_string(), mapping.modified_ms],
        )
    })?;
    Ok(())
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
