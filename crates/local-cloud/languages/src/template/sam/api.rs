//! `AWS::Serverless::Api`: the API with its OpenAPI body, a deployment and a stage.

use std::collections::BTreeMap;

use cloud_core::resource::Refusal;
use serde_json::{Map, Value, json};

use super::{Generated, Properties, merged, propagate, tag_list};
use crate::template::document::Declared;
use crate::template::identity::letters;
use crate::template::place::Place;

/// What `Globals.Api` may hold.
pub(super) const GLOBAL: &[&str] = &[
    "Name",
    "EndpointConfiguration",
    "MethodSettings",
    "AccessLogSetting",
    "TracingEnabled",
    "OpenApiVersion",
    "Variables",
    "PropagateTags",
];

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

    let mut api = Map::new();
    let body = given.require("DefinitionBody")?;
    let deployment_id = format!("{id}Deployment{}", letters(&body.to_string(), 10));
    api.insert("Body".to_owned(), body);
    given.pass(&["Name", "Description"], &mut api);
    if let Some(endpoint) = given.take("EndpointConfiguration") {
        let kind = match endpoint {
            Value::Object(_) => {
                let mut endpoint = Properties::below(
                    endpoint,
                    given.at.key("EndpointConfiguration"),
                    "EndpointConfiguration",
                )?;
                let kind = endpoint.require("Type")?;
                endpoint.finish()?;
                kind
            }
            kind => kind,
        };
        api.insert("EndpointConfiguration".to_owned(), json!({ "Types": [kind] }));
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
    let mut stage = Map::new();
    stage.insert("RestApiId".to_owned(), json!({ "Ref": id }));
    stage.insert("DeploymentId".to_owned(), json!({ "Ref": deployment_id }));
    stage.insert("StageName".to_owned(), stage_name);
    given.pass(&["AccessLogSetting", "MethodSettings", "TracingEnabled", "Variables"], &mut stage);
    let tags = given.take_object("Tags")?;
    if let Some(tags) = &tags {
        stage.insert("Tags".to_owned(), tag_list(tags.clone()));
    }
    let mut deployment = json!({ "RestApiId": { "Ref": id } });
    // Without OpenApiVersion, SAM lets the deployment make a second stage called `Stage`.
    // https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-resource-api.html, OpenApiVersion
    if given.take("OpenApiVersion").is_none() {
        deployment["StageName"] = json!("Stage");
    }
    given.finish()?;

    aliases.insert(format!("{id}.Stage"), stage_id.clone());
    aliases.insert(format!("{id}.Deployment"), deployment_id.clone());
    let rest_api = Declared { kind: "AWS::ApiGateway::RestApi".to_owned(), properties: api, ..declared };
    let mut resources = vec![
        (id.to_owned(), rest_api),
        (deployment_id, generate("AWS::ApiGateway::Deployment", deployment)),
        (stage_id, generate("AWS::ApiGateway::Stage", Value::Object(stage))),
    ];
    propagate(propagates, tags, &mut resources);
    Ok(resources)
}
