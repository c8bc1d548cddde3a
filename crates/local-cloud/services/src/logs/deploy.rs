//! Log groups of templates.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloud_core::Cloud;
use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Deploy, Identity, Type};
use serde::Deserialize;
use serde_json::json;

use super::{groups, store};

#[rustfmt::skip]
pub(crate) const TYPES: &[Type] = &[
    Type::inert("AWS::Logs::Delivery", "what a bus fails to deliver, the live log tells",
        Identity::made_up(64).reference("{uuid}")
            .arn("arn:aws:logs:{region}:{account}:delivery:{uuid}")
            .attributes(&[Identity::ARN, ("DeliveryId", "{uuid}")]),
        &["DeliveryDestinationArn", "DeliverySourceName", "FieldDelimiter", "RecordFields",
          "S3EnableHiveCompatiblePath", "S3SuffixPath", "Tags"]),
    Type::inert("AWS::Logs::DeliveryDestination", "what a bus fails to deliver, the live log tells",
        Identity::named("Name", 60)
            .arn("arn:aws:logs:{region}:{account}:delivery-destination:{name}").attributes(&[Identity::ARN]),
        &["DeliveryDestinationPolicy", "DeliveryDestinationType", "DestinationResourceArn", "Name",
          "OutputFormat", "Tags"]),
    Type::inert("AWS::Logs::DeliverySource", "what a bus fails to deliver, the live log tells",
        Identity::named("Name", 60)
            .arn("arn:aws:logs:{region}:{account}:delivery-source:{name}").attributes(&[Identity::ARN]),
        &["LogType", "Name", "ResourceArn", "Tags"]),
    Type::new("AWS::Logs::LogGroup", "groups, streams and events; events expire as it says",
        Identity::named("LogGroupName", 512)
            .arn("arn:aws:logs:{region}:{account}:log-group:{name}:*").attributes(&[Identity::ARN]),
        Deploy::Now(deploy_group)),
    Type::inert("AWS::Logs::MetricFilter", "there are no metrics",
        Identity::named("FilterName", 512),
        &["ApplyOnTransformedLogs", "EmitSystemFieldDimensions", "FieldSelectionCriteria", "FilterName",
          "FilterPattern", "LogGroupName", "MetricTransformations"]),
    Type::inert("AWS::Logs::ResourcePolicy", "permissions are not enforced here",
        Identity::named("PolicyName", 255),
        &["PolicyDocument", "PolicyName"]),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct GroupProps {
    log_group_name: Option<String>,
    retention_in_days: Option<i64>,
    log_group_class: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    value: String,
}

fn deploy_group(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let props: GroupProps = resource.read()?;
    let name = props.log_group_name.as_deref().unwrap_or(&resource.physical_id);
    groups::check_name(name).map_err(|error| resource.refuse("Properties.LogGroupName", error.message))?;
    if let Some(days) = props.retention_in_days {
        groups::check_retention(days)
            .map_err(|error| resource.refuse("Properties.RetentionInDays", error.message))?;
    }
    let class = props.log_group_class.as_deref().unwrap_or(store::STANDARD);
    if class != store::STANDARD {
        let reason = format!("{class} is not emulated, since its events cannot be read back");
        return Err(resource.refuse("Properties.LogGroupClass", reason));
    }
    let tags: BTreeMap<String, String> = props.tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
    cloud
        .store
        .write(|tx| {
            store::create_group(tx, name, cloud.clock.now_ms(), class, "{}")?;
            tx.execute(
                "UPDATE log_groups SET retention_days = ?2, tags = ?3 WHERE name = ?1",
                rusqlite::params![name, props.retention_in_days, json!(tags).to_string()],
            )
        })
        .map_err(|error| resource.refuse("Properties", error.to_string()))?;
    Ok(())
}
