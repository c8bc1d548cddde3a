//! State machines through the API. Those of the application come from its templates; what is
//! made here is for test suites.

use std::sync::Arc;

use cloud_core::{AwsError, Cloud};
use cloud_languages::states::asl::{Definition, Fault};
use cloud_languages::states::history::seconds;
use serde::Deserialize;
use serde_json::{Value, json};

use super::executions::{OfExecution, check_json, with_data};
use super::{
    check_enum, check_length, check_name, error, execution_of, from_token, machine_of, next_page, page_size,
    with_token,
};
use crate::stepfunctions::machines::{self, Settings};

const TYPES: [&str; 2] = ["STANDARD", "EXPRESS"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct OfMachine {
    state_machine_arn: String,
    /// `METADATA_ONLY` leaves the definition out.
    included_data: Option<String>,
}

/// The member is required, so AWS sends it empty where it is not wanted.
fn definition(settings: &Settings, included: bool) -> String {
    if included { settings.definition_text() } else { "{}".into() }
}

pub(super) fn describe(cloud: &Cloud, input: &OfMachine) -> Result<Value, AwsError> {
    let included = with_data(input.included_data.as_deref())?;
    let machine = machine_of(cloud, "stateMachineArn", &input.state_machine_arn)?;
    let settings = &machine.settings;
    let mut answer = json!({
        "stateMachineArn": settings.arn,
        "name": settings.name,
        "status": "ACTIVE",
        "definition": definition(settings, included),
        "roleArn": settings.role_arn,
        "type": "STANDARD",
        "creationDate": seconds(machine.created_ms),
        "loggingConfiguration": settings.logging(),
        "tracingConfiguration": {"enabled": settings.tracing},
    });
    if machines::is_update(cloud, &settings.name, &machine.revision)? {
        answer["revisionId"] = machine.revision.into();
    }
    Ok(answer)
}

pub(super) fn describe_for_execution(cloud: &Cloud, input: &OfExecution) -> Result<Value, AwsError> {
    let included = input.with_data()?;
    let meta = execution_of(cloud, &input.execution_arn)?.execution.meta;
    let settings = machines::settings(cloud, &meta.revision)?;
    let mut answer = json!({
        "stateMachineArn": settings.arn,
        "name": settings.name,
        "definition": definition(&settings, included),
        "roleArn": settings.role_arn,
        "updateDate": seconds(machines::deployed_ms(cloud, &meta.revision)?),
        "loggingConfiguration": settings.logging(),
        "tracingConfiguration": {"enabled": settings.tracing},
    });
    if machines::is_update(cloud, &settings.name, &meta.revision)? {
        answer["revisionId"] = meta.revision.into();
    }
    Ok(answer)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ListStateMachines {
    max_results: Option<i64>,
    next_token: Option<String>,
}

pub(super) fn list(cloud: &Cloud, input: &ListStateMachines) -> Result<Value, AwsError> {
    let count = page_size(input.max_results)?;
    let from = input.next_token.as_deref().map_or(Ok(0), from_token)?;
    let mut names: Vec<String> = machines::names(cloud)?.into_iter().skip(from as usize).collect();
    let next = next_page(&mut names, count, |_| from + count);
    let mut items = Vec::new();
    for name in names {
        if let Some(machine) = machines::find(cloud, &name)? {
            items.push(json!({
                "stateMachineArn": machine.settings.arn,
                "name": name,
                "type": "STANDARD",
                "creationDate": seconds(machine.created_ms),
            }));
        }
    }
    Ok(with_token(json!({"stateMachines": items}), next))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct OfResource {
    resource_arn: String,
}

pub(super) fn list_tags(cloud: &Cloud, input: &OfResource) -> Result<Value, AwsError> {
    let machine = machine_of(cloud, "resourceArn", &input.resource_arn).map_err(|problem| {
        if problem.code != "StateMachineDoesNotExist" {
            return problem;
        }
        AwsError::client("ResourceNotFound", format!("Resource not found: '{}'", input.resource_arn))
    })?;
    Ok(json!({"tags": machine.tags}))
}

/// `encryptionConfiguration` and `versionDescription` are refused as unknown, by their names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct CreateStateMachine {
    name: String,
    definition: String,
    role_arn: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    tags: Vec<Value>,
    logging_configuration: Option<Logging>,
    tracing_configuration: Option<Tracing>,
    #[serde(default)]
    publish: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Logging {
    level: Option<String>,
    include_execution_data: Option<bool>,
    #[serde(default)]
    destinations: Vec<Destination>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Destination {
    cloud_watch_logs_log_group: LogGroup,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct LogGroup {
    log_group_arn: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Tracing {
    #[serde(default)]
    enabled: bool,
}

pub(super) fn create(cloud: &Cloud, input: CreateStateMachine) -> Result<Value, AwsError> {
    check_name(&input.name)?;
    check_length("roleArn", &input.role_arn, 1, 256)?;
    check_enum("type", input.kind.as_deref(), &TYPES)?;
    if input.kind.as_deref() == Some("EXPRESS") {
        return error("StateMachineTypeNotSupported", "Only STANDARD is emulated by the local cloud".into());
    }
    not_published(input.publish)?;
    let mut settings = Settings {
        arn: cloud.arn("states", &format!("stateMachine:{}", input.name)),
        name: input.name,
        role_arn: input.role_arn,
        definition: accepted(&input.definition)?,
        text: Some(input.definition),
        log_level: "OFF".into(),
        log_data: false,
        log_group_arn: None,
        tracing: input.tracing_configuration.is_some_and(|tracing| tracing.enabled),
    };
    if let Some(logging) = input.logging_configuration {
        logging.apply(&mut settings)?;
    }
    // Creating the same machine again is idempotent; another role makes no difference.
    // https://docs.aws.amazon.com/step-functions/latest/apireference/API_CreateStateMachine.html
    if let Some(existing) = machines::find(cloud, &settings.name)? {
        let same = |settings: &Settings| {
            (settings.definition_text(), settings.logging().to_string(), settings.tracing)
        };
        if same(&existing.settings) != same(&settings) {
            let message = format!("State Machine Already Exists: '{}'", settings.arn);
            return error("StateMachineAlreadyExists", message);
        }
        let created = seconds(existing.created_ms);
        return Ok(json!({"stateMachineArn": settings.arn, "creationDate": created}));
    }
    machines::put(cloud, &settings, &Value::Array(input.tags))?;
    Ok(json!({"stateMachineArn": settings.arn, "creationDate": seconds(cloud.clock.now_ms())}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct UpdateStateMachine {
    state_machine_arn: String,
    definition: Option<String>,
    role_arn: Option<String>,
    logging_configuration: Option<Logging>,
    tracing_configuration: Option<Tracing>,
    #[serde(default)]
    publish: bool,
}

/// What is not given stays as it is; executions that run keep their revision. A machine of
/// a template is again as the template says after the next start.
pub(super) fn update(cloud: &Cloud, input: UpdateStateMachine) -> Result<Value, AwsError> {
    let machine = machine_of(cloud, "stateMachineArn", &input.state_machine_arn)?;
    not_published(input.publish)?;
    let mut settings = Settings::clone(&machine.settings);
    if input.definition.is_none()
        && input.role_arn.is_none()
        && input.logging_configuration.is_none()
        && input.tracing_configuration.is_none()
    {
        let message = "Either the definition, the role ARN, the LoggingConfiguration, or the TracingConfiguration must be specified";
        return error("MissingRequiredParameter", message.into());
    }
    if let Some(definition) = input.definition {
        settings.definition = accepted(&definition)?;
        settings.text = Some(definition);
    }
    if let Some(role_arn) = input.role_arn {
        check_length("roleArn", &role_arn, 1, 256)?;
        settings.role_arn = role_arn;
    }
    if let Some(logging) = input.logging_configuration {
        logging.apply(&mut settings)?;
    }
    if let Some(tracing) = input.tracing_configuration {
        settings.tracing = tracing.enabled;
    }
    let revision = machines::put(cloud, &settings, &machine.tags)?;
    Ok(json!({"updateDate": seconds(cloud.clock.now_ms()), "revisionId": revision}))
}

impl Logging {
    fn apply(self, settings: &mut Settings) -> Result<(), AwsError> {
        let level = self.level.unwrap_or_else(|| "OFF".into());
        let group = |to: Destination| to.cloud_watch_logs_log_group.log_group_arn;
        let groups: Vec<String> = self.destinations.into_iter().map(group).collect();
        machines::check_logging(&level, &groups).map_err(|reason| {
            let message = format!("Invalid Logging Configuration: {reason}");
            AwsError::client("InvalidLoggingConfiguration", message)
        })?;
        settings.log_level = level;
        settings.log_data = self.include_execution_data.unwrap_or(false);
        settings.log_group_arn = groups.into_iter().next();
        Ok(())
    }
}

fn not_published(publish: bool) -> Result<(), AwsError> {
    if publish {
        return error("ValidationException", "publish is not emulated by the local cloud".into());
    }
    Ok(())
}

/// The definition, where it can be run.
fn accepted(text: &str) -> Result<Value, AwsError> {
    definition_of(text).map_err(|faults| {
        let told = |fault: &Fault| {
            let at = location(fault).unwrap_or_else(|| "null".into());
            format!("{}: {} at {at}", fault.code, fault.reason)
        };
        let told = match &faults[..] {
            [only] => told(only),
            all => all.iter().map(|fault| format!("'{}'", told(fault))).collect::<Vec<_>>().join(", "),
        };
        AwsError::client("InvalidDefinition", format!("Invalid State Machine Definition: '{told}'"))
    })
}

pub(super) fn delete(cloud: &Arc<Cloud>, input: &OfMachine) -> Result<Value, AwsError> {
    match machine_of(cloud, "stateMachineArn", &input.state_machine_arn) {
        Ok(machine) => machines::delete(cloud, &machine.settings.name)?,
        // Deleting what is not there succeeds on AWS.
        Err(problem) if problem.code == "StateMachineDoesNotExist" => {}
        Err(problem) => return Err(problem),
    }
    Ok(json!({}))
}

/// There are no warnings here, so that `severity` changes nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Validate {
    definition: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    severity: Option<String>,
    max_results: Option<i64>,
}

pub(super) fn validate(input: &Validate) -> Result<Value, AwsError> {
    check_enum("type", input.kind.as_deref(), &TYPES)?;
    check_enum("severity", input.severity.as_deref(), &["ERROR", "WARNING"])?;
    page_size(input.max_results)?;
    if input.kind.as_deref() == Some("EXPRESS") {
        return error("ValidationException", "Only STANDARD is emulated by the local cloud".into());
    }
    let Err(faults) = definition_of(&input.definition) else {
        return Ok(json!({"result": "OK", "diagnostics": [], "truncated": false}));
    };
    let shown = match input.max_results {
        None | Some(0) => 100,
        Some(count) => count as usize,
    };
    let diagnostics: Vec<Value> = faults.iter().take(shown).map(diagnostic).collect();
    Ok(json!({"result": "FAIL", "diagnostics": diagnostics, "truncated": faults.len() > shown}))
}

fn diagnostic(fault: &Fault) -> Value {
    let mut diagnostic = json!({"severity": "ERROR", "code": fault.code, "message": fault.reason});
    if let Some(location) = location(fault) {
        diagnostic["location"] = location.into();
    }
    diagnostic
}

fn definition_of(text: &str) -> Result<Value, Vec<Fault>> {
    if !text.trim().is_empty()
        && let Ok(Err(problem)) = check_json("definition", text)
    {
        let path = String::new();
        return Err(vec![Fault { code: "INVALID_JSON_DESCRIPTION", path, reason: problem }]);
    }
    let definition = serde_json::from_str(text).unwrap_or(Value::Null);
    match Definition::check(&definition) {
        Ok(_) => Ok(definition),
        Err((first, others)) => Err(std::iter::once(first).chain(others).collect()),
    }
}

/// `/States/Name/Field`, where the fault is at some place.
fn location(fault: &Fault) -> Option<String> {
    let nowhere = ["INVALID_JSON_DESCRIPTION", "MISSING_END_STATE"].contains(&fault.code)
        || fault.reason == cloud_languages::states::asl::NOT_AN_OBJECT;
    (!nowhere).then(|| format!("/{}", fault.path.replace('.', "/")))
}
