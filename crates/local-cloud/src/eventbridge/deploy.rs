//! Buses, rules and archives of the template.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde_json::{Value, json};

use super::bus::{self, bus_name};
use super::model::{Target, parse_pattern};
use super::{Tags, rules, store, tag_object};
use crate::cloud::Cloud;
use crate::resource::{Refusal, Resource};
use crate::store::StoreError;

/// What the template declares in this run: (bus, rule) and archives.
#[derive(Debug, Default)]
pub struct Declared {
    rules: Mutex<HashSet<(String, String)>>,
    archives: Mutex<HashSet<String>>,
}

#[cfg(test)]
impl Declared {
    pub fn clear_for_tests(&self) {
        self.rules.lock().unwrap().clear();
        self.archives.lock().unwrap().clear();
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct BusProps {
    name: String,
    description: Option<String>,
    #[serde(default)]
    tags: Tags,
    /// Where AWS puts events that it failed to encrypt; nothing is encrypted here.
    #[serde(rename = "DeadLetterConfig")]
    _dead_letter_config: Option<Value>,
    /// No effect here: nothing is encrypted at rest.
    #[serde(rename = "KmsKeyIdentifier")]
    _kms_key_identifier: Option<Value>,
    /// No effect here: permissions are not enforced.
    #[serde(rename = "Policy")]
    _policy: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RuleProps {
    name: Option<String>,
    description: Option<String>,
    event_bus_name: Option<String>,
    event_pattern: Option<Value>,
    state: Option<String>,
    role_arn: Option<String>,
    #[serde(default)]
    targets: Vec<Target>,
    #[serde(default)]
    tags: Tags,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ArchiveProps {
    archive_name: Option<String>,
    source_arn: String,
    description: Option<String>,
    event_pattern: Option<Value>,
    #[serde(default)]
    retention_days: i64,
    /// No effect here: nothing is encrypted at rest.
    #[serde(rename = "KmsKeyIdentifier")]
    _kms_key_identifier: Option<Value>,
}

pub fn deploy(cloud: &Cloud, resource: &Resource) -> Result<(), Refusal> {
    match resource.kind.as_str() {
        "AWS::Events::EventBus" => deploy_bus(cloud, resource),
        "AWS::Events::Rule" => deploy_rule(cloud, resource),
        "AWS::Events::Archive" => deploy_archive(cloud, resource),
        // Says who may put events onto a bus; permissions are not enforced here.
        "AWS::Events::EventBusPolicy" => Ok(()),
        kind => Err(resource.refuse("Type", format!("{kind} is not emulated"))),
    }
}

fn deploy_bus(cloud: &Cloud, resource: &Resource) -> Result<(), Refusal> {
    let props: BusProps = resource.read()?;
    bus::check_name(&props.name).map_err(|reason| resource.refuse("Properties.Name", reason))?;
    let bus = store::Bus {
        name: props.name,
        description: props.description,
        tags: tag_object(props.tags),
        created_ms: cloud.clock.now_ms(),
    };
    save(cloud, resource, |tx| store::put_bus(tx, &bus).map(|_| ()))
}

fn deploy_rule(cloud: &Cloud, resource: &Resource) -> Result<(), Refusal> {
    let props: RuleProps = resource.read()?;
    let refuse = |path: &str, reason: String| resource.refuse(&format!("Properties.{path}"), reason);
    let name = props.name.unwrap_or_else(|| physical_name(&resource.physical_id));
    rules::check_name(&name).map_err(|reason| refuse("Name", reason))?;
    let bus = bus::find(cloud, props.event_bus_name.as_deref())
        .map_err(|error| refuse("EventBusName", error.message))?
        .name;
    let pattern = props.event_pattern.ok_or_else(|| {
        refuse("EventPattern", "it is missing, and scheduled rules are not emulated".to_owned())
    })?;
    let pattern = pattern_text(&pattern).map_err(|reason| refuse("EventPattern", reason))?;
    let state = props.state.unwrap_or_else(|| "ENABLED".into());
    rules::check_state(&state).map_err(|reason| refuse("State", reason))?;
    if !props.targets.is_empty() {
        rules::check_targets(&props.targets).map_err(|reason| refuse("Targets", reason))?;
    }
    let rule = store::Rule {
        bus,
        name,
        description: props.description,
        pattern,
        state,
        role_arn: props.role_arn,
        tags: tag_object(props.tags),
        from_template: true,
    };
    save(cloud, resource, |tx| {
        store::put_rule(tx, &rule)?;
        tx.execute("DELETE FROM events_targets WHERE bus = ?1 AND rule = ?2", [&rule.bus, &rule.name])?;
        props.targets.iter().try_for_each(|target| store::put_target(tx, &rule.bus, &rule.name, target))
    })?;
    let declared = &cloud.eventbridge.declared.rules;
    declared.lock().unwrap_or_else(PoisonError::into_inner).insert((rule.bus, rule.name));
    Ok(())
}

fn deploy_archive(cloud: &Cloud, resource: &Resource) -> Result<(), Refusal> {
    let props: ArchiveProps = resource.read()?;
    let refuse = |path: &str, reason: String| resource.refuse(&format!("Properties.{path}"), reason);
    let bus = bus_name(Some(&props.source_arn));
    bus::find(cloud, Some(&bus)).map_err(|error| refuse("SourceArn", error.message))?;
    let pattern = props.event_pattern.as_ref().map(pattern_text).transpose();
    let archive = store::Archive {
        name: props.archive_name.unwrap_or_else(|| physical_name(&resource.physical_id)),
        bus,
        pattern: pattern.map_err(|reason| refuse("EventPattern", reason))?,
        description: props.description,
        retention_days: props.retention_days,
        created_ms: cloud.clock.now_ms(),
    };
    save(cloud, resource, |tx| store::put_archive(tx, &archive))?;
    let declared = &cloud.eventbridge.declared.archives;
    declared.lock().unwrap_or_else(PoisonError::into_inner).insert(archive.name);
    Ok(())
}

/// `Ref` of a rule on a bus of its own is `bus|rule`; the rest is the name.
fn physical_name(physical_id: &str) -> String {
    physical_id.rsplit(['|', '/']).next().unwrap_or(physical_id).to_owned()
}

fn pattern_text(pattern: &Value) -> Result<String, String> {
    let text = match pattern {
        Value::String(text) => text.clone(),
        object => object.to_string(),
    };
    parse_pattern(&text)?;
    Ok(text)
}

fn save(
    cloud: &Cloud,
    resource: &Resource,
    change: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<()>,
) -> Result<(), Refusal> {
    cloud.store.write(change).map_err(|error| resource.refuse("Properties", error.to_string()))?;
    cloud.eventbridge.routes.clear();
    Ok(())
}

/// Deletes the rules and archives that an earlier run's template declared and this one's does not.
pub fn forget_undeclared(cloud: &Cloud) -> Result<(), StoreError> {
    let declared = &cloud.eventbridge.declared;
    let rules = declared.rules.lock().unwrap_or_else(PoisonError::into_inner);
    let archives = declared.archives.lock().unwrap_or_else(PoisonError::into_inner);
    let rules: Vec<Value> = rules.iter().map(|(bus, rule)| json!(format!("{bus}|{rule}"))).collect();
    let archives: Vec<Value> = archives.iter().map(|archive| json!(archive)).collect();
    cloud.store.write(|tx| {
        tx.execute(
            "DELETE FROM events_rules WHERE from_template
             AND bus || '|' || name NOT IN (SELECT value FROM json_each(?1))",
            [Value::from(rules).to_string()],
        )?;
        tx.execute(
            "DELETE FROM events_archives WHERE name NOT IN (SELECT value FROM json_each(?1))",
            [Value::from(archives).to_string()],
        )
    })?;
    cloud.eventbridge.routes.clear();
    Ok(())
}
