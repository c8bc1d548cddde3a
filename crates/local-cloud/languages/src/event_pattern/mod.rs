//! Event patterns, as rules, archives, pipes and event source mappings use them. They match
//! as AWS's own engine does, whose source and recorded answers are public: by fields whose
//! names are joined with dots, and with values that stand in the same element of an array.
//! A pattern that EventBridge would refuse does not parse.
//!
//! Rules followed: <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html>
//! and <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html>.
//! Why not quamina 0.7, which did this first: it compares numbers as they are written, takes
//! `[">", 0]` to include 0, knows neither `$or` nor `anything-but` with an operator, finds no
//! field with a dot in its name, and refuses in other words than AWS.

mod compile;
mod complexity;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde_json::Value;

/// A parsed event pattern.
#[derive(Debug)]
pub struct Pattern {
    /// The pattern matches when any of them does; `$or` makes more than one.
    alternatives: Vec<Vec<Field>>,
}

/// What one field of an event must be like.
#[derive(Debug, Clone)]
struct Field {
    /// Names joined with dots.
    path: String,
    /// Any of these will do.
    tests: Vec<Test>,
}

/// What a leaf value must be like.
#[derive(Debug, Clone, PartialEq)]
enum Test {
    /// This text, or the same IP address in other words.
    Is(String),
    /// `null`, `true`, `false`, or a number that is too large to be compared.
    Literal(Value),
    /// A number, in [`comparable`] form.
    Number(i64),
    /// A number between bounds; each may be part of the range.
    Range { from: Option<(i64, bool)>, to: Option<(i64, bool)> },
    /// A text that begins so.
    Prefix(String),
    /// The same in any case; it is kept in lower case.
    PrefixAnyCase(String),
    /// A text that ends so.
    Suffix(String),
    /// The same in any case; it is kept in lower case.
    SuffixAnyCase(String),
    /// This text in any case; it is kept in lower case.
    AnyCase(String),
    /// Bytes, and `None` for any number of them.
    Wildcard(Vec<Option<u8>>),
    /// An address from the first to the second.
    Cidr(IpAddr, IpAddr),
    /// A value for which none of these holds.
    AnythingBut(Vec<Test>),
    /// Any value.
    Exists,
    /// No value at all.
    Absent,
}

/// A value of an event, and the elements of arrays that it stands in: which array, which element.
struct Leaf<'a> {
    value: &'a Value,
    elements: Vec<(usize, usize)>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// The reason, in AWS's words where those are known.
    pub fn parse(pattern: &Value) -> Result<Self, String> {
        Ok(Self { alternatives: compile::alternatives(pattern)? })
    }

    /// Whether `event` has what the pattern asks for.
    pub fn matches(&self, event: &Value) -> bool {
        self.alternatives.iter().any(|fields| {
            let leaves: Vec<Vec<Leaf<'_>>> = fields
                .iter()
                .map(|field| {
                    let mut leaves = Vec::new();
                    collect(event, Some(&field.path), &mut Vec::new(), &mut leaves);
                    leaves
                })
                .collect();
            search(fields, &leaves, &mut Vec::new())
        })
    }
}

/// Picks a value for every field, so that no two of them stand in different elements of one array.
fn search(fields: &[Field], leaves: &[Vec<Leaf<'_>>], elements: &mut Vec<(usize, usize)>) -> bool {
    let Some((field, fields)) = fields.split_first() else { return true };
    let Some((values, leaves)) = leaves.split_first() else { return true };
    if values.is_empty() {
        return field.tests.contains(&Test::Absent) && search(fields, leaves, elements);
    }
    values.iter().any(|leaf| {
        let clash = |(array, index): &(usize, usize)| {
            elements.iter().any(|(other, at)| other == array && at != index)
        };
        if leaf.elements.iter().any(clash) || !field.tests.iter().any(|test| test.holds(leaf.value)) {
            return false;
        }
        let before = elements.len();
        elements.extend(&leaf.elements);
        let found = search(fields, leaves, elements);
        elements.truncate(before);
        found
    })
}

/// The leaf values at `path`, or at `value` itself where no path is left. Arrays on the way
/// stand for each of their elements; a name with dots in it is found by the same dots.
fn collect<'a>(
    value: &'a Value,
    path: Option<&str>,
    elements: &mut Vec<(usize, usize)>,
    into: &mut Vec<Leaf<'a>>,
) {
    match (value, path) {
        (Value::Array(values), _) => {
            let array = std::ptr::from_ref(values) as usize;
            for (index, value) in values.iter().enumerate() {
                // Bare values of one array may stand for different fields.
                let holds_more = value.is_object() || value.is_array();
                if holds_more {
                    elements.push((array, index));
                }
                collect(value, path, elements, into);
                if holds_more {
                    elements.pop();
                }
            }
        }
        (Value::Object(members), Some(path)) => {
            for (name, member) in members {
                let Some(rest) = path.strip_prefix(name.as_str()) else { continue };
                match rest.strip_prefix('.') {
                    Some(rest) => collect(member, Some(rest), elements, into),
                    None if rest.is_empty() => collect(member, None, elements, into),
                    None => {}
                }
            }
        }
        (Value::Object(_), None) | (_, Some(_)) => {}
        (leaf, None) => into.push(Leaf { value: leaf, elements: elements.clone() }),
    }
}

impl Test {
    fn holds(&self, value: &Value) -> bool {
        let number = || comparable(value.as_f64()?);
        match (self, value) {
            (Self::Exists, _) => true,
            (Self::Absent, _) => false,
            (Self::AnythingBut(tests), value) => !tests.iter().any(|test| test.holds(value)),
            (Self::Literal(literal), value) => literal == value,
            (Self::Number(wanted), Value::Number(_)) => number() == Some(*wanted),
            (Self::Range { from, to }, Value::Number(_)) => number().is_some_and(|number| {
                from.is_none_or(|(bound, with)| number > bound || (with && number == bound))
                    && to.is_none_or(|(bound, with)| number < bound || (with && number == bound))
            }),
            (Self::Is(wanted), Value::String(text)) => {
                text == wanted || address(wanted).is_some_and(|wanted| address(text) == Some(wanted))
            }
            (Self::Prefix(prefix), Value::String(text)) => text.starts_with(prefix),
            (Self::PrefixAnyCase(prefix), Value::String(text)) => text.to_lowercase().starts_with(prefix),
            (Self::Suffix(suffix), Value::String(text)) => text.ends_with(suffix),
            (Self::SuffixAnyCase(suffix), Value::String(text)) => text.to_lowercase().ends_with(suffix),
            (Self::AnyCase(wanted), Value::String(text)) => text.to_lowercase() == *wanted,
            (Self::Wildcard(wildcard), Value::String(text)) => is_like(text.as_bytes(), wildcard),
            (Self::Cidr(from, to), Value::String(text)) => {
                address(text).is_some_and(|at| at.is_ipv4() == from.is_ipv4() && (*from..=*to).contains(&at))
            }
            _ => false,
        }
    }
}

/// A number as EventBridge compares it: six digits behind the point, and none beyond five
/// times ten to the ninth.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html#filtering-numeric-matching>
fn comparable(number: f64) -> Option<i64> {
    (-5.0e9..=5.0e9).contains(&number).then_some((1.0e6 * (5.0e9 + number)) as i64)
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

fn is_like(text: &[u8], wildcard: &[Option<u8>]) -> bool {
    let (mut at, mut next) = (0, 0);
    // Where to go on when the last `*` has to take one byte more.
    let mut again = None;
    while at < text.len() {
        match wildcard.get(next) {
            Some(None) => {
                again = Some((at, next));
                next += 1;
            }
            Some(Some(byte)) if *byte == text[at] => {
                at += 1;
                next += 1;
            }
            _ => {
                let Some((taken, star)) = again else { return false };
                again = Some((taken + 1, star));
                (at, next) = (taken + 1, star + 1);
            }
        }
    }
    wildcard[next..].iter().all(Option::is_none)
}
