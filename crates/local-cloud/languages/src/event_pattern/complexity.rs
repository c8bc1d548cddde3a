//! Refuses wildcards that are too complex, as EventBridge does: if, at some point of some text, more than
//! ten wildcard prefixes could match at once.
//! <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html#eb-filtering-wildcard-matching-complexity>
//! AWS documents no figure; with ten, all patterns that AWS is known to accept or refuse get its answer.

use std::collections::{BTreeSet, HashSet};

use super::Test;

const MAX_PREFIXES: usize = 10;

/// A wildcard's bytes with the quotation marks around it, and `None` for `*`.
struct Wildcard {
    /// The same number for all wildcards of one `anything-but`.
    expression: usize,
    parts: Vec<Option<u8>>,
}

/// A wildcard's index, and how many of its parts a text has passed.
type State = (usize, usize);

/// Checks the alternatives of one field.
pub(super) fn is_too_complex(tests: &[Test]) -> bool {
    let mut wildcards = Vec::new();
    for (expression, test) in tests.iter().enumerate() {
        let inner = if let Test::AnythingBut(inner) = test { inner } else { std::slice::from_ref(test) };
        for test in inner {
            if let Test::Wildcard(parts) = test {
                let parts = [&[Some(b'"')], parts.as_slice(), &[Some(b'"')]].concat();
                wildcards.push(Wildcard { expression, parts });
            }
        }
    }
    let letters: BTreeSet<Option<u8>> =
        wildcards.iter().flat_map(|wildcard| wildcard.parts.iter().copied()).collect();
    let start: BTreeSet<State> = (0..wildcards.len()).map(|index| (index, 0)).collect();
    let mut seen = HashSet::new();
    let mut pending = vec![start];
    while let Some(states) = pending.pop() {
        // `None` stands for every byte that is in no wildcard.
        for letter in letters.iter().chain([&None]) {
            let next = step(&wildcards, &states, *letter);
            if count(&wildcards, &next) > MAX_PREFIXES {
                return true;
            }
            if !next.is_empty() && seen.insert(next.clone()) {
                pending.push(next);
            }
        }
    }
    false
}

/// The states after one more byte. The next `*` may be empty, so the part after it counts as reached.
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

/// Counts the states. Those of one expression count once if they have passed the same parts up to the
/// first `*`, or all parts.
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
