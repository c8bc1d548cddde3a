//! Renders a template. What cannot be resolved renders as its own text, as in Velocity.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde_json::{Map, Number, Value, json};

use super::ast::{Expression, Node, Operator, Reference, Step};
use super::check::{OverrideTarget, override_target, property_path};
use super::{JsonPath, functions};
use crate::vtl::Parameters;

/// What a template sets for the response.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    pub status: Option<u16>,
    pub headers: Vec<(String, String)>,
}

/// Why a template could not be rendered.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RenderError {
    /// `$input.path` or `$input.json` on a body that is not JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// A function refused its argument.
    #[error("{0}")]
    Failed(String),
}

/// What a template can see while it is rendered.
#[derive(Debug)]
pub struct Scope<'a> {
    body: &'a str,
    parsed: Option<Value>,
    parameters: &'a Parameters,
    context: &'a Value,
    stage_variables: &'a Value,
    variables: HashMap<String, Value>,
    /// What the template has overridden so far.
    pub overrides: Overrides,
}

impl<'a> Scope<'a> {
    /// A scope over one body: the request's, or the integration's answer.
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
        let outer = (self.variables.remove(variable), self.variables.remove("foreach"));
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
        self.restore(variable, outer.0);
        self.restore("foreach", outer.1);
        Ok(())
    }

    fn restore(&mut self, variable: &str, value: Option<Value>) {
        match value {
            Some(value) => self.variables.insert(variable.to_owned(), value),
            None => self.variables.remove(variable),
        };
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
                // What is no status from 100 to 599 is ignored (recorded on AWS by LocalStack,
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
            Expression::List(members) => {
                Value::Array(members.iter().map(|member| self.expression(member)).collect::<Result<_, _>>()?)
            }
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
                let (first, second) = (self.expression(left)?, self.expression(right)?);
                // A text is extended by the source of a reference that is null.
                let or_source = |value: Value, expression: &Expression| match expression {
                    Expression::Reference(reference) if value.is_null() => json!(reference.source),
                    _ => value,
                };
                match operator {
                    Operator::Add if second.is_string() => {
                        binary(*operator, &or_source(first, left), &second)
                    }
                    Operator::Add if first.is_string() => {
                        binary(*operator, &first, &or_source(second, right))
                    }
                    _ => binary(*operator, &first, &second),
                }
            }
        })
    }

    /// Whether a condition holds. In Velocity 1.7 only null and false are false, an empty text is
    /// true; but a literal and arithmetic count as false, and are not even evaluated.
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
                    let arguments: Vec<Value> = arguments
                        .iter()
                        .map(|argument| self.expression(argument))
                        .collect::<Result<_, _>>()?;
                    functions::method(&value, name, &arguments)?
                }
            };
        }
        Ok(value)
    }

    /// The value of the root together with the steps that only it understands.
    fn root<'r>(&mut self, reference: &'r Reference) -> Result<(Value, &'r [Step]), RenderError> {
        let steps = reference.steps.as_slice();
        match (reference.root.as_str(), steps) {
            // API Gateway puts `{}` in the place of an empty body (recorded on AWS:
            // localstack/localstack pull request 12413).
            ("input", [Step::Property(_), rest @ ..]) if self.body.is_empty() => Ok((json!("{}"), rest)),
            ("input", [Step::Property(_), rest @ ..]) => Ok((json!(self.body), rest)),
            ("input", [Step::Method(name, arguments), rest @ ..]) => {
                let argument = arguments.first().map(|argument| self.expression(argument)).transpose()?;
                match (name.as_str(), argument) {
                    ("params", None) => Ok((self.parameters.as_json(), rest)),
                    ("params", Some(name)) => Ok((json!(self.parameters.find(&text_of(&name))), rest)),
                    ("json", Some(path)) => Ok((self.input_json(&text_of(&path))?, rest)),
                    (_, Some(path)) => Ok((self.input_path(&text_of(&path))?, rest)),
                    (_, None) => Ok((Value::Null, rest)),
                }
            }
            ("util", [Step::Method(name, arguments), rest @ ..]) => {
                let argument = arguments.first().map(|argument| self.expression(argument)).transpose()?;
                Ok((functions::util(name, &argument.unwrap_or(Value::Null))?, rest))
            }
            ("context", _) => {
                // Two steps where the member is nested (`identity.sourceIp`), one otherwise.
                let nested = steps.len().min(2);
                let length = match property_path(&steps[..nested]) {
                    Some(path) if super::known_context(&path) => nested,
                    _ => 1,
                };
                let found = steps[..length].iter().try_fold(self.context, |value, step| match step {
                    Step::Property(name) => value.get(name.as_str()),
                    _ => None,
                });
                Ok((found.cloned().unwrap_or(Value::Null), &steps[length..]))
            }
            ("stageVariables", _) => Ok((self.stage_variables.clone(), steps)),
            (variable, _) => Ok((self.variables.get(variable).cloned().unwrap_or(Value::Null), steps)),
        }
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

    /// A path that leads nowhere gives an empty text, as the API Gateway console shows it.
    fn input_path(&mut self, path: &str) -> Result<Value, RenderError> {
        let path = JsonPath::parse(path).map_err(RenderError::Failed)?;
        let found = path.find(self.parsed()?).cloned();
        Ok(found.filter(|value| !value.is_null()).unwrap_or_else(|| json!("")))
    }

    /// The JSON text of what stands there; `""` where nothing does.
    fn input_json(&mut self, path: &str) -> Result<Value, RenderError> {
        let path = JsonPath::parse(path).map_err(RenderError::Failed)?;
        let found = path.find(self.parsed()?);
        Ok(json!(found.map_or_else(|| "\"\"".to_owned(), Value::to_string)))
    }
}

/// "If you try to override the same parameter multiple times, API Gateway returns a 5XX
/// response" (guide, "Override your API's request and response parameters and status codes").
fn overridden_twice(name: &str) -> RenderError {
    RenderError::Failed(format!("{name} is overridden more than once"))
}

/// How a value is written: text as it is, a map as Java does, a list as JSON. The guide is
/// silent; recorded on AWS by LocalStack, template_mapping.py: `{a=1, b=[{"c":5}]}`.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(entries) => {
            let entries: Vec<_> =
                entries.iter().map(|(key, value)| format!("{key}={}", text_of(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Number(number) if number.is_f64() => java_double(number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

/// How Java's `Double.toString` writes a number: "computerized scientific notation" below 0.001 and
/// from ten million on.
/// <https://docs.oracle.com/en/java/javase/21/docs/api/java.base/java/lang/Double.html#toString(double)>
fn java_double(number: f64) -> String {
    if number == 0.0 || (1e-3..1e7).contains(&number.abs()) {
        return format!("{number:?}");
    }
    let text = format!("{number:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

fn binary(operator: Operator, left: &Value, right: &Value) -> Value {
    match operator {
        Operator::Equal => json!(equal(left, right)),
        Operator::NotEqual => json!(!equal(left, right)),
        Operator::Less => json!(order(left, right).is_some_and(Ordering::is_lt)),
        Operator::LessOrEqual => json!(order(left, right).is_some_and(Ordering::is_le)),
        Operator::Greater => json!(order(left, right).is_some_and(Ordering::is_gt)),
        Operator::GreaterOrEqual => json!(order(left, right).is_some_and(Ordering::is_ge)),
        Operator::Add if left.is_string() || right.is_string() => {
            json!(format!("{}{}", text_of(left), text_of(right)))
        }
        _ => arithmetic(operator, left, right).map_or(Value::Null, Value::Number),
    }
}

/// Values of different kinds are equal when their texts are.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Null, _) | (_, Value::Null) => left == right,
        (Value::Number(_), Value::Number(_)) => order(left, right) == Some(Ordering::Equal),
        _ if std::mem::discriminant(left) == std::mem::discriminant(right) => left == right,
        _ => text_of(left) == text_of(right),
    }
}

fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left.as_i64(), right.as_i64()) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

/// Whole numbers stay whole; what has no result (a division by zero) is null.
fn arithmetic(operator: Operator, left: &Value, right: &Value) -> Option<Number> {
    if let (Some(left), Some(right)) = (left.as_i64(), right.as_i64()) {
        let result = match operator {
            Operator::Add => left.checked_add(right),
            Operator::Subtract => left.checked_sub(right),
            Operator::Multiply => left.checked_mul(right),
            Operator::Divide => left.checked_div(right),
            _ => left.checked_rem(right),
        };
        return result.map(Number::from);
    }
    let (left, right) = (left.as_f64()?, right.as_f64()?);
    Number::from_f64(match operator {
        Operator::Add => left + right,
        Operator::Subtract => left - right,
        Operator::Multiply => left * right,
        Operator::Divide => left / right,
        _ => left % right,
    })
}

/// A number that Java holds in an `Integer`.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().filter(|number| i32::try_from(*number).is_ok())
}

/// A range runs in both directions and includes both ends; of anything but whole numbers it is null.
fn range(first: &Value, last: &Value) -> Result<Value, RenderError> {
    let Some((first, last)) = integer(first).zip(integer(last)) else { return Ok(Value::Null) };
    if first.abs_diff(last) > 10_000 {
        return Err(RenderError::Failed("a range of more than 10,000 numbers".into()));
    }
    Ok(if first <= last { (first..=last).collect() } else { (last..=first).rev().collect() })
}
