//! EventBridge schema registries: what the template declares, described and listed. Schemas
//! keep their versions; discovery, code bindings and search are not emulated, and nothing
//! validates events against a schema (nor does AWS).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Action, Deploy, Identity, Protocol, Service, Type};
use cloud_core::store::{Store, StoreError};
use cloud_core::{AwsError, Cloud};
use rusqlite::{OptionalExtension, params};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The service.
pub static SERVICE: Service = Service {
    protocols: &[Protocol::Rest { owns: |path| path.starts_with("/v1/registries") }],
    open: |opening| {
        let state = State::open(opening.store)?;
        opening.keep(state);
        Ok(())
    },
    actions: ACTIONS,
    types: TYPES,
    ..Service::new("schemas")
};

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS schema_registries (name TEXT PRIMARY KEY, description TEXT, tags TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS schema_versions (
    registry TEXT NOT NULL REFERENCES schema_registries, name TEXT NOT NULL, version INTEGER NOT NULL,
    type TEXT NOT NULL, content TEXT NOT NULL, description TEXT, tags TEXT NOT NULL, created_ms INTEGER NOT NULL,
    PRIMARY KEY (registry, name, version));
";

/// What the service keeps besides its tables.
#[derive(Debug, Default)]
pub struct State {
    /// What this run's template declares: registries, and schemas as `registry/schema`.
    declared: Mutex<BTreeSet<String>>,
}

impl State {
    /// Creates the service's tables.
    ///
    /// # Errors
    /// When the store refuses.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        store.migrate(TABLES)?;
        Ok(Self::default())
    }

    fn declare(&self, key: String) {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
    }

    fn declares(&self, key: &str) -> bool {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }
}

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Tag {
    key: String,
    value: String,
}

fn tag_text(tags: Vec<Tag>) -> String {
    let tags: Map<String, Value> = tags.into_iter().map(|tag| (tag.key, tag.value.into())).collect();
    Value::from(tags).to_string()
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
    let tags = tag_text(props.tags);
    cloud
        .store
        .write(|tx| {
            tx.execute(
                "INSERT INTO schema_registries VALUES (?1, ?2, ?3) ON CONFLICT (name)
                 DO UPDATE SET description = excluded.description, tags = excluded.tags",
                params![name, props.description, tags],
            )
        })
        .map_err(|error| resource.refuse("Properties", error.to_string()))?;
    cloud.state::<State>().declare(name);
    Ok(())
}

fn is_name(name: &str, also: &str) -> bool {
    !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || also.contains(letter))
}

fn deploy_schema(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let props: SchemaProps = resource.read()?;
    let refuse = |path: &str, reason: String| resource.refuse(&format!("Properties.{path}"), reason);
    let registry = props.registry_name.rsplit('/').next().unwrap_or_default().to_owned();
    if !cloud.state::<State>().declares(&registry) {
        return Err(refuse("RegistryName", format!("there is no registry `{registry}`")));
    }
    let name = props.schema_name.unwrap_or_else(|| physical_name(resource));
    if name.len() > 385 || !is_name(&name, "._-@") {
        let reason = format!("`{name}` is not a schema name: 1 to 385 letters, digits and ._-@");
        return Err(refuse("SchemaName", reason));
    }
    check_content(&props.kind, &props.content).map_err(|(path, reason)| refuse(path, reason))?;
    let tags = tag_text(props.tags);
    let now_ms = cloud.clock.now_ms();
    cloud
        .store
        .write(|tx| {
            let latest: Option<(i64, String)> = tx
                .query_row(
                    "SELECT version, content FROM schema_versions WHERE registry = ?1 AND name = ?2 ORDER BY version DESC",
                    [&registry, &name],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?;
            // Only a change of the content makes a new version.
            let version = match latest {
                None => 1,
                Some((version, content)) if content == props.content => version,
                Some((version, _)) => version + 1,
            };
            tx.execute(
                "INSERT INTO schema_versions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (registry, name, version)
                 DO UPDATE SET type = excluded.type, description = excluded.description, tags = excluded.tags",
                params![registry, name, version, props.kind, props.content, props.description, tags, now_ms],
            )
        })
        .map_err(|error| refuse("Content", error.to_string()))?;
    cloud.state::<State>().declare(format!("{registry}/{name}"));
    Ok(())
}

/// Refuses what AWS refuses with `BadRequestException`: content that is not the document its
/// type says.
fn check_content(kind: &str, content: &str) -> Result<(), (&'static str, String)> {
    let document: Value =
        serde_json::from_str(content).map_err(|error| ("Content", format!("it is not JSON: {error}")))?;
    match kind {
        "OpenApi3" => {
            let version = document["openapi"].as_str().unwrap_or_default();
            if !version.starts_with("3.") {
                return Err(("Content", "it is not an OpenAPI 3 document: `openapi` must be 3.x".into()));
            }
            for member in ["info", "paths"] {
                if !document[member].is_object() {
                    return Err((
                        "Content",
                        format!("it is not an OpenAPI 3 document: `{member}` is missing"),
                    ));
                }
            }
            if !document["components"]["schemas"].is_object() {
                return Err(("Content", "it declares no components.schemas".into()));
            }
            Ok(())
        }
        "JSONSchemaDraft4" => Err(("Type", "JSONSchemaDraft4 is not emulated".into())),
        other => Err(("Type", format!("`{other}` is not a schema type"))),
    }
}

/// A version of a schema.
struct Schema {
    registry: String,
    name: String,
    version: i64,
    kind: String,
    content: String,
    description: Option<String>,
    tags: Value,
    created_ms: i64,
}

/// All versions of the declared schemas of a registry, by name, newest first.
fn versions(cloud: &Cloud, registry: &str) -> Result<Vec<Schema>, AwsError> {
    let mut schemas: Vec<Schema> = cloud.store.read(|db| {
        db.prepare_cached(
            "SELECT registry, name, version, type, content, description, tags, created_ms
             FROM schema_versions WHERE registry = ?1 ORDER BY name, version DESC",
        )?
        .query_map([registry], |row| {
            let tags: String = row.get(6)?;
            Ok(Schema {
                registry: row.get(0)?,
                name: row.get(1)?,
                version: row.get(2)?,
                kind: row.get(3)?,
                content: row.get(4)?,
                description: row.get(5)?,
                tags: serde_json::from_str(&tags).unwrap_or_default(),
                created_ms: row.get(7)?,
            })
        })?
        .collect()
    })?;
    schemas.retain(|schema| cloud.state::<State>().declares(&format!("{registry}/{}", schema.name)));
    Ok(schemas)
}

fn versions_of(cloud: &Cloud, registry: &str, name: &str) -> Result<Vec<Schema>, AwsError> {
    find_registry(cloud, registry)?;
    let mut found = versions(cloud, registry)?;
    found.retain(|schema| schema.name == name);
    if found.is_empty() { Err(not_found(&format!("Schema with name '{name}'"))) } else { Ok(found) }
}

/// Name, description and tags.
type Registry = (String, Option<String>, Value);

fn registries(cloud: &Cloud) -> Result<Vec<Registry>, AwsError> {
    let mut found: Vec<Registry> = cloud.store.read(|db| {
        db.prepare_cached("SELECT name, description, tags FROM schema_registries ORDER BY name")?
            .query_map([], |row| {
                let tags: String = row.get(2)?;
                Ok((row.get(0)?, row.get(1)?, serde_json::from_str(&tags).unwrap_or_default()))
            })?
            .collect()
    })?;
    found.retain(|(name, _, _)| cloud.state::<State>().declares(name));
    Ok(found)
}

fn find_registry(cloud: &Cloud, name: &str) -> Result<Registry, AwsError> {
    let found = registries(cloud)?.into_iter().find(|(registry, _, _)| registry == name);
    found.ok_or_else(|| not_found(&format!("Registry with name '{name}'")))
}

fn not_found(what: &str) -> AwsError {
    AwsError::new(404, "NotFoundException", format!("{what} does not exist."))
}

fn bad_request(message: impl Into<String>) -> AwsError {
    AwsError::client("BadRequestException", message)
}

fn read_input<T: serde::de::DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    serde_json::from_value(input).map_err(|error| bad_request(error.to_string()))
}

fn registry_arn(cloud: &Cloud, name: &str) -> String {
    cloud.arn("schemas", &format!("registry/{name}"))
}

fn schema_arn(cloud: &Cloud, registry: &str, name: &str) -> String {
    cloud.arn("schemas", &format!("schema/{registry}/{name}"))
}

/// `2026-11-23T18:22:06Z`, as this API writes times.
fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct List {
    registry_name: Option<String>,
    registry_name_prefix: Option<String>,
    schema_name: Option<String>,
    schema_name_prefix: Option<String>,
    scope: Option<String>,
    next_token: Option<String>,
    limit: Option<usize>,
}

impl List {
    fn required(member: &Option<String>, name: &str) -> Result<String, AwsError> {
        member.clone().ok_or_else(|| bad_request(format!("{name} is required.")))
    }

    /// One page of items that are sorted by the key beside them.
    fn page(&self, member: &str, items: Vec<(String, Value)>) -> Result<Value, AwsError> {
        let limit = self.limit.unwrap_or(100);
        if !(1..=100).contains(&limit) {
            return Err(bad_request("limit must be between 1 and 100."));
        }
        let start = match &self.next_token {
            None => 0,
            Some(token) => items
                .iter()
                .position(|(key, _)| key == token)
                .map(|at| at + 1)
                .ok_or_else(|| bad_request("NextToken is not valid."))?,
        };
        let more = items.len() > start + limit;
        let page: Vec<(String, Value)> = items.into_iter().skip(start).take(limit).collect();
        let last = page.last().map(|(key, _)| key.clone());
        let page: Vec<Value> = page.into_iter().map(|(_, item)| item).collect();
        let mut answer = json!({ member: page });
        if let (true, Some(last)) = (more, last) {
            answer["NextToken"] = last.into();
        }
        Ok(answer)
    }
}

fn list_registries(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: List = read_input(input)?;
    let prefix = input.registry_name_prefix.clone().unwrap_or_default();
    // Registries of AWS itself are not emulated; asked for alone, there are none.
    let local = input.scope.as_deref().is_none_or(|scope| scope.eq_ignore_ascii_case("local"));
    let found = registries(cloud)?.into_iter().filter(|(name, _, _)| local && name.starts_with(&prefix));
    let found = found.map(|(name, _, tags)| {
        let view = json!({ "RegistryName": name, "RegistryArn": registry_arn(cloud, &name), "tags": tags });
        (name, view)
    });
    input.page("Registries", found.collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct OneRegistry {
    registry_name: String,
}

fn describe_registry(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: OneRegistry = read_input(input)?;
    let (name, description, tags) = find_registry(cloud, &input.registry_name)?;
    let arn = registry_arn(cloud, &name);
    let mut view = json!({ "RegistryName": name, "RegistryArn": arn, "tags": tags });
    if let Some(description) = description {
        view["Description"] = description.into();
    }
    Ok(view)
}

fn list_schemas(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: List = read_input(input)?;
    let registry = List::required(&input.registry_name, "RegistryName")?;
    find_registry(cloud, &registry)?;
    let prefix = input.schema_name_prefix.clone().unwrap_or_default();
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
                    "LastModified": time(schema.created_ms),
                    "VersionCount": 1,
                    "tags": schema.tags,
                });
                views.push((schema.name.clone(), view));
            }
        }
    }
    input.page("Schemas", views)
}

fn list_versions(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: List = read_input(input)?;
    let registry = List::required(&input.registry_name, "RegistryName")?;
    let name = List::required(&input.schema_name, "SchemaName")?;
    let views = versions_of(cloud, &registry, &name)?.into_iter().map(|schema| {
        let version = schema.version.to_string();
        let view = json!({
            "SchemaArn": schema_arn(cloud, &registry, &name),
            "SchemaName": name,
            "SchemaVersion": version,
            "Type": schema.kind,
        });
        (version, view)
    });
    input.page("SchemaVersions", views.collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DescribeSchema {
    registry_name: String,
    schema_name: String,
    schema_version: Option<String>,
}

fn describe_schema(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: DescribeSchema = read_input(input)?;
    let all = versions_of(cloud, &input.registry_name, &input.schema_name)?;
    // The newest version comes first, and is the last modification.
    let modified_ms = all.first().map_or(0, |schema| schema.created_ms);
    let wanted = |schema: &Schema| {
        input.schema_version.as_ref().is_none_or(|version| *version == schema.version.to_string())
    };
    let schema = all.into_iter().find(wanted).ok_or_else(|| not_found("Schema version"))?;
    let mut view = json!({
        "SchemaName": schema.name,
        "SchemaArn": schema_arn(cloud, &schema.registry, &schema.name),
        "SchemaVersion": schema.version.to_string(),
        "Type": schema.kind,
        "Content": schema.content,
        "LastModified": time(modified_ms),
        "VersionCreatedDate": time(schema.created_ms),
        "tags": schema.tags,
    });
    if let Some(description) = schema.description {
        view["Description"] = description.into();
    }
    Ok(view)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct OfArn {
    resource_arn: String,
}

fn list_tags(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: OfArn = read_input(input)?;
    let arn = input.resource_arn;
    if let Some((_, name)) = arn.split_once(":registry/") {
        return find_registry(cloud, name).map(|(_, _, tags)| json!({ "tags": tags }));
    }
    let schema = arn.split_once(":schema/").and_then(|(_, path)| path.split_once('/'));
    let (registry, name) = schema.ok_or_else(|| not_found(&arn))?;
    let newest = versions_of(cloud, registry, name)?.into_iter().next();
    Ok(json!({ "tags": newest.map(|schema| schema.tags) }))
}

const SCHEMA: &str = "/v1/registries/name/{RegistryName}/schemas/name/{SchemaName}";

/// The actions, with the members of AWS's API reference.
const ACTIONS: &[Action] = &[
    Action::new("DescribeRegistry", |cloud, input| describe_registry(cloud, input)).route(
        "GET",
        "/v1/registries/name/{RegistryName}",
        200,
    ),
    Action::new("DescribeSchema", |cloud, input| describe_schema(cloud, input)).route("GET", SCHEMA, 200),
    Action::new("ListRegistries", |cloud, input| list_registries(cloud, input)).route(
        "GET",
        "/v1/registries",
        200,
    ),
    Action::new("ListSchemas", |cloud, input| list_schemas(cloud, input)).route(
        "GET",
        "/v1/registries/name/{RegistryName}/schemas",
        200,
    ),
    Action::new("ListSchemaVersions", |cloud, input| list_versions(cloud, input)).route(
        "GET",
        "/v1/registries/name/{RegistryName}/schemas/name/{SchemaName}/versions",
        200,
    ),
    Action::new("ListTagsForResource", |cloud, input| list_tags(cloud, input)).route(
        "GET",
        "/tags/{ResourceArn}",
        200,
    ),
];

#[rustfmt::skip]
const TYPES: &[Type] = &[
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const SCHEMA: &str =
        r#"{"openapi":"3.0.0","info":{"title":"t","version":"1"},"paths":{},"components":{"schemas":{}}}"#;

    fn resource(kind: &str, properties: Value) -> Resource {
        Resource {
            stack: "s".into(),
            logical_id: "It".into(),
            kind: format!("AWS::EventSchemas::{kind}"),
            physical_id: "arn:aws:schemas:us-east-1:123456789012:it/it".into(),
            arn: String::new(),
            properties,
            metadata: Value::Null,
            file: "template.yaml".into(),
        }
    }

    async fn registry(cloud: &Arc<Cloud>) {
        let tags = json!([{ "Key": "Owner", "Value": "me" }]);
        let props = json!({ "RegistryName": "unicorn", "Description": "ours", "Tags": tags });
        cloud.deploy(&resource("Registry", props)).await.unwrap();
    }

    async fn schema(cloud: &Arc<Cloud>, name: &str, content: &str) -> Result<(), Refusal> {
        let props =
            json!({ "RegistryName": "unicorn", "SchemaName": name, "Type": "OpenApi3", "Content": content });
        cloud.deploy(&resource("Schema", props)).await
    }

    #[tokio::test]
    async fn registries_and_schemas_are_listed_and_described() {
        let cloud = crate::testing::cloud();
        registry(&cloud).await;
        for name in ["unicorn@B", "unicorn@A", "other@C"] {
            schema(&cloud, name, SCHEMA).await.unwrap();
        }
        let registries = cloud.call("schemas", "ListRegistries", json!({ "Scope": "LOCAL" })).await.unwrap();
        assert_eq!(registries["Registries"][0]["RegistryName"], "unicorn");
        let described =
            cloud.call("schemas", "DescribeRegistry", json!({ "RegistryName": "unicorn" })).await.unwrap();
        assert_eq!(described["tags"], json!({ "Owner": "me" }));
        assert_eq!(described["Description"], "ours");
        let list = json!({ "RegistryName": "unicorn", "SchemaNamePrefix": "unicorn@", "Limit": 1 });
        let first = cloud.call("schemas", "ListSchemas", list.clone()).await.unwrap();
        assert_eq!(first["Schemas"][0]["SchemaName"], "unicorn@A");
        let mut second = list;
        second["NextToken"] = first["NextToken"].clone();
        let second = cloud.call("schemas", "ListSchemas", second).await.unwrap();
        assert_eq!(second["Schemas"][0]["SchemaName"], "unicorn@B");
        assert!(second.get("NextToken").is_none());
        let one = json!({ "RegistryName": "unicorn", "SchemaName": "unicorn@A" });
        let one = cloud.call("schemas", "DescribeSchema", one).await.unwrap();
        assert_eq!((&one["Content"], &one["SchemaVersion"]), (&json!(SCHEMA), &json!("1")));
        assert_eq!(one["SchemaArn"], "arn:aws:schemas:us-east-1:123456789012:schema/unicorn/unicorn@A");
    }

    #[tokio::test]
    async fn a_changed_content_is_a_new_version_and_the_old_one_stays() {
        let cloud = crate::testing::cloud();
        registry(&cloud).await;
        schema(&cloud, "s", SCHEMA).await.unwrap();
        schema(&cloud, "s", SCHEMA).await.unwrap();
        let changed = SCHEMA.replace("\"t\"", "\"u\"");
        schema(&cloud, "s", &changed).await.unwrap();
        let input = json!({ "RegistryName": "unicorn", "SchemaName": "s" });
        let newest = cloud.call("schemas", "DescribeSchema", input.clone()).await.unwrap();
        assert_eq!((&newest["SchemaVersion"], &newest["Content"]), (&json!("2"), &json!(changed)));
        let versions = cloud.call("schemas", "ListSchemaVersions", input.clone()).await.unwrap();
        assert_eq!(versions["SchemaVersions"].as_array().unwrap().len(), 2);
        assert_eq!(newest["LastModified"], newest["VersionCreatedDate"]);
        let mut old = input;
        old["SchemaVersion"] = "1".into();
        assert_eq!(cloud.call("schemas", "DescribeSchema", old).await.unwrap()["Content"], SCHEMA);
    }

    #[tokio::test]
    async fn content_that_is_not_openapi_3_is_refused() {
        let cloud = crate::testing::cloud();
        let without_registry = schema(&cloud, "s", SCHEMA).await.unwrap_err().to_string();
        assert!(without_registry.contains("RegistryName"), "{without_registry}");
        registry(&cloud).await;
        for bad in ["{", "{}", r#"{"openapi":"2.0"}"#, r#"{"openapi":"3.0.0","info":{}}"#] {
            let refusal = schema(&cloud, "s", bad).await.unwrap_err().to_string();
            assert!(refusal.contains("It.Properties.Content"), "{refusal}");
        }
        let kind = json!({ "RegistryName": "unicorn", "SchemaName": "s", "Type": "Avro", "Content": SCHEMA });
        let refusal = cloud.deploy(&resource("Schema", kind)).await.unwrap_err().to_string();
        assert!(refusal.contains("Avro"), "{refusal}");
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_found_and_search_is_not_emulated() {
        let cloud = crate::testing::cloud();
        registry(&cloud).await;
        let missing = json!({ "RegistryName": "unicorn", "SchemaName": "none" });
        let error = cloud.call("schemas", "DescribeSchema", missing).await.unwrap_err();
        assert_eq!((error.code.as_str(), error.status), ("NotFoundException", 404));
        let error =
            cloud.call("schemas", "ListSchemas", json!({ "RegistryName": "none" })).await.unwrap_err();
        assert_eq!(error.code, "NotFoundException");
        let error = cloud.call("schemas", "SearchSchemas", json!({})).await.unwrap_err();
        assert_eq!(error.code, "NotImplemented");
    }

    #[tokio::test]
    async fn names_of_registries_follow_their_rules() {
        let cloud = crate::testing::cloud();
        let longest = "a".repeat(64);
        for (name, valid) in [
            (longest.as_str(), true),
            ("unicorn_1.x-y", true),
            (&*"a".repeat(65), false),
            ("aws.events", false),
            ("a b", false),
        ] {
            let deployed = cloud.deploy(&resource("Registry", json!({ "RegistryName": name }))).await;
            assert_eq!(deployed.is_ok(), valid, "{name}");
        }
    }
}
