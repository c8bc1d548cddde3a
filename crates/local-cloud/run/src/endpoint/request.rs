//! A request as it came.

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use bytes::Bytes;
use percent_encoding::percent_decode_str;

#[derive(Debug)]
pub(super) struct Request {
    pub method: Method,
    /// As it was sent, not decoded.
    pub path: String,
    /// As it was sent, not decoded.
    pub raw_query: String,
    /// The decoded parameters of the query string.
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    /// Empty until it is read.
    pub body: Bytes,
    /// The request id of the answer.
    pub id: String,
}

impl Request {
    pub fn new(head: Parts, id: String) -> Self {
        let query = head.uri.query().unwrap_or_default();
        Self {
            method: head.method,
            path: head.uri.path().to_string(),
            raw_query: query.to_string(),
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            headers: head.headers,
            body: Bytes::new(),
            id,
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The form of a query call, which a POST has in its body and a GET behind its path.
    pub fn form(&self) -> Vec<(String, String)> {
        let mut form = self.query.clone();
        if self.is_form() {
            form.extend(form_urlencoded::parse(&self.body).into_owned());
        }
        form
    }

    pub fn is_query(&self) -> bool {
        (self.is_form() && self.method == Method::POST) || self.parameter("Action").is_some()
    }

    fn is_form(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
    }

    /// The credential of the signature, `key/date/region/service/aws4_request`: in the header, or in the
    /// query string of a presigned address.
    fn credential(&self) -> Option<&str> {
        let header = self.header("authorization").and_then(|auth| auth.split_once("Credential="));
        match header {
            Some((_, rest)) => rest.split([',', ' ']).next(),
            None => self.parameter("X-Amz-Credential"),
        }
    }

    pub fn access_key(&self) -> Option<&str> {
        self.credential()?.split('/').next()
    }

    pub fn signed_service(&self) -> Option<&str> {
        self.credential()?.rsplit('/').nth(1)
    }

    /// Bucket and key: from `Host: bucket.localhost` where there is one, else from the path.
    pub fn bucket_and_key(&self) -> (Option<String>, Option<String>) {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let present = |text: String| (!text.is_empty()).then_some(text);
        let path = self.path.strip_prefix('/').unwrap_or(&self.path);
        if let Some(bucket) = self.host_bucket() {
            return (Some(bucket.to_string()), present(decode(path)));
        }
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        (present(decode(bucket)), present(decode(key)))
    }

    /// The bucket of `Host: bucket.localhost` or `bucket.s3.localhost`.
    pub fn host_bucket(&self) -> Option<&str> {
        let host = self.header("host")?;
        let host = host.rsplit_once(':').map_or(host, |(name, _)| name);
        [".s3.localhost", ".localhost"]
            .iter()
            .find_map(|suffix| host.strip_suffix(suffix))
            .filter(|bucket| !bucket.is_empty() && *bucket != "s3")
    }
}
