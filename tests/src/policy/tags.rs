//! Tags: every resource that can carry tags has them, so that its owner and its cost are known.

use std::collections::BTreeMap;

use cloud_core::resource::Resource;
use serde_json::Value;

use super::{Deployment, Fault, Faults, Mutation, Rule};
use crate::templates::{CONTRACTS, PROPERTIES, WEB};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "tags",
        holds: "every resource that can carry tags carries Owner, Service, Stage, Project: the owner that the stack \
                was given, its stage, and this project",
        check: tags,
        notices: &[
            Mutation::drop(CONTRACTS, "IngestQueue", "Tags"),
            Mutation::drop(CONTRACTS, "IngestQueue", "- { Key: Owner"),
            Mutation::swap(WEB, "ListingsTable", "Key: Stage, Value: !Ref Stage", "Key: Stage, Value: prod"),
            Mutation::drop(PROPERTIES, "ApprovalLogGroup", "- { Key: Project"),
            Mutation::swap(CONTRACTS, "StatusPipe", "Service: contracts", "Team: contracts"),
            Mutation::drop("template.yaml", "ImagesBucket", "- { Key: Service"),
            Mutation::swap(
                WEB,
                "ListingsTable",
                "Key: Owner, Value: !Ref Owner",
                "Key: Owner, Value: nobody",
            ),
            Mutation::swap(WEB, "ListingsTable", "Value: unicorn-properties", "Value: another"),
        ],
    },
    Rule {
        name: "tags-known",
        holds: "for every type in use, this list says whether it can carry tags",
        check: known,
        notices: &[Mutation::add(
            CONTRACTS,
            "SchemaRegistry",
            "  Setting:\n    Type: AWS::SSM::Parameter\n    Properties: { Type: String, Value: x }",
        )
        .naming("Setting")],
    },
    Rule {
        name: "owner",
        holds: "the stack refuses to deploy without an owner, and with one that no tag takes",
        check: owner,
        notices: &[
            Mutation::drop(CONTRACTS, "Owner", "MinLength").naming("Parameters.Owner"),
            Mutation::add("properties-service/subscriptions.yaml", "Owner", "    Default: nobody")
                .naming("Parameters.Owner"),
            Mutation::drop(WEB, "Owner", "AllowedPattern").naming("Parameters.Owner"),
            Mutation::swap("account.yaml", "Owner", "=+@-]+$", "=+@&-]+$").naming("Parameters.Owner"),
            Mutation::drop("template.yaml", "Owner", "MaxLength").naming("Parameters.Owner"),
        ],
    },
];

/// Whether a type can carry tags. Source: `tagging.taggable` in each type's schema in the
/// CloudFormation registry, as cfn-lint 1.58.0 carries them;
/// <https://docs.aws.amazon.com/cloudformation-cli/latest/userguide/resource-type-schema.html>.
#[rustfmt::skip]
const TYPES: &[(&str, bool)] = &[
    ("AWS::ApiGateway::Account", false),
    ("AWS::ApiGateway::Deployment", false),
    ("AWS::ApiGateway::RestApi", true),
    ("AWS::ApiGateway::Stage", true),
    ("AWS::CloudFormation::Stack", true),
    ("AWS::CloudWatch::Alarm", true),
    ("AWS::CloudWatch::Dashboard", true),
    ("AWS::DynamoDB::Table", true),
    ("AWS::EventSchemas::Registry", true),
    ("AWS::EventSchemas::Schema", true),
    ("AWS::Events::Archive", false),
    ("AWS::Events::EventBus", true),
    ("AWS::Events::EventBusPolicy", false),
    ("AWS::Events::Rule", true),
    ("AWS::IAM::ManagedPolicy", false),
    ("AWS::IAM::OIDCProvider", true),
    ("AWS::IAM::Policy", false),
    ("AWS::IAM::Role", true),
    ("AWS::Lambda::EventInvokeConfig", false),
    ("AWS::Lambda::EventSourceMapping", true),
    ("AWS::Lambda::Function", true),
    ("AWS::Lambda::Permission", false),
    ("AWS::Logs::Delivery", true),
    ("AWS::Logs::DeliveryDestination", true),
    ("AWS::Logs::DeliverySource", true),
    ("AWS::Logs::LogGroup", true),
    ("AWS::Logs::MetricFilter", false),
    ("AWS::Logs::ResourcePolicy", false),
    ("AWS::Pipes::Pipe", true),
    ("AWS::S3::Bucket", true),
    ("AWS::S3::BucketPolicy", false),
    ("AWS::SNS::Subscription", false),
    ("AWS::SNS::Topic", true),
    ("AWS::SNS::TopicPolicy", false),
    ("AWS::SQS::Queue", true),
    ("AWS::SQS::QueuePolicy", false),
    ("AWS::StepFunctions::StateMachine", true),
];

fn can_carry(resource: &Resource) -> Option<bool> {
    TYPES.iter().find(|(kind, _)| resource.kind == *kind).map(|(_, taggable)| *taggable)
}

/// The tags of a resource: a list of pairs, or a mapping.
fn tags_of(resource: &Resource) -> BTreeMap<&str, &Value> {
    match &resource.properties["Tags"] {
        Value::Object(map) => map.iter().map(|(key, value)| (key.as_str(), value)).collect(),
        Value::Array(pairs) => {
            pairs.iter().filter_map(|pair| Some((pair["Key"].as_str()?, &pair["Value"]))).collect()
        }
        _ => BTreeMap::new(),
    }
}

fn tags(deployment: &Deployment<'_>) -> Faults {
    let owner = deployment.application.root().and_then(|root| root.parameters.get("Owner"));
    let given = [
        ("Owner", owner.map(String::as_str)),
        ("Stage", Some(deployment.stage())),
        ("Project", Some("unicorn-properties")),
    ];
    let complaint = |resource: &Resource| {
        let tags = tags_of(resource);
        let value =
            |key: &str| tags.get(key).and_then(|value| value.as_str()).filter(|value| !value.is_empty());
        let missing: Vec<&str> =
            ["Owner", "Service", "Stage", "Project"].into_iter().filter(|key| value(key).is_none()).collect();
        if !missing.is_empty() {
            return Some(format!("has no tag {}", missing.join(", ")));
        }
        let wrong = given.iter().find(|(key, expected)| value(key) != *expected);
        wrong.map(|(key, _)| format!("has the tag {key} of another"))
    };
    let taggable = deployment.resources().filter(|resource| can_carry(resource) == Some(true));
    taggable.filter_map(|resource| Some(Fault::of(resource, complaint(resource)?))).collect()
}

fn known(deployment: &Deployment<'_>) -> Faults {
    let unknown = deployment.resources().filter(|resource| can_carry(resource).is_none());
    unknown
        .map(|resource| {
            Fault::of(resource, format!("is a {}: say whether that can carry tags", resource.kind))
        })
        .collect()
}

/// <https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html>, and the pattern
/// of a tag's value in the APIs: <https://docs.aws.amazon.com/IAM/latest/APIReference/API_Tag.html>.
const TAG_VALUE: &str = r"^[\p{L}\p{Z}\p{N}_.:/=+@-]+$";
const MAX_TAG_VALUE: u64 = 256;

fn owner(deployment: &Deployment<'_>) -> Faults {
    let mut faults = Faults::new();
    for stack in deployment.stacks() {
        let owner = &deployment.template(&stack.file)["Parameters"]["Owner"];
        if owner["Type"] != "String"
            || !owner["Default"].is_null()
            || owner["MinLength"].as_u64().unwrap_or(0) == 0
        {
            let (file, resource) = (stack.file.clone(), "Parameters.Owner".to_owned());
            faults.push(Fault { file, resource, wrong: "can be left out or empty".to_owned() });
        }
        if owner["AllowedPattern"] != TAG_VALUE || owner["MaxLength"] != MAX_TAG_VALUE {
            let (file, resource) = (stack.file.clone(), "Parameters.Owner".to_owned());
            faults.push(Fault { file, resource, wrong: "can be a text that no tag takes".to_owned() });
        }
    }
    faults
}
