//! The members of `$context` that a template can read, and those that it can override.

use super::ast::{Expression, Step};

/// A caller is never known here, so the members of an authorizer or a signature are empty, as on AWS for an
/// open method.
#[rustfmt::skip]
const CONTEXT: [&str; 29] = [
    "accountId", "apiId", "authorizer.principalId", "deploymentId", "domainName", "domainPrefix",
    "extendedRequestId", "httpMethod", "identity.accountId", "identity.apiKey", "identity.apiKeyId",
    "identity.caller", "identity.cognitoAuthenticationProvider", "identity.cognitoAuthenticationType",
    "identity.cognitoIdentityId", "identity.cognitoIdentityPoolId", "identity.principalOrgId",
    "identity.sourceIp", "identity.user", "identity.userAgent", "identity.userArn", "path", "protocol",
    "requestId", "requestTime", "requestTimeEpoch", "resourceId", "resourcePath", "stage",
];

/// Whether a template can read `$context.{path}`.
pub fn known_context(path: &str) -> bool {
    CONTEXT.contains(&path)
}

/// The names of the member that the steps of a `$context...` begin with: two where it is nested
/// (`identity.sourceIp`), one otherwise. The second part of the answer is the rest of the steps.
pub(super) fn member(steps: &[Step]) -> Option<(Vec<&str>, &[Step])> {
    (1..=steps.len().min(2)).rev().find_map(|length| {
        let (member, rest) = steps.split_at(length);
        let names: Option<Vec<&str>> = member.iter().map(property).collect();
        names.filter(|names| known_context(&names.join("."))).map(|names| (names, rest))
    })
}

fn property(step: &Step) -> Option<&str> {
    match step {
        Step::Property(name) => Some(name),
        _ => None,
    }
}

/// The part of the response that `#set($context.responseOverride...)` overrides.
pub(super) enum OverrideTarget<'r> {
    Status,
    Header(&'r str),
}

/// Reads the steps of an assignment to `$context`.
pub(super) fn override_target(steps: &[Step]) -> Option<OverrideTarget<'_>> {
    let [Step::Property(first), Step::Property(second), rest @ ..] = steps else { return None };
    match (first.as_str(), second.as_str(), rest) {
        ("responseOverride", "status", []) => Some(OverrideTarget::Status),
        ("responseOverride", "header", [Step::Property(name) | Step::Index(Expression::Text(name))]) => {
            Some(OverrideTarget::Header(name))
        }
        _ => None,
    }
}
