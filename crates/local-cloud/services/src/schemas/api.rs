//! The API actions of registries and schemas.

use std::sync::Arc;

use cloud_core::api::{check_number, key_of, page, read, with_token};
use cloud_core::clock::rfc3339_seconds;
use cloud_core::service::Action;
use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde_json::{Value, json};

use super::store::{Registry, Schema, registries, versions};

#[rustfmt::skip]
pub(super) const ACTIONS: &[Action] = &[
    Action::new("DescribeRegistry", describe_registry).route("GET", "/v1/registries/name/{RegistryName}", 200),
    Action::new("DescribeSchema", describe_schema)
        .route("GET", "/v1/registries/name/{RegistryName}/schemas/name/{SchemaName}", 200),
    Action::new("ListRegistries", list_registries).route("GET", "/v1/registries", 200),
    Action::new("ListSchemas", list_schemas).route("GET", "/v1/registries/name/{RegistryName}/schemas", 200),
    Action::refused("ListSchemaVersions")
        .route("GET", "/v1/registries/name/{RegistryName}/schemas/name/{SchemaName}/versions", 200),
    Action::refused("ListTagsForResource").route("GET", "/tags/{ResourceArn}", 200),
];

const CODE: &str = "BadRequestException";

fn not_found(what: &str) -> AwsError {
    AwsError::new(404, "NotFoundException", format!("{what} does not exist."))
}

fn find_registry(cloud: &Cloud, name: &str) -> Result<Registry, AwsError> {
    let found = registries(cloud)?.into_iter().find(|registry| registry.name == name);
    found.ok_or_else(|| not_found(&format!("Registry with name '{name}'")))
}

fn schema_arn(cloud: &Cloud, registry: &str, name: &str) -> String {
    cloud.arn("schemas", &format!("schema/{registry}/{name}"))
}

/// One page of `items`: pairs of a key and an item, sorted by the key.
fn paged(
    member: &str,
    items: Vec<(String, Value)>,
    limit: Option<i64>,
    token: Option<String>,
) -> Result<Value, AwsError> {
    let bad_request = |sentence: String| AwsError::client(CODE, sentence);
    let limit = limit.unwrap_or(100);
    check_number("limit", limit, 1..=100).map_err(bad_request)?;
    let after = token
        .map(|token| key_of(&token).ok_or_else(|| bad_request("NextToken is not valid.".into())))
        .transpose()?;
    let (items, next) = page(items, after.as_deref(), limit as usize);
    Ok(with_token(json!({ member: items }), "NextToken", next))
}

fn registry_view(cloud: &Cloud, registry: &Registry) -> Value {
    let arn = cloud.arn("schemas", &format!("registry/{}", registry.name));
    json!({ "RegistryName": registry.name, "RegistryArn": arn, "tags": registry.tags })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ListRegistries {
    registry_name_prefix: Option<String>,
    scope: Option<String>,
    next_token: Option<String>,
    limit: Option<i64>,
}

fn list_registries(cloud: &Arc<Cloud>, input: Value) -> Result<Value, AwsError> {
    let input: ListRegistries = read(input, CODE)?;
    let prefix = input.registry_name_prefix.unwrap_or_default();
    // Registries of AWS itself are not emulated; asked for alone, there are none.
    let local = input.scope.as_deref().is_none_or(|scope| scope.eq_ignore_ascii_case("local"));
    let mut found = registries(cloud)?;
    found.retain(|registry| local && registry.name.starts_with(&prefix));
    let found = found.iter().map(|registry| (registry.name.clone(), registry_view(cloud, registry)));
    paged("Registries", found.collect(), input.limit, input.next_token)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DescribeRegistry {
    registry_name: String,
}

fn describe_registry(cloud: &Arc<Cloud>, input: Value) -> Result<Value, AwsError> {
    let input: DescribeRegistry = read(input, CODE)?;
    let registry = find_registry(cloud, &input.registry_name)?;
    let mut view = registry_view(cloud, &registry);
    if let Some(description) = registry.description {
        view["Description"] = description.into();
    }
    Ok(view)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ListSchemas {
    registry_name: String,
    schema_name_prefix: Option<String>,
    next_token: Option<String>,
    limit: Option<i64>,
}

fn list_schemas(cloud: &Arc<Cloud>, input: Value) -> Result<Value, AwsError> {
    let input: ListSchemas = read(input, CODE)?;
    let registry = find_registry(cloud, &input.registry_name)?.name;
    let prefix = input.schema_name_prefix.unwrap_or_default();
    let mut views: Vec<(String, Value)> = Vec::new();
    for schema in versions(cloud, &registry)?.iter().filter(|schema| schema.name.starts_with(&prefix)) {
        match views.last_mut() {
            // Older versions of the same schema follow its newest one.
            Some((name, view)) if *name == schema.name => {
                view["VersionCount"] = (view["VersionCount"].as_i64().unwrap_or_default() + 1).into();
            }
            _ => {
                let view = json!({
                    "SchemaName": schema.name,
                    "SchemaArn": schema_arn(cloud, &registry, &schema.name),
                    "LastModified": rfc3339_seconds(schema.created_ms),
                    "VersionCount": 1,
                    "tags": schema.tags,
                });
                views.push((schema.name.clone(), view));
            }
        }
    }
    paged("Schemas", views, input.limit, input.next_token)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DescribeSchema {
    registry_name: String,
    schema_name: String,
    schema_version: Option<String>,
}

fn describe_schema(cloud: &Arc<Cloud>, input: Value) -> Result<Value, AwsError> {
    let DescribeSchema { registry_name, schema_name, schema_version } = read(input, CODE)?;
    find_registry(cloud, &registry_name)?;
    let mut all = versions(cloud, &registry_name)?;
    all.retain(|schema| schema.name == schema_name);
    // The newest version comes first; its time is that of the last modification.
    let Some(modified_ms) = all.first().map(|schema| schema.created_ms) else {
        return Err(not_found(&format!("Schema with name '{schema_name}'")));
    };
    let wanted = |schema: &Schema| {
        schema_version.as_ref().is_none_or(|version| *version == schema.version.to_string())
    };
    let schema = all.into_iter().find(wanted).ok_or_else(|| not_found("Schema version"))?;
    let mut view = json!({
        "SchemaName": schema.name,
        "SchemaArn": schema_arn(cloud, &schema.registry, &schema.name),
        "SchemaVersion": schema.version.to_string(),
        "Type": schema.kind,
        "Content": schema.content,
        "LastModified": rfc3339_seconds(modified_ms),
        "VersionCreatedDate": rfc3339_seconds(schema.created_ms),
        "tags": schema.tags,
    });
    if let Some(description) = schema.description {
        view["Description"] = description.into();
    }
    Ok(view)
}
