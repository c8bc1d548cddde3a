//! Functions of templates, and the settings of their asynchronous invocations.

use std::sync::Arc;

use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Deploy, Identity, Level, Type, counted};
use cloud_core::{Cloud, lock};
use serde::Deserialize;

use super::function::Function;
use super::{State, config, store};

#[rustfmt::skip]
pub(crate) const TYPES: &[Type] = &[
    Type::new("AWS::Lambda::EventInvokeConfig", "retries, maximum age and destinations of asynchronous invocations",
        Identity::NAME,
        Deploy::Now(deploy_event_invoke)),
    Type::new("AWS::Lambda::Function", "a process on this machine that uses the Runtime API; the memory size limits its address space",
        Identity::named("FunctionName", 64)
            .arn("arn:aws:lambda:{region}:{account}:function:{name}").attributes(&[Identity::ARN]),
        Deploy::Now(deploy_function))
        .holds(|cloud, function| Box::pin(async move {
            Ok(counted(store::pending(&cloud.store, function.name())?, "accepted invocation"))
        }))
        .approximated(),
    Type { level: Level::Inert, ..Type::new("AWS::Lambda::Permission", "permissions are not enforced here",
        Identity::made_up(100).attributes(&[("Id", "{ref}")]),
        Deploy::Now(|_, resource| resource.read::<Permission>().map(drop))) },
];

/// Checked, and not used: nothing is authorised here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Permission {
    #[serde(rename = "Action")]
    _action: String,
    #[serde(rename = "FunctionName")]
    _function_name: String,
    #[serde(rename = "Principal")]
    _principal: String,
    #[serde(rename = "SourceAccount")]
    _source_account: Option<String>,
    #[serde(rename = "SourceArn")]
    _source_arn: Option<String>,
}

fn deploy_function(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let config = config::function(cloud, resource)?;
    let state = cloud.state::<State>();
    let binary = state.binaries.get().map(|folder| folder.join(&config.binary));
    if let Some(missing) = binary.filter(|binary| !binary.is_file()) {
        return Err(resource.refuse("Metadata.Binary", format!("there is no binary {}", missing.display())));
    }
    let (name, function) = (config.name.clone(), Function::new(config, &state.pool));
    if let Some(before) = lock(&state.functions).insert(name, Arc::new(function)) {
        before.retire(&state.pool);
    }
    Ok(())
}

fn deploy_event_invoke(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let (function, config) = config::event_invoke(resource)?;
    lock(&cloud.state::<State>().event_invokes).insert(function, config);
    Ok(())
}
