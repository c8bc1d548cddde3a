//! Buses, policies, rules and archives of the template.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use cloud_core::api::{Tag, tag_object};
use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Deploy, Identity, Named, Type, counted, unless_missing};
use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud, later};
use rusqlite::Transaction;
use serde::Deserialize;
use serde_json::{Value, json};

use super::names::{check_archive, check_bus, check_retention, find_bus};
use super::rule::{check_name, check_state, check_targets, parse_pattern};
use super::target::Target;
use super::{policy, routing, store};

/// The template's resources of this run. Those of an earlier template that are not here are deleted.
#[derive(Debug, Default)]
pub struct Declared(Mutex<Names>);

#[derive(Debug, Default)]
struct Names {
    /// `bus|rule`.
    rules: HashSet<String>,
    archives: HashSet<String>,
    /// `bus|statement id`.
    statements: HashSet<String>,
}

impl Declared {
    fn names(&self) -> MutexGuard<'_, Names> {
        cloud_core::lock(&self.0)
    }

    #[cfg(any(test, feature = "testing"))]
    pub fn clear_for_tests(&self) {
        *self.names() = Names::default();
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct BusProps {
    name: String,
    description: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
    /// For events that AWS fails to encrypt; nothing is encrypted here.
    #[serde(rename = "DeadLetterConfig")]
    _dead_letter_config: Option<Value>,
    /// No effect here: nothing is encrypted at rest.
    #[serde(rename = "KmsKeyIdentifier")]
    _kms_key_identifier: Option<Value>,
    /// No effect here: the live log shows what a bus failed to deliver.
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
    tags: Vec<Tag>,
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
pub(super) const TYPES: &[Type] = &[
    Type::new("AWS::Events::Archive", "archive and replay",
        Identity::named("ArchiveName", 48)
            .arn("arn:aws:events:{region}:{account}:archive/{name}").attributes(&[Identity::ARN]),
        Deploy::Now(deploy_archive)).holds(later!(archived)).remove(later!(undeclared)),
    Type::new("AWS::Events::EventBus", "patterns, targets, retries and dead-letter queues",
        Identity::named("Name", 256)
            .arn("arn:aws:events:{region}:{account}:event-bus/{name}")
            .attributes(&[Identity::ARN, ("Name", "{name}")]),
        Deploy::Now(deploy_bus)).remove(later!(remove_bus)),
    Type::new("AWS::Events::EventBusPolicy", "shown by DescribeEventBus; permissions are not enforced here",
        Identity::made_up(64),
        Deploy::Now(deploy_policy)).remove(later!(undeclared)).approximated(),
    Type::new("AWS::Events::Rule", "by event pattern; functions, state machines, buses, log groups and queues as targets",
        Identity::named("Name", 64)
            .arn("arn:aws:events:{region}:{account}:rule/{bus}{name}").attributes(&[Identity::ARN]),
        Deploy::Now(deploy_rule))
        .remove(later!(undeclared)),
];

/// Rules, archives and statements of policies live in the template alone: all that it no longer has go at once.
async fn undeclared(cloud: &Arc<Cloud>, _: &Named) -> Result<bool, AwsError> {
    forget_undeclared(cloud)?;
    Ok(false)
}

async fn archived(cloud: &Arc<Cloud>, archive: &Named) -> Result<Option<String>, AwsError> {
    let input = json!({"ArchiveName": archive.name()});
    let found = unless_missing(cloud.call("events", "DescribeArchive", input).await)?;
    Ok(counted(found["EventCount"].as_u64().unwrap_or_default(), "archived event"))
}

/// A bus can only be deleted after its rules.
async fn remove_bus(cloud: &Arc<Cloud>, bus: &Named) -> Result<bool, AwsError> {
    forget_undeclared(cloud)?;
    cloud.call("events", "DeleteEventBus", json!({"Name": bus.name()})).await?;
    Ok(true)
}

fn deploy_bus(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let props: BusProps = resource.read()?;
    check_bus(&props.name).map_err(|reason| resource.refuse("Properties.Name", reason))?;
    let statements = props.policy.as_ref().map_or(Ok(Vec::new()), policy::statements_of);
    let statements = statements.map_err(|reason| resource.refuse("Properties.Policy", reason))?;
    let bus = store::Bus {
        name: props.name,
        description: props.description,
        tags: tag_object(props.tags),
        created_ms: cloud.clock.now_ms(),
    };
    save(cloud, resource, |tx| store::put_bus(tx, &bus))?;
    statements.iter().try_for_each(|statement| save_statement(cloud, resource, &bus.name, statement))
}

fn deploy_policy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let props: PolicyProps = resource.read()?;
    let bus = bus(cloud, resource, "EventBusName", props.event_bus_name.as_deref())?;
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
    save(cloud, resource, |tx| store::put_statement(tx, bus, statement))?;
    let id = statement["Sid"].as_str().unwrap_or_default();
    cloud.state::<Declared>().names().statements.insert(format!("{bus}|{id}"));
    Ok(())
}

fn deploy_rule(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let props: RuleProps = resource.read()?;
    let refuse = |path: &str, reason: String| resource.refuse(&format!("Properties.{path}"), reason);
    let name = props.name.unwrap_or_else(|| physical_name(resource));
    check_name(&name).map_err(|reason| refuse("Name", reason))?;
    let bus = bus(cloud, resource, "EventBusName", props.event_bus_name.as_deref())?;
    let pattern = props.event_pattern.ok_or_else(|| {
        refuse("EventPattern", "it is missing, and scheduled rules are not emulated".to_owned())
    })?;
    let pattern = pattern_text(&pattern).map_err(|reason| refuse("EventPattern", reason))?;
    let state = props.state.unwrap_or_else(|| "ENABLED".into());
    check_state(&state).map_err(|reason| refuse("State", reason))?;
    if !props.targets.is_empty() {
        check_targets(&props.targets).map_err(|reason| refuse("Targets", reason))?;
    }
    // The state that an operator set stays, until the template asks for another one.
    let before = cloud.store.read(|db| store::rule(db, &bus, &name));
    let before = before.map_err(|error| refuse("Name", error.to_string()))?;
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
    cloud.state::<Declared>().names().rules.insert(format!("{}|{}", rule.bus, rule.name));
    Ok(())
}

fn deploy_archive(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let props: ArchiveProps = resource.read()?;
    let refuse = |path: &str, reason: String| resource.refuse(&format!("Properties.{path}"), reason);
    let name = props.archive_name.unwrap_or_else(|| physical_name(resource));
    check_archive(&name).map_err(|reason| refuse("ArchiveName", reason))?;
    check_retention(props.retention_days).map_err(|reason| refuse("RetentionDays", reason))?;
    let pattern = props.event_pattern.as_ref().map(pattern_text).transpose();
    let archive = store::Archive {
        from_template: true,
        name,
        bus: bus(cloud, resource, "SourceArn", Some(&props.source_arn))?,
        pattern: pattern.map_err(|reason| refuse("EventPattern", reason))?,
        description: props.description,
        retention_days: props.retention_days,
        created_ms: cloud.clock.now_ms(),
    };
    save(cloud, resource, |tx| store::put_archive(tx, &archive))?;
    cloud.state::<Declared>().names().archives.insert(archive.name);
    Ok(())
}

/// The name of the bus that a property names.
fn bus(
    cloud: &Cloud,
    resource: &Resource,
    property: &str,
    name_or_arn: Option<&str>,
) -> Result<String, Refusal> {
    let found = find_bus(cloud, name_or_arn);
    let bus = found.map_err(|error| resource.refuse(&format!("Properties.{property}"), error.message))?;
    Ok(bus.name)
}

/// The name that CloudFormation made up. `Ref` of a rule on a custom bus is `bus|rule`.
fn physical_name(resource: &Resource) -> String {
    resource.physical_id.rsplit(['|', '/']).next().unwrap_or_default().to_owned()
}

fn pattern_text(pattern: &Value) -> Result<String, String> {
    let text = pattern.as_str().map_or_else(|| pattern.to_string(), str::to_owned);
    parse_pattern(&text)?;
    Ok(text)
}

fn save(
    cloud: &Cloud,
    resource: &Resource,
    change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
) -> Result<(), Refusal> {
    cloud.store.write(change).map_err(|error| resource.refuse("Properties", error.to_string()))?;
    routing::forget(cloud);
    Ok(())
}

/// Deletes the rules, archives and statements of an earlier template that this one does not declare.
pub fn forget_undeclared(cloud: &Cloud) -> Result<(), StoreError> {
    let [rules, archives, statements] = {
        let names = cloud.state::<Declared>().names();
        [&names.rules, &names.archives, &names.statements].map(|names| json!(names).to_string())
    };
    cloud.store.write(|tx| {
        tx.execute(
            "DELETE FROM events_rules WHERE from_template
             AND bus || '|' || name NOT IN (SELECT value FROM json_each(?1))",
            [rules],
        )?;
        tx.execute(
            "DELETE FROM events_policies WHERE from_template
             AND bus || '|' || sid NOT IN (SELECT value FROM json_each(?1))",
            [statements],
        )?;
        tx.execute(
            "DELETE FROM events_archives WHERE from_template AND name NOT IN (SELECT value FROM json_each(?1))",
            [archives],
        )
    })?;
    routing::forget(cloud);
    Ok(())
}
