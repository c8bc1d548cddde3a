//! Reads the templates of a project folder, with the CloudFormation types of all services.

use std::collections::BTreeMap;
use std::path::Path;

use cloud_core::Settings;
use cloud_core::resource::Refusal;
use cloud_core::service::Identity;
use cloud_languages::template::{self, Application, Project};

use crate::services::SERVICES;

/// Loads a template and its nested templates as the stack `stack_name`. `api_url` is the address of the APIs,
/// `endpoint_url` that of the AWS services. Refuses the first thing that is wrong or not emulated.
pub fn load(
    project: &Path,
    template: &str,
    stack_name: &str,
    parameters: &BTreeMap<String, String>,
    settings: &Settings,
    api_url: &str,
    endpoint_url: &str,
) -> Result<Application, Refusal> {
    let read = |file: &str| std::fs::read_to_string(project.join(file));
    let project = Project { read: &read, identity, settings };
    template::load(&project, template, stack_name, parameters, api_url, endpoint_url)
}

/// The identity of a type, from the row of its service.
pub fn identity(kind: &str) -> Option<&'static Identity> {
    let mut types = SERVICES.iter().flat_map(|service| service.types);
    types.find(|row| row.name == kind).map(|row| &row.identity)
}
