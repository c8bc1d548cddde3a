//! API Gateway REST APIs: routes, request validators, mapping templates, integrations,
//! gateway responses. What an API does is read from the OpenAPI document of its
//! `AWS::ApiGateway::RestApi`; the module keeps nothing that must survive a restart, and
//! never lets a part of the document have another effect than on AWS.

mod api;
mod gateway_response;
mod handler;
mod integration;
mod mapping;
mod openapi;
mod proxy;
mod request;
mod routes;
mod schema;
mod spelling;
mod stage;
mod substitution;
mod throttle;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Deploy, Identity, Service, Type};
use cloud_core::store::{Store, StoreError};
use cloud_core::{Cloud, port};
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpListener;

use self::api::Api;
use self::stage::{Stage, StageProperties};

/// The service; its control plane is not emulated.
pub static SERVICE: Service = Service {
    open: |opening| {
        let state = State::open(opening.store)?;
        opening.keep(state);
        Ok(())
    },
    types: TYPES,
    ..Service::new("apigateway")
};

/// The deployed APIs.
#[derive(Debug, Default)]
pub struct State {
    deployed: RwLock<Deployed>,
    unthrottled: AtomicBool,
    /// Stands in for the other services in this module's tests.
    #[cfg(test)]
    double: std::sync::OnceLock<integration::double::Double>,
    /// The access log lines of this module's tests.
    #[cfg(test)]
    logged: std::sync::Mutex<Vec<String>>,
}

#[derive(Debug, Default)]
struct Deployed {
    apis: BTreeMap<String, Arc<Api>>,
    /// By API and name.
    stages: BTreeMap<(String, String), Arc<Stage>>,
}

impl State {
    /// Keeps nothing in the store: every start deploys the template again.
    ///
    /// # Errors
    /// Never, at present.
    pub fn open(_store: &Store) -> Result<Self, StoreError> {
        Ok(Self::default())
    }

    /// Lifts all throttling limits, for load tests (`--no-throttle`).
    pub fn disable_throttling(&self) {
        self.unthrottled.store(true, Ordering::Relaxed);
    }

    fn throttles(&self) -> bool {
        !self.unthrottled.load(Ordering::Relaxed)
    }

    fn api(&self, id: &str) -> Option<Arc<Api>> {
        self.deployed.read().unwrap_or_else(PoisonError::into_inner).apis.get(id).cloned()
    }

    fn stage(&self, api: &str, stage: &str) -> Option<Arc<Stage>> {
        let deployed = self.deployed.read().unwrap_or_else(PoisonError::into_inner);
        deployed.stages.get(&(api.to_owned(), stage.to_owned())).cloned()
    }

    /// All stages, those of a resource of their own first.
    fn stages(&self) -> Vec<Arc<Stage>> {
        let deployed = self.deployed.read().unwrap_or_else(PoisonError::into_inner);
        let mut stages: Vec<_> = deployed.stages.values().cloned().collect();
        stages.sort_by_key(|stage| stage.implicit);
        stages
    }

    fn add_stage(&self, stage: Stage) {
        let mut deployed = self.deployed.write().unwrap_or_else(PoisonError::into_inner);
        deployed.stages.insert((stage.api.id.clone(), stage.name.clone()), Arc::new(stage));
    }
}

/// `AWS::ApiGateway::RestApi`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RestApi {
    body: Value,
    binary_media_types: Option<Vec<String>>,
    disable_execute_api_endpoint: Option<bool>,
    /// No effect here.
    #[serde(rename = "Name")]
    _name: Option<String>,
    /// No effect here.
    #[serde(rename = "Description")]
    _description: Option<String>,
    endpoint_configuration: Option<EndpointConfiguration>,
    /// No effect here: SAM writes the endpoint type in it.
    #[serde(rename = "Parameters")]
    _parameters: Option<Value>,
    /// No effect here: what AWS only warns of, this module refuses.
    #[serde(rename = "FailOnWarnings")]
    _fail_on_warnings: Option<Value>,
    /// No effect here: the document always replaces the API.
    #[serde(rename = "Mode")]
    _mode: Option<String>,
    /// No effect here.
    #[serde(rename = "Tags")]
    _tags: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct EndpointConfiguration {
    types: Vec<String>,
}

/// `AWS::ApiGateway::Deployment`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Deployment {
    rest_api_id: String,
    /// SAM names an extra stage here unless `OpenApiVersion` is set.
    stage_name: Option<String>,
    /// No effect here.
    #[serde(rename = "Description")]
    _description: Option<String>,
}

fn deploy_api(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let properties: RestApi = resource.read()?;
    if properties.binary_media_types.is_some_and(|types| !types.is_empty()) {
        return Err(resource.refuse("Properties.BinaryMediaTypes", "binary payloads are not emulated"));
    }
    if properties.disable_execute_api_endpoint == Some(true) {
        let reason = "custom domains are not emulated, so the API would have no address";
        return Err(resource.refuse("Properties.DisableExecuteApiEndpoint", reason));
    }
    // At the edge or in the region, there is one endpoint here; a private one would have none.
    for kind in properties.endpoint_configuration.into_iter().flat_map(|endpoint| endpoint.types) {
        if kind != "EDGE" && kind != "REGIONAL" {
            return Err(
                resource.refuse("Properties.EndpointConfiguration.Types", format!("{kind} is not emulated"))
            );
        }
    }
    let api = openapi::read(&resource.physical_id, &properties.body)
        .map_err(|invalid| resource.refuse(&format!("Properties.Body.{}", invalid.path), invalid.reason))?;
    let mut deployed = cloud.state::<State>().deployed.write().unwrap_or_else(PoisonError::into_inner);
    deployed.apis.insert(api.id.clone(), Arc::new(api));
    Ok(())
}

fn deployed_api(cloud: &Cloud, resource: &Resource, id: &str) -> Result<Arc<Api>, Refusal> {
    let missing = || resource.refuse("Properties.RestApiId", format!("there is no API {id}"));
    cloud.state::<State>().api(id).ok_or_else(missing)
}

/// Serves all APIs on one port until the cloud stops: `/{path}` on one origin, and
/// `/_aws/execute-api/{api}/{stage}/{path}` for the invoke addresses of the outputs.
pub async fn serve(cloud: Arc<Cloud>, port: TcpListener) {
    port::serve(port, &cloud.stopping, cloud.settings.patience, |stream, address| {
        let (connection, client) = spelling::hear(stream, address);
        let cloud = cloud.clone();
        let answer = move |mut request: axum::extract::Request| {
            request.extensions_mut().insert(client.clone());
            handler::handle(cloud.clone(), request)
        };
        (connection, answer)
    })
    .await;
}

#[cfg(test)]
mod tests;

#[rustfmt::skip]
const TYPES: &[Type] = &[
    Type::inert("AWS::ApiGateway::Account", "access logs are always written",
        Identity::NAME.attributes(&[("Id", "{ref}")]),
        &["CloudWatchRoleArn"]),
    Type::new("AWS::ApiGateway::Deployment", "the API as the template has it now is always the deployed one",
        Identity::NAME.reference("{id}").attributes(&[("DeploymentId", "{ref}")]),
        Deploy::Now(deploy_deployment)).approximated(),
    Type::new("AWS::ApiGateway::RestApi", "routes, validators, mapping templates, integrations and responses of its OpenAPI body",
        Identity::NAME.reference("{id}")
            .arn("arn:aws:apigateway:{region}::/restapis/{id}")
            .attributes(&[("RestApiId", "{ref}"), ("RootResourceId", "{root}")]),
        Deploy::Now(deploy_api)),
    Type::new("AWS::ApiGateway::Stage", "throttling and access logs of its methods",
        Identity::named("StageName", 128),
        Deploy::Now(deploy_stage)),
];

fn deploy_deployment(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let properties: Deployment = resource.read()?;
    let api = deployed_api(cloud, resource, &properties.rest_api_id)?;
    if let Some(name) = &properties.stage_name {
        cloud.state::<State>().add_stage(Stage::plain(name, &resource.physical_id, api));
    }
    Ok(())
}

fn deploy_stage(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let properties: StageProperties = resource.read()?;
    let api = deployed_api(cloud, resource, &properties.rest_api_id)?;
    cloud.state::<State>().add_stage(Stage::new(resource, properties, api)?);
    Ok(())
}
