//! A client's request as mapping templates, parameter mappings and functions see it, and its `$context`.

use std::collections::{BTreeMap, HashMap};

use axum::http::HeaderMap;
use bytes::Bytes;
use cloud_core::Cloud;
use cloud_languages::vtl::{Parameters, form_decode};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Reads query and headers; the route adds the path parameters. `names` has the header names as the client
/// wrote them, by their lower-case forms.
pub(super) fn parameters(
    query: Option<&str>,
    headers: &HeaderMap,
    names: &HashMap<String, String>,
) -> Parameters {
    let query = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (form_decode(name), form_decode(value))
    });
    let headers = headers.iter().map(|(name, value)| {
        let name = names.get(name.as_str()).map_or(name.as_str(), String::as_str);
        (name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    Parameters { path: BTreeMap::new(), query: query.collect(), headers: headers.collect() }
}

#[derive(Debug)]
pub(super) struct Request {
    /// The path parameters as the client wrote them, for functions.
    pub raw_path_parameters: BTreeMap<String, String>,
    pub method: String,
    /// Below the stage, as the client wrote it: `/contracts/usa/any%20town`.
    pub path: String,
    /// The client's whole path: `$context.path`.
    pub client_path: String,
    pub parameters: Parameters,
    pub body: Bytes,
    pub source_ip: String,
    pub protocol: String,
    pub request_id: String,
    pub extended_request_id: String,
    /// The time of arrival, in milliseconds since the epoch.
    pub time_ms: i64,
}

impl Request {
    /// The media type of the body without its parameters, in lower case; JSON where the client names none
    /// ("API Gateway defaults to `application/json`", guide, "Method request behavior for payloads without
    /// mapping templates").
    pub fn content_type(&self) -> String {
        let header = self.parameters.header("content-type").unwrap_or_default();
        let media_type = header.split(';').next().unwrap_or_default().trim();
        if media_type.is_empty() { "application/json".into() } else { media_type.to_ascii_lowercase() }
    }

    /// The body as text. Bytes that are not UTF-8 become replacement characters, as on AWS where no media
    /// type is declared binary.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// `$context` before the route is known.
    pub fn context(&self, cloud: &Cloud, api: &str, stage: &str) -> Value {
        let host = self.parameters.header("host").unwrap_or_default();
        json!({
            "accountId": cloud.settings.account,
            "apiId": api,
            "stage": stage,
            "domainName": host,
            "domainPrefix": host.split('.').next().unwrap_or_default(),
            "extendedRequestId": self.extended_request_id,
            "requestId": self.request_id,
            "httpMethod": self.method,
            "path": self.client_path,
            "protocol": self.protocol,
            "requestTimeEpoch": self.time_ms,
            "requestTime": common_log_time(self.time_ms),
            "authorizer": {"principalId": ""},
            "identity": {
                "accountId": "", "apiKey": "", "apiKeyId": "", "caller": "",
                "cognitoAuthenticationProvider": "", "cognitoAuthenticationType": "",
                "cognitoIdentityId": "", "cognitoIdentityPoolId": "", "principalOrgId": "",
                "sourceIp": self.source_ip,
                "user": "",
                "userAgent": self.parameters.header("user-agent").unwrap_or_default(),
                "userArn": "",
            },
        })
    }
}

/// `$context.requestTime`: "the CLF-formatted request time (dd/MMM/yyyy:HH:mm:ss +-hhmm)".
fn common_log_time(time_ms: i64) -> String {
    let time = Timestamp::from_millisecond(time_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%d/%b/%Y:%H:%M:%S %z").to_string()
}

/// A new `$context.extendedRequestId`: 11 bytes in URL-safe base64, such as `JKJaXmPLvHcESHA=`. AWS does
/// not document the form; its responses show it.
pub(super) fn extended_request_id(cloud: &Cloud) -> String {
    const URL_SAFE: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // 14 letters hold 84 of the 88 bits; the fifteenth has its two lowest bits clear.
    const LAST: &str = "AEIMQUYcgkosw048";
    format!("{}{}=", cloud.random.text(URL_SAFE, 14), cloud.random.text(LAST, 1))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE;

    use super::*;

    #[test]
    fn an_extended_request_id_is_eleven_bytes_in_url_safe_base64() {
        let cloud = crate::testing::cloud();
        for _ in 0..100 {
            let id = extended_request_id(&cloud);
            assert_eq!(id.len(), 16);
            assert_eq!(URL_SAFE.decode(&id).unwrap().len(), 11);
        }
    }

    #[test]
    fn the_request_time_is_in_common_log_format() {
        assert_eq!(common_log_time(1_700_000_000_000), "14/Nov/2023:22:13:20 +0000");
    }

    #[test]
    fn a_parameter_is_searched_in_path_then_query_then_headers_of_any_case() {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", "from-header".parse().unwrap());
        headers.insert("x", "from-header".parse().unwrap());
        let mut parameters = parameters(Some("x=1&x=a+b%26&y"), &headers, &HashMap::new());
        assert_eq!(parameters.find("Idempotency-Key"), "from-header");
        assert_eq!(parameters.find("x"), "a b&");
        parameters.path.insert("x".into(), "from-path".into());
        assert_eq!(parameters.find("x"), "from-path");
        assert_eq!(parameters.find("none"), "");
    }
}
