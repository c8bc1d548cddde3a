use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cloud_core::clock::Clock;
use cloud_core::random::Random;
use cloud_core::{Cloud, lock};
use serde_json::{Value, json};

use super::super::pool::PROCESSES;
use super::super::tests::{NOW, cloud, examples, function, message, queue, resource, until};
use super::super::{State, invoke, invoke_async, retrying, start};
use super::{MAX_UNDER_WAY, dispatch};

/// How often the only event was tried, and when it is due again.
fn attempts(cloud: &Cloud) -> Option<(i64, i64)> {
    let read = |c: &rusqlite::Connection| {
        c.query_row("SELECT attempts, due_ms FROM lambda_events", [], |row| Ok((row.get(0)?, row.get(1)?)))
    };
    cloud.store.read(read).ok()
}

#[tokio::test]
async fn a_failing_event_is_retried_after_one_and_two_minutes_then_recorded_at_its_destination() {
    let cloud = cloud(Clock::manual(NOW));
    queue(&cloud, "failed").await;
    queue(&cloud, "dead").await;
    let arn = |name: &str| format!("arn:aws:sqs:us-east-1:123456789012:{name}");
    function(&cloud, json!({ "Timeout": 60, "DeadLetterConfig": { "TargetArn": arn("dead") } })).await;
    let config = json!({ "FunctionName": "f", "Qualifier": "$LATEST",
        "DestinationConfig": { "OnFailure": { "Destination": arn("failed") } } });
    cloud.deploy(&resource("AWS::Lambda::EventInvokeConfig", config)).await.unwrap();
    start(&cloud);
    let event = json!({ "do": "fail", "text": "no table" });
    let accepted = cloud
        .call(
            "lambda",
            "Invoke",
            json!({ "FunctionName": "f", "InvocationType": "Event", "Payload": event.to_string() }),
        )
        .await
        .unwrap();
    assert_eq!(accepted["StatusCode"], 202);
    let attempts = || attempts(&cloud);
    until(|| attempts() == Some((1, NOW + 60_000))).await;
    assert_eq!(retrying(&cloud).unwrap(), [("f".to_owned(), 1)].into());
    cloud.clock.advance(Duration::from_secs(60));
    until(|| attempts() == Some((2, NOW + 180_000))).await;
    cloud.clock.advance(Duration::from_secs(120));
    until(|| attempts().is_none()).await;
    assert!(retrying(&cloud).unwrap().is_empty(), "what was given up is not retried");

    let record = message(&cloud, "failed", Duration::ZERO).await;
    let record: Value = serde_json::from_str(record["Body"].as_str().unwrap()).unwrap();
    let context = &record["requestContext"];
    assert_eq!(
        (&context["condition"], &context["approximateInvokeCount"]),
        (&json!("RetriesExhausted"), &json!(3))
    );
    assert_eq!(context["functionArn"], "arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST");
    assert_eq!(context["requestId"], accepted["RequestId"], "retries keep the request id");
    assert_eq!(record["requestPayload"], event);
    assert_eq!(
        record["responseContext"],
        json!({ "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled" })
    );
    assert_eq!(record["responsePayload"]["errorMessage"], "no table");
    let dead = message(&cloud, "dead", Duration::ZERO).await;
    assert_eq!(dead["Body"], event.to_string());
    assert_eq!(dead["MessageAttributes"]["RequestID"]["StringValue"], accepted["RequestId"]);
    assert_eq!(dead["MessageAttributes"]["ErrorMessage"]["StringValue"], "no table");
}

#[tokio::test]
async fn an_event_outlives_a_restart_and_its_success_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let open = async || {
        let settings = cloud_core::Settings {
            state: Some(folder.path().to_owned()),
            ..cloud_core::Settings::for_tests()
        };
        let cloud = crate::testing::open(settings, Clock::manual(NOW), Random::seeded(1)).unwrap();
        cloud.state::<State>().binaries.set(examples()).unwrap();
        queue(&cloud, "done").await;
        function(&cloud, json!({})).await;
        let config = json!({ "FunctionName": "f", "Qualifier": "$LATEST", "MaximumRetryAttempts": 0,
            "DestinationConfig": { "OnSuccess": { "Destination": "arn:aws:sqs:us-east-1:123456789012:done" } } });
        cloud.deploy(&resource("AWS::Lambda::EventInvokeConfig", config)).await.unwrap();
        cloud
    };
    invoke_async(&open().await, "f", Bytes::from_static(b"{\"n\":1}")).await.unwrap();
    let restarted = open().await;
    start(&restarted);
    let record = message(&restarted, "done", Duration::ZERO).await;
    let record: Value = serde_json::from_str(record["Body"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&record["requestContext"]["condition"], &record["responsePayload"]["n"]),
        (&json!("Success"), &json!(1))
    );
}

#[tokio::test]
async fn an_event_that_a_stop_breaks_off_counts_no_attempt() {
    let cloud = cloud(Clock::manual(NOW));
    function(&cloud, json!({ "Timeout": 900 })).await;
    start(&cloud);
    invoke_async(&cloud, "f", json!({ "do": "hang" }).to_string().into()).await.unwrap();
    until(|| cloud.state::<State>().alive.count() > 0).await;
    cloud.stopping.cancel();
    super::super::end_processes(&cloud);
    super::super::tests::settled(&cloud).await;
    assert_eq!(attempts(&cloud), Some((0, NOW)));
}

#[tokio::test]
async fn no_more_events_are_under_way_than_there_is_room_for() {
    let cloud = cloud(Clock::manual(NOW));
    function(&cloud, json!({})).await;
    for _ in 0..MAX_UNDER_WAY + 10 {
        invoke_async(&cloud, "f", Bytes::from_static(b"{}")).await.unwrap();
    }
    let under_way = Arc::new(Mutex::default());
    dispatch(&cloud, &under_way).unwrap();
    assert_eq!(lock(&under_way).len(), MAX_UNDER_WAY);
    // The others are first in line now, but there is no room yet.
    let first = "UPDATE lambda_events SET due_ms = due_ms - 1 WHERE rowid > ?1";
    cloud.store.write(|tx| tx.execute(first, [MAX_UNDER_WAY as i64])).unwrap();
    dispatch(&cloud, &under_way).unwrap();
    assert_eq!(lock(&under_way).len(), MAX_UNDER_WAY);
    let ended = lock(&under_way).iter().next().cloned().unwrap();
    cloud.store.write(|tx| tx.execute("DELETE FROM lambda_events WHERE request_id = ?1", [&ended])).unwrap();
    lock(&under_way).remove(&ended);
    dispatch(&cloud, &under_way).unwrap();
    assert_eq!(lock(&under_way).len(), MAX_UNDER_WAY);
    cloud.stopping.cancel();
}

/// The function `f` with the queue `failed` as its on-failure destination.
async fn with_destination(cloud: &Arc<Cloud>, properties: Value, invoke: Value) {
    queue(cloud, "failed").await;
    function(cloud, properties).await;
    let mut config = json!({ "FunctionName": "f", "Qualifier": "$LATEST",
        "DestinationConfig": { "OnFailure": { "Destination": "arn:aws:sqs:us-east-1:123456789012:failed" } } });
    config.as_object_mut().unwrap().extend(invoke.as_object().unwrap().clone());
    cloud.deploy(&resource("AWS::Lambda::EventInvokeConfig", config)).await.unwrap();
    start(cloud);
}

async fn failure_record(cloud: &Arc<Cloud>, step: Duration) -> Value {
    let record = message(cloud, "failed", step).await;
    serde_json::from_str(record["Body"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_throttled_event_is_tried_until_it_is_too_old() {
    let cloud = cloud(Clock::manual(NOW));
    let busy = json!({ "Timeout": 900, "ReservedConcurrentExecutions": 1 });
    with_destination(&cloud, busy, json!({ "MaximumEventAgeInSeconds": 60 })).await;
    let hanging = tokio::spawn({
        let cloud = cloud.clone();
        async move { invoke(&cloud, "f", json!({ "do": "hang" }).to_string().into()).await }
    });
    until(|| cloud.state::<State>().pool.turns.available_permits() < PROCESSES).await;
    invoke_async(&cloud, "f", Bytes::from_static(b"{}")).await.unwrap();
    let record = failure_record(&cloud, Duration::from_secs(1)).await;
    assert_eq!(record["requestContext"]["condition"], "EventAgeExceeded");
    assert!(record.get("responsePayload").is_none());
    hanging.abort();
}

#[tokio::test]
async fn an_event_for_a_function_without_any_concurrency_is_given_up_at_once() {
    let cloud = cloud(Clock::manual(NOW));
    queue(&cloud, "dead").await;
    let dead = json!({ "TargetArn": "arn:aws:sqs:us-east-1:123456789012:dead" });
    let none = json!({ "ReservedConcurrentExecutions": 0, "DeadLetterConfig": dead });
    with_destination(&cloud, none, json!({})).await;
    invoke_async(&cloud, "f", Bytes::from_static(b"{}")).await.unwrap();
    let record = failure_record(&cloud, Duration::ZERO).await;
    assert_eq!(record["requestContext"]["condition"], "ZeroReservedConcurrency");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 0);
    assert!(record.get("responsePayload").is_none());
    let dead = message(&cloud, "dead", Duration::ZERO).await;
    let reason = dead["MessageAttributes"]["ErrorMessage"]["StringValue"].as_str().unwrap();
    assert!(reason.contains("zero reserved concurrent executions"), "{reason}");
}

#[tokio::test]
async fn an_event_that_would_be_too_old_at_its_retry_is_given_up_with_its_error() {
    let cloud = cloud(Clock::manual(NOW));
    with_destination(&cloud, json!({}), json!({ "MaximumEventAgeInSeconds": 60 })).await;
    // The first retry would come when the event is 60 s old.
    invoke_async(&cloud, "f", json!({ "do": "fail", "text": "no table" }).to_string().into()).await.unwrap();
    let record = failure_record(&cloud, Duration::ZERO).await;
    let context = &record["requestContext"];
    assert_eq!(context["condition"], "EventAgeExceeded");
    assert_eq!(context["approximateInvokeCount"], 1);
    assert_eq!(record["responsePayload"]["errorMessage"], "no table");
}

async fn event_invoke(cloud: &Arc<Cloud>, function: &str, outcome: &str, destination: &str) {
    let config = json!({ "FunctionName": function, "Qualifier": "$LATEST", "MaximumRetryAttempts": 0,
        "DestinationConfig": { outcome: { "Destination": destination } } });
    cloud.deploy(&resource("AWS::Lambda::EventInvokeConfig", config)).await.unwrap();
}

#[tokio::test]
async fn a_destination_may_be_another_function() {
    let cloud = cloud(Clock::system());
    queue(&cloud, "done").await;
    function(&cloud, json!({})).await;
    function(&cloud, json!({ "FunctionName": "g" })).await;
    event_invoke(&cloud, "f", "OnSuccess", "arn:aws:lambda:us-east-1:123456789012:function:g").await;
    event_invoke(&cloud, "g", "OnSuccess", "arn:aws:sqs:us-east-1:123456789012:done").await;
    start(&cloud);
    invoke_async(&cloud, "f", Bytes::from_static(b"{\"n\":1}")).await.unwrap();
    let record = message(&cloud, "done", Duration::ZERO).await;
    let record: Value = serde_json::from_str(record["Body"].as_str().unwrap()).unwrap();
    let seen = &record["requestPayload"];
    assert_eq!(
        seen["requestContext"]["functionArn"],
        "arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST"
    );
    assert_eq!((&seen["requestPayload"], &seen["responsePayload"]), (&json!({ "n": 1 }), &json!({ "n": 1 })));
}

#[tokio::test]
async fn a_destination_may_be_an_event_bus() {
    let cloud = cloud(Clock::system());
    queue(&cloud, "seen").await;
    function(&cloud, json!({})).await;
    let bus = "arn:aws:events:us-east-1:123456789012:event-bus/b";
    for (action, input) in [
        ("CreateEventBus", json!({ "Name": "b" })),
        ("PutRule", json!({ "Name": "r", "EventBusName": "b", "EventPattern": r#"{"source":["lambda"]}"# })),
        (
            "PutTargets",
            json!({ "Rule": "r", "EventBusName": "b",
            "Targets": [{ "Id": "q", "Arn": "arn:aws:sqs:us-east-1:123456789012:seen" }] }),
        ),
    ] {
        cloud.call("events", action, input).await.unwrap();
    }
    event_invoke(&cloud, "f", "OnFailure", bus).await;
    crate::eventbridge::start(&cloud);
    start(&cloud);
    invoke_async(&cloud, "f", json!({ "do": "fail", "text": "no table" }).to_string().into()).await.unwrap();
    let event = message(&cloud, "seen", Duration::ZERO).await;
    let event: Value = serde_json::from_str(event["Body"].as_str().unwrap()).unwrap();
    assert_eq!(event["detail-type"], "Lambda Function Invocation Result - Failure");
    assert_eq!(event["resources"], json!([bus, "arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST"]));
    assert_eq!(event["detail"]["responsePayload"]["errorMessage"], "no table");
}

#[tokio::test]
async fn a_retry_is_made_in_time_though_the_clock_is_set_back() {
    let cloud = cloud(Clock::manual(NOW));
    function(&cloud, json!({ "Timeout": 60 })).await;
    start(&cloud);
    invoke_async(&cloud, "f", json!({ "do": "fail" }).to_string().into()).await.unwrap();
    until(|| attempts(&cloud) == Some((1, NOW + 60_000))).await;
    cloud.clock.jump(-3_600_000);
    cloud.clock.advance(Duration::from_secs(61));
    until(|| attempts(&cloud).is_some_and(|(tried, _)| tried == 2)).await;
}

/// The clock jumps as when a laptop wakes. The function has no binary, so every attempt fails on our side.
#[tokio::test(start_paused = true)]
async fn a_retry_is_made_within_a_minute_when_the_clock_jumps_past_its_time() {
    let cloud =
        crate::testing::open(cloud_core::Settings::for_tests(), Clock::manual(NOW), Random::seeded(1))
            .unwrap();
    function(&cloud, json!({})).await;
    start(&cloud);
    invoke_async(&cloud, "f", Bytes::from_static(b"{}")).await.unwrap();
    let tried = || {
        let query = "SELECT throttled FROM lambda_events";
        cloud.store.read(|db| db.query_row(query, [], |row| row.get::<_, i64>(0))).unwrap()
    };
    let until_tried = async |times: i64| {
        let waited = async {
            while tried() < times {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waited).await.expect("it was not tried in time");
    };
    until_tried(1).await;
    cloud.clock.jump(3_600_000);
    until_tried(2).await;
}
