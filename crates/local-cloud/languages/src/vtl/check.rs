//! Checks the names in a template when it is deployed. AWS finds a misspelt name only when a request comes,
//! and renders its text.

use std::collections::BTreeSet;

use super::ast::{Expression, Node, Place, Reference, Step, TemplateError};
use super::context::{self, override_target};
use super::functions::{METHODS, UTIL};
use super::json_path::JsonPath;

pub(super) fn check(nodes: &[Node]) -> Result<(), TemplateError> {
    let mut variables = BTreeSet::new();
    walk(nodes, &mut |node| match node {
        Node::Set(Reference { root: name, steps, .. }, _) if steps.is_empty() => {
            variables.insert(name.as_str());
        }
        Node::Foreach { variable, .. } => {
            variables.insert(variable);
        }
        _ => {}
    });
    Check { variables }.nodes(nodes, 0)
}

/// The place of the first assignment to `$context`.
pub(super) fn first_override(nodes: &[Node]) -> Option<Place> {
    let mut first = None;
    walk(nodes, &mut |node| match node {
        Node::Set(target, _) if target.root == "context" => first = first.or(Some(target.place)),
        _ => {}
    });
    first
}

/// Visits every node, in the order of the text.
fn walk<'n>(nodes: &'n [Node], visit: &mut impl FnMut(&'n Node)) {
    for node in nodes {
        visit(node);
        match node {
            Node::If { branches, otherwise } => {
                branches.iter().for_each(|(_, body)| walk(body, visit));
                walk(otherwise, visit);
            }
            Node::Foreach { body, .. } => walk(body, visit),
            _ => {}
        }
    }
}

struct Check<'n> {
    /// Every variable that the template assigns.
    variables: BTreeSet<&'n str>,
}

const BUILT_IN: [&str; 5] = ["input", "context", "stageVariables", "util", "foreach"];
const FOREACH: [&str; 5] = ["index", "count", "hasNext", "first", "last"];

impl Check<'_> {
    fn nodes(&self, nodes: &[Node], loops: usize) -> Result<(), TemplateError> {
        for node in nodes {
            match node {
                Node::Text(_) => {}
                Node::Reference(reference) => self.reference(reference, loops)?,
                Node::Set(target, value) => {
                    self.target(target)?;
                    self.expression(value, loops)?;
                }
                Node::If { branches, otherwise } => {
                    for (condition, body) in branches {
                        self.expression(condition, loops)?;
                        self.nodes(body, loops)?;
                    }
                    self.nodes(otherwise, loops)?;
                }
                Node::Foreach { list, body, .. } => {
                    self.expression(list, loops)?;
                    self.nodes(body, loops + 1)?;
                }
            }
        }
        Ok(())
    }

    fn expression(&self, expression: &Expression, loops: usize) -> Result<(), TemplateError> {
        match expression {
            Expression::Interpolated(nodes) => self.nodes(nodes, loops),
            Expression::List(members) => members.iter().try_for_each(|member| self.expression(member, loops)),
            Expression::Map(entries) => entries.iter().try_for_each(|(key, value)| {
                self.expression(key, loops)?;
                self.expression(value, loops)
            }),
            Expression::Range(left, right) | Expression::Binary(_, left, right) => {
                self.expression(left, loops)?;
                self.expression(right, loops)
            }
            Expression::Not(inner) => self.expression(inner, loops),
            Expression::Reference(reference) => self.reference(reference, loops),
            _ => Ok(()),
        }
    }

    /// Checks the left side of a `#set`: a variable, or the override of a response's status or header.
    fn target(&self, target: &Reference) -> Result<(), TemplateError> {
        match target.root.as_str() {
            "context" if override_target(&target.steps).is_some() => Ok(()),
            "context" => Err(refuse(
                target,
                "cannot be assigned: of $context, only responseOverride.status and responseOverride.header can be set here",
            )),
            root if target.steps.is_empty() && !BUILT_IN.contains(&root) => Ok(()),
            _ => Err(refuse(
                target,
                "cannot be assigned here: only variables and $context.responseOverride can",
            )),
        }
    }

    fn reference(&self, reference: &Reference, loops: usize) -> Result<(), TemplateError> {
        let steps = reference.steps.as_slice();
        let rest = match (reference.root.as_str(), steps) {
            ("input", _) => self.input(reference)?,
            ("context", _) => match context::member(steps) {
                Some((_, rest)) => rest,
                None => return Err(refuse(reference, "is not a member of $context that is emulated")),
            },
            ("util", [Step::Method(name, _), ..]) if !UTIL.contains(&name.as_str()) => {
                return Err(refuse(reference, &format!("the function $util.{name} is not emulated")));
            }
            ("util", [Step::Method(_, arguments), rest @ ..]) if arguments.len() == 1 => rest,
            ("util", [Step::Method(name, _), ..]) => {
                return Err(refuse(reference, &format!("$util.{name} takes one argument")));
            }
            ("util", _) => return Err(refuse(reference, "is not a function of $util")),
            ("stageVariables", _) => steps,
            ("foreach", [Step::Property(name)]) if loops > 0 && FOREACH.contains(&name.as_str()) => &[],
            ("foreach", _) if loops > 0 => return Err(refuse(reference, "is not a property of $foreach")),
            (variable, _) if self.variables.contains(variable) => steps,
            _ => return Err(refuse(reference, "is not a known variable: nothing in this template sets it")),
        };
        rest.iter().try_for_each(|step| method(reference, step))?;
        steps.iter().try_for_each(|step| match step {
            Step::Method(_, arguments) => {
                arguments.iter().try_for_each(|argument| self.expression(argument, loops))
            }
            Step::Index(index) => self.expression(index, loops),
            Step::Property(_) => Ok(()),
        })
    }

    /// Checks a reference to `$input`, and gives the steps after the known member.
    fn input<'r>(&self, reference: &'r Reference) -> Result<&'r [Step], TemplateError> {
        let (name, arguments, rest) = match reference.steps.as_slice() {
            [Step::Property(name), rest @ ..] if name == "body" => return Ok(rest),
            [Step::Method(name, arguments), rest @ ..] => (name, arguments.as_slice(), rest),
            _ => return Err(refuse(reference, "is not a member of $input")),
        };
        match (name.as_str(), arguments, rest) {
            ("path" | "json", [Expression::Text(path)], _) => {
                JsonPath::parse(path).map_err(|reason| refuse(reference, &reason))?;
                Ok(rest)
            }
            ("path" | "json", [_], _) => {
                Err(refuse(reference, "needs its JSONPath as a literal in single quotes"))
            }
            ("params", [], []) | ("params", [_], _) => Ok(rest),
            ("params", [], [Step::Property(place), rest @ ..])
                if ["path", "querystring", "header"].contains(&place.as_str()) =>
            {
                Ok(rest)
            }
            ("params", [], _) => Err(refuse(reference, "has only path, querystring and header")),
            _ => Err(refuse(reference, &format!("the function $input.{name} is not emulated"))),
        }
    }
}

/// Checks a method call: its name, its number of arguments, and that this engine can read its regular
/// expression, which on AWS is Java's.
fn method(reference: &Reference, step: &Step) -> Result<(), TemplateError> {
    let Step::Method(name, arguments) = step else { return Ok(()) };
    if !METHODS.contains(&(name, arguments.len())) {
        let reason = format!("the method {name} with {} argument(s) is not emulated", arguments.len());
        return Err(refuse(reference, &reason));
    }
    let takes_pattern = ["matches", "replaceAll", "replaceFirst", "split"].contains(&name.as_str());
    match arguments.first().and_then(literal) {
        Some(pattern) if takes_pattern && regex::Regex::new(pattern).is_err() => {
            Err(refuse(reference, &format!("the regular expression {pattern} is not emulated")))
        }
        _ => Ok(()),
    }
}

/// The text of an argument that never changes.
fn literal(argument: &Expression) -> Option<&str> {
    match argument {
        Expression::Text(text) => Some(text),
        Expression::Interpolated(nodes) => match nodes.as_slice() {
            [Node::Text(text)] => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn refuse(reference: &Reference, reason: &str) -> TemplateError {
    TemplateError::new(reference.place, &format!("{} {reason}", reference.source))
}
