//! Reads the OpenAPI 3.0 document of an API as API Gateway imports it. A part that has an effect on AWS
//! has the same effect here, or is refused by its path in the document. Each list of keys names the parts
//! without an effect.

mod integration;

use std::collections::BTreeMap;

use serde_json::Value;

use self::integration::MethodResponses;
use super::document::{Invalid, Part};
use super::gateway_response::{Configured, GatewayResponses};
use super::mapping::{Side, Source};
use super::rest_api::{Method, Resource, RestApi};
use super::routes::Pattern;
use super::schema::Schema;
use super::substitution::{Place, Substitution};

const VALIDATORS: &str = "x-amazon-apigateway-request-validators";
const VALIDATOR: &str = "x-amazon-apigateway-request-validator";
const GATEWAY_RESPONSES: &str = "x-amazon-apigateway-gateway-responses";
const INTEGRATION: &str = "x-amazon-apigateway-integration";
const ANY_METHOD: &str = "x-amazon-apigateway-any-method";
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", ANY_METHOD];

/// Which parts of a request are validated.
#[derive(Debug, Clone, Copy, Default)]
struct Validation {
    body: bool,
    parameters: bool,
}

/// What the methods of a document share.
struct Shared<'v> {
    components: Option<Part<'v>>,
    validators: BTreeMap<String, Validation>,
    /// The validator of methods that name none.
    default: Validation,
}

/// A request parameter that a method declares.
#[derive(Debug, Clone)]
struct Parameter {
    place: String,
    name: String,
    required: bool,
}

pub(super) fn read(id: &str, document: &Value) -> Result<RestApi, Invalid> {
    let root = Part::new(document, "");
    root.check_keys(
        &["openapi", "paths", "components", VALIDATORS, VALIDATOR, GATEWAY_RESPONSES],
        // The address comes from the stage, not from `servers`.
        &["info", "servers", "tags", "externalDocs", "x-amazon-apigateway-documentation"],
    )?;
    let version = root.key("openapi");
    if !version.value.as_str().unwrap_or_default().starts_with("3.0") {
        return version.refuse("only OpenAPI 3.0 documents are emulated");
    }
    let components = root.get("components");
    if let Some(components) = &components {
        components.check_keys(&["schemas", "parameters"], &["examples", "links"])?;
    }
    let mut shared = Shared { components, validators: validators(&root)?, default: Validation::default() };
    shared.default = shared.validation(&root)?;
    let mut resources = root
        .entries_of("paths")?
        .map(|(path, item)| resource(id, path, &item, &shared))
        .collect::<Result<Vec<_>, _>>()?;
    resources.sort_by(|a, b| a.pattern.precedes(&b.pattern));
    Ok(RestApi { id: id.to_owned(), resources, gateway_responses: gateway_responses(&root)? })
}

fn validators(root: &Part<'_>) -> Result<BTreeMap<String, Validation>, Invalid> {
    let validator = |(name, part): (&String, Part<'_>)| {
        part.check_keys(&["validateRequestBody", "validateRequestParameters"], &[])?;
        let body = part.key("validateRequestBody").flag()?;
        let parameters = part.key("validateRequestParameters").flag()?;
        Ok((name.clone(), Validation { body, parameters }))
    };
    root.entries_of(VALIDATORS)?.map(validator).collect()
}

impl<'v> Shared<'v> {
    /// The validation that an operation, or the document, asks for.
    fn validation(&self, of: &Part<'_>) -> Result<Validation, Invalid> {
        let Some(part) = of.get(VALIDATOR) else { return Ok(self.default) };
        let name = part.text()?;
        let validation = self.validators.get(name).copied();
        validation.ok_or_else(|| part.invalid(format!("there is no request validator named {name}")))
    }

    /// Follows a reference to a parameter.
    fn resolve(&self, part: Part<'v>) -> Result<Part<'v>, Invalid> {
        let Some(reference) = part.value.get("$ref") else { return Ok(part) };
        let name = reference.as_str().and_then(|text| text.strip_prefix("#/components/parameters/"));
        let found = name.and_then(|name| self.components.as_ref()?.value.get("parameters")?.get(name));
        let value = found.ok_or_else(|| part.invalid(format!("{reference} is not there")))?;
        Ok(Part { value, ..part })
    }
}

fn resource<'v>(api: &str, path: &str, item: &Part<'v>, shared: &Shared<'v>) -> Result<Resource, Invalid> {
    let pattern = Pattern::parse(path).map_err(|reason| item.invalid(reason))?;
    let known = [&["parameters"], METHODS.as_slice()].concat();
    item.check_keys(&known, &["summary", "description", "servers"])?;
    let common = parameters(item, shared)?;
    let mut methods = BTreeMap::new();
    for key in METHODS {
        if let Some(operation) = item.get(key) {
            let name = if key == ANY_METHOD { "ANY".to_owned() } else { key.to_ascii_uppercase() };
            methods.insert(name, method(&operation, &common, &pattern, shared)?);
        }
    }
    // Six letters and digits on AWS; derived here, so that it is the same at every start.
    let id = cloud_core::random::stable_uuid(&format!("{api} {path}")).replace('-', "")[..6].to_owned();
    Ok(Resource { id, path: path.to_owned(), pattern, methods })
}

fn method<'v>(
    operation: &Part<'v>,
    common: &[Parameter],
    pattern: &Pattern,
    shared: &Shared<'v>,
) -> Result<Method, Invalid> {
    operation.check_keys(
        &["parameters", "requestBody", "responses", VALIDATOR, INTEGRATION],
        &["operationId", "summary", "description", "tags", "deprecated", "externalDocs", "servers"],
    )?;
    let validation = shared.validation(operation)?;
    let parameters = [common, &parameters(operation, shared)?].concat();
    let in_path = |name: &str| pattern.parameters().any(|other| other == name);
    for parameter in &parameters {
        if parameter.place == "path" && !in_path(&parameter.name) {
            return operation.refuse(format!("the path has no parameter {{{}}}", parameter.name));
        }
    }
    let models = models(operation, shared)?;
    let responses = responses(operation)?;
    let integration = operation.get(INTEGRATION).ok_or_else(|| {
        operation.invalid("no integration is defined for this method, and AWS deploys none without")
    })?;
    let declared = |place: &str, name: &str| {
        place == "path" && in_path(name)
            || parameters.iter().any(|parameter| parameter.place == place && parameter.name == name)
    };
    let integration = integration::read(&integration, &declared, &responses)?;
    let required = parameters
        .into_iter()
        .filter(|parameter| validation.parameters && parameter.required && parameter.place != "path");
    Ok(Method {
        required: required.map(|parameter| (parameter.place, parameter.name)).collect(),
        models: if validation.body { models } else { BTreeMap::new() },
        integration,
    })
}

/// "For input parameters, only the following attributes are supported: name, in, required, type,
/// description. Other attributes are ignored" (guide, "Amazon API Gateway important notes for REST APIs").
#[rustfmt::skip]
const IGNORED_OF_A_PARAMETER: [&str; 9] = [
    "schema", "description", "example", "examples", "style", "explode", "allowEmptyValue", "allowReserved",
    "deprecated",
];

fn parameters<'v>(of: &Part<'v>, shared: &Shared<'v>) -> Result<Vec<Parameter>, Invalid> {
    let parameter = |part| {
        let part = shared.resolve(part)?;
        part.check_keys(&["name", "in", "required"], &IGNORED_OF_A_PARAMETER)?;
        let place = part.key("in").text()?.to_owned();
        if !["path", "query", "header"].contains(&place.as_str()) {
            return part.key("in").refuse(format!("{place} parameters are not emulated"));
        }
        let name = part.key("name").text()?.to_owned();
        Ok(Parameter { place, name, required: part.key("required").flag()? })
    };
    of.items_of("parameters")?.into_iter().map(parameter).collect()
}

/// The model of each content type. `required` of a body has no effect on API Gateway, which validates an
/// absent body as an empty object.
fn models(operation: &Part<'_>, shared: &Shared<'_>) -> Result<BTreeMap<String, Schema>, Invalid> {
    let mut models = BTreeMap::new();
    let Some(body) = operation.get("requestBody") else { return Ok(models) };
    body.check_keys(&["content"], &["required", "description"])?;
    for (content_type, media) in body.entries_of("content")? {
        media.check_keys(&["schema"], &["example", "examples"])?;
        if let Some(schema) = media.get("schema") {
            let schema = Schema::new(&schema, shared.components.as_ref())?;
            models.insert(content_type.to_ascii_lowercase(), schema);
        }
    }
    Ok(models)
}

/// The method responses. Their models are for SDKs only.
fn responses(operation: &Part<'_>) -> Result<MethodResponses, Invalid> {
    let response = |(status, part): (&String, Part<'_>)| {
        part.check_keys(&["headers"], &["description", "content"])?;
        let reason = "API Gateway knows no default and no wildcard method response: name the status";
        let status = status.parse().map_err(|_| part.invalid(reason))?;
        Ok((status, part.entries_of("headers")?.map(|(name, _)| name.clone()).collect()))
    };
    operation.entries_of("responses")?.map(response).collect()
}

fn gateway_responses(root: &Part<'_>) -> Result<GatewayResponses, Invalid> {
    let mut responses = GatewayResponses::default();
    for (name, response) in root.entries_of(GATEWAY_RESPONSES)? {
        response.check_keys(&["statusCode", "responseParameters", "responseTemplates"], &[])?;
        let status = response.get("statusCode").map(|status| status.status()).transpose()?;
        let mut headers = Vec::new();
        for (target, source) in response.entries_of("responseParameters")? {
            let header = target
                .strip_prefix("gatewayresponse.header.")
                .ok_or_else(|| source.invalid("only gatewayresponse.header.<name> is emulated"))?;
            let parsed = Source::parse(source.text()?, Side::GatewayResponse);
            headers.push((header.to_owned(), parsed.map_err(|reason| source.invalid(reason))?));
        }
        let template =
            response.response_template(|text| Substitution::parse(text, Place::GatewayResponse))?;
        let configured = Configured { status, headers, template };
        responses.add(name, configured).map_err(|reason| response.invalid(reason))?;
    }
    Ok(responses)
}

#[cfg(test)]
mod tests;
