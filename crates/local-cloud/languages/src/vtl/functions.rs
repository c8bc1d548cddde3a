//! The functions of `$util`, and the methods of Java's strings, lists and maps.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::values::{RenderError, text_of};

/// The functions of `$util`, each with one argument.
pub(super) const UTIL: [&str; 6] =
    ["urlEncode", "urlDecode", "escapeJavaScript", "base64Encode", "base64Decode", "parseJson"];

/// The methods that can be called on values, with the number of their arguments.
#[rustfmt::skip]
pub(super) const METHODS: [(&str, usize); 27] = [
    ("charAt", 1), ("concat", 1), ("contains", 1), ("containsKey", 1), ("endsWith", 1), ("entrySet", 0),
    ("equals", 1), ("equalsIgnoreCase", 1), ("get", 1), ("indexOf", 1), ("isEmpty", 0), ("keySet", 0),
    ("lastIndexOf", 1), ("length", 0), ("matches", 1), ("replace", 2), ("replaceAll", 2),
    ("replaceFirst", 2), ("size", 0), ("split", 1), ("startsWith", 1), ("substring", 1), ("substring", 2),
    ("toLowerCase", 0), ("toString", 0), ("toUpperCase", 0), ("trim", 0),
];

/// Calls a function of `$util`. Each is documented to take a string, "data" or "stringified JSON". Velocity
/// finds no method for an argument of another type; AWS does not document what it writes then.
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-mapping-template-reference.html#util-template-reference>
pub(super) fn util(name: &str, argument: &Value) -> Result<Value, RenderError> {
    let failed = |reason: String| RenderError::Failed(format!("$util.{name}: {reason}"));
    let Value::String(text) = argument else {
        return Err(failed(format!("takes a string, and `{}` is none", text_of(argument))));
    };
    Ok(match name {
        "urlEncode" => json!(url_encode(text)),
        // Java refuses a `%` that does not begin a valid escape.
        "urlDecode" if text.split('%').skip(1).any(|escape| !is_escape(escape)) => {
            return Err(failed("an incomplete or unknown escape".into()));
        }
        "urlDecode" => json!(form_decode(text)),
        "escapeJavaScript" => json!(escape_java_script(text)),
        "base64Encode" => json!(STANDARD.encode(text.as_bytes())),
        "base64Decode" => {
            let bytes = STANDARD.decode(text.as_bytes()).map_err(|error| failed(error.to_string()))?;
            json!(String::from_utf8_lossy(&bytes))
        }
        "parseJson" => serde_json::from_str(text).map_err(|error| failed(error.to_string()))?,
        _ => return Err(failed("no such function".into())),
    })
}

/// Encodes as `java.net.URLEncoder` with UTF-8: letters, digits and `. - * _` stay, a space becomes `+`, any
/// other byte `%XX`.
pub fn url_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => encoded.push(byte.into()),
            b' ' => encoded.push('+'),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// The reverse of [`url_encode`].
pub fn form_decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// Whether two hexadecimal digits begin the text.
fn is_escape(text: &str) -> bool {
    text.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

/// Escapes as Apache Commons' `escapeJavaScript`, whose effect the guide describes: quotes, the backslash, the
/// slash, control characters, and everything beyond ASCII.
fn escape_java_script(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(ascii @ (b'\'' | b'"' | b'\\' | b'/')) => {
                escaped.push('\\');
                escaped.push(ascii.into());
            }
            Ok(8) => escaped.push_str("\\b"),
            Ok(9) => escaped.push_str("\\t"),
            Ok(10) => escaped.push_str("\\n"),
            Ok(12) => escaped.push_str("\\f"),
            Ok(13) => escaped.push_str("\\r"),
            Ok(ascii @ 32..=126) => escaped.push(ascii.into()),
            _ => escaped.push_str(&format!("\\u{unit:04X}")),
        }
    }
    escaped
}

/// Calls a method on a value; null where the value's type has no such method: Velocity leaves such a call
/// unresolved.
pub(super) fn method(on: &Value, name: &str, arguments: &[Value]) -> Result<Value, RenderError> {
    match (name, arguments) {
        _ if on.is_null() => return Ok(Value::Null),
        ("toString", []) => return Ok(json!(text_of(on))),
        ("equals", [other]) => return Ok(json!(on == other)),
        _ => {}
    }
    match on {
        Value::String(text) => string_method(text, name, arguments),
        Value::Array(items) => list_method(items, name, arguments),
        Value::Object(entries) => Ok(map_method(entries, name, arguments)),
        _ => Ok(Value::Null),
    }
}

/// `$list[0]`: calls `get`. A negative index counts from the end, which only a list has.
pub(super) fn index(on: &Value, index: &Value) -> Result<Value, RenderError> {
    match (on, index.as_i64()) {
        (Value::Array(items), Some(at)) if at < 0 => method(on, "get", &[json!(at + items.len() as i64)]),
        (Value::Null | Value::Object(_) | Value::Array(_), _) => {
            method(on, "get", std::slice::from_ref(index))
        }
        (_, Some(at)) if at < 0 => Err(RenderError::Failed("this has no element at a negative index".into())),
        _ => Ok(Value::Null),
    }
}

/// The methods of a text whose arguments are texts.
#[rustfmt::skip]
const TAKE_TEXTS: [&str; 12] = [
    "concat", "contains", "endsWith", "equalsIgnoreCase", "indexOf", "lastIndexOf", "matches", "replace",
    "replaceAll", "replaceFirst", "split", "startsWith",
];

fn string_method(text: &str, name: &str, arguments: &[Value]) -> Result<Value, RenderError> {
    Ok(match (name, arguments) {
        ("length", []) => json!(text.encode_utf16().count()),
        ("isEmpty", []) => json!(text.is_empty()),
        ("trim", []) => json!(text.trim_matches(|c| c <= ' ')),
        ("toLowerCase", []) => json!(text.to_lowercase()),
        ("toUpperCase", []) => json!(text.to_uppercase()),
        ("charAt", [at]) if at.is_i64() => {
            let at = at.as_u64().unwrap_or(u64::MAX);
            substring(text, at, at.saturating_add(1), name)?
        }
        ("substring", [begin, end @ ..]) if arguments.iter().all(Value::is_i64) => {
            let length = text.encode_utf16().count() as u64;
            let end = end.first().map_or(Some(length), Value::as_u64).unwrap_or(u64::MAX);
            substring(text, begin.as_u64().unwrap_or(u64::MAX), end, name)?
        }
        ("equalsIgnoreCase", [Value::Null]) => json!(false),
        // A number stands for a letter.
        ("indexOf" | "lastIndexOf", [Value::Number(number)]) => {
            let letter =
                number.as_u64().and_then(|number| u32::try_from(number).ok()).and_then(char::from_u32);
            letter.map_or(Ok(json!(-1)), |letter| text_method(text, name, &[letter.to_string().as_str()]))?
        }
        _ if TAKE_TEXTS.contains(&name) && arguments.iter().any(Value::is_null) => {
            return Err(RenderError::Failed(format!("{name}: an argument is null")));
        }
        // Java has no such method for other types.
        _ => match arguments.iter().map(Value::as_str).collect::<Option<Vec<_>>>() {
            Some(texts) => text_method(text, name, &texts)?,
            None => Value::Null,
        },
    })
}

/// The methods of [`TAKE_TEXTS`].
fn text_method(text: &str, name: &str, arguments: &[&str]) -> Result<Value, RenderError> {
    let pattern = |pattern: &str| {
        regex::Regex::new(pattern).map_err(|error| RenderError::Failed(format!("{name}: {error}")))
    };
    Ok(match (name, arguments) {
        ("contains", [part]) => json!(text.contains(part)),
        ("startsWith", [part]) => json!(text.starts_with(part)),
        ("endsWith", [part]) => json!(text.ends_with(part)),
        ("equalsIgnoreCase", [other]) => json!(text.to_lowercase() == other.to_lowercase()),
        ("concat", [other]) => json!(format!("{text}{other}")),
        ("indexOf", [part]) => json!(java_index(text, text.find(part))),
        ("lastIndexOf", [part]) => json!(java_index(text, text.rfind(part))),
        ("replace", [from, to]) => json!(text.replace(from, to)),
        ("matches", [whole]) => json!(pattern(&format!("^(?:{whole})$"))?.is_match(text)),
        ("replaceAll", [from, to]) => json!(pattern(from)?.replace_all(text, java_replacement(to))),
        ("replaceFirst", [from, to]) => json!(pattern(from)?.replace(text, java_replacement(to))),
        ("split", [by]) => json!(split(text, &pattern(by)?)),
        _ => Value::Null,
    })
}

fn split<'t>(text: &'t str, by: &regex::Regex) -> Vec<&'t str> {
    let mut parts: Vec<&str> = by.split(text).collect();
    // An empty match before the first letter separates nothing.
    if parts.len() > 1 && by.find(text).is_some_and(|first| first.is_empty() && first.start() == 0) {
        parts.remove(0);
    }
    // Java drops trailing empty parts, but keeps one of an empty text.
    while parts.len() > 1 && parts.last().is_some_and(|last| last.is_empty()) {
        parts.pop();
    }
    parts
}

/// Java counts UTF-16 units, and says -1 for "not there".
fn java_index(text: &str, at: Option<usize>) -> i64 {
    at.map_or(-1, |at| text[..at].encode_utf16().count() as i64)
}

fn substring(text: &str, begin: u64, end: u64, name: &str) -> Result<Value, RenderError> {
    let units: Vec<u16> = text.encode_utf16().collect();
    let range = usize::try_from(begin).unwrap_or(usize::MAX)..usize::try_from(end).unwrap_or(usize::MAX);
    let part = units.get(range).ok_or_else(|| RenderError::Failed(format!("{name}: index out of range")))?;
    Ok(json!(String::from_utf16_lossy(part)))
}

/// Java writes `$1` and `\$`; the regex crate `${1}` and `$$`.
fn java_replacement(java: &str) -> String {
    let mut replacement = String::new();
    let mut letters = java.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('$') => replacement.push_str("$$"),
                Some(other) => replacement.push(other),
                None => {}
            },
            '$' if letters.peek().is_some_and(char::is_ascii_digit) => {
                replacement.push_str("${");
                replacement.extend(letters.next());
                replacement.push('}');
            }
            '$' => replacement.push_str("$$"),
            other => replacement.push(other),
        }
    }
    replacement
}

fn list_method(items: &[Value], name: &str, arguments: &[Value]) -> Result<Value, RenderError> {
    Ok(match (name, arguments) {
        ("size", []) => json!(items.len()),
        ("isEmpty", []) => json!(items.is_empty()),
        ("contains", [item]) => json!(items.contains(item)),
        ("get", [index]) => match index.as_i64() {
            Some(at) => usize::try_from(at).ok().and_then(|at| items.get(at)).cloned().ok_or_else(|| {
                RenderError::Failed(format!("a list of {} has no element {at}", items.len()))
            })?,
            None => Value::Null,
        },
        ("indexOf", [item]) => {
            json!(items.iter().position(|other| other == item).map_or(-1, |index| index as i64))
        }
        _ => Value::Null,
    })
}

fn map_method(entries: &serde_json::Map<String, Value>, name: &str, arguments: &[Value]) -> Value {
    match (name, arguments) {
        ("size", []) => json!(entries.len()),
        ("isEmpty", []) => json!(entries.is_empty()),
        ("get", [key]) => entries.get(&text_of(key)).cloned().unwrap_or(Value::Null),
        ("containsKey", [key]) => json!(entries.contains_key(&text_of(key))),
        ("keySet", []) => entries.keys().cloned().collect(),
        ("entrySet", []) => entries.iter().map(|(key, value)| json!({"key": key, "value": value})).collect(),
        _ => Value::Null,
    }
}
