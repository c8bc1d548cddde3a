//! Targets: what they get, and what becomes of events that do not reach them.

use cloud_core::resource::Resource;

use super::*;

#[tokio::test]
async fn an_event_sent_to_another_bus_keeps_its_id_and_goes_to_no_third_bus() {
    let cloud = crate::testing::cloud();
    let url = queue(&cloud, "seen").await;
    for name in ["a", "b", "c"] {
        bus(&cloud, name).await;
    }
    let to = |bus: &str| json!({ "Id": bus, "Arn": names::bus_arn(&cloud, bus) });
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
    cloud.call("logs", "CreateLogGroup", json!({ "logGroupName": "/catchall" })).await.unwrap();
    rule(&cloud, "default", "all", app(), json!([{ "Id": "l", "Arn": GROUP }])).await;
    let id = put(&cloud, "default", json!({ "n": 1 })).await;
    assert!(deliver_due(&cloud, GROUP).await.unwrap());
    let found = json!({ "logGroupName": "/catchall", "filterPattern": format!("{{ $.id = \"{id}\" }}") });
    let found = cloud.call("logs", "FilterLogEvents", found).await.unwrap();
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
    assert!(deliver_due(&cloud, GROUP).await.unwrap());
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
    cloud.call("logs", "CreateLogGroup", json!({ "logGroupName": "/catchall" })).await.unwrap();
    cloud.store.write(|tx| tx.execute_batch("ALTER TABLE log_events RENAME TO hidden")).unwrap();
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
    assert!(deliver_due(&cloud, GROUP).await.unwrap());
    let mut delays = Vec::new();
    while let Some(due_ms) = cloud.store.read(|db| store::next_due(db, GROUP, cloud.clock.now_ms())).unwrap()
    {
        let delay_ms = due_ms - cloud.clock.now_ms();
        delays.push(delay_ms);
        cloud.clock.advance(Duration::from_millis(delay_ms as u64));
        assert!(deliver_due(&cloud, GROUP).await.unwrap());
    }
    assert_eq!(delays.len(), 2);
    assert!((500..=1_000).contains(&delays[0]), "{delays:?}");
    assert!((1_000..=2_000).contains(&delays[1]), "{delays:?}");
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
    deliver_due(&cloud, GROUP).await.unwrap();
    cloud.clock.advance(Duration::from_secs(60));
    deliver_due(&cloud, GROUP).await.unwrap();
    let messages = receive(&cloud, &url).await;
    assert_eq!(attribute(&messages[0], "EXHAUSTED_RETRY_CONDITION"), "MaximumEventAgeInSeconds");
    assert_eq!(attribute(&messages[0], "RETRY_ATTEMPTS"), "1");
}

#[tokio::test]
async fn a_target_that_recovers_gets_the_event() {
    let cloud = manual();
    failing_group(&cloud, json!({})).await;
    put(&cloud, "default", json!({})).await;
    deliver_due(&cloud, GROUP).await.unwrap();
    cloud.store.write(|tx| tx.execute_batch("ALTER TABLE hidden RENAME TO log_events")).unwrap();
    cloud.clock.advance(Duration::from_secs(1));
    deliver_due(&cloud, GROUP).await.unwrap();
    let seen = cloud.call("logs", "FilterLogEvents", json!({ "logGroupName": "/catchall" })).await.unwrap();
    assert_eq!(seen["events"].as_array().unwrap().len(), 1);
    assert!(cloud.store.read(store::waiting_targets).unwrap().is_empty());
}

#[tokio::test]
async fn a_target_in_trouble_does_not_delay_another() {
    let cloud = crate::testing::cloud();
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
    cloud.deploy(&machine).await.unwrap();
    rule(&cloud, "default", "r", app(), json!([{ "Id": "m", "Arn": arn }])).await;
    let id = put(&cloud, "default", json!({ "n": 1 })).await;
    let due = cloud.store.read(|db| store::due(db, arn, NOW, 9, &HashSet::new())).unwrap();
    assert!(deliver_due(&cloud, arn).await.unwrap());
    // Killed before the delivery was settled: it is tried again, and starts nothing new.
    let again = &due[0];
    cloud
        .store
        .write(|tx| store::add_delivery(tx, &again.target, &again.rule_arn, &again.event, NOW, NOW))
        .unwrap();
    cloud.store.write(|tx| tx.execute("UPDATE events_deliveries SET id = ?1", [again.id])).unwrap();
    assert!(deliver_due(&cloud, arn).await.unwrap());
    let list = cloud.call("states", "ListExecutions", json!({ "stateMachineArn": arn })).await.unwrap();
    let executions = list["executions"].as_array().unwrap();
    assert_eq!(executions.len(), 1);
    let execution = json!({ "executionArn": executions[0]["executionArn"] });
    let described = cloud.call("states", "DescribeExecution", execution).await.unwrap();
    let input: Value = serde_json::from_str(described["input"].as_str().unwrap()).unwrap();
    assert_eq!(input["id"], id.as_str());
}

#[tokio::test]
async fn an_accepted_event_is_delivered_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let settings = Settings { state: Some(folder.path().to_owned()), ..Settings::for_tests() };
        crate::testing::open(settings, Clock::system(), Random::seeded(1)).unwrap()
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
async fn more_events_than_there_is_room_for_are_all_delivered_once() {
    let cloud = manual();
    let url = queue(&cloud, "seen").await;
    cloud.call("logs", "CreateLogGroup", json!({ "logGroupName": "/catchall" })).await.unwrap();
    bus(&cloud, "b").await;
    let other = names::bus_arn(&cloud, "b");
    let targets =
        json!([{ "Id": "q", "Arn": QUEUE }, { "Id": "l", "Arn": GROUP }, { "Id": "b", "Arn": other }]);
    rule(&cloud, "default", "r", app(), targets).await;
    let archive = json!({ "ArchiveName": "arch", "EventSourceArn": other });
    ok(&cloud, "CreateArchive", archive).await;
    for n in 0..100 {
        put(&cloud, "default", json!({ "n": n })).await;
    }
    for target in [QUEUE, GROUP, &other] {
        assert!(deliver_due(&cloud, target).await.unwrap());
    }
    assert!(cloud.store.read(store::waiting_targets).unwrap().is_empty());
    let attributes = json!({ "QueueUrl": url, "AttributeNames": ["ApproximateNumberOfMessages"] });
    let attributes = cloud.call("sqs", "GetQueueAttributes", attributes).await.unwrap();
    assert_eq!(attributes["Attributes"]["ApproximateNumberOfMessages"], "100");
    let seen = cloud.call("logs", "FilterLogEvents", json!({ "logGroupName": "/catchall" })).await.unwrap();
    assert_eq!(seen["events"].as_array().unwrap().len(), 100);
    let described = ok(&cloud, "DescribeArchive", json!({ "ArchiveName": "arch" })).await;
    assert_eq!(described["EventCount"], 100);
}

#[tokio::test]
async fn the_attempts_of_a_failing_delivery_are_counted_over_a_restart() {
    let folder = Folder::new();
    let cloud = folder.open();
    failing_group(&cloud, json!({})).await;
    let id = put(&cloud, "default", json!({})).await;
    deliver_due(&cloud, GROUP).await.unwrap();
    cloud.store.write(|tx| tx.execute_batch("ALTER TABLE hidden RENAME TO log_events")).unwrap();
    let cloud = folder.open();
    let later = NOW + 1_000;
    let due = cloud.store.read(|db| store::due(db, GROUP, later, 9, &HashSet::new())).unwrap();
    assert_eq!((due.len(), due[0].attempts), (1, 1));
    cloud.clock.advance(Duration::from_secs(1));
    assert_eq!(logged(&cloud).await[0]["id"], id.as_str());
}

#[tokio::test]
async fn a_delivery_that_was_given_up_waits_for_its_dead_letter_queue_and_not_for_its_target() {
    let cloud = manual();
    let url = queue(&cloud, "dead").await;
    failing_group(&cloud, json!({ "MaximumRetryAttempts": 0 })).await;
    let rename = |from: &str, to: &str| {
        let rename = format!("ALTER TABLE {from} RENAME TO {to}");
        cloud.store.write(|tx| tx.execute_batch(&rename)).unwrap();
    };
    rename("sqs_messages", "hidden_messages");
    put(&cloud, "default", json!({})).await;
    assert!(deliver_due(&cloud, GROUP).await.unwrap());
    // The target recovers before the dead-letter queue does.
    rename("hidden", "log_events");
    for queue_recovers in [false, true] {
        if queue_recovers {
            rename("hidden_messages", "sqs_messages");
        }
        cloud.clock.advance(Duration::from_secs(1));
        assert!(deliver_due(&cloud, GROUP).await.unwrap());
    }
    let messages = receive(&cloud, &url).await;
    assert_eq!(attribute(&messages[0], "EXHAUSTED_RETRY_CONDITION"), "MaximumRetryAttempts");
    assert_eq!(attribute(&messages[0], "RETRY_ATTEMPTS"), "0");
    assert_eq!(attribute(&messages[0], "ERROR_CODE"), "INTERNAL_ERROR");
    assert!(logged(&cloud).await.is_empty());
}
