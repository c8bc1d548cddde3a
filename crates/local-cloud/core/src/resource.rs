//! A resource of a template after the SAM transform, with every intrinsic function evaluated: the input of
//! a service that deploys it.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// One plain CloudFormation resource, ready to deploy.
#[derive(Debug, Clone)]
pub struct Resource {
    /// The stack that owns it, for example `uni-prop-local` or `uni-prop-local-Contracts`.
    pub stack: String,
    /// Its name in the template.
    pub logical_id: String,
    /// The CloudFormation type, for example `AWS::SQS::Queue`.
    pub kind: String,
    /// What `Ref` gives: a name, a URL or an ARN, depending on the type.
    pub physical_id: String,
    /// What `GetAtt X.Arn` gives; empty for types without one.
    pub arn: String,
    /// Evaluated properties, without those of the value `AWS::NoValue`.
    pub properties: Value,
    /// The resource's `Metadata`, evaluated (`Binary` of a function, for example).
    pub metadata: Value,
    pub file: Source,
}

/// The file that declares a resource, and the files that it includes parts of its properties from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Source {
    /// Relative to the project.
    template: String,
    /// `LogicalId.Properties.Path` of each included part, and its file.
    included: Vec<(String, String)>,
}

impl<T: Into<String>> From<T> for Source {
    fn from(template: T) -> Self {
        Self { template: template.into(), included: Vec::new() }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.template)
    }
}

impl Source {
    /// The template, relative to the project.
    pub fn template(&self) -> &str {
        &self.template
    }

    /// The same template with included parts: the path of each, and its file.
    pub fn including(self, included: Vec<(String, String)>) -> Self {
        Self { included, ..self }
    }

    /// The file that holds a path; the innermost one, where an included part includes another.
    fn of(&self, path: &str) -> &str {
        let holds = |part: &str| {
            path.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let innermost =
            self.included.iter().filter(|(part, _)| holds(part)).max_by_key(|(part, _)| part.len());
        innermost.map_or(&self.template, |(_, file)| file)
    }
}

/// Why the local cloud cannot run the template: one sentence that names file, resource and property.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{file}: {path}: {reason}")]
pub struct Refusal {
    /// The template file, relative to the project.
    pub file: String,
    /// `LogicalId` or `LogicalId.Properties.Path`.
    pub path: String,
    /// What is wrong or not emulated.
    pub reason: String,
}

impl Resource {
    /// Reads the properties into a struct that denies unknown fields, so that a property which the module
    /// does not know is refused by name and never ignored.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        serde_path_to_error::deserialize(self.properties.clone()).map_err(|error| {
            // Serde calls the properties themselves `.`.
            let path = match error.path().to_string().as_str() {
                "." => "Properties".to_owned(),
                path => format!("Properties.{path}"),
            };
            self.refuse(&path, format!("{}: {}", self.kind, error.inner()))
        })
    }

    /// Refuses the first property that is not among `known`.
    pub fn check_properties(&self, known: &[&str]) -> Result<(), Refusal> {
        let given = self.properties.as_object().into_iter().flatten();
        match given.map(|(name, _)| name).find(|name| !known.contains(&name.as_str())) {
            Some(unknown) => {
                let reason = format!("{} has no such property", self.kind);
                Err(self.refuse(&format!("Properties.{unknown}"), reason))
            }
            None => Ok(()),
        }
    }

    /// A refusal at `LogicalId.{path}`.
    pub fn refuse(&self, path: &str, reason: impl Into<String>) -> Refusal {
        let path = format!("{}.{path}", self.logical_id);
        Refusal { file: self.file.of(&path).to_owned(), path, reason: reason.into() }
    }
}
