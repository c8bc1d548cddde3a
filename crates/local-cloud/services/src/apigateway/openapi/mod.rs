//! Reads the OpenAPI 3.0 document of an API, as API Gateway's import does: what has an
//! effect on AWS has the same effect here or is refused by its path in the document; what
//! only documents the API is listed as such.

mod document;
mod integration;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use self::document::{boolean, fields, map, refuse, text};
use super::api::{Api, Method, MethodResponses, Resource};
use super::gateway_response::{Configured, GatewayResponses};
use super::mapping::{Side, Source};
use super::routes::Pattern;
use super::schema::Schema;
use super::substitution::{Place, Substitution};

pub(super) use self::document::Invalid;

const VALIDATORS: &str = "x-amazon-apigateway-request-validators";
const VALIDATOR: &str = "x-amazon-apigateway-request-validator";
const GATEWAY_RESPONSES: &str = "x-amazon-apigateway-gateway-responses";
const INTEGRATION: &str = "x-amazon-apigateway-integration";
const ANY_METHOD: &str = "x-amazon-apigateway-any-method";
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", ANY_METHOD];

/// What is validated of a request.
#[derive(Debug, Clone, Copy, Default)]
struct Validation {
    body: bool,
    parameters: bool,
}

/// What the methods of a document share.
struct Shared<'v> {
    components: Option<&'v Value>,
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

/// Reads a whole document.
pub(super) fn read(id: &str, document: &Value) -> Result<Api, Invalid> {
    let root = fields(
        document,
        "",
        &["openapi", "paths", "components", VALIDATORS, VALIDATOR, GATEWAY_RESPONSES],
        // The address comes from the stage, not from `servers`.
        &["info", "servers", "tags", "externalDocs", "x-amazon-apigateway-documentation"],
    )?;
    let version = root.get("openapi").and_then(Value::as_str).unwrap_or_default();
    if !version.starts_with("3.0") {
        return refuse("openapi", "only OpenAPI 3.0 documents are emulated");
    }
    let components = root.get("components");
    if let Some(components) = components {
        fields(components, "components", &["schemas", "parameters"], &["examples", "links"])?;
    }
    let validators = read_validators(root.get(VALIDATORS))?;
    let default = match root.get(VALIDATOR) {
        Some(name) => named_validator(&validators, name, VALIDATOR)?,
        None => Validation::default(),
    };
    let shared = Shared { components, validators, default };
    let mut resources = Vec::new();
    if let Some(paths) = root.get("paths") {
        for (path, item) in map(paths, "paths")? {
            resources.push(read_resource(id, path, item, &shared)?);
        }
    }
    resources.sort_by(|a, b| a.pattern.precedes(&b.pattern));
    Ok(Api {
        id: id.to_owned(),
        resources,
        gateway_responses: read_gateway_responses(root.get(GATEWAY_RESPONSES))?,
    })
}

fn read_validators(value: Option<&Value>) -> Result<BTreeMap<String, Validation>, Invalid> {
    let Some(value) = value else { return Ok(BTreeMap::new()) };
    map(value, VALIDATORS)?
        .iter()
        .map(|(name, value)| {
            let path = format!("{VALIDATORS}.{name}");
            let validator = fields(value, &path, &["validateRequestBody", "validateRequestParameters"], &[])?;
            Ok((
                name.clone(),
                Validation {
                    body: boolean(validator, "validateRequestBody", &path)?,
                    parameters: boolean(validator, "validateRequestParameters", &path)?,
                },
            ))
        })
        .collect()
}

fn named_validator(
    validators: &BTreeMap<String, Validation>,
    name: &Value,
    path: &str,
) -> Result<Validation, Invalid> {
    let name = text(name, path)?;
    validators
        .get(name)
        .copied()
        .ok_or_else(|| Invalid::new(path, &format!("there is no request validator named {name}")))
}

fn read_resource(api: &str, path: &str, item: &Value, shared: &Shared<'_>) -> Result<Resource, Invalid> {
    let place = format!("paths.{path}");
    let pattern = Pattern::parse(path).map_err(|reason| Invalid::new(&place, &reason))?;
    let mut known = vec!["parameters"];
    known.extend(METHODS);
    let item = fields(item, &place, &known, &["summary", "description", "servers"])?;
    let common = read_parameters(item.get("parameters"), &place, shared)?;
    let mut methods = BTreeMap::new();
    for key in METHODS {
        let Some(operation) = item.get(key) else { continue };
        let name = if key == ANY_METHOD { "ANY".to_owned() } else { key.to_ascii_uppercase() };
        let place = format!("{place}.{key}");
        methods.insert(name, read_method(operation, &place, &common, &pattern, shared)?);
    }
    // Six letters and digits on AWS; here derived, so that they are the same at every start.
    let id = cloud_core::random::stable_uuid(&format!("{api} {path}")).replace('-', "")[..6].to_owned();
    Ok(Resource { id, path: path.to_owned(), pattern, methods })
}

fn read_method(
    operation: &Value,
    path: &str,
    common: &[Parameter],
    pattern: &Pattern,
    shared: &Shared<'_>,
) -> Result<Method, Invalid> {
    let operation = fields(
        operation,
        path,
        &["parameters", "requestBody", "responses", VALIDATOR, INTEGRATION],
        &["operationId", "summary", "description", "tags", "deprecated", "externalDocs", "servers"],
    )?;
    let validation = match operation.get(VALIDATOR) {
        Some(name) => named_validator(&shared.validators, name, &format!("{path}.{VALIDATOR}"))?,
        None => shared.default,
    };
    let mut parameters = common.to_vec();
    parameters.extend(read_parameters(operation.get("parameters"), path, shared)?);
    for parameter in parameters.iter().filter(|parameter| parameter.place == "path") {
        if !pattern.parameters().any(|name| name == parameter.name) {
            return refuse(path, &format!("the path has no parameter {{{}}}", parameter.name));
        }
    }
    let models = read_models(operation.get("requestBody"), path, shared)?;
    let responses = read_responses(operation.get("responses"), path)?;
    let integration = operation.get(INTEGRATION).ok_or_else(|| {
        Invalid::new(path, "no integration is defined for this method, and AWS deploys none without")
    })?;
    let declared = |place: &str, name: &str| {
        place == "path" && pattern.parameters().any(|other| other == name)
            || parameters.iter().any(|parameter| parameter.place == place && parameter.name == name)
    };
    let integration =
        integration::read(integration, &format!("{path}.{INTEGRATION}"), &declared, &responses)?;
    let required = parameters
        .into_iter()
        .filter(|parameter| validation.parameters && parameter.required && parameter.place != "path");
    Ok(Method {
        required: required.map(|parameter| (parameter.place, parameter.name)).collect(),
        models: if validation.body { models } else { BTreeMap::new() },
        integration,
    })
}

/// "For input parameters, only the following attributes are supported: name, in, required,
/// type, description. Other attributes are ignored" (guide, "Amazon API Gateway important
/// notes for REST APIs").
fn read_parameters(
    value: Option<&Value>,
    path: &str,
    shared: &Shared<'_>,
) -> Result<Vec<Parameter>, Invalid> {
    let path = format!("{path}.parameters");
    let Some(value) = value else { return Ok(Vec::new()) };
    let list = value.as_array().ok_or_else(|| Invalid::new(&path, "is not a list"))?;
    list.iter()
        .enumerate()
        .map(|(index, parameter)| {
            let path = format!("{path}[{index}]");
            let parameter = resolve(parameter, "#/components/parameters/", &path, shared)?;
            let fields = fields(
                parameter,
                &path,
                &["name", "in", "required"],
                &[
                    "schema",
                    "description",
                    "example",
                    "examples",
                    "style",
                    "explode",
                    "allowEmptyValue",
                    "allowReserved",
                    "deprecated",
                ],
            )?;
            let place = text(fields.get("in").unwrap_or(&Value::Null), &format!("{path}.in"))?;
            if !["path", "query", "header"].contains(&place) {
                return refuse(&format!("{path}.in"), &format!("{place} parameters are not emulated"));
            }
            Ok(Parameter {
                place: place.to_owned(),
                name: text(fields.get("name").unwrap_or(&Value::Null), &format!("{path}.name"))?.to_owned(),
                required: boolean(fields, "required", &path)?,
            })
        })
        .collect()
}

fn resolve<'v>(
    value: &'v Value,
    prefix: &str,
    path: &str,
    shared: &Shared<'v>,
) -> Result<&'v Value, Invalid> {
    let Some(reference) = value.get("$ref") else { return Ok(value) };
    let name = reference.as_str().and_then(|reference| reference.strip_prefix(prefix));
    let found = name.and_then(|name| shared.components?.get("parameters")?.get(name));
    found.ok_or_else(|| Invalid::new(path, &format!("{reference} is not there")))
}

/// The model of each content type. That a body is required says nothing to API Gateway: an
/// absent one is validated as an empty object.
fn read_models(
    value: Option<&Value>,
    path: &str,
    shared: &Shared<'_>,
) -> Result<BTreeMap<String, Schema>, Invalid> {
    let path = format!("{path}.requestBody");
    let Some(value) = value else { return Ok(BTreeMap::new()) };
    let body = fields(value, &path, &["content"], &["required", "description"])?;
    let Some(content) = body.get("content") else { return Ok(BTreeMap::new()) };
    let mut models = BTreeMap::new();
    for (content_type, media) in map(content, &format!("{path}.content"))? {
        let path = format!("{path}.content.{content_type}");
        let media = fields(media, &path, &["schema"], &["example", "examples"])?;
        if let Some(schema) = media.get("schema") {
            let schema = Schema::new(schema, shared.components, &format!("{path}.schema"))?;
            models.insert(content_type.to_ascii_lowercase(), schema);
        }
    }
    Ok(models)
}

/// The method responses: which headers each status declares. Their models are for SDKs only.
fn read_responses(value: Option<&Value>, path: &str) -> Result<MethodResponses, Invalid> {
    let path = format!("{path}.responses");
    let Some(value) = value else { return Ok(MethodResponses::new()) };
    let mut responses = MethodResponses::new();
    for (status, response) in map(value, &path)? {
        let path = format!("{path}.{status}");
        let response = fields(response, &path, &["headers"], &["description", "content"])?;
        let status = status.parse().map_err(|_| {
            Invalid::new(
                &path,
                "API Gateway knows no default and no wildcard method response: name the status",
            )
        })?;
        let headers = match response.get("headers") {
            Some(headers) => map(headers, &format!("{path}.headers"))?.keys().cloned().collect(),
            None => BTreeSet::new(),
        };
        responses.insert(status, headers);
    }
    Ok(responses)
}

fn read_gateway_responses(value: Option<&Value>) -> Result<GatewayResponses, Invalid> {
    let mut responses = GatewayResponses::default();
    let Some(value) = value else { return Ok(responses) };
    for (name, response) in map(value, GATEWAY_RESPONSES)? {
        let path = format!("{GATEWAY_RESPONSES}.{name}");
        let response =
            fields(response, &path, &["statusCode", "responseParameters", "responseTemplates"], &[])?;
        let mut configured = Configured::default();
        if let Some(status) = response.get("statusCode") {
            configured.status = Some(document::status(status, &format!("{path}.statusCode"))?);
        }
        if let Some(parameters) = response.get("responseParameters") {
            let path = format!("{path}.responseParameters");
            for (target, source) in map(parameters, &path)? {
                let path = format!("{path}.{target}");
                let header = target
                    .strip_prefix("gatewayresponse.header.")
                    .ok_or_else(|| Invalid::new(&path, "only gatewayresponse.header.<name> is emulated"))?;
                let source = Source::parse(text(source, &path)?, Side::GatewayResponse)
                    .map_err(|reason| Invalid::new(&path, &reason))?;
                configured.headers.push((header.to_owned(), source));
            }
        }
        if let Some(templates) = response.get("responseTemplates") {
            let path = format!("{path}.responseTemplates");
            configured.template = document::only_template(templates, &path, |text| {
                Substitution::parse(text, Place::GatewayResponse)
            })?;
        }
        responses.add(name, configured).map_err(|reason| Invalid::new(&path, &reason))?;
    }
    Ok(responses)
}

#[cfg(test)]
mod tests;
