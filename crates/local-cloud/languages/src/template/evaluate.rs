//! Evaluates intrinsic functions, conditions and references of one stack, lazily: a value evaluates what it
//! depends on, and a circle is refused by name.
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference.html>

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use cloud_core::resource::Refusal;
use serde_json::{Map, Value};

use crate::template::application::Stack;
use crate::template::document::{Project, ShortForms, Template, beside, read};
use crate::template::identity::{self, Names, Owner};
use crate::template::parameters::{Parameter, scalar};
use crate::template::place::Place;

/// What the stacks of an application share.
pub(crate) struct World<'a> {
    pub project: &'a Project<'a>,
    /// Export names that are taken, each with its stack.
    pub exports: RefCell<BTreeMap<String, String>>,
    /// Loads the stack of an `AWS::CloudFormation::Stack` resource, itself first. Nested stacks are loaded
    /// when an output of theirs is evaluated.
    pub load_nested: fn(&Scope<'_>, &str) -> Result<Vec<Stack>, Refusal>,
}

/// Everything that the functions of one stack's template can name.
pub(crate) struct Scope<'w> {
    pub world: &'w World<'w>,
    /// After the SAM transform.
    pub template: Template,
    pub place: Place,
    pub stack_name: String,
    pub stack_id: String,
    /// The id of the outermost stack: this one's own, unless it is nested.
    pub root_id: String,
    pub parameters: BTreeMap<String, Parameter>,
    /// The template files above this one, and this one.
    pub lineage: Vec<String>,
    pub memos: Memos,
}

/// What is evaluated already.
#[derive(Default)]
pub(crate) struct Memos {
    conditions: Memo<bool>,
    identities: Memo<Rc<Names>>,
    nested: Memo<Rc<Vec<Stack>>>,
}

/// Values by name; `None` while one is being evaluated.
type Memo<T> = RefCell<BTreeMap<String, Option<T>>>;

fn lazily<T: Clone>(
    memo: &Memo<T>,
    key: &str,
    at: &Place,
    evaluate: impl FnOnce() -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    match memo.borrow().get(key) {
        Some(Some(value)) => return Ok(value.clone()),
        Some(None) => return Err(at.refuse(format!("circular dependency: {key} depends on itself"))),
        None => {}
    }
    memo.borrow_mut().insert(key.to_owned(), None);
    let value = evaluate()?;
    memo.borrow_mut().insert(key.to_owned(), Some(value.clone()));
    Ok(value)
}

impl Scope<'_> {
    /// Whether a condition of the template holds.
    pub fn condition(&self, name: &str, at: &Place) -> Result<bool, Refusal> {
        let expression = self
            .template
            .conditions
            .get(name)
            .ok_or_else(|| at.refuse(format!("there is no condition {name}")))?;
        let place = self.place.key("Conditions").key(name);
        lazily(&self.memos.conditions, name, at, || {
            Evaluator::without_resources(self).truth(expression, &place)
        })
    }

    /// Whether a resource is created: it is there, and its condition holds.
    pub fn exists(&self, logical_id: &str) -> Result<bool, Refusal> {
        let Some(declared) = self.template.resources.get(logical_id) else { return Ok(false) };
        match &declared.condition {
            Some(condition) => self.condition(condition, &self.place.key(logical_id).key("Condition")),
            None => Ok(true),
        }
    }

    /// The physical id and attributes of a resource.
    pub fn identity(&self, logical_id: &str, at: &Place) -> Result<Rc<Names>, Refusal> {
        let Some(declared) = self.template.resources.get(logical_id) else {
            return Err(at.refuse(format!("there is no parameter or resource {logical_id}")));
        };
        if !self.exists(logical_id)? {
            return Err(at.refuse(format!("{logical_id} is not created: its condition is false")));
        }
        lazily(&self.memos.identities, logical_id, at, || {
            let place = self.place.key(logical_id);
            let identity = (self.world.project.identity)(&declared.kind)
                .ok_or_else(|| place.key("Type").refuse(format!("{} is not emulated", declared.kind)))?;
            let place = place.key("Properties");
            let evaluator = Evaluator::new(self);
            let property = |key: &str| -> Result<Option<String>, Refusal> {
                let Some(value) = declared.properties.get(key) else { return Ok(None) };
                Ok(evaluator.value(value, &place.key(key))?.as_ref().and_then(scalar))
            };
            let named = identity.named_by.map(property).transpose()?.flatten();
            let mut needed = BTreeMap::new();
            for key in identity::needs(identity) {
                needed.insert(key, property(key)?.unwrap_or_default());
            }
            let owner =
                Owner { settings: self.world.project.settings, stack_name: &self.stack_name, logical_id };
            Ok(Rc::new(identity::identify(identity, owner, named, &needed)))
        })
    }

    /// The stack of an `AWS::CloudFormation::Stack` resource, and those nested in it.
    pub fn nested(&self, logical_id: &str, at: &Place) -> Result<Rc<Vec<Stack>>, Refusal> {
        let load = || (self.world.load_nested)(self, logical_id).map(Rc::new);
        lazily(&self.memos.nested, logical_id, at, load)
    }

    fn alias<'n>(&'n self, name: &'n str) -> &'n str {
        self.template.aliases.get(name).map_or(name, String::as_str)
    }

    /// The value of a pseudo parameter such as `AWS::Region`.
    fn pseudo_parameter(&self, name: &str) -> Option<&str> {
        let settings = self.world.project.settings;
        Some(match name {
            "AWS::AccountId" => &settings.account,
            "AWS::Partition" => "aws",
            "AWS::Region" => &settings.region,
            "AWS::StackId" => &self.stack_id,
            "AWS::StackName" => &self.stack_name,
            "AWS::URLSuffix" => "amazonaws.com",
            _ => return None,
        })
    }

    /// Refuses unknown names in a value that is not evaluated because a condition is false: AWS validates it
    /// too.
    pub fn check_names(&self, value: &Value, at: &Place) -> Result<(), Refusal> {
        match value {
            Value::Array(items) => {
                items.iter().enumerate().try_for_each(|(index, item)| self.check_names(item, &at.item(index)))
            }
            Value::Object(map) => map.iter().try_for_each(|(key, item)| {
                let at = at.key(key);
                match (key.as_str(), item) {
                    ("Ref", Value::String(name)) => self.check_name(name, &at)?,
                    ("Fn::GetAtt", Value::Array(parts)) => {
                        let name = parts.first().and_then(Value::as_str);
                        name.map_or(Ok(()), |name| self.check_name(name, &at))?;
                    }
                    ("Fn::Sub", Value::String(text)) => {
                        for name in pieces(text, &at)?.into_iter().filter_map(Piece::name) {
                            self.check_name(name, &at.key(&format!("${{{name}}}")))?;
                        }
                    }
                    _ => {}
                }
                self.check_names(item, &at)
            }),
            _ => Ok(()),
        }
    }

    fn check_name(&self, name: &str, at: &Place) -> Result<(), Refusal> {
        let resource = name.split('.').next().unwrap_or_default();
        let known = name == "AWS::NoValue"
            || self.pseudo_parameter(name).is_some()
            || self.parameters.contains_key(name)
            || self.template.resources.contains_key(self.alias(name))
            || self.template.resources.contains_key(resource);
        if known { Ok(()) } else { Err(at.refuse(format!("there is no parameter or resource {resource}"))) }
    }
}

/// Evaluates values, and collects the resources that they refer to and the files that they include.
pub(crate) struct Evaluator<'s> {
    scope: &'s Scope<'s>,
    /// Whether resources may be named: not in conditions and rules.
    resources: bool,
    used: RefCell<BTreeSet<String>>,
    included: RefCell<Vec<(String, String)>>,
}

impl<'s> Evaluator<'s> {
    /// For resources and outputs.
    pub fn new(scope: &'s Scope<'s>) -> Self {
        Self { scope, resources: true, used: RefCell::default(), included: RefCell::default() }
    }

    /// For conditions and rules, which are evaluated before there are resources.
    pub fn without_resources(scope: &'s Scope<'s>) -> Self {
        Self { resources: false, ..Self::new(scope) }
    }

    /// The paths whose content comes from other files, and those files.
    pub fn included(&self) -> Vec<(String, String)> {
        self.included.borrow().clone()
    }

    /// The logical ids that the values refer to.
    pub fn used(self) -> BTreeSet<String> {
        self.used.into_inner()
    }

    /// Evaluates a value; `None` is `AWS::NoValue`.
    pub fn value(&self, value: &Value, at: &Place) -> Result<Option<Value>, Refusal> {
        match value {
            Value::Object(map) => {
                let function = map.keys().find(|key| *key == "Ref" || key.starts_with("Fn::"));
                match (function, map.len()) {
                    (Some(function), 1) => self.function(function, &map[function], at),
                    (Some(function), _) if function.starts_with("Fn::") => {
                        Err(at.refuse(format!("{function} must be the only key of its mapping")))
                    }
                    _ => self.mapping(map, at).map(|map| Some(Value::Object(map))),
                }
            }
            Value::Array(items) => {
                let mut evaluated = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    evaluated.extend(self.value(item, &at.item(index))?);
                }
                Ok(Some(Value::Array(evaluated)))
            }
            Value::String(text) if text.contains("{{resolve:") => {
                Err(at.refuse("dynamic references ({{resolve:...}}) are not emulated"))
            }
            scalar => Ok(Some(scalar.clone())),
        }
    }

    /// Evaluates every value of a mapping; `AWS::NoValue` removes its key.
    pub fn mapping(&self, map: &Map<String, Value>, at: &Place) -> Result<Map<String, Value>, Refusal> {
        let mut evaluated = Map::new();
        for (key, item) in map {
            if let Some(item) = self.value(item, &at.key(key))? {
                evaluated.insert(key.clone(), item);
            }
        }
        Ok(evaluated)
    }

    /// Evaluates to a text; numbers and booleans become texts, as in CloudFormation.
    pub fn text(&self, value: &Value, at: &Place) -> Result<String, Refusal> {
        self.value(value, at)?
            .as_ref()
            .and_then(scalar)
            .ok_or_else(|| at.refuse("must be a text, a number or a boolean"))
    }

    fn list(&self, value: &Value, at: &Place) -> Result<Vec<Value>, Refusal> {
        match self.value(value, at)? {
            Some(Value::Array(items)) => Ok(items),
            _ => Err(at.refuse("must be a list")),
        }
    }

    fn function(&self, function: &str, argument: &Value, place: &Place) -> Result<Option<Value>, Refusal> {
        let at = &place.key(function);
        match function {
            "Ref" => match argument {
                Value::String(name) => self.reference(name, at),
                _ => Err(at.refuse("must be a literal name")),
            },
            "Fn::GetAtt" => self.get_att(argument, at).map(some_text),
            "Fn::Sub" => self.sub(argument, at).map(some_text),
            "Fn::Join" => self.join(argument, at).map(some_text),
            "Fn::Split" => {
                let [delimiter, text] = arguments(argument, at)?;
                let (delimiter, text) = (literal(delimiter, at)?, self.text(text, at)?);
                if delimiter.is_empty() {
                    return Err(at.refuse("needs a delimiter"));
                }
                Ok(Some(text.split(&delimiter).collect()))
            }
            "Fn::Select" => {
                let [index, items] = arguments(argument, at)?;
                let (index, items) = (self.text(index, at)?, self.list(items, at)?);
                let item = index.parse().ok().and_then(|index: usize| items.get(index).cloned());
                let refusal = || format!("there is no item {index} in a list of {}", items.len());
                item.map(Some).ok_or_else(|| at.refuse(refusal()))
            }
            "Fn::If" => {
                let [condition, then, otherwise] = arguments(argument, at)?;
                let (taken, left) = match self.scope.condition(&literal(condition, at)?, at)? {
                    true => ((1, then), (2, otherwise)),
                    false => ((2, otherwise), (1, then)),
                };
                self.scope.check_names(left.1, &at.item(left.0))?;
                self.value(taken.1, &at.item(taken.0))
            }
            "Fn::FindInMap" => self.find_in_map(argument, at).map(Some),
            "Fn::Equals" | "Fn::And" | "Fn::Or" | "Fn::Not" => Err(at.refuse("may stand in Conditions only")),
            "Fn::Transform" => self.include(argument, place),
            _ => Err(at.refuse("this function is not known or not emulated")),
        }
    }

    fn join(&self, argument: &Value, at: &Place) -> Result<String, Refusal> {
        let [delimiter, items] = arguments(argument, at)?;
        let delimiter = literal(delimiter, at)?;
        let items: Option<Vec<String>> = self.list(items, at)?.iter().map(scalar).collect();
        let items = items.ok_or_else(|| at.refuse("joins texts only"))?;
        Ok(items.join(&delimiter))
    }

    fn reference(&self, name: &str, at: &Place) -> Result<Option<Value>, Refusal> {
        if name == "AWS::NoValue" {
            return Ok(None);
        }
        if let Some(text) = self.scope.pseudo_parameter(name) {
            return Ok(Some(Value::from(text)));
        }
        if let Some(parameter) = self.scope.parameters.get(name) {
            return Ok(Some(parameter.value.clone()));
        }
        Ok(Some(Value::from(self.resource(self.scope.alias(name), at)?.physical_id.as_str())))
    }

    fn resource(&self, logical_id: &str, at: &Place) -> Result<Rc<Names>, Refusal> {
        if !self.resources {
            return Err(at.refuse(format!("a condition can name parameters only, and {logical_id} is none")));
        }
        let identity = self.scope.identity(logical_id, at)?;
        self.used.borrow_mut().insert(logical_id.to_owned());
        Ok(identity)
    }

    fn get_att(&self, argument: &Value, at: &Place) -> Result<String, Refusal> {
        // The long form takes `Resource.Attribute` as well in YAML.
        if let Value::String(text) = argument {
            let (name, attribute) =
                text.split_once('.').ok_or_else(|| at.refuse(format!("{text} names no attribute")))?;
            return self.attribute(name, attribute, at);
        }
        let [name, attribute] = arguments(argument, at)?;
        self.attribute(&literal(name, at)?, &self.text(attribute, at)?, at)
    }

    fn attribute(&self, logical_id: &str, attribute: &str, at: &Place) -> Result<String, Refusal> {
        let identity = self.resource(logical_id, at)?;
        let declared = &self.scope.template.resources[logical_id];
        if let (Some(output), "AWS::CloudFormation::Stack") =
            (attribute.strip_prefix("Outputs."), declared.kind.as_str())
        {
            let nested = &self.scope.nested(logical_id, at)?[0];
            let found = nested.outputs.iter().find(|candidate| candidate.key == output);
            return found
                .map(|output| output.value.clone())
                .ok_or_else(|| at.refuse(format!("{} has no output {output}", nested.file)));
        }
        if attribute == "StreamArn" && !declared.properties.contains_key("StreamSpecification") {
            return Err(at.refuse(format!("{logical_id} has no stream")));
        }
        identity.attributes.get(attribute).cloned().ok_or_else(|| {
            at.refuse(format!("{} has no attribute {attribute} that is emulated", declared.kind))
        })
    }

    fn sub(&self, argument: &Value, at: &Place) -> Result<String, Refusal> {
        let (text, variables) = match argument {
            Value::Array(_) => {
                let [text, variables] = arguments(argument, at)?;
                let variables =
                    variables.as_object().ok_or_else(|| at.item(1).refuse("must be a mapping"))?;
                (literal(text, at)?, Some(variables))
            }
            text => (literal(text, at)?, None),
        };
        pieces(&text, at)?
            .into_iter()
            .map(|piece| match piece {
                Piece::Text(text) => Ok(text.to_owned()),
                Piece::Literal(text) => Ok(format!("${{{text}}}")),
                Piece::Name(name) => self.variable(name, variables, at),
            })
            .collect()
    }

    fn variable(
        &self,
        name: &str,
        variables: Option<&Map<String, Value>>,
        at: &Place,
    ) -> Result<String, Refusal> {
        let at = &at.key(&format!("${{{name}}}"));
        if let Some(value) = variables.and_then(|variables| variables.get(name)) {
            return self.text(value, at);
        }
        if !self.scope.template.aliases.contains_key(name)
            && let Some((resource, attribute)) = name.split_once('.')
        {
            return self.attribute(resource, attribute, at);
        }
        self.reference(name, at)?
            .as_ref()
            .and_then(scalar)
            .ok_or_else(|| at.refuse("is not a text, a number or a boolean"))
    }

    fn find_in_map(&self, argument: &Value, at: &Place) -> Result<Value, Refusal> {
        let [map, first, second] = arguments(argument, at)?;
        let (map, first, second) = (self.text(map, at)?, self.text(first, at)?, self.text(second, at)?);
        let found = self.scope.template.mappings.get(&map).and_then(|map| map.get(&first)?.get(&second));
        match found {
            Some(Value::Object(_)) => Err(at.refuse("a mapping has two levels of keys")),
            Some(value) => Ok(value.clone()),
            None => Err(at.refuse(format!("Mappings.{map} has no {first}.{second}"))),
        }
    }

    /// `Fn::Transform` with `AWS::Include`: the content of a file beside the template.
    fn include(&self, argument: &Value, place: &Place) -> Result<Option<Value>, Refusal> {
        let at = place.key("Fn::Transform");
        let name = argument.get("Name").and_then(Value::as_str).unwrap_or_default();
        if name != "AWS::Include" {
            return Err(at.key("Name").refuse(format!("{name} is not emulated; only AWS::Include is")));
        }
        let location = argument
            .pointer("/Parameters/Location")
            .and_then(Value::as_str)
            .ok_or_else(|| at.key("Parameters").key("Location").refuse("must be a literal path"))?;
        let inside = place.in_file(&beside(&self.scope.place.file, location));
        let (_, content) = read(self.scope.world.project, &inside, ShortForms::Refused)?;
        self.included.borrow_mut().push((place.path.clone(), inside.file.to_string()));
        self.value(&content, &inside)
    }

    /// Evaluates a condition.
    fn truth(&self, expression: &Value, at: &Place) -> Result<bool, Refusal> {
        let map = expression.as_object().filter(|map| map.len() == 1);
        let Some((function, argument)) = map.and_then(|map| map.iter().next()) else {
            return Err(at.refuse("must be Fn::Equals, Fn::And, Fn::Or, Fn::Not or Condition"));
        };
        let at = &at.key(function);
        match function.as_str() {
            "Condition" => self.scope.condition(&literal(argument, at)?, at),
            "Fn::Equals" => {
                let [left, right] = arguments(argument, at)?;
                let (left, right) = (self.value(left, &at.item(0))?, self.value(right, &at.item(1))?);
                let spelled = |value: &Option<Value>| value.as_ref().and_then(scalar);
                Ok(match (spelled(&left), spelled(&right)) {
                    (Some(left), Some(right)) => left == right,
                    _ => left == right,
                })
            }
            "Fn::Not" => {
                let [inner] = arguments(argument, at)?;
                Ok(!self.truth(inner, &at.item(0))?)
            }
            "Fn::And" | "Fn::Or" => {
                let items = argument.as_array().filter(|items| (2..=10).contains(&items.len()));
                let items = items.ok_or_else(|| at.refuse("takes two to ten conditions"))?;
                // Evaluates all of them, so that a mistake in any is refused.
                let truths = items.iter().enumerate().map(|(index, item)| self.truth(item, &at.item(index)));
                let truths: Vec<bool> = truths.collect::<Result<_, _>>()?;
                Ok(truths.contains(&true) && (function == "Fn::Or" || !truths.contains(&false)))
            }
            _ => Err(at.refuse("is not a condition function")),
        }
    }
}

/// A part of a text for `Fn::Sub`.
enum Piece<'t> {
    Text(&'t str),
    /// `${!Literal}`, which is left as `${Literal}`.
    Literal(&'t str),
    /// `${Name}` or `${Resource.Attribute}`.
    Name(&'t str),
}

impl<'t> Piece<'t> {
    fn name(self) -> Option<&'t str> {
        match self {
            Self::Name(name) => Some(name),
            _ => None,
        }
    }
}

fn pieces<'t>(text: &'t str, at: &Place) -> Result<Vec<Piece<'t>>, Refusal> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or_else(|| at.refuse("has a ${ that is not closed"))?;
        pieces.push(Piece::Text(before));
        pieces.push(name.strip_prefix('!').map_or(Piece::Name(name), Piece::Literal));
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

fn some_text(text: String) -> Option<Value> {
    Some(Value::String(text))
}

/// The arguments of a function that takes exactly `N`.
fn arguments<'v, const N: usize>(argument: &'v Value, at: &Place) -> Result<[&'v Value; N], Refusal> {
    let items: Vec<&Value> = argument.as_array().into_iter().flatten().collect();
    items.try_into().map_err(|_| at.refuse(format!("takes a list of {N}")))
}

fn literal(value: &Value, at: &Place) -> Result<String, Refusal> {
    scalar(value).ok_or_else(|| at.refuse("must be a literal text"))
}
