//! Log groups of templates.

use std::sync::Arc;

use cloud_core::Cloud;
use cloud_core::api::{Tag, tag_object};
use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Deploy, Identity, Type};
use serde::Deserialize;

use super::names::{check_group, check_retention};
use super::store;

#[rustfmt::skip]
pub(super) const TYPES: &[Type] = &[
    Type::inert("AWS::Logs::Delivery", "the live log shows what a bus fails to deliver",
        Identity::made_up(64).reference("{uuid}")
            .arn("arn:aws:logs:{region}:{account}:delivery:{uuid}")
            .attributes(&[Identity::ARN, ("DeliveryId", "{uuid}")]),
        &["DeliveryDestinationArn", "DeliverySourceName", "FieldDelimiter", "RecordFields",
          "S3EnableHiveCompatiblePath", "S3SuffixPath", "Tags"]),
    Type::inert("AWS::Logs::DeliveryDestination", "the live log shows what a bus fails to deliver",
        Identity::named("Name", 60)
            .arn("arn:aws:logs:{region}:{account}:delivery-destination:{name}").attributes(&[Identity::ARN]),
        &["DeliveryDestinationPolicy", "DeliveryDestinationType", "DestinationResourceArn", "Name",
          "OutputFormat", "Tags"]),
    Type::inert("AWS::Logs::DeliverySource", "the live log shows what a bus fails to deliver",
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

fn deploy_group(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let props: GroupProps = resource.read()?;
    let name = props.log_group_name.as_deref().unwrap_or(&resource.physical_id);
    check_group(name).map_err(|reason| resource.refuse("Properties.LogGroupName", reason))?;
    if let Some(days) = props.retention_in_days {
        check_retention(days).map_err(|reason| resource.refuse("Properties.RetentionInDays", reason))?;
    }
    let class = props.log_group_class.as_deref().unwrap_or(store::STANDARD);
    if class != store::STANDARD {
        let reason = format!("{class} is not emulated, since its events cannot be read back");
        return Err(resource.refuse("Properties.LogGroupClass", reason));
    }
    let tags = tag_object(props.tags).to_string();
    cloud
        .store
        .write(|tx| {
            store::create_group(tx, name, cloud.clock.now_ms(), "{}")?;
            tx.execute(
                "UPDATE log_groups SET retention_days = ?2, tags = ?3 WHERE name = ?1",
                rusqlite::params![name, props.retention_in_days, tags],
            )
        })
        .map_err(|error| resource.refuse("Properties", error.to_string()))?;
    Ok(())
}
