//! Services without an effect here: the local cloud checks the names of their properties, and accepts them.

use cloud_core::service::{Identity, Protocol, Service, Type};

/// Alarms and dashboards.
pub static CLOUDWATCH: Service = Service { types: CLOUDWATCH_TYPES, ..Service::new("cloudwatch") };

/// Roles and policies.
pub static IAM: Service = Service {
    // Refused by its name.
    protocols: &[Protocol::Query {
        version: "2010-05-08",
        namespace: "https://iam.amazonaws.com/doc/2010-05-08/",
    }],
    types: IAM_TYPES,
    ..Service::new("iam")
};

/// Topics and subscriptions of alarms.
pub static SNS: Service = Service { types: SNS_TYPES, ..Service::new("sns") };

#[rustfmt::skip]
const CLOUDWATCH_TYPES: &[Type] = &[
    Type::inert("AWS::CloudWatch::Alarm", "a local run has no metrics to watch",
        Identity::named("AlarmName", 255)
            .arn("arn:aws:cloudwatch:{region}:{account}:alarm:{name}").attributes(&[Identity::ARN]),
        &["ActionsEnabled", "AlarmActions", "AlarmDescription", "AlarmName", "ComparisonOperator",
          "DatapointsToAlarm", "Dimensions", "EvaluateLowSampleCountPercentile", "EvaluationPeriods",
          "ExtendedStatistic", "InsufficientDataActions", "MetricName", "Metrics", "Namespace", "OKActions",
          "Period", "Statistic", "Tags", "Threshold", "ThresholdMetricId", "TreatMissingData", "Unit"]),
    Type::inert("AWS::CloudWatch::Dashboard", "there are no metrics to show",
        Identity::named("DashboardName", 255).arn("arn:aws:cloudwatch::{account}:dashboard/{name}"),
        &["DashboardBody", "DashboardName", "Tags"]),
];

#[rustfmt::skip]
const IAM_TYPES: &[Type] = &[
    Type::inert("AWS::IAM::ManagedPolicy", "permissions are not enforced; a test compares a boundary with the roles",
        Identity::named("ManagedPolicyName", 128).reference("{arn}")
            .arn("arn:aws:iam::{account}:policy{path}{name}").attributes(&[("PolicyArn", "{arn}")]),
        &["Description", "Groups", "ManagedPolicyName", "Path", "PolicyDocument", "Roles", "Users"]),
    Type::inert("AWS::IAM::OIDCProvider", "nothing signs in to the local cloud",
        Identity::NAME.reference("{arn}")
            .arn("arn:aws:iam::{account}:oidc-provider/{name}").attributes(&[Identity::ARN]),
        &["ClientIdList", "Tags", "ThumbprintList", "Url"]),
    Type::inert("AWS::IAM::Policy", "permissions are not enforced here; tests compare them with the calls made",
        Identity::NAME.attributes(&[("Id", "{ref}")]),
        &["Groups", "PolicyDocument", "PolicyName", "Roles", "Users"]),
    Type::inert("AWS::IAM::Role", "permissions are not enforced here; tests compare them with the calls made",
        Identity::named("RoleName", 64)
            .arn("arn:aws:iam::{account}:role{path}{name}").attributes(&[Identity::ARN]),
        &["AssumeRolePolicyDocument", "Description", "ManagedPolicyArns", "MaxSessionDuration", "Path",
          "PermissionsBoundary", "Policies", "RoleName", "Tags"]),
];

#[rustfmt::skip]
const SNS_TYPES: &[Type] = &[
    Type::inert("AWS::SNS::Subscription", "only alarms publish, and a local run has none",
        Identity::made_up(64).reference("{:TopicArn}:{uuid}")
            .arn("{:TopicArn}:{uuid}").attributes(&[Identity::ARN]),
        &["DeliveryPolicy", "Endpoint", "FilterPolicy", "FilterPolicyScope", "Protocol", "RawMessageDelivery",
          "RedrivePolicy", "Region", "ReplayPolicy", "SubscriptionRoleArn", "TopicArn"]),
    Type::inert("AWS::SNS::Topic", "only alarms publish, and a local run has none",
        Identity::named("TopicName", 256).reference("{arn}")
            .arn("arn:aws:sns:{region}:{account}:{name}")
            .attributes(&[("TopicArn", "{arn}"), ("TopicName", "{name}")]),
        &["DisplayName", "KmsMasterKeyId", "Subscription", "Tags", "TopicName", "TracingConfig"]),
    Type::inert("AWS::SNS::TopicPolicy", "permissions are not enforced here",
        Identity::NAME.attributes(&[("Id", "{ref}")]),
        &["PolicyDocument", "Topics"]),
];
