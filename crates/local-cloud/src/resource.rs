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
    /// The file that declares it, relative to the project.
    pub file: String,
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

    /// A refusal at `LogicalId.{path}`.
    pub fn refuse(&self, path: &str, reason: impl Into<String>) -> Refusal {
        Refusal {
            file: self.file.clone(),
            path: format!("{}.{path}", self.logical_id),
            reason: reason.into(),
        }
    }
}
