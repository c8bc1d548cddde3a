//! Queues and queue policies of templates.

use std::sync::Arc;

use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Deploy, Identity, Named, Type, counted, unless_missing};
use cloud_core::{AwsError, Cloud, later};
use serde::Deserialize;
use serde_json::{Value, json};

use super::queue;

#[rustfmt::skip]
pub(crate) const TYPES: &[Type] = &[
    Type::new("AWS::SQS::Queue", "standard queues",
        Identity::named("QueueName", 80).reference("https://sqs.{region}.amazonaws.com/{account}/{name}")
            .arn("arn:aws:sqs:{region}:{account}:{name}")
            .attributes(&[Identity::ARN, ("QueueName", "{name}"), ("QueueUrl", "{ref}")]),
        Deploy::Now(queue::deploy)).holds(later!(held)).remove(later!(remove)),
    Type::new("AWS::SQS::QueuePolicy", "shown as an attribute; permissions are not enforced here",
        Identity::NAME.attributes(&[("Id", "{ref}")]),
        Deploy::Now(deploy_policy)).approximated(),
];

/// The messages of a queue, seen or not.
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
struct QueuePolicy {
    queues: Vec<String>,
    policy_document: Value,
}

/// A policy is kept and shown as the queue's `Policy`; calls are not authorised here.
fn deploy_policy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let properties: QueuePolicy = resource.read()?;
    for url in &properties.queues {
        let policy = properties.policy_document.to_string();
        queue::change(cloud, url, |queue| {
            queue.attributes.insert("Policy".into(), policy);
        })
        .map_err(|error| resource.refuse("Properties.Queues", error.to_string()))?;
    }
    Ok(())
}
