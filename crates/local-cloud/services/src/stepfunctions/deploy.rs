//! State machines of templates.

use std::sync::Arc;

use cloud_core::service::{Deploy, Identity, Named, Type, counted, unless_missing};
use cloud_core::{AwsError, Cloud, later};
use serde_json::json;

use super::machines;

pub(crate) const TYPES: &[Type] = &[Type::new(
    "AWS::StepFunctions::StateMachine",
    "Standard workflows in JSONata",
    Identity::named("StateMachineName", 80)
        .reference("{arn}")
        .arn("arn:aws:states:{region}:{account}:stateMachine:{name}")
        .attributes(&[Identity::ARN, ("Name", "{name}")]),
    Deploy::Now(machines::deploy),
)
.holds(later!(running))
.remove(later!(remove))];

async fn running(cloud: &Arc<Cloud>, machine: &Named) -> Result<Option<String>, AwsError> {
    let input = json!({"stateMachineArn": machine.id, "statusFilter": "RUNNING"});
    let found = unless_missing(cloud.call("states", "ListExecutions", input).await)?;
    Ok(counted(found["executions"].as_array().map_or(0, Vec::len) as u64, "running execution"))
}

async fn remove(cloud: &Arc<Cloud>, machine: &Named) -> Result<bool, AwsError> {
    cloud.call("states", "DeleteStateMachine", json!({"stateMachineArn": machine.id})).await?;
    Ok(true)
}
