//! The mapping templates of API Gateway: the part of Velocity 1.7 that they use, with `$input`, `$context`,
//! `$stageVariables` and `$util`. A template is read and checked once, when it is deployed: a directive,
//! function, variable or JSONPath that is not known here is refused with its place.
//!
//! Sources: "Mapping template transformations for REST APIs" and "Variables for data transformations for API
//! Gateway" of the API Gateway guide; Velocity 1.7's user guide.

mod ast;
mod check;
mod context;
mod eval;
mod functions;
mod json_path;
mod parameters;
mod parse;
mod values;

use ast::Node;
pub use ast::TemplateError;
pub use context::known_context;
pub use eval::Scope;
pub use functions::{form_decode, url_encode};
pub use json_path::JsonPath;
pub use parameters::Parameters;
pub use values::RenderError;

/// A template that can be rendered.
#[derive(Debug, Clone)]
pub struct Template(Vec<Node>);

impl Template {
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let nodes = parse::parse(source)?;
        check::check(&nodes)?;
        Ok(Self(nodes))
    }

    /// Reads the template of a request, which cannot override the response.
    pub fn parse_request(source: &str) -> Result<Self, TemplateError> {
        let template = Self::parse(source)?;
        match check::first_override(&template.0) {
            Some(place) => {
                Err(TemplateError::new(place, "a request template cannot override the response here"))
            }
            None => Ok(template),
        }
    }

    /// Renders it; `scope` collects the overrides of the response.
    pub fn render(&self, scope: &mut Scope<'_>) -> Result<String, RenderError> {
        scope.render(&self.0)
    }
}

#[cfg(test)]
mod referee;
#[cfg(test)]
mod tests;
