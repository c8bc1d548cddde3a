//! Starting, stopping and looking at executions.

use std::sync::Arc;

use cloud_core::{AwsError, Cloud};
use cloud_languages::states::history::seconds;
use cloud_languages::states::machine::{PAYLOAD_LIMIT, Stimulus};
use cloud_languages::states::tree::{Execution, Failure, Meta, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    check_enum, check_length, check_name, error, execution_of, from_token, invalid, machine_of, next_page,
    page_size, with_token,
};
use crate::stepfunctions::records::{self, Record};
use crate::stepfunctions::runner::{self, Started};

/// The values of `statusFilter`, in the order in which AWS names them.
const STATUSES: [&str; 6] = ["SUCCEEDED", "TIMED_OUT", "PENDING_REDRIVE", "ABORTED", "FAILED", "RUNNING"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct StartExecution {
    state_machine_arn: String,
    name: Option<String>,
    input: Option<String>,
    trace_header: Option<String>,
}

pub(super) fn start(cloud: &Arc<Cloud>, input: StartExecution) -> Result<Value, AwsError> {
    let machine = machine_of(cloud, "stateMachineArn", &input.state_machine_arn)?;
    let name = match input.name {
        Some(name) => name,
        None => free_name(cloud, &machine.settings.name)?,
    };
    check_name(&name)?;
    if let Some(header) = &input.trace_header {
        check_length("traceHeader", header, 0, 256)?;
    }
    let text = input.input.unwrap_or_else(|| "{}".into());
    if let Err(problem) = check_json("input", &text)? {
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
        trace_header: input.trace_header,
        ..Meta::default()
    };
    let is_forgotten = |existing: &Record| {
        existing.execution.meta.stopped_ms.is_some_and(|stopped| stopped + records::KEPT_MS < now_ms)
    };
    let started = runner::start(cloud, Execution { meta, root: None }, is_forgotten)?;
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

/// What is wrong with a member that holds JSON, in the words of AWS's parser for what is met most.
///
/// # Errors
/// When it is longer than the API takes.
pub(super) fn check_json(member: &str, text: &str) -> Result<Result<(), String>, AwsError> {
    if text.len() > PAYLOAD_LIMIT {
        // AWS leaves out the value, since it is sensitive.
        let constraint = format!("Member must have length less than or equal to {PAYLOAD_LIMIT}");
        return Err(invalid(&format!("Value at '{member}'"), &constraint));
    }
    let Err(problem) = serde_json::from_str::<serde::de::IgnoredAny>(text) else { return Ok(Ok(())) };
    if text.trim().is_empty() {
        return Ok(Err(format!("Invalid execution {member}.")));
    }
    let word: String = text.trim_start().chars().take_while(char::is_ascii_alphanumeric).collect();
    Ok(Err(match word.chars().next() {
        Some(first) if first.is_ascii_alphabetic() => format!(
            "Unrecognized token '{word}': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')"
        ),
        _ => problem.to_string(),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct StartSyncExecution {
    state_machine_arn: String,
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(rename = "input")]
    _input: Option<String>,
    #[serde(rename = "traceHeader")]
    _trace_header: Option<String>,
    #[serde(rename = "includedData")]
    _included_data: Option<String>,
}

/// Only Express workflows run so, and all that exist here are Standard ones.
pub(super) fn start_sync(cloud: &Cloud, input: &StartSyncExecution) -> Result<Value, AwsError> {
    machine_of(cloud, "stateMachineArn", &input.state_machine_arn)?;
    let message = "This operation is not supported by this type of state machine";
    error("StateMachineTypeNotSupported", message.into())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct StopExecution {
    execution_arn: String,
    error: Option<String>,
    cause: Option<String>,
}

pub(super) fn stop(cloud: &Arc<Cloud>, input: StopExecution) -> Result<Value, AwsError> {
    let record = execution_of(cloud, &input.execution_arn)?;
    let failure = failure_of(input.error, input.cause)?;
    runner::stimulate(cloud, record.seq, &Stimulus::Abort(failure))?;
    let meta = execution_of(cloud, &input.execution_arn)?.execution.meta;
    Ok(json!({"stopDate": seconds(meta.stopped_ms.unwrap_or_default())}))
}

/// An error and a cause of the lengths that the API takes; AWS shows neither in its refusal.
pub(super) fn failure_of(name: Option<String>, cause: Option<String>) -> Result<Failure, AwsError> {
    for (member, text, longest) in [("error", &name, 256), ("cause", &cause, 32_768)] {
        if text.as_ref().is_some_and(|text| text.chars().count() > longest) {
            let constraint = format!("Member must have length less than or equal to {longest}");
            return Err(invalid(&format!("Value at '{member}'"), &constraint));
        }
    }
    Ok(Failure { error: name, cause })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct OfExecution {
    pub execution_arn: String,
    included_data: Option<String>,
}

/// Whether `includedData` asks for all.
pub(super) fn with_data(included: Option<&str>) -> Result<bool, AwsError> {
    check_enum("includedData", included, &["METADATA_ONLY", "ALL_DATA"])?;
    Ok(included != Some("METADATA_ONLY"))
}

impl OfExecution {
    pub fn with_data(&self) -> Result<bool, AwsError> {
        with_data(self.included_data.as_deref())
    }
}

pub(super) fn describe(cloud: &Cloud, input: &OfExecution) -> Result<Value, AwsError> {
    let with_data = input.with_data()?;
    let meta = execution_of(cloud, &input.execution_arn)?.execution.meta;
    let mut answer = records::summary(&meta);
    let (status, reason) = records::redrive_status(&meta, cloud.clock.now_ms());
    answer["redriveStatus"] = status.into();
    if let Some(reason) = reason {
        answer["redriveStatusReason"] = reason.into();
    }
    if let Some(header) = meta.trace_header {
        answer["traceHeader"] = header.into();
    }
    if with_data {
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
pub(super) struct ListExecutions {
    state_machine_arn: String,
    status_filter: Option<String>,
    max_results: Option<i64>,
    next_token: Option<String>,
}

pub(super) fn list(cloud: &Cloud, input: &ListExecutions) -> Result<Value, AwsError> {
    let status = input.status_filter.as_deref();
    check_enum("statusFilter", status, &STATUSES)?;
    let count = page_size(input.max_results)?;
    let before = input.next_token.as_deref().map_or(Ok(i64::MAX), from_token)?;
    let machine = machine_of(cloud, "stateMachineArn", &input.state_machine_arn)?;
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
pub(super) struct GetExecutionHistory {
    execution_arn: String,
    max_results: Option<i64>,
    #[serde(default)]
    reverse_order: bool,
    next_token: Option<String>,
    include_execution_data: Option<bool>,
}

pub(super) fn history(cloud: &Cloud, input: &GetExecutionHistory) -> Result<Value, AwsError> {
    let count = page_size(input.max_results)?;
    let last = input.next_token.as_deref().map(from_token).transpose()?;
    let record = execution_of(cloud, &input.execution_arn)?;
    let mut found = cloud
        .store
        .read(|connection| records::history(connection, record.seq, input.reverse_order, last, count + 1))?;
    let next = next_page(&mut found, count, |event| event.id as i64);
    let with_data = input.include_execution_data.unwrap_or(true);
    let events: Vec<Value> = found.iter().map(|event| event.api(with_data)).collect();
    Ok(with_token(json!({"events": events}), next))
}
