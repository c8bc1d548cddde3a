//! A response on its way to the client.

use axum::body::Body;
use axum::http::{self, HeaderName, HeaderValue, StatusCode};
use bytes::Bytes;

/// The gateway computes these headers itself.
const COMPUTED: [&str; 3] = ["content-length", "transfer-encoding", "keep-alive"];
/// The gateway renames these headers to `x-amzn-Remapped-...` (guide, "Amazon API Gateway important
/// notes").
const REMAPPED: [&str; 7] =
    ["authorization", "connection", "content-md5", "date", "server", "user-agent", "www-authenticate"];

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Response {
    /// Adds a content type where there is none.
    pub fn or_content_type(mut self, content_type: &str) -> Self {
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            self.headers.push(("Content-Type".into(), content_type.into()));
        }
        self
    }

    pub fn into_http(self, ids: Vec<(&str, String)>) -> http::Response<Body> {
        let mut response = http::Response::new(Body::from(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let ids = ids.into_iter().map(|(name, value)| (name.to_owned(), value));
        for (mut name, value) in self.headers.into_iter().chain(ids) {
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
}
