//! Renders a template. An unresolved reference renders as its own text, as in Velocity.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::ast::{Expression, Node, Operator, Reference, Step};
use super::context::{self, OverrideTarget, override_target};
use super::functions;
use super::json_path::JsonPath;
use super::parameters::Parameters;
use super::values::{RenderError, binary, range, text_of};

/// The overrides of the response.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    pub status: Option<u16>,
    pub headers: Vec<(String, String)>,
}

/// The values that a template can read, and the variables and overrides that it sets.
#[derive(Debug)]
pub struct Scope<'a> {
    body: &'a str,
    parsed: Option<Value>,
    parameters: &'a Parameters,
    context: &'a Value,
    stage_variables: &'a Value,
    variables: HashMap<String, Value>,
    pub overrides: Overrides,
}

impl<'a> Scope<'a> {
    /// `body` is the request's, or that of the integration's answer.
    pub fn new(
        body: &'a str,
        parameters: &'a Parameters,
        context: &'a Value,
        stage_variables: &'a Value,
    ) -> Self {
        Self {
            body,
            parsed: None,
            parameters,
            context,
            stage_variables,
            variables: HashMap::new(),
            overrides: Overrides::default(),
        }
    }

    pub(super) fn render(&mut self, nodes: &[Node]) -> Result<String, RenderError> {
        let mut output = String::new();
        self.nodes(nodes, &mut output)?;
        Ok(output)
    }

    fn nodes(&mut self, nodes: &[Node], output: &mut String) -> Result<(), RenderError> {
        for node in nodes {
            match node {
                Node::Text(text) => output.push_str(text),
                Node::Reference(reference) => match self.reference(reference)? {
                    Value::Null if reference.quiet => {}
                    Value::Null => output.push_str(&reference.source),
                    value => output.push_str(&text_of(&value)),
                },
                Node::Set(target, value) => {
                    let value = self.expression(value)?;
                    self.assign(target, value)?;
                }
                Node::If { branches, otherwise } => {
                    let mut chosen = otherwise;
                    for (condition, body) in branches {
                        if self.condition(condition)? {
                            chosen = body;
                            break;
                        }
                    }
                    self.nodes(chosen, output)?;
                }
                Node::Foreach { variable, list, body } => self.foreach(variable, list, body, output)?,
            }
        }
        Ok(())
    }

    fn foreach(
        &mut self,
        variable: &str,
        list: &Expression,
        body: &[Node],
        output: &mut String,
    ) -> Result<(), RenderError> {
        // Velocity walks over a map's values.
        let items: Vec<Value> = match self.expression(list)? {
            Value::Array(items) => items,
            Value::Object(entries) => entries.into_iter().map(|(_, value)| value).collect(),
            _ => Vec::new(),
        };
        let names = [variable, "foreach"];
        let outer = names.map(|name| self.variables.remove(name));
        let last = items.len();
        for (index, item) in items.into_iter().enumerate() {
            self.variables.insert(variable.to_owned(), item);
            let state = json!({
                "index": index, "count": index + 1, "hasNext": index + 1 < last,
                "first": index == 0, "last": index + 1 == last,
            });
            self.variables.insert("foreach".to_owned(), state);
            self.nodes(body, output)?;
        }
        for (name, value) in names.into_iter().zip(outer) {
            match value {
                Some(value) => self.variables.insert(name.to_owned(), value),
                None => self.variables.remove(name),
            };
        }
        Ok(())
    }

    fn assign(&mut self, target: &Reference, value: Value) -> Result<(), RenderError> {
        if target.root != "context" {
            // Velocity 1.7 leaves a variable as it was when the new value is null.
            if !value.is_null() {
                self.variables.insert(target.root.clone(), value);
            }
            return Ok(());
        }
        match override_target(&target.steps) {
            Some(OverrideTarget::Status) => {
                if self.overrides.status.is_some() {
                    return Err(overridden_twice("status"));
                }
                // AWS ignores a value that is no status from 100 to 599 (recorded by LocalStack,
                // integration_response.py).
                self.overrides.status =
                    text_of(&value).parse().ok().filter(|status| (100..600).contains(status));
            }
            Some(OverrideTarget::Header(name)) => {
                if self.overrides.headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                    return Err(overridden_twice(name));
                }
                self.overrides.headers.push((name.to_owned(), text_of(&value)));
            }
            None => {}
        }
        Ok(())
    }

    fn expression(&mut self, expression: &Expression) -> Result<Value, RenderError> {
        Ok(match expression {
            Expression::Integer(number) => json!(number),
            Expression::Decimal(number) => json!(number),
            Expression::Boolean(boolean) => json!(boolean),
            Expression::Text(text) => json!(text),
            Expression::Interpolated(nodes) => json!(self.render(nodes)?),
            Expression::List(members) => Value::Array(self.expressions(members)?),
            Expression::Map(entries) => {
                let mut map = Map::new();
                for (key, value) in entries {
                    map.insert(text_of(&self.expression(key)?), self.expression(value)?);
                }
                Value::Object(map)
            }
            Expression::Range(first, last) => range(&self.expression(first)?, &self.expression(last)?)?,
            Expression::Reference(reference) => self.reference(reference)?,
            Expression::Not(inner) => json!(!self.condition(inner)?),
            Expression::Binary(Operator::And, left, right) => {
                json!(self.condition(left)? && self.condition(right)?)
            }
            Expression::Binary(Operator::Or, left, right) => {
                json!(self.condition(left)? || self.condition(right)?)
            }
            Expression::Binary(operator, left, right) => {
                let mut values = (self.expression(left)?, self.expression(right)?);
                if *operator == Operator::Add && (values.0.is_string() || values.1.is_string()) {
                    values = (or_source(values.0, left), or_source(values.1, right));
                }
                binary(*operator, &values.0, &values.1)
            }
        })
    }

    fn expressions(&mut self, expressions: &[Expression]) -> Result<Vec<Value>, RenderError> {
        expressions.iter().map(|expression| self.expression(expression)).collect()
    }

    /// Whether a condition holds. In Velocity 1.7 null and false are false, and an empty text is true; a
    /// literal and arithmetic count as false, and are not evaluated.
    fn condition(&mut self, expression: &Expression) -> Result<bool, RenderError> {
        Ok(match expression {
            Expression::Reference(reference) => {
                !matches!(self.reference(reference)?, Value::Null | Value::Bool(false))
            }
            Expression::Boolean(truth) => *truth,
            Expression::Not(inner) => !self.condition(inner)?,
            Expression::Binary(operator, ..) if !operator.is_arithmetic() => {
                self.expression(expression)? == Value::Bool(true)
            }
            _ => false,
        })
    }

    fn reference(&mut self, reference: &Reference) -> Result<Value, RenderError> {
        let (mut value, rest) = self.root(reference)?;
        for step in rest {
            value = match step {
                Step::Property(name) => value.get(name.as_str()).cloned().unwrap_or(Value::Null),
                Step::Index(index) => {
                    let index = self.expression(index)?;
                    functions::index(&value, &index)?
                }
                Step::Method(name, arguments) => {
                    functions::method(&value, name, &self.expressions(arguments)?)?
                }
            };
        }
        Ok(value)
    }

    /// The value of the root, with the steps that only the root reads, and the rest of the steps.
    fn root<'r>(&mut self, reference: &'r Reference) -> Result<(Value, &'r [Step]), RenderError> {
        let steps = reference.steps.as_slice();
        Ok(match (reference.root.as_str(), steps) {
            // API Gateway puts `{}` in the place of an empty body (recorded on AWS:
            // localstack/localstack pull request 12413).
            ("input", [Step::Property(_), rest @ ..]) if self.body.is_empty() => (json!("{}"), rest),
            ("input", [Step::Property(_), rest @ ..]) => (json!(self.body), rest),
            ("input", [Step::Method(name, arguments), rest @ ..]) => (self.input(name, arguments)?, rest),
            ("util", [Step::Method(name, arguments), rest @ ..]) => {
                let argument = self.expressions(arguments)?.into_iter().next().unwrap_or_default();
                (functions::util(name, &argument)?, rest)
            }
            ("context", _) => {
                let Some((names, rest)) = context::member(steps) else { return Ok((Value::Null, &[])) };
                let found = names.iter().try_fold(self.context, |value, name| value.get(name));
                (found.cloned().unwrap_or_default(), rest)
            }
            ("stageVariables", _) => (self.stage_variables.clone(), steps),
            (variable, _) => (self.variables.get(variable).cloned().unwrap_or_default(), steps),
        })
    }

    fn input(&mut self, function: &str, arguments: &[Expression]) -> Result<Value, RenderError> {
        let Some(argument) = arguments.first() else {
            return Ok(if function == "params" { self.parameters.as_json() } else { Value::Null });
        };
        let argument = text_of(&self.expression(argument)?);
        if function == "params" {
            return Ok(json!(self.parameters.find(&argument)));
        }
        let path = JsonPath::parse(&argument).map_err(RenderError::Failed)?;
        let found = path.find(self.parsed()?);
        Ok(match function {
            "json" => json!(found.map_or_else(|| "\"\"".to_owned(), Value::to_string)),
            // A path that leads nowhere gives an empty text, as the API Gateway console shows it.
            _ => found.filter(|value| !value.is_null()).cloned().unwrap_or_else(|| json!("")),
        })
    }

    fn parsed(&mut self) -> Result<&Value, RenderError> {
        if self.parsed.is_none() {
            // An absent body counts as an empty object.
            let text = if self.body.trim().is_empty() { "{}" } else { self.body };
            self.parsed =
                Some(serde_json::from_str(text).map_err(|error| RenderError::NotJson(error.to_string()))?);
        }
        Ok(self.parsed.get_or_insert(Value::Null))
    }
}

/// The value; for a reference that is null its source, as Velocity does when it joins texts.
fn or_source(value: Value, expression: &Expression) -> Value {
    match expression {
        Expression::Reference(reference) if value.is_null() => json!(reference.source),
        _ => value,
    }
}

/// "If you try to override the same parameter multiple times, API Gateway returns a 5XX
/// response" (guide, "Override your API's request and response parameters and status codes").
fn overridden_twice(name: &str) -> RenderError {
    RenderError::Failed(format!("{name} is overridden more than once"))
}
