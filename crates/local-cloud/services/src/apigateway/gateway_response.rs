//! The answers of the gateway itself, for a request that does not reach its integration or whose
//! integration fails: default texts, and those that the API configures.
//! Source: API Gateway guide, "Gateway response types for API Gateway".

use std::collections::BTreeMap;

use bytes::Bytes;
use cloud_languages::vtl::Parameters;
use serde_json::{Value, json};

use super::mapping::{Source, Values};
use super::response::Response;
use super::substitution::Substitution;

/// A type of gateway response that can happen here: its name in the document, its status, and its
/// `x-amzn-ErrorType` (which the guide does not list; seen in responses of AWS).
#[derive(Debug, PartialEq)]
pub(super) struct Kind(&'static str, u16, &'static str);

const BAD_REQUEST: &str = "BadRequestException";
const INTERNAL: &str = "InternalServerErrorException";

pub(super) static API_CONFIGURATION_ERROR: Kind = Kind("API_CONFIGURATION_ERROR", 500, INTERNAL);
pub(super) static BAD_REQUEST_BODY: Kind = Kind("BAD_REQUEST_BODY", 400, BAD_REQUEST);
pub(super) static BAD_REQUEST_PARAMETERS: Kind = Kind("BAD_REQUEST_PARAMETERS", 400, BAD_REQUEST);
pub(super) static DEFAULT_5XX: Kind = Kind("DEFAULT_5XX", 500, INTERNAL);
pub(super) static INTEGRATION_FAILURE: Kind = Kind("INTEGRATION_FAILURE", 504, INTERNAL);
pub(super) static INTEGRATION_TIMEOUT: Kind = Kind("INTEGRATION_TIMEOUT", 504, INTERNAL);
pub(super) static MISSING_AUTHENTICATION_TOKEN: Kind =
    Kind("MISSING_AUTHENTICATION_TOKEN", 403, "MissingAuthenticationTokenException");
pub(super) static REQUEST_TOO_LARGE: Kind = Kind("REQUEST_TOO_LARGE", 413, BAD_REQUEST);
pub(super) static THROTTLED: Kind = Kind("THROTTLED", 429, "TooManyRequestsException");
pub(super) static UNSUPPORTED_MEDIA_TYPE: Kind = Kind("UNSUPPORTED_MEDIA_TYPE", 415, BAD_REQUEST);

/// All types that an API may configure. Those of authorisers, API keys, quotas and WAF cannot happen here.
#[rustfmt::skip]
const NAMES: [&str; 21] = [
    "ACCESS_DENIED", "API_CONFIGURATION_ERROR", "AUTHORIZER_CONFIGURATION_ERROR", "AUTHORIZER_FAILURE",
    "BAD_REQUEST_BODY", "BAD_REQUEST_PARAMETERS", "DEFAULT_4XX", "DEFAULT_5XX", "EXPIRED_TOKEN",
    "INTEGRATION_FAILURE", "INTEGRATION_TIMEOUT", "INVALID_API_KEY", "INVALID_SIGNATURE",
    "MISSING_AUTHENTICATION_TOKEN", "QUOTA_EXCEEDED", "REQUEST_TOO_LARGE", "RESOURCE_NOT_FOUND", "THROTTLED",
    "UNAUTHORIZED", "UNSUPPORTED_MEDIA_TYPE", "WAF_FILTERED",
];

/// Why a request gets no answer of its integration.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    pub kind: &'static Kind,
    /// Where it is not the status of the kind.
    pub status: Option<u16>,
    pub message: String,
    /// `$context.error.validationErrorString`.
    pub validation: Option<String>,
}

impl Failure {
    pub fn new(kind: &'static Kind, message: impl Into<String>) -> Self {
        Self { kind, status: None, message: message.into(), validation: None }
    }

    /// No such resource or method. AWS says 403, since it looks for a signature first.
    pub fn no_route() -> Self {
        Self::new(&MISSING_AUTHENTICATION_TOKEN, "Missing Authentication Token")
    }

    /// The API or its integration is at fault.
    pub fn internal() -> Self {
        Self::new(&API_CONFIGURATION_ERROR, "Internal server error")
    }

    /// The integration could not be called at all: 500, though the guide says 504 (recorded on AWS by
    /// LocalStack, test_apigateway_lambda.py).
    pub fn not_invoked() -> Self {
        Self { status: Some(500), ..Self::new(&INTEGRATION_FAILURE, "Internal server error") }
    }

    /// "Malformed Lambda proxy response" and failed functions: 502.
    pub fn bad_gateway() -> Self {
        Self { status: Some(502), ..Self::new(&DEFAULT_5XX, "Internal server error") }
    }
}

/// One entry of `x-amazon-apigateway-gateway-responses`.
#[derive(Debug, Clone, Default)]
pub(super) struct Configured {
    pub status: Option<u16>,
    pub headers: Vec<(String, Source)>,
    pub template: Option<(String, Substitution)>,
}

/// The configured responses of an API, by type.
#[derive(Debug, Clone, Default)]
pub(super) struct GatewayResponses(BTreeMap<String, Configured>);

impl GatewayResponses {
    pub fn add(&mut self, name: &str, configured: Configured) -> Result<(), String> {
        if !NAMES.contains(&name) {
            return Err(format!("{name} is not a gateway response type"));
        }
        self.0.insert(name.to_owned(), configured);
        Ok(())
    }

    /// The answer to a failure; also writes `$context.error` for the access log.
    pub fn answer(
        &self,
        failure: &Failure,
        context: &mut Value,
        parameters: &Parameters,
        stage_variables: &Value,
    ) -> Response {
        let Kind(name, status, error_type) = failure.kind;
        let status = failure.status.unwrap_or(*status);
        let fallback = if status < 500 { "DEFAULT_4XX" } else { "DEFAULT_5XX" };
        let configured = self.0.get(*name).or_else(|| self.0.get(fallback)).cloned().unwrap_or_default();
        context["error"] = json!({
            "message": failure.message,
            "messageString": json!(failure.message).to_string(),
            "responseType": name,
            "validationErrorString": failure.validation.as_deref().unwrap_or(&failure.message),
        });
        let values = Values { parameters, context, stage_variables, body: "", integration_headers: &[] };
        let mut headers = vec![("x-amzn-ErrorType".to_owned(), (*error_type).to_owned())];
        for (header, source) in &configured.headers {
            headers.extend(source.value(&values).map(|value| (header.clone(), value)));
        }
        let (content_type, body) = match &configured.template {
            Some((content_type, template)) => {
                (content_type.as_str(), template.write(context, stage_variables, ""))
            }
            None => ("application/json", default_body(failure)),
        };
        headers.push(("Content-Type".to_owned(), content_type.to_owned()));
        Response { status: configured.status.unwrap_or(status), headers, body: Bytes::from(body) }
    }
}

/// `{"message":$context.error.messageString}`. AWS writes a space after the colon once the request has
/// reached a method, and none before.
fn default_body(failure: &Failure) -> String {
    let before_the_method = [&MISSING_AUTHENTICATION_TOKEN, &THROTTLED].contains(&failure.kind);
    let space = if before_the_method { "" } else { " " };
    format!("{{\"message\":{space}{}}}", json!(failure.message))
}

#[cfg(test)]
mod tests {
    use super::super::mapping::Side;
    use super::super::substitution::Place;
    use super::*;

    fn answer(responses: &GatewayResponses, failure: &Failure) -> Response {
        responses.answer(failure, &mut json!({"requestId": "r"}), &Parameters::default(), &json!({}))
    }

    fn text(response: &Response) -> &str {
        std::str::from_utf8(&response.body).unwrap()
    }

    #[test]
    fn the_default_texts_are_those_of_aws() {
        let responses = GatewayResponses::default();
        let missing = answer(&responses, &Failure::no_route());
        assert_eq!((missing.status, text(&missing)), (403, r#"{"message":"Missing Authentication Token"}"#));
        assert!(
            missing
                .headers
                .contains(&("x-amzn-ErrorType".into(), "MissingAuthenticationTokenException".into()))
        );
        let invalid = answer(&responses, &Failure::new(&BAD_REQUEST_BODY, "Invalid request body"));
        assert_eq!((invalid.status, text(&invalid)), (400, r#"{"message": "Invalid request body"}"#));
        assert_eq!(answer(&responses, &Failure::bad_gateway()).status, 502);
    }

    #[test]
    fn a_configured_type_wins_over_the_configured_default_of_its_class() {
        let mut responses = GatewayResponses::default();
        let origin = Source::parse("'*'", Side::GatewayResponse).unwrap();
        let with_origin = Configured {
            headers: vec![("Access-Control-Allow-Origin".into(), origin)],
            ..Configured::default()
        };
        let body = r#"{"why":"$context.error.validationErrorString"}"#;
        let template = Substitution::parse(body, Place::GatewayResponse).unwrap();
        let own = Configured {
            status: Some(422),
            template: Some(("application/problem+json".into(), template)),
            ..Configured::default()
        };
        responses.add("DEFAULT_4XX", with_origin).unwrap();
        responses.add("BAD_REQUEST_BODY", own).unwrap();

        let mut failure = Failure::new(&BAD_REQUEST_BODY, "Invalid request body");
        failure.validation = Some("[no name]".into());
        let own = answer(&responses, &failure);
        assert_eq!((own.status, text(&own)), (422, r#"{"why":"[no name]"}"#));
        assert!(own.headers.contains(&("Content-Type".into(), "application/problem+json".into())));

        let other = answer(&responses, &Failure::no_route());
        assert_eq!(other.status, 403, "a default without a status keeps that of the type");
        assert!(other.headers.contains(&("Access-Control-Allow-Origin".into(), "*".into())));
    }

    #[test]
    fn a_type_that_does_not_exist_is_refused() {
        assert!(GatewayResponses::default().add("TOO_MANY", Configured::default()).is_err());
        assert!(GatewayResponses::default().add("ACCESS_DENIED", Configured::default()).is_ok());
    }
}
