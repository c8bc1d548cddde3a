//! The API actions of parameters.

use cloud_core::api::{self, check_number, key_of, with_token};
use cloud_core::service::Action;
use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::put::{PutParameter, invalid, write};
use super::store::{self, Parameter, delete, find, split};

pub(super) const ACTIONS: &[Action] = &[
    Action::new("DeleteParameter", |cloud, input| {
        let DeleteParameter { name } = read(input)?;
        if delete(cloud, &name)? { Ok(json!({})) } else { Err(not_found(&name)) }
    }),
    Action::new("DeleteParameters", |cloud, input| delete_parameters(cloud, read(input)?)),
    Action::new("DescribeParameters", |cloud, input| describe(cloud, &read(input)?)),
    Action::new("GetParameter", |cloud, input| {
        let GetParameter { name, .. } = read(input)?;
        let parameter = find(cloud, &name)?.ok_or_else(|| not_found(&name))?;
        Ok(json!({"Parameter": selected(cloud, &parameter, &name)}))
    }),
    Action::new("GetParameters", |cloud, input| get_parameters(cloud, &read(input)?)),
    Action::new("GetParametersByPath", |cloud, input| get_by_path(cloud, &read(input)?)),
    Action::new("PutParameter", |cloud, input| put_parameter(cloud, read(input)?)),
];

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
    max_results: Option<i64>,
    next_token: Option<String>,
    #[serde(rename = "WithDecryption")]
    _with_decryption: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DescribeParameters {
    max_results: Option<i64>,
    next_token: Option<String>,
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

fn read<T: DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    api::read(input, "ValidationException")
}

fn not_found(name: &str) -> AwsError {
    AwsError::client("ParameterNotFound", format!("Parameter {name} not found."))
}

fn answer(cloud: &Cloud, parameter: &Parameter) -> Value {
    let slash = if parameter.name.starts_with('/') { "" } else { "/" };
    json!({
        "ARN": cloud.arn("ssm", &format!("parameter{slash}{}", parameter.name)),
        "DataType": "text",
        "LastModifiedDate": parameter.modified_ms as f64 / 1000.0,
        "Name": parameter.name,
        "Type": parameter.kind,
        "Value": parameter.value,
        "Version": parameter.version,
    })
}

/// The answer of `GetParameter`, with the selector in `given`.
fn selected(cloud: &Cloud, parameter: &Parameter, given: &str) -> Value {
    let mut answer = answer(cloud, parameter);
    if let (_, _, Some(selector)) = split(given) {
        answer["Selector"] = format!(":{selector}").into();
    }
    answer
}

fn check_names(names: &[String]) -> Result<(), AwsError> {
    if (1..=10).contains(&names.len()) {
        return Ok(());
    }
    let constraint = "Member must have length less than or equal to 10 and greater than or equal to 1";
    Err(invalid(api::violation_of("Value at 'names'", constraint)))
}

fn get_parameters(cloud: &Cloud, wanted: &GetParameters) -> Result<Value, AwsError> {
    check_names(&wanted.names)?;
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
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

fn delete_parameters(cloud: &Cloud, wanted: DeleteParameters) -> Result<Value, AwsError> {
    check_names(&wanted.names)?;
    let (mut deleted, mut unknown) = (Vec::new(), Vec::new());
    for name in wanted.names {
        if delete(cloud, &name)? { &mut deleted } else { &mut unknown }.push(name);
    }
    Ok(json!({"DeletedParameters": deleted, "InvalidParameters": unknown}))
}

fn get_by_path(cloud: &Cloud, wanted: &GetParametersByPath) -> Result<Value, AwsError> {
    if !wanted.path.starts_with('/') {
        return Err(invalid("The parameter path must begin with a forward slash (/)."));
    }
    let folder = format!("{}/", wanted.path.trim_end_matches('/'));
    let mut found = store::all(cloud)?;
    found.retain(|parameter| {
        let rest = parameter.name.strip_prefix(&folder);
        rest.is_some_and(|rest| wanted.recursive || !rest.contains('/'))
    });
    let found = found.iter().map(|parameter| (parameter.name.clone(), answer(cloud, parameter)));
    page(found.collect(), wanted.max_results, 10, wanted.next_token.as_deref())
}

/// `DescribeParameters`: everything but the values.
fn describe(cloud: &Cloud, wanted: &DescribeParameters) -> Result<Value, AwsError> {
    let found = store::all(cloud)?.into_iter().map(|parameter| {
        let mut metadata = answer(cloud, &parameter);
        if let Some(members) = metadata.as_object_mut() {
            members.remove("Value");
            members.insert("Tier".into(), parameter.tier.into());
            members.extend(parameter.description.map(|text| ("Description".to_string(), text.into())));
        }
        (parameter.name, metadata)
    });
    page(found.collect(), wanted.max_results, 50, wanted.next_token.as_deref())
}

fn page(
    items: Vec<(String, Value)>,
    size: Option<i64>,
    max: i64,
    token: Option<&str>,
) -> Result<Value, AwsError> {
    let size = size.unwrap_or(max);
    check_number("maxResults", size, 1..=max).map_err(invalid)?;
    let after = token
        .map(|token| {
            let bad = || AwsError::client("InvalidNextToken", "The specified token is not valid.");
            key_of(token).ok_or_else(bad)
        })
        .transpose()?;
    let (items, next) = api::page(items, after.as_deref(), size as usize);
    Ok(with_token(json!({"Parameters": items}), "NextToken", next))
}

fn put_parameter(cloud: &Cloud, wanted: PutParameter) -> Result<Value, AwsError> {
    let Some(name) = wanted.name.clone() else { return Err(api::missing("name")) };
    if wanted.tags.is_some() {
        return Err(AwsError::not_emulated("ssm", "PutParameter with Tags"));
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
