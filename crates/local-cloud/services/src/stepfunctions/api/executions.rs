//! Starting, stopping and reading executions.

use std::sync::Arc;

use cloud_core::api::{check_enum, check_length, with_token};
use cloud_core::{AwsError, Cloud};
use cloud_languages::states::history::seconds;
use cloud_languages::states::machine::Stimulus;
use cloud_languages::states::tree::{Execution, Failure, Meta, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use super::input::{
    check_json, check_name, error, execution_of, machine_of, next_page, page_size, position, too_long, valid,
};
use crate::stepfunctions::runner::{self, Started};
use crate::stepfunctions::store::{self, Record};
use crate::stepfunctions::{machines::Machine, shown};

/// The values of `statusFilter`, in AWS's order.
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
    let Machine { settings, revision, .. } = machine_of(cloud, "stateMachineArn", &input.state_machine_arn)?;
    let name = match input.name {
        Some(name) => name,
        None => free_name(cloud, &settings.name)?,
    };
    check_name(&name)?;
    if let Some(header) = &input.trace_header {
        valid(check_length("traceHeader", header, 0..=256))?;
    }
    let text = input.input.unwrap_or_else(|| "{}".into());
    if let Err(problem) = check_json("input", &text)? {
        return error("InvalidExecutionInput", format!("Invalid State Machine Execution Input: '{problem}'"));
    }
    let now_ms = cloud.clock.now_ms();
    let meta = Meta {
        arn: cloud.arn("states", &format!("execution:{}:{name}", settings.name)),
        name,
        machine_arn: settings.arn.clone(),
        machine_name: settings.name.clone(),
        revision,
        role_arn: settings.role_arn.clone(),
        input: text.clone(),
        started_ms: now_ms,
        trace_header: input.trace_header,
        ..Meta::default()
    };
    let is_forgotten = |existing: &Record| {
        existing.execution.meta.stopped_ms.is_some_and(|stopped| stopped + store::KEPT_MS < now_ms)
    };
    let record = match runner::start(cloud, Execution { meta, root: None }, is_forgotten)? {
        Started::Created(record) => record,
        Started::Existed(record) => {
            let meta = &record.execution.meta;
            // The same call again is the same execution, while it runs.
            if meta.status != Status::Running || meta.input != text {
                let message = format!("Execution Already Exists: '{}'", meta.arn);
                return error("ExecutionAlreadyExists", message);
            }
            record
        }
    };
    let meta = &record.execution.meta;
    Ok(json!({"executionArn": meta.arn, "startDate": seconds(meta.started_ms)}))
}

/// A random name; a seed may repeat names that it gave before a restart.
fn free_name(cloud: &Cloud, machine: &str) -> Result<String, AwsError> {
    loop {
        let name = cloud.random.uuid();
        if cloud.store.read(|connection| store::find(connection, machine, &name))?.is_none() {
            return Ok(name);
        }
    }
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

/// Checks the lengths of an error and a cause.
pub(super) fn failure_of(error: Option<String>, cause: Option<String>) -> Result<Failure, AwsError> {
    for (member, text, max) in [("error", &error, 256), ("cause", &cause, 32_768)] {
        if text.as_ref().is_some_and(|text| text.chars().count() > max) {
            return too_long(member, max);
        }
    }
    Ok(Failure { error, cause })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct DescribeExecution {
    execution_arn: String,
    included_data: Option<String>,
}

/// Whether `includedData` asks for all.
pub(super) fn with_data(included: Option<&str>) -> Result<bool, AwsError> {
    valid(check_enum("includedData", included, &["METADATA_ONLY", "ALL_DATA"]))?;
    Ok(included != Some("METADATA_ONLY"))
}

pub(super) fn describe(cloud: &Cloud, input: &DescribeExecution) -> Result<Value, AwsError> {
    let with_data = with_data(input.included_data.as_deref())?;
    let meta = execution_of(cloud, &input.execution_arn)?.execution.meta;
    Ok(shown::description(meta, cloud.clock.now_ms(), with_data))
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
    valid(check_enum("statusFilter", status, &STATUSES))?;
    let count = page_size(input.max_results)?;
    let before = input.next_token.as_deref().map_or(Ok(i64::MAX), position)?;
    let machine = machine_of(cloud, "stateMachineArn", &input.state_machine_arn)?;
    let mut found = cloud
        .store
        .read(|connection| store::list(connection, &machine.settings.name, status, before, count + 1))?;
    let next = next_page(&mut found, count, |record| record.seq);
    let executions: Vec<Value> = found.iter().map(|record| shown::summary(&record.execution.meta)).collect();
    Ok(with_token(json!({"executions": executions}), "nextToken", next))
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
    let last = input.next_token.as_deref().map(position).transpose()?;
    let record = execution_of(cloud, &input.execution_arn)?;
    let mut found = cloud
        .store
        .read(|connection| store::history(connection, record.seq, input.reverse_order, last, count + 1))?;
    let next = next_page(&mut found, count, |event| event.id as i64);
    let with_data = input.include_execution_data.unwrap_or(true);
    let events: Vec<Value> = found.iter().map(|event| event.api(with_data)).collect();
    Ok(with_token(json!({"events": events}), "nextToken", next))
}
