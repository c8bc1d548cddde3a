//! `AWS::Serverless::StateMachine` and the rules that start it.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloud_core::resource::Refusal;
use serde_json::{Value, json};

use super::generated::{Generated, get_att_arn, propagate, tags};
use super::properties::Properties;
use super::role::{Role, assumed_by};
use super::rule;
use crate::template::document::{Declared, Project, ShortForms, beside, read};
use crate::template::place::Place;

pub(super) fn transform(
    id: &str,
    mut declared: Declared,
    project: &Project<'_>,
    at: &Place,
) -> Result<Generated, Refusal> {
    let own = std::mem::take(&mut declared.properties);
    let mut given = Properties::new(own, at.key("Properties"), &declared.kind);
    let condition = declared.condition.clone();
    let mut resources = Vec::new();
    given.rename("Name", "StateMachineName");
    given.rename("Type", "StateMachineType");
    given.rename("Logging", "LoggingConfiguration");
    let tracing = given.take("Tracing").unwrap_or_default();
    if !tracing.is_null() {
        given.set("TracingConfiguration", tracing.clone());
    }
    given.pass(&["DefinitionSubstitutions"]);
    let propagates = given.take("PropagateTags");
    let own_tags = given.take_object("Tags")?;
    let tags = tags("stateMachine", own_tags.clone());
    given.set("Tags", tags.clone());
    let verbatim = definition(&mut given, project)?;

    let mut role = Role::new(id, "states.amazonaws.com");
    let boundary = given.take("PermissionsBoundary");
    role.boundary.clone_from(&boundary);
    if tracing["Enabled"] == true {
        role.managed("AWSXrayWriteOnlyAccess");
    }
    let role_arn = match role.policies_unless_own(&mut given)? {
        Some(own) => own,
        None => {
            role.path = given.take("RolePath");
            let arn = get_att_arn(role.id());
            resources.push(role.declared(&tags, condition.clone()));
            arn
        }
    };
    given.set("RoleArn", role_arn);
    for (name, event) in given.take_object("Events")?.unwrap_or_default() {
        let place = given.at.key("Events").key(&name);
        resources.extend(starting_rule(id, &format!("{id}{name}"), event, &boundary, &condition, &place)?);
    }
    let kind = "AWS::StepFunctions::StateMachine".to_owned();
    let machine = Declared { kind, properties: given.finish()?, verbatim, ..declared };
    resources.push((id.to_owned(), machine));
    propagate(propagates, own_tags, &mut resources);
    Ok(resources)
}

/// Takes the definition: a literal one is a property, and that of a file is verbatim, since CloudFormation
/// evaluates nothing in it.
fn definition(
    given: &mut Properties,
    project: &Project<'_>,
) -> Result<BTreeMap<String, (Arc<str>, Value)>, Refusal> {
    let at = given.at.key("DefinitionUri");
    match (given.take("Definition"), given.take("DefinitionUri")) {
        (Some(definition), None) => {
            given.set("Definition", definition);
            Ok(BTreeMap::new())
        }
        (None, Some(Value::String(location))) => {
            let inside = at.in_file(&beside(&at.file, &location));
            let (_, definition) = read(project, &inside, ShortForms::Refused)?;
            Ok([("Definition".to_owned(), (inside.file, definition))].into())
        }
        _ => Err(at.refuse("must be a literal path, or Definition given instead")),
    }
}

/// The rule of an event that starts the machine, and the role of the rule.
fn starting_rule(
    machine: &str,
    id: &str,
    event: Value,
    boundary: &Option<Value>,
    condition: &Option<String>,
    at: &Place,
) -> Result<Generated, Refusal> {
    let mut event = Properties::below(event, at.clone(), "an event")?;
    let kind = event.require("Type")?;
    if kind != "EventBridgeRule" {
        return Err(at.key("Type").refuse(format!("events of type {kind} are not emulated")));
    }
    let given = event.take("Properties").unwrap_or_default();
    let given = Properties::below(given, at.key("Properties"), "EventBridgeRule")?;
    event.finish()?;
    let mut start = json!({
        "AssumeRolePolicyDocument": assumed_by("events.amazonaws.com"),
        "Policies": [{
            "PolicyName": format!("{id}RoleStartExecutionPolicy"),
            "PolicyDocument": {
                "Statement": [{ "Action": "states:StartExecution", "Effect": "Allow", "Resource": { "Ref": machine } }],
            },
        }],
    });
    if let Some(boundary) = boundary {
        start["PermissionsBoundary"] = boundary.clone();
    }
    let role_id = format!("{id}Role");
    let target = rule::Target {
        arn: json!({ "Ref": machine }),
        suffix: "StepFunctionsTarget",
        role: Some(get_att_arn(&role_id)),
    };
    let mut resources = rule::transform(id, given, target, condition)?;
    resources.push((role_id, Declared::generated("AWS::IAM::Role", start, condition.clone())));
    Ok(resources)
}
