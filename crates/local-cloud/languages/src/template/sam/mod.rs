//! The SAM transform of the types in use: each `AWS::Serverless` resource becomes the plain resources, under
//! the logical ids, that SAM's own translator generates.
//! <https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-specification-generated-resources.html>
//! A property that is not read here is refused by name.

mod api;
mod function;
mod generated;
mod properties;
mod role;
mod rule;
mod state_machine;

use cloud_core::resource::Refusal;
use serde_json::{Map, Value};

use self::generated::{Generated, tags};
use self::properties::Properties;
use crate::template::document::{Declared, Project, Template, object};
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

/// Properties that all resources of a type share.
/// <https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-specification-template-anatomy-globals.html>
#[derive(Default)]
struct Globals {
    function: Map<String, Value>,
    api: Map<String, Value>,
}

impl Globals {
    fn read(sections: Map<String, Value>, place: &Place) -> Result<Self, Refusal> {
        let mut globals = Self::default();
        for (section, content) in sections {
            let at = place.key(&section);
            let (target, allowed) = match section.as_str() {
                "Function" => (&mut globals.function, function::GLOBAL),
                "Api" => (&mut globals.api, api::GLOBAL),
                _ => return Err(at.refuse("is not known or not emulated")),
            };
            *target = object(content, &at)?;
            at.check_keys(target, allowed, "is not known or not emulated in Globals")?;
        }
        Ok(globals)
    }
}

/// `AWS::Serverless::Application`: a nested stack.
fn application(id: &str, mut declared: Declared, at: &Place) -> Result<Generated, Refusal> {
    let own = std::mem::take(&mut declared.properties);
    let mut given = Properties::new(own, at.key("Properties"), &declared.kind);
    let location = given.require("Location")?;
    if !location.is_string() {
        let reason = "must be a literal path of a template in this project";
        return Err(given.at.key("Location").refuse(reason));
    }
    given.set("TemplateURL", location);
    let tags = tags("lambda", given.take_object("Tags")?);
    given.set("Tags", tags);
    given.pass(&["Parameters", "TimeoutInMinutes"]);
    let kind = "AWS::CloudFormation::Stack".to_owned();
    let stack = Declared { kind, properties: given.finish()?, ..declared };
    Ok(vec![(id.to_owned(), stack)])
}
