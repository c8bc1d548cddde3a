//! What a template may name, checked when it is deployed: AWS would find a misspelt name
//! only when a request comes, and render its text.

use std::collections::BTreeSet;

use super::ast::{Expression, Node, Place, Reference, Step};
use super::functions::{METHODS, UTIL};
use super::{JsonPath, TemplateError};

/// The members of `$context` that a mapping template can read. Who calls is never known
/// here, so those of an authorizer or a signature are empty, as on AWS for an open method.
const CONTEXT: [&str; 29] = [
    "accountId",
    "apiId",
    "authorizer.principalId",
    "deploymentId",
    "domainName",
    "domainPrefix",
    "extendedRequestId",
    "httpMethod",
    "identity.accountId",
    "identity.apiKey",
    "identity.apiKeyId",
    "identity.caller",
    "identity.cognitoAuthenticationProvider",
    "identity.cognitoAuthenticationType",
    "identity.cognitoIdentityId",
    "identity.cognitoIdentityPoolId",
    "identity.principalOrgId",
    "identity.sourceIp",
    "identity.user",
    "identity.userAgent",
    "identity.userArn",
    "path",
    "protocol",
    "requestId",
    "requestTime",
    "requestTimeEpoch",
    "resourceId",
    "resourcePath",
    "stage",
];

/// Whether `$context.{path}` is known here.
pub fn known_context(path: &str) -> bool {
    CONTEXT.contains(&path)
}

/// Refuses what cannot be rendered.
pub(super) fn check(nodes: &[Node]) -> Result<(), TemplateError> {
    let mut variables = BTreeSet::new();
    collect(nodes, &mut variables);
    Check { variables }.nodes(nodes, 0)
}

/// Every variable that the template assigns somewhere.
fn collect(nodes: &[Node], variables: &mut BTreeSet<String>) {
    for node in nodes {
        match node {
            Node::Set(target, _) => {
                if target.steps.is_empty() {
                    variables.insert(target.root.clone());
                }
            }
            Node::If { branches, otherwise } => {
                branches.iter().for_each(|(_, body)| collect(body, variables));
                collect(otherwise, variables);
            }
            Node::Foreach { variable, body, .. } => {
                variables.insert(variable.clone());
                collect(body, variables);
            }
            Node::Text(_) | Node::Reference(_) => {}
        }
    }
}

/// Where the template first assigns something in `$context`.
pub(super) fn first_override(nodes: &[Node]) -> Option<Place> {
    nodes.iter().find_map(|node| match node {
        Node::Set(target, _) if target.root == "context" => Some(target.place),
        Node::If { branches, otherwise } => {
            let in_branches = branches.iter().find_map(|(_, body)| first_override(body));
            in_branches.or_else(|| first_override(otherwise))
        }
        Node::Foreach { body, .. } => first_override(body),
        _ => None,
    })
}

struct Check {
    variables: BTreeSet<String>,
}

const BUILT_IN: [&str; 5] = ["input", "context", "stageVariables", "util", "foreach"];

impl Check {
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
            Expression::Integer(_)
            | Expression::Decimal(_)
            | Expression::Boolean(_)
            | Expression::Text(_) => Ok(()),
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
        }
    }

    /// What `#set` may assign: a variable, or the override of a response's status or header.
    fn target(&self, target: &Reference) -> Result<(), TemplateError> {
        if target.root != "context" {
            return if target.steps.is_empty() && !BUILT_IN.contains(&target.root.as_str()) {
                Ok(())
            } else {
                Err(refuse(
                    target,
                    "cannot be assigned here: only variables and $context.responseOverride can",
                ))
            };
        }
        if override_target(&target.steps).is_some() {
            Ok(())
        } else {
            Err(refuse(
                target,
                "cannot be assigned: of $context, only responseOverride.status and responseOverride.header can be set here",
            ))
        }
    }

    fn reference(&self, reference: &Reference, loops: usize) -> Result<(), TemplateError> {
        let steps = &reference.steps;
        let rest = match reference.root.as_str() {
            "input" => self.input(reference)?,
            "context" => context(reference)?,
            "util" => match steps.split_first() {
                Some((Step::Method(name, arguments), rest)) => {
                    if !UTIL.contains(&name.as_str()) {
                        return Err(refuse(reference, &format!("the function $util.{name} is not emulated")));
                    }
                    if arguments.len() != 1 {
                        return Err(refuse(reference, &format!("$util.{name} takes one argument")));
                    }
                    rest
                }
                _ => return Err(refuse(reference, "is not a function of $util")),
            },
            "stageVariables" => steps,
            "foreach" if loops > 0 => match steps.as_slice() {
                [Step::Property(name)]
                    if ["index", "count", "hasNext", "first", "last"].contains(&name.as_str()) =>
                {
                    &[]
                }
                _ => return Err(refuse(reference, "is not a property of $foreach")),
            },
            variable if self.variables.contains(variable) => steps,
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

    fn input<'r>(&self, reference: &'r Reference) -> Result<&'r [Step], TemplateError> {
        match reference.steps.split_first() {
            Some((Step::Property(name), rest)) if name == "body" => Ok(rest),
            Some((Step::Method(name, arguments), rest)) => match (name.as_str(), arguments.as_slice()) {
                ("path" | "json", [Expression::Text(path)]) => {
                    JsonPath::parse(path).map_err(|reason| refuse(reference, &reason))?;
                    Ok(rest)
                }
                ("path" | "json", [_]) => {
                    Err(refuse(reference, "needs its JSONPath as a literal in single quotes"))
                }
                ("params", []) => match rest.split_first() {
                    None => Ok(rest),
                    Some((Step::Property(place), rest))
                        if ["path", "querystring", "header"].contains(&place.as_str()) =>
                    {
                        Ok(rest)
                    }
                    Some(_) => Err(refuse(reference, "has only path, querystring and header")),
                },
                ("params", [_]) => Ok(rest),
                _ => Err(refuse(reference, &format!("the function $input.{name} is not emulated"))),
            },
            _ => Err(refuse(reference, "is not a member of $input")),
        }
    }
}

/// Checks a method call: that it is known, and that its literal regular expression, which
/// Java would read, can be read here too.
fn method(reference: &Reference, step: &Step) -> Result<(), TemplateError> {
    let Step::Method(name, arguments) = step else { return Ok(()) };
    if !METHODS.contains(&(name, arguments.len())) {
        let reason = format!("the method {name} with {} argument(s) is not emulated", arguments.len());
        return Err(refuse(reference, &reason));
    }
    let takes_pattern = ["matches", "replaceAll", "replaceFirst", "split"].contains(&name.as_str());
    match arguments.first().and_then(literal) {
        Some(pattern) if takes_pattern => match regex::Regex::new(pattern) {
            Ok(_) => Ok(()),
            Err(_) => Err(refuse(reference, &format!("the regular expression {pattern} is not emulated"))),
        },
        _ => Ok(()),
    }
}

/// The text of an argument that is the same at every rendering.
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

/// Checks a read of `$context` and gives what follows the known member.
fn context(reference: &Reference) -> Result<&[Step], TemplateError> {
    let steps = &reference.steps;
    for length in (1..=steps.len().min(2)).rev() {
        if property_path(&steps[..length]).is_some_and(|path| known_context(&path)) {
            return Ok(&steps[length..]);
        }
    }
    Err(refuse(reference, "is not a member of $context that is emulated"))
}

/// `a.b` for two property steps; `None` where a step is not a property.
pub(super) fn property_path(steps: &[Step]) -> Option<String> {
    let names: Option<Vec<&str>> = steps
        .iter()
        .map(|step| match step {
            Step::Property(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    names.map(|names| names.join("."))
}

/// What `#set($context.responseOverride...)` overrides.
pub(super) enum OverrideTarget<'r> {
    Status,
    Header(&'r str),
}

/// Reads the steps of an assignment to `$context`.
pub(super) fn override_target(steps: &[Step]) -> Option<OverrideTarget<'_>> {
    let [Step::Property(first), Step::Property(second), rest @ ..] = steps else { return None };
    if first != "responseOverride" {
        return None;
    }
    match (second.as_str(), rest) {
        ("status", []) => Some(OverrideTarget::Status),
        ("header", [Step::Property(name) | Step::Index(Expression::Text(name))]) => {
            Some(OverrideTarget::Header(name))
        }
        _ => None,
    }
}

fn refuse(reference: &Reference, reason: &str) -> TemplateError {
    TemplateError::new(reference.place, &format!("{} {reason}", reference.source))
}
