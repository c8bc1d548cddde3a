//! Buses, rules and archives of the template.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde_json::{Value, json};

use super::bus::{self, bus_name};
use super::model::{Target, parse_pattern};
use super::{Tags, archive, policy, rules, store, tag_object};
use crate::cloud::Cloud;
use crate::resource::{Refusal, Resource};
use crate::store::StoreError;

/// What the template declares in this run: (bus, rule), archives, (bus, statement).
#[derive(Debug, Default)]
pub struct Declared {
    rules: Mutex<HashSet<(String, String)>>,
    archives: Mutex<HashSet<String>>,
    statements: Mutex<HashSet<(String, String)>>,
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
    /// No effect here: the live log tells what a bus failed to deliver.
    #[serde(rename = "LogConfig")]
    _log_config: Option<Value>,
    policy: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct PolicyProps {
    event_bus_name: Option<String>,
    statement_id: String,
    statement: Option<Value>,
    action: Option<String>,
    principal: Option<String>,
    condition: Option<policy::Condition>,
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
        "AWS::Events::EventBusPolicy" => deploy_policy(cloud, resource),
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
    let policy = props.policy.as_ref().map_or(Ok(Vec::new()), policy::statements_of);
    let statements = policy.map_err(|reason| resource.refuse("Properties.Policy", reason))?;
    save(cloud, resource, |tx| store::put_bus(tx, &bus).map(|_| ()))?;
    statements.iter().try_for_each(|statement| save_statement(cloud, resource, &bus.name, statement))
}

fn deploy_policy(cloud: &Cloud, resource: &Resource) -> Result<(), Refusal> {
    let props: PolicyProps = resource.read()?;
    let bus = bus::find(cloud, props.event_bus_name.as_deref())
        .map_err(|error| resource.refuse("Properties.EventBusName", error.message))?
        .name;
    let statement = match (props.statement, props.action, props.principal) {
        (Some(mut statement), None, None) => {
            statement["Sid"] = props.statement_id.into();
            statement
        }
        (None, Some(action), Some(principal)) => {
            let condition = props.condition.as_ref();
            policy::statement(cloud, &bus, &props.statement_id, &action, &principal, condition)
        }
        _ => {
            let reason = "it takes either Statement, or Action and Principal";
            return Err(resource.refuse("Properties.Statement", reason));
        }
    };
    save_statement(cloud, resource, &bus, &statement)
}

fn save_statement(cloud: &Cloud, resource: &Resource, bus: &str, statement: &Value) -> Result<(), Refusal> {
    save(cloud, resource, |tx| policy::put(tx, bus, statement, true))?;
    let id = statement["Sid"].as_str().unwrap_or_default().to_owned();
    let declared = &cloud.eventbridge.declared.statements;
    declared.lock().unwrap_or_else(PoisonError::into_inner).insert((bus.to_owned(), id));
    Ok(())
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
    // What an operator enabled or disabled stays so, until the template asks for another state.
    let rules = cloud.store.read(|db| store::rules(db, &bus));
    let before = rules.map_err(|error| refuse("Name", error.to_string()))?;
    let before = before.into_iter().find(|rule| rule.name == name);
    let kept = before.filter(|before| before.declared_state.as_ref() == Some(&state));
    let rule = store::Rule {
        declared_state: Some(state.clone()),
        state: kept.map_or(state, |kept| kept.state),
        bus,
        name,
        description: props.description,
        pattern,
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
    let name = props.archive_name.unwrap_or_else(|| physical_name(&resource.physical_id));
    archive::check_name(&name).map_err(|reason| refuse("ArchiveName", reason))?;
    archive::check_retention(props.retention_days).map_err(|error| refuse("RetentionDays", error.message))?;
    let bus = bus_name(Some(&props.source_arn));
    bus::find(cloud, Some(&bus)).map_err(|error| refuse("SourceArn", error.message))?;
    let pattern = props.event_pattern.as_ref().map(pattern_text).transpose();
    let archive = store::Archive {
        from_template: true,
        name,
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

/// Deletes the rules, archives and statements that an earlier run's template declared and this one's does not.
pub fn forget_undeclared(cloud: &Cloud) -> Result<(), StoreError> {
    let declared = &cloud.eventbridge.declared;
    let rules = declared.rules.lock().unwrap_or_else(PoisonError::into_inner);
    let archives = declared.archives.lock().unwrap_or_else(PoisonError::into_inner);
    let rules: Vec<Value> = rules.iter().map(|(bus, rule)| json!(format!("{bus}|{rule}"))).collect();
    let archives: Vec<Value> = archives.iter().map(|archive| json!(archive)).collect();
    let statements = declared.statements.lock().unwrap_or_else(PoisonError::into_inner);
    let statements: Vec<Value> = statements.iter().map(|(bus, id)| json!(format!("{bus}|{id}"))).collect();
    cloud.store.write(|tx| {
        tx.execute(
            "DELETE FROM events_rules WHERE from_template
             AND bus || '|' || name NOT IN (SELECT value FROM json_each(?1))",
            [Value::from(rules).to_string()],
        )?;
        tx.execute(
            "DELETE FROM events_policies WHERE from_template
             AND bus || '|' || sid NOT IN (SELECT value FROM json_each(?1))",
            [Value::from(statements).to_string()],
        )?;
        tx.execute(
            "DELETE FROM events_archives WHERE from_template AND name NOT IN (SELECT value FROM json_each(?1))",
            [Value::from(archives).to_string()],
        )
    })?;
    cloud.eventbridge.routes.clear();
    Ok(())
}
