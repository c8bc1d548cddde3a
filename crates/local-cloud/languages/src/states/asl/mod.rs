//! The Amazon States Language with JSONata as its query language, parsed into types when a
//! state machine is deployed. It promises that whatever it accepts can be run: unknown
//! fields and state types, dangling transitions, JSONPath and expressions that do not
//! compile are refused with the path of the state. It never evaluates anything.

mod parse;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::integration::Resource;

/// A state machine that can be run.
#[derive(Debug)]
pub struct Definition {
    /// The outermost states.
    pub workflow: Workflow,
    /// Seconds after which the whole execution is `TIMED_OUT`.
    pub timeout_seconds: Option<u64>,
}

/// States with a start: the machine itself, a branch of a Parallel, the processor of a Map.
#[derive(Debug)]
pub struct Workflow {
    /// The first state.
    pub start_at: String,
    /// States by name.
    pub states: BTreeMap<String, State>,
}

/// One state.
#[derive(Debug)]
pub struct State {
    /// What it does.
    pub kind: Kind,
    /// The state after it; `None` ends the workflow.
    pub next: Option<String>,
    /// Variables that it sets on leaving.
    pub assign: Map<String, Value>,
    /// Its output, where it is not the result or the input.
    pub output: Option<Value>,
    /// In order; the first that matches counts.
    pub retry: Vec<Retrier>,
    /// In order; the first that matches counts.
    pub catch: Vec<Catcher>,
}

/// The eight types of state. `Value`s are templates: JSON whose `{% %}` strings are JSONata.
#[derive(Debug)]
pub enum Kind {
    /// Calls a service.
    Task(Task),
    /// Goes on with the first rule whose condition holds.
    Choice {
        /// In order.
        rules: Vec<Rule>,
        /// Where none holds.
        default: Option<String>,
    },
    /// Runs all branches side by side.
    Parallel {
        /// The branches.
        branches: Vec<Workflow>,
        /// Their common input; the state's input where absent.
        arguments: Option<Value>,
    },
    /// Runs a workflow for each item.
    Map(Box<MapState>),
    /// Does nothing.
    Pass,
    /// Waits for a number of seconds.
    WaitSeconds(Value),
    /// Waits until an RFC 3339 time.
    WaitUntil(Value),
    /// Ends the workflow well.
    Succeed,
    /// Ends the workflow badly.
    Fail {
        /// The error's name.
        error: Option<Value>,
        /// The error's cause.
        cause: Option<Value>,
    },
}

/// What a Task state calls and how long it waits.
#[derive(Debug)]
pub struct Task {
    /// What is called.
    pub resource: Resource,
    /// What it is called with; the state's input where absent.
    pub arguments: Option<Value>,
    /// Seconds, or an expression for them.
    pub timeout: Option<Value>,
    /// Seconds, or an expression for them.
    pub heartbeat: Option<Value>,
}

/// An inline Map.
#[derive(Debug)]
pub struct MapState {
    /// What runs for each item.
    pub processor: Workflow,
    /// The items; the state's input where absent.
    pub items: Option<Value>,
    /// The input of an iteration; the item where absent.
    pub selector: Option<Value>,
    /// How many run at a time; 0 is no limit.
    pub max_concurrency: Option<Value>,
}

/// A rule of a Choice.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Rule {
    /// JSONata that gives a boolean.
    pub condition: Value,
    /// The state it leads to.
    pub next: String,
    /// Variables that it sets.
    #[serde(default)]
    pub assign: Map<String, Value>,
    /// The state's output, where it is not the input.
    pub output: Option<Value>,
    /// For readers.
    #[serde(rename = "Comment")]
    pub _comment: Option<String>,
}

/// A retrier. Defaults: <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Retrier {
    /// Error names.
    pub error_equals: Vec<String>,
    /// Seconds before the first retry.
    #[serde(default = "one")]
    pub interval_seconds: u64,
    /// Retries, not counting the first attempt.
    #[serde(default = "three")]
    pub max_attempts: u64,
    /// By how much the interval grows with each retry.
    #[serde(default = "two")]
    pub backoff_rate: f64,
    /// No interval is longer.
    pub max_delay_seconds: Option<u64>,
    /// Whether the interval is drawn from 0 up to itself.
    #[serde(default)]
    pub jitter_strategy: Jitter,
    /// For readers.
    #[serde(rename = "Comment")]
    pub _comment: Option<String>,
}

/// Randomisation of a retry interval.
#[derive(Debug, Default, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Jitter {
    /// Anything from 0 up to the interval.
    Full,
    /// The interval.
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

/// A catcher.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Catcher {
    /// Error names.
    pub error_equals: Vec<String>,
    /// Where the execution goes on.
    pub next: String,
    /// Variables that it sets.
    #[serde(default)]
    pub assign: Map<String, Value>,
    /// The state's output; the error output where absent.
    pub output: Option<Value>,
    /// For readers.
    #[serde(rename = "Comment")]
    pub _comment: Option<String>,
}

/// What is said of a definition that is no object at all; there is no place to name then.
pub const NOT_AN_OBJECT: &str = "Definition must be a valid JSON object";

/// Why a definition cannot be run: where (`States.Name.Field`) and what, in the words of AWS
/// where it refuses the same.
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
    /// The states that it may lead to, each with the field that says so.
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
