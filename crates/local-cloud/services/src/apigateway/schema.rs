//! Request models: an OpenAPI schema as API Gateway's validator understands it, which is
//! JSON Schema draft 4 less what the import drops.

use std::collections::BTreeSet;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use super::openapi::Invalid;

/// A model that can judge a body.
#[derive(Debug)]
pub(super) struct Schema(Validator);

/// Where the schemas are that others refer to.
const COMPONENTS: &str = "#/components/schemas/";

/// Judged by the validator.
const JUDGED: [&str; 18] = [
    "$ref",
    "additionalProperties",
    "allOf",
    "anyOf",
    "enum",
    "items",
    "maxLength",
    "maximum",
    "minLength",
    "minimum",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "properties",
    "required",
    "type",
    "uniqueItems",
];

/// Dropped by the import, and so without effect: "The `maxItems` and `minItems` tags are not
/// included in simple request validation", "The `discriminator` parameter is not supported",
/// "The `example` tag is not supported", "The `readOnly` field is not supported" (guide,
/// "Amazon API Gateway important notes for REST APIs"); `minProperties` and `maxProperties`
/// are dropped too (aws/serverless-application-model discussion 2708). The others document.
const DROPPED: [&str; 16] = [
    "default",
    "deprecated",
    "description",
    "discriminator",
    "example",
    "externalDocs",
    "format",
    "maxItems",
    "maxProperties",
    "minItems",
    "minProperties",
    "nullable",
    "readOnly",
    "title",
    "writeOnly",
    "xml",
];

impl Schema {
    /// Builds the validator of `schema`, which may refer to `#/components/schemas/...` of the document.
    pub fn new(schema: &Value, components: Option<&Value>, path: &str) -> Result<Self, Invalid> {
        let mut prepared = Map::new();
        if let Some(schemas) = components.and_then(|components| components.get("schemas")) {
            let schemas =
                schemas.as_object().ok_or_else(|| Invalid::new("components.schemas", "is not a map"))?;
            let mut judging = BTreeSet::new();
            references(schema, schemas, &mut judging);
            for (name, schema) in schemas {
                let path = format!("components.schemas.{name}");
                if !name.chars().all(|c| c.is_ascii_alphanumeric()) {
                    return Err(Invalid::new(&path, "model names can only contain alphanumeric characters"));
                }
                prepared.insert(name.clone(), prepare(schema, &path, judging.contains(name.as_str()))?);
            }
        }
        let document = json!({
            "allOf": [prepare(schema, path, true)?],
            "components": {"schemas": prepared},
        });
        let validator = jsonschema::draft4::options().build(&document);
        validator.map(Self).map_err(|error| Invalid::new(path, &error.to_string()))
    }

    /// What is wrong with a body; empty where nothing is. The values themselves are not
    /// repeated, since the texts may go into a log.
    ///
    /// An absent body is judged as an empty object.
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

/// The names of all schemas that `schema` refers to, by itself or through others.
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

/// Keeps what the validator judges, drops what the import drops, refuses the rest by name.
/// `judges` is false for a schema that only documents what an API answers.
fn prepare(schema: &Value, path: &str, judges: bool) -> Result<Value, Invalid> {
    let keywords = schema.as_object().ok_or_else(|| Invalid::new(path, "a schema is a map"))?;
    let mut kept = Map::new();
    for (keyword, value) in keywords {
        let place = format!("{path}.{keyword}");
        let refuse = |reason: &str| Err(Invalid::new(&place, reason));
        match keyword.as_str() {
            // Dropped: the model refuses null all the same (stackoverflow.com/a/71663897).
            "nullable" if judges && value == &json!(true) => {
                return refuse("draft 4 knows no nullable: say it with anyOf");
            }
            "format" if !["int32", "int64", "float", "double"].contains(&value.as_str().unwrap_or("")) => {
                return refuse("this format is not emulated: use pattern");
            }
            dropped if DROPPED.contains(&dropped) || dropped.starts_with("x-") => {}
            "properties" => {
                let Some(properties) = value.as_object() else { return refuse("is not a map") };
                let prepared: Result<Map<String, Value>, Invalid> = properties
                    .iter()
                    .map(|(name, schema)| {
                        Ok((name.clone(), prepare(schema, &format!("{place}.{name}"), judges)?))
                    })
                    .collect();
                kept.insert(keyword.clone(), prepared?.into());
            }
            "allOf" | "anyOf" | "oneOf" => {
                let Some(schemas) = value.as_array() else { return refuse("is not a list") };
                let prepared: Result<Vec<Value>, Invalid> =
                    schemas.iter().map(|schema| prepare(schema, &place, judges)).collect();
                kept.insert(keyword.clone(), prepared?.into());
            }
            "items" | "not" => {
                kept.insert(keyword.clone(), prepare(value, &place, judges)?);
            }
            "additionalProperties" if value.is_object() => {
                kept.insert(keyword.clone(), prepare(value, &place, judges)?);
            }
            "$ref" if !value.as_str().unwrap_or("").starts_with(COMPONENTS) => {
                return refuse("only #/components/schemas/... can be referred to");
            }
            judged if JUDGED.contains(&judged) => {
                kept.insert(keyword.clone(), value.clone());
            }
            "exclusiveMinimum" | "exclusiveMaximum" => return refuse("API Gateway does not support it"),
            _ => return refuse("is not emulated"),
        }
    }
    Ok(Value::Object(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(schema: Value) -> Schema {
        let components =
            json!({"schemas": {"Name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3}}});
        Schema::new(&schema, Some(&components), "here").unwrap()
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
        assert!(Schema::new(&json!({"type": "object"}), Some(&components), "here").is_ok());
        let request = json!({"allOf": [{"$ref": "#/components/schemas/Request"}]});
        let refusal = Schema::new(&request, Some(&components), "here").unwrap_err();
        assert_eq!(refusal.path, "components.schemas.Record.properties.reason.nullable");
        assert!(Schema::new(&json!({"nullable": true}), None, "here").is_err());
    }

    #[test]
    fn a_decimal_is_no_integer() {
        assert!(!schema(json!({"type": "integer", "format": "int64"})).errors("1.5").is_empty());
    }

    #[test]
    fn what_the_gateway_does_not_support_is_refused_by_name() {
        for keyword in ["exclusiveMinimum", "patternProperties", "contains"] {
            let refusal = Schema::new(&json!({keyword: true}), None, "here").unwrap_err();
            assert_eq!(refusal.path, format!("here.{keyword}"));
        }
        assert!(Schema::new(&json!({"format": "date-time"}), None, "here").is_err());
        assert!(Schema::new(&json!({"$ref": "other.yaml"}), None, "here").is_err());
        assert!(Schema::new(&json!({"$ref": "#/components/schemas/None"}), None, "here").is_err());
    }
}
