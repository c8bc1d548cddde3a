//! Sends an event to its target, once.

use std::sync::Arc;

use cloud_core::random::stable_uuid;
use cloud_core::{AwsError, Cloud, calls};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::names::find_bus;
use super::routing::{self, Origin};
use super::store::{self, Delivery, Next};
use super::target::Receiver;
use crate::{lambda, logs};

fn parse(target_arn: &str) -> Result<Receiver, AwsError> {
    Receiver::parse(target_arn).map_err(|reason| AwsError::client("ValidationException", reason))
}

fn malformed(what: &str) -> AwsError {
    AwsError::client("INVALID_JSON", format!("{what} is not valid JSON."))
}

fn event_of(delivery: &Delivery) -> Result<Value, AwsError> {
    serde_json::from_str(&delivery.event).map_err(|_| malformed("the event"))
}

/// Whether a target takes many events in one transaction: a bus or a log group.
pub fn takes_together(target_arn: &str) -> bool {
    matches!(Receiver::parse(target_arn), Ok(Receiver::Bus(_) | Receiver::LogGroup(_)))
}

/// Puts events onto a bus or into a log group, and settles their deliveries in the same transaction.
pub fn send_together(cloud: &Arc<Cloud>, target_arn: &str, batch: &[Delivery]) -> Result<(), AwsError> {
    let Some(first) = batch.first() else { return Ok(()) };
    let delivered: Vec<(i64, Next)> = batch.iter().map(|delivery| (delivery.id, Next::Done)).collect();
    let record = |action: &str| {
        batch.iter().for_each(|delivery| cloud.calls.add(&delivery.rule_arn, action, target_arn));
    };
    match parse(target_arn)? {
        Receiver::Bus(name) => {
            record("events:PutEvents");
            find_bus(cloud, Some(&name))?;
            let events: Vec<Value> = batch.iter().map(event_of).collect::<Result<_, _>>()?;
            let settle = |tx: &rusqlite::Transaction<'_>| store::settle(tx, &delivered);
            Ok(routing::publish(cloud, &[(&name, &events)], Origin::Bus, settle)?)
        }
        Receiver::LogGroup(group) => {
            record("logs:PutLogEvents");
            if !logs::exists(cloud, &group)? {
                let message = "The specified log group does not exist.";
                return Err(AwsError::client("ResourceNotFoundException", message));
            }
            // EventBridge gives its log streams opaque names.
            let stream = stable_uuid(&format!("{target_arn}/{}", first.id));
            let now_ms = cloud.clock.now_ms();
            let events: Vec<(i64, &str)> =
                batch.iter().map(|delivery| (now_ms, delivery.event.as_str())).collect();
            Ok(cloud.store.write(|tx| {
                logs::append_within(cloud, tx, &group, &stream, &events)?;
                store::settle(tx, &delivered)
            })?)
        }
        _ => Err(AwsError::internal(format!("{target_arn} takes its events one by one"))),
    }
}

/// Sends one event to a function, a state machine or a queue.
pub async fn send(cloud: &Arc<Cloud>, delivery: &Delivery) -> Result<(), AwsError> {
    let event = event_of(delivery)?;
    let payload = delivery.target.payload(&event, &delivery.rule_arn, delivery.accepted_ms);
    let receiver = parse(&delivery.target.arn)?;
    let needs_json = matches!(receiver, Receiver::Function(_) | Receiver::StateMachine(_));
    if needs_json && serde_json::from_str::<IgnoredAny>(&payload).is_err() {
        return Err(malformed("the transformed input"));
    }
    match receiver {
        Receiver::Function(arn) => {
            cloud.calls.add(&delivery.rule_arn, "lambda:InvokeFunction", &arn);
            lambda::invoke_async(cloud, &arn, payload.into()).await
        }
        Receiver::StateMachine(arn) => {
            let start = start_execution(cloud, &arn, payload, delivery, &event);
            calls::by(delivery.rule_arn.as_str(), start).await
        }
        Receiver::Queue(queue) => send_message(cloud, &queue, payload, None).await,
        Receiver::LogGroup(_) | Receiver::Bus(_) => {
            Err(AwsError::internal("buses and log groups get their events together"))
        }
    }
}

/// The delivery determines the execution's name, so that a repeated attempt starts no second execution.
async fn start_execution(
    cloud: &Arc<Cloud>,
    state_machine: &str,
    input: String,
    delivery: &Delivery,
    event: &Value,
) -> Result<(), AwsError> {
    let id = event["id"].as_str().unwrap_or_default();
    let unique = stable_uuid(&format!("{}/{}/{}", delivery.rule_arn, delivery.target.id, delivery.id));
    let input = json!({ "stateMachineArn": state_machine, "name": format!("{id}_{unique}"), "input": input });
    match cloud.call("states", "StartExecution", input).await {
        Err(error) if error.code == "ExecutionAlreadyExists" => Ok(()),
        other => other.map(drop),
    }
}

/// Sends a message to the queue of this name.
pub async fn send_message(
    cloud: &Arc<Cloud>,
    queue: &str,
    body: String,
    attributes: Option<Value>,
) -> Result<(), AwsError> {
    let url = cloud.call("sqs", "GetQueueUrl", json!({ "QueueName": queue })).await?;
    let mut input = json!({ "QueueUrl": url["QueueUrl"], "MessageBody": body });
    if let Some(attributes) = attributes {
        input["MessageAttributes"] = attributes;
    }
    cloud.call("sqs", "SendMessage", input).await.map(drop)
}
