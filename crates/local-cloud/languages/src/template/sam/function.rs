//! `AWS::Serverless::Function` and its event sources.

use cloud_core::resource::Refusal;
use serde_json::{Map, Value, json};

use super::generated::{Generated, get_att_arn, propagate, tags};
use super::properties::{Properties, merged};
use super::role::Role;
use super::rule;
use crate::template::document::Declared;
use crate::template::place::Place;

/// The properties of `Globals.Function`.
#[rustfmt::skip]
pub(super) const GLOBAL: &[&str] = &[
    "Handler", "Runtime", "CodeUri", "DeadLetterQueue", "Description", "MemorySize", "Timeout", "Environment",
    "Tags", "PropagateTags", "Tracing", "ReservedConcurrentExecutions", "EventInvokeConfig", "Architectures",
    "LoggingConfig", "RolePath", "PermissionsBoundary",
];

/// The properties that the function keeps unchanged.
#[rustfmt::skip]
const PASSED: &[&str] = &[
    "FunctionName", "Description", "Handler", "Runtime", "Architectures", "MemorySize", "Timeout",
    "Environment", "LoggingConfig", "ReservedConcurrentExecutions",
];

/// The properties of an SQS event that its mapping keeps unchanged.
#[rustfmt::skip]
const QUEUE: &[&str] = &[
    "BatchSize", "Enabled", "FilterCriteria", "FunctionResponseTypes", "MaximumBatchingWindowInSeconds",
    "ScalingConfig",
];

/// The properties of a DynamoDB event that its mapping keeps unchanged.
#[rustfmt::skip]
const STREAM: &[&str] = &[
    "BatchSize", "BisectBatchOnFunctionError", "Enabled", "FilterCriteria", "FunctionResponseTypes",
    "MaximumBatchingWindowInSeconds", "MaximumRecordAgeInSeconds", "MaximumRetryAttempts",
    "ParallelizationFactor", "TumblingWindowInSeconds",
];

pub(super) fn transform(
    id: &str,
    mut declared: Declared,
    globals: &Map<String, Value>,
    at: &Place,
) -> Result<Generated, Refusal> {
    let own = std::mem::take(&mut declared.properties);
    let mut given = Properties::new(merged(globals, own), at.key("Properties"), &declared.kind);
    let mut function = Function { id, condition: declared.condition.clone(), resources: Vec::new() };
    given.pass(PASSED);
    // `sam build` compiles CodeUri and `sam deploy` uploads it; here, `Metadata` names the binary of this
    // workspace that runs instead.
    given.take("CodeUri");
    let propagates = given.take("PropagateTags");
    // https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-specification-generated-resources-function.html
    let mut role = Role::new(id, "lambda.amazonaws.com");
    role.path = given.take("RolePath");
    role.boundary = given.take("PermissionsBoundary");
    role.managed("service-role/AWSLambdaBasicExecutionRole");
    if let Some(mode) = given.take("Tracing") {
        if mode != "Disabled" {
            role.managed("AWSXrayWriteOnlyAccess");
        }
        given.set("TracingConfig", json!({ "Mode": mode }));
    }
    if let Some(queue) = given.take("DeadLetterQueue") {
        let arn = queue_arn(queue, "TargetArn", given.at.key("DeadLetterQueue"))?;
        role.may_send("DeadLetterQueuePolicy".to_owned(), &arn);
        given.set("DeadLetterConfig", json!({ "TargetArn": arn }));
    }
    let own_tags = given.take_object("Tags")?;
    let tags = tags("lambda", own_tags.clone());
    given.set("Tags", tags.clone());
    if let Some(config) = given.take("EventInvokeConfig") {
        function.event_invoke_config(config, &given.at.key("EventInvokeConfig"), &mut role)?;
    }
    let own_role = role.policies_unless_own(&mut given)?;
    for (name, event) in given.take_object("Events")?.unwrap_or_default() {
        let at = given.at.key("Events").key(&name);
        function.event(format!("{id}{name}"), event, &at, &mut role)?;
    }
    let role_arn = own_role.unwrap_or_else(|| {
        let arn = get_att_arn(role.id());
        function.resources.push(role.declared(&tags, function.condition.clone()));
        arn
    });
    given.set("Role", role_arn);
    let kind = "AWS::Lambda::Function".to_owned();
    function.resources.push((id.to_owned(), Declared { kind, properties: given.finish()?, ..declared }));
    propagate(propagates, own_tags, &mut function.resources);
    Ok(function.resources)
}

/// The queue of `DestinationConfig.OnFailure`.
fn on_failure(config: Value, at: Place) -> Result<Value, Refusal> {
    let mut config = Properties::below(config, at, "DestinationConfig")?;
    let destination = config.require("OnFailure")?;
    let at = config.at.key("OnFailure");
    config.finish()?;
    queue_arn(destination, "Destination", at)
}

/// The ARN of a queue. SAM needs its type, to give the permission.
fn queue_arn(queue: Value, key: &str, at: Place) -> Result<Value, Refusal> {
    let mut queue = Properties::below(queue, at, "a destination")?;
    if queue.require("Type")? != "SQS" {
        return Err(queue.at.key("Type").refuse("is not emulated: only SQS is"));
    }
    let arn = queue.require(key)?;
    queue.finish()?;
    Ok(arn)
}

/// A function with the resources that it generates.
struct Function<'a> {
    id: &'a str,
    condition: Option<String>,
    resources: Generated,
}

impl Function<'_> {
    fn generate(&mut self, id: String, kind: &str, properties: Value) {
        self.resources.push((id, Declared::generated(kind, properties, self.condition.clone())));
    }

    fn event_invoke_config(&mut self, config: Value, at: &Place, role: &mut Role) -> Result<(), Refusal> {
        let id = format!("{}EventInvokeConfig", self.id);
        let mut given = Properties::below(config, at.clone(), "EventInvokeConfig")?;
        given.pass(&["MaximumEventAgeInSeconds", "MaximumRetryAttempts"]);
        if let Some(config) = given.take("DestinationConfig") {
            let arn = on_failure(config, at.key("DestinationConfig"))?;
            role.may_send(format!("{id}OnFailureSQSPolicy"), &arn);
            given.set("DestinationConfig", json!({ "OnFailure": { "Destination": arn } }));
        }
        given.set("FunctionName", json!({ "Ref": self.id }));
        given.set("Qualifier", json!("$LATEST"));
        self.generate(id, "AWS::Lambda::EventInvokeConfig", given.finish()?.into());
        Ok(())
    }

    /// One of its `Events`; `id` is that of the mapping or rule.
    fn event(&mut self, id: String, event: Value, at: &Place, role: &mut Role) -> Result<(), Refusal> {
        let mut event = Properties::below(event, at.clone(), "an event")?;
        let kind = event.require("Type")?;
        let kind = kind.as_str().unwrap_or_default();
        let given = event.take("Properties").unwrap_or_default();
        let mut given = Properties::below(given, at.key("Properties"), kind)?;
        event.finish()?;
        match kind {
            "SQS" => {
                role.managed("service-role/AWSLambdaSQSQueueExecutionRole");
                let queue = given.require("Queue")?;
                given.set("EventSourceArn", queue);
                given.pass(QUEUE);
            }
            "DynamoDB" => {
                role.managed("service-role/AWSLambdaDynamoDBExecutionRole");
                stream(&id, &mut given, role)?;
            }
            "EventBridgeRule" => return self.rule(&id, given),
            other => return Err(at.key("Type").refuse(format!("events of type {other} are not emulated"))),
        }
        given.set("FunctionName", json!({ "Ref": self.id }));
        self.generate(id, "AWS::Lambda::EventSourceMapping", given.finish()?.into());
        Ok(())
    }

    fn rule(&mut self, id: &str, given: Properties) -> Result<(), Refusal> {
        let target = rule::Target { arn: get_att_arn(self.id), suffix: "LambdaTarget", role: None };
        self.resources.extend(rule::transform(id, given, target, &self.condition)?);
        let permission = json!({
            "Action": "lambda:InvokeFunction",
            "FunctionName": { "Ref": self.id },
            "Principal": "events.amazonaws.com",
            "SourceArn": get_att_arn(id),
        });
        self.generate(format!("{id}Permission"), "AWS::Lambda::Permission", permission);
        Ok(())
    }
}

fn stream(id: &str, given: &mut Properties, role: &mut Role) -> Result<(), Refusal> {
    let stream = given.require("Stream")?;
    given.set("EventSourceArn", stream);
    let position = given.require("StartingPosition")?;
    given.set("StartingPosition", position);
    given.pass(STREAM);
    if let Some(config) = given.take("DestinationConfig") {
        let arn = on_failure(config, given.at.key("DestinationConfig"))?;
        role.may_send(format!("{id}SQSPolicy"), &arn);
        given.set("DestinationConfig", json!({ "OnFailure": { "Destination": arn } }));
    }
    Ok(())
}
