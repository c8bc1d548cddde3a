//! Reads `x-amazon-apigateway-integration`.

use std::collections::{BTreeMap, BTreeSet};

use cloud_languages::vtl::Template;
use regex::Regex;

use crate::apigateway::document::{Invalid, Part};
use crate::apigateway::mapping::{Side, Source};
use crate::apigateway::rest_api::{Integration, IntegrationResponse, Passthrough, Target};

/// "50 - 29,000 milliseconds" (guide, "x-amazon-apigateway-integration object").
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 50..=29_000;
const FORM: &str = "application/x-www-form-urlencoded";

/// The headers that the method response of each status declares.
pub(super) type MethodResponses = BTreeMap<u16, BTreeSet<String>>;

#[rustfmt::skip]
const KEYS: [&str; 10] = [
    "type", "uri", "httpMethod", "credentials", "requestParameters", "requestTemplates",
    "passthroughBehavior", "responses", "timeoutInMillis", "connectionType",
];

/// Reads one integration. `declared` says whether the method declares a request parameter.
pub(super) fn read(
    part: &Part<'_>,
    declared: &dyn Fn(&str, &str) -> bool,
    method_responses: &MethodResponses,
) -> Result<Integration, Invalid> {
    part.check_keys(&KEYS, &[])?;
    let target = target(part)?;
    let connection = part.key("connectionType");
    if !matches!(connection.value.as_str(), None | Some("INTERNET")) {
        return connection.refuse("only INTERNET is emulated");
    }
    if let Target::FunctionProxy(_) = target {
        for key in ["requestParameters", "requestTemplates", "responses"] {
            if let Some(part) = part.get(key) {
                return part.refuse("has no effect in a proxy integration");
            }
        }
    }
    Ok(Integration {
        query: request_parameters(part, &target, declared)?,
        templates: request_templates(part)?,
        passthrough: passthrough(part)?,
        timeout_ms: timeout_ms(part)?,
        responses: part
            .entries_of("responses")?
            .map(|(selection, response)| integration_response(selection, &response, method_responses))
            .collect::<Result<_, _>>()?,
        target,
    })
}

fn target(part: &Part<'_>) -> Result<Target, Invalid> {
    let kind = part.key("type").text()?.to_ascii_lowercase();
    let proxy = match kind.as_str() {
        "mock" => return Ok(Target::Mock),
        "aws" => false,
        "aws_proxy" => true,
        other => return part.key("type").refuse(format!("{other} integrations are not emulated")),
    };
    // "For Lambda integrations, you must use the HTTP method of POST"; SQS takes forms by POST.
    let method = part.key("httpMethod");
    if method.value != "POST" {
        return method.refuse("must be POST");
    }
    let place = part.key("uri");
    let uri = place.text()?;
    // arn:aws:apigateway:{region}:{service}:path/{rest}
    let parts: Vec<&str> = uri.splitn(6, ':').collect();
    let ["arn", _, "apigateway", _, service, rest] = parts.as_slice() else {
        return place.refuse("is not arn:aws:apigateway:{region}:{service}:path/...");
    };
    let function = rest
        .strip_prefix("path/2015-03-31/functions/")
        .and_then(|rest| rest.strip_suffix("/invocations"))
        .map(str::to_owned);
    match (*service, function, rest.strip_prefix("path/")) {
        ("lambda", Some(arn), _) if proxy => Ok(Target::FunctionProxy(arn)),
        ("lambda", Some(arn), _) => Ok(Target::Function(arn)),
        ("sqs", _, Some(queue)) if !proxy && queue.split('/').count() == 2 => {
            if part.key("credentials").value.as_str().is_none_or(str::is_empty) {
                return part
                    .refuse("an integration with a queue needs credentials: the role that may send to it");
            }
            Ok(Target::Queue(format!("/{queue}")))
        }
        _ => place.refuse(format!(
            "{uri} is not emulated: only sqs:path/{{account}}/{{queue}} (type aws) and lambda:path/2015-03-31/functions/{{arn}}/invocations are"
        )),
    }
}

/// The query parameters of the call. A queue reads a form's content type and query parameters, and a
/// function reads none.
fn request_parameters(
    part: &Part<'_>,
    target: &Target,
    declared: &dyn Fn(&str, &str) -> bool,
) -> Result<Vec<(String, Source)>, Invalid> {
    let mut query = Vec::new();
    let mut form = false;
    let queue = matches!(target, Target::Queue(_));
    for (name, part) in part.entries_of("requestParameters")? {
        let source = Source::parse(part.text()?, Side::Request).map_err(|reason| part.invalid(reason))?;
        if let Some((location, name)) = source.request_parameter()
            && !declared(location, name)
        {
            return part.refuse(format!("the method declares no {location} parameter {name}"));
        }
        match (name.strip_prefix("integration.request."), &source) {
            (Some("header.Content-Type"), Source::Static(value)) if queue && value == FORM => form = true,
            (Some(rest), _) if queue && rest.starts_with("querystring.") => {
                query.push((rest["querystring.".len()..].to_owned(), source));
            }
            _ => return part.refuse("is not emulated"),
        }
    }
    if queue && !form {
        let reason =
            format!("a queue takes a form: integration.request.header.Content-Type must be '{FORM}'");
        return part.key("requestParameters").refuse(reason);
    }
    Ok(query)
}

fn request_templates(part: &Part<'_>) -> Result<BTreeMap<String, Template>, Invalid> {
    let template = |(content_type, part): (&String, Part<'_>)| {
        let template = Template::parse_request(part.text()?).map_err(|error| part.invalid(error))?;
        Ok((content_type.to_ascii_lowercase(), template))
    };
    part.entries_of("requestTemplates")?.map(template).collect()
}

fn passthrough(part: &Part<'_>) -> Result<Passthrough, Invalid> {
    let part = part.key("passthroughBehavior");
    match part.value.as_str().unwrap_or("when_no_match").to_ascii_lowercase().as_str() {
        "when_no_match" => Ok(Passthrough::WhenNoMatch),
        "when_no_templates" => Ok(Passthrough::WhenNoTemplates),
        "never" => Ok(Passthrough::Never),
        other => part.refuse(format!("{other} is not known")),
    }
}

fn timeout_ms(part: &Part<'_>) -> Result<u64, Invalid> {
    let Some(part) = part.get("timeoutInMillis") else { return Ok(*TIMEOUT_MS.end()) };
    let timeout = part.value.as_u64().filter(|timeout| TIMEOUT_MS.contains(timeout));
    timeout.ok_or_else(|| part.invalid("is not from 50 to 29000"))
}

fn integration_response(
    selection: &str,
    part: &Part<'_>,
    method_responses: &MethodResponses,
) -> Result<IntegrationResponse, Invalid> {
    part.check_keys(&["statusCode", "responseParameters", "responseTemplates"], &[])?;
    let status = part.key("statusCode").status()?;
    // AWS refuses the import: "Output mapping refers to an invalid method response".
    let Some(declared) = method_responses.get(&status) else {
        return part.refuse(format!("the method declares no response {status}"));
    };
    let selection = match selection {
        "default" => None,
        // Java matches the whole text.
        pattern => Some(Regex::new(&format!("^(?:{pattern})$")).map_err(|error| part.invalid(error))?),
    };
    let mut headers = Vec::new();
    for (target, part) in part.entries_of("responseParameters")? {
        let header = target
            .strip_prefix("method.response.header.")
            .ok_or_else(|| part.invalid("only method.response.header.<name> is emulated"))?;
        // AWS refuses the import: "Invalid mapping expression parameter specified".
        if !declared.contains(header) {
            return part.refuse(format!("the method response {status} declares no header {header}"));
        }
        let source =
            Source::parse(part.text()?, Side::IntegrationResponse).map_err(|reason| part.invalid(reason))?;
        // The back ends here answer with no other header than the content type.
        if let Source::IntegrationHeader(name) = &source
            && !name.eq_ignore_ascii_case("content-type")
        {
            return part.refuse(format!("the header {name} of an integration is not emulated"));
        }
        headers.push((header.to_owned(), source));
    }
    Ok(IntegrationResponse { selection, status, headers, template: part.response_template(Template::parse)? })
}
