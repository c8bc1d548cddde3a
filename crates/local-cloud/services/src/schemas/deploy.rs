//! Registries and schemas of templates.

use std::sync::Arc;

use cloud_core::Cloud;
use cloud_core::api::{Tag, is_name, tag_object};
use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Deploy, Identity, Type};
use serde::Deserialize;
use serde_json::Value;

use super::Declared;
use super::store::{Registry, Schema, put_registry, put_schema};

#[rustfmt::skip]
pub(super) const TYPES: &[Type] = &[
    Type::new("AWS::EventSchemas::Registry", "read only",
        Identity::named("RegistryName", 64).reference("{arn}")
            .arn("arn:aws:schemas:{region}:{account}:registry/{name}")
            .attributes(&[("RegistryArn", "{arn}"), ("RegistryName", "{name}")]),
        Deploy::Now(deploy_registry)),
    Type::new("AWS::EventSchemas::Schema", "read only; a changed content is a new version",
        Identity::named("SchemaName", 385).reference("{arn}")
            .arn("arn:aws:schemas:{region}:{account}:schema/{:RegistryName}/{name}")
            .attributes(&[("SchemaArn", "{arn}"), ("SchemaName", "{name}"), ("SchemaVersion", "1")]),
        Deploy::Now(deploy_schema)),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RegistryProps {
    registry_name: Option<String>,
    description: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct SchemaProps {
    registry_name: String,
    schema_name: Option<String>,
    #[serde(rename = "Type")]
    kind: String,
    content: String,
    description: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
}

/// The name in a physical id, which may be an ARN that ends with it.
fn physical_name(resource: &Resource) -> String {
    resource.physical_id.rsplit('/').next().unwrap_or_default().to_owned()
}

fn deploy_registry(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let props: RegistryProps = resource.read()?;
    let name = props.registry_name.unwrap_or_else(|| physical_name(resource));
    // https://docs.aws.amazon.com/eventbridge/latest/schema-reference/v1-registries-name-registryname.html
    if name.len() > 64 || name.starts_with("aws.") || !is_name(&name, "._-") {
        let reason = format!(
            "`{name}` is not a registry name: 1 to 64 letters, digits and ._-, not beginning with aws."
        );
        return Err(resource.refuse("Properties.RegistryName", reason));
    }
    let registry = Registry { name, description: props.description, tags: tag_object(props.tags) };
    put_registry(cloud, &registry).map_err(|error| resource.refuse("Properties", error.to_string()))
}

fn deploy_schema(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let props: SchemaProps = resource.read()?;
    let refuse = |path: &str, reason: String| resource.refuse(&format!("Properties.{path}"), reason);
    let registry = props.registry_name.rsplit('/').next().unwrap_or_default().to_owned();
    if !cloud.state::<Declared>().has(&registry) {
        return Err(refuse("RegistryName", format!("there is no registry `{registry}`")));
    }
    let name = props.schema_name.unwrap_or_else(|| physical_name(resource));
    if name.len() > 385 || !is_name(&name, "._-@") {
        let reason = format!("`{name}` is not a schema name: 1 to 385 letters, digits and ._-@");
        return Err(refuse("SchemaName", reason));
    }
    check_content(&props.kind, &props.content).map_err(|(path, reason)| refuse(path, reason))?;
    let schema = Schema {
        registry,
        name,
        version: 1,
        kind: props.kind,
        content: props.content,
        description: props.description,
        tags: tag_object(props.tags),
        created_ms: cloud.clock.now_ms(),
    };
    put_schema(cloud, &schema).map_err(|error| refuse("Content", error.to_string()))
}

/// Checks that the content is a document of its type; AWS answers `BadRequestException` otherwise.
fn check_content(kind: &str, content: &str) -> Result<(), (&'static str, String)> {
    let wrong = |reason: &str| Err(("Content", reason.to_owned()));
    let document: Value =
        serde_json::from_str(content).map_err(|error| ("Content", format!("it is not JSON: {error}")))?;
    match kind {
        "OpenApi3" => {}
        "JSONSchemaDraft4" => return Err(("Type", "JSONSchemaDraft4 is not emulated".into())),
        other => return Err(("Type", format!("`{other}` is not a schema type"))),
    }
    if !document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")) {
        return wrong("it is not an OpenAPI 3 document: `openapi` must be 3.x");
    }
    if let Some(member) = ["info", "paths"].iter().find(|member| !document[**member].is_object()) {
        return wrong(&format!("it is not an OpenAPI 3 document: `{member}` is missing"));
    }
    if !document["components"]["schemas"].is_object() {
        return wrong("it declares no components.schemas");
    }
    Ok(())
}
