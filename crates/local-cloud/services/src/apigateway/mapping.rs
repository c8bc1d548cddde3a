//! Parameter mappings: the source of a header's or parameter's value.
//! Source: API Gateway guide, "Parameter mapping source reference for REST APIs".

use cloud_languages::vtl::{JsonPath, Parameters, known_context};
use serde_json::Value;

use super::substitution::{context_value, value_text};

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

/// Where a mapping is written, which decides what it can read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Side {
    /// `requestParameters` of an integration.
    Request,
    /// `responseParameters` of an integration response.
    IntegrationResponse,
    /// `responseParameters` of a gateway response.
    GatewayResponse,
}

/// What a mapping can read.
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
    pub fn parse(expression: &str, side: Side) -> Result<Self, String> {
        let literal = expression.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        let after = |prefix: &str| expression.strip_prefix(prefix).map(str::to_owned);
        let of_request = || {
            after("method.request.path.")
                .map(Self::RequestPath)
                .or_else(|| after("method.request.querystring.").map(Self::RequestQuery))
                .or_else(|| after("method.request.header.").map(Self::RequestHeader))
        };
        let of_integration_body = || {
            let path = match expression {
                "integration.response.body" => "$".to_owned(),
                _ => format!("$.{}", after("integration.response.body.")?),
            };
            JsonPath::parse(&path).map(Self::IntegrationBody).ok()
        };
        literal
            .map(|text| Self::Static(text.to_owned()))
            .or_else(|| after("context.").filter(|path| known_context(path)).map(Self::Context))
            .or_else(|| after("stageVariables.").map(Self::StageVariable))
            .or_else(|| match side {
                Side::Request if expression == "method.request.body" => Some(Self::RequestBody),
                Side::Request | Side::GatewayResponse => of_request(),
                Side::IntegrationResponse => after("integration.response.header.")
                    .map(Self::IntegrationHeader)
                    .or_else(of_integration_body),
            })
            .ok_or_else(|| format!("the mapping expression {expression} is not emulated here"))
    }

    /// The value; without one there is no header or parameter.
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

    /// The place and the name of a request parameter.
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
