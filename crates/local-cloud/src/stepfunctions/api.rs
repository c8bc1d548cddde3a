//! The API actions of Step Functions, with the members, limits and errors of its API
//! reference (<https://docs.aws.amazon.com/step-functions/latest/apireference/>).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::asl::{Definition, Fault};
use super::history::seconds;
use super::machine::{PAYLOAD_LIMIT, Stimulus};
use super::machines::{self, Machine, Settings};
use super::records::{self, Record};
use super::runner::{self, Started};
use super::tree::{Execution, Failure, Meta, Status};
use crate::cloud::Cloud;
use crate::error::AwsError;

/// A closed execution's name may be used again after 90 days.
const NAME_KEPT_MS: i64 = 90 * 24 * 60 * 60 * 1000;

/// Answers one action.
///
/// # Errors
/// AWS's own error codes.
pub fn call(cloud: &Arc<Cloud>, action: &str, input: Value) -> Result<Value, AwsError> {
    match action {
        "CreateStateMachine" => create_state_machine(cloud, read(input)?),
        "DeleteStateMachine" => delete_state_machine(cloud, &read(input)?),
        "DescribeExecution" => describe_execution(cloud, &read(input)?),
        "DescribeStateMachine" => describe_state_machine(cloud, &read(input)?),
        "DescribeStateMachineForExecution" => describe_for_execution(cloud, &read(input)?),
        "GetExecutionHistory" => get_execution_history(cloud, &read(input)?),
        "ListExecutions" => list_executions(cloud, &read(input)?),
        "ListStateMachines" => list_state_machines(cloud, &read(input)?),
        "ListTagsForResource" => list_tags(cloud, &read(input)?),
        "SendTaskFailure" => send_task_failure(cloud, read(input)?),
        "SendTaskHeartbeat" => send_task_heartbeat(cloud, read(input)?),
        "SendTaskSuccess" => send_task_success(cloud, read(input)?),
        "StartExecution" => start_execution(cloud, read(input)?),
        "StopExecution" => stop_execution(cloud, read(input)?),
        "ValidateStateMachineDefinition" => validate(&read(input)?),
        _ => Err(AwsError::not_emulated("states", action)),
    }
}

fn read<T: DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    serde_json::from_value(input).map_err(|error| AwsError::client("ValidationException", error.to_string()))
}

fn error<T>(code: &str, message: String) -> Result<T, AwsError> {
    Err(AwsError::client(code, message))
}

// --- Names and ARNs. Region and account are not looked at: names tell all apart.

fn machine_of(cloud: &Cloud, arn: &str) -> Result<Machine, AwsError> {
    let Some(name) =
        arn.split_once(":stateMachine:").map(|(_, name)| name).filter(|name| !name.contains(':'))
    else {
        return error("InvalidArn", format!("Invalid Arn: '{arn}'"));
    };
    match machines::find(cloud, name)? {
        Some(machine) => Ok(machine),
        None => error("StateMachineDoesNotExist", format!("State Machine Does Not Exist: '{arn}'")),
    }
}

fn execution_of(cloud: &Cloud, arn: &str) -> Result<Record, AwsError> {
    let Some((machine, name)) = arn.split_once(":execution:").and_then(|(_, names)| names.split_once(':'))
    else {
        return error("InvalidArn", format!("Invalid Arn: '{arn}'"));
    };
    match cloud.store.read(|connection| records::find(connection, machine, name))? {
        Some(record) => Ok(record),
        None => error("ExecutionDoesNotExist", format!("Execution Does Not Exist: '{arn}'")),
    }
}

/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html>
fn check_name(name: &str) -> Result<(), AwsError> {
    let forbidden = |letter: char| {
        letter.is_whitespace() || letter.is_control() || "<>{}[]?*\"#%\\^|~`$&,;:/".contains(letter)
    };
    if name.is_empty() || name.chars().count() > 80 || name.chars().any(forbidden) {
        return error("InvalidName", format!("Invalid Name: '{name}'"));
    }
    Ok(())
}

// --- Executions.

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct StartExecution {
    state_machine_arn: String,
    name: Option<String>,
    input: Option<String>,
    /// Traces are not taken here.
    #[serde(rename = "traceHeader")]
    _trace_header: Option<String>,
}

fn start_execution(cloud: &Arc<Cloud>, input: StartExecution) -> Result<Value, AwsError> {
    let machine = machine_of(cloud, &input.state_machine_arn)?;
    let name = match input.name {
        Some(name) => name,
        None => free_name(cloud, &machine.settings.name)?,
    };
    check_name(&name)?;
    let text = input.input.unwrap_or_else(|| "{}".into());
    if text.len() > PAYLOAD_LIMIT {
        return error(
            "InvalidExecutionInput",
            format!("Invalid State Machine Execution Input: 'it has more than {PAYLOAD_LIMIT} bytes'"),
        );
    }
    if let Err(problem) = serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        return error("InvalidExecutionInput", format!("Invalid State Machine Execution Input: '{problem}'"));
    }
    let now_ms = cloud.clock.now_ms();
    let settings = &machine.settings;
    let meta = Meta {
        arn: cloud.arn("states", &format!("execution:{}:{name}", settings.name)),
        name: name.clone(),
        machine_arn: settings.arn.clone(),
        machine_name: settings.name.clone(),
        revision: machine.revision.clone(),
        role_arn: settings.role_arn.clone(),
        input: text.clone(),
        started_ms: now_ms,
        ..Meta::default()
    };
    let machine_name = settings.name.clone();
    let started = runner::start(cloud, Execution { meta, root: None }, |transaction| {
        let existing = records::find(transaction, &machine_name, &name)?;
        if let Some(Record { seq, execution }) = &existing
            && execution.meta.stopped_ms.is_some_and(|stopped| stopped + NAME_KEPT_MS < now_ms)
        {
            transaction.execute("DELETE FROM sfn_executions WHERE seq = ?1", [seq])?;
            return Ok(None);
        }
        Ok(existing)
    })?;
    let answer = |meta: &Meta| Ok(json!({"executionArn": meta.arn, "startDate": seconds(meta.started_ms)}));
    match started {
        Started::Created(record) => answer(&record.execution.meta),
        Started::Existed(record) => {
            let meta = &record.execution.meta;
            // The same call again is the same execution, while it runs.
            if meta.status == Status::Running && meta.input == text {
                return answer(meta);
            }
            error("ExecutionAlreadyExists", format!("Execution Already Exists: '{}'", meta.arn))
        }
    }
}

/// A random name; one that a seed gave before a restart already is passed over.
fn free_name(cloud: &Cloud, machine: &str) -> Result<String, AwsError> {
    loop {
        let name = cloud.random.uuid();
        if cloud.store.read(|connection| records::find(connection, machine, &name))?.is_none() {
            return Ok(name);
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct StopExecution {
    execution_arn: String,
    error: Option<String>,
    cause: Option<String>,
}

fn stop_execution(cloud: &Arc<Cloud>, input: StopExecution) -> Result<Value, AwsError> {
    let record = execution_of(cloud, &input.execution_arn)?;
    let failure = failure_of(input.error, input.cause)?;
    runner::stimulate(cloud, record.seq, &Stimulus::Abort(failure))?;
    let meta = execution_of(cloud, &input.execution_arn)?.execution.meta;
    Ok(json!({"stopDate": seconds(meta.stopped_ms.unwrap_or_default())}))
}

/// An error and a cause of the lengths that the API takes.
fn failure_of(name: Option<String>, cause: Option<String>) -> Result<Failure, AwsError> {
    for (member, text, longest) in [("error", &name, 256), ("cause", &cause, 32_768)] {
        if text.as_ref().is_some_and(|text| text.chars().count() > longest) {
            let message = format!("'{member}' must have length less than or equal to {longest}");
            return error("ValidationException", message);
        }
    }
    Ok(Failure { error: name, cause })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct OfExecution {
    execution_arn: String,
    included_data: Option<String>,
}

impl OfExecution {
    fn with_data(&self) -> bool {
        self.included_data.as_deref() != Some("METADATA_ONLY")
    }
}

fn describe_execution(cloud: &Cloud, input: &OfExecution) -> Result<Value, AwsError> {
    let meta = execution_of(cloud, &input.execution_arn)?.execution.meta;
    let mut answer = records::summary(&meta);
    answer["redriveStatus"] = "NOT_REDRIVABLE".into();
    // Redrive is refused here; AWS names the reason in a member of its own.
    answer["redriveStatusReason"] = "Redrive is not emulated by the local cloud".into();
    if input.with_data() {
        answer["input"] = meta.input.into();
        answer["inputDetails"] = json!({"included": true});
        if let Some(output) = meta.output {
            answer["output"] = output.into();
            answer["outputDetails"] = json!({"included": true});
        }
        if let Some(failure) = meta.failure {
            if let Some(error) = failure.error {
                answer["error"] = error.into();
            }
            if let Some(cause) = failure.cause {
                answer["cause"] = cause.into();
            }
        }
    }
    Ok(answer)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ListExecutions {
    state_machine_arn: Option<String>,
    status_filter: Option<String>,
    max_results: Option<i64>,
    next_token: Option<String>,
}

fn list_executions(cloud: &Cloud, input: &ListExecutions) -> Result<Value, AwsError> {
    let Some(arn) = &input.state_machine_arn else {
        return error("ValidationException", "stateMachineArn is required; map runs are not emulated".into());
    };
    let machine = machine_of(cloud, arn)?;
    let known = ["RUNNING", "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED", "PENDING_REDRIVE"];
    if let Some(status) = &input.status_filter
        && !known.contains(&status.as_str())
    {
        return error("ValidationException", format!("statusFilter {status} is not a status"));
    }
    let count = page_size(input.max_results, 1000)?;
    let before = input.next_token.as_deref().map_or(Ok(i64::MAX), from_token)?;
    let status = input.status_filter.as_deref();
    let mut found = cloud
        .store
        .read(|connection| records::list(connection, &machine.settings.name, status, before, count + 1))?;
    let next = next_page(&mut found, count, |record| record.seq);
    let executions: Vec<Value> =
        found.iter().map(|record| records::summary(&record.execution.meta)).collect();
    Ok(with_token(json!({"executions": executions}), next))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct GetExecutionHistory {
    execution_arn: String,
    max_results: Option<i64>,
    #[serde(default)]
    reverse_order: bool,
    next_token: Option<String>,
    include_execution_data: Option<bool>,
}

fn get_execution_history(cloud: &Cloud, input: &GetExecutionHistory) -> Result<Value, AwsError> {
    let record = execution_of(cloud, &input.execution_arn)?;
    let count = page_size(input.max_results, 1000)?;
    let last = input.next_token.as_deref().map(from_token).transpose()?;
    let mut found = cloud
        .store
        .read(|connection| records::history(connection, record.seq, input.reverse_order, last, count + 1))?;
    let next = next_page(&mut found, count, |event| event.id as i64);
    let with_data = input.include_execution_data.unwrap_or(true);
    let events: Vec<Value> = found.iter().map(|event| event.api(with_data)).collect();
    Ok(with_token(json!({"events": events}), next))
}

// --- Pages.

fn page_size(asked: Option<i64>, longest: i64) -> Result<i64, AwsError> {
    match asked {
        // 0 means the default.
        None | Some(0) => Ok(100),
        Some(count) if (1..=longest).contains(&count) => Ok(count),
        Some(count) => {
            error("ValidationException", format!("maxResults {count} is not between 0 and {longest}"))
        }
    }
}

/// Cuts the one row more than asked for, and names where the next page begins.
fn next_page<T>(rows: &mut Vec<T>, count: i64, position: impl Fn(&T) -> i64) -> Option<i64> {
    if rows.len() as i64 <= count {
        return None;
    }
    rows.truncate(count as usize);
    rows.last().map(position)
}

fn with_token(mut answer: Value, next: Option<i64>) -> Value {
    if let Some(next) = next {
        answer["nextToken"] = URL_SAFE_NO_PAD.encode(format!("v1:{next}")).into();
    }
    answer
}

fn from_token(token: &str) -> Result<i64, AwsError> {
    URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.strip_prefix("v1:")?.parse().ok())
        .ok_or_else(|| AwsError::client("InvalidToken", "Invalid Token: 'Invalid token'"))
}

// --- Task tokens.

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SendTaskSuccess {
    task_token: String,
    output: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SendTaskFailure {
    task_token: String,
    error: Option<String>,
    cause: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SendTaskHeartbeat {
    task_token: String,
}

fn send_task_success(cloud: &Arc<Cloud>, input: SendTaskSuccess) -> Result<Value, AwsError> {
    let invalid = |why: String| AwsError::client("InvalidOutput", format!("Invalid Output: '{why}'"));
    if input.output.len() > PAYLOAD_LIMIT {
        return Err(invalid(format!("it has more than {PAYLOAD_LIMIT} bytes")));
    }
    let output = serde_json::from_str(&input.output).map_err(|problem| invalid(problem.to_string()))?;
    with_task_token(cloud, &input.task_token, |token| Stimulus::Token(token, Ok(output)))
}

fn send_task_failure(cloud: &Arc<Cloud>, input: SendTaskFailure) -> Result<Value, AwsError> {
    let failure = failure_of(input.error, input.cause)?;
    with_task_token(cloud, &input.task_token, |token| Stimulus::Token(token, Err(failure)))
}

fn send_task_heartbeat(cloud: &Arc<Cloud>, input: SendTaskHeartbeat) -> Result<Value, AwsError> {
    with_task_token(cloud, &input.task_token, Stimulus::Heartbeat)
}

/// `TaskTimedOut` also stands for a task that was closed otherwise; a token that was never
/// handed out is an `InvalidToken`, and one whose execution is gone a `TaskDoesNotExist`.
/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_SendTaskSuccess.html>
fn with_task_token(
    cloud: &Arc<Cloud>,
    token: &str,
    stimulus: impl FnOnce(String) -> Stimulus,
) -> Result<Value, AwsError> {
    let Some(seq) = cloud.store.read(|connection| records::of_token(connection, token))? else {
        return error("InvalidToken", "Invalid Token: 'Invalid token'".into());
    };
    if cloud.store.read(|connection| records::get(connection, seq))?.is_none() {
        return error("TaskDoesNotExist", "Task does not exist".into());
    }
    if runner::stimulate(cloud, seq, &stimulus(token.to_owned()))? {
        return Ok(json!({}));
    }
    error("TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'".into())
}

// --- State machines.

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct OfMachine {
    state_machine_arn: String,
    /// `METADATA_ONLY` leaves the definition out.
    included_data: Option<String>,
}

fn describe_state_machine(cloud: &Cloud, input: &OfMachine) -> Result<Value, AwsError> {
    let machine = machine_of(cloud, &input.state_machine_arn)?;
    let settings = &machine.settings;
    let mut answer = json!({
        "stateMachineArn": settings.arn,
        "name": settings.name,
        "status": "ACTIVE",
        "definition": settings.definition.to_string(),
        "roleArn": settings.role_arn,
        "type": "STANDARD",
        "creationDate": seconds(machine.created_ms),
        "loggingConfiguration": settings.logging(),
        "tracingConfiguration": {"enabled": settings.tracing},
        "revisionId": machine.revision,
    });
    if input.included_data.as_deref() == Some("METADATA_ONLY") {
        // The member is required, so AWS sends it empty.
        answer["definition"] = "{}".into();
    }
    Ok(answer)
}

fn describe_for_execution(cloud: &Cloud, input: &OfExecution) -> Result<Value, AwsError> {
    let meta = execution_of(cloud, &input.execution_arn)?.execution.meta;
    let settings = machines::settings(cloud, &meta.revision)?;
    Ok(json!({
        "stateMachineArn": settings.arn,
        "name": settings.name,
        "definition": if input.with_data() { settings.definition.to_string() } else { "{}".into() },
        "roleArn": settings.role_arn,
        "updateDate": seconds(machines::deployed_ms(cloud, &meta.revision)?),
        "loggingConfiguration": settings.logging(),
        "tracingConfiguration": {"enabled": settings.tracing},
        "revisionId": meta.revision,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ListStateMachines {
    max_results: Option<i64>,
    next_token: Option<String>,
}

fn list_state_machines(cloud: &Cloud, input: &ListStateMachines) -> Result<Value, AwsError> {
    let count = page_size(input.max_results, 1000)?;
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
struct OfResource {
    resource_arn: String,
}

fn list_tags(cloud: &Cloud, input: &OfResource) -> Result<Value, AwsError> {
    let machine = machine_of(cloud, &input.resource_arn).map_err(|problem| {
        if problem.code == "InvalidArn" {
            return problem;
        }
        AwsError::client("ResourceNotFound", format!("Resource not found: '{}'", input.resource_arn))
    })?;
    Ok(json!({"tags": machine.tags}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CreateStateMachine {
    name: String,
    definition: String,
    role_arn: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    tags: Vec<Value>,
}

/// For test suites; the application's own machines come from its templates.
fn create_state_machine(cloud: &Cloud, input: CreateStateMachine) -> Result<Value, AwsError> {
    check_name(&input.name)?;
    if input.kind.as_deref().is_some_and(|kind| kind != "STANDARD") {
        return error("StateMachineTypeNotSupported", "Only STANDARD is emulated by the local cloud".into());
    }
    let definition = definition_of(&input.definition).map_err(|(code, fault)| {
        AwsError::client(
            "InvalidDefinition",
            format!("Invalid State Machine Definition: '{code}: {} at {}'", fault.reason, location(&fault)),
        )
    })?;
    let settings = Settings {
        arn: cloud.arn("states", &format!("stateMachine:{}", input.name)),
        name: input.name,
        role_arn: input.role_arn,
        definition,
        log_level: "OFF".into(),
        log_data: false,
        log_group_arn: None,
        tracing: false,
    };
    // Creating the same machine again is idempotent.
    // https://docs.aws.amazon.com/step-functions/latest/apireference/API_CreateStateMachine.html
    if let Some(existing) = machines::find(cloud, &settings.name)? {
        if existing.settings.definition != settings.definition {
            let message = format!("State Machine Already Exists: '{}'", settings.arn);
            return error("StateMachineAlreadyExists", message);
        }
        let created = seconds(existing.created_ms);
        return Ok(json!({"stateMachineArn": settings.arn, "creationDate": created}));
    }
    machines::put(cloud, &settings, &Value::Array(input.tags))?;
    Ok(json!({"stateMachineArn": settings.arn, "creationDate": seconds(cloud.clock.now_ms())}))
}

fn delete_state_machine(cloud: &Arc<Cloud>, input: &OfMachine) -> Result<Value, AwsError> {
    match machine_of(cloud, &input.state_machine_arn) {
        Ok(machine) => machines::delete(cloud, &machine.settings.name)?,
        // Deleting what is not there succeeds on AWS.
        Err(problem) if problem.code == "StateMachineDoesNotExist" => {}
        Err(problem) => return Err(problem),
    }
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Validate {
    definition: String,
    #[serde(rename = "type")]
    kind: Option<String>,
}

fn validate(input: &Validate) -> Result<Value, AwsError> {
    if input.kind.as_deref().is_some_and(|kind| kind != "STANDARD") {
        return error("ValidationException", "Only STANDARD is emulated by the local cloud".into());
    }
    Ok(match definition_of(&input.definition) {
        Ok(_) => json!({"result": "OK", "diagnostics": [], "truncated": false}),
        Err((code, fault)) => json!({
            "result": "FAIL",
            "diagnostics": [{
                "severity": "ERROR", "code": code, "message": fault.reason, "location": location(&fault),
            }],
            "truncated": false,
        }),
    })
}

fn definition_of(text: &str) -> Result<Value, (&'static str, Fault)> {
    let definition: Value = serde_json::from_str(text).map_err(|problem| {
        ("INVALID_JSON_DESCRIPTION", Fault { path: String::new(), reason: problem.to_string() })
    })?;
    Definition::parse(&definition).map_err(|fault| ("SCHEMA_VALIDATION_FAILED", fault))?;
    Ok(definition)
}

/// `/States/Name/Field`
fn location(fault: &Fault) -> String {
    format!("/{}", fault.path.replace('.', "/"))
}
