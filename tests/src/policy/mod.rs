//! The rules of this project for templates, which linters do not check. They look at the templates as they are
//! deployed: transformed, and with every function evaluated. A rule has a name, a sentence, a function that
//! checks a deployment, and edits of the real templates that it must notice. `tests/policy.rs` runs them.
//! They change nothing.
//!
//! Not checked here: that agents must authenticate (there is no authoriser yet), glibc and the size of the
//! binaries (checked on the artefacts), and roles against recorded calls (`tests/permissions.rs`).

mod account;
mod alarms;
mod api;
mod buses;
mod deployment;
mod failures;
mod functions;
mod kept;
mod logs;
mod mutation;
mod numbers;
mod permissions;
mod queues;
mod tags;
mod workflow;

use std::fmt;
use std::path::Path;

use cloud_core::resource::Resource;
use cloud_languages::template::Application;

pub use deployment::Deployment;
pub use mutation::{Edit, Mutation};

/// A rule for every deployment.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// A short name, which a finding has too.
    pub name: &'static str,
    /// What must be true.
    pub holds: &'static str,
    /// Finds where a deployment breaks the rule.
    pub check: for<'a> fn(&Deployment<'a>) -> Faults,
    /// Edits of the templates that break the rule.
    pub notices: &'static [Mutation],
}

/// A place where a deployment breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The template, relative to the project.
    pub file: String,
    /// The logical id, or the section if it is not a resource.
    pub resource: String,
    /// What is wrong: the rest of a sentence that begins with the resource.
    pub wrong: String,
}

/// All places where a deployment breaks a rule.
pub type Faults = Vec<Fault>;

impl Fault {
    fn of(resource: &Resource, wrong: impl Into<String>) -> Self {
        Self {
            file: resource.file.template().to_owned(),
            resource: resource.logical_id.clone(),
            wrong: wrong.into(),
        }
    }
}

/// A fault and the rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What is wrong, and where.
    pub fault: Fault,
    /// The name of the rule.
    pub rule: &'static str,
    /// What must be true.
    pub holds: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { file, resource, wrong } = &self.fault;
        write!(formatter, "{file}: {resource} {wrong} (rule {}: {}).", self.rule, self.holds)
    }
}

/// All rules.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    [
        queues::RULES,
        failures::RULES,
        buses::RULES,
        workflow::RULES,
        api::RULES,
        kept::RULES,
        permissions::RULES,
        alarms::RULES,
        tags::RULES,
        functions::RULES,
        logs::RULES,
        account::RULES,
        numbers::RULES,
    ]
    .into_iter()
    .flatten()
}

/// All places where an application breaks a rule. Its templates are in `project`.
///
/// # Errors
/// When a template, or a file that it reads, cannot be read as it is written.
pub fn findings(application: &Application, project: &Path) -> anyhow::Result<Vec<Finding>> {
    let deployment = Deployment::of(application, project)?;
    let of_rule = |rule: &'static Rule| {
        (rule.check)(&deployment).into_iter().map(|fault| Finding {
            fault,
            rule: rule.name,
            holds: rule.holds,
        })
    };
    Ok(rules().flat_map(of_rule).collect())
}

/// `wrong`, unless `holds`.
fn unless(holds: bool, wrong: impl Into<String>) -> Option<String> {
    (!holds).then(|| wrong.into())
}
