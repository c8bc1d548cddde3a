//! What dynoxide leaves to its host: answers about the account, and the refusal of members
//! that it would ignore.

use std::sync::Arc;

use bytes::Bytes;
use cloud_core::service::Reply;
use cloud_core::{AwsError, Cloud};
use serde_json::{Map, Value, json};

use super::arns;

/// The actions that are answered here.
pub(super) const ACTIONS: [&str; 3] = ["DescribeContinuousBackups", "DescribeEndpoints", "DescribeLimits"];

/// The members that dynoxide reads of the two actions whose members it does not know all.
const KNOWN: [(&str, &[&str]); 2] = [
    (
        "CreateTable",
        &[
            "AttributeDefinitions",
            "BillingMode",
            "DeletionProtectionEnabled",
            "GlobalSecondaryIndexes",
            "KeySchema",
            "LocalSecondaryIndexes",
            "OnDemandThroughput",
            "ProvisionedThroughput",
            "SSESpecification",
            "StreamSpecification",
            "TableClass",
            "TableName",
            "Tags",
        ],
    ),
    (
        "UpdateTable",
        &[
            "AttributeDefinitions",
            "BillingMode",
            "DeletionProtectionEnabled",
            "GlobalSecondaryIndexUpdates",
            "OnDemandThroughput",
            "ProvisionedThroughput",
            "StreamSpecification",
            "TableClass",
            "TableName",
        ],
    ),
];

/// Refuses what would be ignored.
pub(super) fn check(action: &str, body: &[u8]) -> Result<(), AwsError> {
    let Some((_, known)) = KNOWN.iter().find(|(name, _)| *name == action) else { return Ok(()) };
    let input: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    match input.iter().find(|(name, value)| !known.contains(&name.as_str()) && !value.is_null()) {
        Some((name, _)) => Err(AwsError::not_emulated("dynamodb", &format!("{action} with {name}"))),
        None => Ok(()),
    }
}

/// Answers one of [`ACTIONS`].
pub(super) async fn answer(cloud: &Arc<Cloud>, action: &str, body: Bytes) -> Result<Reply, AwsError> {
    let answer = match action {
        "DescribeEndpoints" => endpoints(cloud),
        // What every account has in a region at first.
        // https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html
        "DescribeLimits" => json!({
            "AccountMaxReadCapacityUnits": 80_000,
            "AccountMaxWriteCapacityUnits": 80_000,
            "TableMaxReadCapacityUnits": 40_000,
            "TableMaxWriteCapacityUnits": 40_000,
        }),
        _ => return continuous_backups(cloud, body).await,
    };
    Ok(Reply { status: 200, body: answer.to_string().into() })
}

/// A client that discovers its endpoint is sent back here.
fn endpoints(cloud: &Cloud) -> Value {
    let host =
        cloud.endpoint_url.get().and_then(|url| url.split_once("://")).map(|(_, host)| host.to_owned());
    let host = host.unwrap_or_else(|| format!("dynamodb.{}.amazonaws.com", cloud.settings.region));
    json!({ "Endpoints": [{ "Address": host, "CachePeriodInMinutes": 1440 }] })
}

/// Nothing is ever backed up here, and a client that asks is told so.
async fn continuous_backups(cloud: &Arc<Cloud>, body: Bytes) -> Result<Reply, AwsError> {
    let reply = cloud.state::<crate::dynamodb::State>().engine.send(cloud, "DescribeTable", body).await?;
    if reply.status != 200 {
        return arns::outward(cloud, "DescribeTable", reply);
    }
    let answer = json!({"ContinuousBackupsDescription": {
        "ContinuousBackupsStatus": "ENABLED",
        "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": "DISABLED"},
    }});
    Ok(Reply { status: 200, body: answer.to_string().into() })
}
