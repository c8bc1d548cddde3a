//! Event source mappings of templates.

use std::sync::Arc;

use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Deploy, Identity, Type};
use cloud_core::store::StoreError;
use cloud_core::{Cloud, later};

use super::mapping::{self, Mapping, Source};
use super::pollers::State;
use super::{queue, store, stream};
use crate::lambda;

pub(super) const TYPES: &[Type] = &[Type::new(
    "AWS::Lambda::EventSourceMapping",
    "queues and table streams",
    Identity::NAME
        .reference("{uuid}")
        .arn("arn:aws:lambda:{region}:{account}:event-source-mapping:{uuid}")
        .attributes(&[("Id", "{uuid}"), ("EventSourceMappingArn", "{arn}")]),
    Deploy::Later(later!(deploy)),
)
.remove(|cloud, mapping| Box::pin(async move { Ok(forget(cloud, mapping.name()).map(|()| true)?) }))];

async fn deploy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let now = cloud.clock.now_ms();
    let template = mapping::read(cloud, resource, now)?;
    let refuse = |reason: String| resource.refuse("Properties.EventSourceArn", reason);
    let (changed, modified_ms) =
        store::deployed(cloud, resource).map_err(|error| refuse(error.to_string()))?;
    let mut mapping = match read_and_check(cloud, &changed, modified_ms).await {
        // For example, the template no longer has the function that an update named.
        Err(refusal) if changed.properties != resource.properties => {
            tracing::warn!(target: "hop", service = "lambda", resource = %template.function, "{} runs as its template says: what was changed through the API cannot be deployed any more: {refusal}", resource.logical_id);
            read_and_check(cloud, resource, now).await?
        }
        mapping => mapping?,
    };
    if let Source::Table(settings) = &mut mapping.source {
        if let Source::Table(template) = template.source {
            settings.consumer = template.consumer;
        }
        stream::establish(cloud, settings).await.map_err(|error| refuse(error.message))?;
    }
    cloud.state::<State>().add(mapping);
    Ok(())
}

/// A mapping whose function exists, and fits its queue.
async fn read_and_check(
    cloud: &Arc<Cloud>,
    resource: &Resource,
    modified_ms: i64,
) -> Result<Mapping, Refusal> {
    let mapping = mapping::read(cloud, resource, modified_ms)?;
    let (property, checked) = match mapping.source {
        Source::Queue(_) => ("EventSourceArn", queue::check(cloud, &mapping).await),
        Source::Table(_) => ("FunctionName", lambda::timeout_s(cloud, &mapping.function).map(drop)),
    };
    checked.map_err(|error| resource.refuse(&format!("Properties.{property}"), error.message))?;
    Ok(mapping)
}

/// Deletes a mapping that the template no longer has. Its checkpoint goes too, unless another mapping of
/// this run uses it.
fn forget(cloud: &Cloud, uuid: &str) -> Result<(), StoreError> {
    cloud.state::<State>().remove(uuid);
    let template = store::template(cloud, uuid)?;
    let (function, source) = (template["FunctionName"].as_str(), template["EventSourceArn"].as_str());
    let consumer = function
        .zip(source.filter(|source| source.contains(":dynamodb:")))
        .map(|(function, source)| mapping::consumer(&lambda::name_of(function), source))
        .filter(|consumer| !cloud.state::<State>().reads(consumer));
    store::delete(cloud, uuid, consumer.as_deref())
}
