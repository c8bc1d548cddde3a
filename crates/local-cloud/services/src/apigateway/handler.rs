//! Handles a request from the first byte to the last: route, throttle, validate, integrate, answer, log.
//! The order is that of API Gateway.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::http;
use axum::http::request::Parts;
use bytes::Bytes;
use cloud_core::Cloud;
use cloud_core::port::{self, Unread, local};
use serde_json::{Value, json};

use super::gateway_response::{
    BAD_REQUEST_BODY, BAD_REQUEST_PARAMETERS, Failure, GatewayResponses, THROTTLED,
};
use super::header_names::Client;
use super::integration::Passage;
use super::request::{self, Request};
use super::response::Response;
use super::rest_api::{Method, Resource, Target};
use super::stage::Stage;
use super::{State, routes};

/// "Payload size: 10 MB" (guide, "Quotas").
const MAX_PAYLOAD: usize = 10 * 1024 * 1024;
const REQUEST_ID: &str = "x-amzn-requestid";
/// The path of the invoke addresses in the stacks' outputs.
const EXECUTE_API: &str = "/_aws/execute-api/";

pub(super) async fn handle(cloud: Arc<Cloud>, request: axum::extract::Request) -> http::Response<Body> {
    let (head, body) = request.into_parts();
    let mut request = read_head(&cloud, &head);
    let body = read_body(&cloud, &head, body).await;
    if let Some(client) = head.extensions.get::<Client>() {
        client.head.record();
    }
    let mut ids = Vec::new();
    let response = match body {
        Err(response) => response,
        Ok(body) => {
            request.body = body;
            let stage = find_stage(&cloud, &mut request);
            ids.push((REQUEST_ID, request.request_id.clone()));
            ids.push(("x-amz-apigw-id", request.extended_request_id.clone()));
            answer(&cloud, stage, &mut request).await
        }
    };
    let took_ms = cloud.clock.now_ms() - request.time_ms;
    cloud.counters.request(response.status);
    tracing::info!(
        target: "hop", service = "apigateway", resource = %request.client_path,
        "{} answered {} in {took_ms} ms", request.method, response.status
    );
    response.into_http(ids)
}

/// The request without its body.
fn read_head(cloud: &Cloud, head: &Parts) -> Request {
    let time_ms = cloud.clock.now_ms();
    // "Clients can override this request ID. We recommend using $context.extendedRequestId" (guide,
    // "Variables for data transformations"); the header is the one of the response.
    let chosen = head.headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let request_id = match chosen.filter(|chosen| !chosen.is_empty()) {
        Some(chosen) => chosen.to_owned(),
        None => cloud.random.uuid(),
    };
    let client = head.extensions.get::<Client>();
    let names = client.map(|client| client.head.names()).unwrap_or_default();
    Request {
        raw_path_parameters: BTreeMap::new(),
        method: head.method.as_str().to_owned(),
        path: String::new(),
        client_path: head.uri.path().to_owned(),
        parameters: request::parameters(head.uri.query(), &head.headers, &names),
        body: Bytes::new(),
        source_ip: client.map_or("127.0.0.1".to_owned(), |client| client.address.ip().to_string()),
        protocol: format!("{:?}", head.version),
        request_id,
        extended_request_id: request::extended_request_id(cloud),
        time_ms,
    }
}

async fn read_body(cloud: &Cloud, head: &Parts, body: Body) -> Result<Bytes, Response> {
    local::host(head).map_err(|refused| plain_text(refused.status().as_u16(), &refused.to_string()))?;
    let length = head.headers.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
    let too_long = length.is_some_and(|length: usize| length > MAX_PAYLOAD);
    let read = if too_long {
        Err(Unread::TooLong)
    } else {
        port::read(body, MAX_PAYLOAD, cloud.settings.patience).await
    };
    read.map_err(|unread| match unread {
        Unread::TooLong => plain_text(413, &format!("HTTP content length exceeded {MAX_PAYLOAD} bytes.")),
        Unread::CutShort => plain_text(400, "The body ends before its announced length."),
        Unread::Silent => plain_text(408, "The rest of the body did not come; the connection is closed."),
    })
}

/// An answer that API Gateway gives before it looks at the request: in plain text, without ids, and not
/// changed by gateway responses (recorded on AWS for 413 in koki-develop/lgtm-generator issue 10; the guide
/// is silent).
fn plain_text(status: u16, sentence: &str) -> Response {
    Response {
        status,
        headers: vec![("Content-Type".into(), "text; charset=utf-8".into())],
        body: Bytes::from(sentence.to_owned()),
    }
}

/// The stage that the client's path addresses; sets the path below it.
fn find_stage(cloud: &Cloud, request: &mut Request) -> Option<Arc<Stage>> {
    let state = cloud.state::<State>();
    if let Some(rest) = request.client_path.strip_prefix(EXECUTE_API) {
        let mut parts = rest.splitn(3, '/');
        let mut next = || parts.next().unwrap_or_default();
        let stage = state.stage(next(), next());
        request.path = format!("/{}", next());
        return stage;
    }
    request.path.clone_from(&request.client_path);
    // One origin for all APIs: the one that has the method, or else the resource.
    let mut stages = state.stages();
    stages.retain(|stage| route(stage, &request.path).is_some());
    let has_method = |stage: &Arc<Stage>| {
        route(stage, &request.path).is_some_and(|resource| resource.method(&request.method).is_some())
    };
    let found = stages.iter().position(has_method).unwrap_or_default();
    stages.into_iter().nth(found)
}

fn route<'s>(stage: &'s Stage, path: &str) -> Option<&'s Resource> {
    stage.api.resources.iter().find(|resource| resource.pattern.matches(path).is_some())
}

/// The gateway responses for a path that no API knows. On AWS each API has a host of its own, and answers
/// with `MISSING_AUTHENTICATION_TOKEN` "including the cases when the client attempts to invoke an
/// unsupported API method or resource" (guide, "Gateway response types"). On the one origin of all APIs,
/// those of the first stand for all.
fn common_responses(cloud: &Cloud, path: &str) -> GatewayResponses {
    let stages = cloud.state::<State>().stages();
    let first = stages.first().filter(|_| !path.starts_with(EXECUTE_API));
    first.map(|stage| stage.api.gateway_responses.clone()).unwrap_or_default()
}

async fn answer(cloud: &Arc<Cloud>, stage: Option<Arc<Stage>>, request: &mut Request) -> Response {
    let Some(stage) = stage else {
        let mut context = request.context(cloud, "", "");
        let responses = common_responses(cloud, &request.client_path);
        return responses.answer(&Failure::no_route(), &mut context, &request.parameters, &json!({}));
    };
    let mut context = request.context(cloud, &stage.api.id, &stage.name);
    context["deploymentId"] = json!(stage.deployment);
    let mut integration = None;
    let result = match route(&stage, &request.path) {
        None => Err(Failure::no_route()),
        Some(resource) => {
            context["resourcePath"] = json!(resource.path);
            context["resourceId"] = json!(resource.id);
            let raw = resource.pattern.matches(&request.path).unwrap_or_default();
            request.parameters.path =
                raw.iter().map(|(name, value)| (name.clone(), routes::decode(value))).collect();
            request.raw_path_parameters = raw;
            run(cloud, &stage, resource, request, &context, &mut integration).await
        }
    };
    let response = result.unwrap_or_else(|failure| {
        let responses = &stage.api.gateway_responses;
        responses.answer(&failure, &mut context, &request.parameters, &stage.variables)
    });
    context["status"] = json!(response.status);
    context["responseLength"] = json!(response.body.len());
    context["responseLatency"] = json!(cloud.clock.now_ms() - request.time_ms);
    if let Some(integration) = integration {
        context["integrationLatency"] = integration["latency"].clone();
        context["integrationStatus"] = integration["integrationStatus"].clone();
        context["integrationErrorMessage"] = integration["error"].clone();
        context["integration"] = integration;
    }
    log(cloud, &stage, &context);
    response
}

/// Runs a request through its method; `integration` gets the facts for the access log.
async fn run(
    cloud: &Arc<Cloud>,
    stage: &Stage,
    resource: &Resource,
    request: &Request,
    context: &Value,
    integration: &mut Option<Value>,
) -> Result<Response, Failure> {
    let method = resource.method(&request.method).ok_or_else(Failure::no_route)?;
    let admits = || stage.admits(&resource.path, &request.method, cloud.clock.now_ms());
    if cloud.state::<State>().throttles() && !admits() {
        return Err(Failure::new(&THROTTLED, "Too Many Requests"));
    }
    validate(method, request)?;
    let begun_ms = cloud.clock.now_ms();
    let passage = Passage { cloud, stage, request, context, answered: OnceLock::new() };
    let result = passage.run(&method.integration).await;
    let latency = cloud.clock.now_ms() - begun_ms;
    *integration = Some(integration_facts(latency, &passage, method, &result));
    result
}

/// `$context.integration` of the access log (guide, "Variables for access logging"). In a proxy integration
/// `status` is that of the function's code, and `integrationStatus` that of Lambda.
fn integration_facts(
    latency: i64,
    passage: &Passage<'_>,
    method: &Method,
    result: &Result<Response, Failure>,
) -> Value {
    let (service_status, request_id) = passage.answered.get().cloned().unzip();
    let status = match (result, &method.integration.target) {
        (Ok(response), Target::FunctionProxy(_)) => Some(response.status),
        _ => service_status,
    };
    json!({
        "latency": latency,
        "status": status,
        "integrationStatus": service_status,
        "requestId": request_id,
        "error": result.as_ref().err().map(|failure| &failure.message),
    })
}

/// Validates the parameters first, then the body against the model of its content type. Without such a
/// model "API Gateway doesn't perform request validation" of the body (guide, "Request validation for REST
/// APIs"), and the passthrough behaviour decides.
fn validate(method: &Method, request: &Request) -> Result<(), Failure> {
    // "The required request parameters in the URI, query string, and headers of an incoming request are
    // included and not blank."
    let blank = |(place, name): &&(String, String)| {
        let value = match place.as_str() {
            "query" => request.parameters.query(name),
            _ => request.parameters.header(name),
        };
        value.is_none_or(|value| value.trim().is_empty())
    };
    let missing: Vec<&str> = method.required.iter().filter(blank).map(|(_, name)| name.as_str()).collect();
    if !missing.is_empty() {
        let message = format!("Missing required request parameters: [{}]", missing.join(", "));
        return Err(Failure::new(&BAD_REQUEST_PARAMETERS, message));
    }
    let Some(model) = method.models.get(&request.content_type()) else { return Ok(()) };
    let errors = model.errors(&request.text());
    if errors.is_empty() {
        return Ok(());
    }
    // The texts are those of our validator; on AWS they are those of a Java one.
    let validation = Some(format!("[{}]", errors.join(", ")));
    Err(Failure { validation, ..Failure::new(&BAD_REQUEST_BODY, "Invalid request body") })
}

/// Writes the access log line of a finished request.
fn log(cloud: &Cloud, stage: &Stage, context: &Value) {
    let Some((group, line)) = stage.log_line(context) else { return };
    #[cfg(test)]
    cloud.state::<State>().add_log_line(&line);
    // AWS names streams by a hash; one stream per stage is enough here.
    let written = crate::logs::append(cloud, group, &stage.name, cloud.clock.now_ms(), &line);
    if let Err(error) = written {
        tracing::warn!(target: "hop", service = "apigateway", resource = %stage.name, "the access log was not written: {error}");
    }
}
