//! An application: its stacks, with everything in them evaluated.

use std::collections::BTreeMap;

use cloud_core::Settings;
use cloud_core::resource::{Refusal, Resource};
use serde_json::Value;

use crate::template::document::{ShortForms, parse};
use crate::template::place::Place;

#[derive(Debug, Clone)]
pub struct Application {
    /// The root first, each nested stack after its parent.
    pub stacks: Vec<Stack>,
}

#[derive(Debug, Clone)]
pub struct Stack {
    /// As given for the root, `{parent}-{LogicalId}-{suffix}` for a nested stack.
    pub name: String,
    /// An ARN.
    pub id: String,
    /// The id of the stack that nests it.
    pub parent: Option<String>,
    /// The id of the root stack; `None` for the root itself.
    pub root: Option<String>,
    /// The template file, relative to the project.
    pub file: String,
    pub description: Option<String>,
    /// The text of the template.
    pub body: String,
    /// The value of each parameter; `****` where the template says NoEcho.
    pub parameters: BTreeMap<String, String>,
    /// The outputs whose conditions hold, by key.
    pub outputs: Vec<Output>,
    /// The resources whose conditions hold, each after all that it depends on.
    pub resources: Vec<Resource>,
}

impl Stack {
    /// The template as it is written, its functions in their long forms.
    ///
    /// # Errors
    /// When it is no YAML; a loaded stack's always is.
    pub fn template(&self) -> Result<Value, Refusal> {
        parse(&self.body, &Place::file(&self.file), ShortForms::Read)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    pub key: String,
    pub value: String,
    pub description: Option<String>,
    /// The name of its export.
    pub export: Option<String>,
}

impl Application {
    pub fn root(&self) -> Option<&Stack> {
        self.stacks.first()
    }

    pub fn stack(&self, name_or_id: &str) -> Option<&Stack> {
        self.stacks.iter().find(|stack| stack.name == name_or_id || stack.id == name_or_id)
    }

    /// The outputs of a stack, by key; none where there is no such stack.
    pub fn outputs(&self, name_or_id: &str) -> BTreeMap<String, String> {
        let outputs = self.stack(name_or_id).into_iter().flat_map(|stack| &stack.outputs);
        outputs.map(|output| (output.key.clone(), output.value.clone())).collect()
    }

    /// Refuses two resources with one ARN: AWS does not create the second.
    pub(super) fn check_arns(&self) -> Result<(), Refusal> {
        let mut taken: BTreeMap<&str, &Resource> = BTreeMap::new();
        let resources = self.stacks.iter().flat_map(|stack| &stack.resources);
        for resource in resources.filter(|resource| !resource.arn.is_empty()) {
            if let Some(twin) = taken.insert(&resource.arn, resource) {
                let reason = format!("{} already exists: {} in {}", resource.arn, twin.logical_id, twin.file);
                return Err(resource.refuse("Properties", reason));
            }
        }
        Ok(())
    }

    /// Moves the addresses of APIs and queues to this machine: APIs to
    /// `{api_url}/_aws/execute-api/{id}/{stage}`, queues to the address that SQS itself answers. Some SDKs
    /// send to the host of a queue's URL, whatever endpoint they are given.
    pub(super) fn move_addresses(&mut self, settings: &Settings, api_url: &str, endpoint_url: &str) {
        let Settings { region, account, .. } = settings;
        let (api_url, endpoint_url) = (api_url.trim_end_matches('/'), endpoint_url.trim_end_matches('/'));
        let resources = self.stacks.iter().flat_map(|stack| &stack.resources);
        let apis = resources.filter(|resource| resource.kind == "AWS::ApiGateway::RestApi");
        let mut moves: Vec<(String, String)> = apis
            .map(|Resource { physical_id: id, .. }| {
                let aws = format!("https://{id}.execute-api.{region}.amazonaws.com/");
                (aws, format!("{api_url}/_aws/execute-api/{id}/"))
            })
            .collect();
        let queues = format!("https://sqs.{region}.amazonaws.com/{account}/");
        moves.push((queues, format!("{endpoint_url}/{account}/")));
        let moved = |text: &mut String| {
            for (aws, ours) in &moves {
                if text.contains(aws) {
                    *text = text.replace(aws, ours);
                }
            }
        };
        for stack in &mut self.stacks {
            stack.parameters.values_mut().for_each(moved);
            stack.outputs.iter_mut().for_each(|output| moved(&mut output.value));
            for resource in &mut stack.resources {
                moved(&mut resource.physical_id);
                each_text(&mut resource.properties, &moved);
            }
        }
    }
}

/// Applies a change to every text in a value.
pub(super) fn each_text(value: &mut Value, change: &impl Fn(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(items) => items.iter_mut().for_each(|item| each_text(item, change)),
        Value::Object(map) => map.values_mut().for_each(|item| each_text(item, change)),
        _ => {}
    }
}
