//! Reads a pattern's JSON. Refusals and their words follow AWS's own compiler
//! (<https://github.com/aws/event-ruler>, `JsonRuleCompiler`), without the place in the text that it adds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value};

use super::complexity::is_too_complex;
use super::{Field, Test, address, comparable};

/// "The number of rule combinations of an $or must not exceed 1000."
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html#eb-filtering-complex-example-or>
const MAX_COMBINATIONS: usize = 1000;

/// Names that no field inside an `$or` may have.
#[rustfmt::skip]
const OPERATORS: [&str; 9] = [
    "anything-but", "cidr", "equals-ignore-case", "exactly", "exists", "numeric", "prefix", "suffix", "wildcard",
];

const TOO_COMPLEX: &str = "Rule is too complex - try using fewer wildcard characters or fewer repeating character sequences after a wildcard character";
const ONE_KEY: &str = "Only one key allowed in match expression";
const TOO_MANY: &str = "Too many elements in numeric expression";
const NOT_A_VALUE: &str = "Value of anything-but must be an array or single string/number value.";

type Alternatives = Vec<Vec<Field>>;

/// The alternatives of a pattern, one for each combination of its `$or`s.
pub(super) fn alternatives(pattern: &Value) -> Result<Alternatives, String> {
    let object = pattern.as_object().ok_or("Filter is not an object")?;
    let mut alternatives = vec![Vec::new()];
    read_object(object, "", false, &mut alternatives)?;
    Ok(alternatives)
}

fn read_object(
    object: &Map<String, Value>,
    path: &str,
    inside_or: bool,
    alternatives: &mut Alternatives,
) -> Result<(), String> {
    if object.is_empty() {
        return Err("Empty objects are not allowed".into());
    }
    for (name, value) in object {
        if name == "$or" {
            read_or(value, path, alternatives)?;
            continue;
        }
        if inside_or && OPERATORS.contains(&name.as_str()) {
            return Err(format!("{name} is Ruler reserved fieldName which cannot be used inside $or."));
        }
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match value {
            Value::Object(nested) => read_object(nested, &path, inside_or, alternatives)?,
            Value::Array(elements) => {
                let tests = elements.iter().map(read_element).collect::<Result<Vec<_>, _>>()?;
                if tests.is_empty() {
                    return Err("Empty arrays are not allowed".into());
                }
                if is_too_complex(&tests) {
                    return Err(TOO_COMPLEX.into());
                }
                for fields in alternatives.iter_mut() {
                    // If a field is named twice, the last one counts.
                    fields.retain(|field| field.path != path);
                    fields.push(Field { path: path.clone(), tests: tests.clone() });
                }
            }
            _ => return Err(format!("\"{name}\" must be an object or an array")),
        }
    }
    Ok(())
}

fn read_or(branches: &Value, path: &str, alternatives: &mut Alternatives) -> Result<(), String> {
    let branches = branches.as_array().ok_or("It must be an Array followed with $or.")?;
    let mut all = Vec::new();
    for branch in branches {
        let branch = branch.as_object();
        let branch = branch.ok_or("Only JSON object is allowed in array of $or relationship.")?;
        let mut with_branch = alternatives.clone();
        read_object(branch, path, true, &mut with_branch)?;
        all.extend(with_branch);
        if all.len() > MAX_COMBINATIONS {
            return Err(format!("more than {MAX_COMBINATIONS} rule combinations in $or relationships"));
        }
    }
    if branches.len() < 2 {
        return Err("There must have at least 2 Objects in $or relationship.".into());
    }
    *alternatives = all;
    Ok(())
}

fn read_element(element: &Value) -> Result<Test, String> {
    match element {
        Value::String(text) => Ok(Test::Is(text.clone())),
        Value::Number(_) => Ok(number(element)),
        Value::Null | Value::Bool(_) => Ok(Test::Literal(element.clone())),
        Value::Object(expression) => {
            let (operator, operand) = only(expression, "Match expression name not found")?;
            let test = read_expression(operator, operand)?;
            if expression.len() > 1 {
                return Err(ONE_KEY.into());
            }
            Ok(test)
        }
        Value::Array(_) => Err("Match value must be String, number, true, false, or null".into()),
    }
}

/// AWS compares a number that is too large, such as an account id, by its spelling.
fn number(number: &Value) -> Test {
    let compared = number.as_f64().and_then(comparable);
    compared.map_or_else(|| Test::Literal(number.clone()), Test::Number)
}

fn only<'a>(object: &'a Map<String, Value>, none: &str) -> Result<(&'a str, &'a Value), String> {
    let first = object.iter().next().ok_or(none)?;
    Ok((first.0.as_str(), first.1))
}

fn read_expression(operator: &str, operand: &Value) -> Result<Test, String> {
    let text = || {
        let text = operand.as_str().map(str::to_owned);
        text.ok_or_else(|| format!("{operator} match pattern must be a string"))
    };
    match operator {
        "exactly" => operand.as_str().map(|text| Test::Is(text.into())).ok_or_else(|| {
            // Only this message does not contain the operator's name.
            "exact match pattern must be a string".into()
        }),
        "prefix" => Ok(match any_case(operand)? {
            Some(prefix) => Test::PrefixAnyCase(prefix),
            None => Test::Prefix(text()?),
        }),
        "suffix" => Ok(match any_case(operand)? {
            Some(suffix) => Test::SuffixAnyCase(suffix),
            None => Test::Suffix(text()?),
        }),
        "equals-ignore-case" => Ok(Test::AnyCase(text()?.to_lowercase())),
        "wildcard" => wildcard(&text()?),
        "cidr" => cidr(operand.as_str().ok_or("prefix match pattern must be a string")?),
        "numeric" => numeric(operand.as_array().ok_or("Value of numeric must be an array.")?),
        "exists" => match operand {
            Value::Bool(true) => Ok(Test::Exists),
            Value::Bool(false) => Ok(Test::Absent),
            _ => Err("exists match pattern must be either true or false.".into()),
        },
        "anything-but" => anything_but(operand),
        _ => Err(format!("Unrecognized match type {operator}")),
    }
}

/// `{ "equals-ignore-case": "text" }` inside of prefix or suffix.
fn any_case(operand: &Value) -> Result<Option<String>, String> {
    let Some(text) = operand.get("equals-ignore-case").and_then(Value::as_str) else { return Ok(None) };
    match operand.as_object().map(Map::len) {
        Some(1) => Ok(Some(text.to_lowercase())),
        _ => Err(ONE_KEY.into()),
    }
}

fn wildcard(text: &str) -> Result<Test, String> {
    let mut parts = Vec::new();
    let mut bytes = text.bytes().enumerate().peekable();
    // AWS counts positions from the quotation mark before the text.
    while let Some((at, byte)) = bytes.next() {
        let next = bytes.peek().map(|(_, next)| *next);
        match (byte, next) {
            (b'*', Some(b'*')) => return Err(format!("Consecutive wildcard characters at pos {}", at + 1)),
            (b'*', _) => parts.push(None),
            (b'\\', Some(escaped @ (b'*' | b'\\'))) => {
                bytes.next();
                parts.push(Some(escaped));
            }
            (b'\\', _) => return Err(format!("Invalid escape character at pos {}", at + 1)),
            (byte, _) => parts.push(Some(byte)),
        }
    }
    Ok(Test::Wildcard(parts))
}

fn cidr(text: &str) -> Result<Test, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let [base, mask] = parts[..] else { return Err("Malformed CIDR, one '/' required".into()) };
    let mask: i32 = mask.parse().map_err(|_| "Malformed CIDR, mask bits must be an integer")?;
    let mask = u32::try_from(mask).map_err(|_| "Malformed CIDR, mask bits must not be negative")?;
    let from = address(base).ok_or_else(|| format!("Nonstandard IP address: {base}"))?;
    // The range begins with the given address, whatever its last bits are.
    let to = match from {
        IpAddr::V4(_) if mask > 31 => return Err("IPv4 mask bits must be < 32".into()),
        IpAddr::V6(_) if mask > 127 => return Err("IPv6 mask bits must be < 128".into()),
        IpAddr::V4(from) => IpAddr::V4(Ipv4Addr::from(u32::from(from) | (u32::MAX >> mask))),
        IpAddr::V6(from) => IpAddr::V6(Ipv6Addr::from(u128::from(from) | (u128::MAX >> mask))),
    };
    Ok(Test::Cidr(from, to))
}

fn numeric(terms: &[Value]) -> Result<Test, String> {
    let term = |index: usize| terms.get(index).map_or_else(|| "]".into(), written);
    let operator = terms.first().and_then(Value::as_str);
    let operator = operator.ok_or_else(|| format!("Invalid member in numeric match: {}", term(0)))?;
    if !["=", "<", "<=", ">", ">="].contains(&operator) {
        return Err(format!("Unrecognized numeric range operator: {operator}"));
    }
    let first = bound(if operator == "=" { "equals" } else { operator }, terms.get(1))?;
    let alone = |test: Test| if terms.len() > 2 { Err(TOO_MANY.to_owned()) } else { Ok(test) };
    match operator {
        "=" => alone(Test::Number(first)),
        "<" => alone(Test::Range { from: None, to: Some((first, false)) }),
        "<=" => alone(Test::Range { from: None, to: Some((first, true)) }),
        _ => {
            let from = Some((first, operator == ">="));
            if terms.len() == 2 {
                return Ok(Test::Range { from, to: None });
            }
            let operator = terms[2].as_str();
            let operator = operator.ok_or_else(|| format!("Bad value in numeric range: {}", term(2)))?;
            if !["<", "<="].contains(&operator) {
                return Err(format!("Bad numeric range operator: {operator}"));
            }
            let last = bound(operator, terms.get(3))?;
            if terms.len() > 4 {
                return Err("Too many terms in numeric range expression".into());
            }
            if first >= last {
                return Err("Bottom must be less than top".into());
            }
            Ok(Test::Range { from, to: Some((last, operator == "<=")) })
        }
    }
}

fn bound(operator: &str, value: Option<&Value>) -> Result<i64, String> {
    let number =
        value.and_then(Value::as_f64).ok_or_else(|| format!("Value of {operator} must be numeric"))?;
    in_range(number)
}

fn in_range(number: f64) -> Result<i64, String> {
    comparable(number).ok_or_else(|| "Value must be between -5.0E9 and 5.0E9, inclusive".into())
}

/// A token in the form of Java's parser.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(_) => "[".into(),
        Value::Object(_) => "{".into(),
        other => other.to_string(),
    }
}

fn anything_but(operand: &Value) -> Result<Test, String> {
    let values = match operand {
        Value::Object(inner) => {
            let (operator, operand) = only(inner, "Anything-But expression name not found")?;
            let tests = negated(operator, operand)?;
            if inner.len() > 1 {
                return Err(ONE_KEY.into());
            }
            return Ok(Test::AnythingBut(tests));
        }
        Value::Array(values) => values.as_slice(),
        Value::String(_) | Value::Number(_) => std::slice::from_ref(operand),
        Value::Null | Value::Bool(_) => return Err(NOT_A_VALUE.into()),
    };
    if values.iter().any(|value| !value.is_string() && !value.is_number()) {
        return Err("Inside anything but list, start|null|boolean is not supported.".into());
    }
    if values.is_empty() || values.iter().any(Value::is_string) == values.iter().any(Value::is_number) {
        return Err(
            "Inside anything but list, either all values are number or string, mixed type is not supported"
                .into(),
        );
    }
    let test = |value: &Value| match value {
        Value::String(text) => Ok(Test::Is(text.clone())),
        number => in_range(number.as_f64().unwrap_or(f64::NAN)).map(Test::Number),
    };
    values.iter().map(test).collect::<Result<_, _>>().map(Test::AnythingBut)
}

/// The conditions of an `anything-but` with an operator inside.
fn negated(operator: &str, operand: &Value) -> Result<Vec<Test>, String> {
    if !["prefix", "suffix", "wildcard", "equals-ignore-case"].contains(&operator) {
        return Err(format!("Unsupported anything-but pattern: {operator}"));
    }
    let operands = match operand {
        Value::Array(operands) => operands.as_slice(),
        Value::String(_) | Value::Number(_) => std::slice::from_ref(operand),
        _ => return Err(NOT_A_VALUE.into()),
    };
    let test = |operand: &Value| {
        let text = operand.as_str().ok_or(match operator {
            "wildcard" => "wildcard match pattern must be a string",
            "equals-ignore-case" => {
                "Inside anything-but/equals-ignore-case list, number|start|null|boolean is not supported."
            }
            _ => "prefix/suffix match pattern must be a string",
        })?;
        match operator {
            "prefix" | "suffix" if text.is_empty() => Err("Null prefix/suffix not allowed".into()),
            "prefix" => Ok(Test::Prefix(text.into())),
            "suffix" => Ok(Test::Suffix(text.into())),
            "wildcard" => wildcard(text),
            _ => Ok(Test::AnyCase(text.to_lowercase())),
        }
    };
    operands.iter().map(test).collect()
}
