//! The permissions that requests need, and the capacity that each caller consumes.

// clippy.toml allows these in tests, but not in helpers of integration tests.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use cloud_core::calls::{self, Call, Units};
use cloud_core::clock::Clock;
use cloud_core::random::Random;
use cloud_core::service::Request;
use cloud_core::{Cloud, Settings};
use local_cloud::services::SERVICES;
use serde_json::{Value, json};

fn cloud() -> Arc<Cloud> {
    Cloud::open(Settings::for_tests(), Clock::system(), Random::seeded(1), SERVICES).unwrap()
}

/// The permissions that a request needs.
fn of(service: &str, action: &str, input: Value) -> Vec<(String, String)> {
    let cloud = cloud();
    let needs = cloud.action(service, action).unwrap().needs;
    needs(&cloud, Request { service, action, input: &input })
}

fn one(action: &str, resource: &str) -> Vec<(String, String)> {
    vec![(action.into(), resource.into())]
}

#[test]
fn the_parts_of_a_transaction_need_the_permissions_of_the_single_actions() {
    let parts = json!({"TransactItems": [
        {"Put": {"TableName": "a"}}, {"Update": {"TableName": "b"}},
        {"Delete": {"TableName": "arn:aws:dynamodb:us-east-1:123456789012:table/c"}},
        {"ConditionCheck": {"TableName": "d"}},
    ]});
    let table = |name: &str| format!("arn:aws:dynamodb:us-east-1:123456789012:table/{name}");
    let expected = ["PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem"]
        .iter()
        .zip(["a", "b", "c", "d"])
        .map(|(action, name)| (format!("dynamodb:{action}"), table(name)));
    assert_eq!(of("dynamodb", "TransactWriteItems", parts), expected.collect::<Vec<_>>());
    let gets = json!({"TransactItems": [{"Get": {"TableName": "a"}}]});
    assert_eq!(of("dynamodb", "TransactGetItems", gets), one("dynamodb:GetItem", &table("a")));
    let batch = json!({"RequestItems": {"a": []}});
    assert_eq!(of("dynamodb", "BatchWriteItem", batch), one("dynamodb:BatchWriteItem", &table("a")));
    let query = json!({"TableName": "a", "IndexName": "i"});
    assert_eq!(of("dynamodb", "Query", query), one("dynamodb:Query", &(table("a") + "/index/i")));
}

#[test]
fn a_request_needs_the_permission_that_a_policy_can_name() {
    let queue = json!({"QueueUrl": "http://127.0.0.1:4566/123456789012/q"});
    let q = "arn:aws:sqs:us-east-1:123456789012:q";
    assert_eq!(of("sqs", "ChangeMessageVisibilityBatch", queue), one("sqs:ChangeMessageVisibility", q));
    let entries = json!({"Entries": [{"EventBusName": "b"}]});
    let bus = "arn:aws:events:us-east-1:123456789012:event-bus/b";
    assert_eq!(of("events", "PutEvents", entries), one("events:PutEvents", bus));
    let entries = json!({"Entries": [{"EventBusName": bus}]});
    assert_eq!(
        of("events", "PutEvents", entries),
        one("events:PutEvents", bus),
        "by its ARN, as a pipe names it"
    );
    let function = json!({"FunctionName": "f"});
    let f = "arn:aws:lambda:us-east-1:123456789012:function:f";
    assert_eq!(of("lambda", "Invoke", function), one("lambda:InvokeFunction", f));
    let object = json!({"Bucket": "images", "Key": "a/b.png"});
    assert_eq!(of("s3", "HeadObject", object), one("s3:GetObject", "arn:aws:s3:::images/a/b.png"));
    let bucket = json!({"Bucket": "images"});
    assert_eq!(of("s3", "ListObjectsV2", bucket), one("s3:ListBucket", "arn:aws:s3:::images"));
    assert_eq!(of("comprehend", "DetectSentiment", json!({})), one("comprehend:DetectSentiment", "*"));
}

#[tokio::test]
async fn only_calls_in_somebodys_name_are_recorded_and_counted() {
    let cloud = cloud();
    let list = || cloud.call("s3", "ListObjectsV2", json!({"Bucket": "images"}));
    let _ = list().await;
    assert!(cloud.calls.made().is_empty());
    calls::by("me", async { (list().await, list().await) }).await.0.unwrap_err();
    let call = Call {
        principal: "me".into(),
        action: "s3:ListBucket".into(),
        resource: "arn:aws:s3:::images".into(),
    };
    assert_eq!(cloud.calls.made(), BTreeMap::from([(call, 2)]));
}

#[tokio::test]
async fn a_call_is_in_the_name_of_the_one_in_whose_name_it_runs() {
    let cloud = cloud();
    // The call is made here, and runs there.
    let call = cloud.call("s3", "ListObjectsV2", json!({"Bucket": "images"}));
    calls::by("me", call).await.unwrap_err();
    assert_eq!(cloud.calls.made().keys().map(|call| call.principal.as_str()).collect::<Vec<_>>(), ["me"]);
}

#[tokio::test]
async fn what_a_table_charges_is_added_up_and_not_shown_to_who_has_not_asked() {
    let cloud = cloud();
    let call = |action, input| cloud.call("dynamodb", action, input);
    let table = json!({
        "TableName": "items", "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
    });
    call("CreateTable", table).await.unwrap();
    let item = json!({"pk": {"S": "1"}, "text": {"S": "x".repeat(1_500)}});
    let put = json!({"TransactItems": [{"Put": {"TableName": "items", "Item": item}}]});
    let get = json!({"TableName": "items", "Key": {"pk": {"S": "1"}}});
    let asked = json!({"TableName": "items", "Key": {"pk": {"S": "1"}}, "ConsistentRead": true, "ReturnConsumedCapacity": "TOTAL"});
    calls::by("me", async {
        call("TransactWriteItems", put).await.unwrap();
        assert_eq!(call("GetItem", get).await.unwrap(), json!({"Item": item}));
        assert_eq!(call("GetItem", asked).await.unwrap()["ConsumedCapacity"]["CapacityUnits"], 1.0);
    })
    .await;
    let table = "arn:aws:dynamodb:us-east-1:123456789012:table/items".to_owned();
    // 1,500 bytes cost two units, and four in a transaction.
    let expected = BTreeMap::from([(("me".to_owned(), table), Units { read: 1.5, write: 4.0 })]);
    assert_eq!(cloud.calls.units(), expected);
}
