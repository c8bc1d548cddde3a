//! A deployed REST API: resources, methods, integrations. `openapi` builds it from the document in the
//! template; it never changes after that.

use std::collections::BTreeMap;

use cloud_languages::vtl::Template;
use regex::Regex;

use super::gateway_response::GatewayResponses;
use super::mapping::Source;
use super::routes::Pattern;
use super::schema::Schema;

#[derive(Debug)]
pub(super) struct RestApi {
    pub id: String,
    /// In the order in which they are tried.
    pub resources: Vec<Resource>,
    pub gateway_responses: GatewayResponses,
}

#[derive(Debug)]
pub(super) struct Resource {
    pub id: String,
    pub path: String,
    pub pattern: Pattern,
    /// By HTTP method in capitals; `ANY` stands for all other methods.
    pub methods: BTreeMap<String, Method>,
}

impl Resource {
    pub fn method(&self, name: &str) -> Option<&Method> {
        self.methods.get(name).or_else(|| self.methods.get("ANY"))
    }
}

#[derive(Debug)]
pub(super) struct Method {
    /// Parameters that must be there and not blank: `query` or `header`, and the name.
    pub required: Vec<(String, String)>,
    /// The model of each content type; empty where no body is validated.
    pub models: BTreeMap<String, Schema>,
    pub integration: Integration,
}

/// The back end of a method.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    /// The gateway answers by itself.
    Mock,
    /// A queue: `/{account}/{queue}`.
    Queue(String),
    /// A function's ARN.
    Function(String),
    /// The ARN of a function that gets the whole request and gives the whole response.
    FunctionProxy(String),
}

/// `x-amazon-apigateway-integration`.
#[derive(Debug)]
pub(super) struct Integration {
    pub target: Target,
    /// Query parameters of the call.
    pub query: Vec<(String, Source)>,
    /// The request template of each content type.
    pub templates: BTreeMap<String, Template>,
    pub passthrough: Passthrough,
    pub timeout_ms: u64,
    pub responses: Vec<IntegrationResponse>,
}

/// When a body passes that no request template matches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Passthrough {
    WhenNoMatch,
    WhenNoTemplates,
    Never,
}

/// Makes the answer of the back end a response.
#[derive(Debug)]
pub(super) struct IntegrationResponse {
    /// `None` for `default`.
    pub selection: Option<Regex>,
    pub status: u16,
    pub headers: Vec<(String, Source)>,
    /// The content type and its template; with `None` the answer's body passes.
    pub template: Option<(String, Template)>,
}
