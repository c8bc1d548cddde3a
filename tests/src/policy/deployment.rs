//! What the rules look at: every resource of an application by type, by ARN and as it is written,
//! and small readers of CloudFormation's looser values. It judges nothing.

use std::collections::BTreeMap;

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

/// An application, ready to be asked.
#[derive(Debug)]
pub struct Deployment<'a> {
    pub(super) application: &'a Application,
    /// Each template as it is written, its functions in their long forms, by file.
    written: BTreeMap<&'a str, Value>,
}

impl<'a> Deployment<'a> {
    /// Of an application that the local cloud has loaded.
    ///
    /// # Errors
    /// When a template cannot be read as it is written.
    pub fn of(application: &'a Application) -> anyhow::Result<Self> {
        let mut written = BTreeMap::new();
        for stack in &application.stacks {
            written.insert(stack.file.as_str(), stack.template()?);
        }
        Ok(Self { application, written })
    }

    pub(super) fn is_prod(&self) -> bool {
        self.stage() == "prod"
    }

    pub(super) fn stage(&self) -> &'a str {
        self.application.root().and_then(|root| root.parameters.get("Stage")).map_or("", String::as_str)
    }

    /// The account in which all of it is: the fifth part of a stack's id, an ARN.
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

    /// A fault for each resource of a type that `complaint` says something about.
    pub(super) fn each(&self, kind: &str, complaint: impl Fn(&'a Resource) -> Option<String>) -> Faults {
        self.all(kind).filter_map(|resource| Some(Fault::of(resource, complaint(resource)?))).collect()
    }

    /// The resource of a type that a value names, by ARN or as `Ref` does.
    pub(super) fn named(&self, kind: &str, name: &Value) -> Option<&'a Resource> {
        let name = name.as_str()?;
        // The ARN of a log group ends with its streams, and is given with and without them.
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

/// What a condition compares a key with, if it has this one operator with this one key. Any other
/// beside it would narrow the statement further, and a denial of less denies little.
pub(super) fn sole<'v>(condition: &'v Value, operator: &str, key: &str) -> Option<&'v Value> {
    let only = |value: &'v Value, key: &str| value.as_object().filter(|map| map.len() == 1)?.get(key);
    only(only(condition, operator)?, key)
}

/// A number, which CloudFormation takes as text too.
pub(super) fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// A truth, which CloudFormation takes as text too.
pub(super) fn is_true(value: &Value) -> bool {
    *value == true || *value == "true"
}
