//! The summary of a template: its parameters, its types, and the capabilities that it needs.
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_GetTemplateSummary.html>

use std::collections::BTreeSet;

use cloud_core::AwsError;
use cloud_languages::template::{Application, Stack};
use serde_json::{Value, json};

/// Drops the members that are null.
pub(super) fn compact(mut value: Value) -> Value {
    if let Some(members) = value.as_object_mut() {
        members.retain(|_, member| !member.is_null());
    }
    value
}

/// `GetTemplateSummary` of a stack's template, as it is written.
pub(super) fn summary(stack: &Stack) -> Result<Value, AwsError> {
    let template = stack.template().map_err(AwsError::internal)?;
    let members = |section: &str| template[section].as_object().into_iter().flatten();
    let parameters: Vec<Value> = members("Parameters")
        .map(|(key, parameter)| {
            let hidden = parameter.get("NoEcho").is_some_and(|no_echo| text(no_echo) == "true");
            let default = parameter.get("Default").filter(|_| !hidden);
            let allowed = parameter["AllowedValues"].as_array();
            let allowed: Vec<String> = allowed.into_iter().flatten().map(text).collect();
            compact(json!({
                "ParameterKey": key,
                "DefaultValue": default.map(text),
                "ParameterType": parameter["Type"],
                "NoEcho": hidden,
                "Description": parameter.get("Description"),
                "ParameterConstraints": { "AllowedValues": allowed },
            }))
        })
        .collect();
    let types: BTreeSet<&str> =
        members("Resources").filter_map(|(_, resource)| resource["Type"].as_str()).collect();
    let transforms = match &template["Transform"] {
        Value::Null => json!([]),
        Value::Array(names) => json!(names),
        name => json!([name]),
    };
    let mut summary = compact(json!({
        "Parameters": parameters,
        "Description": template.get("Description"),
        "ResourceTypes": types,
        "Version": template.get("AWSTemplateFormatVersion"),
        "Metadata": template.get("Metadata").map(Value::to_string),
        "DeclaredTransforms": transforms,
    }));
    let needed = needed(stack);
    if !needed.is_empty() {
        let why = stack.resources.iter().map(|resource| resource.kind.as_str());
        let why: BTreeSet<&str> = why.filter(|kind| kind.starts_with("AWS::IAM::")).collect();
        let why = why.into_iter().collect::<Vec<_>>().join(", ");
        summary["CapabilitiesReason"] =
            json!(format!("The following resource(s) require capabilities: [{why}]"));
        summary["Capabilities"] = json!(needed);
    }
    Ok(summary)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The capabilities that the identities of a stack need: a named one needs another than one without a name.
fn needed(stack: &Stack) -> BTreeSet<&'static str> {
    let identities = stack.resources.iter().filter(|resource| resource.kind.starts_with("AWS::IAM::"));
    identities
        .map(|resource| match resource.kind.as_str() {
            // Inline policies have no physical name of their own.
            "AWS::IAM::ManagedPolicy" | "AWS::IAM::Role" if stack_names(stack, &resource.logical_id) => {
                "CAPABILITY_NAMED_IAM"
            }
            _ => "CAPABILITY_IAM",
        })
        .collect()
}

/// Whether the template itself names a role or a managed policy.
fn stack_names(stack: &Stack, logical_id: &str) -> bool {
    let template = stack.template().unwrap_or_default();
    let properties = &template["Resources"][logical_id]["Properties"];
    ["ManagedPolicyName", "RoleName"].iter().any(|name| properties.get(name).is_some())
}

/// The capabilities that a deployment of the application needs: those of its stacks, and that of macros and
/// nested stacks. AWS shows them for every stack, nested or not.
pub(super) fn capabilities(application: &Application) -> BTreeSet<&'static str> {
    let mut capabilities: BTreeSet<&str> = application.stacks.iter().flat_map(needed).collect();
    let expands = |stack: &Stack| stack.template().is_ok_and(|template| template.get("Transform").is_some());
    if application.stacks.len() > 1 || application.stacks.iter().any(expands) {
        capabilities.insert("CAPABILITY_AUTO_EXPAND");
    }
    capabilities
}
