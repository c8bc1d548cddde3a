//! Request models: an OpenAPI schema as API Gateway's validator reads it, which is JSON Schema draft 4
//! less what the import drops.

use std::collections::BTreeSet;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use super::document::{Invalid, Part};

#[derive(Debug)]
pub(super) struct Schema(Validator);

const COMPONENTS: &str = "#/components/schemas/";

/// The keywords that the validator applies.
#[rustfmt::skip]
const APPLIED: [&str; 18] = [
    "$ref", "additionalProperties", "allOf", "anyOf", "enum", "items", "maxLength", "maximum", "minLength",
    "minimum", "multipleOf", "not", "oneOf", "pattern", "properties", "required", "type", "uniqueItems",
];

/// The keywords that the import drops: "The `maxItems` and `minItems` tags are not included in simple
/// request validation", "The `discriminator` parameter is not supported", "The `example` tag is not
/// supported", "The `readOnly` field is not supported" (guide, "Amazon API Gateway important notes for REST
/// APIs"); `minProperties` and `maxProperties` too (aws/serverless-application-model discussion 2708). The
/// others document.
#[rustfmt::skip]
const DROPPED: [&str; 16] = [
    "default", "deprecated", "description", "discriminator", "example", "externalDocs", "format", "maxItems",
    "maxProperties", "minItems", "minProperties", "nullable", "readOnly", "title", "writeOnly", "xml",
];

impl Schema {
    /// The validator of `schema`, which may refer to `#/components/schemas/...` of the document.
    pub fn new(schema: &Part<'_>, components: Option<&Part<'_>>) -> Result<Self, Invalid> {
        let mut prepared = Map::new();
        if let Some(schemas) = components.and_then(|components| components.get("schemas")) {
            let mut validating = BTreeSet::new();
            references(schema.value, schemas.map()?, &mut validating);
            for (name, schema) in schemas.clone().entries()? {
                if !name.chars().all(|c| c.is_ascii_alphanumeric()) {
                    return schema.refuse("model names can only contain alphanumeric characters");
                }
                prepared.insert(name.clone(), prepare(&schema, validating.contains(name.as_str()))?);
            }
        }
        let document = json!({
            "allOf": [prepare(schema, true)?],
            "components": {"schemas": prepared},
        });
        let validator = jsonschema::draft4::options().build(&document);
        validator.map(Self).map_err(|error| schema.invalid(error))
    }

    /// What is wrong with a body. An absent body is validated as an empty object. The texts name no
    /// values, since they may go into a log.
    pub fn errors(&self, body: &str) -> Vec<String> {
        let text = if body.trim().is_empty() { "{}" } else { body };
        match serde_json::from_str::<Value>(text) {
            Ok(value) => self
                .0
                .iter_errors(&value)
                .map(|error| format!("{}: {}", error.instance_path(), error.masked()))
                .collect(),
            Err(error) => vec![format!("not JSON: line {}, column {}", error.line(), error.column())],
        }
    }
}

/// Collects the names of all schemas that `schema` refers to, directly or through others.
fn references<'s>(schema: &'s Value, schemas: &'s Map<String, Value>, found: &mut BTreeSet<&'s str>) {
    match schema {
        Value::Object(members) => {
            let name = members.get("$ref").and_then(Value::as_str);
            if let Some(name) = name.and_then(|name| name.strip_prefix(COMPONENTS))
                && found.insert(name)
                && let Some(schema) = schemas.get(name)
            {
                references(schema, schemas, found);
            }
            members.values().for_each(|member| references(member, schemas, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, schemas, found)),
        _ => {}
    }
}

/// Keeps what the validator applies, drops what the import drops, refuses the rest by name. `validates` is
/// false for a schema that only documents an answer of the API.
fn prepare(schema: &Part<'_>, validates: bool) -> Result<Value, Invalid> {
    if !schema.value.is_object() {
        return schema.refuse("a schema is a map");
    }
    let mut kept = Map::new();
    for (keyword, part) in schema.clone().entries()? {
        let text = part.value.as_str().unwrap_or_default();
        let value = match keyword.as_str() {
            // AWS drops it, and then refuses null all the same (stackoverflow.com/a/71663897).
            "nullable" if validates && part.value == &json!(true) => {
                return part.refuse("draft 4 knows no nullable: say it with anyOf");
            }
            "format" if !["int32", "int64", "float", "double"].contains(&text) => {
                return part.refuse("this format is not emulated: use pattern");
            }
            dropped if DROPPED.contains(&dropped) || dropped.starts_with("x-") => continue,
            "properties" => {
                let prepared =
                    part.entries()?.map(|(name, schema)| Ok((name.clone(), prepare(&schema, validates)?)));
                Value::Object(prepared.collect::<Result<_, _>>()?)
            }
            "allOf" | "anyOf" | "oneOf" => {
                let Some(schemas) = part.value.as_array() else { return part.refuse("is not a list") };
                let prepared =
                    schemas.iter().map(|schema| prepare(&Part::new(schema, &part.path), validates));
                Value::Array(prepared.collect::<Result<_, _>>()?)
            }
            "items" | "not" => prepare(&part, validates)?,
            "additionalProperties" if part.value.is_object() => prepare(&part, validates)?,
            "$ref" if !text.starts_with(COMPONENTS) => {
                return part.refuse("only #/components/schemas/... can be referred to");
            }
            applied if APPLIED.contains(&applied) => part.value.clone(),
            "exclusiveMinimum" | "exclusiveMaximum" => return part.refuse("API Gateway does not support it"),
            _ => return part.refuse("is not emulated"),
        };
        kept.insert(keyword.clone(), value);
    }
    Ok(Value::Object(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_components(schema: Value, components: Value) -> Result<Schema, Invalid> {
        Schema::new(&Part::new(&schema, "here"), Some(&Part::new(&components, "components")))
    }

    fn alone(schema: Value) -> Result<Schema, Invalid> {
        Schema::new(&Part::new(&schema, "here"), None)
    }

    fn schema(schema: Value) -> Schema {
        let components =
            json!({"schemas": {"Name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3}}});
        with_components(schema, components).unwrap()
    }

    #[test]
    fn a_reference_to_a_model_is_followed() {
        let schema = schema(json!({
            "type": "object", "required": ["name"],
            "properties": {"name": {"$ref": "#/components/schemas/Name"}},
        }));
        assert!(schema.errors(r#"{"name": "abc", "other": 1}"#).is_empty());
        assert!(!schema.errors(r#"{"name": "ABC"}"#).is_empty());
        assert!(!schema.errors(r#"{"name": "abcd"}"#).is_empty());
        assert!(!schema.errors("{}").is_empty());
        assert!(!schema.errors("").is_empty(), "an absent body is an empty object");
        assert!(!schema.errors("not json").is_empty());
    }

    #[test]
    fn an_error_names_the_place_and_never_the_value() {
        let schema = schema(json!({"properties": {"seller": {"type": "string", "maxLength": 3}}}));
        let errors = schema.errors(r#"{"seller": "Jane Doe"}"#).join(" ");
        assert!(errors.contains("/seller") && !errors.contains("Jane"), "{errors}");
        let errors = schema.errors(r#"{"seller": Jane"#).join(" ");
        assert!(!errors.contains("Jane"), "{errors}");
    }

    #[test]
    fn the_number_of_items_and_of_properties_is_not_judged_as_on_aws() {
        let schema = schema(json!({
            "type": "object", "minProperties": 2,
            "properties": {"images": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string"}}},
        }));
        assert!(schema.errors(r#"{"images": []}"#).is_empty());
        assert!(schema.errors(r#"{"images": ["a", "b", "c"]}"#).is_empty());
        assert!(!schema.errors(r#"{"images": [1]}"#).is_empty());
    }

    #[test]
    fn nullable_may_describe_an_answer_and_is_refused_where_it_should_judge_a_request() {
        let components = json!({"schemas": {
            "Record": {"properties": {"reason": {"type": "string", "nullable": true}}},
            "Request": {"properties": {"record": {"$ref": "#/components/schemas/Record"}}},
        }});
        assert!(with_components(json!({"type": "object"}), components.clone()).is_ok());
        let request = json!({"allOf": [{"$ref": "#/components/schemas/Request"}]});
        let refusal = with_components(request, components).unwrap_err();
        assert_eq!(refusal.path, "components.schemas.Record.properties.reason.nullable");
        assert!(alone(json!({"nullable": true})).is_err());
    }

    #[test]
    fn a_decimal_is_no_integer() {
        assert!(!schema(json!({"type": "integer", "format": "int64"})).errors("1.5").is_empty());
    }

    #[test]
    fn what_the_gateway_does_not_support_is_refused_by_name() {
        for keyword in ["exclusiveMinimum", "patternProperties", "contains"] {
            let refusal = alone(json!({keyword: true})).unwrap_err();
            assert_eq!(refusal.path, format!("here.{keyword}"));
        }
        assert!(alone(json!({"format": "date-time"})).is_err());
        assert!(alone(json!({"$ref": "other.yaml"})).is_err());
        assert!(alone(json!({"$ref": "#/components/schemas/None"})).is_err());
    }
}
