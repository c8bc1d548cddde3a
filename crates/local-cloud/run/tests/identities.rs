//! What `Ref` and `Fn::GetAtt` give for each type, according to its reference page.

// clippy.toml allows these in tests, but not in helpers of integration tests.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use cloud_core::Settings;
use cloud_languages::template::identity::{Names, Owner, identify};
use local_cloud::project::identity as find;

fn identity(kind: &str, name: Option<&str>, properties: &[(&'static str, &str)]) -> Names {
    let settings = Settings::for_tests();
    let owner = Owner { settings: &settings, stack_name: "uni-prop-local", logical_id: "Thing" };
    let properties = properties.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    identify(find(kind).unwrap(), owner, name.map(str::to_owned), &properties)
}

#[test]
fn ref_and_arn_are_what_each_types_reference_page_says() {
    for (kind, name, physical_id, arn) in [
        ("AWS::DynamoDB::Table", "t", "t", "arn:aws:dynamodb:us-east-1:123456789012:table/t"),
        (
            "AWS::SQS::Queue",
            "q",
            "https://sqs.us-east-1.amazonaws.com/123456789012/q",
            "arn:aws:sqs:us-east-1:123456789012:q",
        ),
        ("AWS::Lambda::Function", "f", "f", "arn:aws:lambda:us-east-1:123456789012:function:f"),
        (
            "AWS::StepFunctions::StateMachine",
            "s",
            "arn:aws:states:us-east-1:123456789012:stateMachine:s",
            "arn:aws:states:us-east-1:123456789012:stateMachine:s",
        ),
        ("AWS::Logs::LogGroup", "/a/b", "/a/b", "arn:aws:logs:us-east-1:123456789012:log-group:/a/b:*"),
        ("AWS::S3::Bucket", "b", "b", "arn:aws:s3:::b"),
        ("AWS::Pipes::Pipe", "p", "p", "arn:aws:pipes:us-east-1:123456789012:pipe/p"),
        (
            "AWS::IAM::ManagedPolicy",
            "p",
            "arn:aws:iam::123456789012:policy/p",
            "arn:aws:iam::123456789012:policy/p",
        ),
        ("AWS::IAM::Role", "r", "r", "arn:aws:iam::123456789012:role/r"),
        ("AWS::SSM::Parameter", "/x/y", "/x/y", "arn:aws:ssm:us-east-1:123456789012:parameter/x/y"),
        (
            "AWS::EventSchemas::Registry",
            "g",
            "arn:aws:schemas:us-east-1:123456789012:registry/g",
            "arn:aws:schemas:us-east-1:123456789012:registry/g",
        ),
    ] {
        let identity = identity(kind, Some(name), &[]);
        assert_eq!((identity.physical_id.as_str(), identity.arn.as_str()), (physical_id, arn), "{kind}");
    }
}

#[test]
fn a_rules_arn_holds_its_bus_unless_that_is_the_default_one() {
    let arn = |bus| identity("AWS::Events::Rule", Some("r"), &[("EventBusName", bus)]).arn;
    assert_eq!(arn("b"), "arn:aws:events:us-east-1:123456789012:rule/b/r");
    assert_eq!(
        arn("arn:aws:events:us-east-1:123456789012:event-bus/b"),
        "arn:aws:events:us-east-1:123456789012:rule/b/r"
    );
    assert_eq!(arn("default"), "arn:aws:events:us-east-1:123456789012:rule/r");
}

#[test]
fn a_made_up_name_is_stable_and_not_too_long() {
    let first = identity("AWS::Lambda::Function", None, &[]);
    assert!(first.name.starts_with("uni-prop-local-Thing-"), "{}", first.name);
    assert_eq!(first, identity("AWS::Lambda::Function", None, &[]));
    let settings = Settings::for_tests();
    let owner = Owner {
        settings: &settings,
        stack_name: "uni-prop-local-PropertiesService-ABCDEFGHIJKL",
        logical_id: "WaitForContractApprovalFunction",
    };
    let row = find("AWS::Lambda::Function").unwrap();
    let name = identify(row, owner, None, &BTreeMap::new()).name;
    assert!(name.len() <= 64 && name.contains("WaitForContractApprovalF"), "{name}");
    let bucket = identity("AWS::S3::Bucket", None, &[]).name;
    assert_eq!(bucket, bucket.to_lowercase());
}
