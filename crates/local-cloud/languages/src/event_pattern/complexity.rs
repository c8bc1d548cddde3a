//! How complex the wildcards of a field are: EventBridge refuses a pattern for which, at some
//! point of some text, more than ten beginnings of wildcards could match at once.
//! <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html#eb-filtering-wildcard-matching-complexity>
//! The figure is not documented; with this one, patterns that AWS is known to have taken or
//! refused are taken or refused.

use std::collections::{BTreeSet, HashSet};

use super::Test;

const MOST: usize = 10;

/// A wildcard's bytes, `None` for `*`, with the quotation marks around it.
struct Wildcard {
    /// Wildcards of one `anything-but` have one number.
    expression: usize,
    parts: Vec<Option<u8>>,
}

/// A wildcard, and how many of its parts a text has passed.
type State = (usize, usize);

/// Whether EventBridge would refuse these alternatives of one field.
pub(super) fn is_too_complex(tests: &[Test]) -> bool {
    let wildcards: Vec<Wildcard> = tests
        .iter()
        .enumerate()
        .flat_map(|(expression, test)| {
            let inner = if let Test::AnythingBut(inner) = test {
                inner.as_slice()
            } else {
                std::slice::from_ref(test)
            };
            inner.iter().filter_map(move |test| match test {
                Test::Wildcard(parts) => {
                    let parts = [&[Some(b'"')], parts.as_slice(), &[Some(b'"')]].concat();
                    Some(Wildcard { expression, parts })
                }
                _ => None,
            })
        })
        .collect();
    let letters: BTreeSet<Option<u8>> =
        wildcards.iter().flat_map(|wildcard| wildcard.parts.iter().copied()).collect();
    let start: BTreeSet<State> = (0..wildcards.len()).map(|index| (index, 0)).collect();
    let mut seen = HashSet::new();
    let mut pending = vec![start];
    while let Some(states) = pending.pop() {
        // `None` stands for every byte that is in no wildcard.
        for letter in letters.iter().chain([&None]) {
            let next = step(&wildcards, &states, *letter);
            if count(&wildcards, &next) > MOST {
                return true;
            }
            if !next.is_empty() && seen.insert(next.clone()) {
                pending.push(next);
            }
        }
    }
    false
}

/// The states behind one more byte. A `*` that comes next may be empty, so what follows it
/// counts as reached.
fn step(wildcards: &[Wildcard], states: &BTreeSet<State>, letter: Option<u8>) -> BTreeSet<State> {
    let mut next = BTreeSet::new();
    for (index, passed) in states {
        let parts = &wildcards[*index].parts;
        if *passed > 0 && parts[passed - 1].is_none() {
            next.insert((*index, *passed));
        }
        if letter.is_some() && parts.get(*passed) == Some(&letter) {
            next.insert((*index, passed + 1));
            if parts.get(passed + 1) == Some(&None) {
                next.insert((*index, passed + 2));
            }
        }
    }
    next
}

/// States of one expression count once where they have passed the same parts up to the first
/// `*`, and where they have passed all.
fn count(wildcards: &[Wildcard], states: &BTreeSet<State>) -> usize {
    let same = |(one, passed): &State, (other, also): &State| {
        let (one, other) = (&wildcards[*one], &wildcards[*other]);
        let stars = one.parts[..*passed].iter().filter(|part| part.is_none()).count();
        let first = stars == 0 || (stars == 1 && one.parts[passed - 1].is_none());
        let ended = *passed == one.parts.len() && *also == other.parts.len();
        one.expression == other.expression
            && (ended || (first && one.parts.get(..*passed) == other.parts.get(..*also)))
    };
    let states: Vec<&State> = states.iter().collect();
    let double = |at: usize| states[..at].iter().any(|before| same(before, states[at]));
    (0..states.len()).filter(|at| !double(*at)).count()
}
