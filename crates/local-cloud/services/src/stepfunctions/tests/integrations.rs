//! Workflows against the other services of the local cloud, nothing stubbed.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use cloud_core::Cloud;
use cloud_core::resource::Resource;
use serde_json::{Value, json};

use super::resume as start;

fn resource(kind: &str, name: &str, arn: &str, properties: Value) -> Resource {
    Resource {
        stack: "s".into(),
        logical_id: "It".into(),
        kind: kind.into(),
        physical_id: name.into(),
        arn: arn.into(),
        properties,
        metadata: Value::Null,
        file: "template.yaml".into(),
    }
}

async fn run(cloud: &Arc<Cloud>, name: &str, states: Value, logging: Value) -> Value {
    let arn = cloud.arn("states", &format!("stateMachine:{name}"));
    let definition = json!({"QueryLanguage": "JSONata", "StartAt": "A", "States": states});
    let properties =
        json!({"StateMachineName": name, "Definition": definition, "LoggingConfiguration": logging});
    cloud.deploy(&resource("AWS::StepFunctions::StateMachine", &arn, &arn, properties)).await.unwrap();
    let started = cloud.call("states", "StartExecution", json!({"stateMachineArn": arn})).await.unwrap();
    let ended = async {
        loop {
            let input = json!({"executionArn": started["executionArn"]});
            let described = cloud.call("states", "DescribeExecution", input).await.unwrap();
            if described["status"] != "RUNNING" {
                return described;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap()
}

fn output(described: &Value) -> Value {
    assert_eq!(described["status"], "SUCCEEDED", "{described}");
    serde_json::from_str(described["output"].as_str().unwrap()).unwrap()
}

fn sdk(action: &str, arguments: Value, next: &str) -> Value {
    json!({"Type": "Task", "Resource": format!("arn:aws:states:::{action}"), "Arguments": arguments,
        "Next": next, "TimeoutSeconds": 20, "Output": "{% $states.result %}",
        "Catch": [{"ErrorEquals": ["States.ALL"], "Next": next, "Output": "{% $states.errorOutput.Error %}"}]})
}

async fn put_image(cloud: &Arc<Cloud>, key: &str) {
    let body = base64::engine::general_purpose::STANDARD.encode(b"\x89PNG\r\n\x1a\n picture");
    let input = json!({"Bucket": "images", "Key": key, "Body": body});
    cloud.call("s3", "PutObject", input).await.unwrap();
}

#[tokio::test]
async fn images_and_texts_are_judged_through_the_sdk_integrations() {
    let cloud = crate::testing::cloud();
    start(&cloud);
    let bucket = resource("AWS::S3::Bucket", "images", "arn:aws:s3:::images", json!({}));
    cloud.deploy(&bucket).await.unwrap();
    put_image(&cloud, "house.png").await;
    put_image(&cloud, "unsafe.png").await;
    let judge = |key: &str, next: &str| {
        let image = json!({"Image": {"S3Object": {"Bucket": "images", "Name": key}}});
        let mut state = sdk("aws-sdk:rekognition:detectModerationLabels", image, next);
        state["Output"] = json!("{% $count($states.result.ModerationLabels) %}");
        state["Assign"] =
            json!({key.split('.').next().unwrap(): "{% $count($states.result.ModerationLabels) %}"});
        state
    };
    let mut missing = judge("none.png", "H");
    missing["Catch"][0]["Assign"] = json!({"none": "{% $states.errorOutput.Error %}"});
    let states = json!({
        "A": judge("house.png", "B"),
        "B": judge("unsafe.png", "C"),
        "C": missing,
        "H": sdk("aws-sdk:s3:headObject", json!({"Bucket": "images", "Key": "none.png"}), "T"),
        "T": {"Type": "Pass", "Assign": {"head": "{% $states.input %}"}, "Next": "S"},
        "S": sdk("aws-sdk:comprehend:detectSentiment", json!({"Text": "An ugly ruin.", "LanguageCode": "en"}), "E"),
        "E": {"Type": "Succeed",
            "Output": "{% [$house, $unsafe, $none, $head, $states.input.Sentiment] %}"},
    });
    let described = run(&cloud, "Judge", states, json!({"Level": "OFF"})).await;
    assert_eq!(
        output(&described),
        json!([0, 2, "Rekognition.InvalidS3ObjectException", "S3.NoSuchKeyException", "NEGATIVE"])
    );
}

#[tokio::test]
async fn a_condition_that_fails_in_the_table_has_the_name_of_each_integration() {
    let cloud = crate::testing::cloud();
    start(&cloud);
    let table = json!({
        "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
    });
    let arn = cloud.arn("dynamodb", "table/claims");
    cloud.deploy(&resource("AWS::DynamoDB::Table", "claims", &arn, table)).await.unwrap();
    let claim = json!({"TableName": "claims", "Item": {"pk": {"S": "r"}},
        "ConditionExpression": "attribute_not_exists(pk)"});
    let states = json!({
        "A": sdk("dynamodb:putItem", claim.clone(), "B"),
        "B": sdk("dynamodb:putItem", claim.clone(), "C"),
        "C": {"Type": "Pass", "Assign": {"optimised": "{% $states.input %}"}, "Next": "D"},
        "D": sdk("aws-sdk:dynamodb:putItem", claim, "E"),
        "E": {"Type": "Succeed", "Output": "{% [$optimised, $states.input] %}"},
    });
    let described = run(&cloud, "Claim", states, json!({"Level": "OFF"})).await;
    assert_eq!(
        output(&described),
        json!(["DynamoDB.ConditionalCheckFailedException", "DynamoDb.ConditionalCheckFailedException"])
    );
}

#[tokio::test]
async fn the_history_is_logged_without_data_unless_data_is_asked_for() {
    let cloud = crate::testing::cloud();
    start(&cloud);
    let lines = async |group: &str| {
        let input = json!({"logGroupName": group});
        let found = cloud.call("logs", "FilterLogEvents", input).await.unwrap();
        let events = found["events"].as_array().unwrap().clone();
        events
            .iter()
            .map(|event| serde_json::from_str::<Value>(event["message"].as_str().unwrap()).unwrap())
            .collect::<Vec<Value>>()
    };
    for (name, with_data) in [("Open", true), ("Closed", false)] {
        let group = format!("/aws/vendedlogs/{name}");
        let arn = crate::logs::group_arn(&cloud, &group);
        let logging = json!({"Level": "ALL", "IncludeExecutionData": with_data,
            "Destinations": [{"CloudWatchLogsLogGroup": {"LogGroupArn": arn}}]});
        let states = json!({"A": {"Type": "Pass", "Output": "secret", "End": true}});
        run(&cloud, name, states, logging).await;
        let lines = lines(&group).await;
        let kinds: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["ExecutionStarted", "PassStateEntered", "PassStateExited", "ExecutionSucceeded"]);
        assert_eq!(Value::from(lines).to_string().contains("secret"), with_data);
    }
}
