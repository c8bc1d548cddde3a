//! SSM parameters of the types String and StringList, with their last hundred versions.
//! Secrets (`SecureString`) are refused, since nothing here encrypts; labels, filters and
//! policies are not emulated.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Action, Deploy, Identity, JSON_1_1, Named, Protocol, Service, Type};
use cloud_core::{AwsError, Cloud, later};
use rusqlite::{OptionalExtension, Row, params};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The service.
pub static SERVICE: Service = Service {
    protocols: &[Protocol::Json {
        content_type: JSON_1_1,
        targets: &["AmazonSSM"],
        error_prefix: "",
        forward: None,
    }],
    open: |opening| opening.store.migrate(TABLES),
    actions: ACTIONS,
    types: TYPES,
    ..Service::new("ssm")
};

const TABLES: &str = "CREATE TABLE IF NOT EXISTS ssm_parameters (
                 name TEXT PRIMARY KEY,
                 type TEXT NOT NULL,
                 value TEXT NOT NULL,
                 description TEXT,
                 tier TEXT NOT NULL,
                 version INTEGER NOT NULL,
                 modified_ms INTEGER NOT NULL
             );
             -- Earlier versions; the columns are those of the newest.
             CREATE TABLE IF NOT EXISTS ssm_history (
                 name TEXT NOT NULL,
                 type TEXT NOT NULL,
                 value TEXT NOT NULL,
                 description TEXT,
                 tier TEXT NOT NULL,
                 version INTEGER NOT NULL,
                 modified_ms INTEGER NOT NULL,
                 PRIMARY KEY (name, version)
             );
             CREATE TABLE IF NOT EXISTS ssm_tags (name TEXT PRIMARY KEY, tags TEXT NOT NULL);";

#[derive(Debug, Clone, PartialEq)]
struct Parameter {
    name: String,
    kind: String,
    value: String,
    description: Option<String>,
    tier: String,
    version: i64,
    modified_ms: i64,
}

impl Parameter {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            name: row.get("name")?,
            kind: row.get("type")?,
            value: row.get("value")?,
            description: row.get("description")?,
            tier: row.get("tier")?,
            version: row.get("version")?,
            modified_ms: row.get("modified_ms")?,
        })
    }

    fn arn(&self, cloud: &Cloud) -> String {
        let slash = if self.name.starts_with('/') { "" } else { "/" };
        cloud.arn("ssm", &format!("parameter{slash}{}", self.name))
    }

    fn answer(&self, cloud: &Cloud) -> Value {
        json!({
            "ARN": self.arn(cloud),
            "DataType": "text",
            "LastModifiedDate": self.modified_ms as f64 / 1000.0,
            "Name": self.name,
            "Type": self.kind,
            "Value": self.value,
            "Version": self.version,
        })
    }

    /// What is known about it, without its value.
    fn metadata(&self, cloud: &Cloud) -> Value {
        let mut metadata = self.answer(cloud);
        if let Some(members) = metadata.as_object_mut() {
            members.remove("Value");
            members.insert("Tier".into(), self.tier.clone().into());
            members.extend(self.description.clone().map(|text| ("Description".to_string(), text.into())));
        }
        metadata
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct GetParameter {
    name: String,
    // No effect: there are no secrets.
    #[serde(rename = "WithDecryption")]
    _with_decryption: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct GetParameters {
    names: Vec<String>,
    #[serde(rename = "WithDecryption")]
    _with_decryption: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct GetParametersByPath {
    path: String,
    #[serde(default)]
    recursive: bool,
    max_results: Option<usize>,
    next_token: Option<String>,
    #[serde(rename = "WithDecryption")]
    _with_decryption: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DescribeParameters {
    max_results: Option<usize>,
    next_token: Option<String>,
}

/// `PutParameter`, and the properties of `AWS::SSM::Parameter`, which are the same.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct PutParameter {
    name: Option<String>,
    value: String,
    #[serde(rename = "Type")]
    kind: Option<String>,
    description: Option<String>,
    tier: Option<String>,
    #[serde(default)]
    overwrite: bool,
    data_type: Option<String>,
    /// A list of keys and values; a map in a template.
    tags: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DeleteParameter {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DeleteParameters {
    names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ListTags {
    resource_type: String,
    resource_id: String,
}

fn read<T: DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    serde_json::from_value(input).map_err(|error| invalid(error.to_string()))
}

fn invalid(sentence: impl Into<String>) -> AwsError {
    AwsError::client("ValidationException", sentence)
}

fn not_found(name: &str) -> AwsError {
    AwsError::client("ParameterNotFound", format!("Parameter {name} not found."))
}

/// Whether a parameter was there; its versions and tags go with it.
fn delete(cloud: &Cloud, name: &str) -> Result<bool, AwsError> {
    Ok(cloud.store.write(|tx| {
        tx.execute("DELETE FROM ssm_history WHERE name = ?1", [name])?;
        tx.execute("DELETE FROM ssm_tags WHERE name = ?1", [name])?;
        Ok(tx.execute("DELETE FROM ssm_parameters WHERE name = ?1", [name])? == 1)
    })?)
}

fn list_tags(cloud: &Cloud, wanted: &ListTags) -> Result<Value, AwsError> {
    let invalid = |code: &str, what: &str| AwsError::client(code, format!("The {what} is not valid."));
    if wanted.resource_type != "Parameter" {
        return Err(invalid("InvalidResourceType", "resource type"));
    }
    let found = find(cloud, &wanted.resource_id)?;
    let found = found.ok_or_else(|| invalid("InvalidResourceId", "resource ID"))?;
    let tags: Option<String> = cloud.store.read(|connection| {
        connection
            .query_row("SELECT tags FROM ssm_tags WHERE name = ?1", [&found.name], |row| row.get(0))
            .optional()
    })?;
    let tags: Value = tags.and_then(|tags| serde_json::from_str(&tags).ok()).unwrap_or_else(|| json!([]));
    Ok(json!({"TagList": tags}))
}

/// Tags as the API lists them; `None` where they are neither a list nor a map of texts.
fn tag_list(tags: &Value) -> Option<Value> {
    match tags {
        Value::Object(map) => {
            let tag = |(key, value): (&String, &Value)| Some(json!({"Key": key, "Value": value.as_str()?}));
            map.iter().map(tag).collect()
        }
        Value::Array(items) => {
            let tag =
                |tag: &Value| Some(json!({"Key": tag["Key"].as_str()?, "Value": tag["Value"].as_str()?}));
            items.iter().map(tag).collect()
        }
        _ => None,
    }
}

/// Splits what a client asks for into name and selector (a version or a label); true for an ARN.
fn split(given: &str) -> (bool, &str, Option<&str>) {
    let (arn, name) = match given.strip_prefix("arn:").and_then(|_| given.split_once(":parameter")) {
        Some((_, name)) => (true, name),
        None => (false, given),
    };
    match name.split_once(':') {
        Some((name, selector)) => (arn, name, Some(selector)),
        None => (arn, name, None),
    }
}

/// A parameter as `GetParameter` answers, with the selector by which it was asked for.
fn selected(cloud: &Cloud, parameter: &Parameter, given: &str) -> Value {
    let mut answer = parameter.answer(cloud);
    if let (_, _, Some(selector)) = split(given) {
        answer["Selector"] = format!(":{selector}").into();
    }
    answer
}

/// Finds a parameter by its name, its ARN, or either with `:version` behind.
/// <https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html>
fn find(cloud: &Cloud, given: &str) -> Result<Option<Parameter>, AwsError> {
    let (arn, name, version) = split(given);
    // The ARN of `stage` and that of `/stage` are the same.
    let other = if arn { name.trim_start_matches('/') } else { name };
    let found = cloud.store.read(|connection| {
        connection
            .prepare_cached("SELECT * FROM ssm_parameters WHERE name IN (?1, ?2)")?
            .query_row(params![name, other], Parameter::from_row)
            .optional()
    })?;
    match (found, version) {
        (Some(found), Some(version)) if found.version.to_string() != version => {
            let earlier = cloud.store.read(|connection| {
                connection
                    .prepare_cached("SELECT * FROM ssm_history WHERE name = ?1 AND version = ?2")?
                    .query_row(params![found.name, version.parse::<i64>().ok()], Parameter::from_row)
                    .optional()
            })?;
            let missing = || {
                let sentence = format!(
                    "Systems Manager could not find version {version} of {name}. Verify the version and try again."
                );
                AwsError::client("ParameterVersionNotFound", sentence)
            };
            earlier.map(Some).ok_or_else(missing)
        }
        (found, _) => Ok(found),
    }
}

fn check_names(names: &[String]) -> Result<(), AwsError> {
    if (1..=10).contains(&names.len()) {
        return Ok(());
    }
    Err(invalid(
        "1 validation error detected: Value at 'names' failed to satisfy constraint: Member must have \
         length less than or equal to 10 and greater than or equal to 1",
    ))
}

fn get_parameters(cloud: &Cloud, wanted: &GetParameters) -> Result<Value, AwsError> {
    check_names(&wanted.names)?;
    let mut found = Vec::new();
    let mut unknown = Vec::new();
    for name in &wanted.names {
        match find(cloud, name) {
            Ok(Some(parameter)) => found.push(selected(cloud, &parameter, name)),
            Ok(None) => unknown.push(name),
            Err(error) if error.code == "ParameterVersionNotFound" => unknown.push(name),
            Err(error) => return Err(error),
        }
    }
    Ok(json!({"Parameters": found, "InvalidParameters": unknown}))
}

fn get_by_path(cloud: &Cloud, wanted: &GetParametersByPath) -> Result<Value, AwsError> {
    if !wanted.path.starts_with('/') {
        return Err(invalid("The parameter path must begin with a forward slash (/)."));
    }
    let folder = format!("{}/", wanted.path.trim_end_matches('/'));
    let below = |parameter: &Parameter| {
        let rest = parameter.name.strip_prefix(&folder);
        rest.is_some_and(|rest| wanted.recursive || !rest.contains('/'))
    };
    let (page, next) =
        page(cloud, below, wanted.max_results.unwrap_or(10), 10, wanted.next_token.as_deref())?;
    let parameters: Vec<Value> = page.iter().map(|parameter| parameter.answer(cloud)).collect();
    Ok(with_token(json!({"Parameters": parameters}), next))
}

fn describe(cloud: &Cloud, wanted: &DescribeParameters) -> Result<Value, AwsError> {
    let (page, next) =
        page(cloud, |_| true, wanted.max_results.unwrap_or(50), 50, wanted.next_token.as_deref())?;
    let parameters: Vec<Value> = page.iter().map(|parameter| parameter.metadata(cloud)).collect();
    Ok(with_token(json!({"Parameters": parameters}), next))
}

fn with_token(mut answer: Value, next: Option<String>) -> Value {
    if let Some(next) = next {
        answer["NextToken"] = next.into();
    }
    answer
}

/// The parameters behind the one that the token names, `size` at most, in order of their names.
fn page(
    cloud: &Cloud,
    wanted: impl Fn(&Parameter) -> bool,
    size: usize,
    largest: usize,
    token: Option<&str>,
) -> Result<(Vec<Parameter>, Option<String>), AwsError> {
    if !(1..=largest).contains(&size) {
        return Err(invalid(format!("MaxResults must be from 1 to {largest}.")));
    }
    let after = match token {
        None => String::new(),
        Some(token) => {
            let name = STANDARD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            name.ok_or_else(|| AwsError::client("InvalidNextToken", "The specified token is not valid."))?
        }
    };
    let mut found = cloud.store.read(|connection| {
        let mut statement =
            connection.prepare_cached("SELECT * FROM ssm_parameters WHERE name > ?1 ORDER BY name")?;
        let found = statement.query_map([&after], Parameter::from_row)?;
        found
            .filter(|found| found.as_ref().map_or(true, &wanted))
            .take(size + 1)
            .collect::<Result<Vec<_>, _>>()
    })?;
    let more = found.len() > size;
    found.truncate(size);
    let next = found.last().filter(|_| more).map(|last| STANDARD.encode(&last.name));
    Ok((found, next))
}

/// "Parameter Store retains the 100 most recently created versions of a parameter."
/// <https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-versions.html>
const VERSIONS: i64 = 100;

fn put_parameter(cloud: &Cloud, wanted: PutParameter) -> Result<Value, AwsError> {
    let Some(name) = wanted.name.clone() else { return Err(invalid("Name is required.")) };
    if wanted.overwrite && wanted.tags.is_some() {
        return Err(invalid(
            "Invalid request: tags and overwrite can't be used together. To create a parameter with tags, \
             please remove overwrite flag. To update tags for an existing parameter, please use \
             AddTagsToResource or RemoveTagsFromResource.",
        ));
    }
    // A selector is no part of a name.
    let existing = if name.contains(':') { None } else { find(cloud, &name)? };
    if existing.is_some() && !wanted.overwrite {
        return Err(AwsError::client(
            "ParameterAlreadyExists",
            "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.",
        ));
    }
    let stored = write(cloud, &name, wanted, existing)?;
    Ok(json!({"Version": stored.version, "Tier": stored.tier}))
}

fn write(
    cloud: &Cloud,
    name: &str,
    wanted: PutParameter,
    existing: Option<Parameter>,
) -> Result<Parameter, AwsError> {
    let kind = wanted.kind.or_else(|| existing.as_ref().map(|existing| existing.kind.clone()));
    let parameter = Parameter {
        name: name.into(),
        kind: kind.ok_or_else(|| invalid("A parameter type is required when you create a parameter."))?,
        value: wanted.value,
        description: wanted.description,
        tier: wanted.tier.unwrap_or_else(|| "Standard".into()),
        version: existing.map_or(1, |existing| existing.version + 1),
        modified_ms: cloud.clock.now_ms(),
    };
    check(&parameter, wanted.data_type.as_deref())?;
    let tags = match &wanted.tags {
        Some(tags) => Some(tag_list(tags).ok_or_else(|| invalid("Tags have keys and values."))?.to_string()),
        None => None,
    };
    cloud.store.write(|tx| {
        if let Some(tags) = tags {
            tx.execute("INSERT OR REPLACE INTO ssm_tags VALUES (?1, ?2)", params![parameter.name, tags])?;
        }
        tx.execute(
            "INSERT OR REPLACE INTO ssm_history SELECT name, type, value, description, tier, version, modified_ms
             FROM ssm_parameters WHERE name = ?1",
            [&parameter.name],
        )?;
        tx.execute(
            "DELETE FROM ssm_history WHERE name = ?1 AND version <= ?2",
            params![parameter.name, parameter.version - VERSIONS],
        )?;
        tx.execute(
            "INSERT OR REPLACE INTO ssm_parameters
             (name, type, value, description, tier, version, modified_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                parameter.name,
                parameter.kind,
                parameter.value,
                parameter.description,
                parameter.tier,
                parameter.version,
                parameter.modified_ms
            ],
        )
    })?;
    Ok(parameter)
}

/// <https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html>
fn check(parameter: &Parameter, data_type: Option<&str>) -> Result<(), AwsError> {
    let name = &parameter.name;
    let letters = |letter: char| letter.is_ascii_alphanumeric() || "_.-/".contains(letter);
    if name.is_empty() || !name.chars().all(letters) || name.ends_with('/') || name.contains("//") {
        return Err(invalid(format!(
            "Parameter name: can't be {name}; only letters, numbers and the symbols .-_/ are allowed."
        )));
    }
    let plain = name.trim_start_matches('/').to_ascii_lowercase();
    if plain.starts_with("aws") || plain.starts_with("ssm") {
        return Err(invalid("Parameter name: can't be prefixed with \"aws\" or \"ssm\" (case-insensitive)."));
    }
    if name.split('/').filter(|level| !level.is_empty()).count() > 15 {
        return Err(AwsError::client(
            "HierarchyLevelLimitExceededException",
            "A hierarchy can have a maximum of 15 levels.",
        ));
    }
    match parameter.kind.as_str() {
        "String" | "StringList" => {}
        "SecureString" => return Err(AwsError::not_emulated("ssm", "PutParameter of type SecureString")),
        other => {
            let sentence = format!("The parameter type {other} is not supported.");
            return Err(AwsError::client("UnsupportedParameterType", sentence));
        }
    }
    if data_type.is_some_and(|data_type| data_type != "text") {
        return Err(AwsError::not_emulated("ssm", "PutParameter with a DataType other than text"));
    }
    let longest = match parameter.tier.as_str() {
        "Standard" => 4096,
        "Advanced" | "Intelligent-Tiering" => 8192,
        other => return Err(invalid(format!("The tier {other} is not supported."))),
    };
    if parameter.value.is_empty() || parameter.value.chars().count() > longest {
        return Err(invalid(format!("The value of {name} must have from 1 to {longest} characters.")));
    }
    Ok(())
}

/// Deploys one parameter. One that exists with the same value keeps its version.
///
/// # Errors
/// Names what is not emulated.
fn deploy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    if resource.kind != "AWS::SSM::Parameter" {
        return Err(resource.refuse("Type", format!("{} is not emulated", resource.kind)));
    }
    let wanted: PutParameter = resource.read()?;
    let refuse = |error: AwsError| resource.refuse("Properties", error.to_string());
    if wanted.kind.is_none() {
        return Err(resource.refuse("Properties.Type", "Type is required"));
    }
    let existing = find(cloud, &resource.physical_id).map_err(refuse)?;
    let same = existing.as_ref().is_some_and(|existing| {
        existing.value == wanted.value
            && Some(&existing.kind) == wanted.kind.as_ref()
            && existing.description == wanted.description
    });
    if !same {
        write(cloud, &resource.physical_id, wanted, existing).map_err(refuse)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

/// The actions, with the members of AWS's API reference.
const ACTIONS: &[Action] = &[
    Action::new("GetParameter", |cloud, input| {
        let GetParameter { name, .. } = read(input)?;
        let parameter = find(cloud, &name)?.ok_or_else(|| not_found(&name))?;
        Ok(json!({"Parameter": selected(cloud, &parameter, &name)}))
    }),
    Action::new("GetParameters", |cloud, input| get_parameters(cloud, &read(input)?)),
    Action::new("GetParametersByPath", |cloud, input| get_by_path(cloud, &read(input)?)),
    Action::new("DescribeParameters", |cloud, input| describe(cloud, &read(input)?)),
    Action::new("PutParameter", |cloud, input| put_parameter(cloud, read(input)?)),
    Action::new("DeleteParameter", |cloud, input| {
        let DeleteParameter { name } = read(input)?;
        if delete(cloud, &name)? { Ok(json!({})) } else { Err(not_found(&name)) }
    }),
    Action::new("DeleteParameters", |cloud, input| {
        let DeleteParameters { names } = read(input)?;
        check_names(&names)?;
        let (mut deleted, mut invalid) = (Vec::new(), Vec::new());
        for name in names {
            if delete(cloud, &name)? { &mut deleted } else { &mut invalid }.push(name);
        }
        Ok(json!({"DeletedParameters": deleted, "InvalidParameters": invalid}))
    }),
    Action::new("ListTagsForResource", |cloud, input| list_tags(cloud, &read(input)?)),
];

const TYPES: &[Type] = &[Type::new(
    "AWS::SSM::Parameter",
    "plain parameters and their versions; no secrets",
    Identity::named("Name", 1011).arn("arn:aws:ssm:{region}:{account}:parameter/{bare}").attributes(&[
        Identity::ARN,
        ("Type", "{:Type}"),
        ("Value", "{:Value}"),
    ]),
    Deploy::Now(deploy),
)
.remove(later!(remove))];

async fn remove(cloud: &Arc<Cloud>, parameter: &Named) -> Result<bool, AwsError> {
    let name = parameter.id.split_once(":parameter").map_or(parameter.id.as_str(), |(_, name)| name);
    delete(cloud, name)
}
