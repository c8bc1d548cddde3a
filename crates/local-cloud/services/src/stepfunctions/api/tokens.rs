//! The calls of the holder of a task token.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/connect-to-resource.html#connect-wait-token>

use std::sync::Arc;

use cloud_core::api::check_length;
use cloud_core::{AwsError, Cloud};
use cloud_languages::states::machine::Stimulus;
use serde::Deserialize;
use serde_json::{Value, json};

use super::executions::failure_of;
use super::input::{check_json, error, invalid_token, valid};
use crate::stepfunctions::{runner, store};

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

pub(super) fn send_success(cloud: &Arc<Cloud>, input: &SendTaskSuccess) -> Result<Value, AwsError> {
    let output = match check_json("output", &input.output)? {
        Ok(()) => serde_json::from_str(&input.output).map_err(|problem| problem.to_string()),
        Err(problem) => Err(problem),
    };
    let output = output.or_else(|problem| error("InvalidOutput", format!("Invalid Output: '{problem}'")))?;
    send(cloud, &input.task_token, |token| Stimulus::Token(token, Ok(output)))
}

pub(super) fn send_failure(cloud: &Arc<Cloud>, input: SendTaskFailure) -> Result<Value, AwsError> {
    let failure = failure_of(input.error, input.cause)?;
    send(cloud, &input.task_token, |token| Stimulus::Token(token, Err(failure)))
}

pub(super) fn send_heartbeat(cloud: &Arc<Cloud>, input: &SendTaskHeartbeat) -> Result<Value, AwsError> {
    send(cloud, &input.task_token, Stimulus::Heartbeat)
}

/// `TaskTimedOut` is for a task that ended, in whatever way; `InvalidToken` for a token that no task handed
/// out; `TaskDoesNotExist` for the token of an execution that is gone.
/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_SendTaskSuccess.html>
fn send(
    cloud: &Arc<Cloud>,
    token: &str,
    stimulus: impl FnOnce(String) -> Stimulus,
) -> Result<Value, AwsError> {
    valid(check_length("taskToken", token, 1..=2048))?;
    let seq = cloud.store.read(|connection| store::of_token(connection, token))?.ok_or_else(invalid_token)?;
    match runner::stimulate(cloud, seq, &stimulus(token.to_owned()))? {
        None => error("TaskDoesNotExist", "Task Does Not Exist: 'Provided task does not exist'".into()),
        Some(true) => Ok(json!({})),
        Some(false) => error("TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'".into()),
    }
}
