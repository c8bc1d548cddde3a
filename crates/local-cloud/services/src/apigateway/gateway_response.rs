//! What the gateway itself answers when a request does not reach its integration or the
//! integration fails: default texts, and what the API makes of them.
//! Source: API Gateway guide, "Gateway response types for API Gateway".

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::mapping::{Source, Values};
use super::substitution::Substitution;

/// The gateway responses that can happen here. Authorisers, API keys, quotas and WAF are
/// not emulated, and so have none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    ApiConfigurationError,
    BadRequestBody,
    BadRequestParameters,
    Default4xx,
    Default5xx,
    IntegrationFailure,
    IntegrationTimeout,
    MissingAuthenticationToken,
    RequestTooLarge,
    Throttled,
    UnsupportedMediaType,
}

/// Types that an API may configure though they cannot happen here.
const NEVER: [&str; 10] = [
    "ACCESS_DENIED",
    "AUTHORIZER_CONFIGURATION_ERROR",
    "AUTHORIZER_FAILURE",
    "EXPIRED_TOKEN",
    "INVALID_API_KEY",
    "INVALID_SIGNATURE",
    "QUOTA_EXCEEDED",
    "RESOURCE_NOT_FOUND",
    "UNAUTHORIZED",
    "WAF_FILTERED",
];

impl Kind {
    const ALL: [Self; 11] = [
        Self::ApiConfigurationError,
        Self::BadRequestBody,
        Self::BadRequestParameters,
        Self::Default4xx,
        Self::Default5xx,
        Self::IntegrationFailure,
        Self::IntegrationTimeout,
        Self::MissingAuthenticationToken,
        Self::RequestTooLarge,
        Self::Throttled,
        Self::UnsupportedMediaType,
    ];

    /// The name in the document, the status, and the `x-amzn-ErrorType` (which the guide does
    /// not list; seen in responses of AWS).
    fn facts(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::ApiConfigurationError => ("API_CONFIGURATION_ERROR", 500, "InternalServerErrorException"),
            Self::BadRequestBody => ("BAD_REQUEST_BODY", 400, "BadRequestException"),
            Self::BadRequestParameters => ("BAD_REQUEST_PARAMETERS", 400, "BadRequestException"),
            Self::Default4xx => ("DEFAULT_4XX", 400, "BadRequestException"),
            Self::Default5xx => ("DEFAULT_5XX", 500, "InternalServerErrorException"),
            Self::IntegrationFailure => ("INTEGRATION_FAILURE", 504, "InternalServerErrorException"),
            Self::IntegrationTimeout => ("INTEGRATION_TIMEOUT", 504, "InternalServerErrorException"),
            Self::MissingAuthenticationToken => {
                ("MISSING_AUTHENTICATION_TOKEN", 403, "MissingAuthenticationTokenException")
            }
            Self::RequestTooLarge => ("REQUEST_TOO_LARGE", 413, "BadRequestException"),
            Self::Throttled => ("THROTTLED", 429, "TooManyRequestsException"),
            Self::UnsupportedMediaType => ("UNSUPPORTED_MEDIA_TYPE", 415, "BadRequestException"),
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.facts().0 == name)
    }
}

/// Why a request gets no answer of its integration.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    pub kind: Kind,
    /// Where it is not the status of the kind.
    pub status: Option<u16>,
    pub message: String,
    /// `$context.error.validationErrorString`.
    pub validation: Option<String>,
}

impl Failure {
    /// A failure of a kind, with its message.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, status: None, message: message.into(), validation: None }
    }

    /// No such resource or method. AWS says 403, since it looks for a signature first.
    pub fn no_route() -> Self {
        Self::new(Kind::MissingAuthenticationToken, "Missing Authentication Token")
    }

    /// The API or its integration is at fault.
    pub fn internal() -> Self {
        Self::new(Kind::ApiConfigurationError, "Internal server error")
    }

    /// The integration could not be called at all: 500, though the guide says 504 (recorded
    /// on AWS by LocalStack, test_apigateway_lambda.py).
    pub fn not_invoked() -> Self {
        Self { status: Some(500), ..Self::new(Kind::IntegrationFailure, "Internal server error") }
    }

    /// "Malformed Lambda proxy response" and failed functions: 502.
    pub fn bad_gateway() -> Self {
        Self { status: Some(502), ..Self::new(Kind::Default5xx, "Internal server error") }
    }
}

/// One entry of `x-amazon-apigateway-gateway-responses`.
#[derive(Debug, Clone, Default)]
pub(super) struct Configured {
    pub status: Option<u16>,
    pub headers: Vec<(String, Source)>,
    pub template: Option<(String, Substitution)>,
}

/// All of an API, by type.
#[derive(Debug, Clone, Default)]
pub(super) struct GatewayResponses(BTreeMap<String, Configured>);

/// A response of the gateway, before the headers that every response has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl GatewayResponses {
    /// Adds the configuration of a type; the reason names a type that does not exist.
    pub fn add(&mut self, name: &str, configured: Configured) -> Result<(), String> {
        if Kind::named(name).is_none() && !NEVER.contains(&name) {
            return Err(format!("{name} is not a gateway response type"));
        }
        self.0.insert(name.to_owned(), configured);
        Ok(())
    }

    /// The answer to a failure; also writes `$context.error` for the access log.
    pub fn answer(
        &self,
        failure: &Failure,
        values: &mut Value,
        parameters: &cloud_languages::vtl::Parameters,
        stage_variables: &Value,
    ) -> Answer {
        let (name, status, error_type) = failure.kind.facts();
        let fallback = if failure.status.unwrap_or(status) < 500 { "DEFAULT_4XX" } else { "DEFAULT_5XX" };
        let configured = self.0.get(name).or_else(|| self.0.get(fallback)).cloned().unwrap_or_default();
        values["error"] = json!({
            "message": failure.message,
            "messageString": json!(failure.message).to_string(),
            "responseType": name,
            "validationErrorString": failure.validation.as_deref().unwrap_or(&failure.message),
        });
        let mapped =
            Values { parameters, context: values, stage_variables, body: "", integration_headers: &[] };
        let mut headers = vec![("x-amzn-ErrorType".to_owned(), error_type.to_owned())];
        for (header, source) in &configured.headers {
            headers.extend(source.value(&mapped).map(|value| (header.clone(), value)));
        }
        let (content_type, body) = match &configured.template {
            Some((content_type, template)) => {
                (content_type.as_str(), template.write(values, stage_variables, ""))
            }
            None => ("application/json", default_body(failure)),
        };
        headers.push(("Content-Type".to_owned(), content_type.to_owned()));
        Answer { status: configured.status.or(failure.status).unwrap_or(status), headers, body }
    }
}

/// `{"message":$context.error.messageString}`. AWS writes a space after the colon once the
/// request has reached a method, and none before.
fn default_body(failure: &Failure) -> String {
    let before_the_method = matches!(failure.kind, Kind::MissingAuthenticationToken | Kind::Throttled);
    let space = if before_the_method { "" } else { " " };
    format!("{{\"message\":{space}{}}}", json!(failure.message))
}

#[cfg(test)]
mod tests {
    use cloud_languages::vtl::Parameters;

    use super::super::mapping::Side;
    use super::super::substitution::Place;
    use super::*;

    fn answer(responses: &GatewayResponses, failure: &Failure) -> Answer {
        responses.answer(failure, &mut json!({"requestId": "r"}), &Parameters::default(), &json!({}))
    }

    #[test]
    fn the_default_texts_are_those_of_aws() {
        let responses = GatewayResponses::default();
        let missing = answer(&responses, &Failure::no_route());
        assert_eq!(
            (missing.status, missing.body.as_str()),
            (403, r#"{"message":"Missing Authentication Token"}"#)
        );
        assert!(
            missing
                .headers
                .contains(&("x-amzn-ErrorType".into(), "MissingAuthenticationTokenException".into()))
        );
        let invalid = answer(&responses, &Failure::new(Kind::BadRequestBody, "Invalid request body"));
        assert_eq!((invalid.status, invalid.body.as_str()), (400, r#"{"message": "Invalid request body"}"#));
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

        let mut failure = Failure::new(Kind::BadRequestBody, "Invalid request body");
        failure.validation = Some("[no name]".into());
        let own = answer(&responses, &failure);
        assert_eq!((own.status, own.body.as_str()), (422, r#"{"why":"[no name]"}"#));
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
