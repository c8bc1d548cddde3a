//! What the holder of a task token sends.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/connect-to-resource.html#connect-wait-token>

use std::sync::Arc;

use cloud_core::{AwsError, Cloud};
use cloud_languages::states::machine::Stimulus;
use serde::Deserialize;
use serde_json::{Value, json};

use super::executions::{check_json, failure_of};
use super::{check_length, error};
use crate::stepfunctions::{records, runner};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct SendTaskSuccess {
    task_token: String,
    output: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct SendTaskFailure {
    task_token: String,
    error: Option<String>,
    cause: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct SendTaskHeartbeat {
    task_token: String,
}

pub(super) fn send_success(cloud: &Arc<Cloud>, input: SendTaskSuccess) -> Result<Value, AwsError> {
    if let Err(problem) = check_json("output", &input.output)? {
        return error("InvalidOutput", format!("Invalid Output: '{problem}'"));
    }
    let output = serde_json::from_str(&input.output)
        .map_err(|problem| AwsError::client("InvalidOutput", format!("Invalid Output: '{problem}'")))?;
    with_token(cloud, &input.task_token, |token| Stimulus::Token(token, Ok(output)))
}

pub(super) fn send_failure(cloud: &Arc<Cloud>, input: SendTaskFailure) -> Result<Value, AwsError> {
    let failure = failure_of(input.error, input.cause)?;
    with_token(cloud, &input.task_token, |token| Stimulus::Token(token, Err(failure)))
}

pub(super) fn send_heartbeat(cloud: &Arc<Cloud>, input: SendTaskHeartbeat) -> Result<Value, AwsError> {
    with_token(cloud, &input.task_token, Stimulus::Heartbeat)
}

/// `TaskTimedOut` also stands for a task that was closed otherwise; a token that was never
/// handed out is an `InvalidToken`, and one whose execution is gone a `TaskDoesNotExist`.
/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_SendTaskSuccess.html>
fn with_token(
    cloud: &Arc<Cloud>,
    token: &str,
    stimulus: impl FnOnce(String) -> Stimulus,
) -> Result<Value, AwsError> {
    check_length("taskToken", token, 1, 2048)?;
    let Some(seq) = cloud.store.read(|connection| records::of_token(connection, token))? else {
        return error("InvalidToken", "Invalid Token: 'Invalid token'".into());
    };
    match runner::stimulate(cloud, seq, &stimulus(token.to_owned()))? {
        None => error("TaskDoesNotExist", "Task Does Not Exist: 'Provided task does not exist'".into()),
        Some(true) => Ok(json!({})),
        Some(false) => error("TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'".into()),
    }
}
