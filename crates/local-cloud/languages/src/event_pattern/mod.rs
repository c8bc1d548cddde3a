//! Event patterns of rules, archives, pipes and event source mappings. They match like AWS's own engine,
//! whose source and recorded answers are public: by fields whose names are joined with dots, and by values
//! in the same element of an array. A pattern that EventBridge refuses does not parse.
//!
//! Sources: <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html>
//! and <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html>.
//! Why not quamina 0.7: it compares numbers by their spelling, takes `[">", 0]` to include 0, knows neither
//! `$or` nor `anything-but` with an operator, finds no field with a dot in its name, and refuses in other
//! words than AWS.

mod compile;
mod complexity;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde_json::Value;

#[derive(Debug)]
pub struct Pattern {
    /// One of them must match; `$or` makes more than one.
    alternatives: Vec<Vec<Field>>,
}

#[derive(Debug, Clone)]
struct Field {
    /// Names joined with dots.
    path: String,
    /// One of these must hold.
    tests: Vec<Test>,
}

/// A condition on a leaf value. Texts for any case are in lower case.
#[derive(Debug, Clone, PartialEq)]
enum Test {
    /// This text, or the same IP address in another spelling.
    Is(String),
    /// `null`, `true`, `false`, or a number that is too large to compare.
    Literal(Value),
    /// A number, in [`comparable`] form.
    Number(i64),
    /// A number between bounds; the flag of a bound includes it.
    Range {
        from: Option<(i64, bool)>,
        to: Option<(i64, bool)>,
    },
    Prefix(String),
    PrefixAnyCase(String),
    Suffix(String),
    SuffixAnyCase(String),
    AnyCase(String),
    /// Bytes, and `None` for `*`.
    Wildcard(Vec<Option<u8>>),
    /// The first and the last address.
    Cidr(IpAddr, IpAddr),
    /// A value for which none of these conditions holds.
    AnythingBut(Vec<Test>),
    Exists,
    Absent,
}

/// A leaf value of an event, and the array elements around it: which array, which index.
struct Leaf<'a> {
    value: &'a Value,
    elements: Vec<(usize, usize)>,
}

impl Pattern {
    /// The error is the reason, in AWS's words if they are known.
    pub fn parse(pattern: &Value) -> Result<Self, String> {
        Ok(Self { alternatives: compile::alternatives(pattern)? })
    }

    pub fn matches(&self, event: &Value) -> bool {
        self.alternatives.iter().any(|fields| {
            let leaves = |field: &Field| {
                let mut leaves = Vec::new();
                collect(event, Some(&field.path), &mut Vec::new(), &mut leaves);
                leaves
            };
            search(fields, &fields.iter().map(leaves).collect::<Vec<_>>(), &mut Vec::new())
        })
    }
}

/// Whether each field has a matching value, with no two values in different elements of one array.
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

/// Collects the leaf values at `path`; without a path, `value` itself must be a leaf. An array stands for
/// each of its elements. A name that contains dots is found by the same dots.
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
                // Scalars of one array may match different fields.
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

/// A number as EventBridge compares it: with six digits after the point, and not beyond 5.0E9.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html#filtering-numeric-matching>
fn comparable(number: f64) -> Option<i64> {
    (-5.0e9..=5.0e9).contains(&number).then_some((1.0e6 * (5.0e9 + number)) as i64)
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// Whether a text matches a wildcard pattern: bytes, and `None` for `*`.
pub(crate) fn is_like(text: &[u8], wildcard: &[Option<u8>]) -> bool {
    let (mut at, mut next) = (0, 0);
    // Where to continue if the last `*` has to match one more byte.
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
