//! Writing a parameter, through the API and from a template, within the limits of `PutParameter`.
//! <https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html>

use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde_json::Value;

use super::store::{self, Parameter};

/// The input of `PutParameter`; `AWS::SSM::Parameter` has the same properties.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct PutParameter {
    pub name: Option<String>,
    pub value: String,
    #[serde(rename = "Type")]
    pub kind: Option<String>,
    pub description: Option<String>,
    tier: Option<String>,
    #[serde(default)]
    pub overwrite: bool,
    data_type: Option<String>,
    /// Without effect in a template.
    pub tags: Option<Value>,
}

pub(super) fn invalid(sentence: impl Into<String>) -> AwsError {
    AwsError::client("ValidationException", sentence)
}

/// Writes the first version of a parameter, or the one after `existing`.
pub(super) fn write(
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
    store::put(cloud, &parameter)?;
    Ok(parameter)
}

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
    let max = match parameter.tier.as_str() {
        "Standard" => 4096,
        "Advanced" | "Intelligent-Tiering" => 8192,
        other => return Err(invalid(format!("The tier {other} is not supported."))),
    };
    if parameter.value.is_empty() || parameter.value.chars().count() > max {
        return Err(invalid(format!("The value of {name} must have from 1 to {max} characters.")));
    }
    Ok(())
}
