//! The control plane, as far as dynoxide leaves it to its host: answers about the account, and the refusal of
//! members of CreateTable and UpdateTable that it would ignore.

use std::sync::Arc;

use bytes::Bytes;
use cloud_core::service::Reply;
use cloud_core::{AwsError, Cloud};
use serde_json::{Map, Value, json};

use super::arns;
use super::engine::Engine;

/// The members that dynoxide reads.
#[rustfmt::skip]
const KNOWN: [(&str, &[&str]); 2] = [
    ("CreateTable", &[
        "AttributeDefinitions", "BillingMode", "DeletionProtectionEnabled", "GlobalSecondaryIndexes", "KeySchema",
        "LocalSecondaryIndexes", "OnDemandThroughput", "ProvisionedThroughput", "SSESpecification",
        "StreamSpecification", "TableClass", "TableName", "Tags",
    ]),
    ("UpdateTable", &[
        "AttributeDefinitions", "BillingMode", "DeletionProtectionEnabled", "GlobalSecondaryIndexUpdates",
        "OnDemandThroughput", "ProvisionedThroughput", "StreamSpecification", "TableClass", "TableName",
    ]),
];

/// Refuses members that dynoxide would ignore.
pub(super) fn check(action: &str, body: &[u8]) -> Result<(), AwsError> {
    let Some((_, known)) = KNOWN.iter().find(|(name, _)| *name == action) else { return Ok(()) };
    let input: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    match input.iter().find(|(name, value)| !known.contains(&name.as_str()) && !value.is_null()) {
        Some((name, _)) => Err(AwsError::not_emulated("dynamodb", &format!("{action} with {name}"))),
        None => Ok(()),
    }
}

/// Answers what concerns the account and not a table; `None` for any other action.
pub(super) async fn answer(
    cloud: &Arc<Cloud>,
    engine: &Engine,
    action: &str,
    body: &Bytes,
) -> Option<Result<Reply, AwsError>> {
    let answer = match action {
        "DescribeEndpoints" => endpoints(cloud),
        // The quotas of a new account.
        // https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html
        "DescribeLimits" => json!({
            "AccountMaxReadCapacityUnits": 80_000,
            "AccountMaxWriteCapacityUnits": 80_000,
            "TableMaxReadCapacityUnits": 40_000,
            "TableMaxWriteCapacityUnits": 40_000,
        }),
        "DescribeContinuousBackups" => return Some(continuous_backups(cloud, engine, body.clone()).await),
        _ => return None,
    };
    Some(Ok(Reply { status: 200, body: answer.to_string().into() }))
}

/// Sends a client that discovers its endpoint back here.
fn endpoints(cloud: &Cloud) -> Value {
    let host =
        cloud.endpoint_url.get().and_then(|url| url.split_once("://")).map(|(_, host)| host.to_owned());
    let host = host.unwrap_or_else(|| format!("dynamodb.{}.amazonaws.com", cloud.settings.region));
    json!({ "Endpoints": [{ "Address": host, "CachePeriodInMinutes": 1440 }] })
}

/// There are no backups.
async fn continuous_backups(cloud: &Arc<Cloud>, engine: &Engine, body: Bytes) -> Result<Reply, AwsError> {
    let reply = engine.send(cloud, "DescribeTable", body).await?;
    if reply.status != 200 {
        return arns::outward(cloud, "DescribeTable", reply);
    }
    let answer = json!({"ContinuousBackupsDescription": {
        "ContinuousBackupsStatus": "ENABLED",
        "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": "DISABLED"},
    }});
    Ok(Reply { status: 200, body: answer.to_string().into() })
}
