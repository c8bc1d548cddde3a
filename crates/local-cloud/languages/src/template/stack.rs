//! One stack: its template read, transformed and evaluated, its resources put in the order
//! of their dependencies, and the stacks nested in it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use cloud_core::resource::{Refusal, Resource, Source};
use serde_json::{Map, Value};

use crate::template::document::{Declared, Template, beside, object};
use crate::template::evaluate::{Evaluator, Scope};
use crate::template::parameters::{self, Parameter, scalar};
use crate::template::place::Place;
use crate::template::{Output, Project, Stack, rules, sam};

/// What is the same for all stacks of an application.
pub(crate) struct World<'a> {
    pub project: &'a Project<'a>,
    /// Export names that are taken, each with its stack.
    pub exports: RefCell<BTreeMap<String, String>>,
}

/// A stack and the ones nested in it, at any depth.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub stack: Stack,
    pub nested: Vec<Stack>,
}

/// What tells one stack from another.
pub(crate) struct Birth {
    pub name: String,
    pub parent: Option<String>,
    pub root: Option<String>,
    pub parameters: BTreeMap<String, String>,
    /// The template files above.
    pub lineage: Vec<String>,
}

/// Loads a stack and all that it nests.
pub(crate) fn load(world: &World<'_>, file: &str, birth: Birth) -> Result<Loaded, Refusal> {
    let place = Place::file(file);
    if birth.lineage.iter().any(|above| above == file) {
        return Err(place.refuse("the template nests itself"));
    }
    let mut template = Template::read(world.project, &place)?;
    let parameters = parameters::resolve(&template.parameters, &birth.parameters, &place)?;
    if template.serverless {
        sam::transform(&mut template, world.project, &place)?;
    }
    let lineage = birth.lineage.iter().cloned().chain([file.to_owned()]).collect();
    let scope = Scope::new(world, template, place, birth.name, birth.root.clone(), parameters, lineage);
    rules::check(&scope)?;
    for name in scope.template.conditions.keys() {
        scope.condition(name, &scope.place.key("Conditions").key(name))?;
    }

    let mut resources = BTreeMap::new();
    let mut dependencies = BTreeMap::new();
    for (logical_id, declared) in &scope.template.resources {
        if let Some((resource, uses)) = resource(&scope, logical_id, declared)? {
            resources.insert(logical_id.clone(), resource);
            dependencies.insert(logical_id.clone(), uses);
        }
    }
    let mut nested = Vec::new();
    for (logical_id, resource) in &resources {
        if resource.kind == NESTED {
            let loaded = scope.nested(logical_id, &scope.place.key(logical_id))?;
            nested.push(loaded.stack.clone());
            nested.extend(loaded.nested.iter().cloned());
        }
    }
    let order = in_order(&dependencies, &scope.place)?;
    let resources = order.iter().filter_map(|logical_id| resources.remove(logical_id)).collect();
    let outputs = outputs(&scope)?;
    let stack = Stack {
        name: scope.stack_name.clone(),
        id: scope.stack_id.clone(),
        parent: birth.parent,
        root: birth.root,
        file: file.to_owned(),
        description: scope.template.description.clone(),
        body: scope.template.body.clone(),
        parameters: scope.parameters.iter().map(|(key, parameter)| (key.clone(), shown(parameter))).collect(),
        outputs,
        resources,
    };
    Ok(Loaded { stack, nested })
}

/// The type of a nested stack.
const NESTED: &str = "AWS::CloudFormation::Stack";

/// Loads the stack of an `AWS::CloudFormation::Stack` resource.
pub(crate) fn load_nested(scope: &Scope<'_>, logical_id: &str) -> Result<Loaded, Refusal> {
    let declared = &scope.template.resources[logical_id];
    let place = scope.place.key(logical_id).key("Properties");
    for key in declared.properties.keys() {
        // Tags and TimeoutInMinutes have no effect here: nothing is billed, nothing hangs.
        if !["TemplateURL", "Parameters", "Tags", "TimeoutInMinutes"].contains(&key.as_str()) {
            return Err(place.key(key).refuse("is not emulated"));
        }
    }
    let evaluator = Evaluator::new(scope);
    let location = match declared.properties.get("TemplateURL") {
        Some(Value::String(location)) if !location.contains("://") => location,
        _ => {
            return Err(place
                .key("TemplateURL")
                .refuse("must be a literal path of a template in this project"));
        }
    };
    let given = declared.properties.get("Parameters").cloned().unwrap_or_default();
    let at = place.key("Parameters");
    let mut values = BTreeMap::new();
    for (key, value) in object(given, &at)? {
        // A list is passed to a nested stack as comma-delimited text.
        let text = match evaluator.value(&value, &at.key(&key))? {
            Some(Value::Array(items)) => {
                items.iter().map(scalar).collect::<Option<Vec<_>>>().map(|items| items.join(","))
            }
            Some(value) => scalar(&value),
            None => continue,
        };
        values.insert(
            key.clone(),
            text.ok_or_else(|| at.key(&key).refuse("must be a text or a list of texts"))?,
        );
    }
    let identity = scope.identity(logical_id, &scope.place.key(logical_id))?;
    let birth = Birth {
        name: identity.name.clone(),
        parent: Some(scope.stack_id.clone()),
        root: Some(scope.root_id.clone()),
        parameters: values,
        lineage: scope.lineage.clone(),
    };
    load(scope.world, &beside(&scope.place.file, location), birth)
}

/// Evaluates one resource; `None` where its condition is false.
fn resource(
    scope: &Scope<'_>,
    logical_id: &str,
    declared: &Declared,
) -> Result<Option<(Resource, BTreeSet<String>)>, Refusal> {
    let place = scope.place.key(logical_id);
    if (scope.world.project.identity)(&declared.kind).is_none() {
        return Err(place.key("Type").refuse(format!("{} is not known or not emulated", declared.kind)));
    }
    for (index, id) in declared.depends_on.iter().enumerate() {
        if !scope.template.resources.contains_key(id) {
            return Err(place.key("DependsOn").item(index).refuse(format!("there is no resource {id}")));
        }
    }
    if !scope.exists(logical_id)? {
        for (key, value) in &declared.properties {
            scope.check_names(value, &place.key("Properties").key(key))?;
        }
        return Ok(None);
    }
    let identity = scope.identity(logical_id, &place)?;
    let evaluator = Evaluator::new(scope);
    let mut properties = evaluator.mapping(&declared.properties, &place.key("Properties"))?;
    let mut included = evaluator.included();
    for (key, (file, content)) in &declared.verbatim {
        included.push((place.key("Properties").key(key).path, file.to_string()));
        properties.insert(key.clone(), content.clone());
    }
    if let Some(name) = (scope.world.project.identity)(&declared.kind).and_then(|identity| identity.named_by)
    {
        // Modules find the name there, given or made up.
        properties.entry(name).or_insert_with(|| Value::from(identity.name.as_str()));
    }
    convert(&mut properties);
    substitute_definition(&mut properties);
    let metadata = evaluator.value(&declared.metadata, &place.key("Metadata"))?.unwrap_or_default();
    let mut uses = evaluator.used();
    // What is not created need not be waited for.
    for id in &declared.depends_on {
        if scope.exists(id)? {
            uses.insert(id.clone());
        }
    }
    let resource = Resource {
        stack: scope.stack_name.clone(),
        logical_id: logical_id.to_owned(),
        kind: declared.kind.clone(),
        physical_id: identity.physical_id.clone(),
        arn: identity.arn.clone(),
        properties: Value::Object(properties),
        metadata: with_binary(metadata),
        file: Source::from(&*scope.place.file).including(included),
    };
    Ok(Some((resource, uses)))
}

/// `BuildProperties.Binary`, which `sam build` reads, is lifted to `Binary`.
fn with_binary(mut metadata: Value) -> Value {
    if let Some(binary) = metadata.pointer("/BuildProperties/Binary").cloned() {
        metadata["Binary"] = binary;
    }
    metadata
}

/// CloudFormation spells numbers and booleans out where a property is a text.
fn convert(properties: &mut Map<String, Value>) {
    let variables =
        properties.get_mut("Environment").and_then(|environment| environment.get_mut("Variables"));
    spell_out(variables.and_then(Value::as_object_mut));
    spell_out(properties.get_mut("DefinitionSubstitutions").and_then(Value::as_object_mut));
    for tag in properties.get_mut("Tags").and_then(Value::as_array_mut).into_iter().flatten() {
        spell_out(tag.as_object_mut());
    }
}

fn spell_out(map: Option<&mut Map<String, Value>>) {
    for value in map.into_iter().flat_map(|map| map.values_mut()) {
        if let Some(text) = scalar(value) {
            *value = Value::String(text);
        }
    }
}

/// Puts the `DefinitionSubstitutions` of a state machine into its definition's texts.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-stepfunctions-statemachine.html>
fn substitute_definition(properties: &mut Map<String, Value>) {
    let Some(Value::Object(substitutions)) = properties.get("DefinitionSubstitutions").cloned() else {
        return;
    };
    let substitutions: Vec<(String, String)> = substitutions
        .iter()
        .filter_map(|(key, value)| Some((format!("${{{key}}}"), scalar(value)?)))
        .collect();
    if let Some(definition) = properties.get_mut("Definition") {
        each_text(definition, &|text| {
            for (placeholder, value) in &substitutions {
                if text.contains(placeholder) {
                    *text = text.replace(placeholder, value);
                }
            }
        });
    }
}

/// Applies a change to every text in a value.
pub(crate) fn each_text(value: &mut Value, change: &impl Fn(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(items) => items.iter_mut().for_each(|item| each_text(item, change)),
        Value::Object(map) => map.values_mut().for_each(|item| each_text(item, change)),
        _ => {}
    }
}

/// The logical ids, each after all that it depends on.
fn in_order(
    dependencies: &BTreeMap<String, BTreeSet<String>>,
    place: &Place,
) -> Result<Vec<String>, Refusal> {
    let mut order = Vec::new();
    for logical_id in dependencies.keys() {
        visit(logical_id, dependencies, &mut Vec::new(), &mut order)
            .map_err(|circle| place.key(logical_id).refuse(format!("circular dependency: {circle}")))?;
    }
    Ok(order)
}

fn visit<'d>(
    logical_id: &'d str,
    dependencies: &'d BTreeMap<String, BTreeSet<String>>,
    above: &mut Vec<&'d str>,
    order: &mut Vec<String>,
) -> Result<(), String> {
    if order.iter().any(|done| done == logical_id) {
        return Ok(());
    }
    if let Some(start) = above.iter().position(|id| *id == logical_id) {
        return Err(above[start..].iter().chain([&logical_id]).copied().collect::<Vec<_>>().join(" -> "));
    }
    above.push(logical_id);
    for dependency in dependencies.get(logical_id).into_iter().flatten() {
        visit(dependency, dependencies, above, order)?;
    }
    above.pop();
    order.push(logical_id.to_owned());
    Ok(())
}

fn outputs(scope: &Scope<'_>) -> Result<Vec<Output>, Refusal> {
    let mut outputs = Vec::new();
    for (key, declared) in &scope.template.outputs {
        let at = scope.place.key("Outputs").key(key);
        let declared = object(declared.clone(), &at)?;
        if let Some(unknown) = declared
            .keys()
            .find(|key| !["Value", "Description", "Export", "Condition"].contains(&key.as_str()))
        {
            return Err(at.key(unknown).refuse("is not known in an output"));
        }
        let value = declared.get("Value").ok_or_else(|| at.key("Value").refuse("is missing"))?;
        if let Some(condition) = declared.get("Condition") {
            let condition = condition.as_str().unwrap_or_default();
            if !scope.condition(condition, &at.key("Condition"))? {
                scope.check_names(value, &at.key("Value"))?;
                continue;
            }
        }
        let evaluator = Evaluator::new(scope);
        let value = evaluator.text(value, &at.key("Value"))?;
        let export = match declared.get("Export") {
            Some(export) => {
                let at = at.key("Export").key("Name");
                let name = export.get("Name").ok_or_else(|| at.refuse("is missing"))?;
                let name = evaluator.text(name, &at)?;
                let mut exports = scope.world.exports.borrow_mut();
                if let Some(other) = exports.insert(name.clone(), scope.stack_name.clone()) {
                    return Err(at.refuse(format!("{name} is already exported by stack {other}")));
                }
                Some(name)
            }
            None => None,
        };
        let description = declared.get("Description").and_then(Value::as_str).map(str::to_owned);
        outputs.push(Output { key: key.clone(), value, description, export });
    }
    Ok(outputs)
}

/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html>, NoEcho
fn shown(parameter: &Parameter) -> String {
    if parameter.no_echo { "****".to_owned() } else { parameter.text.clone() }
}
