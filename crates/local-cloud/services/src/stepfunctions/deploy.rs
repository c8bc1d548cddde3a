//! State machines of templates.

use std::sync::Arc;

use cloud_core::api::{Tag, tag_object};
use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Deploy, Identity, Named, Type, counted, unless_missing};
use cloud_core::{AwsError, Cloud, later};
use cloud_languages::states::asl::Definition;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::machines::{self, Logging, Settings, Tracing};

pub(crate) const TYPES: &[Type] = &[Type::new(
    "AWS::StepFunctions::StateMachine",
    "Standard workflows in JSONata",
    Identity::named("StateMachineName", 80)
        .reference("{arn}")
        .arn("arn:aws:states:{region}:{account}:stateMachine:{name}")
        .attributes(&[Identity::ARN, ("Name", "{name}")]),
    Deploy::Now(deploy),
)
.holds(later!(running))
.remove(later!(remove))];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Properties {
    state_machine_name: Option<String>,
    state_machine_type: Option<String>,
    definition: Option<Value>,
    definition_string: Option<String>,
    #[serde(default)]
    definition_substitutions: Map<String, Value>,
    role_arn: Option<String>,
    logging_configuration: Option<Logging>,
    tracing_configuration: Option<Tracing>,
    #[serde(default)]
    tags: Vec<Tag>,
}

fn deploy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let properties: Properties = resource.read()?;
    if properties.state_machine_type.as_deref().is_some_and(|kind| kind != "STANDARD") {
        return Err(resource.refuse("Properties.StateMachineType", "only STANDARD is emulated"));
    }
    let refuse =
        |path: &str, reason: String| resource.refuse(&format!("Properties.Definition.{path}"), reason);
    let mut definition = match (properties.definition, properties.definition_string) {
        (Some(definition), None) => definition,
        (None, Some(text)) => {
            serde_json::from_str(&text).map_err(|error| refuse("", format!("it is not JSON: {error}")))?
        }
        _ => return Err(resource.refuse("Properties", "either Definition or DefinitionString is needed")),
    };
    substitute(&mut definition, &properties.definition_substitutions)
        .map_err(|name| refuse("", format!("${{{name}}} is not among the DefinitionSubstitutions")))?;
    Definition::parse(&definition).map_err(|fault| refuse(&fault.path, fault.reason))?;
    let arn = if resource.arn.is_empty() { &resource.physical_id } else { &resource.arn };
    let name = properties
        .state_machine_name
        .unwrap_or_else(|| arn.rsplit(':').next().unwrap_or(&resource.logical_id).to_owned());
    let settings = Settings::new(
        cloud,
        name,
        definition,
        properties.role_arn.unwrap_or_default(),
        properties.logging_configuration,
        properties.tracing_configuration,
    )
    .map_err(|reason| resource.refuse("Properties.LoggingConfiguration", reason))?;
    let tags = tag_object(properties.tags);
    let tags = tags.as_object().into_iter().flatten();
    let tags: Value = tags.map(|(key, value)| json!({"key": key, "value": value})).collect();
    machines::put(cloud, &settings, &tags).map_err(|error| resource.refuse("Properties", error.to_string()))
}

/// Replaces `${Name}` in every string, as CloudFormation does.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-stepfunctions-statemachine.html>
///
/// # Errors
/// A name without a substitution.
fn substitute(value: &mut Value, substitutions: &Map<String, Value>) -> Result<(), String> {
    match value {
        Value::String(text) => {
            for (name, replacement) in substitutions {
                let replacement = replacement.as_str().map_or_else(|| replacement.to_string(), str::to_owned);
                *text = text.replace(&format!("${{{name}}}"), &replacement);
            }
            let mut names = text.split("${").skip(1).filter_map(|rest| Some(rest.split_once('}')?.0));
            match names.find(|name| !name.is_empty() && name.chars().all(char::is_alphanumeric)) {
                Some(name) => Err(name.to_owned()),
                None => Ok(()),
            }
        }
        Value::Array(items) => items.iter_mut().try_for_each(|item| substitute(item, substitutions)),
        Value::Object(members) => {
            members.values_mut().try_for_each(|member| substitute(member, substitutions))
        }
        _ => Ok(()),
    }
}

async fn running(cloud: &Arc<Cloud>, machine: &Named) -> Result<Option<String>, AwsError> {
    let input = json!({"stateMachineArn": machine.id, "statusFilter": "RUNNING"});
    let found = unless_missing(cloud.call("states", "ListExecutions", input).await)?;
    Ok(counted(found["executions"].as_array().map_or(0, Vec::len) as u64, "running execution"))
}

async fn remove(cloud: &Arc<Cloud>, machine: &Named) -> Result<bool, AwsError> {
    cloud.call("states", "DeleteStateMachine", json!({"stateMachineArn": machine.id})).await?;
    Ok(true)
}
