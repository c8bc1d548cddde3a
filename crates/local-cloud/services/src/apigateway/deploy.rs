//! The CloudFormation types of API Gateway.

use std::sync::Arc;

use cloud_core::Cloud;
use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Deploy, Identity, Type};
use serde::Deserialize;
use serde_json::Value;

use super::rest_api::RestApi;
use super::stage::{Stage, StageProperties};
use super::{State, openapi};

#[rustfmt::skip]
pub(super) const TYPES: &[Type] = &[
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

/// `AWS::ApiGateway::RestApi`. Properties with an underscore have no effect here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ApiProperties {
    body: Value,
    binary_media_types: Option<Vec<String>>,
    disable_execute_api_endpoint: Option<bool>,
    endpoint_configuration: Option<EndpointConfiguration>,
    #[serde(rename = "Name")]
    _name: Option<String>,
    #[serde(rename = "Description")]
    _description: Option<String>,
    /// SAM writes the endpoint type in it.
    #[serde(rename = "Parameters")]
    _parameters: Option<Value>,
    /// This module refuses what AWS only warns of.
    #[serde(rename = "FailOnWarnings")]
    _fail_on_warnings: Option<Value>,
    /// The document always replaces the API.
    #[serde(rename = "Mode")]
    _mode: Option<String>,
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
struct DeploymentProperties {
    rest_api_id: String,
    /// SAM names an extra stage here unless `OpenApiVersion` is set.
    stage_name: Option<String>,
    /// No effect here.
    #[serde(rename = "Description")]
    _description: Option<String>,
}

fn deploy_api(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let properties: ApiProperties = resource.read()?;
    if properties.binary_media_types.is_some_and(|types| !types.is_empty()) {
        return Err(resource.refuse("Properties.BinaryMediaTypes", "binary payloads are not emulated"));
    }
    if properties.disable_execute_api_endpoint == Some(true) {
        let reason = "custom domains are not emulated, so the API would have no address";
        return Err(resource.refuse("Properties.DisableExecuteApiEndpoint", reason));
    }
    // Edge and regional APIs have the same endpoint here; a private one has none.
    let types = properties.endpoint_configuration.into_iter().flat_map(|endpoint| endpoint.types);
    if let Some(kind) = types.into_iter().find(|kind| kind != "EDGE" && kind != "REGIONAL") {
        let reason = format!("{kind} is not emulated");
        return Err(resource.refuse("Properties.EndpointConfiguration.Types", reason));
    }
    let api = openapi::read(&resource.physical_id, &properties.body)
        .map_err(|invalid| resource.refuse(&format!("Properties.Body.{}", invalid.path), invalid.reason))?;
    cloud.state::<State>().add_api(api);
    Ok(())
}

fn deploy_deployment(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let properties: DeploymentProperties = resource.read()?;
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

fn deployed_api(cloud: &Cloud, resource: &Resource, id: &str) -> Result<Arc<RestApi>, Refusal> {
    let missing = || resource.refuse("Properties.RestApiId", format!("there is no API {id}"));
    cloud.state::<State>().api(id).ok_or_else(missing)
}
