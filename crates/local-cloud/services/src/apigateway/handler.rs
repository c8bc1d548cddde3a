//! A request from the first byte to the last: route, throttle, validate, integrate, answer,
//! log. The order is that of API Gateway.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use bytes::Bytes;
use cloud_core::Cloud;
use cloud_core::port::{self, Unread, local};
use serde_json::{Value, json};

use super::api::{Method, Resource, Target};
use super::gateway_response::{Failure, GatewayResponses, Kind};
use super::integration::{Outcome, Passage};
use super::request::{Request, extended_request_id};
use super::routes;
use super::spelling::Client;
use super::stage::Stage;

/// "Payload size: 10 MB" (guide, "Quotas").
const PAYLOAD: usize = 10 * 1024 * 1024;
const REQUEST_ID: &str = "x-amzn-requestid";
/// What an integration cannot set: the gateway computes the first, and gives the others on
/// under another name ("x-amzn-Remapped-", guide, "Amazon API Gateway important notes").
const COMPUTED: [&str; 3] = ["content-length", "transfer-encoding", "keep-alive"];
const REMAPPED: [&str; 7] =
    ["authorization", "connection", "content-md5", "date", "server", "user-agent", "www-authenticate"];
/// Where the invoke addresses of the stacks' outputs lead.
const EXECUTE_API: &str = "/_aws/execute-api/";

/// Answers one request.
pub(super) async fn handle(cloud: Arc<Cloud>, request: axum::extract::Request) -> Response<Body> {
    let begun_ms = cloud.clock.now_ms();
    let (head, body) = request.into_parts();
    // "Clients can override this request ID. We recommend using $context.extendedRequestId"
    // (guide, "Variables for data transformations"); the header is the one of the response.
    let request_id = match head.headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()) {
        Some(chosen) if !chosen.is_empty() => chosen.to_owned(),
        _ => cloud.random.uuid(),
    };
    let extended_request_id = extended_request_id(&cloud);
    let client = head.extensions.get::<Client>();
    let spelling = client.map(|client| client.heard.spelling()).unwrap_or_default();
    let source_ip = client.map_or("127.0.0.1".to_owned(), |client| client.address.ip().to_string());
    let client_path = head.uri.path().to_owned();
    let method = head.method.as_str().to_owned();
    let body = match local::host(&head) {
        Err(refused) => Err(at_the_front(refused.status().as_u16(), &refused.to_string())),
        Ok(()) if content_length(&head).is_some_and(|length| length > PAYLOAD) => {
            Err(unread_body(Unread::TooLong))
        }
        Ok(()) => port::read(body, PAYLOAD, cloud.settings.patience).await.map_err(unread_body),
    };
    if let Some(client) = client {
        client.heard.listen();
    }

    let refused_at_the_front = body.is_err();
    let outcome = match body {
        Err(outcome) => outcome,
        Ok(body) => {
            let (stage, path) = find_stage(&cloud, &client_path, &method);
            let request = Request {
                raw_path_parameters: BTreeMap::new(),
                method: method.clone(),
                path,
                client_path: client_path.clone(),
                parameters: super::request::parameters(head.uri.query(), &head.headers, &spelling),
                body,
                source_ip,
                protocol: format!("{:?}", head.version),
                request_id: request_id.clone(),
                extended_request_id: extended_request_id.clone(),
                time_ms: begun_ms,
            };
            answer(&cloud, stage, request).await
        }
    };
    let took_ms = cloud.clock.now_ms() - begun_ms;
    cloud.counters.request(outcome.status);
    tracing::info!(
        target: "hop", service = "apigateway", resource = %client_path,
        "{method} answered {} in {took_ms} ms", outcome.status
    );
    let ids = [(REQUEST_ID, request_id), ("x-amz-apigw-id", extended_request_id)];
    into_response(outcome, if refused_at_the_front { Vec::new() } else { ids.into() })
}

/// What the front of API Gateway says before it looks at the request: in plain text, without ids,
/// and beyond the reach of gateway responses (recorded on AWS for 413 in
/// koki-develop/lgtm-generator issue 10; the guide is silent).
fn at_the_front(status: u16, sentence: &str) -> Outcome {
    Outcome {
        status,
        headers: vec![("Content-Type".into(), "text; charset=utf-8".into())],
        body: Bytes::from(sentence.to_owned()),
    }
}

fn unread_body(unread: Unread) -> Outcome {
    match unread {
        Unread::TooLong => at_the_front(413, &format!("HTTP content length exceeded {PAYLOAD} bytes.")),
        Unread::CutShort => at_the_front(400, "The body ends before its announced length."),
        Unread::Silent => at_the_front(408, "The rest of the body did not come; the connection is closed."),
    }
}

fn content_length(head: &axum::http::request::Parts) -> Option<usize> {
    head.headers.get("content-length")?.to_str().ok()?.parse().ok()
}

/// The stage that a path addresses, and the path below it.
fn find_stage(cloud: &Cloud, path: &str, method: &str) -> (Option<Arc<Stage>>, String) {
    if let Some(rest) = path.strip_prefix(EXECUTE_API) {
        let mut parts = rest.splitn(3, '/');
        let api = parts.next().unwrap_or_default();
        let stage = parts.next().unwrap_or_default();
        return (
            cloud.state::<crate::apigateway::State>().stage(api, stage),
            format!("/{}", parts.next().unwrap_or_default()),
        );
    }
    // One origin for all APIs: the one that has the method, or else the resource.
    let stages = cloud.state::<crate::apigateway::State>().stages();
    let has =
        |stage: &&Arc<Stage>| route(stage, path).is_some_and(|resource| resource.method(method).is_some());
    let found = stages.iter().find(has).or_else(|| stages.iter().find(|stage| route(stage, path).is_some()));
    (found.cloned(), path.to_owned())
}

fn route<'s>(stage: &'s Stage, path: &str) -> Option<&'s Resource> {
    stage.api.resources.iter().find(|resource| resource.pattern.matches(path).is_some())
}

/// On AWS each API has a host of its own, and answers for a path that it does not know with its
/// gateway responses, and their headers for pages: `MISSING_AUTHENTICATION_TOKEN` "including the
/// cases when the client attempts to invoke an unsupported API method or resource" (guide,
/// "Gateway response types"). On the one origin of all APIs, those of the first stand for all.
fn responses_of_all(cloud: &Cloud, path: &str) -> GatewayResponses {
    let first = cloud
        .state::<crate::apigateway::State>()
        .stages()
        .into_iter()
        .find(|_| !path.starts_with(EXECUTE_API));
    first.map(|stage| stage.api.gateway_responses.clone()).unwrap_or_default()
}

async fn answer(cloud: &Arc<Cloud>, stage: Option<Arc<Stage>>, mut request: Request) -> Outcome {
    let Some(stage) = stage else {
        let mut context = request.context(cloud, "", "");
        let responses = responses_of_all(cloud, &request.client_path);
        return refuse(&responses, &Failure::no_route(), &mut context, &request, &json!({}));
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
            run(cloud, &stage, resource, &request, &context, &mut integration).await
        }
    };
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(failure) => {
            refuse(&stage.api.gateway_responses, &failure, &mut context, &request, &stage.variables)
        }
    };
    context["status"] = json!(outcome.status);
    context["responseLength"] = json!(outcome.body.len());
    context["responseLatency"] = json!(cloud.clock.now_ms() - request.time_ms);
    if let Some(integration) = integration {
        context["integrationLatency"] = integration["latency"].clone();
        context["integrationStatus"] = integration["integrationStatus"].clone();
        context["integrationErrorMessage"] = integration["error"].clone();
        context["integration"] = integration;
    }
    stage.log(cloud, &context);
    outcome
}

async fn run(
    cloud: &Arc<Cloud>,
    stage: &Stage,
    resource: &Resource,
    request: &Request,
    context: &Value,
    integration: &mut Option<Value>,
) -> Result<Outcome, Failure> {
    let method = resource.method(&request.method).ok_or_else(Failure::no_route)?;
    if cloud.state::<crate::apigateway::State>().throttles()
        && !stage.admits(&resource.path, &request.method, cloud.clock.now_ms())
    {
        return Err(Failure::new(Kind::Throttled, "Too Many Requests"));
    }
    validate(method, request)?;
    let passage =
        Passage { cloud, stage, request, context, resource_path: &resource.path, answered: OnceLock::new() };
    let begun_ms = cloud.clock.now_ms();
    let result = passage.run(&method.integration).await;
    let latency = cloud.clock.now_ms() - begun_ms;
    *integration = Some(integration_facts(latency, &passage, method, &result));
    result
}

/// `$context.integration` of the access log (guide, "Variables for access logging"). In a
/// proxy integration `status` is what the function's code returned, `integrationStatus`
/// what Lambda did.
fn integration_facts(
    latency: i64,
    passage: &Passage<'_>,
    method: &Method,
    result: &Result<Outcome, Failure>,
) -> Value {
    let answered = passage.answered.get();
    let of_service = answered.map(|(status, _)| *status);
    let proxy = matches!(method.integration.target, Target::FunctionProxy(_));
    let status = match result {
        Ok(outcome) if proxy => Some(outcome.status),
        _ => of_service,
    };
    json!({
        "latency": latency,
        "status": status,
        "integrationStatus": of_service,
        "requestId": answered.and_then(|(_, request_id)| request_id.clone()),
        "error": result.as_ref().err().map(|failure| failure.message.clone()),
    })
}

/// Parameters first, then the body against the model of its content type; without such a
/// model "API Gateway doesn't perform request validation" of the body (guide, "Request
/// validation for REST APIs"), and it depends on the passthrough behaviour what happens.
fn validate(method: &Method, request: &Request) -> Result<(), Failure> {
    // "The required request parameters in the URI, query string, and headers of an incoming
    // request are included and not blank."
    let missing: Vec<&str> = method
        .required
        .iter()
        .filter(|(place, name)| {
            let value = match place.as_str() {
                "query" => request.parameters.query(name),
                _ => request.parameters.header(name),
            };
            value.is_none_or(|value| value.trim().is_empty())
        })
        .map(|(_, name)| name.as_str())
        .collect();
    if !missing.is_empty() {
        let message = format!("Missing required request parameters: [{}]", missing.join(", "));
        return Err(Failure::new(Kind::BadRequestParameters, message));
    }
    let Some(model) = method.models.get(&request.content_type()) else { return Ok(()) };
    let errors = model.errors(&request.text());
    if errors.is_empty() {
        return Ok(());
    }
    let mut failure = Failure::new(Kind::BadRequestBody, "Invalid request body");
    // The texts are those of our validator; on AWS they are those of a Java one.
    failure.validation = Some(format!("[{}]", errors.join(", ")));
    Err(failure)
}

fn refuse(
    responses: &GatewayResponses,
    failure: &Failure,
    context: &mut Value,
    request: &Request,
    stage_variables: &Value,
) -> Outcome {
    let answer = responses.answer(failure, context, &request.parameters, stage_variables);
    Outcome { status: answer.status, headers: answer.headers, body: Bytes::from(answer.body) }
}

fn into_response(outcome: Outcome, ids: Vec<(&str, String)>) -> Response<Body> {
    let mut response = Response::new(Body::from(outcome.body));
    *response.status_mut() =
        StatusCode::from_u16(outcome.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let ids = ids.into_iter().map(|(name, value)| (name.to_owned(), value));
    for (mut name, value) in outcome.headers.into_iter().chain(ids) {
        let lower = name.to_ascii_lowercase();
        if COMPUTED.contains(&lower.as_str()) {
            continue;
        }
        if REMAPPED.contains(&lower.as_str()) {
            name = format!("x-amzn-Remapped-{name}");
        }
        let header = (HeaderName::try_from(&name), HeaderValue::try_from(&value));
        if let (Ok(name), Ok(value)) = header {
            response.headers_mut().append(name, value);
        } else {
            tracing::warn!(target: "hop", service = "apigateway", "the header {name} cannot be sent");
        }
    }
    response
}
