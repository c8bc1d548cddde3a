//! The parameters of a request, as templates and parameter mappings see them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// "REST APIs decode URL-encoded request parameters before passing them to backend
/// integrations" (API Gateway guide, "Amazon API Gateway important notes").
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    /// Decoded.
    pub path: BTreeMap<String, String>,
    /// In the client's order, repeated names included.
    pub query: Vec<(String, String)>,
    /// In the client's order and spelling.
    pub headers: Vec<(String, String)>,
}

impl Parameters {
    /// `$input.params(name)`: path, then query string, then header; empty where there is none.
    ///
    /// "Returns the value of a method request parameter from the path, query string, or header
    /// value (searched in that order)" (guide, "Variables for data transformations").
    pub fn find(&self, name: &str) -> &str {
        self.path(name).or_else(|| self.query(name)).or_else(|| self.header(name)).unwrap_or_default()
    }

    pub fn path(&self, name: &str) -> Option<&str> {
        self.path.get(name).map(String::as_str)
    }

    /// A query parameter; the last one where the name is repeated.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// A header, by its name in any case (the guide does not say); the last one where it is repeated.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter().rev();
        headers.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// `$input.params()`: a map, whose keys are the names as the client wrote them.
    pub fn as_json(&self) -> Value {
        let map = |pairs: &[(String, String)]| -> Map<String, Value> {
            pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
        };
        json!({"path": self.path, "querystring": map(&self.query), "header": map(&self.headers)})
    }
}
