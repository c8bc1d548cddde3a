//! Calls the back end of a method and makes its answer the response: request template,
//! call, choice of the integration response, response template and headers.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use cloud_core::Cloud;
use cloud_languages::vtl::{RenderError, Scope, url_encode};
use serde_json::Value;

use super::api::{Integration, IntegrationResponse, Passthrough, Target};
use super::gateway_response::{Failure, Kind};
use super::mapping::Values;
use super::proxy;
use super::request::Request;
use super::stage::Stage;

/// "Maximum payload size" of a synchronous invocation is 6 MB (Lambda guide, "Quotas").
const FUNCTION_PAYLOAD: usize = 6 * 1024 * 1024;

/// What goes to a back end.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Call {
    /// A form for a queue at `/{account}/{queue}`.
    Queue { path: String, form: Vec<u8> },
    /// A synchronous invocation.
    Function { arn: String, payload: Bytes },
}

/// What comes back.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reply {
    pub status: u16,
    pub body: Bytes,
    /// The function failed, and `body` is its error document.
    pub function_error: bool,
    /// The request id of the invocation.
    pub request_id: Option<String>,
}

/// A response to the client, before the headers that every response has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

/// What one request needs on its way through the integration.
pub(super) struct Passage<'p> {
    pub cloud: &'p Arc<Cloud>,
    pub stage: &'p Stage,
    pub request: &'p Request,
    pub context: &'p Value,
    pub resource_path: &'p str,
    /// Status and request id of the back end's answer, for the access log.
    pub answered: OnceLock<(u16, Option<String>)>,
}

impl Passage<'_> {
    /// Runs a request through an integration.
    pub async fn run(&self, integration: &Integration) -> Result<Outcome, Failure> {
        match &integration.target {
            Target::FunctionProxy(arn) => {
                let payload = Bytes::from(proxy::event(self).to_string());
                let call = function_call(arn, payload)?;
                proxy::response(&self.send(call, integration.timeout_ms).await?)
            }
            target => {
                let body = self.integration_body(integration)?;
                let reply = match target {
                    Target::Mock => mock_reply(&body)?,
                    Target::Queue(path) => {
                        let form = self.form(integration, body);
                        let call = Call::Queue { path: path.clone(), form };
                        self.send(call, integration.timeout_ms).await?
                    }
                    Target::Function(arn) | Target::FunctionProxy(arn) => {
                        self.send(function_call(arn, body)?, integration.timeout_ms).await?
                    }
                };
                let response = choose(integration, &reply).ok_or_else(Failure::internal)?;
                self.respond(response, &reply)
            }
        }
    }

    /// The body for the back end: what the template of the content type makes of the
    /// request, or the request's own. Source: API Gateway guide, "Method request behavior
    /// for payloads without mapping templates for REST APIs".
    fn integration_body(&self, integration: &Integration) -> Result<Bytes, Failure> {
        if let Some(template) = integration.templates.get(&self.request.content_type()) {
            let text = self.request.text();
            let mut scope = self.scope(&text);
            return match template.render(&mut scope) {
                Ok(body) => Ok(Bytes::from(body)),
                Err(RenderError::NotJson(reason)) => Err(Failure::new(
                    Kind::BadRequestBody,
                    format!("Could not parse request body into json: {reason}"),
                )),
                Err(RenderError::Failed(reason)) => Err(self.broken(&reason)),
            };
        }
        match integration.passthrough {
            Passthrough::WhenNoMatch => Ok(self.request.body.clone()),
            Passthrough::WhenNoTemplates if integration.templates.is_empty() => Ok(self.request.body.clone()),
            _ => Err(Failure::new(Kind::UnsupportedMediaType, "Unsupported Media Type")),
        }
    }

    /// Mapped query parameters and the body are one form to a queue.
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
            // With the role of the integration; a function lets the API in by its own policy.
            let api =
                format!("arn:aws:apigateway:{}::/restapis/{}", self.cloud.settings.region, self.stage.api.id);
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
                Err(Failure::new(Kind::IntegrationTimeout, "Endpoint request timed out"))
            }
        }
    }

    fn respond(&self, response: &IntegrationResponse, reply: &Reply) -> Result<Outcome, Failure> {
        let text = String::from_utf8_lossy(&reply.body);
        // Queues and functions answer with JSON; a mock answers with no headers.
        let from_mock = reply.body.is_empty();
        let json = [("Content-Type".to_owned(), "application/json".to_owned())];
        let values = self.values(&text, if from_mock { &[] } else { &json });
        let mut headers: Vec<(String, String)> = response
            .headers
            .iter()
            .filter_map(|(name, source)| Some((name.clone(), source.value(&values)?)))
            .collect();
        let mut status = response.status;
        let mut content_type = "application/json";
        let body = match &response.template {
            None => reply.body.clone(),
            Some((template_type, template)) => {
                let mut scope = self.scope(&text);
                let body = template.render(&mut scope).map_err(|error| self.broken(&error.to_string()))?;
                content_type = template_type;
                status = scope.overrides.status.unwrap_or(status);
                for (name, value) in scope.overrides.headers {
                    headers.retain(|(other, _)| !other.eq_ignore_ascii_case(&name));
                    headers.push((name, value));
                }
                Bytes::from(body)
            }
        };
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            headers.push(("Content-Type".into(), content_type.into()));
        }
        Ok(Outcome { status, headers, body })
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
        tracing::warn!(target: "hop", service = "apigateway", resource = %self.resource_path, "a mapping template failed: {reason}");
        Failure::internal()
    }
}

fn function_call(arn: &str, payload: Bytes) -> Result<Call, Failure> {
    if payload.len() > FUNCTION_PAYLOAD {
        return Err(Failure::new(Kind::RequestTooLarge, "Request Too Long"));
    }
    Ok(Call::Function { arn: arn.to_owned(), payload })
}

/// A mock answers with the status that its request template renders, and no body.
fn mock_reply(rendered: &[u8]) -> Result<Reply, Failure> {
    let rendered: Value = serde_json::from_slice(rendered).map_err(|_| Failure::internal())?;
    let status = rendered.get("statusCode").and_then(Value::as_u64);
    let status = status.and_then(|status| u16::try_from(status).ok()).ok_or_else(Failure::internal)?;
    Ok(Reply { status, body: Bytes::new(), function_error: false, request_id: None })
}

/// The integration response whose pattern matches: the status of a service, the error
/// message of a function. `default` takes the rest. Source: API Gateway API reference,
/// IntegrationResponse `selectionPattern`.
fn choose<'i>(integration: &'i Integration, reply: &Reply) -> Option<&'i IntegrationResponse> {
    let of_function = matches!(integration.target, Target::Function(_));
    let text = if !of_function {
        Some(reply.status.to_string())
    } else if reply.function_error {
        let error: Option<Value> = serde_json::from_slice(&reply.body).ok();
        Some(error.and_then(|e| Some(e.get("errorMessage")?.as_str()?.to_owned())).unwrap_or_default())
    } else {
        None
    };
    let matching = integration.responses.iter().find(|response| {
        let pattern = response.selection.as_ref();
        pattern.zip(text.as_ref()).is_some_and(|(pattern, text)| pattern.is_match(text))
    });
    matching.or_else(|| integration.responses.iter().find(|response| response.selection.is_none()))
}

/// The one place where this module leaves itself.
async fn send(cloud: &Arc<Cloud>, call: Call) -> Result<Reply, Failure> {
    #[cfg(test)]
    if let Some(double) = cloud.state::<crate::apigateway::State>().double.get() {
        return double.answer(call).await;
    }
    match call {
        Call::Queue { path, form } => {
            let (status, body) = crate::sqs::query(cloud, &path, &form).await;
            let request_id = body.get("RequestId").and_then(Value::as_str).map(str::to_owned);
            Ok(Reply { status, body: Bytes::from(body.to_string()), function_error: false, request_id })
        }
        Call::Function { arn, payload } => {
            // The invocation goes on when the gateway has stopped waiting for it.
            let invocation = tokio::spawn({
                let cloud = cloud.clone();
                async move { crate::lambda::invoke(&cloud, &arn, payload).await }
            });
            match invocation.await {
                Ok(Ok(invocation)) => Ok(Reply {
                    status: 200,
                    body: invocation.payload,
                    function_error: invocation.function_error.is_some(),
                    request_id: Some(invocation.request_id),
                }),
                Ok(Err(error)) => {
                    tracing::warn!(target: "hop", service = "apigateway", "the function was not invoked: {error}");
                    Err(Failure::not_invoked())
                }
                Err(_) => Err(Failure::not_invoked()),
            }
        }
    }
}

#[cfg(test)]
pub(super) mod double {
    //! A back end for tests.

    use futures::future::BoxFuture;

    use super::{Call, Failure, Reply};

    type Answer = dyn Fn(Call) -> BoxFuture<'static, Result<Reply, Failure>> + Send + Sync;

    /// Answers every call by a closure.
    pub struct Double(Box<Answer>);

    impl Double {
        /// A back end that answers at once.
        pub fn new(answer: impl Fn(Call) -> Reply + Send + Sync + 'static) -> Self {
            Self(Box::new(move |call| {
                let reply = answer(call);
                Box::pin(async move { Ok(reply) })
            }))
        }

        /// A back end that never answers.
        pub fn silent() -> Self {
            Self(Box::new(|_| Box::pin(std::future::pending())))
        }

        pub async fn answer(&self, call: Call) -> Result<Reply, Failure> {
            (self.0)(call).await
        }
    }

    impl std::fmt::Debug for Double {
        fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("Double")
        }
    }
}
