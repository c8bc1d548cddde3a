//! State machines as they are deployed: the properties of the template, the revisions that
//! executions run, and where their history is logged.

use std::sync::Arc;

use cloud_core::random::stable_uuid;
use cloud_core::resource::{Refusal, Resource};
use cloud_core::{AwsError, Cloud};
use cloud_languages::states::asl::Definition;
use cloud_languages::states::history::HistoryEvent;
use cloud_languages::states::tree::Meta;
use rusqlite::{OptionalExtension as _, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Properties {
    state_machine_name: Option<String>,
    state_machine_type: Option<String>,
    definition: Option<Value>,
    definition_string: Option<String>,
    #[serde(default)]
    definition_substitutions: Map<String, Value>,
    role_arn: Option<String>,
    logging_configuration: Option<Logging>,
    tracing_configuration: Option<Tracing>,
    #[serde(default)]
    tags: Vec<Tag>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Tag {
    key: String,
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Logging {
    level: Option<String>,
    include_execution_data: Option<bool>,
    #[serde(default)]
    destinations: Vec<Destination>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Destination {
    cloud_watch_logs_log_group: LogGroup,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct LogGroup {
    log_group_arn: String,
}

/// No traces are taken here; the setting is only shown again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Tracing {
    enabled: Option<bool>,
}

/// A revision of a state machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// The machine's name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// Its role, which is not assumed here.
    pub role_arn: String,
    /// The definition, substitutions applied.
    pub definition: Value,
    /// The definition byte for byte, where it came through the API.
    #[serde(default)]
    pub text: Option<String>,
    /// `ALL`, `ERROR`, `FATAL` or `OFF`.
    pub log_level: String,
    /// Whether inputs and outputs are logged.
    pub log_data: bool,
    /// The ARN of the log group.
    pub log_group_arn: Option<String>,
    /// Shown again, without effect.
    pub tracing: bool,
}

/// A state machine.
#[derive(Debug)]
pub struct Machine {
    /// The revision that new executions run.
    pub revision: String,
    /// When it was created; milliseconds since the epoch.
    pub created_ms: i64,
    /// `[{key, value}]`.
    pub tags: Value,
    /// The revision's settings.
    pub settings: Arc<Settings>,
}

impl Settings {
    /// The definition as the API shows it.
    pub fn definition_text(&self) -> String {
        self.text.clone().unwrap_or_else(|| self.definition.to_string())
    }

    /// `loggingConfiguration` as the API shows it.
    pub fn logging(&self) -> Value {
        let mut shown = json!({"level": self.log_level, "includeExecutionData": self.log_data});
        if let Some(arn) = &self.log_group_arn {
            shown["destinations"] = json!([{"cloudWatchLogsLogGroup": {"logGroupArn": arn}}]);
        }
        shown
    }

    /// Writes history events to the machine's log group, as its level says.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn log(
        &self,
        cloud: &Cloud,
        transaction: &Transaction<'_>,
        meta: &Meta,
        events: &[HistoryEvent],
    ) -> rusqlite::Result<()> {
        let Some(group) = self.log_group_arn.as_deref().and_then(|arn| arn.split(':').nth(6)) else {
            return Ok(());
        };
        let started = cloud_languages::states::machine::rfc3339(meta.started_ms);
        let minute = started.get(..16).unwrap_or_default().replace([':', 'T'], "-");
        // The stream's name ends in something of the machine's own on AWS, too.
        let stream =
            format!("states/{}/{minute}/{}", self.name, stable_uuid(&self.arn).get(..8).unwrap_or_default());
        let lines: Vec<(i64, String)> = events
            .iter()
            .filter(|event| event.is_logged_at(&self.log_level))
            .map(|event| (event.at_ms, event.log_line(&meta.arn, self.log_data)))
            .collect();
        let lines: Vec<(i64, &str)> = lines.iter().map(|(at_ms, line)| (*at_ms, line.as_str())).collect();
        if lines.is_empty() {
            return Ok(());
        }
        crate::logs::append_within(cloud, transaction, group, &stream, &lines)
    }
}

/// Deploys a state machine of a template.
///
/// # Errors
/// Names the property or the state that is not emulated.
pub fn deploy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let properties: Properties = resource.read()?;
    if properties.state_machine_type.as_deref().is_some_and(|kind| kind != "STANDARD") {
        return Err(resource.refuse("Properties.StateMachineType", "only STANDARD is emulated"));
    }
    let refuse =
        |path: &str, reason: String| resource.refuse(&format!("Properties.Definition.{path}"), reason);
    let mut definition = match (properties.definition, properties.definition_string) {
        (Some(definition), None) => definition,
        (None, Some(text)) => {
            serde_json::from_str(&text).map_err(|error| refuse("", format!("it is not JSON: {error}")))?
        }
        _ => return Err(resource.refuse("Properties", "either Definition or DefinitionString is needed")),
    };
    substitute(&mut definition, &properties.definition_substitutions)
        .map_err(|name| refuse("", format!("${{{name}}} is not among the DefinitionSubstitutions")))?;
    Definition::parse(&definition).map_err(|fault| refuse(&fault.path, fault.reason))?;
    let logging = properties.logging_configuration;
    let level = logging.as_ref().and_then(|logging| logging.level.clone()).unwrap_or_else(|| "OFF".into());
    let groups: Vec<String> = logging
        .iter()
        .flat_map(|logging| &logging.destinations)
        .map(|destination| destination.cloud_watch_logs_log_group.log_group_arn.clone())
        .collect();
    check_logging(&level, &groups)
        .map_err(|reason| resource.refuse("Properties.LoggingConfiguration", reason))?;
    let arn = if resource.arn.is_empty() { resource.physical_id.clone() } else { resource.arn.clone() };
    let name = properties
        .state_machine_name
        .unwrap_or_else(|| arn.rsplit(':').next().unwrap_or(&resource.logical_id).to_owned());
    let settings = Settings {
        arn: cloud.arn("states", &format!("stateMachine:{name}")),
        name,
        role_arn: properties.role_arn.unwrap_or_default(),
        definition,
        text: None,
        log_level: level,
        log_data: logging.as_ref().and_then(|logging| logging.include_execution_data).unwrap_or(false),
        log_group_arn: groups.into_iter().next(),
        tracing: properties.tracing_configuration.and_then(|tracing| tracing.enabled).unwrap_or(false),
    };
    let tags: Vec<Value> =
        properties.tags.into_iter().map(|tag| json!({"key": tag.key, "value": tag.value})).collect();
    put(cloud, &settings, &Value::Array(tags))
        .map(drop)
        .map_err(|error| resource.refuse("Properties", error.to_string()))
}

/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_LoggingConfiguration.html>
pub fn check_logging(level: &str, groups: &[String]) -> Result<(), &'static str> {
    if !["ALL", "ERROR", "FATAL", "OFF"].contains(&level) {
        return Err("Level is ALL, ERROR, FATAL or OFF");
    }
    if groups.len() > 1 || (groups.is_empty() && level != "OFF") {
        return Err("Must specify exactly one Log Destination.");
    }
    if groups.iter().any(|arn| !arn.contains(":log-group:") || !arn.ends_with(":*")) {
        return Err("the ARN of the log group must end with :*");
    }
    Ok(())
}

/// Replaces `${Name}` in every string, as CloudFormation does.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-stepfunctions-statemachine.html>
fn substitute(value: &mut Value, substitutions: &Map<String, Value>) -> Result<(), String> {
    match value {
        Value::String(text) => {
            for (name, replacement) in substitutions {
                let replacement = replacement.as_str().map_or_else(|| replacement.to_string(), str::to_owned);
                *text = text.replace(&format!("${{{name}}}"), &replacement);
            }
            for (start, _) in text.match_indices("${") {
                let rest = text.get(start + 2..).unwrap_or_default();
                let name = rest.split('}').next().unwrap_or_default();
                let is_name = !name.is_empty() && name.chars().all(char::is_alphanumeric);
                if is_name && rest.len() > name.len() {
                    return Err(name.to_owned());
                }
            }
            Ok(())
        }
        Value::Array(items) => items.iter_mut().try_for_each(|item| substitute(item, substitutions)),
        Value::Object(members) => {
            members.values_mut().try_for_each(|member| substitute(member, substitutions))
        }
        _ => Ok(()),
    }
}

/// Stores a machine, and gives its revision: executions that run keep the one that they began
/// with.
///
/// # Errors
/// When the store refuses.
pub fn put(cloud: &Cloud, settings: &Settings, tags: &Value) -> Result<String, AwsError> {
    let text = serde_json::to_string(settings).map_err(AwsError::internal)?;
    let revision = stable_uuid(&text);
    let now_ms = cloud.clock.now_ms();
    cloud.store.write(|transaction| {
        transaction.execute(
            "INSERT INTO sfn_revisions (revision, machine, settings, created_ms) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
            params![revision, settings.name, text, now_ms],
        )?;
        transaction.execute(
            "INSERT INTO sfn_machines (name, arn, revision, created_ms, tags) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (name) DO UPDATE SET revision = ?3, tags = ?5",
            params![settings.name, settings.arn, revision, now_ms, tags.to_string()],
        )
    })?;
    super::runner::forget_definitions(cloud);
    Ok(revision)
}

/// Whether a revision is not the one that its machine was made with; AWS shows only such.
///
/// # Errors
/// When the store refuses.
pub fn is_update(cloud: &Cloud, name: &str, revision: &str) -> Result<bool, AwsError> {
    let first: Option<String> = cloud.store.read(|connection| {
        connection
            .query_row(
                "SELECT revision FROM sfn_revisions WHERE machine = ?1 ORDER BY rowid LIMIT 1",
                [name],
                |row| row.get(0),
            )
            .optional()
    })?;
    Ok(first.is_some_and(|first| first != revision))
}

/// The settings of a revision.
///
/// # Errors
/// When there is no such revision.
pub fn settings(cloud: &Cloud, revision: &str) -> Result<Arc<Settings>, AwsError> {
    if let Some(known) = super::runner::known(cloud, revision) {
        return Ok(known.settings.clone());
    }
    let text: Option<String> = cloud.store.read(|connection| {
        connection
            .query_row("SELECT settings FROM sfn_revisions WHERE revision = ?1", [revision], |row| row.get(0))
            .optional()
    })?;
    text.and_then(|text| serde_json::from_str(&text).ok())
        .map(Arc::new)
        .ok_or_else(|| AwsError::internal(format!("there is no revision {revision} of a state machine")))
}

/// When a revision was deployed; milliseconds since the epoch.
///
/// # Errors
/// When the store refuses.
pub fn deployed_ms(cloud: &Cloud, revision: &str) -> Result<i64, AwsError> {
    Ok(cloud.store.read(|connection| {
        connection
            .query_row("SELECT created_ms FROM sfn_revisions WHERE revision = ?1", [revision], |row| {
                row.get(0)
            })
            .optional()
            .map(Option::unwrap_or_default)
    })?)
}

/// The machine of that name.
///
/// # Errors
/// When the store refuses.
pub fn find(cloud: &Cloud, name: &str) -> Result<Option<Machine>, AwsError> {
    let found: Option<(String, i64, String)> = cloud.store.read(|connection| {
        connection
            .query_row("SELECT revision, created_ms, tags FROM sfn_machines WHERE name = ?1", [name], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()
    })?;
    let Some((revision, created_ms, tags)) = found else { return Ok(None) };
    let settings = settings(cloud, &revision)?;
    let tags = serde_json::from_str(&tags).unwrap_or_else(|_| json!([]));
    Ok(Some(Machine { revision, created_ms, tags, settings }))
}

/// The names of all machines.
///
/// # Errors
/// When the store refuses.
pub fn names(cloud: &Cloud) -> Result<Vec<String>, AwsError> {
    Ok(cloud.store.read(|connection| {
        connection
            .prepare("SELECT name FROM sfn_machines ORDER BY name")?
            .query_map([], |row| row.get(0))?
            .collect()
    })?)
}

/// Deletes a machine with its executions.
///
/// # Errors
/// When the store refuses.
pub fn delete(cloud: &Cloud, name: &str) -> Result<(), AwsError> {
    cloud.store.write(|transaction| {
        transaction.execute("DELETE FROM sfn_executions WHERE machine = ?1", [name])?;
        transaction.execute("DELETE FROM sfn_revisions WHERE machine = ?1", [name])?;
        transaction.execute("DELETE FROM sfn_machines WHERE name = ?1", [name])
    })?;
    super::runner::forget_definitions(cloud);
    Ok(())
}
