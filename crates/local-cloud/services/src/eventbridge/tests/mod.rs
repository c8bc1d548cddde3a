//! Events, and what the tests of rules, deliveries and archives share.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use cloud_core::Settings;
use cloud_core::clock::Clock;
use cloud_core::random::Random;
use cloud_core::resource::Resource;
use serde_json::{Value, json};

use super::*;

mod archives;
mod deliveries;
mod rules_and_targets;

const NOW: i64 = 1_800_000_000_123;
const QUEUE: &str = "arn:aws:sqs:us-east-1:123456789012:seen";
const DEAD: &str = "arn:aws:sqs:us-east-1:123456789012:dead";
const GROUP: &str = "arn:aws:logs:us-east-1:123456789012:log-group:/catchall:*";

fn manual() -> Arc<Cloud> {
    crate::testing::open(Settings::for_tests(), Clock::manual(NOW), Random::seeded(1)).unwrap()
}

async fn ok(cloud: &Arc<Cloud>, action: &str, input: Value) -> Value {
    cloud.call("events", action, input).await.unwrap()
}

async fn error(cloud: &Arc<Cloud>, action: &str, input: Value) -> AwsError {
    cloud.call("events", action, input).await.unwrap_err()
}

async fn queue(cloud: &Arc<Cloud>, name: &str) -> String {
    let queue = cloud.call("sqs", "CreateQueue", json!({ "QueueName": name })).await.unwrap();
    queue["QueueUrl"].as_str().unwrap().to_owned()
}

/// The messages that a queue has, or gets within a few seconds.
async fn receive(cloud: &Arc<Cloud>, url: &str) -> Vec<Value> {
    let input = json!({ "QueueUrl": url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 5, "MessageAttributeNames": ["All"] });
    let answer = cloud.call("sqs", "ReceiveMessage", input).await.unwrap();
    answer["Messages"].as_array().cloned().unwrap_or_default()
}

fn body(message: &Value) -> Value {
    serde_json::from_str(message["Body"].as_str().unwrap()).unwrap()
}

fn attribute<'a>(message: &'a Value, name: &str) -> &'a str {
    message["MessageAttributes"][name]["StringValue"].as_str().unwrap()
}

async fn rule(cloud: &Arc<Cloud>, bus: &str, name: &str, pattern: Value, targets: Value) {
    let input = json!({ "Name": name, "EventBusName": bus, "EventPattern": pattern.to_string() });
    ok(cloud, "PutRule", input).await;
    ok(cloud, "PutTargets", json!({ "Rule": name, "EventBusName": bus, "Targets": targets })).await;
}

async fn bus(cloud: &Arc<Cloud>, name: &str) {
    ok(cloud, "CreateEventBus", json!({ "Name": name })).await;
}

fn entry(bus: &str, detail: Value) -> Value {
    json!({ "EventBusName": bus, "Source": "app", "DetailType": "Changed", "Detail": detail.to_string(), "Resources": ["r"] })
}

async fn put(cloud: &Arc<Cloud>, bus: &str, detail: Value) -> String {
    let answer = ok(cloud, "PutEvents", json!({ "Entries": [entry(bus, detail)] })).await;
    assert_eq!(answer["FailedEntryCount"], 0);
    answer["Entries"][0]["EventId"].as_str().unwrap().to_owned()
}

fn resource(kind: &str, properties: Value) -> Resource {
    Resource {
        stack: "s".into(),
        logical_id: "It".into(),
        kind: kind.into(),
        physical_id: "it".into(),
        arn: String::new(),
        properties,
        metadata: Value::Null,
        file: "template.yaml".into(),
    }
}

fn app() -> Value {
    json!({ "source": ["app"] })
}

#[tokio::test]
async fn an_event_reaches_the_queue_of_a_matching_rule_in_its_envelope() {
    let cloud = crate::testing::cloud();
    let url = queue(&cloud, "seen").await;
    bus(&cloud, "b").await;
    rule(&cloud, "b", "r", app(), json!([{ "Id": "q", "Arn": QUEUE }])).await;
    start(&cloud);
    let id = put(&cloud, "arn:aws:events:eu-west-1:999999999999:event-bus/b", json!({ "a": 1 })).await;
    let messages = receive(&cloud, &url).await;
    let event = body(&messages[0]);
    assert_eq!(messages.len(), 1);
    assert_eq!(event["id"], id.as_str());
    assert_eq!(event["version"], "0");
    assert_eq!(event["detail-type"], "Changed");
    assert_eq!(event["account"], "123456789012");
    assert_eq!(event["region"], "us-east-1");
    assert_eq!(event["resources"], json!(["r"]));
    assert_eq!(event["detail"], json!({ "a": 1 }));
}

#[tokio::test]
async fn the_time_of_an_event_has_seconds_and_may_be_given() {
    let cloud = manual();
    let event = |time: Value| {
        let mut entry = entry("default", json!({}));
        entry["Time"] = time;
        json!({ "Entries": [entry] })
    };
    ok(&cloud, "PutRule", json!({ "Name": "r", "EventPattern": app().to_string() })).await;
    let targets = json!([{ "Id": "q", "Arn": QUEUE }]);
    ok(&cloud, "PutTargets", json!({ "Rule": "r", "Targets": targets })).await;
    ok(&cloud, "PutEvents", event(json!(1_700_000_000.5))).await;
    ok(&cloud, "PutEvents", event(json!("2026-11-23T18:22:06Z"))).await;
    put(&cloud, "default", json!({})).await;
    let due = cloud.store.read(|db| store::due(db, QUEUE, NOW, 9, &HashSet::new())).unwrap();
    let times: Vec<Value> = due
        .iter()
        .map(|delivery| serde_json::from_str::<Value>(&delivery.event).unwrap()["time"].clone())
        .collect();
    assert_eq!(times, ["2023-11-14T22:13:20Z", "2026-11-23T18:22:06Z", "2027-01-15T08:00:00Z"]);
    let bad = ok(&cloud, "PutEvents", event(json!("yesterday"))).await;
    assert_eq!(bad["Entries"][0]["ErrorCode"], "InvalidArgument");
}

#[tokio::test]
async fn each_entry_fails_on_its_own_with_a_code() {
    let cloud = manual();
    let bad = |member: &str, value: Value| {
        let mut entry = entry("default", json!({}));
        entry[member] = value;
        entry
    };
    let entries = json!([
        bad("Detail", json!("{")),
        bad("Detail", json!("[1]")),
        bad("Source", json!("aws.s3")),
        bad("DetailType", Value::Null),
        entry("default", json!({})),
    ]);
    let answer = ok(&cloud, "PutEvents", json!({ "Entries": entries })).await;
    assert_eq!(answer["FailedEntryCount"], 4);
    let codes: Vec<&Value> =
        answer["Entries"].as_array().unwrap().iter().map(|entry| &entry["ErrorCode"]).collect();
    assert_eq!(
        codes,
        [
            &json!("MalformedDetail"),
            &json!("MalformedDetail"),
            &json!("NotAuthorizedForSourceException"),
            &json!("InvalidArgument"),
            &Value::Null,
        ]
    );
    assert!(answer["Entries"][4]["EventId"].is_string());
}

#[tokio::test]
async fn put_events_takes_1_to_10_entries_of_less_than_1_mb_together() {
    let cloud = manual();
    let entries = |count: usize| json!({ "Entries": vec![entry("default", json!({})); count] });
    let none = error(&cloud, "PutEvents", entries(0)).await;
    assert_eq!(none.code, "ValidationException");
    assert!(none.message.ends_with("Member must have length greater than or equal to 1"), "{none}");
    let eleven = error(&cloud, "PutEvents", entries(11)).await.message;
    assert!(
        eleven
            .starts_with("1 validation error detected: Value '[PutEventsRequestEntry(time=null, source=app")
    );
    assert!(eleven.ends_with(
        "]' at 'entries' failed to satisfy constraint: Member must have length less than or equal to 10"
    ));
    ok(&cloud, "PutEvents", entries(10)).await;
    let large = |bytes: usize| json!({ "Entries": [entry("default", json!({ "x": "x".repeat(bytes) }))] });
    assert_eq!(error(&cloud, "PutEvents", large(1_048_576)).await.code, "ValidationException");
    ok(&cloud, "PutEvents", large(1_000_000)).await;
    let endpoint = json!({ "EndpointId": "a.b", "Entries": [entry("default", json!({}))] });
    assert!(error(&cloud, "PutEvents", endpoint).await.message.contains("EndpointId"));
}

#[tokio::test]
async fn an_event_for_a_bus_that_does_not_exist_gets_an_id_and_is_lost() {
    let cloud = manual();
    put(&cloud, "nowhere", json!({})).await;
    assert!(cloud.store.read(store::waiting_targets).unwrap().is_empty());
}

#[tokio::test]
async fn the_default_bus_is_always_there_and_gets_events_of_aws_services() {
    let cloud = manual();
    let buses = ok(&cloud, "ListEventBuses", json!({})).await;
    assert_eq!(buses["EventBuses"][0]["Arn"], "arn:aws:events:us-east-1:123456789012:event-bus/default");
    rule(&cloud, "default", "r", json!({ "source": ["aws.states"] }), json!([{ "Id": "q", "Arn": QUEUE }]))
        .await;
    let detail = json!({ "status": "FAILED" });
    let kind = "Step Functions Execution Status Change";
    publish_aws_events(&cloud, "aws.states", kind, vec![("x".into(), detail)], |_| Ok(())).await.unwrap();
    assert_eq!(cloud.store.read(store::waiting_targets).unwrap(), [QUEUE]);
}

async fn logged(cloud: &Arc<Cloud>) -> Vec<Value> {
    deliver_due(cloud, GROUP).await.unwrap();
    let seen = cloud.call("logs", "FilterLogEvents", json!({ "logGroupName": "/catchall" })).await.unwrap();
    let events = seen["events"].as_array().unwrap().iter();
    events.map(|event| serde_json::from_str(event["message"].as_str().unwrap()).unwrap()).collect()
}

/// The same state folder, opened as often as it takes.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Arc<Cloud> {
        let settings = Settings { state: Some(self.0.path().to_owned()), ..Settings::for_tests() };
        crate::testing::open(settings, Clock::manual(NOW), Random::seeded(1)).unwrap()
    }
}

/// Delivers what is due now and waits for it; false if nothing was due.
async fn deliver_due(cloud: &Arc<Cloud>, target_arn: &str) -> Result<bool, StoreError> {
    let now_ms = cloud.clock.now_ms();
    let due = cloud.store.read(|db| store::due(db, target_arn, now_ms, 1, &HashSet::new()))?;
    let mut calls = delivery::Calls::new(cloud, target_arn);
    loop {
        calls.start_due().await?;
        if calls.under_way.is_empty() {
            return Ok(!due.is_empty());
        }
        calls.settle_some().await?;
    }
}
