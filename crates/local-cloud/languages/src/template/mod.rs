//! Reads the SAM templates: YAML with intrinsic functions, the SAM transform, nested
//! applications; gives plain CloudFormation resources with everything evaluated. What it
//! does not know it refuses by file and path; it deploys nothing.

mod document;
mod evaluate;
pub mod identity;
mod parameters;
mod place;
mod rules;
mod sam;
mod stack;

use std::cell::RefCell;
use std::collections::BTreeMap;

use cloud_core::Settings;
use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::Identity;

/// All stacks of a root template: the root first, each nested stack after its parent.
#[derive(Debug, Clone)]
pub struct Application {
    /// The stacks; the first one is the root.
    pub stacks: Vec<Stack>,
}

/// One stack, with everything in it evaluated.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Its name: as given for the root, `{parent}-{LogicalId}-{suffix}` for a nested one.
    pub name: String,
    /// Its id, an ARN.
    pub id: String,
    /// The id of the stack that nests it.
    pub parent: Option<String>,
    /// The id of the root stack; `None` for the root itself.
    pub root: Option<String>,
    /// The template file, relative to the project.
    pub file: String,
    /// The template's description.
    pub description: Option<String>,
    /// The template as it is written.
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
    pub fn template(&self) -> Result<serde_json::Value, Refusal> {
        document::parse(&self.body, &place::Place::file(&self.file), document::ShortForms::Read)
    }
}

/// One output of a stack.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Its name in the template.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What the template says of it.
    pub description: Option<String>,
    /// The name under which it is exported.
    pub export: Option<String>,
}

impl Application {
    /// The root stack.
    pub fn root(&self) -> Option<&Stack> {
        self.stacks.first()
    }

    /// The stack with this name or id.
    pub fn stack(&self, name_or_id: &str) -> Option<&Stack> {
        self.stacks.iter().find(|stack| stack.name == name_or_id || stack.id == name_or_id)
    }

    /// The outputs of a stack, by key; none where there is no such stack.
    pub fn outputs(&self, name_or_id: &str) -> BTreeMap<String, String> {
        let outputs = self.stack(name_or_id).into_iter().flat_map(|stack| &stack.outputs);
        outputs.map(|output| (output.key.clone(), output.value.clone())).collect()
    }

    /// Two resources with one ARN: AWS would refuse to create the second.
    fn refuse_twins(&self) -> Result<(), Refusal> {
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

    /// Addresses of our own APIs and queues are on this machine: APIs at
    /// `{api_url}/_aws/execute-api/{id}/{stage}`, queues at the very address that SQS itself
    /// tells. Some SDKs send to the host of a queue's URL, whatever endpoint they are given.
    fn move_addresses(&mut self, settings: &Settings, api_url: &str, endpoint_url: &str) {
        let resources = self.stacks.iter().flat_map(|stack| &stack.resources);
        let mut moves: Vec<(String, String)> = resources
            .filter(|resource| resource.kind == "AWS::ApiGateway::RestApi")
            .map(|api| {
                let id = &api.physical_id;
                let aws = format!("https://{id}.execute-api.{}.amazonaws.com/", settings.region);
                (aws, format!("{}/_aws/execute-api/{id}/", api_url.trim_end_matches('/')))
            })
            .collect();
        moves.push((
            format!("https://sqs.{}.amazonaws.com/{}/", settings.region, settings.account),
            format!("{}/{}/", endpoint_url.trim_end_matches('/'), settings.account),
        ));
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
                stack::each_text(&mut resource.properties, &moved);
            }
        }
    }
}

/// What a template is read with.
pub struct Project<'a> {
    /// Gives the text of a file, by its path relative to the project.
    pub read: &'a dyn Fn(&str) -> std::io::Result<String>,
    /// The identity of each CloudFormation type that is known; others are refused.
    pub identity: fn(&str) -> Option<&'static Identity>,
    /// Region, account and stage.
    pub settings: &'a Settings,
}

/// Loads the root template `root_file` of `project` and all that it nests as the stack
/// `stack_name`. `api_url` is where the APIs listen, `endpoint_url` where the
/// AWS services do.
///
/// # Errors
/// A [`Refusal`] that names file and path of the first thing that is wrong or not emulated.
pub fn load(
    project: &Project<'_>,
    root_file: &str,
    stack_name: &str,
    parameters: &BTreeMap<String, String>,
    api_url: &str,
    endpoint_url: &str,
) -> Result<Application, Refusal> {
    let world = stack::World { project, exports: RefCell::default() };
    let birth = stack::Birth {
        name: stack_name.to_owned(),
        parent: None,
        root: None,
        parameters: parameters.clone(),
        lineage: Vec::new(),
    };
    let loaded = stack::load(&world, root_file, birth)?;
    let mut application = Application { stacks: [vec![loaded.stack], loaded.nested].concat() };
    application.refuse_twins()?;
    application.move_addresses(project.settings, api_url, endpoint_url);
    Ok(application)
}
