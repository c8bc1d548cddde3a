use std::time::Duration;

use cloud_core::AwsError;
use cloud_core::clock::Clock;
use cloud_core::random::Random;
use cloud_core::resource::Resource;
use serde_json::{Value, json};

use super::*;

pub(super) const NOW: i64 = 1_750_000_000_000;

pub(super) fn resource(kind: &str, name: &str, properties: Value) -> Resource {
    Resource {
        stack: "s".into(),
        logical_id: "Queue".into(),
        kind: kind.into(),
        physical_id: format!("http://127.0.0.1:4566/123456789012/{name}"),
        arn: arn(name),
        properties,
        metadata: Value::Null,
        file: "template.yaml".into(),
    }
}

pub(super) fn arn(name: &str) -> String {
    format!("arn:aws:sqs:us-east-1:123456789012:{name}")
}

pub(super) fn url(name: &str) -> String {
    format!("http://127.0.0.1:4566/123456789012/{name}")
}

/// A cloud with a held clock and the queue `q` (properties given) over its dead-letter queue `dlq`.
pub(super) async fn cloud(properties: Value) -> Arc<Cloud> {
    let cloud =
        crate::testing::open(cloud_core::Settings::for_tests(), Clock::manual(NOW), Random::seeded(1))
            .unwrap();
    let dlq = json!({ "QueueName": "dlq", "MessageRetentionPeriod": 1_209_600 });
    cloud.deploy(&resource("AWS::SQS::Queue", "dlq", dlq)).await.unwrap();
    let mut given = json!({ "QueueName": "q" });
    given.as_object_mut().unwrap().extend(properties.as_object().unwrap().clone());
    cloud.deploy(&resource("AWS::SQS::Queue", "q", given)).await.unwrap();
    cloud
}

pub(super) fn redrive(receives: u32) -> Value {
    json!({ "RedrivePolicy": { "deadLetterTargetArn": arn("dlq"), "maxReceiveCount": receives } })
}

/// Calls an action on `q`, unless the input names another queue.
async fn on(cloud: &Arc<Cloud>, action: &str, mut input: Value) -> Result<Value, AwsError> {
    input.as_object_mut().unwrap().entry("QueueUrl").or_insert(url("q").into());
    cloud.call("sqs", action, input).await
}

pub(super) async fn send(cloud: &Arc<Cloud>, body: &str) -> String {
    let sent = on(cloud, "SendMessage", json!({ "MessageBody": body })).await.unwrap();
    sent["MessageId"].as_str().unwrap().to_owned()
}

async fn receive_from(cloud: &Arc<Cloud>, queue: &str) -> Vec<Value> {
    let input = json!({ "QueueUrl": url(queue), "MaxNumberOfMessages": 10, "AttributeNames": ["All"],
        "MessageAttributeNames": ["All"] });
    let mut answer = cloud.call("sqs", "ReceiveMessage", input).await.unwrap();
    answer["Messages"].as_array_mut().map(std::mem::take).unwrap_or_default()
}

pub(super) async fn receive(cloud: &Arc<Cloud>) -> Vec<Value> {
    receive_from(cloud, "q").await
}

pub(super) async fn counts(cloud: &Arc<Cloud>, queue: &str) -> [String; 3] {
    let input = json!({ "QueueUrl": url(queue), "AttributeNames": ["All"] });
    let answer = cloud.call("sqs", "GetQueueAttributes", input).await.unwrap();
    ["", "NotVisible", "Delayed"].map(|kind| {
        answer["Attributes"][format!("ApproximateNumberOfMessages{kind}")].as_str().unwrap().to_owned()
    })
}

pub(super) fn query_code(error: &AwsError) -> &str {
    fault::query_code(error)
}

#[tokio::test]
async fn a_received_message_is_hidden_until_its_visibility_timeout_ends_and_gone_once_deleted() {
    let cloud = cloud(json!({ "VisibilityTimeout": "60" })).await;
    let id = send(&cloud, "hello").await;
    let first = receive(&cloud).await;
    assert_eq!((&first[0]["MessageId"], &first[0]["Body"]), (&json!(id), &json!("hello")));
    assert_eq!(first[0]["MD5OfBody"], "5d41402abc4b2a76b9719d911017c592");
    assert!(receive(&cloud).await.is_empty());
    assert_eq!(counts(&cloud, "q").await, ["0", "1", "0"]);
    cloud.clock.advance(Duration::from_secs(60));
    let second = receive(&cloud).await;
    assert_eq!(second[0]["Attributes"]["ApproximateReceiveCount"], "2");
    assert_eq!(second[0]["Attributes"]["ApproximateFirstReceiveTimestamp"], NOW.to_string());
    on(&cloud, "DeleteMessage", json!({ "ReceiptHandle": second[0]["ReceiptHandle"] })).await.unwrap();
    cloud.clock.advance(Duration::from_secs(60));
    assert!(receive(&cloud).await.is_empty());
}

#[tokio::test]
async fn an_older_receipt_handle_deletes_nothing_and_succeeds() {
    let cloud = cloud(json!({})).await;
    send(&cloud, "m").await;
    let first = receive(&cloud).await;
    cloud.clock.advance(Duration::from_secs(30));
    receive(&cloud).await;
    on(&cloud, "DeleteMessage", json!({ "ReceiptHandle": first[0]["ReceiptHandle"] })).await.unwrap();
    cloud.clock.advance(Duration::from_secs(30));
    assert_eq!(receive(&cloud).await.len(), 1);
    let forged = on(&cloud, "DeleteMessage", json!({ "ReceiptHandle": "forged" })).await.unwrap_err();
    assert_eq!(forged.code, "ReceiptHandleIsInvalid");
}

#[tokio::test]
async fn a_visibility_change_to_zero_shows_the_message_at_once() {
    let cloud = cloud(json!({})).await;
    send(&cloud, "m").await;
    let handle = receive(&cloud).await[0]["ReceiptHandle"].clone();
    let change = |seconds: i64| json!({ "ReceiptHandle": handle, "VisibilityTimeout": seconds });
    on(&cloud, "ChangeMessageVisibility", change(0)).await.unwrap();
    assert_eq!(
        on(&cloud, "ChangeMessageVisibility", change(5)).await.unwrap_err().code,
        "MessageNotInflight"
    );
    assert_eq!(receive(&cloud).await.len(), 1);
    let too_long = on(&cloud, "ChangeMessageVisibility", change(43_201)).await.unwrap_err();
    assert_eq!(query_code(&too_long), "InvalidParameterValue");
}

#[tokio::test]
async fn a_message_whose_timeout_has_ended_can_be_hidden_again_by_its_last_receiver() {
    let cloud = cloud(json!({})).await;
    send(&cloud, "m").await;
    let handle = receive(&cloud).await[0]["ReceiptHandle"].clone();
    cloud.clock.advance(Duration::from_secs(31));
    let change = json!({ "ReceiptHandle": handle, "VisibilityTimeout": 10 });
    on(&cloud, "ChangeMessageVisibility", change).await.unwrap();
    assert!(receive(&cloud).await.is_empty());
    cloud.clock.advance(Duration::from_secs(10));
    assert_eq!(receive(&cloud).await.len(), 1);
}

#[tokio::test]
async fn visibility_is_limited_to_twelve_hours_in_all_since_the_receive() {
    let cloud = cloud(json!({ "VisibilityTimeout": 43_200 })).await;
    send(&cloud, "m").await;
    let handle = receive(&cloud).await[0]["ReceiptHandle"].clone();
    cloud.clock.advance(Duration::from_secs(100));
    let change = |seconds: i64| json!({ "ReceiptHandle": handle, "VisibilityTimeout": seconds });
    let beyond = on(&cloud, "ChangeMessageVisibility", change(43_101)).await.unwrap_err();
    assert!(beyond.message.contains("beyond the limit"), "{beyond}");
    on(&cloud, "ChangeMessageVisibility", change(43_100)).await.unwrap();
}

#[tokio::test]
async fn a_message_received_too_often_moves_to_the_dead_letter_queue_with_all_that_it_had() {
    let cloud = cloud(redrive(2)).await;
    let attributes = json!({ "CommandId": { "DataType": "String", "StringValue": "c-1" } });
    let sent = on(&cloud, "SendMessage", json!({ "MessageBody": "poison", "MessageAttributes": attributes }));
    let id = sent.await.unwrap()["MessageId"].clone();
    for _ in 0..2 {
        assert_eq!(receive(&cloud).await.len(), 1);
        cloud.clock.advance(Duration::from_secs(30));
    }
    assert!(receive(&cloud).await.is_empty());
    let dead = receive_from(&cloud, "dlq").await;
    assert_eq!((&dead[0]["MessageId"], &dead[0]["Body"]), (&id, &json!("poison")));
    assert_eq!(dead[0]["MessageAttributes"], attributes);
    let system = &dead[0]["Attributes"];
    assert_eq!(system["DeadLetterQueueSourceArn"], arn("q"));
    assert_eq!(system["SentTimestamp"], NOW.to_string(), "the time of sending is kept on a standard queue");
    assert_eq!(system["ApproximateReceiveCount"], "3", "receives count across all queues");
}

#[tokio::test]
async fn messages_expire_after_the_retention_period() {
    let cloud = cloud(json!({ "MessageRetentionPeriod": 60 })).await;
    send(&cloud, "m").await;
    cloud.clock.advance(Duration::from_secs(61));
    assert_eq!(counts(&cloud, "q").await, ["0", "0", "0"]);
    assert!(receive(&cloud).await.is_empty());
}

#[tokio::test]
async fn a_delayed_message_is_counted_as_delayed_and_comes_when_the_delay_ends() {
    let cloud = cloud(json!({ "DelaySeconds": 10 })).await;
    send(&cloud, "by the queue's default").await;
    on(&cloud, "SendMessage", json!({ "MessageBody": "own", "DelaySeconds": 0 })).await.unwrap();
    assert_eq!(counts(&cloud, "q").await, ["1", "0", "1"]);
    assert_eq!(receive(&cloud).await[0]["Body"], "own");
    cloud.clock.advance(Duration::from_secs(10));
    assert_eq!(receive(&cloud).await[0]["Body"], "by the queue's default");
}

#[tokio::test]
async fn a_long_poll_ends_with_the_first_message_or_with_its_wait() {
    let cloud = cloud(json!({ "ReceiveMessageWaitTimeSeconds": 20 })).await;
    let poll = || {
        let cloud = cloud.clone();
        tokio::spawn(async move { receive(&cloud).await })
    };
    let waiting = poll();
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    send(&cloud, "m").await;
    assert_eq!(waiting.await.unwrap().len(), 1);

    let waiting = poll();
    tokio::task::yield_now().await;
    cloud.clock.advance(Duration::from_secs(20));
    assert!(waiting.await.unwrap().is_empty());

    let waiting = poll();
    tokio::task::yield_now().await;
    cloud.clock.advance(Duration::from_secs(10));
    assert_eq!(waiting.await.unwrap().len(), 1, "a message in flight became visible during the poll");
}

#[tokio::test]
async fn attributes_are_returned_as_asked_and_the_digest_covers_those_returned() {
    let cloud = cloud(json!({ "VisibilityTimeout": 0 })).await;
    let attributes = json!({ "a.one": { "DataType": "String", "StringValue": "1" },
        "a.two": { "DataType": "Number", "StringValue": "2" }, "b": { "DataType": "Binary", "BinaryValue": "AAEC" } });
    let sent = json!({ "MessageBody": "m", "MessageAttributes": attributes });
    let sent = on(&cloud, "SendMessage", sent).await.unwrap();
    let names = async |wanted: Value| {
        cloud.clock.advance(Duration::from_millis(1));
        let mut answer =
            on(&cloud, "ReceiveMessage", json!({ "MessageAttributeNames": wanted })).await.unwrap();
        answer["Messages"][0].take()
    };
    let keys = |message: &Value| {
        message["MessageAttributes"]
            .as_object()
            .map(|map| map.keys().cloned().collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let all = names(json!(["All"])).await;
    assert_eq!(all["MessageAttributes"], attributes);
    assert_eq!(all["MD5OfMessageAttributes"], sent["MD5OfMessageAttributes"]);
    assert!(all.get("Attributes").is_none(), "system attributes come only when asked for");
    assert_eq!(keys(&names(json!([".*"])).await), ["a.one", "a.two", "b"]);
    let some = names(json!(["a.*"])).await;
    assert_eq!(keys(&some), ["a.one", "a.two"]);
    assert_ne!(some["MD5OfMessageAttributes"], sent["MD5OfMessageAttributes"]);
    assert_eq!(keys(&names(json!(["b"])).await), ["b"]);
    assert!(keys(&names(json!([])).await).is_empty());
}

#[tokio::test]
async fn a_message_above_the_queues_maximum_size_is_refused_counting_its_attributes() {
    let cloud = cloud(json!({ "MaximumMessageSize": 1_024 })).await;
    let size = |body: usize| {
        json!({ "MessageBody": "x".repeat(body),
            "MessageAttributes": { "k": { "DataType": "String", "StringValue": "v" } } })
    };
    on(&cloud, "SendMessage", size(1_024 - 8)).await.unwrap();
    let refused = on(&cloud, "SendMessage", size(1_024 - 7)).await.unwrap_err();
    assert_eq!((query_code(&refused), refused.status), ("InvalidParameterValue", 400));
    assert!(refused.message.ends_with("Message must be shorter than 1024 bytes."), "{refused}");
}

#[tokio::test]
async fn one_mebibyte_is_accepted_by_default_and_one_byte_more_is_not() {
    let cloud = cloud(json!({})).await;
    on(&cloud, "SendMessage", json!({ "MessageBody": "x".repeat(1_048_576) })).await.unwrap();
    assert!(on(&cloud, "SendMessage", json!({ "MessageBody": "x".repeat(1_048_577) })).await.is_err());
}

#[tokio::test]
async fn bodies_are_kept_byte_for_byte_and_characters_outside_xml_are_refused() {
    let cloud = cloud(json!({})).await;
    let odd = "a&b=+%41 \t\r\n\u{D7FF}\u{E000}\u{FFFD}😀\"\\";
    send(&cloud, odd).await;
    assert_eq!(receive(&cloud).await[0]["Body"], odd);
    for forbidden in ["\u{0}", "\u{B}", "\u{1F}", "\u{FFFE}", "\u{FFFF}"] {
        let refused = on(&cloud, "SendMessage", json!({ "MessageBody": forbidden })).await.unwrap_err();
        assert_eq!(refused.code, "InvalidMessageContents", "{forbidden:?}");
    }
    let empty = on(&cloud, "SendMessage", json!({ "MessageBody": "" })).await.unwrap_err();
    assert_eq!(query_code(&empty), "MissingParameter");
}

#[tokio::test]
async fn unsound_message_attributes_are_refused() {
    let cloud = cloud(json!({})).await;
    let unsound = [
        json!({ "AWS.x": { "DataType": "String", "StringValue": "v" } }),
        json!({ ".x": { "DataType": "String", "StringValue": "v" } }),
        json!({ "x": { "DataType": "Text", "StringValue": "v" } }),
        json!({ "x": { "DataType": "String", "StringValue": "" } }),
        json!({ "x": { "DataType": "String", "BinaryValue": "AAEC" } }),
        json!({ "x": { "DataType": "Binary", "BinaryValue": "not base64" } }),
        json!({ "x": { "DataType": "Number", "StringValue": "seven" } }),
        json!({ "x": { "DataType": "String", "StringValue": "v", "StringListValues": ["v"] } }),
        (0..11).map(|n| (format!("x{n}"), json!({ "DataType": "String", "StringValue": "v" }))).collect(),
    ];
    for attributes in unsound {
        let input = json!({ "MessageBody": "m", "MessageAttributes": attributes });
        let refused = on(&cloud, "SendMessage", input).await.expect_err(&attributes.to_string());
        assert_eq!(refused.status, 400, "{refused}");
    }
    assert!(receive(&cloud).await.is_empty());
}

#[tokio::test]
async fn each_entry_of_a_batch_succeeds_or_fails_on_its_own() {
    let cloud = cloud(json!({})).await;
    let entries = json!([{ "Id": "good", "MessageBody": "m" }, { "Id": "bad", "MessageBody": "\u{0}" }]);
    let answer = on(&cloud, "SendMessageBatch", json!({ "Entries": entries })).await.unwrap();
    assert_eq!(answer["Successful"][0]["Id"], "good");
    assert_eq!(
        (&answer["Failed"][0]["Id"], &answer["Failed"][0]["Code"]),
        (&json!("bad"), &json!("InvalidMessageContents"))
    );
    assert_eq!(answer["Failed"][0]["SenderFault"], true);
    let handle = receive(&cloud).await[0]["ReceiptHandle"].clone();
    let entries = json!([{ "Id": "a", "ReceiptHandle": handle, "VisibilityTimeout": 5 }, { "Id": "b", "ReceiptHandle": "x", "VisibilityTimeout": 5 }]);
    let answer = on(&cloud, "ChangeMessageVisibilityBatch", json!({ "Entries": entries })).await.unwrap();
    assert_eq!((&answer["Successful"][0]["Id"], &answer["Failed"][0]["Id"]), (&json!("a"), &json!("b")));
    let entries = json!([{ "Id": "a", "ReceiptHandle": handle }, { "Id": "b", "ReceiptHandle": "x" }]);
    let answer = on(&cloud, "DeleteMessageBatch", json!({ "Entries": entries })).await.unwrap();
    assert_eq!(
        (&answer["Successful"][0]["Id"], &answer["Failed"][0]["Code"]),
        (&json!("a"), &json!("ReceiptHandleIsInvalid"))
    );
}

#[tokio::test]
async fn a_batch_is_refused_whole_for_its_ids_its_count_and_its_size() {
    let cloud = cloud(json!({})).await;
    let entry = |id: &str, body: usize| json!({ "Id": id, "MessageBody": "x".repeat(body) });
    let half = 600_000;
    for (entries, code) in [
        (json!([]), "EmptyBatchRequest"),
        ((0..11).map(|n| entry(&n.to_string(), 1)).collect(), "TooManyEntriesInBatchRequest"),
        (json!([entry("a", 1), entry("a", 1)]), "BatchEntryIdsNotDistinct"),
        (json!([entry("no spaces", 1)]), "InvalidBatchEntryId"),
        (json!([entry("a", half), entry("b", half)]), "BatchRequestTooLong"),
    ] {
        let refused = on(&cloud, "SendMessageBatch", json!({ "Entries": entries })).await.unwrap_err();
        assert_eq!(refused.code, code);
        assert_eq!(query_code(&refused), format!("AWS.SimpleQueueService.{code}"));
    }
    assert!(receive(&cloud).await.is_empty());
}

#[tokio::test]
async fn an_empty_batch_is_told_by_the_kind_of_its_entries() {
    let cloud = cloud(json!({})).await;
    for kind in ["SendMessage", "DeleteMessage", "ChangeMessageVisibility"] {
        let refused = on(&cloud, &format!("{kind}Batch"), json!({ "Entries": [] })).await.unwrap_err();
        assert_eq!(query_code(&refused), "AWS.SimpleQueueService.EmptyBatchRequest");
        assert_eq!(
            refused.message,
            format!("There should be at least one {kind}BatchRequestEntry in the request.")
        );
    }
}

#[tokio::test]
async fn with_120_000_messages_in_flight_a_short_poll_is_over_the_limit_and_a_long_one_is_empty() {
    let cloud = cloud(json!({})).await;
    let fill = |tx: &rusqlite::Transaction<'_>| {
        tx.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 119999)
             INSERT INTO sqs_messages (queue, message_id, body, attributes, system_attributes, sent_ms, visible_ms, receives, received_ms, receipt)
             SELECT 'q', i, 'm', '{}', '{}', ?1, ?1 + 30000, 1, ?1, i FROM n",
            [NOW],
        )
    };
    cloud.store.write(fill).unwrap();
    send(&cloud, "a").await;
    send(&cloud, "b").await;
    assert_eq!(receive(&cloud).await.len(), 1, "the last that may be in flight");
    let refused = on(&cloud, "ReceiveMessage", json!({})).await.unwrap_err();
    assert_eq!((refused.status, refused.code.as_str()), (400, "OverLimit"));
    let waiting = tokio::spawn({
        let cloud = cloud.clone();
        async move { on(&cloud, "ReceiveMessage", json!({ "WaitTimeSeconds": 1 })).await }
    });
    tokio::task::yield_now().await;
    cloud.clock.advance(Duration::from_secs(1));
    assert_eq!(waiting.await.unwrap().unwrap(), json!({}));
    cloud.clock.advance(Duration::from_secs(30));
    assert_eq!(receive(&cloud).await.len(), 10, "they are visible again");
}

#[tokio::test]
async fn numbers_of_a_receive_are_held_to_their_bounds() {
    let cloud = cloud(json!({})).await;
    for (name, value, reason) in [
        ("MaxNumberOfMessages", 0, "Must be between 1 and 10, if provided."),
        ("MaxNumberOfMessages", 11, "Must be between 1 and 10, if provided."),
        ("WaitTimeSeconds", 21, "Must be >= 0 and <= 20, if provided."),
        ("VisibilityTimeout", 43_201, "Must be >= 0 and <= 43200, if provided."),
    ] {
        let refused = on(&cloud, "ReceiveMessage", json!({ name: value })).await.unwrap_err();
        assert_eq!(query_code(&refused), "InvalidParameterValue");
        assert_eq!(
            refused.message,
            format!("Value {value} for parameter {name} is invalid. Reason: {reason}")
        );
    }
}

#[tokio::test]
async fn an_older_receipt_handle_does_not_change_the_visibility_of_a_newer_receive() {
    let cloud = cloud(json!({})).await;
    send(&cloud, "m").await;
    let old = receive(&cloud).await[0]["ReceiptHandle"].clone();
    cloud.clock.advance(Duration::from_secs(30));
    assert_eq!(receive(&cloud).await.len(), 1);
    let change = json!({ "ReceiptHandle": old, "VisibilityTimeout": 0 });
    let refused = on(&cloud, "ChangeMessageVisibility", change).await.unwrap_err();
    assert_eq!(query_code(&refused), "InvalidParameterValue");
    assert!(receive(&cloud).await.is_empty(), "it is still with its receiver");
}

#[tokio::test]
async fn a_missing_queue_has_the_code_of_both_protocols() {
    let cloud = cloud(json!({})).await;
    let missing = json!({ "QueueUrl": url("nope"), "MessageBody": "m" });
    let error = cloud.call("sqs", "SendMessage", missing).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.status), ("QueueDoesNotExist", 400));
    assert_eq!(query_code(&error), "AWS.SimpleQueueService.NonExistentQueue");
}

#[tokio::test]
async fn a_queue_answers_under_any_host_region_and_account() {
    let cloud = cloud(json!({})).await;
    for url in [
        "https://sqs.eu-west-1.amazonaws.com/111122223333/q",
        "/123456789012/q",
        "http://localhost:1/000000000000/q/",
    ] {
        on(&cloud, "SendMessage", json!({ "QueueUrl": url, "MessageBody": "m" })).await.unwrap();
    }
    let refused =
        on(&cloud, "SendMessage", json!({ "QueueUrl": "q", "MessageBody": "m" })).await.unwrap_err();
    assert_eq!(refused.code, "InvalidAddress");
}

#[tokio::test]
async fn unknown_members_and_missing_ones_are_refused_by_name() {
    let cloud = cloud(json!({})).await;
    let unknown =
        on(&cloud, "SendMessage", json!({ "MessageBody": "m", "Colour": "red" })).await.unwrap_err();
    assert!(unknown.message.contains("Colour"), "{unknown}");
    let missing = on(&cloud, "DeleteMessage", json!({})).await.unwrap_err();
    assert_eq!(missing.message, "The request must contain the parameter ReceiptHandle.");
}

#[tokio::test]
async fn queue_attributes_are_shown_with_their_defaults_and_validated_when_set() {
    let cloud = cloud(redrive(5)).await;
    let all = on(&cloud, "GetQueueAttributes", json!({ "AttributeNames": ["All"] })).await.unwrap();
    for (name, value) in [
        ("VisibilityTimeout", "30"),
        ("MaximumMessageSize", "1048576"),
        ("MessageRetentionPeriod", "345600"),
        ("DelaySeconds", "0"),
        ("ReceiveMessageWaitTimeSeconds", "0"),
        ("SqsManagedSseEnabled", "true"),
        ("CreatedTimestamp", "1750000000"),
        ("QueueArn", &arn("q")),
    ] {
        assert_eq!(all["Attributes"][name], value, "{name}");
    }
    assert!(all["Attributes"]["RedrivePolicy"].as_str().unwrap().contains("maxReceiveCount"));
    let one = on(&cloud, "GetQueueAttributes", json!({ "AttributeNames": ["QueueArn"] })).await.unwrap();
    assert_eq!(one, json!({ "Attributes": { "QueueArn": arn("q") } }));
    assert_eq!(on(&cloud, "GetQueueAttributes", json!({})).await.unwrap(), json!({}));

    let set = async |name: &str, value: &str| {
        on(&cloud, "SetQueueAttributes", json!({ "Attributes": { name: value } })).await.map_err(|e| e.code)
    };
    set("VisibilityTimeout", "0").await.unwrap();
    assert_eq!(set("VisibilityTimeout", "43201").await.unwrap_err(), "InvalidAttributeValue");
    assert_eq!(set("Colour", "red").await.unwrap_err(), "InvalidAttributeName");
    assert_eq!(set("FifoQueue", "true").await.unwrap_err(), "InvalidAttributeName");
    let fifo = json!({ "QueueName": "n", "Attributes": { "FifoQueue": "true" } });
    assert_eq!(cloud.call("sqs", "CreateQueue", fifo).await.unwrap_err().code, "UnsupportedOperation");
    let none = on(&cloud, "GetQueueAttributes", json!({ "AttributeNames": ["Policy"] })).await.unwrap();
    assert_eq!(none, json!({ "Attributes": {} }));
    let nowhere = json!({ "deadLetterTargetArn": arn("nope"), "maxReceiveCount": 5 }).to_string();
    assert_eq!(set("RedrivePolicy", &nowhere).await.unwrap_err(), "InvalidParameterValueException");
    set("RedrivePolicy", "").await.unwrap();
    let all = on(&cloud, "GetQueueAttributes", json!({ "AttributeNames": ["All"] })).await.unwrap();
    assert!(all["Attributes"].get("RedrivePolicy").is_none());
}

#[tokio::test]
async fn a_dead_letter_queue_may_forbid_sources() {
    let cloud = cloud(json!({})).await;
    let deny = json!({ "QueueUrl": url("dlq"), "Attributes": { "RedriveAllowPolicy": r#"{"redrivePermission":"denyAll"}"# } });
    cloud.call("sqs", "SetQueueAttributes", deny).await.unwrap();
    let policy = json!({ "deadLetterTargetArn": arn("dlq"), "maxReceiveCount": 5 }).to_string();
    let set = json!({ "Attributes": { "RedrivePolicy": policy } });
    assert!(on(&cloud, "SetQueueAttributes", set).await.is_err());
}

#[tokio::test]
async fn a_dead_letter_queue_may_name_the_sources_that_it_takes() {
    let cloud = cloud(json!({})).await;
    let allow = |sources: Value| {
        let policy = json!({ "redrivePermission": "byQueue", "sourceQueueArns": sources }).to_string();
        json!({ "QueueUrl": url("dlq"), "Attributes": { "RedriveAllowPolicy": policy } })
    };
    let policy = json!({ "deadLetterTargetArn": arn("dlq"), "maxReceiveCount": 5 }).to_string();
    let set = json!({ "Attributes": { "RedrivePolicy": policy } });
    cloud.call("sqs", "SetQueueAttributes", allow(json!([arn("other")]))).await.unwrap();
    assert_eq!(
        query_code(&on(&cloud, "SetQueueAttributes", set.clone()).await.unwrap_err()),
        "InvalidParameterValue"
    );
    cloud.call("sqs", "SetQueueAttributes", allow(json!([arn("other"), arn("q")]))).await.unwrap();
    on(&cloud, "SetQueueAttributes", set).await.unwrap();
    let eleven: Value = (0..11).map(|n| arn(&n.to_string())).collect();
    for wrong in [json!([]), eleven] {
        let refused = cloud.call("sqs", "SetQueueAttributes", allow(wrong)).await.unwrap_err();
        assert_eq!(refused.code, "InvalidAttributeValue");
    }
}

#[tokio::test]
async fn tags_are_set_replaced_and_taken_off() {
    let cloud = cloud(json!({})).await;
    on(&cloud, "TagQueue", json!({ "Tags": { "a": "1", "b": "2" } })).await.unwrap();
    on(&cloud, "TagQueue", json!({ "Tags": { "b": "3" } })).await.unwrap();
    assert_eq!(
        on(&cloud, "ListQueueTags", json!({})).await.unwrap(),
        json!({ "Tags": { "a": "1", "b": "3" } })
    );
    on(&cloud, "UntagQueue", json!({ "TagKeys": ["a", "b", "c"] })).await.unwrap();
    assert_eq!(on(&cloud, "ListQueueTags", json!({})).await.unwrap(), json!({ "Tags": {} }));
}

#[tokio::test]
async fn system_attributes_come_by_either_member_and_unknown_ones_are_refused() {
    let cloud = cloud(json!({ "VisibilityTimeout": 0 })).await;
    let trace = json!({ "AWSTraceHeader": { "DataType": "String", "StringValue": "Root=1-5e1b4151-0" } });
    let message = json!({ "MessageBody": "m", "MessageSystemAttributes": trace, "MessageGroupId": "tenant" });
    let sent = on(&cloud, "SendMessage", message).await.unwrap();
    assert!(sent["MD5OfMessageSystemAttributes"].is_string());
    for member in ["AttributeNames", "MessageSystemAttributeNames"] {
        cloud.clock.advance(Duration::from_millis(1));
        let names = json!({ member: ["SenderId", "AWSTraceHeader", "MessageGroupId"] });
        let received = on(&cloud, "ReceiveMessage", names).await.unwrap();
        let attributes = &received["Messages"][0]["Attributes"];
        assert_eq!(attributes.as_object().unwrap().len(), 3, "{attributes}");
        assert_eq!(attributes["AWSTraceHeader"], "Root=1-5e1b4151-0");
        let refused = on(&cloud, "ReceiveMessage", json!({ member: ["Colour"] })).await.unwrap_err();
        assert_eq!(
            (refused.code.as_str(), refused.message.as_str()),
            ("InvalidAttributeName", "Unknown Attribute Colour.")
        );
    }
}

#[tokio::test]
async fn deploying_again_keeps_messages_and_takes_the_templates_attributes() {
    let cloud = cloud(json!({})).await;
    send(&cloud, "kept").await;
    let again = json!({ "QueueName": "q", "VisibilityTimeout": 77 });
    cloud.deploy(&resource("AWS::SQS::Queue", "q", again)).await.unwrap();
    let shown =
        on(&cloud, "GetQueueAttributes", json!({ "AttributeNames": ["VisibilityTimeout"] })).await.unwrap();
    assert_eq!(shown["Attributes"]["VisibilityTimeout"], "77");
    assert_eq!(receive(&cloud).await[0]["Body"], "kept");
}

#[tokio::test]
async fn templates_are_refused_by_property() {
    let cloud = cloud(json!({})).await;
    for (properties, part) in [
        (json!({ "QueueName": "q", "Colour": "red" }), "Colour"),
        (json!({ "QueueName": "q.fifo", "FifoQueue": true }), "FIFO"),
        (json!({ "QueueName": "q", "VisibilityTimeout": 43_201 }), "VisibilityTimeout"),
        (
            json!({ "QueueName": "q", "RedrivePolicy": { "deadLetterTargetArn": arn("q"), "maxReceiveCount": 0 } }),
            "maxReceiveCount",
        ),
    ] {
        let refusal =
            cloud.deploy(&resource("AWS::SQS::Queue", "q", properties)).await.unwrap_err().to_string();
        assert!(refusal.contains(part) && refusal.contains("template.yaml: Queue.Properties"), "{refusal}");
    }
}

#[tokio::test]
async fn queues_are_listed_by_prefix_in_pages() {
    let cloud = cloud(json!({})).await;
    for name in ["p-1", "p-2", "p-3"] {
        cloud.call("sqs", "CreateQueue", json!({ "QueueName": name })).await.unwrap();
    }
    let first =
        cloud.call("sqs", "ListQueues", json!({ "QueueNamePrefix": "p-", "MaxResults": 2 })).await.unwrap();
    assert_eq!(first["QueueUrls"], json!([url("p-1"), url("p-2")]));
    let next = json!({ "QueueNamePrefix": "p-", "MaxResults": 2, "NextToken": first["NextToken"] });
    let second = cloud.call("sqs", "ListQueues", next).await.unwrap();
    assert_eq!(second, json!({ "QueueUrls": [url("p-3")] }));
    assert_eq!(
        cloud.call("sqs", "ListQueues", json!({ "QueueNamePrefix": "none" })).await.unwrap(),
        json!({})
    );
}

#[tokio::test]
async fn a_queue_is_created_once_and_its_name_is_barred_for_a_minute_after_it_is_deleted() {
    let cloud = cloud(json!({})).await;
    let create = |timeout: &str| json!({ "QueueName": "n", "Attributes": { "VisibilityTimeout": timeout } });
    cloud.call("sqs", "CreateQueue", create("5")).await.unwrap();
    cloud.call("sqs", "CreateQueue", create("5")).await.unwrap();
    let other = cloud.call("sqs", "CreateQueue", create("6")).await.unwrap_err();
    assert_eq!((other.code.as_str(), query_code(&other)), ("QueueNameExists", "QueueAlreadyExists"));
    assert!(other.message.ends_with("a different value for attribute VisibilityTimeout"), "{other}");
    // Without attributes, or with the ones that it has by default, it is the same queue.
    cloud.call("sqs", "CreateQueue", json!({ "QueueName": "n" })).await.unwrap();
    let delay = json!({ "QueueName": "n", "Attributes": { "DelaySeconds": "0" } });
    cloud.call("sqs", "CreateQueue", delay).await.unwrap();
    cloud.call("sqs", "DeleteQueue", json!({ "QueueUrl": url("n") })).await.unwrap();
    assert_eq!(
        cloud.call("sqs", "GetQueueUrl", json!({ "QueueName": "n" })).await.unwrap_err().code,
        "QueueDoesNotExist"
    );
    assert_eq!(cloud.call("sqs", "CreateQueue", create("6")).await.unwrap_err().code, "QueueDeletedRecently");
    cloud.clock.advance(Duration::from_secs(60));
    cloud.call("sqs", "CreateQueue", create("6")).await.unwrap();
    assert_eq!(
        cloud.call("sqs", "GetQueueUrl", json!({ "QueueName": "n" })).await.unwrap()["QueueUrl"],
        url("n")
    );
}

#[tokio::test]
async fn a_queue_is_found_by_its_name_and_its_owner() {
    let cloud = cloud(json!({})).await;
    let of = |owner: &str| json!({ "QueueName": "q", "QueueOwnerAWSAccountId": owner });
    assert_eq!(cloud.call("sqs", "GetQueueUrl", of("123456789012")).await.unwrap()["QueueUrl"], url("q"));
    for missing in [of("111122223333"), json!({ "QueueName": "nope" })] {
        assert_eq!(cloud.call("sqs", "GetQueueUrl", missing).await.unwrap_err().code, "QueueDoesNotExist");
    }
}

#[tokio::test]
async fn a_purge_empties_the_queue_and_may_be_repeated_after_a_minute() {
    let cloud = cloud(json!({})).await;
    send(&cloud, "m").await;
    on(&cloud, "PurgeQueue", json!({})).await.unwrap();
    assert!(receive(&cloud).await.is_empty());
    assert_eq!(on(&cloud, "PurgeQueue", json!({})).await.unwrap_err().code, "PurgeQueueInProgress");
    cloud.clock.advance(Duration::from_secs(60));
    on(&cloud, "PurgeQueue", json!({})).await.unwrap();
}

#[tokio::test]
async fn messages_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let settings = cloud_core::Settings {
            state: Some(folder.path().to_owned()),
            ..cloud_core::Settings::for_tests()
        };
        crate::testing::open(settings, Clock::manual(NOW), Random::seeded(1)).unwrap()
    };
    let first = open();
    first.call("sqs", "CreateQueue", json!({ "QueueName": "q" })).await.unwrap();
    send(&first, "kept").await;
    drop(first);
    assert_eq!(receive(&open()).await[0]["Body"], "kept");
}

#[tokio::test]
async fn what_was_in_flight_at_a_kill_shows_again_and_its_receive_is_given_back() {
    let cloud = cloud(redrive(1)).await;
    send(&cloud, "m").await;
    for receives in ["1", "2"] {
        let received = receive(&cloud).await;
        assert_eq!(received[0]["Attributes"]["ApproximateReceiveCount"], receives);
        assert_eq!(counts(&cloud, "q").await, ["0", "1", "0"]);
        release(&cloud, &arn("q")).unwrap();
        assert_eq!(counts(&cloud, "q").await, ["1", "0", "0"]);
    }
    // One that is received and not deleted still goes where the policy says.
    receive(&cloud).await;
    cloud.clock.advance(Duration::from_secs(30));
    assert!(receive(&cloud).await.is_empty());
    assert_eq!(counts(&cloud, "dlq").await, ["1", "0", "0"]);
}

#[tokio::test]
async fn a_message_comes_in_time_though_the_clock_is_set() {
    const HOUR_MS: i64 = 3_600_000;
    let cloud = cloud(json!({ "DelaySeconds": 100 })).await;
    send(&cloud, "before the clock is set back").await;
    cloud.clock.jump(-HOUR_MS);
    assert!(receive(&cloud).await.is_empty());
    cloud.clock.advance(Duration::from_secs(102));
    assert_eq!(receive(&cloud).await[0]["Body"], "before the clock is set back");
    send(&cloud, "before the clock is put forward").await;
    cloud.clock.jump(2 * HOUR_MS);
    assert_eq!(receive(&cloud).await.len(), 2, "the visibility timeout of the first is over, too");
}

#[tokio::test]
async fn what_nobody_can_read_any_more_leaves_the_disk() {
    let cloud = cloud(json!({ "MessageRetentionPeriod": 60 })).await;
    cloud_core::housekeeping::start(&cloud);
    for _ in 0..1_200 {
        send(&cloud, "old").await;
    }
    let count = |table: &str| {
        let query = format!("SELECT count(*) FROM {table}");
        cloud.store.read(|db| db.query_row(&query, [], |row| row.get::<_, i64>(0))).unwrap()
    };
    assert_eq!(count("sqs_messages"), 1_200, "more than two portions");
    cloud.clock.advance(Duration::from_secs(61));
    let input = json!({ "QueueUrl": url("dlq"), "MessageBody": "kept longer" });
    cloud.call("sqs", "SendMessage", input).await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), async {
        while count("sqs_messages") > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(counts(&cloud, "dlq").await, ["1", "0", "0"]);
}

#[tokio::test]
async fn move_tasks_and_names_that_nobody_can_ask_for_are_forgotten() {
    let cloud = cloud(redrive(1)).await;
    for _ in 0..12 {
        let started = json!({ "SourceArn": arn("dlq") });
        cloud.call("sqs", "StartMessageMoveTask", started).await.unwrap();
        let running = || {
            let query = "SELECT count(*) FROM sqs_move_tasks WHERE status = 'RUNNING'";
            cloud.store.read(|db| db.query_row(query, [], |row| row.get::<_, i64>(0))).unwrap()
        };
        while running() > 0 {
            tokio::task::yield_now().await;
        }
    }
    on(&cloud, "DeleteQueue", json!({})).await.unwrap();
    cloud.clock.advance(Duration::from_secs(61));
    sweep(&cloud, 10).unwrap();
    let count = |table: &str| {
        let query = format!("SELECT count(*) FROM {table}");
        cloud.store.read(|db| db.query_row(&query, [], |row| row.get::<_, i64>(0))).unwrap()
    };
    assert_eq!((count("sqs_move_tasks"), count("sqs_deleted_queues")), (10, 0));
}
