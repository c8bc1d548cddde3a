//! What all actions share: names, ARNs, JSON members and pages.

use cloud_core::api::{self, check_length, check_number, key_of, token, violation_of};
use cloud_core::{AwsError, Cloud};
use cloud_languages::states::machine::PAYLOAD_LIMIT;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::stepfunctions::machines::{self, Machine};
use crate::stepfunctions::store::{self, Record};

pub(super) fn read<T: DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    api::read(input, "ValidationException")
}

pub(super) fn error<T>(code: &str, message: String) -> Result<T, AwsError> {
    Err(AwsError::client(code, message))
}

/// The result of a check as a `ValidationException`.
pub(super) fn valid(result: Result<(), String>) -> Result<(), AwsError> {
    result.map_err(|sentence| AwsError::client("ValidationException", sentence))
}

/// The constraint of a length; AWS leaves the value out, since it is sensitive.
pub(super) fn too_long<T>(member: &str, max: usize) -> Result<T, AwsError> {
    let constraint = format!("Member must have length less than or equal to {max}");
    error("ValidationException", violation_of(&format!("Value at '{member}'"), &constraint))
}

/// The name in an ARN of that type. Region and account are ignored, since there is one of each.
fn resource<'a>(member: &str, arn: &'a str, kind: &str) -> Result<&'a str, AwsError> {
    valid(check_length(member, arn, 1..=256))?;
    let parts: Vec<&str> = arn.splitn(7, ':').collect();
    match parts[..] {
        ["arn", _, "states", _, _, found, name] if found == kind => Ok(name),
        ["arn", _, "states", _, _, found, ..] => {
            error("InvalidArn", format!("Invalid Arn: 'Resource type not valid in this context: {found}'"))
        }
        _ => error("InvalidArn", format!("Invalid Arn: 'Invalid ARN prefix: {arn}'")),
    }
}

pub(super) fn machine_of(cloud: &Cloud, member: &str, arn: &str) -> Result<Machine, AwsError> {
    match machines::find(cloud, resource(member, arn, "stateMachine")?)? {
        Some(machine) => Ok(machine),
        None => error("StateMachineDoesNotExist", format!("State Machine Does Not Exist: '{arn}'")),
    }
}

pub(super) fn execution_of(cloud: &Cloud, arn: &str) -> Result<Record, AwsError> {
    let found = match resource("executionArn", arn, "execution")?.split_once(':') {
        Some((machine, name)) => cloud.store.read(|connection| store::find(connection, machine, name))?,
        None => None,
    };
    match found {
        Some(record) => Ok(record),
        None => error("ExecutionDoesNotExist", format!("Execution Does Not Exist: '{arn}'")),
    }
}

/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html>
pub(super) fn check_name(name: &str) -> Result<(), AwsError> {
    valid(check_length("name", name, 1..=80))?;
    let forbidden = |letter: char| {
        letter.is_whitespace() || letter.is_control() || "<>{}[]?*\"#%\\^|~`$&,;:/".contains(letter)
    };
    if name.chars().any(forbidden) {
        return error("InvalidName", format!("Invalid Name: '{name}'"));
    }
    Ok(())
}

/// A sentence on what is wrong with a member that holds JSON, in the words of AWS's parser for common faults.
///
/// # Errors
/// `ValidationException` if the member is longer than the API takes.
pub(super) fn check_json(member: &str, text: &str) -> Result<Result<(), String>, AwsError> {
    if text.len() > PAYLOAD_LIMIT {
        return too_long(member, PAYLOAD_LIMIT);
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

/// 0 means the default, which is 100.
pub(super) fn page_size(asked: Option<i64>) -> Result<i64, AwsError> {
    let size = asked.unwrap_or(0);
    valid(check_number("maxResults", size, 0..=1000))?;
    Ok(if size == 0 { 100 } else { size })
}

/// Removes the one row more than asked for; returns the token of the next page.
pub(super) fn next_page<T>(rows: &mut Vec<T>, count: i64, position: impl Fn(&T) -> i64) -> Option<String> {
    if rows.len() as i64 <= count {
        return None;
    }
    rows.truncate(count as usize);
    rows.last().map(|row| token(&position(row).to_string()))
}

/// The key in a token.
pub(super) fn from_token(token: &str) -> Result<String, AwsError> {
    valid(check_length("nextToken", token, 1..=1024))?;
    key_of(token).ok_or_else(invalid_token)
}

/// The position in a token of [`next_page`].
pub(super) fn position(token: &str) -> Result<i64, AwsError> {
    from_token(token)?.parse().map_err(|_| invalid_token())
}

pub(super) fn invalid_token() -> AwsError {
    AwsError::client("InvalidToken", "Invalid Token: 'Invalid token'")
}
