//! The control plane: dynoxide does not know all members of CreateTable and UpdateTable, and would ignore
//! the others.

use cloud_core::AwsError;
use serde_json::{Map, Value};

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
