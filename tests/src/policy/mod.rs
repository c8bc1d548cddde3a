//! What linters do not check: the rules of `quality.md`, section 3, over the templates as they are
//! deployed, transformed and with every function evaluated. A rule is a name, the sentence that it
//! holds, a function over the deployment, and edits of the real templates that it must notice;
//! `tests/policy.rs` runs them all. Nothing here changes anything.
//!
//! Not held here: that agents must authenticate (there is no authoriser yet), glibc and the size of
//! the binaries (seen in the artefacts), and IAM against recorded calls (`tests/permissions.rs`).

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

use local_cloud::resource::Resource;
use local_cloud::template::Application;

pub use deployment::Deployment;
pub use mutation::{Edit, Mutation};

/// Something that must hold for every deployment.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// A short name, to be found in a finding and here.
    pub name: &'static str,
    /// The sentence that it holds, from `quality.md` where that has one.
    pub holds: &'static str,
    /// What speaks against it in a deployment.
    pub check: for<'a> fn(&Deployment<'a>) -> Faults,
    /// Edits of the templates that it must notice.
    pub notices: &'static [Mutation],
}

/// What a rule objects to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The template, relative to the project.
    pub file: String,
    /// The logical id, or the section where it is no resource.
    pub resource: String,
    /// What is wrong: continues a sentence that begins with the resource.
    pub wrong: String,
}

/// All that a rule objects to.
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
    /// What the rule holds.
    pub holds: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { file, resource, wrong } = &self.fault;
        write!(formatter, "{file}: {resource} {wrong} (rule {}: {}).", self.rule, self.holds)
    }
}

/// All rules, in the order of `quality.md`.
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

/// What all rules object to in an application whose templates are in `project`.
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

/// A complaint where something does not hold.
fn unless(holds: bool, wrong: impl Into<String>) -> Option<String> {
    (!holds).then(|| wrong.into())
}
