use std::sync::Arc;
use std::time::Duration;

use cloud_core::Cloud;
use serde_json::{Value, json};

use super::super::query;
use super::super::tests::{cloud, counts, receive};

async fn form(cloud: &Arc<Cloud>, form: &str) -> (u16, Value) {
    query(cloud, "/123456789012/q", form.as_bytes()).await
}

#[tokio::test]
async fn the_query_protocol_decodes_plus_and_percent_and_keeps_every_byte() {
    let cloud = cloud(json!({})).await;
    let (status, answer) = form(
        &cloud,
        "Action=SendMessage&MessageBody=Smith+%26+Sons%2B%25%0A%F0%9F%98%80%22%5C&MessageAttribute.1.Name=CommandId\
         &MessageAttribute.1.Value.StringValue=a%3D%3D&MessageAttribute.1.Value.DataType=String\
         &MessageAttribute.2.Name=HttpMethod&MessageAttribute.2.Value.StringValue=POST&MessageAttribute.2.Value.DataType=String",
    )
    .await;
    assert_eq!(status, 200, "{answer}");
    let message = receive(&cloud).await.remove(0);
    assert_eq!(message["Body"], "Smith & Sons+%\n😀\"\\");
    assert_eq!(message["MessageAttributes"]["CommandId"]["StringValue"], "a==");
    assert_eq!(message["MessageAttributes"]["HttpMethod"]["StringValue"], "POST");
    let result = &answer["SendMessageResponse"]["SendMessageResult"];
    assert_eq!(
        (&result["MessageId"], &result["MD5OfMessageBody"]),
        (&message["MessageId"], &message["MD5OfBody"])
    );
}

#[tokio::test]
async fn an_unencoded_body_is_cut_at_its_ampersand_and_can_smuggle_a_parameter() {
    let cloud = cloud(json!({})).await;
    form(&cloud, "Action=SendMessage&MessageBody=Smith & Sons&DelaySeconds=900").await;
    assert_eq!(counts(&cloud, "q").await, ["0", "0", "1"], "DelaySeconds came through");
    cloud.clock.advance(Duration::from_secs(900));
    assert_eq!(receive(&cloud).await[0]["Body"], "Smith ");
}

#[tokio::test]
async fn the_query_protocol_answers_errors_with_a_code_that_a_gateway_can_read() {
    let cloud = cloud(json!({ "MaximumMessageSize": 1_024 })).await;
    let large = format!("Action=SendMessage&MessageBody={}", "x".repeat(1_025));
    for (body, code) in [
        (large.as_str(), "InvalidParameterValue"),
        ("Action=SendMessage&MessageBody=%00", "InvalidMessageContents"),
        ("Action=SendMessage&MessageBody=%FF", "MalformedQueryString"),
        ("Action=SendMessage", "MissingParameter"),
        ("MessageBody=m", "MissingAction"),
        ("Action=SendMessage&MessageBody=m&DelaySeconds=901", "InvalidParameterValue"),
    ] {
        let (status, answer) = form(&cloud, body).await;
        assert_eq!((status, answer["Error"]["Code"].as_str()), (400, Some(code)), "{answer}");
        assert_eq!(answer["Error"]["Type"], "Sender");
    }
    let (status, answer) = query(&cloud, "/123456789012/nope", b"Action=SendMessage&MessageBody=m").await;
    assert_eq!((status, &answer["Error"]["Code"]), (400, &json!("AWS.SimpleQueueService.NonExistentQueue")));
    assert!(receive(&cloud).await.is_empty());
}
