//! A resource of a template after the SAM transform and after every intrinsic function is
//! evaluated: what a service module is given to deploy.

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
    /// Evaluated properties; absent ones (`AWS::NoValue`) are not there.
    pub properties: Value,
    /// The resource's `Metadata`, evaluated (`Binary` of a function, for example).
    pub metadata: Value,
    /// Where it is written.
    pub file: Source,
}

/// The file that declares a resource, and those that parts of its properties are included from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Source {
    /// The template, relative to the project.
    template: String,
    /// `LogicalId.Properties.Path` of each part, and its file.
    included: Vec<(String, String)>,
}

impl Source {
    /// The template, relative to the project.
    pub fn template(&self) -> &str {
        &self.template
    }
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
    /// The same template, with parts from other files: the path of each, and its file.
    pub fn including(self, included: Vec<(String, String)>) -> Self {
        Self { included, ..self }
    }

    /// The file in which a path stands; the innermost one, where a part includes another.
    fn of(&self, path: &str) -> &str {
        let holds = |part: &str| {
            path.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let innermost =
            self.included.iter().filter(|(part, _)| holds(part)).max_by_key(|(part, _)| part.len());
        innermost.map_or(&self.template, |(_, file)| file)
    }
}

/// Why the template cannot be run here: always one sentence that names file, resource and property.
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
    /// Reads the properties into a struct that denies unknown fields: a property that the
    /// module does not name is refused, never ignored.
    ///
    /// # Errors
    /// A [`Refusal`] that names the property.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        serde_path_to_error::deserialize(self.properties.clone()).map_err(|error| {
            // A property of the wrong type is told by its path; `.` is the properties themselves.
            let path = match error.path().to_string().as_str() {
                "." => "Properties".to_owned(),
                path => format!("Properties.{path}"),
            };
            self.refuse(&path, format!("{}: {}", self.kind, error.inner()))
        })
    }

    /// Refuses the first property that is none of these.
    ///
    /// # Errors
    /// A [`Refusal`] that names the property.
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
