//! The API actions of DynamoDB and DynamoDB Streams, and the permissions that they need.

use std::sync::Arc;

use cloud_core::calls::Permission;
use cloud_core::service::{Action, Answer, Reply, Request};
use cloud_core::{AwsError, Cloud};
use serde_json::{Map, Value};

use super::arns::table_arn;
use super::forward::forward;

/// The name alone says what dynoxide does.
macro_rules! action {
    ($name:literal) => {
        Action::later($name, |cloud, input| Box::pin(call(cloud, $name, input))).needs(of_table)
    };
}

pub(super) const ACTIONS: &[Action] = &[
    action!("BatchExecuteStatement"),
    action!("BatchGetItem").needs(of_tables),
    action!("BatchWriteItem").needs(of_tables),
    action!("CreateTable"),
    action!("DeleteItem"),
    action!("DeleteTable"),
    action!("DescribeContinuousBackups"),
    action!("DescribeEndpoints"),
    action!("DescribeLimits"),
    action!("DescribeStream"),
    action!("DescribeTable"),
    action!("DescribeTimeToLive"),
    action!("ExecuteStatement"),
    action!("ExecuteTransaction"),
    action!("GetItem"),
    action!("GetRecords"),
    action!("GetShardIterator"),
    action!("ListStreams"),
    action!("ListTables"),
    action!("ListTagsOfResource"),
    action!("PutItem"),
    action!("Query"),
    action!("Scan"),
    action!("TagResource"),
    action!("TransactGetItems").needs(of_parts),
    action!("TransactWriteItems").needs(of_parts),
    action!("UntagResource"),
    action!("UpdateItem"),
    action!("UpdateTable"),
    action!("UpdateTimeToLive"),
];

async fn call(cloud: &Arc<Cloud>, action: &str, input: Value) -> Answer {
    let reply = forward(cloud, action, input.to_string().into()).await?;
    match reply.status {
        200 => serde_json::from_slice(&reply.body).map_err(AwsError::internal),
        _ => Err(error_of(&reply)),
    }
}

/// `{"__type": "com.amazonaws.dynamodb.v20120810#Code", "message": ..., ...}` as an error.
fn error_of(reply: &Reply) -> AwsError {
    let mut body: Map<String, Value> = serde_json::from_slice(&reply.body).unwrap_or_default();
    let kind = body.remove("__type");
    let kind = kind.as_ref().and_then(Value::as_str).unwrap_or("InternalServerError");
    let code = kind.rsplit('#').next().unwrap_or(kind).to_string();
    // Most errors have `message`, some `Message`; SDKs read both.
    let message = body.remove("message").or_else(|| body.remove("Message"));
    let message = message.as_ref().and_then(Value::as_str).unwrap_or_default().to_string();
    AwsError { code, message, status: reply.status, details: body }
}

fn of_table(cloud: &Cloud, request: Request<'_>) -> Vec<Permission> {
    let table = request.text("TableName").map(|name| table_arn(cloud, Some(name)));
    match (table, request.text("IndexName"), request.text("StreamArn")) {
        (Some(table), Some(index), _) => request.own(format!("{table}/index/{index}")),
        (Some(table), None, _) => request.own(table),
        (None, _, Some(stream)) => request.own(stream),
        _ => request.own("*"),
    }
}

/// "Permissions for Put, Update, Delete, and Get actions are governed by the permissions used for the
/// underlying PutItem, UpdateItem, DeleteItem, and GetItem operations. For the ConditionCheck action, you
/// can use the dynamodb:ConditionCheckItem permission".
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html>
fn of_parts(cloud: &Cloud, request: Request<'_>) -> Vec<Permission> {
    let parts = request.input["TransactItems"].as_array().into_iter().flatten().filter_map(Value::as_object);
    let permission = |(kind, part): (&String, &Value)| {
        (format!("dynamodb:{kind}Item"), table_arn(cloud, part["TableName"].as_str()))
    };
    parts.flatten().map(permission).collect()
}

fn of_tables(cloud: &Cloud, request: Request<'_>) -> Vec<Permission> {
    let tables = request.input["RequestItems"].as_object().into_iter().flatten();
    tables.flat_map(|(name, _)| request.own(table_arn(cloud, Some(name)))).collect()
}
