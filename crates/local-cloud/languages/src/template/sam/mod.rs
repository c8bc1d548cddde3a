//! The SAM transform of the types in use: each `AWS::Serverless` resource becomes the plain
//! resources, under the logical ids, that SAM's own translator generates.
//! <https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-specification-generated-resources.html>
//! A property that is not read here is refused by name.

mod api;
mod function;
mod role;
mod rule;
mod state_machine;

use cloud_core::resource::Refusal;
use serde_json::{Map, Value, json};

use crate::template::Project;
use crate::template::document::{Declared, Template, object};
use crate::template::place::Place;

/// Replaces every `AWS::Serverless` resource of the template.
pub(crate) fn transform(
    template: &mut Template,
    project: &Project<'_>,
    place: &Place,
) -> Result<(), Refusal> {
    let globals = Globals::read(std::mem::take(&mut template.globals), &place.key("Globals"))?;
    for (id, declared) in std::mem::take(&mut template.resources) {
        let at = place.key(&id);
        let generated = match declared.kind.as_str() {
            "AWS::Serverless::Function" => function::transform(&id, declared, &globals.function, &at)?,
            "AWS::Serverless::StateMachine" => state_machine::transform(&id, declared, project, &at)?,
            "AWS::Serverless::Api" => {
                api::transform(&id, declared, &globals.api, &at, &mut template.aliases)?
            }
            "AWS::Serverless::Application" => application(&id, declared, &at)?,
            kind if kind.starts_with("AWS::Serverless::") => {
                return Err(at.key("Type").refuse(format!("{kind} is not emulated")));
            }
            _ => vec![(id, declared)],
        };
        for (id, declared) in generated {
            if template.resources.insert(id.clone(), declared).is_some() {
                return Err(at.refuse(format!("SAM generates {id}, but there is another resource {id}")));
            }
        }
    }
    Ok(())
}

/// What a SAM resource becomes: resources by logical id.
type Generated = Vec<(String, Declared)>;

/// Properties that all resources of a type share.
/// <https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-specification-template-anatomy-globals.html>
struct Globals {
    function: Map<String, Value>,
    api: Map<String, Value>,
}

impl Globals {
    fn read(sections: Map<String, Value>, place: &Place) -> Result<Self, Refusal> {
        let mut globals = Self { function: Map::new(), api: Map::new() };
        for (section, content) in sections {
            let at = place.key(&section);
            let (target, allowed) = match section.as_str() {
                "Function" => (&mut globals.function, function::GLOBAL),
                "Api" => (&mut globals.api, api::GLOBAL),
                _ => return Err(at.refuse("is not known or not emulated")),
            };
            *target = object(content, &at)?;
            if let Some(key) = target.keys().find(|key| !allowed.contains(&key.as_str())) {
                return Err(at.key(key).refuse("is not known or not emulated in Globals"));
            }
        }
        Ok(globals)
    }
}

/// A resource's own properties over the global ones: mappings are merged, lists are
/// appended, anything else is replaced.
fn merged(global: &Map<String, Value>, own: Map<String, Value>) -> Map<String, Value> {
    let mut result = global.clone();
    for (key, value) in own {
        let value = match (result.remove(&key), value) {
            (Some(Value::Object(global)), Value::Object(own))
                if !is_function(&global) && !is_function(&own) =>
            {
                Value::Object(merged(&global, own))
            }
            (Some(Value::Array(mut global)), Value::Array(own)) => {
                global.extend(own);
                Value::Array(global)
            }
            (_, own) => own,
        };
        result.insert(key, value);
    }
    result
}

fn is_function(map: &Map<String, Value>) -> bool {
    map.len() == 1 && map.keys().all(|key| key == "Ref" || key.starts_with("Fn::"))
}

/// Properties that are taken one by one; what is left in the end was not understood.
struct Properties {
    map: Map<String, Value>,
    at: Place,
    of: String,
}

impl Properties {
    fn new(map: Map<String, Value>, at: Place, of: &str) -> Self {
        Self { map, at, of: of.to_owned() }
    }

    /// Reads a mapping below a property.
    fn below(value: Value, at: Place, of: &str) -> Result<Self, Refusal> {
        Ok(Self::new(object(value, &at)?, at, of))
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key)
    }

    fn take_object(&mut self, key: &str) -> Result<Option<Map<String, Value>>, Refusal> {
        let at = self.at.key(key);
        match self.map.remove(key).map(|value| object(value, &at)).transpose()? {
            // SAM works on the template before any function is evaluated.
            Some(map) if is_function(&map) => {
                Err(at.refuse("must be a literal mapping: SAM evaluates no function here"))
            }
            map => Ok(map),
        }
    }

    fn require(&mut self, key: &str) -> Result<Value, Refusal> {
        self.take(key).ok_or_else(|| self.at.key(key).refuse(format!("is missing in {}", self.of)))
    }

    /// Moves properties that keep their names.
    fn pass(&mut self, keys: &[&str], out: &mut Map<String, Value>) {
        for key in keys {
            self.rename(key, key, out);
        }
    }

    /// Moves a property to another name.
    fn rename(&mut self, key: &str, to: &str, out: &mut Map<String, Value>) {
        if let Some(value) = self.take(key) {
            out.insert(to.to_owned(), value);
        }
    }

    /// Refuses what was not taken.
    fn finish(self) -> Result<(), Refusal> {
        match self.map.keys().next() {
            Some(key) => {
                Err(self.at.key(key).refuse(format!("is not a property of {}, or is not emulated", self.of)))
            }
            None => Ok(()),
        }
    }
}

fn get_att_arn(id: &str) -> Value {
    json!({ "Fn::GetAtt": [id, "Arn"] })
}

/// The tag that SAM adds, and the resource's own.
fn tags(creator: &str, own: Option<Map<String, Value>>) -> Value {
    let mut tags = Map::from_iter([(format!("{creator}:createdBy"), json!("SAM"))]);
    tags.extend(own.unwrap_or_default());
    tag_list(tags)
}

/// With `PropagateTags`, SAM puts the resource's own tags on whatever it generates that can carry
/// any, in the place of those that are there: its own `createdBy` goes.
/// <https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-resource-function.html>,
/// `PropagateTags`; which types, from the model classes of SAM's public translator.
fn propagate(propagate: Option<Value>, own: Option<Map<String, Value>>, resources: &mut Generated) {
    let Some(own) = own.filter(|own| propagate == Some(Value::Bool(true)) && !own.is_empty()) else { return };
    for (_, declared) in resources {
        if TAGGED.contains(&declared.kind.as_str()) {
            declared.properties.insert("Tags".to_owned(), tag_list(own.clone()));
        }
    }
}

/// The types to which SAM propagates tags: not to rules and event source mappings, which it cannot tag.
const TAGGED: [&str; 5] = [
    "AWS::ApiGateway::RestApi",
    "AWS::ApiGateway::Stage",
    "AWS::IAM::Role",
    "AWS::Lambda::Function",
    "AWS::StepFunctions::StateMachine",
];

fn tag_list(own: Map<String, Value>) -> Value {
    own.into_iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}

/// `AWS::Serverless::Application`: a nested stack.
fn application(id: &str, mut declared: Declared, at: &Place) -> Result<Generated, Refusal> {
    let mut given =
        Properties::new(std::mem::take(&mut declared.properties), at.key("Properties"), &declared.kind);
    let mut out = Map::new();
    match given.require("Location")? {
        Value::String(location) => out.insert("TemplateURL".to_owned(), Value::String(location)),
        _ => {
            return Err(given
                .at
                .key("Location")
                .refuse("must be a literal path of a template in this project"));
        }
    };
    out.insert("Tags".to_owned(), tags("lambda", given.take_object("Tags")?));
    given.pass(&["Parameters", "TimeoutInMinutes"], &mut out);
    given.finish()?;
    let stack = Declared { kind: "AWS::CloudFormation::Stack".to_owned(), properties: out, ..declared };
    Ok(vec![(id.to_owned(), stack)])
}
