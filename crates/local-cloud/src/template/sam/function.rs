//! `AWS::Serverless::Function` and its event sources.

use serde_json::{Map, Value, json};

use super::{Generated, Properties, get_att_arn, merged, role, rule, tags};
use crate::resource::Refusal;
use crate::template::document::{Declared, object};
use crate::template::place::Place;

/// What `Globals.Function` may hold.
pub(super) const GLOBAL: &[&str] = &[
    "Handler",
    "Runtime",
    "CodeUri",
    "DeadLetterQueue",
    "Description",
    "MemorySize",
    "Timeout",
    "Environment",
    "Tags",
    "PropagateTags",
    "Tracing",
    "ReservedConcurrentExecutions",
    "EventInvokeConfig",
    "Architectures",
    "LoggingConfig",
];

pub(super) fn transform(
    id: &str,
    mut declared: Declared,
    globals: &Map<String, Value>,
    at: &Place,
) -> Result<Generated, Refusal> {
    let own = std::mem::take(&mut declared.properties);
    let mut given = Properties::new(merged(globals, own), at.key("Properties"), &declared.kind);
    let condition = declared.condition.clone();
    let generate = |kind: &str, properties: Value| Declared::generated(kind, properties, condition.clone());
    let mut resources = Vec::new();
    let mut out = Map::new();
    given.pass(
        &[
            "FunctionName",
            "Description",
            "Handler",
            "Runtime",
            "Architectures",
            "MemorySize",
            "Timeout",
            "Environment",
            "LoggingConfig",
            "ReservedConcurrentExecutions",
        ],
        &mut out,
    );
    // `sam build` compiles CodeUri and `sam deploy` uploads it; here, `Metadata` names the
    // binary of this workspace that is run instead.
    given.take("CodeUri");
    // Tags on generated resources have no effect here.
    given.take("PropagateTags");
    if let Some(mode) = given.take("Tracing") {
        out.insert("TracingConfig".to_owned(), json!({ "Mode": mode }));
    }
    if let Some(queue) = given.take("DeadLetterQueue") {
        let mut queue = Properties::below(queue, given.at.key("DeadLetterQueue"), "DeadLetterQueue")?;
        queue.require("Type")?;
        out.insert("DeadLetterConfig".to_owned(), json!({ "TargetArn": queue.require("TargetArn")? }));
        queue.finish()?;
    }
    out.insert("Tags".to_owned(), tags("lambda", given.take_object("Tags")?));

    let policies = given.take("Policies");
    match given.take("Role") {
        Some(own) => {
            // AWS ignores the policies then; that is hardly what was meant.
            if policies.is_some() {
                return Err(given.at.key("Policies").refuse("has no effect beside Role"));
            }
            out.insert("Role".to_owned(), own);
        }
        None => {
            let properties = role(id, "lambda.amazonaws.com", policies, &given.at.key("Policies"))?;
            resources.push((format!("{id}Role"), generate("AWS::IAM::Role", properties)));
            out.insert("Role".to_owned(), get_att_arn(&format!("{id}Role")));
        }
    }
    if let Some(config) = given.take("EventInvokeConfig") {
        let properties = event_invoke_config(id, config, &given.at.key("EventInvokeConfig"))?;
        resources
            .push((format!("{id}EventInvokeConfig"), generate("AWS::Lambda::EventInvokeConfig", properties)));
    }
    for (name, event) in given.take_object("Events")?.unwrap_or_default() {
        let place = given.at.key("Events").key(&name);
        resources.extend(event_source(id, &format!("{id}{name}"), event, &condition, &place)?);
    }
    given.finish()?;
    let function = Declared { kind: "AWS::Lambda::Function".to_owned(), properties: out, ..declared };
    resources.push((id.to_owned(), function));
    Ok(resources)
}

fn event_invoke_config(id: &str, config: Value, at: &Place) -> Result<Value, Refusal> {
    let mut given = Properties::below(config, at.clone(), "EventInvokeConfig")?;
    let mut out = Map::new();
    given.pass(&["MaximumEventAgeInSeconds", "MaximumRetryAttempts"], &mut out);
    if let Some(destinations) = given.take("DestinationConfig") {
        let destinations = destinations_without_type(destinations, &at.key("DestinationConfig"))?;
        out.insert("DestinationConfig".to_owned(), destinations);
    }
    given.finish()?;
    out.insert("FunctionName".to_owned(), json!({ "Ref": id }));
    out.insert("Qualifier".to_owned(), json!("$LATEST"));
    Ok(Value::Object(out))
}

/// SAM's `Type` of a destination tells which permission to give; Lambda does not take it.
fn destinations_without_type(config: Value, at: &Place) -> Result<Value, Refusal> {
    let mut out = Map::new();
    for (event, destination) in object(config, at)? {
        let at = at.key(&event);
        if event != "OnFailure" {
            return Err(at.refuse("is not emulated: only OnFailure is"));
        }
        let mut destination = Properties::below(destination, at, "a destination")?;
        destination.take("Type");
        // Without one, SAM would make a queue or a topic.
        out.insert(event, json!({ "Destination": destination.require("Destination")? }));
        destination.finish()?;
    }
    Ok(Value::Object(out))
}

fn event_source(
    function: &str,
    id: &str,
    event: Value,
    condition: &Option<String>,
    at: &Place,
) -> Result<Generated, Refusal> {
    let mut event = Properties::below(event, at.clone(), "an event")?;
    let kind = event.require("Type")?;
    let kind = kind.as_str().unwrap_or_default();
    let given = Properties::below(event.take("Properties").unwrap_or_default(), at.key("Properties"), kind)?;
    event.finish()?;
    match kind {
        "SQS" => mapping(function, id, given, "Queue", QUEUE, condition),
        "DynamoDB" => mapping(function, id, given, "Stream", STREAM, condition),
        "EventBridgeRule" => {
            let permission = json!({
                "Action": "lambda:InvokeFunction",
                "FunctionName": { "Ref": function },
                "Principal": "events.amazonaws.com",
                "SourceArn": get_att_arn(id),
            });
            let target = rule::Target { arn: get_att_arn(function), suffix: "LambdaTarget", role: None };
            let mut resources = rule::transform(id, given, target, condition)?;
            let permission = Declared::generated("AWS::Lambda::Permission", permission, condition.clone());
            resources.push((format!("{id}Permission"), permission));
            Ok(resources)
        }
        other => Err(at.key("Type").refuse(format!("events of type {other} are not emulated"))),
    }
}

/// What an event of type SQS hands to its mapping unchanged.
const QUEUE: &[&str] = &[
    "BatchSize",
    "Enabled",
    "FilterCriteria",
    "FunctionResponseTypes",
    "MaximumBatchingWindowInSeconds",
    "ScalingConfig",
];

/// What an event of type DynamoDB hands to its mapping unchanged.
const STREAM: &[&str] = &[
    "BatchSize",
    "BisectBatchOnFunctionError",
    "Enabled",
    "FilterCriteria",
    "FunctionResponseTypes",
    "MaximumBatchingWindowInSeconds",
    "MaximumRecordAgeInSeconds",
    "MaximumRetryAttempts",
    "ParallelizationFactor",
    "StartingPosition",
    "TumblingWindowInSeconds",
];

fn mapping(
    function: &str,
    id: &str,
    mut given: Properties,
    source: &str,
    passed: &[&str],
    condition: &Option<String>,
) -> Result<Generated, Refusal> {
    let mut out = Map::new();
    out.insert("EventSourceArn".to_owned(), given.require(source)?);
    out.insert("FunctionName".to_owned(), json!({ "Ref": function }));
    given.pass(passed, &mut out);
    if source == "Stream" {
        if !out.contains_key("StartingPosition") {
            return Err(given.at.key("StartingPosition").refuse("is missing"));
        }
        if let Some(destinations) = given.take("DestinationConfig") {
            let destinations = destinations_without_type(destinations, &given.at.key("DestinationConfig"))?;
            out.insert("DestinationConfig".to_owned(), destinations);
        }
    }
    given.finish()?;
    let mapping =
        Declared::generated("AWS::Lambda::EventSourceMapping", Value::Object(out), condition.clone());
    Ok(vec![(id.to_owned(), mapping)])
}
