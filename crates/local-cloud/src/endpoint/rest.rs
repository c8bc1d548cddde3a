//! REST with JSON bodies: Lambda, Pipes, Schemas. The action follows from method and path;
//! names in the path and in the query string join the members of the body.
//! <https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html>

use std::sync::Arc;

use axum::http::Method;
use axum::response::Response;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::request::Request;
use super::{call, json as json_protocol, respond, set_header};
use crate::cloud::Cloud;
use crate::error::AwsError;

const JSON: &str = "application/json";

const REQUEST_ID: &str = "x-amzn-requestid";

/// `(method, path, action, status of success)`, per service. Paths are those of the API
/// references; what is not emulated is here too, so that it is refused by its name.
type Route = (Method, &'static str, &'static str, u16);

const LAMBDA: [Route; 35] = [
    (Method::GET, "/2015-03-31/functions", "ListFunctions", 200),
    (Method::POST, "/2015-03-31/functions", "CreateFunction", 201),
    (Method::GET, "/2015-03-31/functions/{FunctionName}", "GetFunction", 200),
    (Method::DELETE, "/2015-03-31/functions/{FunctionName}", "DeleteFunction", 204),
    (Method::GET, "/2015-03-31/functions/{FunctionName}/configuration", "GetFunctionConfiguration", 200),
    (Method::PUT, "/2015-03-31/functions/{FunctionName}/configuration", "UpdateFunctionConfiguration", 200),
    (Method::PUT, "/2015-03-31/functions/{FunctionName}/code", "UpdateFunctionCode", 200),
    (Method::POST, "/2015-03-31/functions/{FunctionName}/invocations", "Invoke", 200),
    (Method::POST, "/2014-11-13/functions/{FunctionName}/invoke-async", "InvokeAsync", 202),
    (Method::GET, "/2015-03-31/functions/{FunctionName}/versions", "ListVersionsByFunction", 200),
    (Method::POST, "/2015-03-31/functions/{FunctionName}/versions", "PublishVersion", 201),
    (Method::GET, "/2015-03-31/functions/{FunctionName}/aliases", "ListAliases", 200),
    (Method::POST, "/2015-03-31/functions/{FunctionName}/aliases", "CreateAlias", 201),
    (Method::GET, "/2015-03-31/functions/{FunctionName}/aliases/{Name}", "GetAlias", 200),
    (Method::GET, "/2015-03-31/functions/{FunctionName}/policy", "GetPolicy", 200),
    (Method::POST, "/2015-03-31/functions/{FunctionName}/policy", "AddPermission", 201),
    (Method::DELETE, "/2015-03-31/functions/{FunctionName}/policy/{StatementId}", "RemovePermission", 204),
    (Method::GET, "/2015-03-31/event-source-mappings", "ListEventSourceMappings", 200),
    (Method::POST, "/2015-03-31/event-source-mappings", "CreateEventSourceMapping", 202),
    (Method::GET, "/2015-03-31/event-source-mappings/{UUID}", "GetEventSourceMapping", 200),
    (Method::PUT, "/2015-03-31/event-source-mappings/{UUID}", "UpdateEventSourceMapping", 202),
    (Method::DELETE, "/2015-03-31/event-source-mappings/{UUID}", "DeleteEventSourceMapping", 202),
    (Method::GET, "/2019-09-30/functions/{FunctionName}/concurrency", "GetFunctionConcurrency", 200),
    (Method::PUT, "/2017-10-31/functions/{FunctionName}/concurrency", "PutFunctionConcurrency", 200),
    (Method::DELETE, "/2017-10-31/functions/{FunctionName}/concurrency", "DeleteFunctionConcurrency", 204),
    (Method::GET, EVENT_INVOKE, "GetFunctionEventInvokeConfig", 200),
    (Method::PUT, EVENT_INVOKE, "PutFunctionEventInvokeConfig", 200),
    (Method::POST, EVENT_INVOKE, "UpdateFunctionEventInvokeConfig", 200),
    (Method::DELETE, EVENT_INVOKE, "DeleteFunctionEventInvokeConfig", 204),
    (
        Method::GET,
        "/2019-09-25/functions/{FunctionName}/event-invoke-config/list",
        "ListFunctionEventInvokeConfigs",
        200,
    ),
    (Method::GET, "/2021-10-31/functions/{FunctionName}/url", "GetFunctionUrlConfig", 200),
    (Method::GET, "/2017-03-31/tags/{Resource}", "ListTags", 200),
    (Method::POST, "/2017-03-31/tags/{Resource}", "TagResource", 204),
    (Method::DELETE, "/2017-03-31/tags/{Resource}", "UntagResource", 204),
    (Method::GET, "/2016-08-19/account-settings", "GetAccountSettings", 200),
];

const EVENT_INVOKE: &str = "/2019-09-25/functions/{FunctionName}/event-invoke-config";

const PIPES: [Route; 8] = [
    (Method::GET, "/v1/pipes", "ListPipes", 200),
    (Method::GET, "/v1/pipes/{Name}", "DescribePipe", 200),
    (Method::POST, "/v1/pipes/{Name}", "CreatePipe", 200),
    (Method::PUT, "/v1/pipes/{Name}", "UpdatePipe", 200),
    (Method::DELETE, "/v1/pipes/{Name}", "DeletePipe", 200),
    (Method::POST, "/v1/pipes/{Name}/start", "StartPipe", 200),
    (Method::POST, "/v1/pipes/{Name}/stop", "StopPipe", 200),
    (Method::GET, "/tags/{resourceArn}", "ListTagsForResource", 200),
];

const SCHEMAS: [Route; 14] = [
    (Method::GET, "/v1/registries", "ListRegistries", 200),
    (Method::GET, "/v1/registries/name/{RegistryName}", "DescribeRegistry", 200),
    (Method::POST, "/v1/registries/name/{RegistryName}", "CreateRegistry", 201),
    (Method::PUT, "/v1/registries/name/{RegistryName}", "UpdateRegistry", 200),
    (Method::DELETE, "/v1/registries/name/{RegistryName}", "DeleteRegistry", 204),
    (Method::GET, "/v1/registries/name/{RegistryName}/schemas", "ListSchemas", 200),
    (Method::GET, "/v1/registries/name/{RegistryName}/schemas/search", "SearchSchemas", 200),
    (Method::GET, SCHEMA, "DescribeSchema", 200),
    (Method::POST, SCHEMA, "CreateSchema", 201),
    (Method::PUT, SCHEMA, "UpdateSchema", 200),
    (Method::DELETE, SCHEMA, "DeleteSchema", 204),
    (
        Method::GET,
        "/v1/registries/name/{RegistryName}/schemas/name/{SchemaName}/versions",
        "ListSchemaVersions",
        200,
    ),
    (Method::GET, "/v1/registries/name/{RegistryName}/schemas/name/{SchemaName}/export", "ExportSchema", 200),
    (Method::GET, "/tags/{ResourceArn}", "ListTagsForResource", 200),
];

const SCHEMA: &str = "/v1/registries/name/{RegistryName}/schemas/name/{SchemaName}";

/// The service that a REST request is for: as signed, else by its path.
pub(super) fn service_of(request: &Request) -> Option<&'static str> {
    match request.signed_service() {
        Some("lambda") => Some("lambda"),
        Some("pipes") => Some("pipes"),
        Some("schemas") => Some("schemas"),
        Some(_) => None,
        None => [("/v1/pipes", "pipes"), ("/v1/registries", "schemas")]
            .into_iter()
            .find(|(start, _)| request.path.starts_with(start))
            .map(|(_, service)| service)
            .or_else(|| is_lambda_path(&request.path).then_some("lambda")),
    }
}

/// Every path of Lambda's API begins with the date of the API's version.
fn is_lambda_path(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = first.split('-');
    first.len() == 10 && parts.by_ref().all(digits) && first.matches('-').count() == 2
}

pub(super) async fn handle(cloud: &Arc<Cloud>, request: &Request) -> Response {
    let service = service_of(request).or_else(|| request.signed_service()).unwrap_or_default();
    let routes: &[Route] = match service {
        "lambda" => &LAMBDA,
        "pipes" => &PIPES,
        "schemas" => &SCHEMAS,
        _ => &[],
    };
    let found = routes.iter().find_map(|(method, path, action, status)| {
        let members = (*method == request.method).then(|| members_of(path, &request.path)).flatten()?;
        Some((*action, *status, members))
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

/// The names in a route's path, where the request's path has that form.
fn members_of(route: &str, path: &str) -> Option<Map<String, Value>> {
    let mut members = Map::new();
    // botocore ends the paths of some lists with a slash.
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
    call(cloud, service, action, input).await
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

/// Invoke's payloads are bodies, everything else stands in headers.
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
    Ok(invocation(&call(cloud, "lambda", "Invoke", input.into()).await?))
}

fn invocation(answer: &Value) -> Response {
    let status = answer["StatusCode"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(200);
    let payload = answer["Payload"].as_str().unwrap_or_default().to_string();
    let mut response = respond(status, JSON, payload);
    for (member, header) in [
        ("FunctionError", "x-amz-function-error"),
        ("ExecutedVersion", "x-amz-executed-version"),
        ("LogResult", "x-amz-log-result"),
        // The id under which the function logged.
        ("RequestId", REQUEST_ID),
    ] {
        if let Some(value) = answer[member].as_str() {
            set_header(&mut response, header, value);
        }
    }
    response
}

pub(super) fn refuse(service: &str, error: AwsError) -> Response {
    let mut body = error.details;
    match service {
        // Lambda's errors also say whose fault they are.
        "lambda" => {
            let fault = if error.status >= 500 { "Service" } else { "User" };
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

    #[test]
    fn a_path_of_lambda_is_known_without_a_signature() {
        assert!(is_lambda_path("/2015-03-31/functions/f/invocations"));
        assert!(!is_lambda_path("/2015-03-images/x"));
        assert!(!is_lambda_path("/bucket/2015-03-31"));
    }
}
