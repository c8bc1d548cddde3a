use std::sync::Arc;
use std::time::Duration;

use cloud_core::Cloud;
use cloud_core::clock::Clock;
use cloud_core::resource::Resource;
use serde_json::{Value, json};

use super::mapping::{self, Mapping};
use super::pollers::{State, start};
use super::response::failures;
use super::stream::{Abandoned, Consumer, Delivery};
use super::{queue, table};
use crate::lambda::tests as lambda_tests;

mod updates;

const NOW: i64 = 1_750_000_000_000;
const QUEUE: &str = "arn:aws:sqs:us-east-1:123456789012:q";
const STREAM: &str = "arn:aws:dynamodb:us-east-1:123456789012:table/t/stream/label";

fn resource(properties: Value) -> Resource {
    Resource {
        stack: "s".into(),
        logical_id: "Mapping".into(),
        kind: "AWS::Lambda::EventSourceMapping".into(),
        physical_id: "8a2b1c64-0000-4000-8000-000000000001".into(),
        arn: String::new(),
        properties,
        metadata: Value::Null,
        file: "template.yaml".into(),
    }
}

fn merged(mut base: Value, extra: Value) -> Value {
    base.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    base
}

/// The queue `q` (visibility 30 s, dead-letter queue `dlq` after two receives) and the
/// function `f`, mapped with the given properties; not started yet.
async fn mapped(clock: Clock, properties: Value) -> Arc<Cloud> {
    let cloud = lambda_tests::cloud(clock);
    let create = |name: &str, attributes: Value| json!({ "QueueName": name, "Attributes": attributes });
    cloud.call("sqs", "CreateQueue", create("dlq", json!({}))).await.unwrap();
    let redrive = json!({ "deadLetterTargetArn": QUEUE.replace(":q", ":dlq"), "maxReceiveCount": 2 });
    let attributes = json!({ "RedrivePolicy": redrive.to_string() });
    cloud.call("sqs", "CreateQueue", create("q", attributes)).await.unwrap();
    lambda_tests::function(&cloud, json!({ "Timeout": 30 })).await;
    let base = json!({ "FunctionName": "f", "EventSourceArn": QUEUE });
    cloud.deploy(&resource(merged(base, properties))).await.unwrap();
    cloud
}

async fn send(cloud: &Arc<Cloud>, body: Value) -> String {
    let input = json!({ "QueueUrl": "/123456789012/q", "MessageBody": body.to_string(),
        "MessageAttributes": { "CommandId": { "DataType": "String", "StringValue": "c-1" } } });
    let sent = cloud.call("sqs", "SendMessage", input).await.unwrap();
    sent["MessageId"].as_str().unwrap().to_owned()
}

/// Visible and in flight.
async fn counts(cloud: &Arc<Cloud>, queue: &str) -> [i64; 2] {
    let input = json!({ "QueueUrl": format!("/123456789012/{queue}"), "AttributeNames": ["All"] });
    let answer = cloud.call("sqs", "GetQueueAttributes", input).await.unwrap();
    ["", "NotVisible"].map(|kind| {
        answer["Attributes"][format!("ApproximateNumberOfMessages{kind}")].as_str().unwrap().parse().unwrap()
    })
}

async fn until(cloud: &Arc<Cloud>, queue: &str, expected: [i64; 2]) {
    let waited = async {
        while counts(cloud, queue).await != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waited).await.expect("the queue never got there");
}

fn mapping_of(cloud: &Cloud) -> Arc<Mapping> {
    cloud.state::<State>().all().remove(0).borrow().mapping.clone()
}

#[tokio::test]
async fn messages_that_the_function_is_done_with_are_deleted() {
    let cloud = mapped(Clock::system(), json!({})).await;
    start(&cloud);
    for n in 0..25 {
        send(&cloud, json!({ "n": n })).await;
    }
    until(&cloud, "q", [0, 0]).await;
    assert_eq!(counts(&cloud, "dlq").await, [0, 0]);
}

/// Waits twice until both messages are received, and moves the manual clock past their visibility timeout.
async fn two_receives(cloud: &Arc<Cloud>) {
    for _ in 0..2 {
        until(cloud, "q", [0, 2]).await;
        lambda_tests::settled(cloud).await;
        cloud.clock.advance(Duration::from_secs(30));
    }
}

#[tokio::test]
async fn a_batch_fails_whole_on_a_function_error_and_its_messages_reach_the_dead_letter_queue() {
    let cloud = mapped(Clock::manual(NOW), json!({})).await;
    // The environment makes the function fail at its start, whatever it is sent.
    lambda_tests::function(
        &cloud,
        json!({ "Timeout": 30, "Environment": { "Variables": { "INIT": "exit" } } }),
    )
    .await;
    send(&cloud, json!(1)).await;
    send(&cloud, json!(2)).await;
    start(&cloud);
    two_receives(&cloud).await;
    until(&cloud, "dlq", [2, 0]).await;
}

#[test]
fn an_empty_or_missing_list_of_failures_is_success() {
    for payload in
        ["", "null", "{}", r#"{"batchItemFailures":null}"#, r#"{"batchItemFailures":[]}"#, r#"{"other":1}"#]
    {
        assert_eq!(failures(payload.as_bytes()), Ok(Vec::new()), "{payload}");
    }
}

#[test]
fn a_malformed_batch_response_fails_the_batch() {
    for payload in [
        "not json",
        "[]x",
        r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
        r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#,
        r#"{"batchItemFailures":[{"wrongKey":"id"}]}"#,
        r#"{"batchItemFailures":"id"}"#,
    ] {
        assert!(failures(payload.as_bytes()).is_err(), "{payload}");
    }
    assert_eq!(failures(br#"{"batchItemFailures":[{"itemIdentifier":"a"}]}"#), Ok(vec!["a".to_owned()]));
}

#[tokio::test]
async fn an_event_record_has_lambdas_names() {
    let cloud = mapped(Clock::system(), json!({})).await;
    let id = send(&cloud, json!("body")).await;
    let input =
        json!({ "QueueUrl": "/123456789012/q", "AttributeNames": ["All"], "MessageAttributeNames": ["All"] });
    let mut received = cloud.call("sqs", "ReceiveMessage", input).await.unwrap();
    let record = queue::record(&cloud, &mapping_of(&cloud), received["Messages"][0].take());
    assert_eq!((&record["messageId"], &record["body"]), (&json!(id), &json!("\"body\"")));
    assert_eq!(record["attributes"]["ApproximateReceiveCount"], "1");
    assert!(record["receiptHandle"].is_string() && record["md5OfBody"].is_string());
    assert_eq!(
        record["messageAttributes"]["CommandId"],
        json!({ "stringValue": "c-1", "stringListValues": [], "binaryListValues": [], "dataType": "String" })
    );
    assert_eq!(record["eventSource"], "aws:sqs");
    assert_eq!((&record["eventSourceARN"], &record["awsRegion"]), (&json!(QUEUE), &json!("us-east-1")));
}

/// A function that answers every batch alike, over the poller's own settling.
async fn settled(clock: Clock, properties: Value, answered: Value, bodies: &[Value]) -> Arc<Cloud> {
    let cloud = mapped(clock, properties).await;
    lambda_tests::function(
        &cloud,
        json!({ "Timeout": 30, "Environment": { "Variables": { "ANSWER": answered.to_string() } } }),
    )
    .await;
    for body in bodies {
        send(&cloud, body.clone()).await;
    }
    start(&cloud);
    cloud
}

#[tokio::test]
async fn only_the_messages_that_a_partial_response_names_stay() {
    let partial = json!({ "FunctionResponseTypes": ["ReportBatchItemFailures"] });
    // `SECOND` stands for the id of the second record of the batch.
    let failing = json!({ "batchItemFailures": [{ "itemIdentifier": "SECOND" }] });
    let cloud = settled(Clock::system(), partial, failing, &[json!(1), json!(2), json!(3)]).await;
    until(&cloud, "q", [0, 1]).await;
}

#[tokio::test]
async fn an_unknown_identifier_fails_the_whole_batch() {
    let partial = json!({ "FunctionResponseTypes": ["ReportBatchItemFailures"] });
    let failing = json!({ "batchItemFailures": [{ "itemIdentifier": "unknown" }] });
    let cloud = settled(Clock::manual(NOW), partial, failing, &[json!(1), json!(2)]).await;
    two_receives(&cloud).await;
    until(&cloud, "dlq", [2, 0]).await;
}

#[tokio::test]
async fn without_report_batch_item_failures_the_answer_is_not_read() {
    let failing = json!({ "batchItemFailures": [{ "itemIdentifier": "SECOND" }] });
    let cloud = settled(Clock::system(), json!({}), failing, &[json!(1), json!(2)]).await;
    until(&cloud, "q", [0, 0]).await;
}

#[tokio::test]
async fn messages_that_no_filter_wants_are_deleted_without_an_invocation() {
    let filter =
        json!({ "FilterCriteria": { "Filters": [{ "Pattern": "{\"body\":{\"kind\":[\"wanted\"]}}" }] } });
    let cloud = mapped(Clock::system(), filter).await;
    // Whatever is invoked fails, and stays in the queue.
    lambda_tests::function(
        &cloud,
        json!({ "Timeout": 30, "Environment": { "Variables": { "INIT": "exit" } } }),
    )
    .await;
    send(&cloud, json!({ "kind": "wanted" })).await;
    send(&cloud, json!({ "kind": "other" })).await;
    send(&cloud, json!("text")).await;
    start(&cloud);
    until(&cloud, "q", [0, 1]).await;
}

#[tokio::test]
async fn a_throttled_batch_is_tried_again_while_its_messages_are_hidden() {
    let cloud = mapped(Clock::system(), json!({})).await;
    lambda_tests::function(&cloud, json!({ "ReservedConcurrentExecutions": 0 })).await;
    send(&cloud, json!(1)).await;
    start(&cloud);
    until(&cloud, "q", [0, 1]).await;
    lambda_tests::function(&cloud, json!({})).await;
    until(&cloud, "q", [0, 0]).await;
}

#[tokio::test]
async fn a_disabled_mapping_rests_until_it_is_enabled() {
    let cloud = mapped(Clock::system(), json!({ "Enabled": false })).await;
    start(&cloud);
    send(&cloud, json!(1)).await;
    let uuid = "8a2b1c64-0000-4000-8000-000000000001";
    let state = cloud.call("lambda", "GetEventSourceMapping", json!({ "UUID": uuid })).await.unwrap();
    assert_eq!((&state["State"], &state["BatchSize"]), (&json!("Disabled"), &json!(10)));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(counts(&cloud, "q").await, [1, 0]);
    cloud.call("lambda", "UpdateEventSourceMapping", json!({ "UUID": uuid, "Enabled": true })).await.unwrap();
    until(&cloud, "q", [0, 0]).await;
    let listed = cloud
        .call("lambda", "ListEventSourceMappings", json!({ "FunctionName": "f", "EventSourceArn": QUEUE }))
        .await
        .unwrap();
    assert_eq!(listed["EventSourceMappings"][0]["State"], "Enabled");
    let none = cloud.call("lambda", "ListEventSourceMappings", json!({ "FunctionName": "g" })).await.unwrap();
    assert_eq!(none, json!({ "EventSourceMappings": [] }));
}

#[tokio::test]
async fn templates_are_refused_by_property() {
    let cloud = mapped(Clock::system(), json!({})).await;
    let base = json!({ "FunctionName": "f", "EventSourceArn": QUEUE });
    for (extra, part) in [
        (json!({ "Topics": ["t"] }), "Topics"),
        (json!({ "BatchSize": 11 }), "batch window in seconds must be greater than 0"),
        (json!({ "StartingPosition": "LATEST" }), "StartingPosition is not valid for SQS event sources."),
        (
            json!({ "MaximumRetryAttempts": 3 }),
            "MaximumRetryAttempts isn't supported for this event source type",
        ),
        (json!({ "MaximumBatchingWindowInSeconds": 301 }), "from 0 to 300"),
        (json!({ "ScalingConfig": { "MaximumConcurrency": 1 } }), "from 2 to 1000"),
        (json!({ "FunctionResponseTypes": ["Other"] }), "Other"),
        (
            json!({ "FilterCriteria": { "Filters": [{ "Pattern": "{" }] } }),
            "Invalid filter pattern definition.",
        ),
        (
            json!({ "FilterCriteria": { "Filters": vec![json!({ "Pattern": "{}" }); 6] } }),
            "5 filters at most",
        ),
        (json!({ "EventSourceArn": "arn:aws:kinesis:us-east-1:123456789012:stream/s" }), "kinesis"),
        (
            json!({ "EventSourceArn": STREAM, "StartingPosition": "LATEST", "TumblingWindowInSeconds": 5 }),
            "tumbling",
        ),
        (json!({ "EventSourceArn": STREAM }), "TRIM_HORIZON or LATEST"),
        (
            json!({ "EventSourceArn": STREAM, "StartingPosition": "LATEST", "ParallelizationFactor": 11 }),
            "from 1 to 10",
        ),
    ] {
        let refusal = cloud.deploy(&resource(merged(base.clone(), extra))).await.unwrap_err().to_string();
        assert!(refusal.contains(part) && refusal.contains("Mapping.Properties"), "{refusal}");
    }
    lambda_tests::function(&cloud, json!({ "Timeout": 31 })).await;
    let refusal = cloud.deploy(&resource(base)).await.unwrap_err();
    assert_eq!(
        refusal.reason,
        "Queue visibility timeout: 30 seconds is less than Function timeout: 31 seconds"
    );
}

/// Both of two batches wait in the function; the other messages stay where they are.
#[tokio::test]
async fn no_more_batches_are_with_the_function_than_the_maximum_concurrency() {
    let scaling = json!({ "BatchSize": 1, "ScalingConfig": { "MaximumConcurrency": 2 } });
    let cloud = mapped(Clock::manual(NOW), scaling).await;
    let variables = json!({ "Variables": { "INIT": "hang" } });
    lambda_tests::function(&cloud, json!({ "Timeout": 30, "Environment": variables })).await;
    for n in 0..5 {
        send(&cloud, json!(n)).await;
    }
    start(&cloud);
    until(&cloud, "q", [3, 2]).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(counts(&cloud, "q").await, [3, 2]);
}

#[tokio::test]
async fn messages_that_arrive_within_the_window_make_one_batch() {
    let window = json!({ "MaximumBatchingWindowInSeconds": 20, "BatchSize": 100 });
    let cloud = mapped(Clock::manual(NOW), window).await;
    start(&cloud);
    send(&cloud, json!(1)).await;
    until(&cloud, "q", [0, 1]).await;
    cloud.clock.advance(Duration::from_millis(19_500));
    send(&cloud, json!(2)).await;
    until(&cloud, "q", [0, 2]).await;
    cloud.clock.advance(Duration::from_millis(500));
    until(&cloud, "q", [0, 0]).await;
    assert_eq!(invocations(&cloud).await, 1);
}

#[tokio::test]
async fn a_full_batch_does_not_wait_for_its_window() {
    let window = json!({ "MaximumBatchingWindowInSeconds": 20, "BatchSize": 2 });
    let cloud = mapped(Clock::manual(NOW), window).await;
    start(&cloud);
    send(&cloud, json!(1)).await;
    send(&cloud, json!(2)).await;
    until(&cloud, "q", [0, 0]).await;
    assert_eq!(invocations(&cloud).await, 1);
}

/// By the START lines of the function's log.
async fn invocations(cloud: &Arc<Cloud>) -> usize {
    let input = json!({ "logGroupName": "/aws/lambda/f" });
    let events = cloud.call("logs", "FilterLogEvents", input).await.unwrap();
    let events = events["events"].as_array().unwrap().clone();
    events.iter().filter(|event| event["message"].as_str().unwrap().starts_with("START")).count()
}

fn stream_mapping(cloud: &Arc<Cloud>, extra: Value) -> Arc<Mapping> {
    let base = json!({ "FunctionName": "f", "EventSourceArn": STREAM, "StartingPosition": "TRIM_HORIZON",
        "DestinationConfig": { "OnFailure": { "Destination": QUEUE.replace(":q", ":dlq") } } });
    Arc::new(mapping::read(cloud, &resource(merged(base, extra)), NOW).unwrap())
}

fn records() -> Vec<Value> {
    (1..=3)
        .map(|n| json!({ "eventName": "INSERT", "dynamodb": { "SequenceNumber": n.to_string() } }))
        .collect()
}

#[tokio::test]
async fn a_stream_batch_is_settled_by_the_lowest_sequence_number_reported() {
    let cloud = mapped(Clock::system(), json!({})).await;
    let partial = stream_mapping(&cloud, json!({ "FunctionResponseTypes": ["ReportBatchItemFailures"] }));
    let deliver = async |mapping: &Arc<Mapping>, answered: Value| {
        let variables = json!({ "ANSWER": answered.to_string() });
        lambda_tests::function(&cloud, json!({ "Environment": { "Variables": variables } })).await;
        table::Functions::new(&cloud, mapping).deliver(records()).await
    };
    let failing = json!({ "batchItemFailures": [{ "itemIdentifier": "3" }, { "itemIdentifier": "2" }] });
    let settled = deliver(&partial, failing.clone()).await;
    assert!(matches!(settled, Delivery::FailedFrom { sequence, .. } if sequence == "2"));
    assert_eq!(deliver(&partial, json!({ "batchItemFailures": [] })).await, Delivery::Done);
    let unknown = json!({ "batchItemFailures": [{ "itemIdentifier": "9" }] });
    assert!(matches!(deliver(&partial, unknown).await, Delivery::Failed { .. }));
    assert_eq!(deliver(&stream_mapping(&cloud, json!({})), failing).await, Delivery::Done);
    lambda_tests::function(&cloud, json!({ "ReservedConcurrentExecutions": 0 })).await;
    let throttled = table::Functions::new(&cloud, &partial).deliver(records()).await;
    assert!(matches!(throttled, Delivery::NotStarted { .. }));
}

#[tokio::test]
async fn a_stream_batch_that_is_given_up_is_recorded_at_the_on_failure_destination() {
    let cloud = mapped(Clock::system(), json!({})).await;
    lambda_tests::function(&cloud, json!({ "Environment": { "Variables": { "INIT": "exit" } } })).await;
    let filter = json!({ "FilterCriteria": { "Filters": [{ "Pattern": "{\"eventName\":[\"INSERT\"]}" }] } });
    let consumer = table::Functions::new(&cloud, &stream_mapping(&cloud, filter));
    assert!(consumer.wants(&records()[0]) && !consumer.wants(&json!({ "eventName": "REMOVE" })));
    assert!(matches!(consumer.deliver(records()).await, Delivery::Failed { .. }));
    let abandoned = Abandoned {
        condition: "RetryAttemptsExhausted",
        attempts: 3,
        note: consumer.note(&records()),
        reason: String::new(),
        batch_info: json!({ "batchSize": 3 }),
        records: records(),
    };
    consumer.abandon(abandoned).await.unwrap();
    let received =
        cloud.call("sqs", "ReceiveMessage", json!({ "QueueUrl": "/123456789012/dlq" })).await.unwrap();
    let record: Value = serde_json::from_str(received["Messages"][0]["Body"].as_str().unwrap()).unwrap();
    assert_eq!(record["requestContext"]["condition"], "RetryAttemptsExhausted");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 3);
    assert_eq!(record["responseContext"]["functionError"], "Unhandled");
    assert_eq!(record["DDBStreamBatchInfo"]["batchSize"], 3);
    assert_eq!(record["requestContext"]["requestId"].as_str().map(str::len), Some(36));
}

#[tokio::test]
async fn changes_of_a_table_reach_the_function_once_over_a_restart_and_its_failures_the_destination() {
    let folder = tempfile::tempdir().unwrap();
    let stream = format!(
        "arn:aws:dynamodb:us-east-1:123456789012:table/things/stream/{}",
        crate::dynamodb::STREAM_LABEL
    );
    let open = async || {
        let settings = cloud_core::Settings {
            state: Some(folder.path().to_owned()),
            ..cloud_core::Settings::for_tests()
        };
        let cloud =
            crate::testing::open(settings, Clock::system(), cloud_core::random::Random::seeded(1)).unwrap();
        cloud.state::<crate::lambda::State>().binaries.set(lambda_tests::examples()).unwrap();
        let mut table = resource(json!({ "TableName": "things", "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{ "AttributeName": "id", "AttributeType": "S" }],
            "KeySchema": [{ "AttributeName": "id", "KeyType": "HASH" }],
            "StreamSpecification": { "StreamViewType": "NEW_AND_OLD_IMAGES" } }));
        (table.kind, table.physical_id) = ("AWS::DynamoDB::Table".into(), "things".into());
        cloud.deploy(&table).await.unwrap();
        cloud.call("sqs", "CreateQueue", json!({ "QueueName": "dlq" })).await.unwrap();
        // Fails always: each record that is delivered ends in the destination.
        let variables = json!({ "Variables": { "INIT": "exit" } });
        lambda_tests::function(&cloud, json!({ "Environment": variables })).await;
        let mapping = json!({ "FunctionName": "f", "EventSourceArn": stream, "StartingPosition": "LATEST",
            "MaximumRetryAttempts": 0, "DestinationConfig": { "OnFailure": { "Destination": QUEUE.replace(":q", ":dlq") } },
            "FilterCriteria": { "Filters": [{ "Pattern": r#"{"dynamodb":{"NewImage":{"kind":{"S":["wanted"]}}}}"# }] } });
        cloud.deploy(&resource(mapping)).await.unwrap();
        cloud_core::housekeeping::start(&cloud);
        start(&cloud);
        cloud
    };
    let put = async |cloud: &Arc<Cloud>, id: &str, kind: &str| {
        let item = json!({ "TableName": "things", "Item": { "id": { "S": id }, "kind": { "S": kind } } });
        cloud.call("dynamodb", "PutItem", item).await.unwrap();
    };
    let first = open().await;
    let list = json!({ "FunctionName": "f" });
    let listed = first.call("lambda", "ListEventSourceMappings", list.clone()).await.unwrap();
    let result = |listed: &Value| listed["EventSourceMappings"][0]["LastProcessingResult"].clone();
    put(&first, "1", "wanted").await;
    put(&first, "2", "other").await;
    until(&first, "dlq", [1, 0]).await;
    let after = first.call("lambda", "ListEventSourceMappings", list).await.unwrap();
    assert_eq!(
        (result(&listed), result(&after)),
        (json!("No records processed"), json!("PROBLEM: Function call failed"))
    );
    first.stopping.cancel();
    drop(first);
    let second = open().await;
    put(&second, "3", "wanted").await;
    until(&second, "dlq", [2, 0]).await;
}

/// A kill leaves messages in flight that nobody will settle; one that the function put off
/// waits for its time all the same.
#[tokio::test]
async fn what_was_in_flight_at_a_kill_is_delivered_at_the_next_start() {
    let cloud = mapped(Clock::manual(NOW), json!({})).await;
    send(&cloud, json!({ "n": 1 })).await;
    send(&cloud, json!({ "n": 2 })).await;
    let receive = json!({ "QueueUrl": "/123456789012/q", "MaxNumberOfMessages": 2 });
    let received = cloud.call("sqs", "ReceiveMessage", receive).await.unwrap();
    let put_off = json!({ "QueueUrl": "/123456789012/q", "VisibilityTimeout": 16,
        "ReceiptHandle": received["Messages"][1]["ReceiptHandle"] });
    cloud.call("sqs", "ChangeMessageVisibility", put_off).await.unwrap();
    assert_eq!(counts(&cloud, "q").await, [0, 2]);
    start(&cloud);
    until(&cloud, "q", [0, 1]).await;
}
