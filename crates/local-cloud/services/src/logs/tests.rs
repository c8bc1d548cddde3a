use std::sync::Arc;
use std::time::Duration;

use cloud_core::Settings;
use cloud_core::clock::Clock;
use cloud_core::random::Random;
use cloud_core::resource::Resource;
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_800_000_000_000;

fn cloud() -> Arc<Cloud> {
    crate::testing::open(Settings::for_tests(), Clock::manual(NOW), Random::seeded(1)).unwrap()
}

async fn ok(cloud: &Arc<Cloud>, action: &str, input: Value) -> Value {
    cloud.call("logs", action, input).await.unwrap()
}

async fn code(cloud: &Arc<Cloud>, action: &str, input: Value) -> String {
    cloud.call("logs", action, input).await.unwrap_err().code
}

fn append_all(cloud: &Cloud, group: &str, stream: &str, events: &[(i64, &str)]) -> Result<(), StoreError> {
    cloud.store.write(|tx| append_within(cloud, tx, group, stream, events))
}

fn messages(answer: &Value) -> Vec<&str> {
    answer["events"].as_array().unwrap().iter().map(|event| event["message"].as_str().unwrap()).collect()
}

fn resource(properties: Value) -> Resource {
    Resource {
        stack: "s".into(),
        logical_id: "Logs".into(),
        kind: "AWS::Logs::LogGroup".into(),
        physical_id: "/g".into(),
        arn: String::new(),
        properties,
        metadata: Value::Null,
        file: "template.yaml".into(),
    }
}

#[tokio::test]
async fn an_append_creates_group_and_stream_and_is_read_back() {
    let cloud = cloud();
    append(&cloud, "/g", "s", NOW, "one").unwrap();
    append(&cloud, "/g", "s", NOW + 1, "two").unwrap();
    let events = ok(&cloud, "GetLogEvents", json!({ "logGroupName": "/g", "logStreamName": "s" })).await;
    assert_eq!(messages(&events), ["one", "two"]);
    let streams = ok(&cloud, "DescribeLogStreams", json!({ "logGroupName": "/g" })).await;
    assert_eq!(streams["logStreams"][0]["lastEventTimestamp"], NOW + 1);
    assert_eq!(streams["logStreams"][0]["firstEventTimestamp"], NOW);
}

#[tokio::test]
async fn an_append_after_the_group_was_deleted_makes_it_anew() {
    let cloud = cloud();
    append(&cloud, "/g", "s", NOW, "one").unwrap();
    ok(&cloud, "DeleteLogGroup", json!({ "logGroupName": "/g" })).await;
    append(&cloud, "/g", "s", NOW, "two").unwrap();
    let events = ok(&cloud, "FilterLogEvents", json!({ "logGroupName": "/g" })).await;
    assert_eq!(messages(&events), ["two"]);
}

#[tokio::test]
async fn get_log_events_gives_the_same_token_at_the_end_and_finds_what_comes_later() {
    let cloud = cloud();
    for n in 0..5 {
        append(&cloud, "/g", "s", NOW + n, &n.to_string()).unwrap();
    }
    let get = |token: Option<Value>, head: bool| {
        let mut input =
            json!({ "logGroupName": "/g", "logStreamName": "s", "limit": 3, "startFromHead": head });
        if let Some(token) = token {
            input["nextToken"] = token;
        }
        ok(&cloud, "GetLogEvents", input)
    };
    let first = get(None, true).await;
    assert_eq!(messages(&first), ["0", "1", "2"]);
    let second = get(Some(first["nextForwardToken"].clone()), true).await;
    assert_eq!(messages(&second), ["3", "4"]);
    let third = get(Some(second["nextForwardToken"].clone()), true).await;
    assert!(messages(&third).is_empty());
    assert_eq!(third["nextForwardToken"], second["nextForwardToken"]);
    append(&cloud, "/g", "s", NOW + 9, "late").unwrap();
    assert_eq!(messages(&get(Some(third["nextForwardToken"].clone()), true).await), ["late"]);
    let newest = get(None, false).await;
    assert_eq!(messages(&newest), ["3", "4", "late"]);
    let back = get(Some(newest["nextBackwardToken"].clone()), false).await;
    assert_eq!(messages(&back), ["0", "1", "2"]);
    let start = get(Some(back["nextBackwardToken"].clone()), false).await;
    assert!(messages(&start).is_empty());
    assert_eq!(start["nextBackwardToken"], back["nextBackwardToken"]);
}

#[tokio::test]
async fn filter_log_events_interleaves_streams_pages_and_filters() {
    let cloud = cloud();
    for n in 0..6 {
        append(&cloud, "/g", if n % 2 == 0 { "even" } else { "odd" }, NOW + n, &format!("n{n}")).unwrap();
    }
    let arn = group_arn(&cloud, "/g");
    let mut seen = Vec::new();
    let mut input =
        json!({ "logGroupIdentifier": arn, "limit": 4, "startTime": NOW + 1, "interleaved": true });
    loop {
        let answer = ok(&cloud, "FilterLogEvents", input.clone()).await;
        seen.extend(messages(&answer).into_iter().map(str::to_owned));
        match answer.get("nextToken") {
            Some(token) => input["nextToken"] = token.clone(),
            None => break,
        }
    }
    assert_eq!(seen, ["n1", "n2", "n3", "n4", "n5"]);
    let odd = json!({ "logGroupName": "/g", "logStreamNamePrefix": "od", "endTime": NOW + 3 });
    assert_eq!(messages(&ok(&cloud, "FilterLogEvents", odd).await), ["n1", "n3"]);
    let named = json!({ "logGroupName": "/g", "logStreamNames": ["even"], "filterPattern": "?n2 ?n3" });
    assert_eq!(messages(&ok(&cloud, "FilterLogEvents", named).await), ["n2"]);
    let both = json!({ "logGroupName": "/g", "logStreamNames": ["even"], "logStreamNamePrefix": "e" });
    assert_eq!(code(&cloud, "FilterLogEvents", both).await, "InvalidParameterException");
    let missing = json!({ "logGroupName": "/g", "logStreamNames": ["none"] });
    assert_eq!(code(&cloud, "FilterLogEvents", missing).await, "ResourceNotFoundException");
    let refused = json!({ "logGroupName": "/g", "filterPattern": "[a" });
    assert_eq!(code(&cloud, "FilterLogEvents", refused).await, "InvalidParameterException");
}

#[tokio::test]
async fn event_ids_are_unique_within_one_millisecond() {
    let cloud = cloud();
    append_all(&cloud, "/g", "s", &[(NOW, "a"), (NOW, "b")]).unwrap();
    let events = ok(&cloud, "FilterLogEvents", json!({ "logGroupName": "/g" })).await;
    assert_ne!(events["events"][0]["eventId"], events["events"][1]["eventId"]);
}

#[tokio::test]
async fn retention_hides_and_deletes_what_is_too_old() {
    let cloud = cloud();
    cloud.deploy(&resource(json!({ "LogGroupName": "/g", "RetentionInDays": 1 }))).await.unwrap();
    append(&cloud, "/g", "s", NOW, "old").unwrap();
    cloud.clock.advance(Duration::from_secs(86_401));
    append(&cloud, "/g", "s", cloud.clock.now_ms(), "new").unwrap();
    let events = ok(&cloud, "FilterLogEvents", json!({ "logGroupName": "/g" })).await;
    assert_eq!(messages(&events), ["new"]);
    let rows: i64 =
        cloud.store.read(|db| db.query_row("SELECT count(*) FROM log_events", [], |row| row.get(0))).unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn put_log_events_reports_what_is_too_old_and_too_new_and_refuses_disorder() {
    let cloud = cloud();
    ok(&cloud, "CreateLogGroup", json!({ "logGroupName": "/g" })).await;
    ok(&cloud, "CreateLogStream", json!({ "logGroupName": "/g", "logStreamName": "s" })).await;
    let put = |events: Value| json!({ "logGroupName": "/g", "logStreamName": "s", "logEvents": events });
    let event = |at: i64| json!({ "timestamp": at, "message": "m" });
    let new = put(json!([event(NOW), event(NOW + 7_200_001)]));
    let answer = ok(&cloud, "PutLogEvents", new).await;
    assert_eq!(answer["rejectedLogEventsInfo"], json!({ "tooNewLogEventStartIndex": 1 }));
    let old = put(json!([event(NOW - 14 * 86_400_000 - 1), event(NOW - 14 * 86_400_000 + 1)]));
    let answer = ok(&cloud, "PutLogEvents", old).await;
    assert_eq!(answer["rejectedLogEventsInfo"], json!({ "tooOldLogEventEndIndex": 1 }));
    for bad in [
        json!([event(NOW + 1), event(NOW)]),
        json!([]),
        json!([event(NOW - 86_400_001), event(NOW)]),
        json!([{ "timestamp": NOW, "message": "" }]),
        json!([{ "timestamp": NOW, "message": "x".repeat(1_048_576) }]),
    ] {
        assert_eq!(code(&cloud, "PutLogEvents", put(bad)).await, "InvalidParameterException");
    }
    let events = ok(&cloud, "FilterLogEvents", json!({ "logGroupName": "/g" })).await;
    assert_eq!(events["events"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn groups_are_listed_by_prefix_in_pages() {
    let cloud = cloud();
    for n in 0..3 {
        ok(&cloud, "CreateLogGroup", json!({ "logGroupName": format!("/a/{n}"), "tags": { "k": "v" } }))
            .await;
    }
    ok(&cloud, "CreateLogGroup", json!({ "logGroupName": "/b" })).await;
    let first = ok(&cloud, "DescribeLogGroups", json!({ "logGroupNamePrefix": "/a/", "limit": 2 })).await;
    assert_eq!(first["logGroups"].as_array().unwrap().len(), 2);
    assert_eq!(first["logGroups"][0]["arn"], "arn:aws:logs:us-east-1:123456789012:log-group:/a/0:*");
    let rest = json!({ "logGroupNamePrefix": "/a/", "limit": 2, "nextToken": first["nextToken"] });
    let rest = ok(&cloud, "DescribeLogGroups", rest).await;
    assert_eq!(rest["logGroups"][0]["logGroupName"], "/a/2");
    assert!(rest.get("nextToken").is_none());
    let tags = json!({ "resourceArn": first["logGroups"][0]["logGroupArn"] });
    let tags = ok(&cloud, "ListTagsForResource", tags).await;
    assert_eq!(tags["tags"], json!({ "k": "v" }));
    let again = json!({ "logGroupName": "/b" });
    assert_eq!(code(&cloud, "CreateLogGroup", again).await, "ResourceAlreadyExistsException");
    assert_eq!(code(&cloud, "DescribeLogGroups", json!({ "limit": 51 })).await, "InvalidParameterException");
    assert_eq!(code(&cloud, "DescribeLogGroups", json!({ "what": 1 })).await, "InvalidParameterException");
    for action in ["StartQuery", "ListTagsLogGroup"] {
        assert_eq!(code(&cloud, action, json!({})).await, "NotImplemented");
    }
}

#[tokio::test]
async fn groups_are_found_by_a_part_of_their_name_in_any_case_and_by_their_arn() {
    let cloud = cloud();
    for name in ["/aws/lambda/Search", "/aws/events/search", "/other"] {
        ok(&cloud, "CreateLogGroup", json!({ "logGroupName": name })).await;
    }
    let names = |answer: Value| -> Vec<String> {
        let groups = answer["logGroups"].as_array().unwrap();
        groups.iter().map(|group| group["logGroupName"].as_str().unwrap().to_owned()).collect()
    };
    let pattern = json!({ "logGroupNamePattern": "SEARCH" });
    let both = ["/aws/events/search", "/aws/lambda/Search"];
    assert_eq!(names(ok(&cloud, "DescribeLogGroups", pattern).await), both);
    let arn = "arn:aws:logs:us-east-1:123456789012:log-group:/other";
    for identifier in ["/other".to_owned(), arn.to_owned(), format!("{arn}:*")] {
        let input = json!({ "logGroupIdentifiers": [identifier] });
        assert_eq!(names(ok(&cloud, "DescribeLogGroups", input).await), ["/other"]);
    }
    let elsewhere = json!({ "accountIdentifiers": ["999999999999"], "includeLinkedAccounts": true });
    assert!(names(ok(&cloud, "DescribeLogGroups", elsewhere).await).is_empty());
    for two in [
        json!({ "logGroupNamePattern": "a", "logGroupNamePrefix": "a" }),
        json!({ "logGroupIdentifiers": ["/other"], "logGroupNamePrefix": "/" }),
    ] {
        assert_eq!(code(&cloud, "DescribeLogGroups", two).await, "InvalidParameterException");
    }
    let reserved = json!({ "logGroupName": "aws/x" });
    assert_eq!(code(&cloud, "CreateLogGroup", reserved).await, "InvalidParameterException");
}

#[tokio::test]
async fn the_start_time_is_included_and_the_end_time_only_by_filter_log_events() {
    let cloud = cloud();
    for n in 0..4 {
        append(&cloud, "/g", "s", NOW + n, &n.to_string()).unwrap();
    }
    let range = json!({ "logGroupName": "/g", "startTime": NOW + 1, "endTime": NOW + 2 });
    assert_eq!(messages(&ok(&cloud, "FilterLogEvents", range.clone()).await), ["1", "2"]);
    let mut range = range;
    range["logStreamName"] = "s".into();
    assert_eq!(messages(&ok(&cloud, "GetLogEvents", range).await), ["1"]);
}

#[tokio::test]
async fn a_page_holds_ten_thousand_events_and_one_megabyte_at_most() {
    let cloud = cloud();
    let long = "x".repeat(300_000);
    append_all(&cloud, "/g", "s", &[(NOW, long.as_str()); 4]).unwrap();
    let stream = json!({ "logGroupName": "/g", "logStreamName": "s", "startFromHead": true });
    assert_eq!(messages(&ok(&cloud, "GetLogEvents", stream).await).len(), 3);
    let group = ok(&cloud, "FilterLogEvents", json!({ "logGroupName": "/g" })).await;
    assert_eq!(messages(&group).len(), 3);
    let rest = json!({ "logGroupName": "/g", "nextToken": group["nextToken"] });
    assert_eq!(messages(&ok(&cloud, "FilterLogEvents", rest).await).len(), 1);
    append_all(&cloud, "/h", "s", &[(NOW, "x"); 10_001]).unwrap();
    assert_eq!(messages(&ok(&cloud, "FilterLogEvents", json!({ "logGroupName": "/h" })).await).len(), 10_000);
    for limit in [0, 10_001] {
        let input = json!({ "logGroupName": "/h", "limit": limit });
        assert_eq!(code(&cloud, "FilterLogEvents", input).await, "InvalidParameterException");
    }
}

#[tokio::test]
async fn a_batch_over_the_limits_is_refused_and_one_within_them_is_taken() {
    let cloud = cloud();
    ok(&cloud, "CreateLogGroup", json!({ "logGroupName": "/g" })).await;
    ok(&cloud, "CreateLogStream", json!({ "logGroupName": "/g", "logStreamName": "s" })).await;
    let put = |events: Vec<Value>| json!({ "logGroupName": "/g", "logStreamName": "s", "logEvents": events });
    let event = |at: i64, bytes: usize| json!({ "timestamp": at, "message": "x".repeat(bytes) });
    // Each event counts 26 bytes more than its message.
    for fits in [
        vec![event(NOW, 1_048_576 - 26)],
        vec![event(NOW, 1); 10_000],
        vec![event(NOW - 86_400_000, 1), event(NOW, 1)],
    ] {
        ok(&cloud, "PutLogEvents", put(fits)).await;
    }
    for over in [
        vec![event(NOW, 1_048_576 - 25)],
        vec![event(NOW, 1); 10_001],
        vec![event(NOW - 86_400_001, 1), event(NOW, 1)],
    ] {
        assert_eq!(code(&cloud, "PutLogEvents", put(over)).await, "InvalidParameterException");
    }
}

#[tokio::test]
async fn sequence_tokens_are_ignored() {
    let cloud = cloud();
    append(&cloud, "/g", "s", NOW, "one").unwrap();
    let events = json!([{ "timestamp": NOW, "message": "two" }]);
    let input = json!({ "logGroupName": "/g", "logStreamName": "s", "logEvents": events, "sequenceToken": "nobodys" });
    assert!(ok(&cloud, "PutLogEvents", input).await["nextSequenceToken"].is_string());
}

#[tokio::test]
async fn what_the_retention_would_delete_at_once_is_rejected_as_expired() {
    let cloud = cloud();
    cloud.deploy(&resource(json!({ "LogGroupName": "/g", "RetentionInDays": 1 }))).await.unwrap();
    ok(&cloud, "CreateLogStream", json!({ "logGroupName": "/g", "logStreamName": "s" })).await;
    let events = json!([{ "timestamp": NOW - 86_400_001, "message": "old" }]);
    let input = json!({ "logGroupName": "/g", "logStreamName": "s", "logEvents": events });
    let answer = ok(&cloud, "PutLogEvents", input).await;
    assert_eq!(answer["rejectedLogEventsInfo"], json!({ "expiredLogEventEndIndex": 1 }));
}

#[tokio::test]
async fn streams_are_ordered_by_their_last_event_on_request() {
    let cloud = cloud();
    append(&cloud, "/g", "a", NOW + 5, "x").unwrap();
    append(&cloud, "/g", "b", NOW, "x").unwrap();
    ok(&cloud, "CreateLogStream", json!({ "logGroupName": "/g", "logStreamName": "c" })).await;
    let input = json!({ "logGroupName": "/g", "orderBy": "LastEventTime", "descending": true });
    let answer = ok(&cloud, "DescribeLogStreams", input).await;
    let names: Vec<_> =
        answer["logStreams"].as_array().unwrap().iter().map(|stream| &stream["logStreamName"]).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_redeployed_group_keeps_its_events_and_an_unknown_property_is_refused() {
    let cloud = cloud();
    cloud.deploy(&resource(json!({ "LogGroupName": "/g" }))).await.unwrap();
    append(&cloud, "/g", "s", NOW, "kept").unwrap();
    let tagged =
        json!({ "LogGroupName": "/g", "RetentionInDays": 7, "Tags": [{ "Key": "Owner", "Value": "me" }] });
    cloud.deploy(&resource(tagged)).await.unwrap();
    let groups = ok(&cloud, "DescribeLogGroups", json!({})).await;
    assert_eq!(groups["logGroups"][0]["retentionInDays"], 7);
    assert_eq!(messages(&ok(&cloud, "FilterLogEvents", json!({ "logGroupName": "/g" })).await), ["kept"]);
    let refusal = cloud.deploy(&resource(json!({ "DataProtectionPolicy": {} }))).await.unwrap_err();
    assert!(refusal.to_string().contains("DataProtectionPolicy"), "{refusal}");
    let refusal = cloud.deploy(&resource(json!({ "RetentionInDays": 2 }))).await.unwrap_err();
    assert!(refusal.to_string().contains("RetentionInDays"), "{refusal}");
}

#[tokio::test]
async fn expired_events_leave_the_disk_though_nobody_reads() {
    let cloud = cloud();
    for (name, days) in [("/week", Some(7)), ("/month", Some(30)), ("/ever", None)] {
        ok(&cloud, "CreateLogGroup", json!({ "logGroupName": name })).await;
        if let Some(days) = days {
            let input = json!({ "logGroupName": name, "retentionInDays": days });
            ok(&cloud, "PutRetentionPolicy", input).await;
        }
        let events: Vec<(i64, &str)> = (0..700).map(|n| (NOW + n, "old")).collect();
        append_all(&cloud, name, "s", &events).unwrap();
    }
    cloud_core::housekeeping::start(&cloud);
    cloud.clock.advance(Duration::from_secs(8 * 86_400));
    let count = || {
        let query = "SELECT count(*) FROM log_events";
        cloud.store.read(|db| db.query_row(query, [], |row| row.get::<_, i64>(0))).unwrap()
    };
    tokio::time::timeout(Duration::from_secs(30), async {
        while count() > 1_400 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(store::sweep(&cloud.store, cloud.clock.now_ms(), 10).unwrap(), 0, "the others are kept");
    assert_eq!(count(), 1_400);
}
