use std::sync::Arc;
use std::time::Duration;

use cloud_core::Cloud;
use serde_json::{Value, json};

use super::super::tests::{NOW, arn, cloud, counts, query_code, receive, redrive, send, url};
use super::resume as start;

async fn bury(cloud: &Arc<Cloud>, bodies: &[&str]) {
    for body in bodies {
        send(cloud, body).await;
    }
    receive(cloud).await;
    cloud.clock.advance(Duration::from_secs(30));
    assert!(receive(cloud).await.is_empty());
}

async fn finished(cloud: &Arc<Cloud>) -> Value {
    loop {
        let tasks =
            cloud.call("sqs", "ListMessageMoveTasks", json!({ "SourceArn": arn("dlq") })).await.unwrap();
        if tasks["Results"][0]["Status"] != "RUNNING" {
            return tasks["Results"][0].clone();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_move_task_brings_dead_messages_back_to_their_source_as_new_ones() {
    let cloud = cloud(redrive(1)).await;
    bury(&cloud, &["a", "b"]).await;
    let sources =
        cloud.call("sqs", "ListDeadLetterSourceQueues", json!({ "QueueUrl": url("dlq") })).await.unwrap();
    assert_eq!(sources["queueUrls"], json!([url("q")]));
    cloud.call("sqs", "StartMessageMoveTask", json!({ "SourceArn": arn("dlq") })).await.unwrap();
    let task = finished(&cloud).await;
    assert_eq!(
        (&task["Status"], &task["ApproximateNumberOfMessagesMoved"]),
        (&json!("COMPLETED"), &json!(2))
    );
    let back = receive(&cloud).await;
    assert_eq!(back.len(), 2);
    assert_eq!(back[0]["Attributes"]["ApproximateReceiveCount"], "1");
    assert_eq!(back[0]["Attributes"]["SentTimestamp"], (NOW + 30_000).to_string());
    assert!(back[0]["Attributes"].get("DeadLetterQueueSourceArn").is_none());
}

#[tokio::test]
async fn a_move_task_holds_its_rate_can_be_cancelled_and_is_resumed() {
    let cloud = cloud(redrive(1)).await;
    bury(&cloud, &["a", "b", "c"]).await;
    let start =
        json!({ "SourceArn": arn("dlq"), "DestinationArn": arn("q"), "MaxNumberOfMessagesPerSecond": 1 });
    let handle =
        cloud.call("sqs", "StartMessageMoveTask", start.clone()).await.unwrap()["TaskHandle"].clone();
    let second = cloud.call("sqs", "StartMessageMoveTask", start).await.unwrap_err();
    assert_eq!(query_code(&second), "InvalidParameterValue");
    let moved = async |expected: i64| loop {
        let tasks =
            cloud.call("sqs", "ListMessageMoveTasks", json!({ "SourceArn": arn("dlq") })).await.unwrap();
        if tasks["Results"][0]["ApproximateNumberOfMessagesMoved"] == expected {
            return tasks;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(moved(1).await["Results"][0]["TaskHandle"], handle);
    // As after a restart: the stored task is taken up where it was.
    start_again(&cloud);
    moved(2).await;
    let cancelled =
        cloud.call("sqs", "CancelMessageMoveTask", json!({ "TaskHandle": handle })).await.unwrap();
    assert_eq!(cancelled["ApproximateNumberOfMessagesMoved"], 2);
    assert_eq!(counts(&cloud, "dlq").await[0], "1");
    let ended =
        cloud.call("sqs", "CancelMessageMoveTask", json!({ "TaskHandle": handle })).await.unwrap_err();
    assert_eq!(
        (ended.code.as_str(), ended.message.as_str()),
        ("ResourceNotFoundException", "Task does not exist.")
    );
    let forged =
        cloud.call("sqs", "CancelMessageMoveTask", json!({ "TaskHandle": "forged" })).await.unwrap_err();
    assert_eq!(query_code(&forged), "InvalidParameterValue");
    let nowhere = json!({ "SourceArn": arn("dlq"), "DestinationArn": arn("nope") });
    let nowhere = cloud.call("sqs", "StartMessageMoveTask", nowhere).await.unwrap_err();
    assert_eq!((nowhere.code.as_str(), nowhere.status), ("ResourceNotFoundException", 404));
    assert!(nowhere.message.contains("DestinationArn"), "{nowhere}");
}

fn start_again(cloud: &Arc<Cloud>) {
    start(cloud);
}

#[tokio::test]
async fn a_move_task_fails_on_a_message_whose_source_is_unknown() {
    let cloud = cloud(redrive(1)).await;
    cloud
        .call("sqs", "SendMessage", json!({ "QueueUrl": url("dlq"), "MessageBody": "sent directly" }))
        .await
        .unwrap();
    cloud.call("sqs", "StartMessageMoveTask", json!({ "SourceArn": arn("dlq") })).await.unwrap();
    let task = finished(&cloud).await;
    assert_eq!(
        (&task["Status"], &task["FailureReason"]),
        (&json!("FAILED"), &json!("CouldNotDetermineMessageSource"))
    );
    let live = cloud.call("sqs", "StartMessageMoveTask", json!({ "SourceArn": arn("q") })).await.unwrap_err();
    assert_eq!(live.message, "Source queue must be configured as a Dead Letter Queue.");
}

#[tokio::test]
async fn a_move_task_fails_when_its_destination_is_deleted() {
    let cloud = cloud(redrive(1)).await;
    bury(&cloud, &["a", "b"]).await;
    cloud.call("sqs", "CreateQueue", json!({ "QueueName": "other" })).await.unwrap();
    let start =
        json!({ "SourceArn": arn("dlq"), "DestinationArn": arn("other"), "MaxNumberOfMessagesPerSecond": 1 });
    cloud.call("sqs", "StartMessageMoveTask", start).await.unwrap();
    while counts(&cloud, "other").await[0] != "1" {
        tokio::task::yield_now().await;
    }
    cloud.call("sqs", "DeleteQueue", json!({ "QueueUrl": url("other") })).await.unwrap();
    cloud.clock.advance(Duration::from_secs(1));
    let task = finished(&cloud).await;
    assert_eq!(
        (&task["Status"], &task["FailureReason"]),
        (&json!("FAILED"), &json!("AWS.SimpleQueueService.NonExistentQueue"))
    );
    assert_eq!(task["ApproximateNumberOfMessagesMoved"], 1);
}
