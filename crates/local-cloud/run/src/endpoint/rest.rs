//! REST with JSON bodies: Lambda, Pipes, Schemas. The action follows from method and path. Values in the
//! path and in the query string join the members of the body.
//! <https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html>

use std::sync::Arc;

use axum::response::Response;
use cloud_core::service::{Protocol, Service};
use cloud_core::{AwsError, Cloud};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::json as json_protocol;
use super::request::Request;
use super::response::{respond, set_header};

const JSON: &str = "application/json";

const REQUEST_ID: &str = "x-amzn-requestid";

/// The service that a REST request is for: as signed, else by its path.
pub(super) fn service_of(cloud: &Cloud, request: &Request) -> Option<&'static str> {
    let owner = |row: &Service| {
        row.protocols.iter().find_map(|protocol| match protocol {
            Protocol::Rest { owns } => Some((row.name, *owns)),
            _ => None,
        })
    };
    let mut owners = cloud.services().filter_map(owner);
    match request.signed_service() {
        Some(signed) => owners.find(|(name, _)| *name == signed),
        None => owners.find(|(_, owns)| owns(&request.path)),
    }
    .map(|(name, _)| name)
}

pub(super) async fn handle(cloud: &Arc<Cloud>, request: &Request) -> Response {
    let service = service_of(cloud, request).or_else(|| request.signed_service()).unwrap_or_default();
    let actions = cloud.services().filter(|row| row.name == service).flat_map(|row| row.actions);
    let found = actions.into_iter().find_map(|action| {
        let (method, path, status) = action.route?;
        let members = (request.method == method).then(|| members_of(path, &request.path)).flatten()?;
        Some((action.name, status, members))
    });
    let answered = match found {
        Some(("Invoke", _, members)) => invoke(cloud, request, members).await,
        Some((action, status, members)) => {
            action_of(cloud, request, service, action, members).await.map(|answer| success(status, &answer))
        }
        None => Err(AwsError::not_emulated(service, &format!("{} {}", request.method, request.path))),
    };
    let mut response = answered.unwrap_or_else(|error| refuse(service, error));
    if !response.headers().contains_key(REQUEST_ID) {
        set_header(&mut response, REQUEST_ID, &request.id);
    }
    response
}

/// The members that stand in a request's path, where it has the form of the route.
fn members_of(route: &str, path: &str) -> Option<Map<String, Value>> {
    let mut members = Map::new();
    // botocore adds a slash to the paths of some lists.
    let mut path = path.trim_end_matches('/').split('/');
    for part in route.split('/') {
        let given = path.next()?;
        match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(name) => {
                let value = percent_decode_str(given).decode_utf8().ok()?.into_owned();
                members.insert(name.into(), value.into());
            }
            None if part == given => {}
            None => return None,
        }
    }
    path.next().is_none().then_some(members)
}

async fn action_of(
    cloud: &Arc<Cloud>,
    request: &Request,
    service: &str,
    action: &str,
    members: Map<String, Value>,
) -> Result<Value, AwsError> {
    let mut input = json_protocol::parse(&request.body)?;
    let Some(all) = input.as_object_mut() else {
        return Err(AwsError::client("SerializationException", "The body is not a JSON object."));
    };
    all.extend(members);
    all.extend(request.query.iter().map(|(name, value)| parameter(service, name, value)));
    cloud.call(service, action, input).await
}

/// A parameter of the query string under its name in the API reference.
fn parameter(service: &str, name: &str, value: &str) -> (String, Value) {
    let mut name = name.to_string();
    // Schemas spells them `nextToken` where the reference says `NextToken`.
    if service == "schemas"
        && let Some(first) = name.get_mut(0..1)
    {
        first.make_ascii_uppercase();
    }
    let number = matches!(name.as_str(), "MaxItems" | "Limit").then(|| value.parse::<i64>().ok()).flatten();
    (name, number.map_or_else(|| value.into(), Value::from))
}

fn success(status: u16, answer: &Value) -> Response {
    match status {
        204 => respond(204, JSON, ""),
        _ => respond(status, JSON, answer.to_string()),
    }
}

/// Invoke has payloads as bodies, and everything else in headers.
/// <https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html>
async fn invoke(
    cloud: &Arc<Cloud>,
    request: &Request,
    mut input: Map<String, Value>,
) -> Result<Response, AwsError> {
    let payload = std::str::from_utf8(&request.body).map_err(|error| {
        AwsError::client(
            "InvalidRequestContentException",
            format!("Could not parse request body into json: {error}"),
        )
    })?;
    input.insert("Payload".into(), payload.into());
    for (header, member) in [
        ("x-amz-invocation-type", "InvocationType"),
        ("x-amz-log-type", "LogType"),
        ("x-amz-client-context", "ClientContext"),
    ] {
        if let Some(value) = request.header(header) {
            input.insert(member.into(), value.into());
        }
    }
    if let Some(qualifier) = request.parameter("Qualifier") {
        input.insert("Qualifier".into(), qualifier.into());
    }
    Ok(invocation(&cloud.call("lambda", "Invoke", input.into()).await?))
}

fn invocation(answer: &Value) -> Response {
    let status = answer["StatusCode"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(200);
    let payload = answer["Payload"].as_str().unwrap_or_default().to_string();
    let mut response = respond(status, JSON, payload);
    for (member, header) in [
        ("FunctionError", "x-amz-function-error"),
        ("ExecutedVersion", "x-amz-executed-version"),
        ("LogResult", "x-amz-log-result"),
        // The id that the function logged.
        ("RequestId", REQUEST_ID),
    ] {
        if let Some(value) = answer[member].as_str() {
            set_header(&mut response, header, value);
        }
    }
    response
}

pub(super) fn refuse(service: &str, error: AwsError) -> Response {
    let fault = if error.is_server_fault() { "Service" } else { "User" };
    let mut body = error.details;
    match service {
        "lambda" => {
            body.extend([("Type".into(), json!(fault)), ("Message".into(), json!(error.message))]);
        }
        "schemas" => {
            body.extend([("Code".into(), json!(error.code)), ("Message".into(), json!(error.message))]);
        }
        _ => body.extend([("message".into(), json!(error.message))]),
    }
    let mut response = respond(error.status, JSON, Value::Object(body).to_string());
    set_header(&mut response, "x-amzn-errortype", &error.code);
    response
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[tokio::test]
    async fn an_invocation_that_failed_is_200_with_the_failure_in_a_header() {
        let response = invocation(&json!({
            "StatusCode": 200,
            "FunctionError": "Unhandled",
            "ExecutedVersion": "$LATEST",
            "LogResult": "bG9n",
            "RequestId": "id",
            "Payload": "{\"errorType\":\"Runtime.ExitError\"}",
        }));
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-amz-function-error"], "Unhandled");
        assert_eq!(response.headers()["x-amz-executed-version"], "$LATEST");
        assert_eq!(response.headers()["x-amz-log-result"], "bG9n");
        assert_eq!(response.headers()["x-amzn-requestid"], "id");
        let body = to_bytes(response.into_body(), 1000).await.unwrap();
        assert_eq!(body, "{\"errorType\":\"Runtime.ExitError\"}");
        assert_eq!(invocation(&json!({"StatusCode": 202})).status(), 202);
    }

    #[tokio::test]
    async fn lambdas_refusals_say_whose_fault_they_are() {
        let error = AwsError::new(404, "ResourceNotFoundException", "Function not found: f");
        let response = refuse("lambda", error);
        assert_eq!(response.headers()["x-amzn-errortype"], "ResourceNotFoundException");
        let body = to_bytes(response.into_body(), 1000).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body, json!({"Type": "User", "Message": "Function not found: f"}));
    }

    #[test]
    fn names_in_a_path_are_decoded() {
        let arn = "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A1%3Afunction%3Af/configuration";
        let members = members_of("/2015-03-31/functions/{FunctionName}/configuration", arn).unwrap();
        assert_eq!(members["FunctionName"], "arn:aws:lambda:us-east-1:1:function:f");
        assert!(members_of("/2015-03-31/functions/{FunctionName}", arn).is_none());
        assert!(members_of("/2015-03-31/functions", "/2015-03-31/functions/").is_some());
    }

    #[test]
    fn parameters_of_a_query_string_get_their_names_of_the_reference() {
        assert_eq!(parameter("schemas", "nextToken", "t"), ("NextToken".into(), json!("t")));
        assert_eq!(parameter("lambda", "MaxItems", "50"), ("MaxItems".into(), json!(50)));
        assert_eq!(parameter("lambda", "Marker", "50"), ("Marker".into(), json!("50")));
    }
}
