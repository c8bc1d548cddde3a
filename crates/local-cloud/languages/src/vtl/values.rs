//! Values as Velocity writes, compares and combines them.

use std::cmp::Ordering;

use serde_json::{Number, Value, json};

use super::ast::Operator;

/// Why a template cannot be rendered.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RenderError {
    /// `$input.path` or `$input.json` on a body that is not JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    #[error("{0}")]
    Failed(String),
}

/// Writes a value: a text as it is, a map as Java does, a list as JSON. The guide is silent; recorded on AWS
/// by LocalStack, template_mapping.py: `{a=1, b=[{"c":5}]}`.
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

/// Writes a number as Java's `Double.toString`: in "computerized scientific notation" below 0.001 and from
/// ten million on.
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

/// Applies an operator to two values; `And` and `Or` are conditions, and not applied here.
pub(super) fn binary(operator: Operator, left: &Value, right: &Value) -> Value {
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

/// The numbers from `first` to `last`, up or down, both included; null for anything but whole numbers.
pub(super) fn range(first: &Value, last: &Value) -> Result<Value, RenderError> {
    // Java holds them in an `Integer`.
    let integer = |value: &Value| value.as_i64().filter(|number| i32::try_from(*number).is_ok());
    let Some((first, last)) = integer(first).zip(integer(last)) else { return Ok(Value::Null) };
    if first.abs_diff(last) > 10_000 {
        return Err(RenderError::Failed("a range of more than 10,000 numbers".into()));
    }
    Ok(if first <= last { (first..=last).collect() } else { (last..=first).rev().collect() })
}
