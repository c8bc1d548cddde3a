//! `AWS::Serverless::Function` and its event sources.

use cloud_core::resource::Refusal;
use serde_json::{Map, Value, json};

use super::role::Role;
use super::{Generated, Properties, get_att_arn, merged, propagate, rule, tags};
use crate::template::document::Declared;
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
    "RolePath",
    "PermissionsBoundary",
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
    let propagates = given.take("PropagateTags");
    // https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-specification-generated-resources-function.html
    let mut role = Role::new(id, "lambda.amazonaws.com");
    role.at(given.take("RolePath"));
    role.within(given.take("PermissionsBoundary"));
    role.managed("service-role/AWSLambdaBasicExecutionRole");
    if let Some(mode) = given.take("Tracing") {
        if mode != "Disabled" {
            role.managed("AWSXrayWriteOnlyAccess");
        }
        out.insert("TracingConfig".to_owned(), json!({ "Mode": mode }));
    }
    if let Some(queue) = given.take("DeadLetterQueue") {
        let arn = queue_arn(queue, "TargetArn", given.at.key("DeadLetterQueue"))?;
        role.may_send("DeadLetterQueuePolicy".to_owned(), &arn);
        out.insert("DeadLetterConfig".to_owned(), json!({ "TargetArn": arn }));
    }
    let own_tags = given.take_object("Tags")?;
    let tags = tags("lambda", own_tags.clone());
    out.insert("Tags".to_owned(), tags.clone());
    if let Some(config) = given.take("EventInvokeConfig") {
        let config_id = format!("{id}EventInvokeConfig");
        let at = given.at.key("EventInvokeConfig");
        let properties = event_invoke_config(id, &config_id, config, &at, &mut role)?;
        let config = Declared::generated("AWS::Lambda::EventInvokeConfig", properties, condition.clone());
        resources.push((config_id, config));
    }
    let policies = given.take("Policies");
    let own_role = given.take("Role");
    // AWS ignores the policies then; that is hardly what was meant.
    if own_role.is_some() && policies.is_some() {
        return Err(given.at.key("Policies").refuse("has no effect beside Role"));
    }
    role.policies(policies, &given.at.key("Policies"))?;
    for (name, event) in given.take_object("Events")?.unwrap_or_default() {
        let place = given.at.key("Events").key(&name);
        let source = Source { function: id, id: format!("{id}{name}"), condition: &condition };
        resources.extend(source.transform(event, &place, &mut role)?);
    }
    let role_arn = match own_role {
        Some(own) => own,
        None => {
            let arn = get_att_arn(role.id());
            resources.push(role.declared(&tags, condition.clone()));
            arn
        }
    };
    out.insert("Role".to_owned(), role_arn);
    given.finish()?;
    let function = Declared { kind: "AWS::Lambda::Function".to_owned(), properties: out, ..declared };
    resources.push((id.to_owned(), function));
    propagate(propagates, own_tags, &mut resources);
    Ok(resources)
}

fn event_invoke_config(
    function: &str,
    id: &str,
    config: Value,
    at: &Place,
    role: &mut Role,
) -> Result<Value, Refusal> {
    let mut given = Properties::below(config, at.clone(), "EventInvokeConfig")?;
    let mut out = Map::new();
    given.pass(&["MaximumEventAgeInSeconds", "MaximumRetryAttempts"], &mut out);
    if let Some(config) = given.take("DestinationConfig") {
        let arn = on_failure(config, at.key("DestinationConfig"))?;
        role.may_send(format!("{id}OnFailureSQSPolicy"), &arn);
        out.insert("DestinationConfig".to_owned(), json!({ "OnFailure": { "Destination": arn } }));
    }
    given.finish()?;
    out.insert("FunctionName".to_owned(), json!({ "Ref": function }));
    out.insert("Qualifier".to_owned(), json!("$LATEST"));
    Ok(Value::Object(out))
}

/// The queue of `DestinationConfig.OnFailure`.
fn on_failure(config: Value, at: Place) -> Result<Value, Refusal> {
    let mut config = Properties::below(config, at, "DestinationConfig")?;
    let destination = config.require("OnFailure")?;
    let at = config.at.key("OnFailure");
    config.finish()?;
    queue_arn(destination, "Destination", at)
}

/// A queue that is named with its type, which tells SAM what permission to give.
fn queue_arn(queue: Value, key: &str, at: Place) -> Result<Value, Refusal> {
    let mut queue = Properties::below(queue, at, "a destination")?;
    if queue.require("Type")? != "SQS" {
        return Err(queue.at.key("Type").refuse("is not emulated: only SQS is"));
    }
    let arn = queue.require(key)?;
    queue.finish()?;
    Ok(arn)
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
    "TumblingWindowInSeconds",
];

/// One of a function's `Events`.
struct Source<'a> {
    function: &'a str,
    /// The logical id of the mapping or rule that it becomes.
    id: String,
    condition: &'a Option<String>,
}

impl Source<'_> {
    fn transform(self, event: Value, at: &Place, role: &mut Role) -> Result<Generated, Refusal> {
        let mut event = Properties::below(event, at.clone(), "an event")?;
        let kind = event.require("Type")?;
        let kind = kind.as_str().unwrap_or_default();
        let given =
            Properties::below(event.take("Properties").unwrap_or_default(), at.key("Properties"), kind)?;
        event.finish()?;
        match kind {
            "SQS" => {
                role.managed("service-role/AWSLambdaSQSQueueExecutionRole");
                self.queue(given)
            }
            "DynamoDB" => {
                role.managed("service-role/AWSLambdaDynamoDBExecutionRole");
                self.stream(given, role)
            }
            "EventBridgeRule" => self.rule(given),
            other => Err(at.key("Type").refuse(format!("events of type {other} are not emulated"))),
        }
    }

    fn queue(self, mut given: Properties) -> Result<Generated, Refusal> {
        let mut out = Map::new();
        out.insert("EventSourceArn".to_owned(), given.require("Queue")?);
        given.pass(QUEUE, &mut out);
        given.finish()?;
        Ok(self.mapping(out))
    }

    fn stream(self, mut given: Properties, role: &mut Role) -> Result<Generated, Refusal> {
        let mut out = Map::new();
        out.insert("EventSourceArn".to_owned(), given.require("Stream")?);
        out.insert("StartingPosition".to_owned(), given.require("StartingPosition")?);
        given.pass(STREAM, &mut out);
        if let Some(config) = given.take("DestinationConfig") {
            let arn = on_failure(config, given.at.key("DestinationConfig"))?;
            role.may_send(format!("{}SQSPolicy", self.id), &arn);
            out.insert("DestinationConfig".to_owned(), json!({ "OnFailure": { "Destination": arn } }));
        }
        given.finish()?;
        Ok(self.mapping(out))
    }

    fn mapping(self, mut out: Map<String, Value>) -> Generated {
        out.insert("FunctionName".to_owned(), json!({ "Ref": self.function }));
        let kind = "AWS::Lambda::EventSourceMapping";
        vec![(self.id, Declared::generated(kind, Value::Object(out), self.condition.clone()))]
    }

    fn rule(self, given: Properties) -> Result<Generated, Refusal> {
        let permission = json!({
            "Action": "lambda:InvokeFunction",
            "FunctionName": { "Ref": self.function },
            "Principal": "events.amazonaws.com",
            "SourceArn": get_att_arn(&self.id),
        });
        let target = rule::Target { arn: get_att_arn(self.function), suffix: "LambdaTarget", role: None };
        let mut resources = rule::transform(&self.id, given, target, self.condition)?;
        let permission = Declared::generated("AWS::Lambda::Permission", permission, self.condition.clone());
        resources.push((format!("{}Permission", self.id), permission));
        Ok(resources)
    }
}
