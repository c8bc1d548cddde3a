//! What the API actions of all services share: reading an input, constraints in AWS's words, pages and tags.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::AwsError;

/// What is wrong with an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// A member that the action needs is missing.
    Missing(String),
    /// The action has no such member, or it is not emulated.
    Unknown(String),
    /// A member has a value of the wrong type.
    Malformed(String),
}

impl Unread {
    fn of(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        let named =
            |before: &str| text.strip_prefix(before)?.split_once('`').map(|(name, _)| name.to_owned());
        match (named("missing field `"), named("unknown field `")) {
            (Some(name), _) => Self::Missing(name),
            (_, Some(name)) => Self::Unknown(name),
            _ => Self::Malformed(text),
        }
    }

    /// The refusal of most services: `code` for a member that is missing or not emulated,
    /// `SerializationException` for a wrong type.
    pub fn refused(self, code: &str) -> AwsError {
        match self {
            Self::Missing(mut member) => {
                // A constraint names a member in camel case, however the input spells it.
                member.get_mut(..1).map(str::make_ascii_lowercase);
                AwsError::client(code, violation_of(&format!("Value null at '{member}'"), NOT_NULL))
            }
            Self::Unknown(member) => {
                AwsError::client(code, format!("The parameter {member} is not emulated by the local cloud."))
            }
            Self::Malformed(text) => AwsError::client("SerializationException", text),
        }
    }
}

/// Reads an input whose type denies unknown members; `code` is the service's for a bad parameter.
///
/// # Errors
/// As [`Unread::refused`].
pub fn read<T: DeserializeOwned>(input: Value, code: &str) -> Result<T, AwsError> {
    read_or(input, |unread| unread.refused(code))
}

/// Reads an input, for a service with errors of its own.
///
/// # Errors
/// What `refuse` makes of it.
pub fn read_or<T: DeserializeOwned>(
    input: Value,
    refuse: impl FnOnce(Unread) -> AwsError,
) -> Result<T, AwsError> {
    serde_json::from_value(input).map_err(|error| refuse(Unread::of(&error)))
}

/// The constraint of a required member.
pub const NOT_NULL: &str = "Member must not be null";

/// The sentence of a broken constraint; `what` is for example `Value at 'names'`, where AWS leaves a value out.
pub fn violation_of(what: &str, constraint: &str) -> String {
    format!("1 validation error detected: {what} failed to satisfy constraint: {constraint}")
}

/// The sentence of a value that breaks a constraint.
pub fn violation(value: impl Display, member: &str, constraint: &str) -> String {
    violation_of(&format!("Value '{value}' at '{member}'"), constraint)
}

/// The same as the `ValidationException` that most services answer.
pub fn violated(value: impl Display, member: &str, constraint: &str) -> AwsError {
    AwsError::client("ValidationException", violation(value, member, constraint))
}

/// The refusal of a required member that is missing.
pub fn missing(member: &str) -> AwsError {
    Unread::Missing(member.into()).refused("ValidationException")
}

/// Checks the length of a text, in characters.
///
/// # Errors
/// The sentence of the constraint that is broken.
pub fn check_length(member: &str, value: &str, length: RangeInclusive<usize>) -> Result<(), String> {
    let (least, most) = (length.start(), length.end());
    match value.chars().count() {
        count if count < *least => {
            let constraint = format!("Member must have length greater than or equal to {least}");
            Err(violation(value, member, &constraint))
        }
        count if count > *most => {
            let constraint = format!("Member must have length less than or equal to {most}");
            Err(violation(value, member, &constraint))
        }
        _ => Ok(()),
    }
}

/// Checks a number.
///
/// # Errors
/// The sentence of the constraint that is broken.
pub fn check_number(member: &str, value: i64, range: RangeInclusive<i64>) -> Result<(), String> {
    let (least, most) = (range.start(), range.end());
    if value < *least {
        return Err(violation(
            value,
            member,
            &format!("Member must have value greater than or equal to {least}"),
        ));
    }
    if value > *most {
        return Err(violation(
            value,
            member,
            &format!("Member must have value less than or equal to {most}"),
        ));
    }
    Ok(())
}

/// Checks that a value, where there is one, is in an enumeration.
///
/// # Errors
/// AWS's message for the broken constraint.
pub fn check_enum(member: &str, value: Option<&str>, known: &[&str]) -> Result<(), String> {
    match value.filter(|value| !known.contains(value)) {
        None => Ok(()),
        Some(value) => {
            let constraint = format!("Member must satisfy enum value set: [{}]", known.join(", "));
            Err(violation(value, member, &constraint))
        }
    }
}

/// Checks a name of ASCII letters, digits and the characters of `also`.
///
/// # Errors
/// The sentence of the constraint that is broken.
pub fn check_name(
    member: &str,
    name: &str,
    length: RangeInclusive<usize>,
    also: &str,
    pattern: &str,
) -> Result<(), String> {
    check_length(member, name, length)?;
    if is_name(name, also) {
        return Ok(());
    }
    Err(violation(name, member, &format!("Member must satisfy regular expression pattern: {pattern}")))
}

/// Whether a text has only ASCII letters, digits and the characters of `also`, and at least one of them.
pub fn is_name(name: &str, also: &str) -> bool {
    !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || also.contains(letter))
}

/// The token of the page behind the item with this key; opaque to clients, as AWS's are.
pub fn token(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

/// The key in a token; `None` where no page has given it out.
pub fn key_of(token: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()
}

/// One page of items that are sorted by the key beside each: those behind `after`, `limit` at most, and
/// the token of the next page where there is one.
pub fn page<T>(items: Vec<(String, T)>, after: Option<&str>, limit: usize) -> (Vec<T>, Option<String>) {
    let mut rest = items.into_iter().filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
    let page: Vec<(String, T)> = rest.by_ref().take(limit).collect();
    let next = page.last().map(|(key, _)| token(key)).filter(|_| rest.next().is_some());
    (page.into_iter().map(|(_, item)| item).collect(), next)
}

/// Adds the token of the next page to an answer, where there is one.
pub fn with_token(mut answer: Value, member: &str, next: Option<String>) -> Value {
    if let Some(next) = next {
        answer[member] = next.into();
    }
    answer
}

/// A tag as APIs and templates list it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Tag {
    key: String,
    value: String,
}

/// A list of tags as an object.
pub fn tag_object(tags: Vec<Tag>) -> Value {
    json!(tags.into_iter().map(|tag| (tag.key, tag.value)).collect::<BTreeMap<_, _>>())
}

/// An object of tags as a list.
pub fn tag_list(tags: &Value) -> Value {
    let tags = tags.as_object().into_iter().flatten();
    tags.map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "PascalCase")]
    struct Input {
        #[allow(dead_code, reason = "only its type is looked at")]
        name: String,
    }

    fn refusal(input: Value) -> (String, String) {
        let error = read::<Input>(input, "InvalidParameterException").unwrap_err();
        (error.code, error.message)
    }

    #[test]
    fn an_input_is_refused_in_the_words_of_aws_or_by_the_name_of_its_member() {
        let null = "1 validation error detected: Value null at 'name' failed to satisfy constraint: Member must not be null";
        assert_eq!(refusal(json!({})), ("InvalidParameterException".into(), null.into()));
        let (code, message) = refusal(json!({"Name": "x", "Other": 1}));
        assert_eq!(code, "InvalidParameterException");
        assert_eq!(message, "The parameter Other is not emulated by the local cloud.");
        assert_eq!(refusal(json!({"Name": 1})).0, "SerializationException");
    }

    #[test]
    fn pages_have_no_gaps_and_no_repeats_and_the_last_one_has_no_token() {
        let items = || ["a", "b", "c"].map(|key| (key.to_owned(), key)).to_vec();
        let (first, next) = page(items(), None, 2);
        let after = key_of(&next.unwrap()).unwrap();
        assert_eq!((first, page(items(), Some(&after), 2)), (vec!["a", "b"], (vec!["c"], None)));
        assert_eq!(page(items(), None, 3), (vec!["a", "b", "c"], None));
        assert_eq!(key_of("!"), None);
    }

    #[test]
    fn a_constraint_that_is_broken_is_told_with_its_value_and_bound() {
        let sentence = |result: Result<(), String>| result.unwrap_err();
        assert!(sentence(check_length("n", "", 1..=2)).ends_with("length greater than or equal to 1"));
        assert!(sentence(check_length("n", "äöü", 1..=2)).ends_with("length less than or equal to 2"));
        assert!(sentence(check_number("n", 0, 1..=2)).contains("Value '0' at 'n'"));
        assert!(sentence(check_number("n", 3, 1..=2)).ends_with("value less than or equal to 2"));
        assert!(sentence(check_enum("n", Some("x"), &["a", "b"])).ends_with("enum value set: [a, b]"));
        assert!(sentence(check_name("n", "a/b", 1..=9, "._-", "[...]")).ends_with("pattern: [...]"));
        check_name("n", "a.b", 1..=9, "._-", "[...]").unwrap();
    }
}
