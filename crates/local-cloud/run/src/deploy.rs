//! Deploys every resource of an application, each after the resources that it depends on.

use std::sync::Arc;

use cloud_core::Cloud;
use cloud_core::resource::Refusal;
use cloud_languages::template::{Application, Stack};

/// Deploys all stacks of an application. Keeps the state of an earlier run.
pub async fn deploy(cloud: &Arc<Cloud>, application: &Application) -> Result<(), Refusal> {
    match application.root() {
        Some(root) => deploy_stack(cloud, application, root).await,
        None => Ok(()),
    }
}

async fn deploy_stack(cloud: &Arc<Cloud>, application: &Application, stack: &Stack) -> Result<(), Refusal> {
    for resource in &stack.resources {
        if resource.kind == "AWS::CloudFormation::Stack" {
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
