//! The API actions of CloudFormation.

use std::sync::Arc;

use cloud_core::api::read;
use cloud_core::clock::rfc3339;
use cloud_core::random::stable_uuid;
use cloud_core::resource::Resource;
use cloud_core::service::Action;
use cloud_core::{AwsError, Cloud};
use cloud_languages::template::{Application, Stack};
use serde::Deserialize;
use serde_json::{Value, json};

use super::summary::{capabilities, compact, summary};
use super::{application, store};

macro_rules! action {
    ($name:literal, $answer:ident) => {
        Action::new($name, |cloud, input| View::of(cloud).$answer(&read(input, CODE)?))
    };
}

pub(super) const ACTIONS: &[Action] = &[
    action!("DescribeStackEvents", describe_stack_events),
    action!("DescribeStackResource", describe_stack_resource),
    action!("DescribeStackResources", describe_stack_resources),
    action!("DescribeStacks", describe_stacks),
    action!("GetTemplate", get_template),
    action!("GetTemplateSummary", get_template_summary),
    action!("ListStackResources", list_stack_resources),
    action!("ListStacks", list_stacks),
];

const CODE: &str = "ValidationError";

fn invalid<T>(message: impl Into<String>) -> Result<T, AwsError> {
    Err(AwsError::client(CODE, message))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct OfStack {
    stack_name: String,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DescribeStacks {
    stack_name: Option<String>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DescribeStackResource {
    stack_name: String,
    logical_resource_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DescribeStackResources {
    stack_name: Option<String>,
    logical_resource_id: Option<String>,
    physical_resource_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct GetTemplate {
    stack_name: String,
    /// `Original` or `Processed`, with the macros expanded.
    template_stage: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ListStacks {
    /// A list; a form has an empty text in place of an empty list.
    #[serde(default)]
    stack_status_filter: Value,
    next_token: Option<String>,
}

/// Every answer is one page, so no token was ever given out.
fn refuse_token(token: Option<&String>) -> Result<(), AwsError> {
    if token.is_some() { invalid("Invalid NextToken") } else { Ok(()) }
}

/// A stack that did not come up is not there at all.
const STATUS: &str = "CREATE_COMPLETE";

/// The stacks as one request sees them.
struct View<'a> {
    cloud: &'a Cloud,
    application: Arc<Application>,
}

impl<'a> View<'a> {
    fn of(cloud: &'a Cloud) -> Self {
        let none = || Arc::new(Application { stacks: Vec::new() });
        Self { cloud, application: application(cloud).unwrap_or_else(none) }
    }

    fn stack(&self, name: &str) -> Result<&Stack, AwsError> {
        let found = self.application.stack(name);
        found.map_or_else(|| invalid(format!("Stack with id {name} does not exist")), Ok)
    }

    fn created(&self, stack: &Stack) -> Result<String, AwsError> {
        Ok(rfc3339(store::created_ms(self.cloud, stack)?))
    }

    fn describe_stacks(&self, input: &DescribeStacks) -> Result<Value, AwsError> {
        refuse_token(input.next_token.as_ref())?;
        let stacks: Vec<Value> = match &input.stack_name {
            Some(name) => vec![self.described(self.stack(name)?)?],
            None => {
                self.application.stacks.iter().map(|stack| self.described(stack)).collect::<Result<_, _>>()?
            }
        };
        Ok(json!({ "Stacks": stacks }))
    }

    fn described(&self, stack: &Stack) -> Result<Value, AwsError> {
        let parameters: Vec<Value> = stack
            .parameters
            .iter()
            .map(|(key, value)| json!({ "ParameterKey": key, "ParameterValue": value }))
            .collect();
        let outputs: Vec<Value> = stack
            .outputs
            .iter()
            .map(|output| {
                compact(json!({
                    "OutputKey": output.key,
                    "OutputValue": output.value,
                    "Description": output.description,
                    "ExportName": output.export,
                }))
            })
            .collect();
        Ok(compact(json!({
            "StackId": stack.id,
            "StackName": stack.name,
            "Description": stack.description,
            "Parameters": parameters,
            "CreationTime": self.created(stack)?,
            "StackStatus": STATUS,
            "Capabilities": capabilities(&self.application),
            "NotificationARNs": [],
            "RollbackConfiguration": {},
            "DriftInformation": { "StackDriftStatus": "NOT_CHECKED" },
            "DisableRollback": false,
            "EnableTerminationProtection": false,
            "Outputs": outputs,
            "Tags": self.tags(stack),
            "ParentId": stack.parent,
            "RootId": stack.root,
        })))
    }

    /// A nested stack has the tags of the resource that nests it; the root has none here.
    fn tags(&self, stack: &Stack) -> Value {
        let resources = self.application.stacks.iter().flat_map(|stack| &stack.resources);
        let nesting = resources.into_iter().find(|resource| resource.physical_id == stack.id);
        nesting.and_then(|resource| resource.properties.get("Tags").cloned()).unwrap_or_else(|| json!([]))
    }

    fn describe_stack_resources(&self, input: &DescribeStackResources) -> Result<Value, AwsError> {
        let stack = match (&input.stack_name, &input.physical_resource_id) {
            (Some(_), Some(_)) => return invalid("StackName and PhysicalResourceId are mutually exclusive"),
            (Some(name), None) => self.stack(name)?,
            (None, Some(id)) => {
                let has = |stack: &&Stack| stack.resources.iter().any(|resource| resource.physical_id == *id);
                let found = self.application.stacks.iter().find(has);
                found.map_or_else(|| invalid(format!("Stack for {id} does not exist")), Ok)?
            }
            (None, None) => return invalid("Either StackName or PhysicalResourceId must be specified"),
        };
        let wanted = |resource: &&Resource| {
            input.logical_resource_id.as_ref().is_none_or(|id| resource.logical_id == *id)
        };
        let resources: Vec<Value> = stack
            .resources
            .iter()
            .filter(wanted)
            .map(|resource| self.resource(stack, resource, "Timestamp", true))
            .collect::<Result<_, _>>()?;
        Ok(json!({ "StackResources": resources }))
    }

    fn describe_stack_resource(&self, input: &DescribeStackResource) -> Result<Value, AwsError> {
        let (name, logical_id) = (&input.stack_name, &input.logical_resource_id);
        // This action's sentence differs.
        let stack = self.stack(name).or_else(|_| invalid(format!("Stack '{name}' does not exist")))?;
        let Some(resource) = stack.resources.iter().find(|resource| resource.logical_id == *logical_id)
        else {
            return invalid(format!("Resource {logical_id} does not exist for stack {}", stack.name));
        };
        let mut detail = self.resource(stack, resource, "LastUpdatedTimestamp", true)?;
        // The API gives the metadata as JSON text.
        detail["Metadata"] =
            json!(if resource.metadata.is_null() { "{}".into() } else { resource.metadata.to_string() });
        Ok(json!({ "StackResourceDetail": detail }))
    }

    fn list_stack_resources(&self, input: &OfStack) -> Result<Value, AwsError> {
        refuse_token(input.next_token.as_ref())?;
        let stack = self.stack(&input.stack_name)?;
        let summaries: Vec<Value> = stack
            .resources
            .iter()
            .map(|resource| self.resource(stack, resource, "LastUpdatedTimestamp", false))
            .collect::<Result<_, _>>()?;
        Ok(json!({ "StackResourceSummaries": summaries }))
    }

    fn resource(
        &self,
        stack: &Stack,
        resource: &Resource,
        time: &str,
        with_stack: bool,
    ) -> Result<Value, AwsError> {
        let mut shown = json!({
            "LogicalResourceId": resource.logical_id,
            "PhysicalResourceId": resource.physical_id,
            "ResourceType": resource.kind,
            "ResourceStatus": STATUS,
            "DriftInformation": { "StackResourceDriftStatus": "NOT_CHECKED" },
        });
        shown[time] = json!(self.created(stack)?);
        if with_stack {
            shown["StackName"] = json!(stack.name);
            shown["StackId"] = json!(stack.id);
        }
        Ok(shown)
    }

    /// The newest event comes first. All events have the same time; each resource comes after those that it
    /// depends on.
    fn describe_stack_events(&self, input: &OfStack) -> Result<Value, AwsError> {
        refuse_token(input.next_token.as_ref())?;
        let name = &input.stack_name;
        // This action's sentence differs, too.
        let stack = self.stack(name).or_else(|_| invalid(format!("Stack [{name}] does not exist")))?;
        let created = self.created(stack)?;
        let event = |resource: Option<&Resource>, status: &str| {
            let logical_id = resource.map_or(&stack.name, |resource| &resource.logical_id);
            let event_id = match resource {
                Some(_) => format!("{logical_id}-{status}-{created}"),
                None => stable_uuid(&format!("{} {status} {created}", stack.id)),
            };
            let started_here = resource.is_none() && status == "CREATE_IN_PROGRESS";
            compact(json!({
                "StackId": stack.id,
                "EventId": event_id,
                "StackName": stack.name,
                "LogicalResourceId": logical_id,
                "PhysicalResourceId": resource.map_or(&stack.id, |resource| &resource.physical_id),
                "ResourceType": resource.map_or("AWS::CloudFormation::Stack", |resource| &resource.kind),
                "Timestamp": created,
                "ResourceStatus": status,
                "ResourceStatusReason": started_here.then_some("User Initiated"),
                "ResourceProperties": resource.map(|resource| resource.properties.to_string()),
            }))
        };
        let mut events = vec![event(None, "CREATE_IN_PROGRESS")];
        for resource in &stack.resources {
            events.push(event(Some(resource), "CREATE_IN_PROGRESS"));
            events.push(event(Some(resource), STATUS));
        }
        events.push(event(None, STATUS));
        events.reverse();
        Ok(json!({ "StackEvents": events }))
    }

    fn get_template(&self, input: &GetTemplate) -> Result<Value, AwsError> {
        if input.template_stage.as_deref() == Some("Processed") {
            return invalid("TemplateStage Processed is not emulated by the local cloud.");
        }
        let stack = self.stack(&input.stack_name)?;
        Ok(json!({ "TemplateBody": stack.body, "StagesAvailable": ["Original"] }))
    }

    fn get_template_summary(&self, input: &OfStack) -> Result<Value, AwsError> {
        refuse_token(input.next_token.as_ref())?;
        summary(self.stack(&input.stack_name)?)
    }

    fn list_stacks(&self, input: &ListStacks) -> Result<Value, AwsError> {
        refuse_token(input.next_token.as_ref())?;
        let filter = input.stack_status_filter.as_array();
        let wanted =
            filter.is_none_or(|filter| filter.is_empty() || filter.iter().any(|status| status == STATUS));
        let stacks = self.application.stacks.iter().filter(|_| wanted);
        let summaries: Vec<Value> = stacks
            .map(|stack| {
                Ok(compact(json!({
                    "StackId": stack.id,
                    "StackName": stack.name,
                    "TemplateDescription": stack.description,
                    "CreationTime": self.created(stack)?,
                    "StackStatus": STATUS,
                    "ParentId": stack.parent,
                    "RootId": stack.root,
                    "DriftInformation": { "StackDriftStatus": "NOT_CHECKED" },
                })))
            })
            .collect::<Result<_, AwsError>>()?;
        Ok(json!({ "StackSummaries": summaries }))
    }
}
