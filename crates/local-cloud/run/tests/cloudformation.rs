//! CloudFormation's actions on a deployed application.

// clippy.toml allows these in tests, but not in helpers of integration tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use cloud_core::clock::Clock;
use cloud_core::random::Random;
use cloud_core::{Cloud, Settings};
use cloud_languages::template::Application;
use cloud_services::cloudformation::publish;
use local_cloud::deploy;
use local_cloud::services::SERVICES;
use serde_json::{Value, json};

const ROOT: &str = "
Description: the whole
Transform: AWS::Serverless-2016-10-31
Parameters: {Stage: {Type: String, Default: local}, Word: {Type: String, Default: secret, NoEcho: true}}
Resources:
  Role: {Type: AWS::IAM::Role, Metadata: {Why: because}, Properties: {RoleName: r, AssumeRolePolicyDocument: {}}}
  Child: {Type: AWS::Serverless::Application, Properties: {Location: child.yaml, Tags: {Owner: me}}}
Outputs:
  RoleName: {Value: !Ref Role, Description: its name, Export: {Name: role-name}}
";
const CHILD: &str = "Resources: {Alarm: {Type: AWS::CloudWatch::Alarm, Properties: {AlarmName: a}}}";

/// A cloud with the two stacks deployed, one second after the epoch.
async fn deployed() -> (Arc<Cloud>, Application) {
    let project = tempfile::tempdir().unwrap();
    std::fs::write(project.path().join("template.yaml"), ROOT).unwrap();
    std::fs::write(project.path().join("child.yaml"), CHILD).unwrap();
    let cloud =
        Cloud::open(Settings::for_tests(), Clock::manual(1_000), Random::seeded(1), SERVICES).unwrap();
    let application = local_cloud::project::load(
        project.path(),
        "template.yaml",
        "app",
        &Default::default(),
        &cloud.settings,
        "http://127.0.0.1:3000",
        "http://127.0.0.1:4566",
    )
    .unwrap();
    deploy::deploy(&cloud, &application).await.unwrap();
    publish(&cloud, application.clone()).unwrap();
    (cloud, application)
}

async fn answer(cloud: &Arc<Cloud>, action: &str, input: Value) -> Value {
    cloud.call("cloudformation", action, input).await.unwrap()
}

#[tokio::test]
async fn describe_stacks_shows_parameters_outputs_and_tags() {
    let (cloud, application) = deployed().await;
    let id = &application.stacks[0].id;
    for name in ["app", id] {
        assert_eq!(
            answer(&cloud, "DescribeStacks", json!({ "StackName": name })).await,
            json!({ "Stacks": [{
                    "StackId": id,
                    "StackName": "app",
                    "Description": "the whole",
                    "Parameters": [
                    { "ParameterKey": "Stage", "ParameterValue": "local" },
                    { "ParameterKey": "Word", "ParameterValue": "****" },
                ],
                    "CreationTime": "1970-01-01T00:00:01.000Z",
                    "StackStatus": "CREATE_COMPLETE",
                    "Capabilities": ["CAPABILITY_AUTO_EXPAND", "CAPABILITY_NAMED_IAM"],
                    "NotificationARNs": [],
                    "RollbackConfiguration": {},
                    "DriftInformation": { "StackDriftStatus": "NOT_CHECKED" },
                    "DisableRollback": false,
                    "EnableTerminationProtection": false,
                    "Outputs": [{
                        "OutputKey": "RoleName",
                        "OutputValue": "r",
                        "Description": "its name",
                        "ExportName": "role-name",
                    }],
                    "Tags": [],
                }] })
        );
    }
    let all = answer(&cloud, "DescribeStacks", json!({})).await;
    let child = &all["Stacks"][1];
    assert_eq!((&child["ParentId"], &child["RootId"]), (&json!(id), &json!(id)));
    assert_eq!(child["Tags"][1], json!({ "Key": "Owner", "Value": "me" }));
}

#[tokio::test]
async fn an_unknown_stack_is_a_validation_error_in_the_words_of_aws() {
    let (cloud, _) = deployed().await;
    for action in ["DescribeStacks", "DescribeStackResources", "ListStackResources", "GetTemplate"] {
        let error = cloud.call("cloudformation", action, json!({ "StackName": "x" })).await.unwrap_err();
        assert_eq!((error.code.as_str(), error.status), ("ValidationError", 400));
        assert_eq!(error.message, "Stack with id x does not exist");
    }
}

#[tokio::test]
async fn the_resources_of_a_stack_are_listed_and_described() {
    let (cloud, application) = deployed().await;
    let resources = answer(&cloud, "DescribeStackResources", json!({ "StackName": "app" })).await;
    let ids: Vec<_> =
        resources["StackResources"].as_array().unwrap().iter().map(|r| &r["LogicalResourceId"]).collect();
    assert_eq!(ids, ["Child", "Role"]);
    assert_eq!(resources["StackResources"][0]["PhysicalResourceId"], json!(application.stacks[1].id));
    let owner = answer(&cloud, "DescribeStackResources", json!({ "PhysicalResourceId": "a" })).await;
    assert_eq!(owner["StackResources"][0]["StackId"], json!(application.stacks[1].id));
    let one = json!({ "StackName": "app", "LogicalResourceId": "Role" });
    let detail = answer(&cloud, "DescribeStackResource", one).await;
    assert_eq!(detail["StackResourceDetail"]["PhysicalResourceId"], "r");
    assert_eq!(detail["StackResourceDetail"]["Metadata"], r#"{"Why":"because"}"#);
    let missing = json!({ "StackName": "app", "LogicalResourceId": "Nobody" });
    let error = cloud.call("cloudformation", "DescribeStackResource", missing).await.unwrap_err();
    assert_eq!(error.message, "Resource Nobody does not exist for stack app");
    let listed = answer(&cloud, "ListStackResources", json!({ "StackName": "app" })).await;
    assert_eq!(listed["StackResourceSummaries"][1]["ResourceType"], "AWS::IAM::Role");
}

#[tokio::test]
async fn templates_and_stacks_are_listed() {
    let (cloud, _) = deployed().await;
    assert_eq!(answer(&cloud, "GetTemplate", json!({ "StackName": "app" })).await["TemplateBody"], ROOT);
    let all = answer(&cloud, "ListStacks", json!({})).await;
    assert_eq!(all["StackSummaries"].as_array().map(Vec::len), Some(2));
    let none = answer(&cloud, "ListStacks", json!({ "StackStatusFilter": ["DELETE_COMPLETE"] })).await;
    assert_eq!(none, json!({ "StackSummaries": [] }));
}

#[tokio::test]
async fn a_member_that_is_not_emulated_and_a_missing_one_are_refused() {
    let (cloud, _) = deployed().await;
    let error = cloud.call("cloudformation", "ListStacks", json!({ "Colour": 1 })).await.unwrap_err();
    assert!(error.message.contains("Colour"), "{error}");
    let error = cloud.call("cloudformation", "ListStackResources", json!({})).await.unwrap_err();
    assert!(error.message.contains("'stackName' failed to satisfy constraint"), "{error}");
    for action in ["CreateStack", "ListExports"] {
        let error = cloud.call("cloudformation", action, json!({})).await.unwrap_err();
        assert_eq!(error.code, "NotImplemented");
    }
}

#[tokio::test]
async fn a_stack_keeps_its_creation_time_over_a_restart() {
    let (cloud, application) = deployed().await;
    cloud.clock.advance(std::time::Duration::from_secs(60));
    publish(&cloud, application).unwrap();
    let described = answer(&cloud, "DescribeStacks", json!({ "StackName": "app" })).await;
    assert_eq!(described["Stacks"][0]["CreationTime"], "1970-01-01T00:00:01.000Z");
}

#[tokio::test]
async fn the_events_of_a_stack_tell_of_each_resource_and_the_newest_stands_first() {
    let (cloud, application) = deployed().await;
    let answer = answer(&cloud, "DescribeStackEvents", json!({ "StackName": "app" })).await;
    let events = answer["StackEvents"].as_array().unwrap();
    let described: Vec<_> = events
        .iter()
        .map(|event| {
            (event["LogicalResourceId"].as_str().unwrap(), event["ResourceStatus"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        described,
        [
            ("app", "CREATE_COMPLETE"),
            ("Role", "CREATE_COMPLETE"),
            ("Role", "CREATE_IN_PROGRESS"),
            ("Child", "CREATE_COMPLETE"),
            ("Child", "CREATE_IN_PROGRESS"),
            ("app", "CREATE_IN_PROGRESS"),
        ]
    );
    assert_eq!(events[0]["PhysicalResourceId"], json!(application.stacks[0].id));
    assert_eq!(events[5]["ResourceStatusReason"], "User Initiated");
    assert_eq!(events[1]["Timestamp"], "1970-01-01T00:00:01.000Z");
    let ids: std::collections::BTreeSet<_> =
        events.iter().map(|event| event["EventId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), events.len());
    let error =
        cloud.call("cloudformation", "DescribeStackEvents", json!({ "StackName": "x" })).await.unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("ValidationError", "Stack [x] does not exist")
    );
}

#[tokio::test]
async fn the_summary_of_a_template_tells_its_parameters_types_and_capabilities() {
    let (cloud, _) = deployed().await;
    let summary = answer(&cloud, "GetTemplateSummary", json!({ "StackName": "app" })).await;
    assert_eq!(
        summary,
        json!({
            "Parameters": [{
                "ParameterKey": "Stage",
                "DefaultValue": "local",
                "ParameterType": "String",
                "NoEcho": false,
                "ParameterConstraints": { "AllowedValues": [] },
            }, {
                "ParameterKey": "Word",
                "ParameterType": "String",
                "NoEcho": true,
                "ParameterConstraints": { "AllowedValues": [] },
            }],
            "Description": "the whole",
            "ResourceTypes": ["AWS::IAM::Role", "AWS::Serverless::Application"],
            "DeclaredTransforms": ["AWS::Serverless-2016-10-31"],
            "Capabilities": ["CAPABILITY_NAMED_IAM"],
            "CapabilitiesReason": "The following resource(s) require capabilities: [AWS::IAM::Role]",
        })
    );
}
