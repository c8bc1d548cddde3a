//! Loads one stack: reads, transforms and evaluates its template, puts its resources in the order of their
//! dependencies, and loads the stacks nested in it.

use std::collections::{BTreeMap, BTreeSet};

use cloud_core::resource::{Refusal, Resource, Source};
use serde_json::{Map, Value};

use crate::template::application::{Output, Stack, each_text};
use crate::template::document::{Declared, Template, beside, object};
use crate::template::evaluate::{Evaluator, Memos, Scope, World};
use crate::template::parameters::{self, Parameter, scalar};
use crate::template::place::Place;
use crate::template::{identity, rules, sam};

pub(crate) struct NewStack {
    pub name: String,
    pub parent: Option<String>,
    pub root: Option<String>,
    pub parameters: BTreeMap<String, String>,
    /// The template files above.
    pub lineage: Vec<String>,
}

/// Loads a stack and the stacks nested in it, at any depth: itself first.
pub(crate) fn load(world: &World<'_>, file: &str, new: NewStack) -> Result<Vec<Stack>, Refusal> {
    let scope = scope(world, file, &new)?;
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
        if resource.kind == "AWS::CloudFormation::Stack" {
            nested.extend(scope.nested(logical_id, &scope.place.key(logical_id))?.iter().cloned());
        }
    }
    let order = in_order(&dependencies, &scope.place)?;
    let outputs = outputs(&scope)?;
    let stack = Stack {
        resources: order.iter().filter_map(|logical_id| resources.remove(logical_id)).collect(),
        name: scope.stack_name,
        id: scope.stack_id,
        parent: new.parent,
        root: new.root,
        file: file.to_owned(),
        description: scope.template.description,
        body: scope.template.body,
        parameters: scope.parameters.iter().map(|(key, parameter)| (key.clone(), shown(parameter))).collect(),
        outputs,
    };
    nested.insert(0, stack);
    Ok(nested)
}

/// Reads and transforms the template; nothing is evaluated yet.
fn scope<'w>(world: &'w World<'w>, file: &str, new: &NewStack) -> Result<Scope<'w>, Refusal> {
    let place = Place::file(file);
    if new.lineage.iter().any(|above| above == file) {
        return Err(place.refuse("the template nests itself"));
    }
    let mut template = Template::read(world.project, &place)?;
    let parameters = parameters::resolve(&template.parameters, &new.parameters, &place)?;
    if template.serverless {
        sam::transform(&mut template, world.project, &place)?;
    }
    let stack_id = identity::stack_id(world.project.settings, &new.name);
    Ok(Scope {
        world,
        template,
        place,
        stack_name: new.name.clone(),
        root_id: new.root.clone().unwrap_or_else(|| stack_id.clone()),
        stack_id,
        parameters,
        lineage: new.lineage.iter().cloned().chain([file.to_owned()]).collect(),
        memos: Memos::default(),
    })
}

/// Loads the stack of an `AWS::CloudFormation::Stack` resource, and the stacks nested in it.
pub(crate) fn load_nested(scope: &Scope<'_>, logical_id: &str) -> Result<Vec<Stack>, Refusal> {
    let declared = &scope.template.resources[logical_id];
    let place = scope.place.key(logical_id).key("Properties");
    // Tags and TimeoutInMinutes have no effect here: nothing is billed, nothing hangs.
    place.check_keys(
        &declared.properties,
        &["TemplateURL", "Parameters", "Tags", "TimeoutInMinutes"],
        "is not emulated",
    )?;
    let location = match declared.properties.get("TemplateURL") {
        Some(Value::String(location)) if !location.contains("://") => location,
        _ => {
            let reason = "must be a literal path of a template in this project";
            return Err(place.key("TemplateURL").refuse(reason));
        }
    };
    let evaluator = Evaluator::new(scope);
    let given = declared.properties.get("Parameters").cloned().unwrap_or_default();
    let at = place.key("Parameters");
    let mut values = BTreeMap::new();
    for (key, value) in object(given, &at)? {
        let at = at.key(&key);
        let Some(value) = evaluator.value(&value, &at)? else { continue };
        // A list is passed to a nested stack as comma-delimited text.
        let text = match &value {
            Value::Array(items) => {
                items.iter().map(scalar).collect::<Option<Vec<_>>>().map(|items| items.join(","))
            }
            value => scalar(value),
        };
        values.insert(key, text.ok_or_else(|| at.refuse("must be a text or a list of texts"))?);
    }
    let identity = scope.identity(logical_id, &scope.place.key(logical_id))?;
    let new = NewStack {
        name: identity.name.clone(),
        parent: Some(scope.stack_id.clone()),
        root: Some(scope.root_id.clone()),
        parameters: values,
        lineage: scope.lineage.clone(),
    };
    load(scope.world, &beside(&scope.place.file, location), new)
}

/// Evaluates one resource; `None` where its condition is false.
fn resource(
    scope: &Scope<'_>,
    logical_id: &str,
    declared: &Declared,
) -> Result<Option<(Resource, BTreeSet<String>)>, Refusal> {
    let place = scope.place.key(logical_id);
    let Some(known) = (scope.world.project.identity)(&declared.kind) else {
        return Err(place.key("Type").refuse(format!("{} is not known or not emulated", declared.kind)));
    };
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
    if let Some(name) = known.named_by {
        // Services find the name there, given or made up.
        properties.entry(name).or_insert_with(|| Value::from(identity.name.as_str()));
    }
    convert(&mut properties);
    substitute_definition(&mut properties);
    let metadata = evaluator.value(&declared.metadata, &place.key("Metadata"))?.unwrap_or_default();
    let mut uses = evaluator.used();
    // A resource that is not created is no dependency.
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

/// Copies `BuildProperties.Binary`, which `sam build` reads, to `Binary`.
fn with_binary(mut metadata: Value) -> Value {
    if let Some(binary) = metadata.pointer("/BuildProperties/Binary").cloned() {
        metadata["Binary"] = binary;
    }
    metadata
}

/// Makes numbers and booleans texts where a property is a text, as CloudFormation does.
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
    let substitutions = properties.get("DefinitionSubstitutions").and_then(Value::as_object);
    let substitutions: Vec<(String, String)> = substitutions
        .into_iter()
        .flatten()
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
        return Err([&above[start..], &[logical_id]].concat().join(" -> "));
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
        at.check_keys(
            &declared,
            &["Value", "Description", "Export", "Condition"],
            "is not known in an output",
        )?;
        let value = declared.get("Value").ok_or_else(|| at.key("Value").refuse("is missing"))?;
        if let Some(condition) = declared.get("Condition") {
            let condition = condition.as_str().unwrap_or_default();
            if !scope.condition(condition, &at.key("Condition"))? {
                scope.check_names(value, &at.key("Value"))?;
                continue;
            }
        }
        let evaluator = Evaluator::new(scope);
        outputs.push(Output {
            key: key.clone(),
            value: evaluator.text(value, &at.key("Value"))?,
            description: declared.get("Description").and_then(Value::as_str).map(str::to_owned),
            export: match declared.get("Export") {
                Some(export) => Some(exported(scope, &evaluator, export, &at.key("Export").key("Name"))?),
                None => None,
            },
        });
    }
    Ok(outputs)
}

/// The name of an export, which no other stack has.
fn exported(
    scope: &Scope<'_>,
    evaluator: &Evaluator<'_>,
    export: &Value,
    at: &Place,
) -> Result<String, Refusal> {
    let name = export.get("Name").ok_or_else(|| at.refuse("is missing"))?;
    let name = evaluator.text(name, at)?;
    let mut exports = scope.world.exports.borrow_mut();
    match exports.insert(name.clone(), scope.stack_name.clone()) {
        Some(other) => Err(at.refuse(format!("{name} is already exported by stack {other}"))),
        None => Ok(name),
    }
}

/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html>, NoEcho
fn shown(parameter: &Parameter) -> String {
    if parameter.no_echo { "****".to_owned() } else { parameter.text.clone() }
}
