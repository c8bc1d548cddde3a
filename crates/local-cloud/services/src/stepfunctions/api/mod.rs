//! The API actions of Step Functions, with the members, limits and errors of its API reference
//! (<https://docs.aws.amazon.com/step-functions/latest/apireference/>).

mod executions;
mod input;
mod machines;
mod tokens;

use cloud_core::Cloud;
use cloud_core::calls::Permission;
use cloud_core::service::{Action, Request};
use input::read;

use super::store;

#[rustfmt::skip]
pub(super) const ACTIONS: &[Action] = &[
    Action::new("CreateStateMachine", |cloud, input| machines::create(cloud, read(input)?)).needs(of_arn),
    Action::new("DeleteStateMachine", |cloud, input| machines::delete(cloud, &read(input)?)).needs(of_arn),
    Action::new("DescribeExecution", |cloud, input| executions::describe(cloud, &read(input)?)).needs(of_arn),
    Action::new("DescribeStateMachine", |cloud, input| machines::describe(cloud, &read(input)?)).needs(of_arn),
    Action::new("GetExecutionHistory", |cloud, input| executions::history(cloud, &read(input)?)).needs(of_arn),
    Action::new("ListExecutions", |cloud, input| executions::list(cloud, &read(input)?)).needs(of_arn),
    Action::new("ListStateMachines", |cloud, input| machines::list(cloud, &read(input)?)).needs(of_arn),
    Action::new("ListTagsForResource", |cloud, input| machines::list_tags(cloud, &read(input)?)).needs(of_arn),
    Action::new("SendTaskFailure", |cloud, input| tokens::send_failure(cloud, read(input)?)).needs(of_token),
    Action::new("SendTaskHeartbeat", |cloud, input| tokens::send_heartbeat(cloud, &read(input)?)).needs(of_token),
    Action::new("SendTaskSuccess", |cloud, input| tokens::send_success(cloud, &read(input)?)).needs(of_token),
    Action::new("StartExecution", |cloud, input| executions::start(cloud, read(input)?)).needs(of_arn),
    Action::new("StopExecution", |cloud, input| executions::stop(cloud, read(input)?)).needs(of_arn),
];

fn of_arn(_: &Cloud, request: Request<'_>) -> Vec<Permission> {
    request.own(request.text("stateMachineArn").or(request.text("executionArn")).unwrap_or("*"))
}

/// The reference names no resource here, but AWS denies "states:SendTaskFailure on resource:
/// arn:aws:states:...:stateMachine:...", and allows it on that ARN.
/// <https://github.com/NOAA-OWP/hydrovis/issues/837>, <https://github.com/aws/aws-cdk/pull/8486>
fn of_token(cloud: &Cloud, request: Request<'_>) -> Vec<Permission> {
    let machine = request.text("taskToken").and_then(|token| {
        let found = cloud.store.read(|connection| {
            let seq = store::of_token(connection, token)?;
            seq.map_or(Ok(None), |seq| store::get(connection, seq))
        });
        Some(found.ok()??.execution.meta.machine_arn)
    });
    request.own(machine.unwrap_or_else(|| "*".into()))
}
