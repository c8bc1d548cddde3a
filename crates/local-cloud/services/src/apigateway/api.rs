//! A REST API as it is deployed: resources, methods, integrations. Built by `openapi`
//! from the document in the template, read-only afterwards.

use std::collections::{BTreeMap, BTreeSet};

use cloud_languages::vtl::Template;
use regex::Regex;

use super::gateway_response::GatewayResponses;
use super::mapping::Source;
use super::routes::Pattern;
use super::schema::Schema;

/// One REST API.
#[derive(Debug)]
pub(super) struct Api {
    /// What `Ref` gives.
    pub id: String,
    /// In the order in which they are tried.
    pub resources: Vec<Resource>,
    pub gateway_responses: GatewayResponses,
}

/// A path of the API.
#[derive(Debug)]
pub(super) struct Resource {
    pub id: String,
    pub path: String,
    pub pattern: Pattern,
    /// By HTTP method in capitals; `ANY` stands for all that are not named.
    pub methods: BTreeMap<String, Method>,
}

impl Resource {
    /// The method for a request.
    pub fn method(&self, name: &str) -> Option<&Method> {
        self.methods.get(name).or_else(|| self.methods.get("ANY"))
    }
}

/// What happens to a request for one method of a resource.
#[derive(Debug)]
pub(super) struct Method {
    /// Parameters that must be there and not blank: `query` or `header`, and the name.
    pub required: Vec<(String, String)>,
    /// The model of each content type; empty where no body is validated.
    pub models: BTreeMap<String, Schema>,
    pub integration: Integration,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    /// The gateway itself.
    Mock,
    /// A queue: `/{account}/{queue}`.
    Queue(String),
    /// A function's ARN.
    Function(String),
    /// A function's ARN, called with the whole request and answering with the whole response.
    FunctionProxy(String),
}

/// `x-amazon-apigateway-integration`.
#[derive(Debug)]
pub(super) struct Integration {
    pub target: Target,
    /// Query parameters added to the call.
    pub query: Vec<(String, Source)>,
    pub templates: BTreeMap<String, Template>,
    pub passthrough: Passthrough,
    pub timeout_ms: u64,
    pub responses: Vec<IntegrationResponse>,
}

/// What happens to a body that no request template matches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Passthrough {
    WhenNoMatch,
    WhenNoTemplates,
    Never,
}

/// How an answer of the back end becomes a response.
#[derive(Debug)]
pub(super) struct IntegrationResponse {
    /// `None` for `default`.
    pub selection: Option<Regex>,
    pub status: u16,
    pub headers: Vec<(String, Source)>,
    /// The content type and its template; `None` passes the answer's body on.
    pub template: Option<(String, Template)>,
}

/// The headers that the method response of each status declares.
pub(super) type MethodResponses = BTreeMap<u16, BTreeSet<String>>;
