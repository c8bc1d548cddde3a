//! The AWS endpoint: one HTTP port that speaks the protocols of all emulated services
//! (JSON 1.0 and 1.1, query, REST JSON, S3) to SDKs and to the AWS command line. It knows protocols; which
//! service speaks which, and its actions, it reads from the rows of the services. Signatures are read for the service's name and not
//! verified, but for that of a presigned address in a page from elsewhere: the port is bound to
//! this machine, and answers no other pages.

mod json;
mod presigned;
mod query;
mod query_sqs;
mod request;
mod rest;
mod rest_s3;
mod xml;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use cloud_core::port::local::{self, Refused};
use cloud_core::port::{self, Unread};
use cloud_core::{AwsError, Cloud, calls};
use request::{Protocol, Request};
use tokio::net::TcpListener;

/// The largest body that is read: images go to S3 in one request each.
const MAX_BODY: usize = 64 * 1024 * 1024;

const TEXT: &str = "text/plain; charset=utf-8";

/// All services on one port, until the cloud stops.
pub async fn serve(cloud: Arc<Cloud>, port: TcpListener) {
    port::serve(port, &cloud.stopping, cloud.settings.patience, |stream, _| {
        let cloud = cloud.clone();
        (stream, move |request| handle(cloud.clone(), request))
    })
    .await;
}

async fn handle(cloud: Arc<Cloud>, request: axum::extract::Request) -> Response {
    let (head, body) = request.into_parts();
    let host = local::host(&head);
    let mut request = Request::new(head, cloud.random.uuid());
    if let Err(refused) = host.and_then(|()| check_page(&cloud, &request)) {
        let code = if refused.status() == StatusCode::FORBIDDEN { "AccessDenied" } else { "BadRequest" };
        return refuse(&cloud, &request, AwsError::new(refused.status().as_u16(), code, refused.to_string()));
    }
    request.body = match port::read(body, MAX_BODY, cloud.settings.patience).await {
        Ok(body) => body,
        Err(unread) => return refuse(&cloud, &request, unread_body(unread)),
    };
    match request.access_key().and_then(|key| cloud.calls.holder(key)) {
        Some(caller) => calls::by(caller, answer(&cloud, &request)).await,
        None => answer(&cloud, &request).await,
    }
}

/// No page from elsewhere has an effect or reads anything, but for an object that it has a
/// presigned address of: pages show pictures so.
fn check_page(cloud: &Cloud, request: &Request) -> Result<(), Refused> {
    if request.protocol(cloud) == Protocol::Query {
        local::navigation(&request.headers)?;
    }
    local::page(&request.headers).or_else(|refused| match presigned::is_valid(cloud, request) {
        true => Ok(()),
        false => Err(refused),
    })
}

/// The codes are those of S3, which is sent the large bodies.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList>
fn unread_body(unread: Unread) -> AwsError {
    match unread {
        Unread::TooLong => {
            AwsError::new(413, "EntityTooLarge", format!("The body is longer than {MAX_BODY} bytes."))
        }
        Unread::CutShort => AwsError::client("IncompleteBody", "The body ends before its announced length."),
        Unread::Silent => {
            AwsError::client("RequestTimeout", "The rest of the body did not come; the connection is closed.")
        }
    }
}

/// An error in the shape of the protocol that the request speaks.
fn refuse(cloud: &Cloud, request: &Request, error: AwsError) -> Response {
    match request.protocol(cloud) {
        Protocol::Json => json::refuse_any(cloud, request, error),
        Protocol::Query => query::refuse(request, "", &error),
        Protocol::Rest => rest::refuse(rest::service_of(cloud, request).unwrap_or_default(), error),
        Protocol::S3 => rest_s3::refuse(request, &error),
        Protocol::Browser => respond(error.status, TEXT, format!("{}\n", error.message)),
    }
}

async fn answer(cloud: &Arc<Cloud>, request: &Request) -> Response {
    match request.protocol(cloud) {
        Protocol::Json => json::handle(cloud, request).await,
        Protocol::Query => query::handle(cloud, request).await,
        Protocol::Rest => rest::handle(cloud, request).await,
        Protocol::S3 => rest_s3::handle(cloud, request).await,
        Protocol::Browser => respond(
            200,
            TEXT,
            "This is the AWS endpoint of the local cloud: point an AWS SDK or the AWS command line at it \
             (AWS_ENDPOINT_URL).\n",
        ),
    }
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

#[cfg(test)]
mod tests;
