//! Lambda proxy integration: the whole request as an event, and the function's answer as the whole
//! response. Source: API Gateway guide, "Lambda proxy integrations in API Gateway" (payload format 1.0).

use std::collections::BTreeMap;

use bytes::Bytes;
use cloud_core::Cloud;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::backend::Reply;
use super::gateway_response::Failure;
use super::request::Request;
use super::response::Response;

/// The event for the function, from a request and its `$context`.
pub(super) fn event(cloud: &Cloud, request: &Request, context: &Value, stage_variables: &Value) -> Value {
    let headers = forwarded_headers(cloud, request);
    let query = &request.parameters.query;
    json!({
        "resource": context["resourcePath"],
        "path": request.path,
        "httpMethod": request.method,
        "headers": last_values(&headers),
        "multiValueHeaders": all_values(&headers),
        "queryStringParameters": last_values(query),
        "multiValueQueryStringParameters": all_values(query),
        // Not decoded. The notes that "REST APIs decode URL-encoded request parameters" do not hold here:
        // a path of `test%2Balias` arrives as such (recorded on AWS by LocalStack,
        // test_apigateway_lambda.snapshot.json, "path-encoded-email").
        "pathParameters": none_if_empty(json!(request.raw_path_parameters)),
        "stageVariables": none_if_empty(stage_variables.clone()),
        "requestContext": {
            "accountId": context["accountId"],
            "apiId": context["apiId"],
            "deploymentId": context["deploymentId"],
            "domainName": context["domainName"],
            "domainPrefix": context["domainPrefix"],
            "extendedRequestId": request.extended_request_id,
            "httpMethod": request.method,
            "identity": {
                "accessKey": null, "accountId": null, "caller": null,
                "cognitoAuthenticationProvider": null, "cognitoAuthenticationType": null,
                "cognitoIdentityId": null, "cognitoIdentityPoolId": null, "principalOrgId": null,
                "sourceIp": request.source_ip,
                "user": null,
                "userAgent": context["identity"]["userAgent"],
                "userArn": null,
            },
            "path": request.client_path,
            "protocol": request.protocol,
            "requestId": request.request_id,
            "requestTime": context["requestTime"],
            "requestTimeEpoch": request.time_ms,
            "resourceId": context["resourceId"],
            "resourcePath": context["resourcePath"],
            "stage": context["stage"],
        },
        "body": if request.body.is_empty() { Value::Null } else { json!(request.text()) },
        // No API here has binary media types, so every body is text.
        "isBase64Encoded": false,
    })
}

/// AWS spells these headers so, however the client spells them (recorded on AWS by LocalStack:
/// `aUThorization` arrives as `Authorization`). All others keep the client's spelling.
const STANDARD: [&str; 2] = ["Authorization", "User-Agent"];

/// Headers that no integration gets: guide, "Amazon API Gateway important notes for REST APIs", and those of
/// the connection.
#[rustfmt::skip]
const WITHHELD: [&str; 13] = [
    "connection", "content-length", "content-md5", "expect", "keep-alive", "max-forwards",
    "proxy-authenticate", "server", "te", "trailer", "transfer-encoding", "upgrade", "www-authenticate",
];

/// The client's headers and those that the gateway adds. A client cannot forge the latter, except that its
/// `X-Forwarded-For` stands before the address that the gateway sees.
fn forwarded_headers(cloud: &Cloud, request: &Request) -> Vec<(String, String)> {
    let host = request.parameters.header("host").unwrap_or_default();
    let port = host.rsplit_once(':').map_or("80", |(_, port)| port);
    let forwarded_for = match request.parameters.header("x-forwarded-for") {
        Some(before) => format!("{before}, {}", request.source_ip),
        None => request.source_ip.clone(),
    };
    let trace = cloud.random.uuid().replace('-', "");
    let added = [
        ("Host", host.to_owned()),
        // This gateway speaks plain HTTP.
        ("X-Forwarded-Proto", "http".to_owned()),
        ("X-Forwarded-Port", port.to_owned()),
        ("X-Forwarded-For", forwarded_for),
        ("X-Amzn-Trace-Id", format!("Root=1-{:08x}-{}", request.time_ms / 1000, &trace[..24])),
    ];
    let standard = |name: &str| STANDARD.into_iter().find(|other| other.eq_ignore_ascii_case(name));
    let from_client = request
        .parameters
        .headers
        .iter()
        .filter(|(name, _)| !added.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)))
        .filter(|(name, _)| !WITHHELD.contains(&name.to_ascii_lowercase().as_str()))
        .map(|(name, value)| (standard(name).unwrap_or(name).to_owned(), value.clone()));
    from_client.chain(added.clone().map(|(name, value)| (name.to_owned(), value))).collect()
}

/// The last value of each name; null where there is none at all.
fn last_values(pairs: &[(String, String)]) -> Value {
    let map: Map<String, Value> = pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    none_if_empty(Value::Object(map))
}

/// All values of each name; null where there is none at all.
fn all_values(pairs: &[(String, String)]) -> Value {
    let mut map: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in pairs {
        map.entry(name).or_default().push(value);
    }
    none_if_empty(json!(map))
}

fn none_if_empty(value: Value) -> Value {
    if value.as_object().is_some_and(Map::is_empty) { Value::Null } else { value }
}

/// The answer of a function. No member is required, and an unknown one makes the answer malformed (the
/// guide does not say the first; recorded on AWS by LocalStack, aws.py).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ProxyResponse {
    #[serde(default)]
    status_code: Value,
    headers: Option<BTreeMap<String, Value>>,
    multi_value_headers: Option<BTreeMap<String, Vec<Value>>>,
    body: Option<String>,
    /// Without binary media types the gateway passes a base64 body on as the text that it is.
    #[serde(rename = "isBase64Encoded")]
    _is_base64_encoded: Option<bool>,
}

/// The response that the function gives: "If the function output is of a different format, API Gateway
/// returns a 502 Bad Gateway error response."
pub(super) fn response(reply: &Reply) -> Result<Response, Failure> {
    let malformed = |reason: &str| {
        tracing::warn!(target: "hop", service = "apigateway", "a function's answer cannot be used: {reason}");
        Failure::bad_gateway()
    };
    if reply.function_error {
        return Err(malformed("the function failed"));
    }
    let answer: ProxyResponse =
        serde_json::from_slice(&reply.body).map_err(|error| malformed(&error.to_string()))?;
    let status = match &answer.status_code {
        Value::Null => Some(200),
        status => status.as_u64().or_else(|| status.as_str()?.parse().ok()),
    };
    let status = status
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (100..1000).contains(status))
        .ok_or_else(|| malformed("its statusCode is not a status code"))?;
    // "If you specify values for both, API Gateway merges them"; the list wins for its names.
    let several = answer.multi_value_headers.unwrap_or_default();
    let one_each = answer.headers.unwrap_or_default().into_iter();
    let one_each = one_each.filter(|(name, _)| !several.keys().any(|other| other.eq_ignore_ascii_case(name)));
    let several =
        several.iter().flat_map(|(name, values)| values.iter().map(|value| (name.clone(), value.clone())));
    let headers = one_each
        .chain(several)
        .map(|(name, value)| Some((name, header_text(value)?)))
        .collect::<Option<_>>()
        .ok_or_else(|| malformed("a header is not a text"))?;
    let body = Bytes::from(answer.body.unwrap_or_default());
    Ok(Response { status, headers, body }.or_content_type("application/json"))
}

fn header_text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}
