//! The AWS endpoint: one HTTP port that speaks the protocols of all emulated services
//! (JSON 1.0 and 1.1, query, REST JSON, S3) to SDKs and to the AWS command line, and the
//! one door ([`call`]) through which the services call each other. It knows protocols,
//! and nothing of what a service does. Signatures are read for the service's name and
//! never verified: the port is bound to this machine.

mod json;
mod query;
mod query_sqs;
mod request;
mod rest;
mod rest_s3;
mod xml;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::calls;
use crate::cloud::Cloud;
use crate::error::AwsError;
use request::{Protocol, Request};

/// The largest body that is read: images go to S3 in one request each.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// All services on one port, until the cloud stops.
///
/// # Errors
/// When the port fails.
pub async fn serve(cloud: Arc<Cloud>, port: TcpListener) -> std::io::Result<()> {
    let stopping = cloud.stopping.clone().cancelled_owned();
    axum::serve(port, router(cloud)).with_graceful_shutdown(stopping).await
}

fn router(cloud: Arc<Cloud>) -> Router {
    Router::new().fallback(handle).with_state(cloud)
}

async fn handle(State(cloud): State<Arc<Cloud>>, request: axum::extract::Request) -> Response {
    let (head, body) = request.into_parts();
    let body = match to_bytes(body, MAX_BODY).await {
        Ok(body) => body,
        Err(error) => {
            let sentence = format!("The body could not be read, or is longer than {MAX_BODY} bytes: {error}");
            return plain(StatusCode::PAYLOAD_TOO_LARGE, sentence);
        }
    };
    let request = Request::new(head, body, cloud.random.uuid());
    match request.access_key().and_then(|key| cloud.calls.holder(key)) {
        Some(caller) => calls::by(caller, answer(&cloud, &request)).await,
        None => answer(&cloud, &request).await,
    }
}

async fn answer(cloud: &Arc<Cloud>, request: &Request) -> Response {
    match request.protocol() {
        Protocol::Json => json::handle(cloud, request).await,
        Protocol::Query => query::handle(cloud, request).await,
        Protocol::Rest => rest::handle(cloud, request).await,
        Protocol::S3 => rest_s3::handle(cloud, request).await,
        Protocol::Browser => plain(
            StatusCode::OK,
            "This is the AWS endpoint of the local cloud: point an AWS SDK or the AWS command line at it \
             (AWS_ENDPOINT_URL).\n"
                .into(),
        ),
    }
}

fn plain(status: StatusCode, sentence: String) -> Response {
    respond(status.as_u16(), "text/plain; charset=utf-8", sentence)
}

/// A response with a status, a content type and a body.
fn respond(status: u16, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Sets a header, unless its value cannot stand in one.
fn set_header(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Calls an action of a service by the service's name in ARNs and SDKs (`sqs`, `events`,
/// `dynamodb`, `lambda`, ...): the one door through which services call each other.
///
/// # Errors
/// The service's own error, or `NotImplemented`.
pub fn call<'a>(
    cloud: &'a Arc<Cloud>,
    service: &'a str,
    action: &'a str,
    input: Value,
) -> BoxFuture<'a, Result<Value, AwsError>> {
    // Boxed, since services call each other in circles.
    Box::pin(async move { dispatch(cloud, service, action, input).await })
}

async fn dispatch(cloud: &Arc<Cloud>, service: &str, action: &str, input: Value) -> Result<Value, AwsError> {
    // DynamoDB is asked without this door, too, and records for itself.
    if !matches!(service, "dynamodb" | "streams.dynamodb") {
        calls::record(cloud, service, action, &input);
    }
    match service {
        "cloudformation" => crate::cloudformation::call(cloud, action, input).await,
        "comprehend" => crate::comprehend::call(cloud, action, input).await,
        "dynamodb" | "streams.dynamodb" => crate::dynamodb::call(cloud, action, input).await,
        "events" => crate::eventbridge::call(cloud, action, input).await,
        "lambda" => crate::lambda::call(cloud, action, input).await,
        "logs" => crate::logs::call(cloud, action, input).await,
        "pipes" => crate::pipes::call(cloud, action, input).await,
        "rekognition" => crate::rekognition::call(cloud, action, input).await,
        "s3" => crate::s3::call(cloud, action, input).await,
        "schemas" => crate::schemas::call(cloud, action, input).await,
        "sqs" => crate::sqs::call(cloud, action, input).await,
        "ssm" => crate::ssm::call(cloud, action, input).await,
        "states" => crate::stepfunctions::call(cloud, action, input).await,
        other => Err(AwsError::not_emulated(other, action)),
    }
}

#[cfg(test)]
mod tests;
