//! Template parameters: their values, given or by default, checked against their constraints.
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html>

use std::collections::BTreeMap;

use cloud_core::resource::Refusal;
use regex::Regex;
use serde_json::{Map, Value};

use crate::template::document::object;
use crate::template::place::Place;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parameter {
    /// The given value, or the default.
    pub text: String,
    /// The value of `Ref`: a text, a number, or a list.
    pub value: Value,
    /// The API never shows the value.
    pub no_echo: bool,
}

/// Gives every declared parameter its value.
pub(crate) fn resolve(
    declared: &Map<String, Value>,
    given: &BTreeMap<String, String>,
    place: &Place,
) -> Result<BTreeMap<String, Parameter>, Refusal> {
    let at = place.key("Parameters");
    if let Some(unknown) = given.keys().find(|name| !declared.contains_key(*name)) {
        return Err(at.key(unknown).refuse("a value is given, but the template has no such parameter"));
    }
    declared
        .iter()
        .map(|(name, declaration)| {
            let at = at.key(name);
            let declaration = object(declaration.clone(), &at)?;
            Ok((name.clone(), parameter(&declaration, given.get(name), &at)?))
        })
        .collect()
}

fn parameter(
    declaration: &Map<String, Value>,
    given: Option<&String>,
    at: &Place,
) -> Result<Parameter, Refusal> {
    at.check_keys(declaration, &KEYS, "is not known in a parameter")?;
    let text = match (given, declaration.get("Default")) {
        (Some(given), _) => given.clone(),
        (None, Some(default)) => {
            scalar(default).ok_or_else(|| at.key("Default").refuse("must be a scalar"))?
        }
        (None, None) => return Err(at.refuse("has no default and must have a value")),
    };
    let value = typed(declaration, &text, at)?;
    check(declaration, &text, &value, at)?;
    let no_echo = declaration.get("NoEcho").and_then(scalar).is_some_and(|flag| flag == "true");
    Ok(Parameter { text, value, no_echo })
}

#[rustfmt::skip]
const KEYS: [&str; 11] = [
    "Type", "Default", "Description", "NoEcho", "AllowedValues", "AllowedPattern", "ConstraintDescription",
    "MinLength", "MaxLength", "MinValue", "MaxValue",
];

fn typed(declaration: &Map<String, Value>, text: &str, at: &Place) -> Result<Value, Refusal> {
    let kind = declaration.get("Type").and_then(Value::as_str).unwrap_or_default();
    let items = || text.split(',').map(str::trim);
    Ok(match kind {
        "String" => Value::from(text),
        "Number" => number(text, at)?,
        "CommaDelimitedList" => items().collect(),
        "List<Number>" => items().map(|item| number(item, at)).collect::<Result<_, _>>()?,
        "" => return Err(at.key("Type").refuse("is missing")),
        other => return Err(at.key("Type").refuse(format!("the parameter type {other} is not emulated"))),
    })
}

fn number(text: &str, at: &Place) -> Result<Value, Refusal> {
    match serde_json::from_str(text) {
        Ok(Value::Number(number)) => Ok(Value::Number(number)),
        _ => Err(at.refuse(format!("{text:?} is not a number"))),
    }
}

fn check(declaration: &Map<String, Value>, text: &str, value: &Value, at: &Place) -> Result<(), Refusal> {
    let explained = |rule: String| {
        let why = declaration.get("ConstraintDescription").and_then(Value::as_str);
        at.refuse(format!("{text:?} {rule}{}", why.map(|why| format!(": {why}")).unwrap_or_default()))
    };
    if let Some(allowed) = declaration.get("AllowedValues") {
        let allowed: Vec<String> = allowed.as_array().into_iter().flatten().filter_map(scalar).collect();
        // Each member of a list must be allowed.
        let members: Vec<String> = match value {
            Value::Array(items) => items.iter().filter_map(scalar).collect(),
            _ => vec![text.to_owned()],
        };
        if !members.iter().all(|member| allowed.contains(member)) {
            return Err(explained(format!("is not one of {}", allowed.join(", "))));
        }
    }
    if let Some(pattern) = declaration.get("AllowedPattern") {
        let pattern = pattern.as_str().unwrap_or_default();
        // "The pattern must match the entire parameter value provided."
        let regex = Regex::new(&format!("^(?:{pattern})$"))
            .map_err(|error| at.key("AllowedPattern").refuse(error.to_string()))?;
        if !regex.is_match(text) {
            return Err(explained(format!("does not match {pattern}")));
        }
    }
    let length = text.chars().count() as f64;
    let size = value.as_f64().unwrap_or_default();
    for (key, measured, at_least) in [
        ("MinLength", length, true),
        ("MaxLength", length, false),
        ("MinValue", size, true),
        ("MaxValue", size, false),
    ] {
        if let Some(limit) = declaration.get(key) {
            let limit: f64 = scalar(limit)
                .and_then(|limit| limit.parse().ok())
                .ok_or_else(|| at.key(key).refuse("must be a number"))?;
            if measured != limit && (measured > limit) != at_least {
                return Err(explained(format!("is outside {key} {limit}")));
            }
        }
    }
    Ok(())
}

/// The text of a scalar, as CloudFormation writes it into strings.
pub(crate) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resolved(declaration: Value, given: Option<&str>) -> Result<Value, String> {
        let declared = Map::from_iter([("P".to_owned(), declaration)]);
        let given = given.map(|text| ("P".to_owned(), text.to_owned())).into_iter().collect();
        resolve(&declared, &given, &Place::file("t.yaml"))
            .map(|all| all["P"].value.clone())
            .map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn a_value_wins_over_the_default_and_one_of_them_must_be_there() {
        let declaration = json!({ "Type": "String", "Default": "a" });
        assert_eq!(resolved(declaration.clone(), None), Ok(json!("a")));
        assert_eq!(resolved(declaration, Some("b")), Ok(json!("b")));
        let refusal = resolved(json!({ "Type": "String" }), None).unwrap_err();
        assert!(refusal.starts_with("t.yaml: Parameters.P: has no default"), "{refusal}");
    }

    #[test]
    fn every_constraint_holds() {
        for (declaration, good, bad) in [
            (json!({ "Type": "String", "AllowedValues": ["a", "b"] }), "a", "c"),
            (json!({ "Type": "Number", "AllowedValues": [1, 2] }), "2", "3"),
            (json!({ "Type": "String", "AllowedPattern": "[a-z]+" }), "abc", "abc1"),
            (json!({ "Type": "String", "MinLength": 2 }), "ab", "a"),
            (json!({ "Type": "String", "MaxLength": "2" }), "ab", "abc"),
            (json!({ "Type": "Number", "MinValue": 2 }), "2", "1"),
            (json!({ "Type": "Number", "MaxValue": 2 }), "1.5", "2.5"),
            (json!({ "Type": "Number" }), "-1", "one"),
            (json!({ "Type": "CommaDelimitedList", "AllowedValues": ["a", "b"] }), "b, a", "a,c"),
        ] {
            assert!(resolved(declaration.clone(), Some(good)).is_ok(), "{declaration} {good}");
            assert!(resolved(declaration.clone(), Some(bad)).is_err(), "{declaration} {bad}");
        }
    }

    #[test]
    fn numbers_and_lists_are_typed_for_ref() {
        assert_eq!(resolved(json!({ "Type": "Number", "Default": "30" }), None), Ok(json!(30)));
        assert_eq!(resolved(json!({ "Type": "CommaDelimitedList" }), Some("a, b")), Ok(json!(["a", "b"])));
        assert_eq!(resolved(json!({ "Type": "List<Number>" }), Some("1,2")), Ok(json!([1, 2])));
    }

    #[test]
    fn a_type_or_key_that_is_not_emulated_is_refused() {
        let refusal = resolved(json!({ "Type": "AWS::SSM::Parameter::Value<String>", "Default": "x" }), None)
            .unwrap_err();
        assert!(refusal.contains("Parameters.P.Type") && refusal.contains("AWS::SSM"), "{refusal}");
        assert!(resolved(json!({ "Type": "String", "Default": "x", "Min": 1 }), None).is_err());
        let refusal =
            resolve(&Map::new(), &[("Q".to_owned(), "1".to_owned())].into(), &Place::file("t.yaml"));
        assert!(refusal.is_err());
    }
}
