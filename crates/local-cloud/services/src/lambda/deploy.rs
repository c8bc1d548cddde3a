//! Functions of templates, with their permissions and the settings of their asynchronous invocations.

use std::sync::Arc;

use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Deploy, Identity, Named, Type, counted};
use cloud_core::{AwsError, Cloud};

use super::function::Function;
use super::{State, config, lock, pending};

#[rustfmt::skip]
pub(crate) const TYPES: &[Type] = &[
    Type::new("AWS::Lambda::EventInvokeConfig", "retries, maximum age and destinations of asynchronous invocations",
        Identity::NAME,
        Deploy::Now(deploy_event_invoke)),
    Type::new("AWS::Lambda::Function", "a process of this machine over the Runtime API; its memory size bounds its address space",
        Identity::named("FunctionName", 64)
            .arn("arn:aws:lambda:{region}:{account}:function:{name}").attributes(&[Identity::ARN]),
        Deploy::Now(deploy_function))
        .holds(|cloud, function| Box::pin(async move { accepted(cloud, function) })).approximated(),
    Type::new("AWS::Lambda::Permission", "shown by GetPolicy; permissions are not enforced here",
        Identity::made_up(100).attributes(&[("Id", "{ref}")]),
        Deploy::Now(deploy_permission)).approximated(),
];

fn deploy_function(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let function = Function::new(cloud, resource)?;
    let functions = &cloud.state::<State>().functions;
    let before = lock(functions).insert(function.config.name.clone(), Arc::new(function));
    if let Some(before) = before {
        before.retire(cloud);
    }
    Ok(())
}

fn deploy_event_invoke(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let (function, config) = config::event_invoke(resource)?;
    lock(&cloud.state::<State>().event_invokes).insert(function, config);
    Ok(())
}

fn deploy_permission(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let permission = config::permission(resource)?;
    let mut permissions = lock(&cloud.state::<State>().permissions);
    permissions.retain(|known| known.sid != permission.sid);
    permissions.push(permission);
    Ok(())
}

fn accepted(cloud: &Cloud, function: &Named) -> Result<Option<String>, AwsError> {
    Ok(counted(pending(cloud, function.name())?, "accepted invocation"))
}
