//! The API actions of DynamoDB and DynamoDB Streams, and the permissions that they need.

use std::sync::Arc;

use cloud_core::calls::Permission;
use cloud_core::service::{Action, Request};
use cloud_core::{AwsError, Cloud};
use serde_json::Value;

/// An action; what it does follows from its name.
macro_rules! action {
    ($name:literal) => {
        Action::later($name, |cloud, input| Box::pin(call(cloud, $name, input))).needs(of_table)
    };
}

/// The actions, with the members of AWS's API reference.
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

/// The actions that may change an item.
pub(super) const WRITES: [&str; 8] = [
    "PutItem",
    "UpdateItem",
    "DeleteItem",
    "BatchWriteItem",
    "TransactWriteItems",
    "ExecuteStatement",
    "ExecuteTransaction",
    "BatchExecuteStatement",
];

async fn call(cloud: &Arc<Cloud>, action: &str, input: Value) -> Result<Value, AwsError> {
    let body = serde_json::to_vec(&input).map_err(AwsError::internal)?;
    let reply = super::forward(cloud, action, body.into()).await?;
    if reply.status == 200 {
        return serde_json::from_slice(&reply.body).map_err(AwsError::internal);
    }
    Err(super::error_of(&reply))
}

/// The ARN of a table that is given by its name, or by its ARN already.
pub(super) fn table_arn(cloud: &Cloud, name: Option<&str>) -> String {
    match name.unwrap_or("*") {
        arn if arn.starts_with("arn:") => arn.into(),
        name => cloud.arn("dynamodb", &format!("table/{name}")),
    }
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
    let permission =
        |(name, _): (&String, &Value)| (format!("dynamodb:{}", request.action), table_arn(cloud, Some(name)));
    tables.map(permission).collect()
}
