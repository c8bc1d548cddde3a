//! The AWS endpoint: one HTTP port that speaks the protocols of all emulated services (JSON 1.0 and 1.1,
//! query, REST JSON, S3) to SDKs and to the AWS command line. It knows protocols; it reads from the rows of
//! the services which service speaks which, and their actions. It takes the service's name from a signature
//! and does not verify it, because the port is bound to this machine and answers no web pages from elsewhere.
//! The exception is a presigned address in such a page, which it verifies.

mod form;
mod json;
mod presigned;
mod query;
mod query_sqs;
mod request;
mod response;
mod rest;
mod rest_s3;
mod xml;

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use axum::response::Response;
use cloud_core::port::local::{self, Refused};
use cloud_core::port::{self, Unread};
use cloud_core::{AwsError, Cloud, calls};
use request::Request;
use response::respond;
use tokio::net::TcpListener;

/// Images go to S3 in one request each.
const MAX_BODY: usize = 64 * 1024 * 1024;

const TEXT: &str = "text/plain; charset=utf-8";

/// Serves all services on one port, until the cloud stops.
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

/// Refuses requests of web pages from elsewhere. They may only show an object whose presigned address they
/// have.
fn check_page(cloud: &Cloud, request: &Request) -> Result<(), Refused> {
    let protocol = protocol(cloud, request);
    if protocol == Protocol::Query {
        local::navigation(&request.headers)?;
    }
    local::page(&request.headers).or_else(|refused| {
        match protocol == Protocol::S3 && presigned::is_valid(cloud, request) {
            true => Ok(()),
            false => Err(refused),
        }
    })
}

/// The codes are those of S3, because large bodies go there.
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

/// The protocol that a request speaks.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Protocol {
    Json,
    Query,
    Rest,
    S3,
    /// None: someone opened the address in a browser.
    Browser,
}

/// Recognises the protocol by `X-Amz-Target`, else by the signature, else by the form of path and body: a
/// client without credentials signs nothing.
fn protocol(cloud: &Cloud, request: &Request) -> Protocol {
    let is_root = || request.path == "/" && request.query.is_empty() && request.host_bucket().is_none();
    match request.signed_service() {
        _ if request.headers.contains_key("x-amz-target") => Protocol::Json,
        Some("s3" | "s3express") => Protocol::S3,
        None if rest::service_of(cloud, request).is_some() => Protocol::Rest,
        _ if request.is_query() => Protocol::Query,
        // A signed request that is no form is a REST call, even where that only refuses it.
        Some(_) => Protocol::Rest,
        None if request.method == Method::GET && is_root() => Protocol::Browser,
        None => Protocol::S3,
    }
}

/// An error in the shape of the protocol that the request speaks.
fn refuse(cloud: &Cloud, request: &Request, error: AwsError) -> Response {
    match protocol(cloud, request) {
        Protocol::Json => json::refuse_any(cloud, request, error),
        Protocol::Query => form::refuse(request, "", &error),
        Protocol::Rest => rest::refuse(rest::service_of(cloud, request).unwrap_or_default(), error),
        Protocol::S3 => rest_s3::refuse(request, &error),
        Protocol::Browser => respond(error.status, TEXT, format!("{}\n", error.message)),
    }
}

async fn answer(cloud: &Arc<Cloud>, request: &Request) -> Response {
    match protocol(cloud, request) {
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

#[cfg(test)]
mod tests;
