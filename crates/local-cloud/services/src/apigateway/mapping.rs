//! Parameter mappings: where the value of a header or parameter comes from.
//! Source: API Gateway guide, "Parameter mapping source reference for REST APIs".

use cloud_languages::vtl::{JsonPath, Parameters, known_context};
use serde_json::Value;

use super::substitution::{context_value, value_text};

/// The right side of a mapping.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Static(String),
    Context(String),
    StageVariable(String),
    RequestPath(String),
    RequestQuery(String),
    RequestHeader(String),
    RequestBody,
    IntegrationHeader(String),
    IntegrationBody(JsonPath),
}

/// On which side of the integration the mapping stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Side {
    /// `requestParameters` of an integration.
    Request,
    /// `responseParameters` of an integration response.
    IntegrationResponse,
    /// `responseParameters` of a gateway response.
    GatewayResponse,
}

/// What the values are taken from.
pub(super) struct Values<'v> {
    pub parameters: &'v Parameters,
    pub context: &'v Value,
    pub stage_variables: &'v Value,
    /// The request's body, or the integration's.
    pub body: &'v str,
    /// The headers of the integration's answer.
    pub integration_headers: &'v [(String, String)],
}

impl Source {
    /// Reads a mapping expression.
    pub fn parse(expression: &str, side: Side) -> Result<Self, String> {
        let refused = || format!("the mapping expression {expression} is not emulated here");
        let literal = expression.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        if let Some(text) = literal {
            return Ok(Self::Static(text.to_owned()));
        }
        if let Some(path) = expression.strip_prefix("context.") {
            return if known_context(path) { Ok(Self::Context(path.into())) } else { Err(refused()) };
        }
        if let Some(name) = expression.strip_prefix("stageVariables.") {
            return Ok(Self::StageVariable(name.into()));
        }
        let after = |prefix: &str| expression.strip_prefix(prefix).map(str::to_owned);
        let from_request = after("method.request.path.")
            .map(Self::RequestPath)
            .or_else(|| after("method.request.querystring.").map(Self::RequestQuery))
            .or_else(|| after("method.request.header.").map(Self::RequestHeader))
            .or_else(|| (expression == "method.request.body").then_some(Self::RequestBody));
        match (side, from_request) {
            (Side::Request, Some(source)) => return Ok(source),
            (Side::GatewayResponse, Some(source)) if !matches!(source, Self::RequestBody) => {
                return Ok(source);
            }
            _ => {}
        }
        if side == Side::IntegrationResponse {
            if let Some(name) = after("integration.response.header.") {
                return Ok(Self::IntegrationHeader(name));
            }
            if expression == "integration.response.body" {
                return JsonPath::parse("$").map(Self::IntegrationBody);
            }
            if let Some(path) = after("integration.response.body.") {
                return JsonPath::parse(&format!("$.{path}")).map(Self::IntegrationBody);
            }
        }
        Err(refused())
    }

    /// The value; `None` where there is none, and so no header or parameter.
    pub fn value(&self, values: &Values<'_>) -> Option<String> {
        let text = |value: Option<&Value>| value.map(|value| value_text(Some(value), ""));
        match self {
            Self::Static(text) => Some(text.clone()),
            Self::Context(path) => text(context_value(values.context, path)),
            Self::StageVariable(name) => text(values.stage_variables.get(name)),
            Self::RequestPath(name) => values.parameters.path(name).map(str::to_owned),
            Self::RequestQuery(name) => values.parameters.query(name).map(str::to_owned),
            Self::RequestHeader(name) => values.parameters.header(name).map(str::to_owned),
            Self::RequestBody => Some(values.body.to_owned()),
            Self::IntegrationHeader(name) => {
                let mut headers = values.integration_headers.iter();
                headers.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
            }
            Self::IntegrationBody(path) => {
                let body: Value = serde_json::from_str(values.body).ok()?;
                text(path.find(&body))
            }
        }
    }

    /// `path`, `querystring` or `header` and the name, where the value is a method request parameter.
    pub fn request_parameter(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::RequestPath(name) => Some(("path", name)),
            Self::RequestQuery(name) => Some(("query", name)),
            Self::RequestHeader(name) => Some(("header", name)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(expression: &str, side: Side) -> Option<String> {
        let mut parameters = Parameters { query: vec![("q".into(), "1".into())], ..Default::default() };
        parameters.path.insert("p".into(), "2".into());
        let values = Values {
            parameters: &parameters,
            context: &json!({"requestId": "r", "identity": {"sourceIp": "127.0.0.1"}}),
            stage_variables: &json!({"v": "x"}),
            body: r#"{"a": {"b": [7]}}"#,
            integration_headers: &[("X-Made-By".to_owned(), "us".to_owned())],
        };
        Source::parse(expression, side).unwrap().value(&values)
    }

    #[test]
    fn each_kind_of_source_gives_its_value() {
        use Side::{IntegrationResponse, Request};
        assert_eq!(value("'*'", IntegrationResponse).unwrap(), "*");
        assert_eq!(value("context.identity.sourceIp", IntegrationResponse).unwrap(), "127.0.0.1");
        assert_eq!(value("stageVariables.v", IntegrationResponse).unwrap(), "x");
        assert_eq!(value("integration.response.header.x-made-by", IntegrationResponse).unwrap(), "us");
        assert_eq!(value("integration.response.body.a.b[0]", IntegrationResponse).unwrap(), "7");
        assert_eq!(value("integration.response.body.none", IntegrationResponse), None);
        assert_eq!(value("method.request.querystring.q", Request).unwrap(), "1");
        assert_eq!(value("method.request.path.p", Request).unwrap(), "2");
        assert_eq!(value("method.request.header.none", Request), None);
    }

    #[test]
    fn a_source_of_the_wrong_side_or_an_unknown_one_is_refused_by_name() {
        for (expression, side) in [
            ("integration.response.header.x", Side::Request),
            ("method.request.header.x", Side::IntegrationResponse),
            ("context.nothing", Side::IntegrationResponse),
            ("plain text", Side::IntegrationResponse),
        ] {
            assert!(Source::parse(expression, side).unwrap_err().contains(expression));
        }
    }
}
