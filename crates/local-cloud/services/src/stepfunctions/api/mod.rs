//! The API actions of Step Functions, with the members, limits and errors of its API
//! reference (<https://docs.aws.amazon.com/step-functions/latest/apireference/>). Here is what
//! all actions share: their input, names and ARNs, pages.

mod executions;
mod machines;
mod tokens;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloud_core::calls::Permission;
use cloud_core::service::{Action, Request};
use cloud_core::{AwsError, Cloud};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::machines::Machine;
use super::records::{self, Record};

/// The actions, with the members of AWS's API reference.
pub(in crate::stepfunctions) const ACTIONS: &[Action] = &[
    Action::new("CreateStateMachine", |cloud, input| machines::create(cloud, read(input)?)).needs(of_arn),
    Action::new("DeleteStateMachine", |cloud, input| machines::delete(cloud, &read(input)?)).needs(of_arn),
    Action::new("DescribeExecution", |cloud, input| executions::describe(cloud, &read(input)?)).needs(of_arn),
    Action::new("DescribeStateMachine", |cloud, input| machines::describe(cloud, &read(input)?))
        .needs(of_arn),
    Action::new("DescribeStateMachineForExecution", |cloud, input| {
        machines::describe_for_execution(cloud, &read(input)?)
    })
    .needs(of_arn),
    Action::new("GetExecutionHistory", |cloud, input| executions::history(cloud, &read(input)?))
        .needs(of_arn),
    Action::new("ListExecutions", |cloud, input| executions::list(cloud, &read(input)?)).needs(of_arn),
    Action::new("ListStateMachines", |cloud, input| machines::list(cloud, &read(input)?)).needs(of_arn),
    Action::new("ListTagsForResource", |cloud, input| machines::list_tags(cloud, &read(input)?))
        .needs(of_arn),
    Action::new("SendTaskFailure", |cloud, input| tokens::send_failure(cloud, read(input)?)).needs(of_token),
    Action::new("SendTaskHeartbeat", |cloud, input| tokens::send_heartbeat(cloud, read(input)?))
        .needs(of_token),
    Action::new("SendTaskSuccess", |cloud, input| tokens::send_success(cloud, read(input)?)).needs(of_token),
    Action::new("StartExecution", |cloud, input| executions::start(cloud, read(input)?)).needs(of_arn),
    Action::new("StartSyncExecution", |cloud, input| executions::start_sync(cloud, &read(input)?))
        .needs(of_arn),
    Action::new("StopExecution", |cloud, input| executions::stop(cloud, read(input)?)).needs(of_arn),
    Action::new("UpdateStateMachine", |cloud, input| machines::update(cloud, read(input)?)).needs(of_arn),
    Action::new("ValidateStateMachineDefinition", |_, input| machines::validate(&read(input)?)).needs(of_arn),
];

fn of_arn(_: &Cloud, request: Request<'_>) -> Vec<Permission> {
    request.own(request.text("stateMachineArn").or(request.text("executionArn")).unwrap_or("*"))
}

/// The reference names no resource here, but AWS denies "states:SendTaskFailure on resource:
/// arn:aws:states:...:stateMachine:...", and allows it on that ARN.
/// <https://github.com/NOAA-OWP/hydrovis/issues/837>, <https://github.com/aws/aws-cdk/pull/8486>
fn of_token(cloud: &Cloud, request: Request<'_>) -> Vec<Permission> {
    let machine = request.text("taskToken").and_then(|token| super::machine_of(cloud, token));
    request.own(machine.unwrap_or_else(|| "*".into()))
}

/// A missing member is refused in the words of AWS, and one that is not known by its name.
fn read<T: DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    serde_json::from_value(input).map_err(|problem| {
        let text = problem.to_string();
        match text.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
            Some(member) => invalid(&format!("Value null at '{member}'"), "Member must not be null"),
            None => AwsError::client("ValidationException", text),
        }
    })
}

fn error<T>(code: &str, message: String) -> Result<T, AwsError> {
    Err(AwsError::client(code, message))
}

// --- The constraints of members.

fn invalid(what: &str, constraint: &str) -> AwsError {
    let message = format!("1 validation error detected: {what} failed to satisfy constraint: {constraint}");
    AwsError::client("ValidationException", message)
}

/// The length of a member in characters.
fn check_length(member: &str, value: &str, least: usize, most: usize) -> Result<(), AwsError> {
    let length = value.chars().count();
    let what = || format!("Value '{value}' at '{member}'");
    if length < least {
        let constraint = format!("Member must have length greater than or equal to {least}");
        return Err(invalid(&what(), &constraint));
    }
    if length > most {
        return Err(invalid(&what(), &format!("Member must have length less than or equal to {most}")));
    }
    Ok(())
}

fn check_enum(member: &str, value: Option<&str>, known: &[&str]) -> Result<(), AwsError> {
    match value {
        Some(value) if !known.contains(&value) => {
            let constraint = format!("Member must satisfy enum value set: [{}]", known.join(", "));
            Err(invalid(&format!("Value '{value}' at '{member}'"), &constraint))
        }
        _ => Ok(()),
    }
}

// --- Names and ARNs. Region and account are not looked at: names tell all apart.

/// What stands behind the type of resource in an ARN of Step Functions.
fn resource<'a>(member: &str, arn: &'a str, kind: &str) -> Result<&'a str, AwsError> {
    check_length(member, arn, 1, 256)?;
    let parts: Vec<&str> = arn.splitn(7, ':').collect();
    match parts[..] {
        ["arn", _, "states", _, _, found, name] if found == kind => Ok(name),
        ["arn", _, "states", _, _, found, ..] => {
            error("InvalidArn", format!("Invalid Arn: 'Resource type not valid in this context: {found}'"))
        }
        _ => error("InvalidArn", format!("Invalid Arn: 'Invalid ARN prefix: {arn}'")),
    }
}

fn machine_of(cloud: &Cloud, member: &str, arn: &str) -> Result<Machine, AwsError> {
    match super::machines::find(cloud, resource(member, arn, "stateMachine")?)? {
        Some(machine) => Ok(machine),
        None => error("StateMachineDoesNotExist", format!("State Machine Does Not Exist: '{arn}'")),
    }
}

fn execution_of(cloud: &Cloud, arn: &str) -> Result<Record, AwsError> {
    let names = resource("executionArn", arn, "execution")?.split_once(':');
    let found = match names {
        Some((machine, name)) => cloud.store.read(|connection| records::find(connection, machine, name))?,
        None => None,
    };
    match found {
        Some(record) => Ok(record),
        None => error("ExecutionDoesNotExist", format!("Execution Does Not Exist: '{arn}'")),
    }
}

/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html>
fn check_name(name: &str) -> Result<(), AwsError> {
    check_length("name", name, 1, 80)?;
    let forbidden = |letter: char| {
        letter.is_whitespace() || letter.is_control() || "<>{}[]?*\"#%\\^|~`$&,;:/".contains(letter)
    };
    if name.chars().any(forbidden) {
        return error("InvalidName", format!("Invalid Name: '{name}'"));
    }
    Ok(())
}

// --- Pages.

/// 0 means the default, which is 100.
fn page_size(asked: Option<i64>) -> Result<i64, AwsError> {
    let wrong = |count: i64, bound: &str| {
        let constraint = format!("Member must have value {bound}");
        Err(invalid(&format!("Value '{count}' at 'maxResults'"), &constraint))
    };
    match asked {
        None | Some(0) => Ok(100),
        Some(count) if count < 0 => wrong(count, "greater than or equal to 0"),
        Some(count) if count > 1000 => wrong(count, "less than or equal to 1000"),
        Some(count) => Ok(count),
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
    check_length("nextToken", token, 1, 1024)?;
    URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.strip_prefix("v1:")?.parse().ok())
        .ok_or_else(|| AwsError::client("InvalidToken", "Invalid Token: 'Invalid token'"))
}
