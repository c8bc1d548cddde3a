//! What the rules look at: every resource of an application by type, by ARN and as it is written, and
//! readers for values that CloudFormation takes in several forms. It checks nothing.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use cloud_core::resource::Resource;
use cloud_languages::template::{Application, Stack};
use serde_json::Value;

use super::{Fault, Faults};

pub(super) const API: &str = "AWS::ApiGateway::RestApi";
pub(super) const FUNCTION: &str = "AWS::Lambda::Function";
pub(super) const LOG_GROUP: &str = "AWS::Logs::LogGroup";
pub(super) const MACHINE: &str = "AWS::StepFunctions::StateMachine";
pub(super) const MAPPING: &str = "AWS::Lambda::EventSourceMapping";
pub(super) const QUEUE: &str = "AWS::SQS::Queue";
pub(super) const ROLE: &str = "AWS::IAM::Role";
pub(super) const RULE: &str = "AWS::Events::Rule";
pub(super) const TABLE: &str = "AWS::DynamoDB::Table";

/// An application and the files that it was loaded from.
#[derive(Debug)]
pub struct Deployment<'a> {
    pub(super) application: &'a Application,
    /// Each template as it is written, its functions in their long forms, by file.
    written: BTreeMap<&'a str, Value>,
    texts: Vec<Text>,
}

/// A file as it is written, with its comments.
#[derive(Debug)]
pub(super) struct Text {
    /// The template that is the file or reads it, relative to the project.
    pub template: String,
    /// The resource that reads the file; `None` for the template itself.
    pub reader: Option<String>,
    /// What is in the file.
    pub text: String,
}

impl<'a> Deployment<'a> {
    /// Of an application that the local cloud has loaded from `project`.
    ///
    /// # Errors
    /// When a template, or a file that it reads, cannot be read as it is written.
    pub fn of(application: &'a Application, project: &Path) -> anyhow::Result<Self> {
        let (mut written, mut texts) = (BTreeMap::new(), Vec::new());
        for stack in &application.stacks {
            let template = stack.template()?;
            let text = |reader, text| Text { template: stack.file.clone(), reader, text };
            texts.push(text(None, stack.body.clone()));
            for (id, resource) in template["Resources"].as_object().into_iter().flatten() {
                let properties = &resource["Properties"];
                let included = &properties["DefinitionBody"]["Fn::Transform"]["Parameters"]["Location"];
                let files = [included, &properties["DefinitionUri"]];
                for file in files.into_iter().filter_map(Value::as_str) {
                    let path = project.join(&stack.file).with_file_name(file);
                    let read = std::fs::read_to_string(&path)
                        .with_context(|| format!("cannot read {}", path.display()))?;
                    texts.push(text(Some(id.clone()), read));
                }
            }
            written.insert(stack.file.as_str(), template);
        }
        Ok(Self { application, written, texts })
    }

    /// The templates and the files that they read, except JSON: SAM's translator writes JSON, which has no
    /// comments.
    pub(super) fn texts(&self) -> impl Iterator<Item = &Text> {
        self.texts.iter().filter(|text| !text.text.starts_with('{'))
    }

    pub(super) fn is_prod(&self) -> bool {
        self.stage() == "prod"
    }

    pub(super) fn stage(&self) -> &'a str {
        self.application.root().and_then(|root| root.parameters.get("Stage")).map_or("", String::as_str)
    }

    /// The account of the deployment: the fifth part of a stack's id, which is an ARN.
    pub(super) fn account(&self) -> &'a str {
        self.application.root().and_then(|root| root.id.split(':').nth(4)).unwrap_or_default()
    }

    pub(super) fn stacks(&self) -> impl Iterator<Item = &'a Stack> {
        self.application.stacks.iter()
    }

    /// Every resource of every stack.
    pub(super) fn resources(&self) -> impl Iterator<Item = &'a Resource> {
        self.stacks().flat_map(|stack| &stack.resources)
    }

    pub(super) fn all(&self, kind: &str) -> impl Iterator<Item = &'a Resource> {
        self.resources().filter(move |resource| resource.kind == kind)
    }

    /// A fault for each resource of a type for which `complaint` returns a text.
    pub(super) fn each(&self, kind: &str, complaint: impl Fn(&'a Resource) -> Option<String>) -> Faults {
        self.all(kind).filter_map(|resource| Some(Fault::of(resource, complaint(resource)?))).collect()
    }

    /// The resource of a type that a value names, by ARN or as `Ref` does.
    pub(super) fn named(&self, kind: &str, name: &Value) -> Option<&'a Resource> {
        let name = name.as_str()?;
        // The ARN of a log group can end with `:*` for its streams; templates use both forms.
        let bare = |arn: &'a str| arn.trim_end_matches(":*");
        self.all(kind).find(|resource| {
            resource.physical_id == name
                || !resource.arn.is_empty() && bare(&resource.arn) == name.trim_end_matches(":*")
        })
    }

    /// A template as it is written.
    pub(super) fn template(&self, file: &str) -> &Value {
        self.written.get(file).unwrap_or(&Value::Null)
    }

    /// A resource as it is written; null where SAM generated it.
    pub(super) fn written(&self, resource: &Resource) -> &Value {
        &self.template(resource.file.template())["Resources"][&resource.logical_id]
    }
}

/// The items of a list; CloudFormation and IAM often take a single one as it is.
pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    match value {
        Value::Array(items) => items.iter(),
        Value::Null => [].iter(),
        one => std::slice::from_ref(one).iter(),
    }
}

/// The texts of a list.
pub(super) fn texts(value: &Value) -> impl Iterator<Item = &str> {
    list(value).filter_map(Value::as_str)
}

/// What a condition compares a key with, if it has only this operator with only this key. Another one
/// beside it would narrow the statement, and a denial with a narrow condition denies little.
pub(super) fn sole<'v>(condition: &'v Value, operator: &str, key: &str) -> Option<&'v Value> {
    let only = |value: &'v Value, key: &str| value.as_object().filter(|map| map.len() == 1)?.get(key);
    only(only(condition, operator)?, key)
}

/// A number, also one that is written as text.
pub(super) fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// Whether a value is true, also if it is written as text.
pub(super) fn is_true(value: &Value) -> bool {
    *value == true || *value == "true"
}
