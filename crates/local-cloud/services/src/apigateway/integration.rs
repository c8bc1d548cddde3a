//! Calls the back end of a method and makes its answer the response: request template, call, choice of the
//! integration response, response template and headers.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use cloud_core::Cloud;
use cloud_languages::vtl::{RenderError, Scope, url_encode};
use serde_json::Value;

use super::backend::{Call, Reply};
use super::gateway_response::{
    BAD_REQUEST_BODY, Failure, INTEGRATION_TIMEOUT, REQUEST_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE,
};
use super::mapping::Values;
use super::proxy;
use super::request::Request;
use super::response::Response;
use super::rest_api::{Integration, IntegrationResponse, Passthrough, Target};
use super::stage::Stage;

/// "Maximum payload size" of a synchronous invocation is 6 MB (Lambda guide, "Quotas").
const MAX_FUNCTION_PAYLOAD: usize = 6 * 1024 * 1024;

/// One request on its way through the integration.
pub(super) struct Passage<'p> {
    pub cloud: &'p Arc<Cloud>,
    pub stage: &'p Stage,
    pub request: &'p Request,
    /// `$context`.
    pub context: &'p Value,
    /// Status and request id of the back end's answer, for the access log.
    pub answered: OnceLock<(u16, Option<String>)>,
}

impl Passage<'_> {
    pub async fn run(&self, integration: &Integration) -> Result<Response, Failure> {
        let timeout_ms = integration.timeout_ms;
        if let Target::FunctionProxy(arn) = &integration.target {
            let event = proxy::event(self.cloud, self.request, self.context, &self.stage.variables);
            let call = function_call(arn, Bytes::from(event.to_string()))?;
            return proxy::response(&self.send(call, timeout_ms).await?);
        }
        let body = self.integration_body(integration)?;
        let reply = match &integration.target {
            Target::Mock => mock_reply(&body)?,
            Target::Queue(path) => {
                let call = Call::Queue { path: path.clone(), form: self.form(integration, body) };
                self.send(call, timeout_ms).await?
            }
            Target::Function(arn) | Target::FunctionProxy(arn) => {
                self.send(function_call(arn, body)?, timeout_ms).await?
            }
        };
        let response = choose(integration, &reply).ok_or_else(Failure::internal)?;
        self.respond(response, &reply)
    }

    /// The body for the back end: the rendered template of the content type, or the request's own body.
    /// Source: API Gateway guide, "Method request behavior for payloads without mapping templates for REST
    /// APIs".
    fn integration_body(&self, integration: &Integration) -> Result<Bytes, Failure> {
        if let Some(template) = integration.templates.get(&self.request.content_type()) {
            let rendered = template.render(&mut self.scope(&self.request.text()));
            return rendered.map(Bytes::from).map_err(|error| match error {
                RenderError::NotJson(reason) => {
                    let message = format!("Could not parse request body into json: {reason}");
                    Failure::new(&BAD_REQUEST_BODY, message)
                }
                RenderError::Failed(reason) => self.broken(&reason),
            });
        }
        match integration.passthrough {
            Passthrough::WhenNoMatch => Ok(self.request.body.clone()),
            Passthrough::WhenNoTemplates if integration.templates.is_empty() => Ok(self.request.body.clone()),
            _ => Err(Failure::new(&UNSUPPORTED_MEDIA_TYPE, "Unsupported Media Type")),
        }
    }

    /// The form for a queue: the mapped query parameters and the body.
    fn form(&self, integration: &Integration, body: Bytes) -> Vec<u8> {
        let text = self.request.text();
        let values = self.values(&text, &[]);
        let mut form = Vec::new();
        for (name, source) in &integration.query {
            if let Some(value) = source.value(&values) {
                form.extend(format!("{}={}&", url_encode(name), url_encode(&value)).into_bytes());
            }
        }
        form.extend(body);
        form
    }

    /// Sends a call; 504 when the back end takes longer than the integration allows.
    async fn send(&self, call: Call, timeout_ms: u64) -> Result<Reply, Failure> {
        let due_ms = self.cloud.clock.now_ms() + timeout_ms as i64;
        if let Call::Queue { path, .. } = &call {
            // A queue is called with the role of the integration; a function's own policy lets the API in.
            let region = &self.cloud.settings.region;
            let api = format!("arn:aws:apigateway:{region}::/restapis/{}", self.stage.api.id);
            let queue = self.cloud.arn("sqs", path.rsplit('/').next().unwrap_or_default());
            self.cloud.calls.add(&api, "sqs:SendMessage", &queue);
        }
        tokio::select! {
            reply = send(self.cloud, call) => {
                let reply = reply?;
                // One call per request, so this is set once.
                self.answered.get_or_init(|| (reply.status, reply.request_id.clone()));
                Ok(reply)
            }
            () = self.cloud.clock.sleep_until(due_ms) => {
                Err(Failure::new(&INTEGRATION_TIMEOUT, "Endpoint request timed out"))
            }
        }
    }

    fn respond(&self, response: &IntegrationResponse, reply: &Reply) -> Result<Response, Failure> {
        let text = String::from_utf8_lossy(&reply.body);
        // Queues and functions answer with JSON; a mock answers with no body and no headers.
        let json = [("Content-Type".to_owned(), "application/json".to_owned())];
        let values = self.values(&text, if reply.body.is_empty() { &[] } else { &json });
        let mapped = response.headers.iter();
        let mut headers: Vec<(String, String)> =
            mapped.filter_map(|(name, source)| Some((name.clone(), source.value(&values)?))).collect();
        let Some((content_type, template)) = &response.template else {
            let passed = Response { status: response.status, headers, body: reply.body.clone() };
            return Ok(passed.or_content_type("application/json"));
        };
        let mut scope = self.scope(&text);
        let body = template.render(&mut scope).map_err(|error| self.broken(&error.to_string()))?;
        for (name, value) in scope.overrides.headers {
            headers.retain(|(other, _)| !other.eq_ignore_ascii_case(&name));
            headers.push((name, value));
        }
        let status = scope.overrides.status.unwrap_or(response.status);
        Ok(Response { status, headers, body: Bytes::from(body) }.or_content_type(content_type))
    }

    fn scope<'s>(&'s self, body: &'s str) -> Scope<'s> {
        Scope::new(body, &self.request.parameters, self.context, &self.stage.variables)
    }

    fn values<'v>(&'v self, body: &'v str, integration_headers: &'v [(String, String)]) -> Values<'v> {
        Values {
            parameters: &self.request.parameters,
            context: self.context,
            stage_variables: &self.stage.variables,
            body,
            integration_headers,
        }
    }

    /// The template is at fault, not the client.
    fn broken(&self, reason: &str) -> Failure {
        let resource = self.context["resourcePath"].as_str().unwrap_or_default();
        tracing::warn!(target: "hop", service = "apigateway", %resource, "a mapping template failed: {reason}");
        Failure::internal()
    }
}

fn function_call(arn: &str, payload: Bytes) -> Result<Call, Failure> {
    if payload.len() > MAX_FUNCTION_PAYLOAD {
        return Err(Failure::new(&REQUEST_TOO_LARGE, "Request Too Long"));
    }
    Ok(Call::Function { arn: arn.to_owned(), payload })
}

/// The answer of a mock: the status that its request template renders, and no body.
fn mock_reply(rendered: &[u8]) -> Result<Reply, Failure> {
    let rendered: Value = serde_json::from_slice(rendered).map_err(|_| Failure::internal())?;
    let status = rendered.get("statusCode").and_then(Value::as_u64);
    let status = status.and_then(|status| u16::try_from(status).ok()).ok_or_else(Failure::internal)?;
    Ok(Reply { status, body: Bytes::new(), function_error: false, request_id: None })
}

/// The integration response whose pattern matches the status of a service, or the error message of a
/// function; `default` where none does. Source: API Gateway API reference, IntegrationResponse
/// `selectionPattern`.
fn choose<'i>(integration: &'i Integration, reply: &Reply) -> Option<&'i IntegrationResponse> {
    let text = match (&integration.target, reply.function_error) {
        (Target::Function(_), true) => {
            let error: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            Some(error["errorMessage"].as_str().unwrap_or_default().to_owned())
        }
        (Target::Function(_), false) => None,
        _ => Some(reply.status.to_string()),
    };
    let matches = |response: &&IntegrationResponse| {
        response.selection.as_ref().zip(text.as_ref()).is_some_and(|(pattern, text)| pattern.is_match(text))
    };
    let matching = integration.responses.iter().find(matches);
    matching.or_else(|| integration.responses.iter().find(|response| response.selection.is_none()))
}

/// The only place where this module calls other services.
async fn send(cloud: &Arc<Cloud>, call: Call) -> Result<Reply, Failure> {
    #[cfg(test)]
    if let Some(double) = cloud.state::<crate::apigateway::State>().double.get() {
        return Ok(double.answer(call).await);
    }
    match call {
        Call::Queue { path, form } => {
            let (status, body) = crate::sqs::query(cloud, &path, &form).await;
            let request_id = body.get("RequestId").and_then(Value::as_str).map(str::to_owned);
            Ok(Reply { status, body: Bytes::from(body.to_string()), function_error: false, request_id })
        }
        Call::Function { arn, payload } => {
            // A task of its own, so that the invocation goes on when the gateway stops waiting for it.
            let cloud = cloud.clone();
            let invocation = tokio::spawn(async move { crate::lambda::invoke(&cloud, &arn, payload).await });
            let invocation = invocation.await.map_err(|_| Failure::not_invoked())?;
            let invocation = invocation.map_err(|error| {
                tracing::warn!(target: "hop", service = "apigateway", "the function was not invoked: {error}");
                Failure::not_invoked()
            })?;
            Ok(Reply {
                status: 200,
                body: invocation.payload,
                function_error: invocation.function_error.is_some(),
                request_id: Some(invocation.request_id),
            })
        }
    }
}
