//! Hands every resource of an application to the service that runs it, each after all that
//! it depends on, and says of every CloudFormation type how far it is emulated. A type that
//! is not in the table is refused before anything is deployed.

use std::sync::Arc;

use crate::cloud::Cloud;
use crate::resource::{Refusal, Resource};
use crate::template::{Application, Stack};

/// How far a type is emulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Behaves as on AWS, as far as its properties are accepted.
    Emulated,
    /// Behaves alike, with the differences that the note tells.
    Approximated,
    /// Accepted, and without any effect here; the note says why that is safe.
    Inert,
}

/// Every type that a template may use, how far it is emulated, and what to know of it.
#[rustfmt::skip]
pub const EMULATED: &[(&str, Level, &str)] = &[
    ("AWS::ApiGateway::Account", Level::Inert, "access logs are always written"),
    ("AWS::ApiGateway::Deployment", Level::Approximated, "the API as the template has it now is always the deployed one"),
    ("AWS::ApiGateway::RestApi", Level::Emulated, "routes, validators, mapping templates, integrations and responses of its OpenAPI body"),
    ("AWS::ApiGateway::Stage", Level::Emulated, "throttling and access logs of its methods"),
    ("AWS::CloudFormation::Stack", Level::Emulated, "a nested template of the same project"),
    ("AWS::CloudWatch::Alarm", Level::Inert, "nobody is called out of bed by a local run; there are no metrics to watch"),
    ("AWS::CloudWatch::Dashboard", Level::Inert, "there are no metrics to show"),
    ("AWS::DynamoDB::Table", Level::Emulated, "on dynoxide; capacity and backups have no effect"),
    ("AWS::EventSchemas::Registry", Level::Emulated, "read only"),
    ("AWS::EventSchemas::Schema", Level::Emulated, "read only; a changed content is a new version"),
    ("AWS::Events::Archive", Level::Emulated, "archive and replay"),
    ("AWS::Events::EventBus", Level::Emulated, "patterns, targets, retries and dead-letter queues"),
    ("AWS::Events::EventBusPolicy", Level::Approximated, "shown by DescribeEventBus; permissions are not enforced here"),
    ("AWS::Events::Rule", Level::Emulated, "by event pattern; functions, state machines, buses, log groups and queues as targets"),
    ("AWS::IAM::ManagedPolicy", Level::Inert, "permissions are not enforced here; a test compares a boundary with the roles"),
    ("AWS::IAM::OIDCProvider", Level::Inert, "nobody signs in here"),
    ("AWS::IAM::Policy", Level::Inert, "permissions are not enforced here; tests compare them with the calls made"),
    ("AWS::IAM::Role", Level::Inert, "permissions are not enforced here; tests compare them with the calls made"),
    ("AWS::Lambda::EventInvokeConfig", Level::Emulated, "retries, maximum age and destinations of asynchronous invocations"),
    ("AWS::Lambda::EventSourceMapping", Level::Emulated, "queues and table streams"),
    ("AWS::Lambda::Function", Level::Approximated, "a process of this machine over the Runtime API; its memory size bounds its address space"),
    ("AWS::Lambda::Permission", Level::Approximated, "shown by GetPolicy; permissions are not enforced here"),
    ("AWS::Logs::Delivery", Level::Inert, "what a bus fails to deliver, the live log tells"),
    ("AWS::Logs::DeliveryDestination", Level::Inert, "what a bus fails to deliver, the live log tells"),
    ("AWS::Logs::DeliverySource", Level::Inert, "what a bus fails to deliver, the live log tells"),
    ("AWS::Logs::LogGroup", Level::Emulated, "groups, streams and events; events expire as it says"),
    ("AWS::Logs::MetricFilter", Level::Inert, "there are no metrics"),
    ("AWS::Logs::ResourcePolicy", Level::Inert, "permissions are not enforced here"),
    ("AWS::Pipes::Pipe", Level::Emulated, "from a table stream to a bus"),
    ("AWS::S3::Bucket", Level::Approximated, "objects can be put (in parts, too), copied, read, listed and deleted; nothing else"),
    ("AWS::S3::BucketPolicy", Level::Inert, "permissions are not enforced here"),
    ("AWS::SNS::Subscription", Level::Inert, "alarms are all that is published, and there are none"),
    ("AWS::SNS::Topic", Level::Inert, "alarms are all that is published, and there are none"),
    ("AWS::SNS::TopicPolicy", Level::Inert, "permissions are not enforced here"),
    ("AWS::SQS::Queue", Level::Emulated, "standard queues"),
    ("AWS::SQS::QueuePolicy", Level::Approximated, "shown as an attribute; permissions are not enforced here"),
    ("AWS::SSM::Parameter", Level::Emulated, "plain parameters and their versions; no secrets"),
    ("AWS::StepFunctions::StateMachine", Level::Emulated, "Standard workflows in JSONata"),
];

/// How far a type is emulated; `None` where it is not known.
pub fn level(kind: &str) -> Option<Level> {
    EMULATED.iter().find(|(known, ..)| *known == kind).map(|(_, level, _)| *level)
}

/// Deploys all stacks of an application; deploying over the state of an earlier run keeps it.
///
/// # Errors
/// The first refusal of a service, which names file and property.
pub async fn deploy(cloud: &Arc<Cloud>, application: &Application) -> Result<(), Refusal> {
    match application.root() {
        Some(root) => deploy_stack(cloud, application, root).await,
        None => Ok(()),
    }
}

async fn deploy_stack(cloud: &Arc<Cloud>, application: &Application, stack: &Stack) -> Result<(), Refusal> {
    for resource in &stack.resources {
        if resource.kind == "AWS::CloudFormation::Stack" {
            let nested = application
                .stack(&resource.physical_id)
                .ok_or_else(|| resource.refuse("Properties.TemplateURL", "its stack is not loaded"))?;
            // Boxed, since stacks nest to any depth.
            Box::pin(deploy_stack(cloud, application, nested)).await?;
        } else {
            deploy_resource(cloud, resource).await?;
        }
    }
    Ok(())
}

async fn deploy_resource(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    match resource.kind.as_str() {
        "AWS::ApiGateway::Deployment" | "AWS::ApiGateway::RestApi" | "AWS::ApiGateway::Stage" => {
            crate::apigateway::deploy(cloud, resource).await
        }
        "AWS::DynamoDB::Table" => crate::dynamodb::deploy(cloud, resource).await,
        "AWS::EventSchemas::Registry" | "AWS::EventSchemas::Schema" => {
            crate::schemas::deploy(cloud, resource).await
        }
        "AWS::Events::Archive"
        | "AWS::Events::EventBus"
        | "AWS::Events::EventBusPolicy"
        | "AWS::Events::Rule" => crate::eventbridge::deploy(cloud, resource).await,
        "AWS::Lambda::EventSourceMapping" => crate::event_source::deploy(cloud, resource).await,
        "AWS::Lambda::EventInvokeConfig" | "AWS::Lambda::Function" | "AWS::Lambda::Permission" => {
            crate::lambda::deploy(cloud, resource).await
        }
        "AWS::Logs::LogGroup" => crate::logs::deploy(cloud, resource).await,
        "AWS::Pipes::Pipe" => crate::pipes::deploy(cloud, resource).await,
        "AWS::S3::Bucket" => crate::s3::deploy(cloud, resource).await,
        "AWS::SQS::Queue" | "AWS::SQS::QueuePolicy" => crate::sqs::deploy(cloud, resource).await,
        "AWS::SSM::Parameter" => crate::ssm::deploy(cloud, resource).await,
        "AWS::StepFunctions::StateMachine" => crate::stepfunctions::deploy(cloud, resource).await,
        kind if level(kind) == Some(Level::Inert) => check_inert(resource),
        kind => Err(resource.refuse("Type", format!("{kind} is not emulated"))),
    }
}

/// The properties of the types that have no effect here, from their pages in the
/// CloudFormation template reference: what CloudFormation refuses is refused here too.
const INERT: &[(&str, &[&str])] = &[
    ("AWS::ApiGateway::Account", &["CloudWatchRoleArn"]),
    (
        "AWS::CloudWatch::Alarm",
        &[
            "ActionsEnabled",
            "AlarmActions",
            "AlarmDescription",
            "AlarmName",
            "ComparisonOperator",
            "DatapointsToAlarm",
            "Dimensions",
            "EvaluateLowSampleCountPercentile",
            "EvaluationPeriods",
            "ExtendedStatistic",
            "InsufficientDataActions",
            "MetricName",
            "Metrics",
            "Namespace",
            "OKActions",
            "Period",
            "Statistic",
            "Tags",
            "Threshold",
            "ThresholdMetricId",
            "TreatMissingData",
            "Unit",
        ],
    ),
    ("AWS::CloudWatch::Dashboard", &["DashboardBody", "DashboardName", "Tags"]),
    ("AWS::IAM::OIDCProvider", &["ClientIdList", "Tags", "ThumbprintList", "Url"]),
    (
        "AWS::IAM::ManagedPolicy",
        &["Description", "Groups", "ManagedPolicyName", "Path", "PolicyDocument", "Roles", "Users"],
    ),
    ("AWS::IAM::Policy", &["Groups", "PolicyDocument", "PolicyName", "Roles", "Users"]),
    (
        "AWS::IAM::Role",
        &[
            "AssumeRolePolicyDocument",
            "Description",
            "ManagedPolicyArns",
            "MaxSessionDuration",
            "Path",
            "PermissionsBoundary",
            "Policies",
            "RoleName",
            "Tags",
        ],
    ),
    (
        "AWS::Logs::Delivery",
        &[
            "DeliveryDestinationArn",
            "DeliverySourceName",
            "FieldDelimiter",
            "RecordFields",
            "S3EnableHiveCompatiblePath",
            "S3SuffixPath",
            "Tags",
        ],
    ),
    (
        "AWS::Logs::DeliveryDestination",
        &[
            "DeliveryDestinationPolicy",
            "DeliveryDestinationType",
            "DestinationResourceArn",
            "Name",
            "OutputFormat",
            "Tags",
        ],
    ),
    ("AWS::Logs::DeliverySource", &["LogType", "Name", "ResourceArn", "Tags"]),
    (
        "AWS::Logs::MetricFilter",
        &[
            "ApplyOnTransformedLogs",
            "EmitSystemFieldDimensions",
            "FieldSelectionCriteria",
            "FilterName",
            "FilterPattern",
            "LogGroupName",
            "MetricTransformations",
        ],
    ),
    ("AWS::Logs::ResourcePolicy", &["PolicyDocument", "PolicyName"]),
    ("AWS::S3::BucketPolicy", &["Bucket", "PolicyDocument"]),
    (
        "AWS::SNS::Subscription",
        &[
            "DeliveryPolicy",
            "Endpoint",
            "FilterPolicy",
            "FilterPolicyScope",
            "Protocol",
            "RawMessageDelivery",
            "RedrivePolicy",
            "Region",
            "ReplayPolicy",
            "SubscriptionRoleArn",
            "TopicArn",
        ],
    ),
    (
        "AWS::SNS::Topic",
        &["DisplayName", "KmsMasterKeyId", "Subscription", "Tags", "TopicName", "TracingConfig"],
    ),
    ("AWS::SNS::TopicPolicy", &["PolicyDocument", "Topics"]),
];

fn check_inert(resource: &Resource) -> Result<(), Refusal> {
    let known = INERT.iter().find(|(kind, _)| *kind == resource.kind).map_or(&[][..], |(_, names)| *names);
    let given = resource.properties.as_object().into_iter().flatten();
    match given.map(|(name, _)| name).find(|name| !known.contains(&name.as_str())) {
        Some(unknown) => Err(resource
            .refuse(&format!("Properties.{unknown}"), format!("{} has no such property", resource.kind))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_reader_and_this_table_know_the_same_types() {
        let known: Vec<&str> = crate::template::known_types().collect();
        let emulated: Vec<&str> = EMULATED.iter().map(|(kind, ..)| *kind).collect();
        assert_eq!(known, emulated);
    }

    #[test]
    fn the_document_says_of_every_type_what_this_table_says() {
        let document = include_str!("../README.md");
        for (kind, level, note) in EMULATED {
            let word = match level {
                Level::Emulated => "emulated",
                Level::Approximated => "approximated",
                Level::Inert => "no effect",
            };
            let row = format!("| `{kind}` | {word} | {note} |");
            assert!(document.lines().any(|line| line == row), "README.md lacks: {row}");
        }
        let rows = document.lines().filter(|line| line.starts_with("| `AWS::"));
        assert_eq!(rows.count(), EMULATED.len(), "README.md has a type that is not emulated");
    }

    #[test]
    fn every_type_has_a_note() {
        assert!(EMULATED.iter().all(|(.., note)| note.len() > 5));
    }

    #[tokio::test]
    async fn no_type_ignores_an_unknown_property() {
        let cloud = Cloud::for_tests().unwrap();
        for (kind, ..) in EMULATED {
            let resource = Resource {
                stack: "s".into(),
                logical_id: "X".into(),
                kind: (*kind).to_owned(),
                physical_id: String::new(),
                arn: String::new(),
                properties: serde_json::json!({ "NoSuchProperty": 1 }),
                metadata: serde_json::Value::Null,
                file: "t.yaml".into(),
            };
            let deployed = deploy_resource(&cloud, &resource).await;
            match *kind {
                "AWS::CloudFormation::Stack" => {}
                _ => assert!(deployed.is_err(), "{kind} ignores an unknown property"),
            }
        }
    }
}
