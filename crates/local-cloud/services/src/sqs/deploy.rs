//! Queues and queue policies of templates.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Deploy, Identity, Named, Type, counted, unless_missing};
use cloud_core::{AwsError, Cloud, later};
use serde::Deserialize;
use serde_json::{Value, json};

use super::queue::{Queue, name_in_url};
use super::{attributes, store};

#[rustfmt::skip]
pub(crate) const TYPES: &[Type] = &[
    Type::new("AWS::SQS::Queue", "standard queues",
        Identity::named("QueueName", 80).reference("https://sqs.{region}.amazonaws.com/{account}/{name}")
            .arn("arn:aws:sqs:{region}:{account}:{name}")
            .attributes(&[Identity::ARN, ("QueueName", "{name}"), ("QueueUrl", "{ref}")]),
        Deploy::Now(deploy)).holds(later!(held)).remove(later!(remove)),
    Type::new("AWS::SQS::QueuePolicy", "shown as an attribute; permissions are not enforced here",
        Identity::NAME.attributes(&[("Id", "{ref}")]),
        Deploy::Now(deploy_policy)).approximated(),
];

/// The messages of a queue, visible or not.
async fn held(cloud: &Arc<Cloud>, queue: &Named) -> Result<Option<String>, AwsError> {
    let url = unless_missing(cloud.call("sqs", "GetQueueUrl", json!({"QueueName": queue.name()})).await)?;
    if url.is_null() {
        return Ok(None);
    }
    let input = json!({"QueueUrl": url["QueueUrl"], "AttributeNames": ["All"]});
    let found = cloud.call("sqs", "GetQueueAttributes", input).await?;
    let count = |name: &str| found["Attributes"][name].as_str().and_then(|text| text.parse::<u64>().ok());
    let counts = ["", "NotVisible", "Delayed"]
        .map(|suffix| count(&format!("ApproximateNumberOfMessages{suffix}")).unwrap_or_default());
    Ok(counted(counts.iter().sum(), "message"))
}

async fn remove(cloud: &Arc<Cloud>, queue: &Named) -> Result<bool, AwsError> {
    let url = cloud.call("sqs", "GetQueueUrl", json!({"QueueName": queue.name()})).await?;
    cloud.call("sqs", "DeleteQueue", json!({"QueueUrl": url["QueueUrl"]})).await?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Properties {
    queue_name: Option<String>,
    visibility_timeout: Option<Value>,
    message_retention_period: Option<Value>,
    receive_message_wait_time_seconds: Option<Value>,
    delay_seconds: Option<Value>,
    maximum_message_size: Option<Value>,
    redrive_policy: Option<Value>,
    redrive_allow_policy: Option<Value>,
    // Encryption at rest: shown, no effect here.
    sqs_managed_sse_enabled: Option<Value>,
    kms_master_key_id: Option<Value>,
    kms_data_key_reuse_period_seconds: Option<Value>,
    fifo_queue: Option<Value>,
    tags: Option<Vec<Tag>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    value: Value,
}

/// Creates the queue, or gives an existing one the template's attributes; messages stay.
fn deploy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let properties: Properties = resource.read()?;
    if properties.fifo_queue.as_ref().is_some_and(|fifo| text(fifo) == "true") {
        return Err(resource.refuse("Properties.FifoQueue", "FIFO queues are not emulated"));
    }
    let misnamed = |error: AwsError| resource.refuse("Properties.QueueName", error.message);
    let name = match &properties.queue_name {
        Some(name) => name.as_str(),
        None => name_in_url(&resource.physical_id).map_err(misnamed)?,
    };
    attributes::check_name(name).map_err(misnamed)?;
    let given = [
        ("VisibilityTimeout", properties.visibility_timeout),
        ("MessageRetentionPeriod", properties.message_retention_period),
        ("ReceiveMessageWaitTimeSeconds", properties.receive_message_wait_time_seconds),
        ("DelaySeconds", properties.delay_seconds),
        ("MaximumMessageSize", properties.maximum_message_size),
        ("RedrivePolicy", properties.redrive_policy),
        ("RedriveAllowPolicy", properties.redrive_allow_policy),
        ("SqsManagedSseEnabled", properties.sqs_managed_sse_enabled),
        ("KmsMasterKeyId", properties.kms_master_key_id),
        ("KmsDataKeyReusePeriodSeconds", properties.kms_data_key_reuse_period_seconds),
    ];
    let given = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), text(&value?))));
    let attributes: BTreeMap<String, String> = given.collect();
    attributes::check(cloud, name, &attributes)
        .map_err(|error| resource.refuse("Properties", error.message))?;
    let now = cloud.clock.now_ms();
    let stored = cloud.store.write(|tx| {
        let known = store::read(tx, name)?;
        let same = known.as_ref().filter(|queue| queue.attributes == attributes);
        let queue = Queue {
            name: name.to_owned(),
            tags: properties.tags.into_iter().flatten().map(|tag| (tag.key, text(&tag.value))).collect(),
            created_ms: known.as_ref().map_or(now, |queue| queue.created_ms),
            modified_ms: same.map_or(now, |queue| queue.modified_ms),
            purged_ms: known.and_then(|queue| queue.purged_ms),
            attributes,
        };
        store::save(tx, &queue)
    });
    stored.map_err(|error| resource.refuse("Properties", error.to_string()))
}

/// CloudFormation takes numbers and booleans as text, too.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct QueuePolicy {
    queues: Vec<String>,
    policy_document: Value,
}

/// Keeps a policy as the queue's attribute `Policy`.
fn deploy_policy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let properties: QueuePolicy = resource.read()?;
    let policy = properties.policy_document.to_string();
    for url in &properties.queues {
        let set = |queue: &mut Queue| _ = queue.attributes.insert("Policy".into(), policy.clone());
        name_in_url(url)
            .and_then(|name| store::change(cloud, name, set))
            .map_err(|error| resource.refuse("Properties.Queues", error.to_string()))?;
    }
    Ok(())
}
