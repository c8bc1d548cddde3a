//! Reads the SAM templates (YAML with intrinsic functions, the SAM transform, nested applications) and gives
//! plain CloudFormation resources with everything evaluated. What it does not know it refuses by file and
//! path; it deploys nothing. The caller gives the texts of the files.

mod application;
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

use cloud_core::resource::Refusal;

pub use self::application::{Application, Output, Stack};
pub use self::document::Project;

/// Loads the root template `root_file` of `project` as the stack `stack_name`, with all stacks nested in it.
/// `api_url` is the address of the APIs, `endpoint_url` that of the AWS services.
///
/// # Errors
/// A [`Refusal`] with file and path of the first thing that is wrong or not emulated.
pub fn load(
    project: &Project<'_>,
    root_file: &str,
    stack_name: &str,
    parameters: &BTreeMap<String, String>,
    api_url: &str,
    endpoint_url: &str,
) -> Result<Application, Refusal> {
    let world = evaluate::World { project, exports: RefCell::default(), load_nested: stack::load_nested };
    let root = stack::NewStack {
        name: stack_name.to_owned(),
        parent: None,
        root: None,
        parameters: parameters.clone(),
        lineage: Vec::new(),
    };
    let mut application = Application { stacks: stack::load(&world, root_file, root)? };
    application.check_arns()?;
    application.move_addresses(project.settings, api_url, endpoint_url);
    Ok(application)
}
