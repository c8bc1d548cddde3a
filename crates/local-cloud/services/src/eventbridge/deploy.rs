//! Buses, rules and archives of the template.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Deploy, Identity, Named, Type, counted, unless_missing};
use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud, later};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{Tags, tag_object};
use super::bus::{self, bus_name};
use super::model::{Target, parse_pattern};
use super::{archive, policy, rules, store};

/// What the template declares in this run: (bus, rule), archives, (bus, statement).
#[derive(Debug, Default)]
pub struct Declared {
    rules: Mutex<HashSet<(String, String)>>,
    archives: Mutex<HashSet<String>>,
    statements: Mutex<HashSet<(String, String)>>,
}

#[cfg(any(test, feature = "testing"))]
impl Declared {
    pub fn clear_for_tests(&self) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.archives.lock().unwrap_or_else(PoisonError::into_inner).clear();
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

#[rustfmt::skip]
pub(crate) const TYPES: &[Type] = &[
    Type::new("AWS::Events::Archive", "archive and replay",
        Identity::named("ArchiveName", 48)
            .arn("arn:aws:events:{region}:{account}:archive/{name}").attributes(&[Identity::ARN]),
        Deploy::Now(deploy_archive)).holds(later!(archived)),
    Type::new("AWS::Events::EventBus", "patterns, targets, retries and dead-letter queues",
        Identity::named("Name", 256)
            .arn("arn:aws:events:{region}:{account}:event-bus/{name}")
            .attributes(&[Identity::ARN, ("Name", "{name}")]),
        Deploy::Now(deploy_bus)).remove(later!(remove_bus)),
    Type::new("AWS::Events::EventBusPolicy", "shown by DescribeEventBus; permissions are not enforced here",
        Identity::made_up(64),
        Deploy::Now(deploy_policy)).approximated(),
    Type::new("AWS::Events::Rule", "by event pattern; functions, state machines, buses, log groups and queues as targets",
        Identity::named("Name", 64)
            .arn("arn:aws:events:{region}:{account}:rule/{bus}{name}").attributes(&[Identity::ARN]),
        Deploy::Now(deploy_rule))
        .remove(|cloud, _| Box::pin(async move { Ok(forget_undeclared(cloud).map(|()| false)?) })),
];

async fn archived(cloud: &Arc<Cloud>, archive: &Named) -> Result<Option<String>, AwsError> {
    let input = json!({"ArchiveName": archive.name()});
    let found = unless_missing(cloud.call("events", "DescribeArchive", input).await)?;
    Ok(counted(found["EventCount"].as_u64().unwrap_or_default(), "archived event"))
}

/// A bus can go only once its rules are gone.
async fn remove_bus(cloud: &Arc<Cloud>, bus: &Named) -> Result<bool, AwsError> {
    forget_undeclared(cloud)?;
    cloud.call("events", "DeleteEventBus", json!({"Name": bus.name()})).await?;
    Ok(true)
}

fn deploy_bus(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
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

fn deploy_policy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
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
    let declared = &cloud.state::<crate::eventbridge::State>().declared.statements;
    declared.lock().unwrap_or_else(PoisonError::into_inner).insert((bus.to_owned(), id));
    Ok(())
}

fn deploy_rule(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
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
    let declared = &cloud.state::<crate::eventbridge::State>().declared.rules;
    declared.lock().unwrap_or_else(PoisonError::into_inner).insert((rule.bus, rule.name));
    Ok(())
}

fn deploy_archive(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
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
    let declared = &cloud.state::<crate::eventbridge::State>().declared.archives;
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
    cloud.state::<crate::eventbridge::State>().routes.clear();
    Ok(())
}

/// Deletes the rules, archives and statements that an earlier run's template declared and this one's does not.
pub fn forget_undeclared(cloud: &Cloud) -> Result<(), StoreError> {
    let declared = &cloud.state::<crate::eventbridge::State>().declared;
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
    cloud.state::<crate::eventbridge::State>().routes.clear();
    Ok(())
}
