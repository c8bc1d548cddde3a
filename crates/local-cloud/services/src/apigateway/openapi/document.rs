//! Small readers that never overlook a key.

use serde_json::{Map, Value};

/// Why a document was refused: the path in it, and one reason.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::apigateway) struct Invalid {
    pub path: String,
    pub reason: String,
}

impl Invalid {
    /// A refusal at a path.
    pub fn new(path: &str, reason: &str) -> Self {
        Self { path: path.to_owned(), reason: reason.to_owned() }
    }
}

/// Refuses.
pub(super) fn refuse<T>(path: &str, reason: &str) -> Result<T, Invalid> {
    Err(Invalid::new(path, reason))
}

/// A map that has only `known` keys, `inert` ones (they document, or concern what is not
/// here), and `x-` extensions of others than API Gateway, which AWS ignores.
pub(super) fn fields<'v>(
    value: &'v Value,
    path: &str,
    known: &[&str],
    inert: &[&str],
) -> Result<&'v Map<String, Value>, Invalid> {
    let fields = map(value, path)?;
    for key in fields.keys() {
        let foreign = key.starts_with("x-") && !key.starts_with("x-amazon-apigateway");
        if !(known.contains(&key.as_str()) || inert.contains(&key.as_str()) || foreign) {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            return refuse(&path, "is not emulated");
        }
    }
    Ok(fields)
}

pub(super) fn map<'v>(value: &'v Value, path: &str) -> Result<&'v Map<String, Value>, Invalid> {
    value.as_object().ok_or_else(|| Invalid::new(path, "is not a map"))
}

pub(super) fn text<'v>(value: &'v Value, path: &str) -> Result<&'v str, Invalid> {
    value.as_str().ok_or_else(|| Invalid::new(path, "is not a text"))
}

/// A Boolean member; false where it is absent.
pub(super) fn boolean(fields: &Map<String, Value>, key: &str, path: &str) -> Result<bool, Invalid> {
    match fields.get(key) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => refuse(&format!("{path}.{key}"), "is neither true nor false"),
    }
}

/// A status code, written as a number or as a text.
pub(super) fn status(value: &Value, path: &str) -> Result<u16, Invalid> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|status| (100..600).contains(status))
        .ok_or_else(|| Invalid::new(path, "is not a status code"))
}

/// The one template of a response. With several, API Gateway chooses by rules that its guide
/// does not state, so more than one is refused.
pub(super) fn only_template<T, E: ToString>(
    value: &Value,
    path: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<(String, T)>, Invalid> {
    let templates = map(value, path)?;
    if templates.len() > 1 {
        return refuse(path, "more than one response template is not emulated");
    }
    let Some((content_type, template)) = templates.iter().next() else { return Ok(None) };
    let path = format!("{path}.{content_type}");
    let template = parse(text(template, &path)?).map_err(|error| Invalid::new(&path, &error.to_string()))?;
    Ok(Some((content_type.clone(), template)))
}
