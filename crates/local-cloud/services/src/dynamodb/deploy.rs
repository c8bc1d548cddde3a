//! `AWS::DynamoDB::Table`.

use std::sync::Arc;

use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Deploy, Identity, Named, Type, unless_missing};
use cloud_core::{AwsError, Cloud, later};
use serde::Deserialize;
use serde_json::{Map, Value, json};

pub(crate) const TYPES: &[Type] = &[Type::new(
    "AWS::DynamoDB::Table",
    "on dynoxide; capacity and backups have no effect",
    Identity::named("TableName", 255)
        .arn("arn:aws:dynamodb:{region}:{account}:table/{name}")
        .attributes(&[Identity::ARN, ("StreamArn", "{arn}/stream/2026-01-01T00:00:00.000")]),
    Deploy::Later(later!(deploy)),
)
.holds(later!(items))
.remove(later!(remove))];

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Properties {
    #[serde(rename = "TableName")]
    _table_name: Option<String>,
    attribute_definitions: Value,
    key_schema: Value,
    billing_mode: Option<Value>,
    provisioned_throughput: Option<Value>,
    global_secondary_indexes: Option<Value>,
    local_secondary_indexes: Option<Value>,
    stream_specification: Option<StreamSpecification>,
    time_to_live_specification: Option<TimeToLive>,
    deletion_protection_enabled: Option<bool>,
    tags: Option<Value>,
    table_class: Option<Value>,
    // No effect: nothing is encrypted, backed up or measured here.
    #[serde(rename = "SSESpecification")]
    _encryption: Option<Value>,
    #[serde(rename = "PointInTimeRecoverySpecification")]
    _backups: Option<Value>,
    #[serde(rename = "ContributorInsightsSpecification")]
    _insights: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct StreamSpecification {
    stream_view_type: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct TimeToLive {
    attribute_name: Option<String>,
    enabled: bool,
}

async fn deploy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let properties: Properties = resource.read()?;
    let request = create_request(&resource.physical_id, &properties);
    let refuse = |error: AwsError| resource.refuse("Properties", error.to_string());
    match cloud.call("dynamodb", "DescribeTable", json!({"TableName": resource.physical_id})).await {
        Ok(existing) => {
            check_same(resource, &request, &existing["Table"])?;
            protect(cloud, &request, &existing["Table"]).await.map_err(refuse)?;
        }
        Err(error) if error.code == "ResourceNotFoundException" => {
            cloud.call("dynamodb", "CreateTable", request).await.map_err(refuse)?;
        }
        Err(error) => return Err(refuse(error)),
    }
    set_time_to_live(cloud, resource, properties.time_to_live_specification.as_ref()).await
}

fn create_request(name: &str, properties: &Properties) -> Value {
    let mut request = json!({
        "TableName": name,
        "AttributeDefinitions": properties.attribute_definitions,
        "KeySchema": properties.key_schema,
    });
    let stream = properties.stream_specification.as_ref();
    let stream =
        stream.map(|stream| json!({"StreamEnabled": true, "StreamViewType": stream.stream_view_type}));
    let optional = [
        ("BillingMode", &properties.billing_mode),
        ("ProvisionedThroughput", &properties.provisioned_throughput),
        ("GlobalSecondaryIndexes", &properties.global_secondary_indexes),
        ("LocalSecondaryIndexes", &properties.local_secondary_indexes),
        ("DeletionProtectionEnabled", &properties.deletion_protection_enabled.map(Value::from)),
        ("Tags", &properties.tags),
        ("TableClass", &properties.table_class),
        ("StreamSpecification", &stream),
    ];
    for (member, value) in optional.into_iter().filter_map(|(member, value)| Some((member, value.clone()?))) {
        request[member] = value;
    }
    request
}

/// A table that exists keeps its data, so the properties that shape the data must be those of the template.
fn check_same(resource: &Resource, wanted: &Value, existing: &Value) -> Result<(), Refusal> {
    #[rustfmt::skip]
    const SHAPING: [&str; 5] = [
        "KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes", "LocalSecondaryIndexes", "StreamSpecification",
    ];
    let differs = |property: &&&str| shape(&wanted[**property]) != shape(&existing[**property]);
    let Some(property) = SHAPING.iter().find(differs) else { return Ok(()) };
    let reason = format!(
        "the table {} exists with another {property}; start once with --fresh, or choose another --state-dir",
        resource.physical_id
    );
    Err(resource.refuse(&format!("Properties.{property}"), reason))
}

/// Updates the protection from deletion, which may change with the stage of a stack.
async fn protect(cloud: &Arc<Cloud>, wanted: &Value, existing: &Value) -> Result<(), AwsError> {
    const MEMBER: &str = "DeletionProtectionEnabled";
    let protected = wanted[MEMBER].as_bool().unwrap_or_default();
    if protected != existing[MEMBER].as_bool().unwrap_or_default() {
        let update = json!({"TableName": wanted["TableName"], MEMBER: protected});
        cloud.call("dynamodb", "UpdateTable", update).await?;
    }
    Ok(())
}

/// The members that define keys, an index or a stream, sorted and without those that DynamoDB adds to its
/// description (sizes, status, ARNs, throughput).
fn shape(value: &Value) -> Value {
    #[rustfmt::skip]
    const DEFINING: [&str; 10] = [
        "AttributeName", "AttributeType", "IndexName", "KeySchema", "KeyType", "NonKeyAttributes", "Projection",
        "ProjectionType", "StreamEnabled", "StreamViewType",
    ];
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(shape).collect();
            items.sort_by_key(Value::to_string);
            items.into()
        }
        Value::Object(members) => {
            let defining = members.iter().filter(|(name, _)| DEFINING.contains(&name.as_str()));
            defining.map(|(name, member)| (name.clone(), shape(member))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

async fn set_time_to_live(
    cloud: &Arc<Cloud>,
    resource: &Resource,
    wanted: Option<&TimeToLive>,
) -> Result<(), Refusal> {
    let path = "Properties.TimeToLiveSpecification";
    let refuse = |error: AwsError| resource.refuse(path, error.to_string());
    let table = json!({"TableName": resource.physical_id});
    let now = cloud.call("dynamodb", "DescribeTimeToLive", table).await.map_err(refuse)?;
    let now = &now["TimeToLiveDescription"];
    let current = (now["TimeToLiveStatus"] == "ENABLED").then(|| now["AttributeName"].as_str()).flatten();
    let wanted = wanted.filter(|wanted| wanted.enabled).map(|wanted| {
        let missing = || resource.refuse(path, "AttributeName is required where Enabled is true");
        wanted.attribute_name.as_deref().ok_or_else(missing)
    });
    let wanted = wanted.transpose()?;
    if current == wanted {
        return Ok(());
    }
    // DynamoDB refuses to replace one attribute by another in one step.
    for (attribute, enabled) in [(current, false), (wanted, true)] {
        let Some(attribute) = attribute else { continue };
        let input = json!({
            "TableName": resource.physical_id,
            "TimeToLiveSpecification": {"AttributeName": attribute, "Enabled": enabled},
        });
        cloud.call("dynamodb", "UpdateTimeToLive", input).await.map_err(refuse)?;
    }
    Ok(())
}

async fn items(cloud: &Arc<Cloud>, table: &Named) -> Result<Option<String>, AwsError> {
    let input = json!({"TableName": table.name(), "Limit": 1});
    let found = unless_missing(cloud.call("dynamodb", "Scan", input).await)?;
    Ok((found["Count"].as_u64().unwrap_or_default() > 0).then(|| "items".to_owned()))
}

async fn remove(cloud: &Arc<Cloud>, table: &Named) -> Result<bool, AwsError> {
    let unprotected = json!({"TableName": table.name(), "DeletionProtectionEnabled": false});
    cloud.call("dynamodb", "UpdateTable", unprotected).await?;
    cloud.call("dynamodb", "DeleteTable", json!({"TableName": table.name()})).await?;
    Ok(true)
}
