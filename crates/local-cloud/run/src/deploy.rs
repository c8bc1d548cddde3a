//! Hands every resource of an application to the service that runs it, each after all that it depends on.

use std::sync::Arc;

use cloud_core::Cloud;
use cloud_core::resource::Refusal;
use cloud_languages::template::{Application, Stack};

/// The type of a nested stack.
const NESTED: &str = "AWS::CloudFormation::Stack";

/// Deploys all stacks of an application; deploying over the state of an earlier run keeps it.
///
/// # Errors
/// The first refusal of a service, which names file and property.
pub async fn deploy(cloud: &Arc<Cloud>, application: &Application) -> Result<(), Refusal> {
    match application.root() {
        Some(root) => deploy_stack(cloud, application, root).await,
        None => Ok(()),
    }
}

async fn deploy_stack(cloud: &Arc<Cloud>, application: &Application, stack: &Stack) -> Result<(), Refusal> {
    for resource in &stack.resources {
        if resource.kind == NESTED {
            let nested = application
                .stack(&resource.physical_id)
                .ok_or_else(|| resource.refuse("Properties.TemplateURL", "its stack is not loaded"))?;
            // Boxed, since stacks nest to any depth.
            Box::pin(deploy_stack(cloud, application, nested)).await?;
        } else {
            cloud.deploy(resource).await?;
        }
    }
    Ok(())
}
