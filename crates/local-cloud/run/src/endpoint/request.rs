//! A request as it came, and which protocol it speaks.

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use bytes::Bytes;
use cloud_core::Cloud;
use percent_encoding::percent_decode_str;

/// The protocols of AWS that the endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Protocol {
    /// JSON 1.0 or 1.1: the action stands in `X-Amz-Target`.
    Json,
    /// A form with an `Action`; answers are XML.
    Query,
    /// REST with JSON bodies: the action follows from method and path.
    Rest,
    /// S3's REST with XML.
    S3,
    /// Nobody's: someone opened the address.
    Browser,
}

/// An HTTP request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    /// The path as it was sent, not decoded.
    pub(super) path: String,
    /// The query string as it was sent.
    pub(super) raw_query: String,
    /// The query string's parameters, decoded.
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    /// Empty until it is read.
    pub(super) body: Bytes,
    /// Goes into the answer; not known to the client before.
    pub(super) id: String,
}

impl Request {
    pub(super) fn new(head: Parts, id: String) -> Self {
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

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The form that a query call posts, or puts behind the path of a GET.
    pub(super) fn form(&self) -> Vec<(String, String)> {
        let mut form: Vec<_> = self.query.clone();
        if self.is_form() {
            form.extend(form_urlencoded::parse(&self.body).into_owned());
        }
        form
    }

    /// The same form as it was sent.
    pub(super) fn raw_form(&self) -> Bytes {
        match self.is_form() {
            true if self.raw_query.is_empty() => self.body.clone(),
            true => [self.raw_query.as_bytes(), b"&", &self.body].concat().into(),
            false => self.raw_query.clone().into(),
        }
    }

    fn is_query(&self) -> bool {
        (self.is_form() && self.method == Method::POST) || self.parameter("Action").is_some()
    }

    fn is_form(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
    }

    /// Who has signed, and for what (`key/date/region/service/aws4_request`), be it in the
    /// header or, presigned, in the query string.
    fn credential(&self) -> Option<&str> {
        let header = self.header("authorization").and_then(|auth| auth.split_once("Credential="));
        match header {
            Some((_, rest)) => rest.split([',', ' ']).next(),
            None => self.parameter("X-Amz-Credential"),
        }
    }

    /// The access key of the signature.
    pub(super) fn access_key(&self) -> Option<&str> {
        self.credential()?.split('/').next()
    }

    /// The service that the signature is for.
    pub(super) fn signed_service(&self) -> Option<&str> {
        self.credential()?.rsplit('/').nth(1)
    }

    /// Recognised by `X-Amz-Target`, else by the signature, else by what the path or the
    /// body look like: a client without credentials signs nothing.
    pub(super) fn protocol(&self, cloud: &Cloud) -> Protocol {
        if self.headers.contains_key("x-amz-target") {
            return Protocol::Json;
        }
        match self.signed_service() {
            Some("s3" | "s3express") => return Protocol::S3,
            // What is no form is a REST call, if only to be refused as one.
            Some(_) if !self.is_query() => return Protocol::Rest,
            Some(_) => return Protocol::Query,
            None => {}
        }
        if super::rest::service_of(cloud, self).is_some() {
            Protocol::Rest
        } else if self.is_query() {
            Protocol::Query
        } else if self.path == "/"
            && self.method == Method::GET
            && self.query.is_empty()
            && !self.is_virtual_host()
        {
            Protocol::Browser
        } else {
            Protocol::S3
        }
    }

    /// Bucket and key: from `Host: bucket.localhost` where there is one, else from the path.
    pub(super) fn bucket_and_key(&self) -> (Option<String>, Option<String>) {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let present = |text: String| (!text.is_empty()).then_some(text);
        let path = self.path.strip_prefix('/').unwrap_or(&self.path);
        if let Some(bucket) = self.host_bucket() {
            return (Some(bucket.to_string()), present(decode(path)));
        }
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        (present(decode(bucket)), present(decode(key)))
    }

    fn is_virtual_host(&self) -> bool {
        self.host_bucket().is_some()
    }

    fn host_bucket(&self) -> Option<&str> {
        let host = self.header("host")?;
        let host = host.rsplit_once(':').map_or(host, |(name, _)| name);
        [".s3.localhost", ".localhost"]
            .iter()
            .find_map(|suffix| host.strip_suffix(suffix))
            .filter(|bucket| !bucket.is_empty() && *bucket != "s3")
    }
}
