//! `AWS::Serverless::StateMachine` and the rules that start it.

use std::collections::BTreeMap;

use cloud_core::resource::Refusal;
use serde_json::{Map, Value, json};

use super::role::{Role, assumed_by};
use super::{Generated, Properties, get_att_arn, propagate, rule, tags};
use crate::template::Project;
use crate::template::document::{Declared, ShortForms, beside, read};
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
    let mut out = Map::new();
    given.rename("Name", "StateMachineName", &mut out);
    given.rename("Type", "StateMachineType", &mut out);
    given.rename("Logging", "LoggingConfiguration", &mut out);
    given.rename("Tracing", "TracingConfiguration", &mut out);
    given.pass(&["DefinitionSubstitutions"], &mut out);
    let propagates = given.take("PropagateTags");
    let own_tags = given.take_object("Tags")?;
    let tags = tags("stateMachine", own_tags.clone());
    out.insert("Tags".to_owned(), tags.clone());
    let mut verbatim = BTreeMap::new();
    match (given.take("Definition"), given.take("DefinitionUri")) {
        (Some(definition), None) => {
            out.insert("Definition".to_owned(), definition);
        }
        (None, Some(Value::String(location))) => {
            let at = given.at.key("DefinitionUri");
            // CloudFormation never looks into the file: nothing in it is evaluated.
            let inside = at.in_file(&beside(&at.file, &location));
            let (_, definition) = read(project, &inside, ShortForms::Refused)?;
            verbatim.insert("Definition".to_owned(), (inside.file, definition));
        }
        _ => {
            return Err(given
                .at
                .key("DefinitionUri")
                .refuse("must be a literal path, or Definition given instead"));
        }
    }
    let policies = given.take("Policies");
    let boundary = given.take("PermissionsBoundary");
    match given.take("Role") {
        Some(_) if policies.is_some() => {
            return Err(given.at.key("Policies").refuse("has no effect beside Role"));
        }
        Some(own) => {
            out.insert("RoleArn".to_owned(), own);
        }
        None => {
            let mut role = Role::new(id, "states.amazonaws.com");
            role.at(given.take("RolePath"));
            role.within(boundary.clone());
            if out.get("TracingConfiguration").is_some_and(|tracing| tracing["Enabled"] == true) {
                role.managed("AWSXrayWriteOnlyAccess");
            }
            role.policies(policies, &given.at.key("Policies"))?;
            out.insert("RoleArn".to_owned(), get_att_arn(role.id()));
            resources.push(role.declared(&tags, condition.clone()));
        }
    }
    for (name, event) in given.take_object("Events")?.unwrap_or_default() {
        let place = given.at.key("Events").key(&name);
        resources.extend(starting_rule(id, &format!("{id}{name}"), event, &boundary, &condition, &place)?);
    }
    given.finish()?;
    let kind = "AWS::StepFunctions::StateMachine".to_owned();
    resources.push((id.to_owned(), Declared { kind, properties: out, verbatim, ..declared }));
    propagate(propagates, own_tags, &mut resources);
    Ok(resources)
}

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
    let given = Properties::below(
        event.take("Properties").unwrap_or_default(),
        at.key("Properties"),
        "EventBridgeRule",
    )?;
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
