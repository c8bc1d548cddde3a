//! State machines through the API. The application's machines come from its templates; test suites create
//! their own here.

use std::sync::Arc;

use cloud_core::api::{check_enum, check_length, page, with_token};
use cloud_core::{AwsError, Cloud};
use cloud_languages::states::asl::{Definition, Fault, NOT_AN_OBJECT};
use cloud_languages::states::history::seconds;
use cloud_languages::states::integration::{rename, upper_first};
use serde::Deserialize;
use serde_json::{Value, json};

use super::executions::with_data;
use super::input::{check_json, check_name, error, from_token, machine_of, page_size, read, valid};
use crate::stepfunctions::machines::{self, Settings};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct OfMachine {
    state_machine_arn: String,
    /// `METADATA_ONLY` leaves the definition out.
    included_data: Option<String>,
}

pub(super) fn describe(cloud: &Cloud, input: &OfMachine) -> Result<Value, AwsError> {
    let with_definition = with_data(input.included_data.as_deref())?;
    let machine = machine_of(cloud, "stateMachineArn", &input.state_machine_arn)?;
    let settings = &machine.settings;
    let mut answer = json!({
        "stateMachineArn": settings.arn,
        "name": settings.name,
        "status": "ACTIVE",
        // The member is required, so AWS sends an empty object in place of a definition.
        "definition": if with_definition { settings.definition_text() } else { "{}".into() },
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ListStateMachines {
    max_results: Option<i64>,
    next_token: Option<String>,
}

pub(super) fn list(cloud: &Cloud, input: &ListStateMachines) -> Result<Value, AwsError> {
    let count = page_size(input.max_results)? as usize;
    let after = input.next_token.as_deref().map(from_token).transpose()?;
    let items = machines::all(cloud)?.into_iter().map(|(name, arn, created_ms)| {
        let date = seconds(created_ms);
        let item = json!({"stateMachineArn": arn, "name": name, "type": "STANDARD", "creationDate": date});
        (name, item)
    });
    let (items, next) = page(items.collect(), after.as_deref(), count);
    Ok(with_token(json!({"stateMachines": items}), "nextToken", next))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct OfResource {
    resource_arn: String,
}

pub(super) fn list_tags(cloud: &Cloud, input: &OfResource) -> Result<Value, AwsError> {
    match machine_of(cloud, "resourceArn", &input.resource_arn) {
        Err(problem) if problem.code == "StateMachineDoesNotExist" => {
            error("ResourceNotFound", format!("Resource not found: '{}'", input.resource_arn))
        }
        found => Ok(json!({"tags": found?.tags})),
    }
}

/// Reading refuses `encryptionConfiguration` and `versionDescription` by their names.
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
    #[serde(default)]
    logging_configuration: Value,
    #[serde(default)]
    tracing_configuration: Value,
    #[serde(default)]
    publish: bool,
}

pub(super) fn create(cloud: &Cloud, input: CreateStateMachine) -> Result<Value, AwsError> {
    check_name(&input.name)?;
    valid(check_length("roleArn", &input.role_arn, 1..=256))?;
    valid(check_enum("type", input.kind.as_deref(), &["STANDARD", "EXPRESS"]))?;
    if input.kind.as_deref() == Some("EXPRESS") {
        return error("StateMachineTypeNotSupported", "Only STANDARD is emulated by the local cloud".into());
    }
    if input.publish {
        return error("ValidationException", "publish is not emulated by the local cloud".into());
    }
    // Templates have the same members in PascalCase.
    let logging = read(rename(&input.logging_configuration, upper_first))?;
    let tracing = read(rename(&input.tracing_configuration, upper_first))?;
    let definition = runnable(&input.definition)?;
    let settings = Settings::new(cloud, input.name, definition, input.role_arn, logging, tracing);
    let mut settings = settings.or_else(|reason| {
        error("InvalidLoggingConfiguration", format!("Invalid Logging Configuration: {reason}"))
    })?;
    settings.text = Some(input.definition);
    // Creating the same machine again is idempotent; another role makes no difference.
    // https://docs.aws.amazon.com/step-functions/latest/apireference/API_CreateStateMachine.html
    let created_ms = if let Some(existing) = machines::find(cloud, &settings.name)? {
        let compared = |settings: &Settings| {
            (settings.definition_text(), settings.logging().to_string(), settings.tracing)
        };
        if compared(&existing.settings) != compared(&settings) {
            let message = format!("State Machine Already Exists: '{}'", settings.arn);
            return error("StateMachineAlreadyExists", message);
        }
        existing.created_ms
    } else {
        machines::put(cloud, &settings, &Value::Array(input.tags))?;
        cloud.clock.now_ms()
    };
    Ok(json!({"stateMachineArn": settings.arn, "creationDate": seconds(created_ms)}))
}

/// The definition, if it can run.
fn runnable(text: &str) -> Result<Value, AwsError> {
    let faults = match parsed(text) {
        Ok(definition) => return Ok(definition),
        Err(faults) => faults,
    };
    let sentence = |fault: &Fault| {
        let at = location(fault).unwrap_or_else(|| "null".into());
        format!("{}: {} at {at}", fault.code, fault.reason)
    };
    let sentences = match &faults[..] {
        [only] => sentence(only),
        all => all.iter().map(|fault| format!("'{}'", sentence(fault))).collect::<Vec<_>>().join(", "),
    };
    error("InvalidDefinition", format!("Invalid State Machine Definition: '{sentences}'"))
}

fn parsed(text: &str) -> Result<Value, Vec<Fault>> {
    if !text.trim().is_empty()
        && let Ok(Err(reason)) = check_json("definition", text)
    {
        return Err(vec![Fault { code: "INVALID_JSON_DESCRIPTION", path: String::new(), reason }]);
    }
    let definition = serde_json::from_str(text).unwrap_or(Value::Null);
    Definition::check(&definition).map(|_| definition)
}

/// `/States/Name/Field`; `None` for a fault without a place.
fn location(fault: &Fault) -> Option<String> {
    let nowhere = ["INVALID_JSON_DESCRIPTION", "MISSING_END_STATE"].contains(&fault.code)
        || fault.reason == NOT_AN_OBJECT;
    (!nowhere).then(|| format!("/{}", fault.path.replace('.', "/")))
}

pub(super) fn delete(cloud: &Arc<Cloud>, input: &OfMachine) -> Result<Value, AwsError> {
    match machine_of(cloud, "stateMachineArn", &input.state_machine_arn) {
        Ok(machine) => machines::delete(cloud, &machine.settings.name)?,
        // AWS answers that it deleted a machine that does not exist.
        Err(problem) if problem.code == "StateMachineDoesNotExist" => {}
        Err(problem) => return Err(problem),
    }
    Ok(json!({}))
}
