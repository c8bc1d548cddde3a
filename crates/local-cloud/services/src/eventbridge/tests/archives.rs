//! Archives and replays.

use super::*;

#[tokio::test]
async fn a_replay_sends_archived_events_again_with_its_name_and_archives_none_of_them() {
    let cloud = crate::testing::cloud();
    let url = queue(&cloud, "seen").await;
    bus(&cloud, "b").await;
    let archive = json!({ "ArchiveName": "arch", "SourceArn": names::bus_arn(&cloud, "b"), "EventPattern": app(), "RetentionDays": 7 });
    cloud.deploy(&resource("AWS::Events::Archive", archive)).await.unwrap();
    let id = put(&cloud, "b", json!({ "n": 1 })).await;
    start(&cloud);
    rule(&cloud, "b", "wanted", app(), json!([{ "Id": "q", "Arn": QUEUE }])).await;
    rule(&cloud, "b", "other", app(), json!([{ "Id": "q", "Arn": QUEUE, "Input": "{}" }])).await;
    let replay = json!({
        "ReplayName": "again", "EventSourceArn": "arn:aws:events:us-east-1:123456789012:archive/arch",
        "EventStartTime": 0, "EventEndTime": "2999-01-01T00:00:00Z",
        "Destination": { "Arn": names::bus_arn(&cloud, "b"), "FilterArns": [names::rule_arn(&cloud, "b", "wanted")] }
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
    let mut elsewhere = replay.clone();
    elsewhere["Destination"] = json!({ "Arn": names::bus_arn(&cloud, "default") });
    assert!(error(&cloud, "StartReplay", elsewhere).await.message.contains("Cross event bus"));
    let unknown = |member: &str, arn: Value| {
        let mut unknown = replay.clone();
        unknown["ReplayName"] = "fresh".into();
        unknown[member] = arn;
        unknown
    };
    let nowhere = unknown("Destination", json!({ "Arn": names::bus_arn(&cloud, "nowhere") }));
    let nowhere = error(&cloud, "StartReplay", nowhere).await;
    assert_eq!(
        (nowhere.code.as_str(), nowhere.message.as_str()),
        ("ResourceNotFoundException", "Event bus nowhere does not exist.")
    );
    let none = unknown("EventSourceArn", json!("arn:aws:events:us-east-1:123456789012:archive/none"));
    let none = error(&cloud, "StartReplay", none).await.message;
    assert_eq!(none, "Parameter EventSourceArn is not valid. Reason: Archive none does not exist.");
    let backwards = error(&cloud, "StartReplay", unknown("EventEndTime", json!(0))).await.message;
    assert!(backwards.contains("EventStartTime must be before EventEndTime"), "{backwards}");
}

#[tokio::test]
async fn an_archive_keeps_events_as_long_as_its_retention() {
    let cloud = manual();
    let archive =
        json!({ "ArchiveName": "arch", "SourceArn": names::bus_arn(&cloud, "default"), "RetentionDays": 1 });
    cloud.deploy(&resource("AWS::Events::Archive", archive)).await.unwrap();
    put(&cloud, "default", json!({})).await;
    cloud.clock.advance(Duration::from_secs(86_402));
    put(&cloud, "default", json!({})).await;
    let described = ok(&cloud, "DescribeArchive", json!({ "ArchiveName": "arch" })).await;
    assert_eq!(described["EventCount"], 1);
    assert_eq!(ok(&cloud, "ListArchives", json!({})).await["Archives"][0]["ArchiveName"], "arch");
}

#[tokio::test]
async fn archives_are_made_listed_and_deleted_by_api_calls() {
    let cloud = manual();
    let source = names::bus_arn(&cloud, "default");
    let create = json!({ "ArchiveName": "mine", "EventSourceArn": source, "RetentionDays": 1,
        "EventPattern": "{\"source\":[\"other\"]}", "Description": "d" });
    let created = ok(&cloud, "CreateArchive", create.clone()).await;
    assert_eq!(created["State"], "ENABLED");
    assert_eq!(created["ArchiveArn"], "arn:aws:events:us-east-1:123456789012:archive/mine");
    let again = error(&cloud, "CreateArchive", create).await;
    assert_eq!(
        (again.code.as_str(), again.message.as_str()),
        ("ResourceAlreadyExistsException", "Archive mine already exists.")
    );
    let nowhere = json!({ "ArchiveName": "x", "EventSourceArn": names::bus_arn(&cloud, "none") });
    assert_eq!(error(&cloud, "CreateArchive", nowhere).await.message, "Event bus none does not exist.");
    let broken = json!({ "ArchiveName": "x", "EventSourceArn": source, "EventPattern": "{" });
    assert_eq!(error(&cloud, "CreateArchive", broken).await.code, "InvalidEventPatternException");
    put(&cloud, "default", json!({})).await;
    // Archives of an API caller are not the template's to delete.
    start(&cloud);
    let described = ok(&cloud, "DescribeArchive", json!({ "ArchiveName": "mine" })).await;
    assert_eq!((&described["EventCount"], &described["RetentionDays"]), (&json!(0), &json!(1)));
    assert_eq!(described["Description"], "d");
    let listed = ok(&cloud, "ListArchives", json!({ "EventSourceArn": source })).await;
    assert_eq!(listed["Archives"][0]["ArchiveName"], "mine");
    let two = error(&cloud, "ListArchives", json!({ "NamePrefix": "m", "State": "ENABLED" })).await;
    assert!(two.message.starts_with("At most one filter is allowed for ListArchives."), "{two}");
    let state = error(&cloud, "ListReplays", json!({ "State": "X" })).await;
    assert!(
        state.message.contains("[CANCELLED, CANCELLING, COMPLETED, FAILED, RUNNING, STARTING]"),
        "{state}"
    );
    ok(&cloud, "DeleteArchive", json!({ "ArchiveName": "mine" })).await;
    let gone = error(&cloud, "DeleteArchive", json!({ "ArchiveName": "mine" })).await;
    assert_eq!(gone.message, "Archive mine does not exist.");
}

/// An archive `arch` of the default bus with these many events, and a rule for them.
async fn archived(cloud: &Arc<Cloud>, count: i64) {
    let archive = json!({ "ArchiveName": "arch", "EventSourceArn": names::bus_arn(cloud, "default") });
    ok(cloud, "CreateArchive", archive).await;
    for n in 0..count {
        let mut entry = entry("default", json!({ "n": n }));
        // The newest comes first.
        entry["Time"] = json!(1_700_000_000 - n);
        ok(cloud, "PutEvents", json!({ "Entries": [entry] })).await;
    }
    cloud.call("logs", "CreateLogGroup", json!({ "logGroupName": "/catchall" })).await.unwrap();
    let pattern = json!({ "replay-name": [{ "exists": true }] });
    rule(cloud, "default", "all", pattern, json!([{ "Id": "l", "Arn": GROUP }])).await;
}

async fn replay(cloud: &Arc<Cloud>) {
    let replay = json!({
        "ReplayName": "again", "EventSourceArn": "arn:aws:events:us-east-1:123456789012:archive/arch",
        "EventStartTime": 0, "EventEndTime": "2999-01-01T00:00:00Z",
        "Destination": { "Arn": names::bus_arn(cloud, "default") }
    });
    assert_eq!(ok(cloud, "StartReplay", replay).await["State"], "STARTING");
}

async fn replay_ended(cloud: &Arc<Cloud>) -> Value {
    loop {
        let described = ok(cloud, "DescribeReplay", json!({ "ReplayName": "again" })).await;
        if described.get("ReplayEndTime").is_some() {
            return described["State"].clone();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_replay_goes_by_the_time_of_the_events() {
    let cloud = manual();
    archived(&cloud, 5).await;
    replay(&cloud).await;
    assert_eq!(replay_ended(&cloud).await, "COMPLETED");
    let order: Vec<Value> = logged(&cloud).await.iter().map(|event| event["detail"]["n"].clone()).collect();
    assert_eq!(order, [4, 3, 2, 1, 0]);
}

#[tokio::test]
async fn a_replay_under_way_goes_on_after_a_restart() {
    let folder = Folder::new();
    let cloud = folder.open();
    archived(&cloud, 150).await;
    replay(&cloud).await;
    // One step was made when the process was killed.
    tokio::task::yield_now().await;
    cloud.stopping.cancel();
    let described = ok(&cloud, "DescribeReplay", json!({ "ReplayName": "again" })).await;
    assert_eq!(described["State"], "RUNNING");
    let cloud = folder.open();
    start(&cloud);
    assert_eq!(replay_ended(&cloud).await, "COMPLETED");
    let mut seen: Vec<i64> =
        logged(&cloud).await.iter().map(|event| event["detail"]["n"].as_i64().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..150).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_archive_of_a_template_keeps_to_the_limits_of_the_api() {
    let cloud = manual();
    let bus = names::bus_arn(&cloud, "default");
    for (property, value) in [("ArchiveName", json!("a".repeat(49))), ("RetentionDays", json!(-1))] {
        let mut archive = json!({ "ArchiveName": "a", "SourceArn": bus });
        archive[property] = value;
        let refusal = cloud.deploy(&resource("AWS::Events::Archive", archive)).await.unwrap_err();
        assert!(refusal.path.ends_with(property), "{refusal}");
    }
    assert_eq!(ok(&cloud, "ListArchives", json!({})).await["Archives"], json!([]));
}

#[tokio::test]
async fn expired_events_leave_an_archive_though_nobody_reads() {
    let cloud = manual();
    bus(&cloud, "b").await;
    for (name, days) in [("week", 7), ("ever", 0)] {
        let archive = json!({ "ArchiveName": name, "EventSourceArn": names::bus_arn(&cloud, "b"), "RetentionDays": days });
        ok(&cloud, "CreateArchive", archive).await;
    }
    put(&cloud, "b", json!({})).await;
    cloud_core::housekeeping::start(&cloud);
    let count = || {
        let query = "SELECT count(*) FROM events_archived";
        cloud.store.read(|db| db.query_row(query, [], |row| row.get::<_, i64>(0))).unwrap()
    };
    assert_eq!(count(), 2);
    cloud.clock.advance(Duration::from_secs(8 * 86_400));
    tokio::time::timeout(Duration::from_secs(30), async {
        while count() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(ok(&cloud, "DescribeArchive", json!({ "ArchiveName": "ever" })).await["EventCount"], 1);
}
