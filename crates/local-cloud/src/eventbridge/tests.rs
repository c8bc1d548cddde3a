use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::clock::Clock;
use crate::cloud::Settings;
use crate::random::Random;
use crate::{endpoint, logs};

const NOW: i64 = 1_800_000_000_123;
const QUEUE: &str = "arn:aws:sqs:us-east-1:123456789012:seen";
const DEAD: &str = "arn:aws:sqs:us-east-1:123456789012:dead";
const GROUP: &str = "arn:aws:logs:us-east-1:123456789012:log-group:/catchall:*";

fn manual() -> Arc<Cloud> {
    Cloud::open(Settings::for_tests(), Clock::manual(NOW), Random::seeded(1)).unwrap()
}

async fn ok(cloud: &Arc<Cloud>, action: &str, input: Value) -> Value {
    call(cloud, action, input).await.unwrap()
}

async fn error(cloud: &Arc<Cloud>, action: &str, input: Value) -> AwsError {
    call(cloud, action, input).await.unwrap_err()
}

async fn queue(cloud: &Arc<Cloud>, name: &str) -> String {
    let queue = endpoint::call(cloud, "sqs", "CreateQueue", json!({ "QueueName": name })).await.unwrap();
    queue["QueueUrl"].as_str().unwrap().to_owned()
}

/// The messages that a queue has, or gets within a few seconds.
async fn receive(cloud: &Arc<Cloud>, url: &str) -> Vec<Value> {
    let input = json!({ "QueueUrl": url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 5, "MessageAttributeNames": ["All"] });
    let answer = endpoint::call(cloud, "sqs", "ReceiveMessage", input).await.unwrap();
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
    let cloud = Cloud::for_tests().unwrap();
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
    let due = cloud.store.read(|db| store::due(db, QUEUE, NOW, 9)).unwrap();
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
    assert_eq!(error(&cloud, "PutEvents", entries(0)).await.code, "ValidationException");
    assert_eq!(error(&cloud, "PutEvents", entries(11)).await.code, "ValidationException");
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
async fn an_event_sent_to_another_bus_keeps_its_id_and_goes_to_no_third_bus() {
    let cloud = Cloud::for_tests().unwrap();
    let url = queue(&cloud, "seen").await;
    for name in ["a", "b", "c"] {
        bus(&cloud, name).await;
    }
    let to = |bus: &str| json!({ "Id": bus, "Arn": bus::bus_arn(&cloud, bus) });
    rule(&cloud, "a", "r", app(), json!([to("b")])).await;
    rule(&cloud, "b", "r", app(), json!([to("c"), { "Id": "q", "Arn": QUEUE }])).await;
    rule(&cloud, "c", "r", app(), json!([{ "Id": "q", "Arn": QUEUE, "Input": "\"third\"" }])).await;
    start(&cloud);
    let id = put(&cloud, "a", json!({})).await;
    let messages = receive(&cloud, &url).await;
    assert_eq!(messages.len(), 1);
    assert_eq!(body(&messages[0])["id"], id.as_str());
    assert!(cloud.store.read(store::waiting_targets).unwrap().iter().all(|arn| !arn.ends_with("/c")));
}

#[tokio::test]
async fn a_log_group_target_gets_the_event_as_its_message() {
    let cloud = manual();
    logs::call(&cloud, "CreateLogGroup", json!({ "logGroupName": "/catchall" })).await.unwrap();
    rule(&cloud, "default", "all", app(), json!([{ "Id": "l", "Arn": GROUP }])).await;
    let id = put(&cloud, "default", json!({ "n": 1 })).await;
    assert!(delivery::deliver_due(&cloud, GROUP).await.unwrap());
    let found = json!({ "logGroupName": "/catchall", "filterPattern": format!("{{ $.id = \"{id}\" }}") });
    let found = logs::call(&cloud, "FilterLogEvents", found).await.unwrap();
    assert_eq!(found["events"].as_array().unwrap().len(), 1);
    assert_eq!(found["events"][0]["timestamp"], NOW);
}

#[tokio::test]
async fn an_event_for_a_missing_target_is_dead_lettered_at_once() {
    let cloud = manual();
    let url = queue(&cloud, "dead").await;
    let target = json!([{ "Id": "l", "Arn": GROUP, "DeadLetterConfig": { "Arn": DEAD } }]);
    rule(&cloud, "default", "all", app(), target).await;
    let id = put(&cloud, "default", json!({})).await;
    assert!(delivery::deliver_due(&cloud, GROUP).await.unwrap());
    let messages = receive(&cloud, &url).await;
    assert_eq!(body(&messages[0])["id"], id.as_str());
    assert_eq!(attribute(&messages[0], "RULE_ARN"), "arn:aws:events:us-east-1:123456789012:rule/all");
    assert_eq!(attribute(&messages[0], "TARGET_ARN"), GROUP);
    assert_eq!(attribute(&messages[0], "ERROR_CODE"), "NO_RESOURCE");
    assert!(attribute(&messages[0], "ERROR_MESSAGE").contains("log group"));
    assert_eq!(attribute(&messages[0], "RETRY_ATTEMPTS"), "0");
    assert!(messages[0]["MessageAttributes"].get("EXHAUSTED_RETRY_CONDITION").is_none());
}

/// A log group that fails like a service in trouble.
async fn failing_group(cloud: &Arc<Cloud>, policy: Value) {
    logs::call(cloud, "CreateLogGroup", json!({ "logGroupName": "/catchall" })).await.unwrap();
    cloud.store.migrate("ALTER TABLE log_events RENAME TO hidden").unwrap();
    let target =
        json!([{ "Id": "l", "Arn": GROUP, "RetryPolicy": policy, "DeadLetterConfig": { "Arn": DEAD } }]);
    rule(cloud, "default", "all", app(), target).await;
}

#[tokio::test]
async fn a_failing_target_is_retried_with_growing_delays_and_then_dead_lettered() {
    let cloud = manual();
    let url = queue(&cloud, "dead").await;
    failing_group(&cloud, json!({ "MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 600 })).await;
    put(&cloud, "default", json!({})).await;
    let mut delays = Vec::new();
    while let Some(due_ms) = cloud.store.read(|db| store::next_due(db, GROUP)).unwrap() {
        let delay_ms = due_ms - cloud.clock.now_ms();
        delays.push(delay_ms);
        cloud.clock.advance(Duration::from_millis(delay_ms as u64));
        assert!(delivery::deliver_due(&cloud, GROUP).await.unwrap());
    }
    assert_eq!(delays.len(), 3);
    assert_eq!(delays[0], 0);
    assert!((500..=1_000).contains(&delays[1]), "{delays:?}");
    assert!((1_000..=2_000).contains(&delays[2]), "{delays:?}");
    let messages = receive(&cloud, &url).await;
    assert_eq!(attribute(&messages[0], "EXHAUSTED_RETRY_CONDITION"), "MaximumRetryAttempts");
    assert_eq!(attribute(&messages[0], "RETRY_ATTEMPTS"), "2");
    assert_eq!(attribute(&messages[0], "ERROR_CODE"), "INTERNAL_ERROR");
}

#[tokio::test]
async fn an_event_that_is_too_old_is_dead_lettered_for_its_age() {
    let cloud = manual();
    let url = queue(&cloud, "dead").await;
    failing_group(&cloud, json!({ "MaximumEventAgeInSeconds": 60 })).await;
    put(&cloud, "default", json!({})).await;
    delivery::deliver_due(&cloud, GROUP).await.unwrap();
    cloud.clock.advance(Duration::from_secs(60));
    delivery::deliver_due(&cloud, GROUP).await.unwrap();
    let messages = receive(&cloud, &url).await;
    assert_eq!(attribute(&messages[0], "EXHAUSTED_RETRY_CONDITION"), "MaximumEventAgeInSeconds");
    assert_eq!(attribute(&messages[0], "RETRY_ATTEMPTS"), "1");
}

#[tokio::test]
async fn a_target_that_recovers_gets_the_event() {
    let cloud = manual();
    failing_group(&cloud, json!({})).await;
    put(&cloud, "default", json!({})).await;
    delivery::deliver_due(&cloud, GROUP).await.unwrap();
    cloud.store.migrate("ALTER TABLE hidden RENAME TO log_events").unwrap();
    cloud.clock.advance(Duration::from_secs(1));
    delivery::deliver_due(&cloud, GROUP).await.unwrap();
    let seen = logs::call(&cloud, "FilterLogEvents", json!({ "logGroupName": "/catchall" })).await.unwrap();
    assert_eq!(seen["events"].as_array().unwrap().len(), 1);
    assert!(cloud.store.read(store::waiting_targets).unwrap().is_empty());
}

#[tokio::test]
async fn a_target_in_trouble_does_not_delay_another() {
    let cloud = Cloud::for_tests().unwrap();
    let url = queue(&cloud, "seen").await;
    failing_group(&cloud, json!({})).await;
    ok(&cloud, "PutTargets", json!({ "Rule": "all", "Targets": [{ "Id": "q", "Arn": QUEUE }] })).await;
    start(&cloud);
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(put(&cloud, "default", json!({ "n": n })).await);
    }
    let mut seen = Vec::new();
    while seen.len() < 5 {
        let messages = receive(&cloud, &url).await;
        assert!(!messages.is_empty(), "only {seen:?} came");
        seen.extend(messages.iter().map(|message| body(message)["id"].as_str().unwrap().to_owned()));
    }
    seen.sort();
    ids.sort();
    assert_eq!(seen, ids);
    assert_eq!(cloud.store.read(store::waiting_targets).unwrap(), [GROUP]);
}

#[tokio::test]
async fn a_state_machine_target_is_started_once_with_the_event_as_its_input() {
    let cloud = manual();
    let machine = json!({
        "StateMachineName": "m", "RoleArn": "arn:aws:iam::123456789012:role/m",
        "Definition": { "QueryLanguage": "JSONata", "StartAt": "Done", "States": { "Done": { "Type": "Succeed" } } },
    });
    let arn = "arn:aws:states:us-east-1:123456789012:stateMachine:m";
    let machine = Resource {
        physical_id: arn.into(),
        arn: arn.into(),
        ..resource("AWS::StepFunctions::StateMachine", machine)
    };
    crate::stepfunctions::deploy(&cloud, &machine).await.unwrap();
    rule(&cloud, "default", "r", app(), json!([{ "Id": "m", "Arn": arn }])).await;
    let id = put(&cloud, "default", json!({ "n": 1 })).await;
    let due = cloud.store.read(|db| store::due(db, arn, NOW, 9)).unwrap();
    assert!(delivery::deliver_due(&cloud, arn).await.unwrap());
    // Killed before the delivery was settled: it is tried again, and starts nothing new.
    let again = &due[0];
    cloud
        .store
        .write(|tx| store::add_delivery(tx, &again.target, &again.rule_arn, &again.event, NOW))
        .unwrap();
    cloud.store.write(|tx| tx.execute("UPDATE events_deliveries SET id = ?1", [again.id])).unwrap();
    assert!(delivery::deliver_due(&cloud, arn).await.unwrap());
    let list =
        endpoint::call(&cloud, "states", "ListExecutions", json!({ "stateMachineArn": arn })).await.unwrap();
    let executions = list["executions"].as_array().unwrap();
    assert_eq!(executions.len(), 1);
    let execution = json!({ "executionArn": executions[0]["executionArn"] });
    let described = endpoint::call(&cloud, "states", "DescribeExecution", execution).await.unwrap();
    let input: Value = serde_json::from_str(described["input"].as_str().unwrap()).unwrap();
    assert_eq!(input["id"], id.as_str());
}

#[tokio::test]
async fn an_accepted_event_is_delivered_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let settings = Settings { state: Some(folder.path().to_owned()), ..Settings::for_tests() };
        Cloud::open(settings, Clock::system(), Random::seeded(1)).unwrap()
    };
    let cloud = open();
    queue(&cloud, "seen").await;
    rule(&cloud, "default", "r", app(), json!([{ "Id": "q", "Arn": QUEUE }])).await;
    let id = put(&cloud, "default", json!({})).await;
    drop(cloud);
    let cloud = open();
    start(&cloud);
    let url = queue(&cloud, "seen").await;
    assert_eq!(body(&receive(&cloud, &url).await[0])["id"], id.as_str());
}

#[tokio::test]
async fn a_replay_sends_archived_events_again_with_its_name_and_archives_none_of_them() {
    let cloud = Cloud::for_tests().unwrap();
    let url = queue(&cloud, "seen").await;
    bus(&cloud, "b").await;
    let archive = json!({ "ArchiveName": "arch", "SourceArn": bus::bus_arn(&cloud, "b"), "EventPattern": app(), "RetentionDays": 7 });
    deploy(&cloud, &resource("AWS::Events::Archive", archive)).await.unwrap();
    let id = put(&cloud, "b", json!({ "n": 1 })).await;
    start(&cloud);
    rule(&cloud, "b", "wanted", app(), json!([{ "Id": "q", "Arn": QUEUE }])).await;
    rule(&cloud, "b", "other", app(), json!([{ "Id": "q", "Arn": QUEUE, "Input": "{}" }])).await;
    let replay = json!({
        "ReplayName": "again", "EventSourceArn": "arn:aws:events:us-east-1:123456789012:archive/arch",
        "EventStartTime": 0, "EventEndTime": "2999-01-01T00:00:00Z",
        "Destination": { "Arn": bus::bus_arn(&cloud, "b"), "FilterArns": [bus::rule_arn(&cloud, "b", "wanted")] }
    });
    ok(&cloud, "StartReplay", replay.clone()).await;
    let messages = receive(&cloud, &url).await;
    let event = body(&messages[0]);
    assert_eq!((event["id"].as_str().unwrap(), &event["replay-name"]), (id.as_str(), &json!("again")));
    assert_eq!(messages.len(), 1);
    let described = ok(&cloud, "DescribeArchive", json!({ "ArchiveName": "arch" })).await;
    assert_eq!(described["EventCount"], 1);
    let mut state = Value::Null;
    while state != "COMPLETED" {
        tokio::task::yield_now().await;
        state = ok(&cloud, "DescribeReplay", json!({ "ReplayName": "again" })).await["State"].clone();
    }
    let again = error(&cloud, "StartReplay", replay.clone()).await;
    assert_eq!(again.code, "ResourceAlreadyExistsException");
    let mut elsewhere = replay;
    elsewhere["Destination"] = json!({ "Arn": bus::bus_arn(&cloud, "default") });
    assert!(error(&cloud, "StartReplay", elsewhere).await.message.contains("Cross event bus"));
    let over = error(&cloud, "CancelReplay", json!({ "ReplayName": "again" })).await;
    assert_eq!(over.code, "IllegalStatusException");
}

#[tokio::test]
async fn an_archive_keeps_events_as_long_as_its_retention() {
    let cloud = manual();
    let archive =
        json!({ "ArchiveName": "arch", "SourceArn": bus::bus_arn(&cloud, "default"), "RetentionDays": 1 });
    deploy(&cloud, &resource("AWS::Events::Archive", archive)).await.unwrap();
    put(&cloud, "default", json!({})).await;
    cloud.clock.advance(Duration::from_secs(86_402));
    put(&cloud, "default", json!({})).await;
    let described = ok(&cloud, "DescribeArchive", json!({ "ArchiveName": "arch" })).await;
    assert_eq!(described["EventCount"], 1);
    assert_eq!(ok(&cloud, "ListArchives", json!({})).await["Archives"][0]["ArchiveName"], "arch");
}

fn rule_resource(properties: Value) -> Resource {
    let mut all = json!({ "Name": "r", "EventPattern": { "source": ["app"] } });
    for (name, property) in properties.as_object().unwrap() {
        all[name] = property.clone();
    }
    resource("AWS::Events::Rule", all)
}

#[tokio::test]
async fn a_rule_of_an_earlier_template_is_gone_at_the_next_start_and_one_made_by_api_stays() {
    let cloud = manual();
    deploy(&cloud, &rule_resource(json!({ "Name": "stays" }))).await.unwrap();
    deploy(&cloud, &rule_resource(json!({ "Name": "goes" }))).await.unwrap();
    rule(&cloud, "default", "mine", app(), json!([{ "Id": "q", "Arn": QUEUE }])).await;
    // As after a restart with another template.
    cloud
        .store
        .write(|tx| tx.execute("UPDATE events_rules SET name = 'old' WHERE name = 'goes'", []))
        .unwrap();
    start(&cloud);
    let rules = ok(&cloud, "ListRules", json!({})).await;
    let names: Vec<&Value> = rules["Rules"].as_array().unwrap().iter().map(|rule| &rule["Name"]).collect();
    assert_eq!(names, ["mine", "stays"]);
}

#[tokio::test]
async fn a_redeployed_rule_has_exactly_the_targets_of_its_template() {
    let cloud = manual();
    let targets = |ids: &[&str]| {
        let targets: Vec<Value> = ids.iter().map(|id| json!({ "Id": id, "Arn": QUEUE })).collect();
        json!({ "Targets": targets, "State": "ENABLED", "Tags": [{ "Key": "Owner", "Value": "me" }] })
    };
    deploy(&cloud, &rule_resource(targets(&["a", "b"]))).await.unwrap();
    deploy(&cloud, &rule_resource(targets(&["b", "c"]))).await.unwrap();
    let listed = ok(&cloud, "ListTargetsByRule", json!({ "Rule": "r" })).await;
    let ids: Vec<&Value> = listed["Targets"].as_array().unwrap().iter().map(|target| &target["Id"]).collect();
    assert_eq!(ids, ["b", "c"]);
    let arn = "arn:aws:events:us-east-1:123456789012:rule/r";
    let tags = ok(&cloud, "ListTagsForResource", json!({ "ResourceARN": arn })).await;
    assert_eq!(tags["Tags"], json!([{ "Key": "Owner", "Value": "me" }]));
}

#[tokio::test]
async fn what_a_template_asks_for_and_is_not_emulated_is_refused_by_name() {
    let cloud = manual();
    for (properties, named) in [
        (json!({ "ScheduleExpression": "rate(1 day)" }), "ScheduleExpression"),
        (json!({ "EventPattern": { "a": [{ "regexp": "x" }] } }), "regexp"),
        (json!({ "EventBusName": "none" }), "EventBusName"),
        (json!({ "State": "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS" }), "State"),
        (json!({ "Targets": [{ "Id": "q", "Arn": QUEUE, "SqsParameters": {} }] }), "SqsParameters"),
        (json!({ "Targets": [{ "Id": "q", "Arn": "arn:aws:sns:us-east-1:1:t" }] }), "arn:aws:sns"),
    ] {
        let refusal = deploy(&cloud, &rule_resource(properties)).await.unwrap_err().to_string();
        assert!(refusal.contains(named), "{refusal}");
    }
    let bus = resource("AWS::Events::EventBus", json!({ "Name": "b", "EventSourceName": "x" }));
    let refusal = deploy(&cloud, &bus).await.unwrap_err().to_string();
    assert!(refusal.contains("EventSourceName"), "{refusal}");
}

#[tokio::test]
async fn a_disabled_rule_matches_nothing() {
    let cloud = manual();
    rule(&cloud, "default", "r", app(), json!([{ "Id": "q", "Arn": QUEUE }])).await;
    ok(&cloud, "DisableRule", json!({ "Name": "r" })).await;
    put(&cloud, "default", json!({})).await;
    assert!(cloud.store.read(store::waiting_targets).unwrap().is_empty());
    ok(&cloud, "EnableRule", json!({ "Name": "r" })).await;
    put(&cloud, "default", json!({})).await;
    assert_eq!(cloud.store.read(store::waiting_targets).unwrap(), [QUEUE]);
}

#[tokio::test]
async fn a_rule_with_targets_cannot_be_deleted_nor_a_bus_with_rules() {
    let cloud = manual();
    bus(&cloud, "b").await;
    rule(&cloud, "b", "r", app(), json!([{ "Id": "q", "Arn": QUEUE }])).await;
    let named = ok(&cloud, "ListRuleNamesByTarget", json!({ "TargetArn": QUEUE, "EventBusName": "b" })).await;
    assert_eq!(named["RuleNames"], json!(["r"]));
    let delete = json!({ "Name": "r", "EventBusName": "b" });
    assert_eq!(error(&cloud, "DeleteRule", delete.clone()).await.code, "ValidationException");
    assert_eq!(error(&cloud, "DeleteEventBus", json!({ "Name": "b" })).await.code, "ValidationException");
    ok(&cloud, "RemoveTargets", json!({ "Rule": "r", "EventBusName": "b", "Ids": ["q"] })).await;
    ok(&cloud, "DeleteRule", delete.clone()).await;
    assert_eq!(error(&cloud, "DescribeRule", delete).await.code, "ResourceNotFoundException");
    ok(&cloud, "DeleteEventBus", json!({ "Name": "b" })).await;
    let gone = error(&cloud, "DescribeEventBus", json!({ "Name": "b" })).await;
    assert_eq!(gone.code, "ResourceNotFoundException");
    assert_eq!(
        error(&cloud, "DeleteEventBus", json!({ "Name": "default" })).await.code,
        "ValidationException"
    );
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

#[tokio::test]
async fn test_event_pattern_says_whether_an_event_matches() {
    let cloud = manual();
    let event = json!({ "id": "1", "account": "1", "source": "app", "time": "2020-01-01T00:00:00Z", "region": "r", "resources": [], "detail-type": "t" });
    let test = |pattern: &str, event: &Value| json!({ "EventPattern": pattern, "Event": event.to_string() });
    let answer = ok(&cloud, "TestEventPattern", test(r#"{"source":["app"]}"#, &event)).await;
    assert_eq!(answer["Result"], true);
    let answer = ok(&cloud, "TestEventPattern", test(r#"{"source":["other"]}"#, &event)).await;
    assert_eq!(answer["Result"], false);
    let broken = error(&cloud, "TestEventPattern", test(r#"{"source":"app"}"#, &event)).await;
    assert_eq!(broken.code, "InvalidEventPatternException");
    let incomplete = error(&cloud, "TestEventPattern", test(r#"{"source":["app"]}"#, &json!({}))).await;
    assert_eq!(incomplete.code, "ValidationException");
}

#[tokio::test]
async fn rules_are_listed_in_pages_and_tags_can_be_changed() {
    let cloud = manual();
    for name in ["a1", "a2", "b1"] {
        ok(&cloud, "PutRule", json!({ "Name": name, "EventPattern": app().to_string() })).await;
    }
    let first = ok(&cloud, "ListRules", json!({ "NamePrefix": "a", "Limit": 1 })).await;
    let second = json!({ "NamePrefix": "a", "Limit": 1, "NextToken": first["NextToken"] });
    let second = ok(&cloud, "ListRules", second).await;
    assert_eq!((&first["Rules"][0]["Name"], &second["Rules"][0]["Name"]), (&json!("a1"), &json!("a2")));
    assert!(second.get("NextToken").is_none());
    let arn = bus::bus_arn(&cloud, "default");
    let tags = json!({ "ResourceARN": arn, "Tags": [{ "Key": "k", "Value": "v" }] });
    ok(&cloud, "TagResource", tags).await;
    let listed = ok(&cloud, "ListTagsForResource", json!({ "ResourceARN": arn })).await;
    assert_eq!(listed["Tags"], json!([{ "Key": "k", "Value": "v" }]));
    ok(&cloud, "UntagResource", json!({ "ResourceARN": arn, "TagKeys": ["k"] })).await;
    let listed = ok(&cloud, "ListTagsForResource", json!({ "ResourceARN": arn })).await;
    assert_eq!(listed["Tags"], json!([]));
    assert_eq!(error(&cloud, "CreateEndpoint", json!({})).await.code, "NotImplemented");
    let schedule = json!({ "Name": "s", "ScheduleExpression": "rate(1 day)" });
    assert!(error(&cloud, "PutRule", schedule).await.message.contains("ScheduleExpression"));
}
