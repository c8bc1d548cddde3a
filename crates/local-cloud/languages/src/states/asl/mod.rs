//! The Amazon States Language with JSONata as its query language, parsed into types when a state machine is
//! deployed. Every definition that it accepts can run: it refuses unknown fields and state types, dangling
//! transitions, JSONPath and expressions that do not compile, with the path of the state. It never evaluates
//! anything.

mod parse;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::integration::Resource;

#[derive(Debug)]
pub struct Definition {
    pub workflow: Workflow,
    /// Seconds after which the whole execution is `TIMED_OUT`.
    pub timeout_seconds: Option<u64>,
}

/// The states of the machine itself, of a branch of a Parallel, or of the processor of a Map.
#[derive(Debug)]
pub struct Workflow {
    pub start_at: String,
    pub states: BTreeMap<String, State>,
}

#[derive(Debug)]
pub struct State {
    pub kind: Kind,
    /// The state after it; `None` ends the workflow.
    pub next: Option<String>,
    pub assign: Map<String, Value>,
    /// Absent, the output is the result or the input.
    pub output: Option<Value>,
    /// The first that matches counts, as in `catch`.
    pub retry: Vec<Retrier>,
    pub catch: Vec<Catcher>,
}

/// The types of state. `Value`s are templates: JSON whose `{% %}` strings are JSONata.
#[derive(Debug)]
pub enum Kind {
    Task(Task),
    /// Goes on with the first rule whose condition holds.
    Choice {
        rules: Vec<Rule>,
        /// The next state if no condition holds.
        default: Option<String>,
    },
    /// Runs all branches side by side.
    Parallel {
        branches: Vec<Workflow>,
        /// The common input; absent, the state's input.
        arguments: Option<Value>,
    },
    /// Runs a workflow for each item.
    Map(Box<MapState>),
    Pass,
    WaitSeconds(Value),
    /// Waits until an RFC 3339 time.
    WaitUntil(Value),
    Succeed,
    Fail {
        error: Option<Value>,
        cause: Option<Value>,
    },
}

#[derive(Debug)]
pub struct Task {
    pub resource: Resource,
    /// Absent, the state's input.
    pub arguments: Option<Value>,
    /// Seconds, or an expression for them.
    pub timeout: Option<Value>,
    /// Seconds, or an expression for them.
    pub heartbeat: Option<Value>,
}

/// An inline Map.
#[derive(Debug)]
pub struct MapState {
    pub processor: Workflow,
    /// Absent, the state's input.
    pub items: Option<Value>,
    /// The input of an iteration; if absent, the input is the item.
    pub selector: Option<Value>,
    /// How many iterations run at a time; 0 is no limit.
    pub max_concurrency: Option<Value>,
}

/// A rule of a Choice.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Rule {
    /// JSONata that gives a boolean.
    pub condition: Value,
    pub next: String,
    #[serde(default)]
    pub assign: Map<String, Value>,
    /// Absent, the state's input.
    pub output: Option<Value>,
    #[serde(rename = "Comment")]
    _comment: Option<String>,
}

/// Defaults: <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Retrier {
    pub error_equals: Vec<String>,
    /// Seconds before the first retry.
    #[serde(default = "one")]
    pub interval_seconds: u64,
    /// Retries, without the first attempt.
    #[serde(default = "three")]
    pub max_attempts: u64,
    /// The factor by which the interval grows with each retry.
    #[serde(default = "two")]
    pub backoff_rate: f64,
    pub max_delay_seconds: Option<u64>,
    #[serde(default)]
    pub jitter_strategy: Jitter,
    #[serde(rename = "Comment")]
    _comment: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Jitter {
    /// A random delay from 0 up to the interval.
    Full,
    #[default]
    None,
}

fn one() -> u64 {
    1
}
fn two() -> f64 {
    2.0
}
fn three() -> u64 {
    3
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Catcher {
    pub error_equals: Vec<String>,
    pub next: String,
    #[serde(default)]
    pub assign: Map<String, Value>,
    /// Absent, the error output.
    pub output: Option<Value>,
    #[serde(rename = "Comment")]
    _comment: Option<String>,
}

/// The reason for a definition that is not even an object; such a fault has no place.
pub const NOT_AN_OBJECT: &str = "Definition must be a valid JSON object";

/// Why a definition cannot run, in AWS's words where AWS refuses the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// The code of a diagnostic.
    /// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_ValidateStateMachineDefinitionDiagnostic.html>
    pub code: &'static str,
    /// `States.Name.Field`; empty for the definition itself.
    pub path: String,
    /// One sentence without a final full stop.
    pub reason: String,
}

impl State {
    /// The possible next states, each with the field that names it.
    fn targets(&self) -> Vec<(String, &str)> {
        let mut targets: Vec<(String, &str)> =
            self.next.iter().map(|next| ("Next".into(), next.as_str())).collect();
        for (index, catcher) in self.catch.iter().enumerate() {
            targets.push((format!("Catch[{index}].Next"), &catcher.next));
        }
        if let Kind::Choice { rules, default } = &self.kind {
            for (index, rule) in rules.iter().enumerate() {
                targets.push((format!("Choices[{index}].Next"), &rule.next));
            }
            targets.extend(default.iter().map(|next| ("Default".into(), next.as_str())));
        }
        targets
    }

    /// The name of its type, as in the `Type` field and in history events.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Task(_) => "Task",
            Kind::Choice { .. } => "Choice",
            Kind::Parallel { .. } => "Parallel",
            Kind::Map(_) => "Map",
            Kind::Pass => "Pass",
            Kind::WaitSeconds(_) | Kind::WaitUntil(_) => "Wait",
            Kind::Succeed => "Succeed",
            Kind::Fail { .. } => "Fail",
        }
    }

    fn assigned(&self) -> Vec<&String> {
        let mut names: Vec<&String> = self.assign.keys().collect();
        names.extend(self.catch.iter().flat_map(|catcher| catcher.assign.keys()));
        if let Kind::Choice { rules, .. } = &self.kind {
            names.extend(rules.iter().flat_map(|rule| rule.assign.keys()));
        }
        names
    }
}

#[cfg(test)]
mod tests;
