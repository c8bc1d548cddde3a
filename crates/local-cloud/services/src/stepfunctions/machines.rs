//! State machines: their settings, the revisions that executions run, and the log group of their history.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cloud_core::clock::rfc3339;
use cloud_core::random::stable_uuid;
use cloud_core::{AwsError, Cloud};
use cloud_languages::states::asl::Definition;
use cloud_languages::states::history::HistoryEvent;
use cloud_languages::states::tree::Meta;
use rusqlite::{OptionalExtension as _, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The settings of one revision of a machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    pub name: String,
    pub arn: String,
    /// Nothing assumes it here.
    pub role_arn: String,
    /// With substitutions applied.
    pub definition: Value,
    /// The definition byte for byte, if it came through the API.
    #[serde(default)]
    pub text: Option<String>,
    /// `ALL`, `ERROR`, `FATAL` or `OFF`.
    pub log_level: String,
    /// Whether inputs and outputs are logged.
    pub log_data: bool,
    pub log_group_arn: Option<String>,
    /// Without effect.
    pub tracing: bool,
}

#[derive(Debug)]
pub struct Machine {
    /// The revision that new executions run.
    pub revision: String,
    pub created_ms: i64,
    /// `[{key, value}]`.
    pub tags: Value,
    pub settings: Arc<Settings>,
}

/// The definition of a revision, with its settings.
#[derive(Debug)]
pub struct Revision {
    pub settings: Arc<Settings>,
    pub definition: Definition,
}

/// The revisions that executions have run since the start.
#[derive(Debug, Default)]
pub struct Revisions(Mutex<HashMap<String, Arc<Revision>>>);

impl Revisions {
    fn with<T>(cloud: &Cloud, action: impl FnOnce(&mut HashMap<String, Arc<Revision>>) -> T) -> T {
        action(&mut cloud_core::lock(&cloud.state::<Self>().0))
    }
}

/// `LoggingConfiguration` of a template.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Logging {
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

/// `TracingConfiguration` of a template; the local cloud takes no traces, and only shows the setting.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Tracing {
    enabled: Option<bool>,
}

impl Settings {
    /// # Errors
    /// A sentence on what is wrong with the logging.
    pub fn new(
        cloud: &Cloud,
        name: String,
        definition: Value,
        role_arn: String,
        logging: Option<Logging>,
        tracing: Option<Tracing>,
    ) -> Result<Self, &'static str> {
        let Logging { level, include_execution_data, destinations } = logging.unwrap_or_default();
        let log_level = level.unwrap_or_else(|| "OFF".into());
        let group = |destination: Destination| destination.cloud_watch_logs_log_group.log_group_arn;
        let groups: Vec<String> = destinations.into_iter().map(group).collect();
        check_logging(&log_level, &groups)?;
        Ok(Self {
            arn: cloud.arn("states", &format!("stateMachine:{name}")),
            name,
            role_arn,
            definition,
            text: None,
            log_level,
            log_data: include_execution_data.unwrap_or(false),
            log_group_arn: groups.into_iter().next(),
            tracing: tracing.unwrap_or_default().enabled.unwrap_or(false),
        })
    }

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

    /// Writes the history events of the machine's log level to its log group.
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
        let started = rfc3339(meta.started_ms);
        let minute = started.get(..16).unwrap_or_default().replace([':', 'T'], "-");
        // On AWS, too, the stream's name ends in an id of the machine.
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

/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_LoggingConfiguration.html>
fn check_logging(level: &str, groups: &[String]) -> Result<(), &'static str> {
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

/// Stores a machine. Running executions keep the revision that they began with.
pub fn put(cloud: &Cloud, settings: &Settings, tags: &Value) -> Result<(), AwsError> {
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
    Revisions::with(cloud, HashMap::clear);
    Ok(())
}

/// Whether a revision is not the first one of its machine; AWS shows only such revisions.
pub fn is_update(cloud: &Cloud, name: &str, revision: &str) -> Result<bool, AwsError> {
    let first = "SELECT revision FROM sfn_revisions WHERE machine = ?1 ORDER BY rowid LIMIT 1";
    let first: Option<String> =
        cloud.store.read(|connection| connection.query_row(first, [name], |row| row.get(0)).optional())?;
    Ok(first.is_some_and(|first| first != revision))
}

fn settings(cloud: &Cloud, revision: &str) -> Result<Arc<Settings>, AwsError> {
    if let Some(known) = Revisions::with(cloud, |known| known.get(revision).cloned()) {
        return Ok(known.settings.clone());
    }
    let query = "SELECT settings FROM sfn_revisions WHERE revision = ?1";
    let text: Option<String> = cloud
        .store
        .read(|connection| connection.query_row(query, [revision], |row| row.get(0)).optional())?;
    text.and_then(|text| serde_json::from_str(&text).ok())
        .map(Arc::new)
        .ok_or_else(|| AwsError::internal(format!("there is no revision {revision} of a state machine")))
}

/// The revision, parsed once.
///
/// # Errors
/// An internal error if it is not in the store.
pub fn revision(cloud: &Cloud, revision: &str) -> Result<Arc<Revision>, AwsError> {
    if let Some(known) = Revisions::with(cloud, |known| known.get(revision).cloned()) {
        return Ok(known);
    }
    let settings = settings(cloud, revision)?;
    let definition = Definition::parse(&settings.definition)
        .map_err(|fault| AwsError::internal(format!("{}: {}", fault.path, fault.reason)))?;
    let parsed = Arc::new(Revision { settings, definition });
    Revisions::with(cloud, |known| known.insert(revision.into(), parsed.clone()));
    Ok(parsed)
}

pub fn find(cloud: &Cloud, name: &str) -> Result<Option<Machine>, AwsError> {
    let query = "SELECT revision, created_ms, tags FROM sfn_machines WHERE name = ?1";
    let found: Option<(String, i64, String)> = cloud.store.read(|connection| {
        connection.query_row(query, [name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()
    })?;
    let Some((revision, created_ms, tags)) = found else { return Ok(None) };
    let settings = settings(cloud, &revision)?;
    let tags = serde_json::from_str(&tags).unwrap_or_else(|_| json!([]));
    Ok(Some(Machine { revision, created_ms, tags, settings }))
}

/// All machines by name: name, ARN and creation in milliseconds since the epoch.
pub fn all(cloud: &Cloud) -> Result<Vec<(String, String, i64)>, AwsError> {
    Ok(cloud.store.read(|connection| {
        connection
            .prepare("SELECT name, arn, created_ms FROM sfn_machines ORDER BY name")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect()
    })?)
}

/// Deletes a machine with its executions.
pub fn delete(cloud: &Cloud, name: &str) -> Result<(), AwsError> {
    cloud.store.write(|transaction| {
        transaction.execute("DELETE FROM sfn_executions WHERE machine = ?1", [name])?;
        transaction.execute("DELETE FROM sfn_revisions WHERE machine = ?1", [name])?;
        transaction.execute("DELETE FROM sfn_machines WHERE name = ?1", [name])
    })?;
    Revisions::with(cloud, HashMap::clear);
    Ok(())
}
