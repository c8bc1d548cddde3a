//! Event patterns, as rules, archives, pipes and event source mappings use them. Matching
//! is quamina's; what quamina has no words for (`$or`, negated prefixes, numbers compared
//! as they are written) is expanded into several patterns or checked beside it. A pattern
//! that EventBridge would refuse, or that cannot be matched here, does not parse.
//!
//! Rules followed: <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html>
//! and <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html>.

use quamina::Quamina;
use serde_json::{Map, Value, json};

/// So many combinations of `$or` and operators one pattern may have.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html#eb-filtering-complex-example-or>
const MAX_COMBINATIONS: usize = 1000;

/// A parsed event pattern.
#[derive(Debug)]
pub struct Pattern {
    alternatives: Vec<Alternative>,
}

/// One conjunction; the pattern matches when any of its alternatives does.
struct Alternative {
    matcher: Quamina<()>,
    checks: Vec<Check>,
}

impl std::fmt::Debug for Alternative {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alternative").field("checks", &self.checks.len()).finish_non_exhaustive()
    }
}

/// What must hold of at least one value at `path` beyond quamina's own match.
struct Check {
    path: Vec<String>,
    test: Test,
}

enum Test {
    /// A number that is written like one of these.
    Written(Vec<Value>),
    /// A number inside one of these bounds. quamina 0.7 compares too, but takes
    /// `[">", 0, "<=", 5]` to include 0.
    Within(Vec<Bounds>),
    /// A value that this one does not match (`anything-but` with an operator inside).
    NotMatched(Box<Quamina<()>>),
}

/// Comparisons that must all hold, as `numeric` lists them.
type Bounds = Vec<(String, f64)>;

/// One way in which a leaf (`"field": [ ... ]`) can match.
struct Choice {
    elements: Vec<Value>,
    test: Option<Test>,
}

type Leaf<'a> = (Vec<String>, &'a [Value]);

/// One choice for every leaf of a conjunction.
type Combination = Vec<(Vec<String>, Choice)>;

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// One sentence that names the operator or the field that is not supported.
    pub fn parse(pattern: &Value) -> Result<Self, String> {
        let object = pattern.as_object().ok_or("the event pattern is not a JSON object")?;
        if object.is_empty() {
            return Err("the event pattern is empty".into());
        }
        let mut alternatives = Vec::new();
        for leaves in conjunctions(object, &[])? {
            for combination in combinations(&leaves)? {
                alternatives.push(build(combination)?);
                if alternatives.len() > MAX_COMBINATIONS {
                    return Err(too_many());
                }
            }
        }
        Ok(Self { alternatives })
    }

    /// Whether `event` has what the pattern asks for.
    pub fn matches(&self, event: &Value) -> bool {
        let text = event.to_string();
        self.alternatives.iter().any(|alternative| {
            alternative.matcher.has_matches(text.as_bytes()).unwrap_or(false)
                && alternative.checks.iter().all(|check| check.holds(event))
        })
    }
}

impl Check {
    fn holds(&self, event: &Value) -> bool {
        let mut values = Vec::new();
        collect(event, &self.path, &mut values);
        values.into_iter().any(|value| match &self.test {
            Test::Written(numbers) => numbers.contains(value),
            Test::Within(ranges) => {
                value.as_f64().is_some_and(|number| ranges.iter().any(|bounds| within(number, bounds)))
            }
            Test::NotMatched(matcher) => {
                !matcher.has_matches(json!({ "v": value }).to_string().as_bytes()).unwrap_or(true)
            }
        })
    }
}

fn within(number: f64, bounds: &Bounds) -> bool {
    bounds.iter().all(|(operator, bound)| match operator.as_str() {
        "<" => number < *bound,
        "<=" => number <= *bound,
        ">" => number > *bound,
        ">=" => number >= *bound,
        _ => number == *bound,
    })
}

/// The leaf values at `path`; arrays on the way stand for each of their elements.
fn collect<'a>(value: &'a Value, path: &[String], into: &mut Vec<&'a Value>) {
    match (value, path.split_first()) {
        (Value::Array(elements), _) => elements.iter().for_each(|element| collect(element, path, into)),
        (Value::Object(object), Some((first, rest))) => {
            if let Some(member) = object.get(first) {
                collect(member, rest, into);
            }
        }
        (Value::Object(_), None) | (_, Some(_)) => {}
        (leaf, None) => into.push(leaf),
    }
}

fn too_many() -> String {
    format!("the event pattern has more than {MAX_COMBINATIONS} combinations of $or and operators")
}

/// Multiplies `$or` out: a list of alternatives, each a list of leaves.
fn conjunctions<'a>(object: &'a Map<String, Value>, path: &[String]) -> Result<Vec<Vec<Leaf<'a>>>, String> {
    let mut result: Vec<Vec<Leaf<'a>>> = vec![Vec::new()];
    for (key, value) in object {
        let here: Vec<String> = path.iter().chain([key]).cloned().collect();
        let name = here.join(".");
        if key.contains(['.', '\n']) {
            // quamina does not find such a field; EventBridge would take it for a path.
            return Err(format!("the field name `{key}` is not supported, since it has a dot or a line end"));
        }
        let factor = match value {
            Value::Array(branches) if key == "$or" => disjunction(branches, path)?,
            Value::Array(elements) if elements.is_empty() => {
                return Err(format!("empty arrays are not allowed, and `{name}` is one"));
            }
            Value::Array(elements) => vec![vec![(here, elements.as_slice())]],
            Value::Object(nested) if nested.is_empty() => {
                return Err(format!("empty objects are not allowed, and `{name}` is one"));
            }
            Value::Object(nested) => conjunctions(nested, &here)?,
            _ => return Err(format!("`{name}` must be an object or an array")),
        };
        if result.len() * factor.len() > MAX_COMBINATIONS {
            return Err(too_many());
        }
        result = result
            .iter()
            .flat_map(|left| factor.iter().map(move |right| [left.as_slice(), right].concat()))
            .collect();
    }
    for leaves in &result {
        for (index, (path, _)) in leaves.iter().enumerate() {
            if leaves[..index].iter().any(|(other, _)| other == path) {
                return Err(format!("`{}` stands both inside and beside an $or", path.join(".")));
            }
        }
    }
    Ok(result)
}

fn disjunction<'a>(branches: &'a [Value], path: &[String]) -> Result<Vec<Vec<Leaf<'a>>>, String> {
    if branches.len() < 2 {
        return Err("$or needs at least two branches".into());
    }
    let mut all = Vec::new();
    for branch in branches {
        let branch = branch.as_object().filter(|branch| !branch.is_empty());
        all.extend(conjunctions(branch.ok_or("$or takes an array of objects that are not empty")?, path)?);
    }
    Ok(all)
}

/// Every way to pick one choice per leaf.
fn combinations(leaves: &[Leaf<'_>]) -> Result<Vec<Combination>, String> {
    let mut result: Vec<Vec<(Vec<String>, usize)>> = vec![Vec::new()];
    for (path, elements) in leaves {
        let count = choices(path, elements)?.len();
        if result.len() * count > MAX_COMBINATIONS {
            return Err(too_many());
        }
        result = result
            .iter()
            .flat_map(|left| {
                (0..count).map(move |index| [left.as_slice(), &[(path.clone(), index)]].concat())
            })
            .collect();
    }
    // Matchers cannot be cloned, so a choice is made anew for each combination that it is in.
    result
        .into_iter()
        .map(|picked| {
            picked
                .into_iter()
                .zip(leaves)
                .map(|((path, index), (_, elements))| {
                    let choice = choices(&path, elements)?.into_iter().nth(index);
                    Ok((path, choice.ok_or("an event pattern changed while it was read")?))
                })
                .collect()
        })
        .collect()
}

/// Splits a leaf into what quamina takes as one list, and what has to stand alone.
fn choices(path: &[String], elements: &[Value]) -> Result<Vec<Choice>, String> {
    let name = path.join(".");
    let mut plain = Vec::new();
    let mut numbers = Vec::new();
    let mut compared = Vec::new();
    let mut ranges = Vec::new();
    let mut alone = Vec::new();
    for element in elements {
        match element {
            Value::Number(_) => numbers.push(element.clone()),
            Value::Object(operator) => {
                let (operator, operand) = match operator.iter().next() {
                    Some(pair) if operator.len() == 1 => pair,
                    _ => return Err(format!("`{name}` needs exactly one operator per object")),
                };
                match (operator.as_str(), operand) {
                    ("exists", Value::Bool(_)) => {
                        alone.push(Choice { elements: vec![element.clone()], test: None });
                    }
                    ("anything-but", Value::Object(inner)) => alone.push(Choice {
                        elements: vec![json!({ "exists": true })],
                        test: Some(Test::NotMatched(Box::new(negated(&name, inner)?))),
                    }),
                    ("numeric", Value::Array(bounds)) => {
                        ranges.push(numeric(&name, bounds)?);
                        compared.push(element.clone());
                    }
                    _ => plain.push(translate(&name, operator, operand)?),
                }
            }
            Value::Array(_) => return Err(format!("`{name}` has an array inside an array")),
            _ => plain.push(element.clone()),
        }
    }
    if !plain.is_empty() {
        alone.push(Choice { elements: plain, test: None });
    }
    if !numbers.is_empty() {
        // "For numbers, EventBridge uses string representation. For example, 300, 300.0,
        // and 3.0e2 are not considered equal." (eb-event-patterns.html)
        alone.push(Choice { elements: numbers.clone(), test: Some(Test::Written(numbers)) });
    }
    if !compared.is_empty() {
        alone.push(Choice { elements: compared, test: Some(Test::Within(ranges)) });
    }
    Ok(alone)
}

/// An operator of EventBridge in quamina's words.
fn translate(name: &str, operator: &str, operand: &Value) -> Result<Value, String> {
    let ignoring_case = || match operand {
        Value::Object(inner) if inner.len() == 1 => inner.get("equals-ignore-case").and_then(Value::as_str),
        _ => None,
    };
    match (operator, operand) {
        ("prefix", Value::Object(_)) => match ignoring_case() {
            Some(text) => Ok(json!({ "regexp": format!("{}{ANYTHING}", any_case(text)) })),
            None => Err(format!("`{name}`: prefix takes text or equals-ignore-case")),
        },
        ("suffix", Value::Object(_)) => match ignoring_case() {
            Some(text) => Ok(json!({ "regexp": format!("{ANYTHING}{}", any_case(text)) })),
            None => Err(format!("`{name}`: suffix takes text or equals-ignore-case")),
        },
        ("anything-but" | "prefix" | "suffix" | "wildcard" | "equals-ignore-case" | "cidr", _) => {
            Ok(json!({ operator: operand }))
        }
        ("numeric" | "exists", _) => Err(format!("`{name}`: {operator} does not take {operand}")),
        _ => Err(format!("`{name}`: the operator `{operator}` is not supported")),
    }
}

/// `anything-but` with `prefix`, `suffix`, `wildcard` or `equals-ignore-case`: what must not match.
fn negated(name: &str, inner: &Map<String, Value>) -> Result<Quamina<()>, String> {
    let (operator, operand) = match inner.iter().next() {
        Some(pair) if inner.len() == 1 => pair,
        _ => return Err(format!("`{name}`: anything-but takes exactly one operator")),
    };
    if !["prefix", "suffix", "wildcard", "equals-ignore-case"].contains(&operator.as_str()) {
        return Err(format!("`{name}`: anything-but with `{operator}` is not supported"));
    }
    let operands = match operand {
        Value::Array(list) if !list.is_empty() => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    if !operands.iter().all(Value::is_string) {
        return Err(format!("`{name}`: anything-but with {operator} takes text or a list of texts"));
    }
    let elements: Vec<Value> = operands.iter().map(|operand| json!({ operator: operand })).collect();
    compile(&json!({ "v": elements }))
}

/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html#filtering-numeric-matching>
fn numeric(name: &str, bounds: &[Value]) -> Result<Bounds, String> {
    let comparison = |pair: &[Value]| match pair {
        [operator, bound] if in_range(bound) => Some((operator.as_str()?.to_owned(), bound.as_f64()?)),
        _ => None,
    };
    let read: Option<Bounds> = bounds.chunks(2).map(comparison).collect();
    let valid = |read: &Bounds| match read.as_slice() {
        [(operator, _)] => matches!(operator.as_str(), "=" | "<" | "<=" | ">" | ">="),
        [(low, from), (high, to)] => low.starts_with('>') && high.starts_with('<') && from < to,
        _ => false,
    };
    read.filter(valid).ok_or_else(|| {
        let bounds = Value::from(bounds);
        format!("`{name}`: numeric takes one comparison, or a lower and an upper bound, not {bounds}")
    })
}

/// EventBridge documents five times ten to the ninth as the bound of numeric matching.
fn in_range(number: &Value) -> bool {
    number.as_f64().is_some_and(|number| (-5.0e9..=5.0e9).contains(&number))
}

/// `.` does not match line ends in quamina's regular expressions (RFC 9485).
const ANYTHING: &str = "(.|~n|~r)*";

/// A regular expression for `text` in any case.
fn any_case(text: &str) -> String {
    text.chars()
        .map(|letter| {
            let lower = letter.to_lowercase().to_string();
            let upper = letter.to_uppercase().to_string();
            if lower == upper { escape(&lower) } else { format!("({}|{})", escape(&lower), escape(&upper)) }
        })
        .collect()
}

fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, letter| {
        // quamina escapes with a tilde, so that patterns in JSON need no double backslashes.
        if "~().*+?|[]{}\\^$-".contains(letter) {
            escaped.push('~');
        }
        escaped.push(letter);
        escaped
    })
}

/// One quamina matcher for one combination of choices.
fn build(combination: Combination) -> Result<Alternative, String> {
    let mut root = Map::new();
    let mut checks = Vec::new();
    for (path, choice) in combination {
        insert(&mut root, &path, choice.elements.into());
        checks.extend(choice.test.map(|test| Check { path, test }));
    }
    Ok(Alternative { matcher: compile(&Value::Object(root))?, checks })
}

fn insert(object: &mut Map<String, Value>, path: &[String], leaf: Value) {
    match path {
        [] => {}
        [last] => {
            object.insert(last.clone(), leaf);
        }
        [first, rest @ ..] => {
            let member = object.entry(first.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(member) = member {
                insert(member, rest, leaf);
            }
        }
    }
}

fn compile(pattern: &Value) -> Result<Quamina<()>, String> {
    let mut matcher = Quamina::new();
    matcher.add_pattern((), &pattern.to_string()).map_err(|error| error.to_string())?;
    Ok(matcher)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: Value, event: Value) -> bool {
        Pattern::parse(&pattern).unwrap().matches(&event)
    }

    fn refusal(pattern: Value) -> String {
        Pattern::parse(&pattern).unwrap_err()
    }

    #[test]
    fn all_fields_must_match_and_any_value_of_a_field_may() {
        let pattern = json!({ "source": ["a", "b"], "detail": { "status": ["NEW"] } });
        let event =
            |source: &str, status: &str| json!({ "source": source, "detail": { "status": status, "x": 1 } });
        assert!(matches(pattern.clone(), event("a", "NEW")));
        assert!(matches(pattern.clone(), event("b", "NEW")));
        assert!(!matches(pattern.clone(), event("c", "NEW")));
        assert!(!matches(pattern.clone(), event("a", "OLD")));
        assert!(!matches(pattern, json!({ "source": "a" })));
    }

    #[test]
    fn strings_are_compared_character_by_character() {
        let pattern = json!({ "a": ["He said \"é\" \\ \n ok"] });
        assert!(matches(pattern.clone(), json!({ "a": "He said \"é\" \\ \n ok" })));
        assert!(!matches(pattern.clone(), json!({ "a": "he said \"é\" \\ \n ok" })));
        assert!(!matches(json!({ "a": ["5"] }), json!({ "a": 5 })));
        assert!(!matches(json!({ "a": ["null"] }), json!({ "a": null })));
    }

    #[test]
    fn an_array_in_the_event_matches_when_one_of_its_elements_does() {
        let pattern = json!({ "resources": ["x", "y"] });
        assert!(matches(pattern.clone(), json!({ "resources": ["a", "y"] })));
        assert!(!matches(pattern.clone(), json!({ "resources": ["a"] })));
        assert!(!matches(pattern, json!({ "resources": [] })));
    }

    #[test]
    fn numbers_are_compared_as_they_are_written() {
        assert!(matches(json!({ "n": [300] }), json!({ "n": 300 })));
        assert!(!matches(json!({ "n": [300] }), json!({ "n": 300.0 })));
        assert!(!matches(json!({ "n": [300] }), json!({ "n": "300" })));
        assert!(matches(json!({ "n": ["x", 1, { "exists": false }] }), json!({ "n": 1 })));
    }

    #[test]
    fn numeric_compares_by_value_and_only_numbers() {
        let between = json!({ "n": [{ "numeric": [">", 0, "<=", 5] }] });
        assert!(matches(between.clone(), json!({ "n": 5.0 })));
        assert!(!matches(between.clone(), json!({ "n": 0 })));
        assert!(!matches(between, json!({ "n": "3" })));
        assert!(matches(json!({ "n": [{ "numeric": ["=", 3.018e2] }] }), json!({ "n": 301.8 })));
        assert!(refusal(json!({ "n": [{ "numeric": ["<", 5, ">", 0] }] })).contains("numeric"));
        assert!(refusal(json!({ "n": [{ "numeric": ["<", 6.0e9] }] })).contains("numeric"));
        assert!(refusal(json!({ "n": [{ "numeric": ["!=", 5] }] })).contains("numeric"));
    }

    #[test]
    fn exists_looks_at_leaf_nodes_only() {
        let absent = json!({ "source": ["s"], "detail": { "count": [{ "exists": false }] } });
        assert!(matches(absent.clone(), json!({ "source": "s", "detail": { "state": 1 } })));
        assert!(matches(absent.clone(), json!({ "source": "s", "detail": { "count": { "c1": 100 } } })));
        assert!(!matches(absent, json!({ "source": "s", "detail": { "count": 1 } })));
        let present = json!({ "detail": { "count": [{ "exists": true }] } });
        assert!(matches(present.clone(), json!({ "detail": { "count": null } })));
        assert!(!matches(present, json!({ "detail": { "count": { "c1": 100 } } })));
    }

    #[test]
    fn exists_false_may_stand_beside_values() {
        let pattern = json!({ "detail": { "a": ["x", { "exists": false }] } });
        assert!(matches(pattern.clone(), json!({ "detail": { "a": "x" } })));
        assert!(matches(pattern.clone(), json!({ "detail": { "b": "x" } })));
        assert!(!matches(pattern, json!({ "detail": { "a": "y" } })));
        // "New is DRAFT, old is not": how a pipe's filter says that a status changed.
        let changed = json!({ "old": { "s": { "S": [{ "exists": false }, { "anything-but": ["DRAFT"] }] } }, "new": { "s": { "S": ["DRAFT"] } } });
        let record = |old: Value| json!({ "old": old, "new": { "s": { "S": "DRAFT" } } });
        assert!(matches(changed.clone(), record(json!({ "s": { "S": "CLOSED" } }))));
        assert!(matches(changed.clone(), json!({ "new": { "s": { "S": "DRAFT" } } })));
        assert!(!matches(changed, record(json!({ "s": { "S": "DRAFT" } }))));
    }

    #[test]
    fn null_and_the_empty_string_are_values() {
        assert!(matches(json!({ "a": [null] }), json!({ "a": null })));
        assert!(!matches(json!({ "a": [null] }), json!({ "a": "" })));
        assert!(matches(json!({ "a": [""] }), json!({ "a": "" })));
        assert!(matches(json!({ "a": [true] }), json!({ "a": true })));
    }

    #[test]
    fn prefix_suffix_and_wildcard_match_text() {
        assert!(matches(json!({ "t": [{ "prefix": "2017-" }] }), json!({ "t": "2017-10-02" })));
        assert!(!matches(json!({ "t": [{ "prefix": "017" }] }), json!({ "t": "2017" })));
        assert!(matches(json!({ "f": [{ "suffix": ".png" }] }), json!({ "f": "a.png" })));
        assert!(matches(json!({ "f": [{ "wildcard": "/a/*/c*" }] }), json!({ "f": "/a/b/b/c.x" })));
        assert!(refusal(json!({ "f": [{ "wildcard": "a**" }] })).contains("wildcard"));
    }

    #[test]
    fn case_is_ignored_where_the_pattern_says_so() {
        assert!(matches(json!({ "s": [{ "equals-ignore-case": "alice" }] }), json!({ "s": "AlIcE" })));
        let prefix = json!({ "s": [{ "prefix": { "equals-ignore-case": "Event.b" } }] });
        assert!(matches(prefix.clone(), json!({ "s": "EVENT.Bridge\nx" })));
        assert!(!matches(prefix.clone(), json!({ "s": "eventxb" })));
        assert!(!matches(prefix, json!({ "s": "an event.b" })));
        let suffix = json!({ "s": [{ "suffix": { "equals-ignore-case": ".PNG" } }] });
        assert!(matches(suffix.clone(), json!({ "s": "a.pNg" })));
        assert!(!matches(suffix, json!({ "s": "a.png.txt" })));
        assert!(refusal(json!({ "s": [{ "prefix": { "wildcard": "a" } }] })).contains("prefix"));
    }

    #[test]
    fn anything_but_excludes_values_and_needs_one_to_be_there() {
        let pattern = json!({ "s": [{ "anything-but": ["a", "b"] }] });
        assert!(matches(pattern.clone(), json!({ "s": "c" })));
        assert!(!matches(pattern.clone(), json!({ "s": "a" })));
        assert!(!matches(pattern, json!({ "other": "c" })));
        assert!(!matches(json!({ "n": [{ "anything-but": 123 }] }), json!({ "n": 123 })));
        assert!(matches(json!({ "n": [{ "anything-but": [1, 2] }] }), json!({ "n": 3 })));
    }

    #[test]
    fn anything_but_takes_prefix_suffix_wildcard_and_case() {
        let but = |inner: Value, value: &str| {
            matches(json!({ "d": { "s": [{ "anything-but": inner }] } }), json!({ "d": { "s": value } }))
        };
        assert!(but(json!({ "prefix": "init" }), "running"));
        assert!(!but(json!({ "prefix": "init" }), "initializing"));
        assert!(!but(json!({ "prefix": ["init", "error"] }), "errors"));
        assert!(!but(json!({ "suffix": ".png" }), "a.png"));
        assert!(but(json!({ "suffix": ".png" }), "a.jpg"));
        assert!(!but(json!({ "wildcard": "*/lib/*" }), "/x/lib/y"));
        assert!(but(json!({ "wildcard": "*/lib/*" }), "/x/y"));
        assert!(!but(json!({ "equals-ignore-case": ["a", "initializing"] }), "INITIALIZING"));
        assert!(refusal(json!({ "s": [{ "anything-but": { "cidr": "10.0.0.0/8" } }] })).contains("cidr"));
        // A value of another element still counts.
        let beside = json!({ "s": ["initial", { "anything-but": { "prefix": "init" } }] });
        assert!(matches(beside.clone(), json!({ "s": "initial" })));
        assert!(!matches(beside, json!({ "s": "init" })));
        assert!(!matches(json!({ "s": [{ "anything-but": { "prefix": "a" } }] }), json!({ "t": "b" })));
    }

    #[test]
    fn cidr_matches_addresses() {
        let pattern = json!({ "ip": [{ "cidr": "10.0.0.0/24" }] });
        assert!(matches(pattern.clone(), json!({ "ip": "10.0.0.200" })));
        assert!(!matches(pattern, json!({ "ip": "10.0.1.1" })));
    }

    #[test]
    fn or_matches_one_branch_or_another_and_multiplies_out() {
        let pattern = json!({
            "source": ["s"],
            "detail": { "$or": [{ "n": [{ "numeric": ["<=", 10] }] }, { "m": ["x"], "$or": [{ "a": [1] }, { "b": [2] }] }] }
        });
        let event = |detail: Value| json!({ "source": "s", "detail": detail });
        assert!(matches(pattern.clone(), event(json!({ "n": 3 }))));
        assert!(matches(pattern.clone(), event(json!({ "m": "x", "b": 2 }))));
        assert!(!matches(pattern.clone(), event(json!({ "m": "x" }))));
        assert!(!matches(pattern, json!({ "source": "t", "detail": { "n": 3 } })));
        assert!(refusal(json!({ "$or": [{ "a": [1] }] })).contains("$or"));
        assert!(refusal(json!({ "$or": [1, 2] })).contains("$or"));
    }

    #[test]
    fn objects_in_an_array_are_matched_one_by_one() {
        let pattern = json!({ "list": { "a": ["1"], "b": ["2"] } });
        assert!(matches(pattern.clone(), json!({ "list": [{ "a": "1", "b": "2" }] })));
        assert!(!matches(pattern, json!({ "list": [{ "a": "1", "b": "x" }, { "a": "y", "b": "2" }] })));
    }

    #[test]
    fn what_eventbridge_refuses_does_not_parse() {
        assert!(refusal(json!([])).contains("object"));
        assert!(refusal(json!({})).contains("empty"));
        assert!(refusal(json!({ "a": [] })).contains("`a`"));
        assert!(refusal(json!({ "a": { "b": {} } })).contains("`a.b`"));
        assert!(refusal(json!({ "a": { "b": "x" } })).contains("`a.b`"));
        assert!(refusal(json!({ "a": [["x"]] })).contains("array"));
        assert!(refusal(json!({ "a": [{ "regexp": "x" }] })).contains("regexp"));
        assert!(refusal(json!({ "a": [{ "shellstyle": "x" }] })).contains("shellstyle"));
        assert!(refusal(json!({ "a": [{ "prefix": 5 }] })).contains("prefix"));
        assert!(refusal(json!({ "a": [{ "exists": "yes" }] })).contains("exists"));
        assert!(refusal(json!({ "a": [{ "anything-but": ["x", 1] }] })).contains("anything-but"));
        assert!(refusal(json!({ "a": [{ "prefix": "x", "suffix": "y" }] })).contains("one operator"));
    }

    #[test]
    fn a_field_name_with_a_dot_is_refused() {
        assert!(refusal(json!({ "a.b": ["x"] })).contains("`a.b`"));
        assert!(!matches(json!({ "a": { "b": [{ "exists": true }] } }), json!({ "a.b": 1 })));
    }
}
