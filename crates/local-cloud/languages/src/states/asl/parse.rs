//! Reads a JSON document into the types of the language, with every check that AWS makes on creation.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Catcher, Definition, Fault, Kind, MapState, NOT_AN_OBJECT, Retrier, Rule, State, Task, Workflow,
};
use crate::states::integration::Resource;
use crate::states::query;

fn fault<T>(path: &str, reason: impl Into<String>) -> Result<T, Fault> {
    coded("SCHEMA_VALIDATION_FAILED", path, reason)
}

fn coded<T>(code: &'static str, path: &str, reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { code, path: path.into(), reason: reason.into() })
}

/// Fields of the other query language.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html>
#[rustfmt::skip]
const JSONPATH_FIELDS: &[&str] = &[
    "InputPath", "OutputPath", "ResultPath", "Parameters", "ResultSelector", "Result", "ItemsPath", "Variable",
    "ErrorPath", "CausePath", "SecondsPath", "TimestampPath", "TimeoutSecondsPath", "HeartbeatSecondsPath",
    "MaxConcurrencyPath", "ToleratedFailureCountPath", "ToleratedFailurePercentagePath", "Iterator",
];

/// Fields that AWS knows, and the local cloud does not emulate.
#[rustfmt::skip]
const NOT_EMULATED: &[&str] = &[
    "Credentials", "ItemBatcher", "ItemReader", "Label", "ResultWriter", "ToleratedFailureCount",
    "ToleratedFailurePercentage",
];

/// The fields of the definition itself.
const MACHINE_FIELDS: &[&str] =
    &["Comment", "QueryLanguage", "StartAt", "States", "TimeoutSeconds", "Version"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RawMachine {
    start_at: String,
    states: BTreeMap<String, Map<String, Value>>,
    query_language: Option<String>,
    timeout_seconds: Option<u64>,
    version: Option<String>,
    #[serde(rename = "Comment")]
    _comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RawWorkflow {
    start_at: String,
    states: BTreeMap<String, Map<String, Value>>,
    processor_config: Option<ProcessorConfig>,
    #[serde(rename = "Comment")]
    _comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ProcessorConfig {
    mode: String,
}

/// Every field that a state of any type may have; [`fields_of`] says which type has which.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawState {
    #[serde(rename = "Type")]
    kind: String,
    next: Option<String>,
    end: Option<bool>,
    #[serde(default)]
    assign: Map<String, Value>,
    output: Option<Value>,
    arguments: Option<Value>,
    resource: Option<String>,
    timeout_seconds: Option<Value>,
    heartbeat_seconds: Option<Value>,
    #[serde(default)]
    retry: Vec<Retrier>,
    #[serde(default)]
    catch: Vec<Catcher>,
    #[serde(default)]
    choices: Vec<Rule>,
    default: Option<String>,
    #[serde(default)]
    branches: Vec<RawWorkflow>,
    item_processor: Option<RawWorkflow>,
    items: Option<Value>,
    item_selector: Option<Value>,
    max_concurrency: Option<Value>,
    seconds: Option<Value>,
    timestamp: Option<Value>,
    error: Option<Value>,
    cause: Option<Value>,
}

/// The fields of a state type, beside those of all types.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/workflow-states.html>, the JSONata columns.
#[rustfmt::skip]
fn fields_of(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "Task" => &["Resource", "Arguments", "TimeoutSeconds", "HeartbeatSeconds", "Retry", "Catch", "Assign",
                    "Output", "Next", "End"],
        "Choice" => &["Choices", "Default", "Assign", "Output"],
        "Parallel" => &["Branches", "Arguments", "Retry", "Catch", "Assign", "Output", "Next", "End"],
        "Map" => &["ItemProcessor", "Items", "ItemSelector", "MaxConcurrency", "Retry", "Catch", "Assign",
                   "Output", "Next", "End"],
        "Pass" => &["Assign", "Output", "Next", "End"],
        "Wait" => &["Seconds", "Timestamp", "Assign", "Output", "Next", "End"],
        "Succeed" => &["Output"],
        "Fail" => &["Error", "Cause"],
        _ => return None,
    })
}

impl Definition {
    /// # Errors
    /// The first fault.
    pub fn parse(document: &Value) -> Result<Self, Fault> {
        Self::check(document).map_err(|mut faults| faults.swap_remove(0))
    }

    /// # Errors
    /// All faults, at least one.
    pub fn check(document: &Value) -> Result<Self, Vec<Fault>> {
        let raw = RawMachine::read(document).map_err(|fault| vec![fault])?;
        let mut parser =
            Parser { jsonata: raw.query_language.is_some(), names: BTreeSet::new(), faults: Vec::new() };
        let workflow = parser.workflow("", raw.start_at, raw.states);
        if parser.faults.is_empty() {
            parser.faults.extend(unshadowed(&workflow, &BTreeSet::new()).err());
        }
        match parser.faults {
            faults if faults.is_empty() => Ok(Self { workflow, timeout_seconds: raw.timeout_seconds }),
            faults => Err(faults),
        }
    }
}

impl RawMachine {
    /// Reads and checks everything but the states.
    fn read(document: &Value) -> Result<Self, Fault> {
        let Some(fields) = document.as_object() else { return fault("", NOT_AN_OBJECT) };
        let missing: Vec<&str> =
            ["States", "StartAt"].into_iter().filter(|name| !fields.contains_key(*name)).collect();
        if !missing.is_empty() {
            return fault("", format!("These fields are required: [{}]", missing.join(", ")));
        }
        if let Some(field) = fields.keys().find(|field| !MACHINE_FIELDS.contains(&field.as_str())) {
            return fault("", unsupported(field));
        }
        let raw: RawMachine = serde_json::from_value(document.clone())
            .or_else(|error| fault("", format!("the definition is not valid: {error}")))?;
        if raw.version.as_deref().is_some_and(|version| version != "1.0") {
            return fault("Version", "only version 1.0 of the Amazon States Language exists");
        }
        if raw.timeout_seconds.is_some_and(|seconds| !(1..=MAX_NUMBER).contains(&seconds)) {
            return fault("TimeoutSeconds", format!("it must be between 1 and {MAX_NUMBER}"));
        }
        // AWS's default is JSONPath; each state may still choose JSONata.
        if let Some(other) = raw.query_language.as_deref().filter(|language| *language != "JSONata") {
            return fault("QueryLanguage", format!("{other} is not emulated; only JSONata is"));
        }
        if !raw.states.values().any(ends) {
            return coded("MISSING_END_STATE", "", "Workflow has no terminal state");
        }
        Ok(raw)
    }
}

struct Parser {
    /// Whether the whole machine is in JSONata.
    jsonata: bool,
    /// All state names so far: they are unique in the whole machine.
    names: BTreeSet<String>,
    /// What is wrong with the states.
    faults: Vec<Fault>,
}

impl Parser {
    fn workflow(
        &mut self,
        path: &str,
        start_at: String,
        raw: BTreeMap<String, Map<String, Value>>,
    ) -> Workflow {
        let mut states = BTreeMap::new();
        let count = raw.len();
        for (name, fields) in raw {
            match self.named(&join(path, &format!("States.{name}")), &name, fields) {
                Ok(state) => drop(states.insert(name, state)),
                Err(fault) => self.faults.push(fault),
            }
        }
        let workflow = Workflow { start_at, states };
        // Nobody knows the next states of a state with a fault.
        if workflow.states.len() == count {
            connected(path, &workflow, &mut self.faults);
        }
        workflow
    }

    fn named(&mut self, path: &str, name: &str, fields: Map<String, Value>) -> Result<State, Fault> {
        if name.is_empty() || name.chars().count() > 80 {
            return fault(path, "a state's name has 1 to 80 characters");
        }
        if !self.names.insert(name.to_owned()) {
            return coded("DUPLICATE_STATE_NAME", path, format!("Duplicate State name: {name}"));
        }
        self.state(path, fields)
    }

    fn state(&mut self, path: &str, fields: Map<String, Value>) -> Result<State, Fault> {
        let kind = fields.get("Type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(allowed) = fields_of(&kind) else {
            return fault(path, format!("there is no state type {kind:?}"));
        };
        self.check_language(path, fields.get("QueryLanguage"))?;
        for field in fields.keys().map(String::as_str) {
            if JSONPATH_FIELDS.contains(&field) {
                let reason = format!(
                    "The QueryLanguage is set to 'JSONata', but field '{field}' is only supported for the 'JSONPath' QueryLanguage"
                );
                return fault(path, reason);
            }
            if !["Type", "Comment", "QueryLanguage"].contains(&field) && !allowed.contains(&field) {
                return fault(path, unsupported(field));
            }
        }
        let mut raw: RawState = serde_path_to_error::deserialize(Value::Object(fields))
            .or_else(|error| fault(path, format!("the {kind} state is not valid: {error}")))?;
        compile_map(&join(path, "Assign"), &raw.assign)?;
        compile_some(&join(path, "Output"), raw.output.as_ref())?;
        compile_some(&join(path, "Arguments"), raw.arguments.as_ref())?;
        recoveries(path, &raw.retry, &raw.catch)?;
        let needs_next = !matches!(raw.kind.as_str(), "Choice" | "Succeed" | "Fail");
        if needs_next && (raw.next.is_some() == (raw.end == Some(true))) {
            return fault(path, "the state needs either Next or End: true");
        }
        Ok(State {
            kind: self.kind(path, &mut raw)?,
            next: raw.next,
            assign: raw.assign,
            output: raw.output,
            retry: raw.retry,
            catch: raw.catch,
        })
    }

    fn check_language(&self, path: &str, language: Option<&Value>) -> Result<(), Fault> {
        match language.map(Value::as_str) {
            Some(Some("JSONata")) => Ok(()),
            None if self.jsonata => Ok(()),
            Some(Some("JSONPath")) if self.jsonata => fault(
                path,
                "'QueryLanguage' can not be 'JSONPath' if set to 'JSONata' for whole state machine",
            ),
            _ => fault(&join(path, "QueryLanguage"), "JSONPath is not emulated; say QueryLanguage: JSONata"),
        }
    }

    fn kind(&mut self, path: &str, raw: &mut RawState) -> Result<Kind, Fault> {
        match raw.kind.as_str() {
            "Task" => task(path, raw).map(Kind::Task),
            "Choice" => {
                choices(path, &raw.choices)?;
                Ok(Kind::Choice { rules: take(&mut raw.choices), default: raw.default.take() })
            }
            "Parallel" => {
                let branches = self.branches(path, take(&mut raw.branches))?;
                Ok(Kind::Parallel { branches, arguments: raw.arguments.take() })
            }
            "Map" => Ok(Kind::Map(Box::new(self.map(path, raw)?))),
            "Pass" => Ok(Kind::Pass),
            "Wait" => wait(path, raw),
            "Succeed" => Ok(Kind::Succeed),
            _ => {
                compile_some(&join(path, "Error"), raw.error.as_ref())?;
                compile_some(&join(path, "Cause"), raw.cause.as_ref())?;
                Ok(Kind::Fail { error: raw.error.take(), cause: raw.cause.take() })
            }
        }
    }

    fn branches(&mut self, path: &str, raw: Vec<RawWorkflow>) -> Result<Vec<Workflow>, Fault> {
        let mut branches = Vec::new();
        for (index, branch) in raw.into_iter().enumerate() {
            let path = join(path, &format!("Branches[{index}]"));
            if branch.processor_config.is_some() {
                return fault(&path, "a branch has no ProcessorConfig");
            }
            branches.push(self.workflow(&path, branch.start_at, branch.states));
        }
        if branches.is_empty() {
            return fault(path, "a Parallel needs at least one branch in Branches");
        }
        Ok(branches)
    }

    fn map(&mut self, path: &str, raw: &mut RawState) -> Result<MapState, Fault> {
        let Some(processor) = raw.item_processor.take() else {
            return fault(path, "a Map needs an ItemProcessor");
        };
        let processor_path = join(path, "ItemProcessor");
        if processor.processor_config.as_ref().is_some_and(|config| config.mode != "INLINE") {
            return fault(&processor_path, "only ProcessorConfig.Mode INLINE is emulated");
        }
        compile_some(&join(path, "Items"), raw.items.as_ref())?;
        compile_some(&join(path, "ItemSelector"), raw.item_selector.as_ref())?;
        whole_number(&join(path, "MaxConcurrency"), raw.max_concurrency.as_ref(), 0)?;
        Ok(MapState {
            processor: self.workflow(&processor_path, processor.start_at, processor.states),
            items: raw.items.take(),
            selector: raw.item_selector.take(),
            max_concurrency: raw.max_concurrency.take(),
        })
    }
}

fn task(path: &str, raw: &mut RawState) -> Result<Task, Fault> {
    let Some(arn) = &raw.resource else { return fault(path, "a Task needs a Resource") };
    let resource = Resource::parse(arn).or_else(|reason| fault(&join(path, "Resource"), reason))?;
    if let Some(arguments) = &raw.arguments {
        resource.check(arguments).or_else(|reason| fault(&join(path, "Arguments"), reason))?;
    }
    let (timeout, heartbeat) = (raw.timeout_seconds.take(), raw.heartbeat_seconds.take());
    whole_number(&join(path, "TimeoutSeconds"), timeout.as_ref(), 1)?;
    whole_number(&join(path, "HeartbeatSeconds"), heartbeat.as_ref(), 1)?;
    let number = |value: &Option<Value>| value.as_ref().and_then(Value::as_u64);
    if let (Some(timeout), Some(heartbeat)) = (number(&timeout), number(&heartbeat))
        && heartbeat >= timeout
    {
        return fault(&join(path, "HeartbeatSeconds"), "it must be less than TimeoutSeconds");
    }
    Ok(Task { resource, arguments: raw.arguments.take(), timeout, heartbeat })
}

fn choices(path: &str, rules: &[Rule]) -> Result<(), Fault> {
    if rules.is_empty() {
        return fault(path, "a Choice needs at least one rule in Choices");
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = join(path, &format!("Choices[{index}]"));
        compile(&join(&path, "Condition"), &rule.condition)?;
        if !rule.condition.is_boolean() && !query::is_expression(&rule.condition) {
            return fault(&join(&path, "Condition"), "it must be a JSONata expression");
        }
        compile_map(&join(&path, "Assign"), &rule.assign)?;
        compile_some(&join(&path, "Output"), rule.output.as_ref())?;
    }
    Ok(())
}

fn wait(path: &str, raw: &mut RawState) -> Result<Kind, Fault> {
    match (raw.seconds.take(), raw.timestamp.take()) {
        (Some(seconds), None) => {
            whole_number(&join(path, "Seconds"), Some(&seconds), 0)?;
            Ok(Kind::WaitSeconds(seconds))
        }
        (None, Some(timestamp)) => {
            compile(&join(path, "Timestamp"), &timestamp)?;
            Ok(Kind::WaitUntil(timestamp))
        }
        _ => fault(path, "a Wait needs either Seconds or Timestamp"),
    }
}

/// Whether the workflow ends at this state.
fn ends(state: &Map<String, Value>) -> bool {
    let is_final = |kind: &str| ["Succeed", "Fail"].contains(&kind);
    state.get("End") == Some(&Value::Bool(true))
        || state.get("Type").and_then(Value::as_str).is_some_and(is_final)
}

fn unsupported(field: &str) -> String {
    if NOT_EMULATED.contains(&field) {
        format!("{field} is not emulated by the local cloud")
    } else {
        format!("Field '{field}' is not supported")
    }
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.into() } else { format!("{path}.{field}") }
}

/// Checks that every next state exists and that every state can be reached.
fn connected(path: &str, workflow: &Workflow, faults: &mut Vec<Fault>) {
    const CODE: &str = "MISSING_TRANSITION_TARGET";
    let mut exists = |path: String, next: &str| {
        if !workflow.states.contains_key(next) {
            faults.push(Fault { code: CODE, path, reason: format!("Missing 'Next' target: {next}") });
        }
    };
    exists(join(path, "StartAt"), &workflow.start_at);
    let mut reached = BTreeSet::from([workflow.start_at.as_str()]);
    let mut open = vec![workflow.start_at.as_str()];
    while let Some(name) = open.pop() {
        for (field, next) in workflow.states.get(name).map(State::targets).unwrap_or_default() {
            exists(join(path, &format!("States.{name}.{field}")), next);
            if reached.insert(next) {
                open.push(next);
            }
        }
    }
    for name in workflow.states.keys().filter(|name| !reached.contains(name.as_str())) {
        let reason = format!("State \"{name}\" is not reachable.");
        faults.push(Fault { code: CODE, path: join(path, &format!("States.{name}")), reason });
    }
}

/// Checks that no inner scope assigns a variable of an outer one.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/workflow-variables.html>
fn unshadowed(workflow: &Workflow, outer: &BTreeSet<&str>) -> Result<(), Fault> {
    let mut visible = outer.clone();
    for (name, state) in &workflow.states {
        for variable in state.assigned() {
            if outer.contains(variable.as_str()) {
                let reason =
                    format!("${variable} is a variable of an outer scope; an inner one needs another name");
                return fault(&format!("States.{name}.Assign"), reason);
            }
            visible.insert(variable);
        }
    }
    for state in workflow.states.values() {
        match &state.kind {
            Kind::Parallel { branches, .. } => {
                for branch in branches {
                    unshadowed(branch, &visible)?;
                }
            }
            Kind::Map(map) => unshadowed(&map.processor, &visible)?,
            _ => {}
        }
    }
    Ok(())
}

/// Checks Retry and Catch. `States.ALL` must stand alone, in the last retrier or catcher.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>
fn recoveries(path: &str, retry: &[Retrier], catch: &[Catcher]) -> Result<(), Fault> {
    let check = |field: &str, index: usize, count: usize, names: &[String]| {
        let path = join(path, &format!("{field}[{index}]"));
        if names.is_empty() {
            return fault(&path, "ErrorEquals must not be empty");
        }
        let all = names.iter().any(|name| name == "States.ALL");
        if all && (names.len() > 1 || index + 1 < count) {
            return fault(&path, "States.ALL must stand alone, and last");
        }
        Ok(())
    };
    for (index, retrier) in retry.iter().enumerate() {
        check("Retry", index, retry.len(), &retrier.error_equals)?;
        let path = join(path, &format!("Retry[{index}]"));
        if retrier.backoff_rate < 1.0 {
            return fault(&path, "BackoffRate must be 1.0 or more");
        }
        if !(1..=MAX_NUMBER).contains(&retrier.interval_seconds) {
            return fault(&path, format!("IntervalSeconds must be between 1 and {MAX_NUMBER}"));
        }
        if retrier.max_attempts > MAX_NUMBER {
            return fault(&path, format!("MaxAttempts must be between 0 and {MAX_NUMBER}"));
        }
        if retrier.max_delay_seconds.is_some_and(|seconds| !(1..31_622_400).contains(&seconds)) {
            return fault(&path, "MaxDelaySeconds must be greater than 0 and less than 31622400");
        }
    }
    for (index, catcher) in catch.iter().enumerate() {
        check("Catch", index, catch.len(), &catcher.error_equals)?;
        let path = join(path, &format!("Catch[{index}]"));
        compile_map(&join(&path, "Assign"), &catcher.assign)?;
        compile_some(&join(&path, "Output"), catcher.output.as_ref())?;
    }
    Ok(())
}

/// AWS takes no more seconds, attempts or iterations.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/state-task.html>
const MAX_NUMBER: u64 = 99_999_999;

fn whole_number(path: &str, value: Option<&Value>, least: u64) -> Result<(), Fault> {
    let fits = |number: u64| (least..=MAX_NUMBER).contains(&number);
    match value {
        None => Ok(()),
        Some(Value::Number(number)) if number.as_u64().is_some_and(fits) => Ok(()),
        Some(value) if query::is_expression(value) => compile(path, value),
        Some(value) => fault(
            path,
            format!(
                "{value} is neither a whole number from {least} to {MAX_NUMBER} nor a JSONata expression"
            ),
        ),
    }
}

fn compile_some(path: &str, template: Option<&Value>) -> Result<(), Fault> {
    template.map_or(Ok(()), |template| compile(path, template))
}

fn compile(path: &str, template: &Value) -> Result<(), Fault> {
    query::check(template, path).map_err(|(code, path, reason)| Fault { code, path, reason })
}

/// Variable names: <https://docs.aws.amazon.com/step-functions/latest/dg/workflow-variables.html>
fn compile_map(path: &str, assign: &Map<String, Value>) -> Result<(), Fault> {
    for (name, template) in assign {
        let well_formed = name.chars().next().is_some_and(|first| first.is_alphabetic() || first == '_')
            && name.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
            && name.chars().count() <= 80;
        if !well_formed || name == "states" {
            return fault(path, format!("{name:?} cannot be the name of a variable"));
        }
        compile(&join(path, name), template)?;
    }
    Ok(())
}
