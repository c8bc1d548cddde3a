//! `AWS::Serverless::Api`: the API with its OpenAPI body, a deployment and a stage.

use std::collections::BTreeMap;

use cloud_core::resource::Refusal;
use serde_json::{Map, Value, json};

use super::generated::{Generated, propagate, tag_list};
use super::properties::{Properties, merged};
use crate::template::document::Declared;
use crate::template::identity::letters;
use crate::template::place::Place;

/// The properties of `Globals.Api`.
#[rustfmt::skip]
pub(super) const GLOBAL: &[&str] = &[
    "Name", "EndpointConfiguration", "MethodSettings", "AccessLogSetting", "TracingEnabled", "OpenApiVersion",
    "Variables", "PropagateTags",
];

/// `aliases` gets the names that templates may use for the stage and the deployment.
pub(super) fn transform(
    id: &str,
    mut declared: Declared,
    globals: &Map<String, Value>,
    at: &Place,
    aliases: &mut BTreeMap<String, String>,
) -> Result<Generated, Refusal> {
    let own = std::mem::take(&mut declared.properties);
    let mut given = Properties::new(merged(globals, own), at.key("Properties"), &declared.kind);
    let condition = declared.condition.clone();
    let generate = |kind: &str, properties: Value| Declared::generated(kind, properties, condition.clone());

    let body = given.require("DefinitionBody")?;
    let deployment_id = format!("{id}Deployment{}", letters(&body.to_string(), 10));
    given.set("Body", body);
    given.pass(&["Name", "Description"]);
    if let Some(endpoint) = given.take("EndpointConfiguration") {
        let kind = endpoint_type(endpoint, given.at.key("EndpointConfiguration"))?;
        given.set("EndpointConfiguration", json!({ "Types": [kind] }));
    }
    let propagates = given.take("PropagateTags");
    let stage_name = given.require("StageName")?;
    let stage_id = match &stage_name {
        Value::String(name) if !name.is_empty() && name.chars().all(char::is_alphanumeric) => {
            format!("{id}{name}Stage")
        }
        Value::String(name) => format!("{id}Stage{}", letters(name, 10)),
        _ => format!("{id}Stage"),
    };
    let mut stage = json!({
        "RestApiId": { "Ref": id },
        "DeploymentId": { "Ref": deployment_id },
        "StageName": stage_name,
    });
    let passed = ["AccessLogSetting", "MethodSettings", "TracingEnabled", "Variables"];
    for (key, value) in given.take_all(&passed) {
        stage[key] = value;
    }
    let tags = given.take_object("Tags")?;
    if let Some(tags) = &tags {
        stage["Tags"] = tag_list(tags.clone());
    }
    let mut deployment = json!({ "RestApiId": { "Ref": id } });
    // Without OpenApiVersion, SAM lets the deployment make a second stage called `Stage`.
    // https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-resource-api.html, OpenApiVersion
    if given.take("OpenApiVersion").is_none() {
        deployment["StageName"] = json!("Stage");
    }
    aliases.insert(format!("{id}.Stage"), stage_id.clone());
    aliases.insert(format!("{id}.Deployment"), deployment_id.clone());
    let kind = "AWS::ApiGateway::RestApi".to_owned();
    let mut resources = vec![
        (id.to_owned(), Declared { kind, properties: given.finish()?, ..declared }),
        (deployment_id, generate("AWS::ApiGateway::Deployment", deployment)),
        (stage_id, generate("AWS::ApiGateway::Stage", stage)),
    ];
    propagate(propagates, tags, &mut resources);
    Ok(resources)
}

fn endpoint_type(endpoint: Value, at: Place) -> Result<Value, Refusal> {
    if !endpoint.is_object() {
        return Ok(endpoint);
    }
    let mut endpoint = Properties::below(endpoint, at, "EndpointConfiguration")?;
    let kind = endpoint.require("Type")?;
    endpoint.finish()?;
    Ok(kind)
}
