//! A template as it is written: YAML with short-form functions, read into JSON with the long forms, and split
//! into its sections. Unknown sections and attributes are refused; nothing is evaluated here.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloud_core::Settings;
use cloud_core::resource::Refusal;
use cloud_core::service::Identity;
use serde_json::{Map, Value, json};
use serde_norway::Value as Yaml;

use crate::template::place::Place;

pub struct Project<'a> {
    /// Gives the text of a file, by its path relative to the project.
    pub read: &'a dyn Fn(&str) -> std::io::Result<String>,
    /// The identity of each known CloudFormation type; others are refused.
    pub identity: fn(&str) -> Option<&'static Identity>,
    /// Region, account and stage.
    pub settings: &'a Settings,
}

/// Whether a file may use short forms such as `!Ref`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ShortForms {
    /// In templates.
    Read,
    /// In files that CloudFormation or Step Functions read by themselves. `AWS::Include` takes no YAML short
    /// forms:
    /// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/create-reusable-transform-function-snippets-and-add-to-your-template-with-aws-include-transform.html>
    Refused,
}

/// The sections of one template, SAM types not yet transformed.
#[derive(Debug, Default)]
pub(crate) struct Template {
    pub body: String,
    pub description: Option<String>,
    pub parameters: Map<String, Value>,
    pub mappings: Map<String, Value>,
    pub rules: Map<String, Value>,
    pub conditions: Map<String, Value>,
    pub globals: Map<String, Value>,
    pub resources: BTreeMap<String, Declared>,
    pub outputs: Map<String, Value>,
    /// Whether `Transform` names SAM.
    pub serverless: bool,
    /// Names that SAM lets templates refer to (`Api.Stage`), and the logical ids that they stand for.
    pub aliases: BTreeMap<String, String>,
}

/// One resource as declared (or as the SAM transform generated it), not evaluated.
#[derive(Debug, Clone, Default)]
pub(crate) struct Declared {
    pub kind: String,
    pub properties: Map<String, Value>,
    /// Properties whose value is the content of a file: nothing is evaluated in it.
    pub verbatim: BTreeMap<String, (Arc<str>, Value)>,
    pub depends_on: Vec<String>,
    pub condition: Option<String>,
    pub metadata: Value,
}

impl Declared {
    /// A resource of the SAM transform; `properties` is an object.
    pub fn generated(kind: &str, properties: Value, condition: Option<String>) -> Self {
        let properties = match properties {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        Self { kind: kind.to_owned(), properties, condition, ..Self::default() }
    }
}

/// The path of `location`, written beside `file`, relative to the project.
pub(crate) fn beside(file: &str, location: &str) -> String {
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in location.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Reads a file of the project: its text, and its content as JSON with long-form functions.
pub(crate) fn read(
    project: &Project<'_>,
    place: &Place,
    short_forms: ShortForms,
) -> Result<(String, Value), Refusal> {
    let text =
        (project.read)(&place.file).map_err(|error| place.refuse(format!("cannot be read: {error}")))?;
    let value = parse(&text, place, short_forms)?;
    Ok((text, value))
}

/// Reads YAML (or JSON) into JSON with long-form functions.
pub(crate) fn parse(text: &str, place: &Place, short_forms: ShortForms) -> Result<Value, Refusal> {
    let yaml: Yaml =
        serde_norway::from_str(text).map_err(|error| place.refuse(format!("is not YAML: {error}")))?;
    to_json(yaml, place, short_forms)
}

fn to_json(yaml: Yaml, place: &Place, short_forms: ShortForms) -> Result<Value, Refusal> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(value),
        Yaml::Number(number) => {
            serde_json::to_value(number).map_err(|error| place.refuse(error.to_string()))?
        }
        Yaml::String(text) => Value::String(text),
        Yaml::Sequence(items) => items
            .into_iter()
            .enumerate()
            .map(|(index, item)| to_json(item, &place.item(index), short_forms))
            .collect::<Result<_, _>>()?,
        Yaml::Mapping(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                let key = key_text(key, place)?;
                let value = to_json(value, &place.key(&key), short_forms)?;
                map.insert(key, value);
            }
            Value::Object(map)
        }
        Yaml::Tagged(tagged) => {
            let tag = tagged.tag.to_string();
            if short_forms == ShortForms::Refused {
                return Err(place.refuse(format!("{tag}: short forms are not read in this file")));
            }
            let name = tag.trim_start_matches('!');
            long_form(name, to_json(tagged.value, place, short_forms)?, place)?
        }
    })
}

/// The text of a key: an unquoted account id or `true` means its spelling.
fn key_text(key: Yaml, place: &Place) -> Result<String, Refusal> {
    match key {
        Yaml::String(text) => Ok(text),
        Yaml::Number(number) => Ok(number.to_string()),
        Yaml::Bool(value) => Ok(value.to_string()),
        _ => Err(place.refuse("has a key that is not text")),
    }
}

fn long_form(name: &str, argument: Value, place: &Place) -> Result<Value, Refusal> {
    Ok(match (name, argument) {
        ("Ref" | "Condition", argument) => json!({ name: argument }),
        ("GetAtt", Value::String(text)) => {
            let (resource, attribute) = text
                .split_once('.')
                .ok_or_else(|| place.refuse(format!("!GetAtt {text} names no attribute")))?;
            json!({ "Fn::GetAtt": [resource, attribute] })
        }
        (name, argument) if !name.is_empty() && name.chars().all(char::is_alphanumeric) => {
            json!({ format!("Fn::{name}"): argument })
        }
        (name, _) => return Err(place.refuse(format!("the tag !{name} is not known"))),
    })
}

/// The entries of a mapping; null counts as an empty one.
pub(crate) fn object(value: Value, place: &Place) -> Result<Map<String, Value>, Refusal> {
    match value {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => Err(place.refuse("must be a mapping")),
    }
}

impl Template {
    pub fn read(project: &Project<'_>, place: &Place) -> Result<Self, Refusal> {
        let (body, value) = read(project, place, ShortForms::Read)?;
        let mut template = Self { body, ..Self::default() };
        for (section, content) in object(value, place)? {
            template.section(&section, content, place)?;
        }
        if template.resources.is_empty() {
            return Err(place.key("Resources").refuse("at least one resource must be declared"));
        }
        if !template.globals.is_empty() && !template.serverless {
            return Err(place.key("Globals").refuse("needs Transform: AWS::Serverless-2016-10-31"));
        }
        Ok(template)
    }

    fn section(&mut self, section: &str, content: Value, place: &Place) -> Result<(), Refusal> {
        let at = place.key(section);
        match section {
            "AWSTemplateFormatVersion" if content == "2010-09-09" => {}
            "AWSTemplateFormatVersion" => return Err(at.refuse("must be \"2010-09-09\"")),
            "Description" => match content {
                Value::String(text) => self.description = Some(text),
                _ => return Err(at.refuse("must be a literal text")),
            },
            // Read by tools (cfn-lint, the console), never by CloudFormation itself.
            "Metadata" => {}
            "Transform" if content == SERVERLESS || content == json!([SERVERLESS]) => self.serverless = true,
            "Transform" => {
                return Err(at.refuse(format!("{content} is not emulated; only {SERVERLESS} is")));
            }
            "Parameters" => self.parameters = object(content, &at)?,
            "Mappings" => self.mappings = object(content, &at)?,
            "Rules" => self.rules = object(content, &at)?,
            "Conditions" => self.conditions = object(content, &at)?,
            "Globals" => self.globals = object(content, &at)?,
            "Outputs" => self.outputs = object(content, &at)?,
            "Resources" => {
                for (id, value) in object(content, &at)? {
                    let declared = declared(value, &place.key(&id))?;
                    if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric()) {
                        return Err(place.key(&id).refuse("a logical id has only letters and digits"));
                    }
                    self.resources.insert(id, declared);
                }
            }
            _ => return Err(at.refuse("this section is not known or not emulated")),
        }
        Ok(())
    }
}

const SERVERLESS: &str = "AWS::Serverless-2016-10-31";

fn declared(value: Value, place: &Place) -> Result<Declared, Refusal> {
    let mut declared = Declared::default();
    for (attribute, content) in object(value, place)? {
        let at = place.key(&attribute);
        match attribute.as_str() {
            "Type" => declared.kind = text(content, &at)?,
            "Properties" => declared.properties = object(content, &at)?,
            "Condition" => declared.condition = Some(text(content, &at)?),
            "DependsOn" => {
                declared.depends_on = match content {
                    Value::Array(items) => {
                        items.into_iter().map(|item| text(item, &at)).collect::<Result<_, _>>()?
                    }
                    one => vec![text(one, &at)?],
                }
            }
            "Metadata" => declared.metadata = Value::Object(object(content, &at)?),
            // No effect here: nothing is ever deleted. Only AWS::LanguageExtensions evaluates functions in
            // them, so they must be literal.
            // https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/transform-aws-languageextensions.html
            "DeletionPolicy" | "UpdateReplacePolicy" => match content.as_str() {
                Some("Delete" | "Retain" | "RetainExceptOnCreate" | "Snapshot") => {}
                _ => return Err(at.refuse("must be a literal Delete, Retain or Snapshot")),
            },
            _ => return Err(at.refuse("this resource attribute is not known or not emulated")),
        }
    }
    if declared.kind.is_empty() {
        return Err(place.key("Type").refuse("is missing"));
    }
    Ok(declared)
}

fn text(value: Value, place: &Place) -> Result<String, Refusal> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(place.refuse("must be a literal text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Value, Refusal> {
        parse(text, &Place::file("t.yaml"), ShortForms::Read)
    }

    #[test]
    fn short_forms_become_long_forms_at_any_depth() {
        let value = parsed("a: !Join ['-', [!Ref X, !GetAtt Y.Arn.Z, !Sub 'b${C}']]\nc: !If [P, !Select [0, !Split [',', q]], !Ref AWS::NoValue]\nd: !Not [!Condition P]").unwrap();
        assert_eq!(
            value,
            json!({
                "a": { "Fn::Join": ["-", [{ "Ref": "X" }, { "Fn::GetAtt": ["Y", "Arn.Z"] }, { "Fn::Sub": "b${C}" }]] },
                "c": { "Fn::If": ["P", { "Fn::Select": [0, { "Fn::Split": [",", "q"] }] }, { "Ref": "AWS::NoValue" }] },
                "d": { "Fn::Not": [{ "Condition": "P" }] },
            })
        );
    }

    #[test]
    fn account_ids_with_a_leading_zero_and_version_dates_stay_text() {
        let value = parsed("a: 012345678901\nb: 2010-09-09\nc: '2012-10-17'\n123456789012: d\ne: 30\nf: 0.5")
            .unwrap();
        assert_eq!(
            value,
            json!({ "a": "012345678901", "b": "2010-09-09", "c": "2012-10-17", "123456789012": "d", "e": 30, "f": 0.5 })
        );
    }

    #[test]
    fn a_key_that_is_there_twice_is_refused_with_its_line() {
        let refusal = parsed("a: 1\na: 2").unwrap_err();
        assert!(refusal.reason.contains("duplicate"), "{refusal}");
    }

    #[test]
    fn an_included_file_takes_no_short_forms() {
        let refusal =
            parse("x: {y: !Ref Z}", &Place::file("api.yaml"), ShortForms::Refused).unwrap_err().to_string();
        assert!(refusal.starts_with("api.yaml: x.y: !Ref"), "{refusal}");
    }

    #[test]
    fn a_location_is_read_beside_the_file_that_names_it() {
        assert_eq!(beside("web-service/template.yaml", "api.yaml"), "web-service/api.yaml");
        assert_eq!(beside("template.yaml", "./web-service/template.yaml"), "web-service/template.yaml");
        assert_eq!(beside("a/b/template.yaml", "../c.yaml"), "a/c.yaml");
    }
}
