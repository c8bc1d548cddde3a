//! Reads `x-amazon-apigateway-integration`.

use std::collections::BTreeMap;

use cloud_languages::vtl::Template;
use regex::Regex;
use serde_json::{Map, Value};

use super::document::{Invalid, fields, map, only_template, refuse, status, text};
use crate::apigateway::api::{Integration, IntegrationResponse, MethodResponses, Passthrough, Target};
use crate::apigateway::mapping::{Side, Source};

/// "50 - 29,000 milliseconds" (guide, "x-amazon-apigateway-integration object").
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 50..=29_000;
const FORM: &str = "application/x-www-form-urlencoded";

/// Reads one integration. `declared` says whether the method declares a request parameter.
pub(super) fn read(
    value: &Value,
    path: &str,
    declared: &dyn Fn(&str, &str) -> bool,
    method_responses: &MethodResponses,
) -> Result<Integration, Invalid> {
    let fields = fields(
        value,
        path,
        &[
            "type",
            "uri",
            "httpMethod",
            "credentials",
            "requestParameters",
            "requestTemplates",
            "passthroughBehavior",
            "responses",
            "timeoutInMillis",
            "connectionType",
        ],
        &[],
    )?;
    let target = read_target(fields, path)?;
    if !matches!(fields.get("connectionType").and_then(Value::as_str), None | Some("INTERNET")) {
        return refuse(&format!("{path}.connectionType"), "only INTERNET is emulated");
    }
    if let Target::FunctionProxy(_) = target {
        for key in ["requestParameters", "requestTemplates", "responses"] {
            if fields.contains_key(key) {
                return refuse(&format!("{path}.{key}"), "has no effect in a proxy integration");
            }
        }
    }
    let templates = match fields.get("requestTemplates") {
        Some(templates) => read_templates(templates, &format!("{path}.requestTemplates"))?,
        None => BTreeMap::new(),
    };
    let responses = match fields.get("responses") {
        Some(responses) => read_responses(responses, &format!("{path}.responses"), method_responses)?,
        None => Vec::new(),
    };
    Ok(Integration {
        query: read_request_parameters(fields, path, &target, declared)?,
        passthrough: read_passthrough(fields, path)?,
        timeout_ms: read_timeout(fields, path)?,
        target,
        templates,
        responses,
    })
}

fn read_target(fields: &Map<String, Value>, path: &str) -> Result<Target, Invalid> {
    let kind =
        text(fields.get("type").unwrap_or(&Value::Null), &format!("{path}.type"))?.to_ascii_lowercase();
    let proxy = match kind.as_str() {
        "mock" => return Ok(Target::Mock),
        "aws" => false,
        "aws_proxy" => true,
        other => return refuse(&format!("{path}.type"), &format!("{other} integrations are not emulated")),
    };
    // "For Lambda integrations, you must use the HTTP method of POST"; SQS takes forms by POST.
    if fields.get("httpMethod").and_then(Value::as_str) != Some("POST") {
        return refuse(&format!("{path}.httpMethod"), "must be POST");
    }
    let place = format!("{path}.uri");
    let uri = text(fields.get("uri").unwrap_or(&Value::Null), &place)?;
    // arn:aws:apigateway:{region}:{service}:path/{rest}
    let parts: Vec<&str> = uri.splitn(6, ':').collect();
    let ["arn", _, "apigateway", _, service, rest] = parts.as_slice() else {
        return refuse(&place, "is not arn:aws:apigateway:{region}:{service}:path/...");
    };
    let function = rest
        .strip_prefix("path/2015-03-31/functions/")
        .and_then(|rest| rest.strip_suffix("/invocations"))
        .map(str::to_owned);
    match (*service, function, rest.strip_prefix("path/")) {
        ("lambda", Some(arn), _) if proxy => Ok(Target::FunctionProxy(arn)),
        ("lambda", Some(arn), _) => Ok(Target::Function(arn)),
        ("sqs", _, Some(queue)) if !proxy && queue.split('/').count() == 2 => {
            if fields.get("credentials").and_then(Value::as_str).is_none_or(str::is_empty) {
                return refuse(
                    path,
                    "an integration with a queue needs credentials: the role that may send to it",
                );
            }
            Ok(Target::Queue(format!("/{queue}")))
        }
        _ => refuse(
            &place,
            &format!(
                "{uri} is not emulated: only sqs:path/{{account}}/{{queue}} (type aws) and lambda:path/2015-03-31/functions/{{arn}}/invocations are"
            ),
        ),
    }
}

/// What is added to the call. A queue reads only a form's content type and query parameters.
fn read_request_parameters(
    fields: &Map<String, Value>,
    path: &str,
    target: &Target,
    declared: &dyn Fn(&str, &str) -> bool,
) -> Result<Vec<(String, Source)>, Invalid> {
    let mut query = Vec::new();
    let mut form = false;
    let none = Map::new();
    let place = format!("{path}.requestParameters");
    let parameters = fields.get("requestParameters").map_or(Ok(&none), |value| map(value, &place))?;
    for (name, expression) in parameters {
        let place = format!("{place}.{name}");
        let source = Source::parse(text(expression, &place)?, Side::Request)
            .map_err(|reason| Invalid::new(&place, &reason))?;
        if let Some((location, name)) = source.request_parameter()
            && !declared(location, name)
        {
            return refuse(&place, &format!("the method declares no {location} parameter {name}"));
        }
        match (name.strip_prefix("integration.request."), target, &source) {
            (Some("header.Content-Type"), Target::Queue(_), Source::Static(value)) if value == FORM => {
                form = true
            }
            (Some(rest), Target::Queue(_), _) if rest.starts_with("querystring.") => {
                query.push((rest["querystring.".len()..].to_owned(), source));
            }
            _ => return refuse(&place, "is not emulated"),
        }
    }
    if matches!(target, Target::Queue(_)) && !form {
        return refuse(
            &place,
            &format!("a queue takes a form: integration.request.header.Content-Type must be '{FORM}'"),
        );
    }
    Ok(query)
}

fn read_templates(value: &Value, path: &str) -> Result<BTreeMap<String, Template>, Invalid> {
    map(value, path)?
        .iter()
        .map(|(content_type, template)| {
            let path = format!("{path}.{content_type}");
            let template = Template::parse_request(text(template, &path)?)
                .map_err(|error| Invalid::new(&path, &error.to_string()))?;
            Ok((content_type.to_ascii_lowercase(), template))
        })
        .collect()
}

fn read_passthrough(fields: &Map<String, Value>, path: &str) -> Result<Passthrough, Invalid> {
    let value = fields.get("passthroughBehavior").and_then(Value::as_str).unwrap_or("when_no_match");
    match value.to_ascii_lowercase().as_str() {
        "when_no_match" => Ok(Passthrough::WhenNoMatch),
        "when_no_templates" => Ok(Passthrough::WhenNoTemplates),
        "never" => Ok(Passthrough::Never),
        other => refuse(&format!("{path}.passthroughBehavior"), &format!("{other} is not known")),
    }
}

fn read_timeout(fields: &Map<String, Value>, path: &str) -> Result<u64, Invalid> {
    match fields.get("timeoutInMillis") {
        None => Ok(*TIMEOUT_MS.end()),
        Some(value) => value
            .as_u64()
            .filter(|timeout| TIMEOUT_MS.contains(timeout))
            .ok_or_else(|| Invalid::new(&format!("{path}.timeoutInMillis"), "is not from 50 to 29000")),
    }
}

fn read_responses(
    value: &Value,
    path: &str,
    method_responses: &MethodResponses,
) -> Result<Vec<IntegrationResponse>, Invalid> {
    let mut responses = Vec::new();
    for (selection, response) in map(value, path)? {
        let path = format!("{path}.{selection}");
        let fields =
            fields(response, &path, &["statusCode", "responseParameters", "responseTemplates"], &[])?;
        let status = status(fields.get("statusCode").unwrap_or(&Value::Null), &format!("{path}.statusCode"))?;
        // AWS refuses the import: "Output mapping refers to an invalid method response".
        let Some(declared) = method_responses.get(&status) else {
            return refuse(&path, &format!("the method declares no response {status}"));
        };
        let selection = match selection.as_str() {
            "default" => None,
            // Java matches the whole text.
            pattern => Some(
                Regex::new(&format!("^(?:{pattern})$"))
                    .map_err(|error| Invalid::new(&path, &error.to_string()))?,
            ),
        };
        let mut headers = Vec::new();
        if let Some(parameters) = fields.get("responseParameters") {
            let path = format!("{path}.responseParameters");
            for (target, expression) in map(parameters, &path)? {
                let path = format!("{path}.{target}");
                let header = target
                    .strip_prefix("method.response.header.")
                    .ok_or_else(|| Invalid::new(&path, "only method.response.header.<name> is emulated"))?;
                // AWS refuses the import: "Invalid mapping expression parameter specified".
                if !declared.contains(header) {
                    return refuse(
                        &path,
                        &format!("the method response {status} declares no header {header}"),
                    );
                }
                let source = Source::parse(text(expression, &path)?, Side::IntegrationResponse)
                    .map_err(|reason| Invalid::new(&path, &reason))?;
                // The content type is the one header that the back ends here answer with.
                if let Source::IntegrationHeader(name) = &source
                    && !name.eq_ignore_ascii_case("content-type")
                {
                    return refuse(&path, &format!("the header {name} of an integration is not emulated"));
                }
                headers.push((header.to_owned(), source));
            }
        }
        let template = match fields.get("responseTemplates") {
            Some(templates) => {
                only_template(templates, &format!("{path}.responseTemplates"), Template::parse)?
            }
            None => None,
        };
        responses.push(IntegrationResponse { selection, status, headers, template });
    }
    Ok(responses)
}
