use std::sync::Arc;
use std::time::Duration;

use cloud_core::Cloud;
use cloud_core::clock::Clock;
use serde_json::{Value, json};

use super::{QUEUE, counts, mapped, merged, resource, send, start, until};
use crate::lambda::tests as lambda_tests;

const NOW: i64 = 1_750_000_000_000;
const UUID: &str = "8a2b1c64-0000-4000-8000-000000000001";

async fn update(cloud: &Arc<Cloud>, changes: Value) -> Result<Value, cloud_core::AwsError> {
    cloud.call("lambda", "UpdateEventSourceMapping", merged(json!({ "UUID": UUID }), changes)).await
}

async fn get(cloud: &Arc<Cloud>) -> Value {
    cloud.call("lambda", "GetEventSourceMapping", json!({ "UUID": UUID })).await.unwrap()
}

async fn settled(cloud: &Arc<Cloud>) -> Value {
    let waited = async {
        loop {
            let mapping = get(cloud).await;
            if matches!(mapping["State"].as_str(), Some("Enabled" | "Disabled")) {
                return mapping;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waited).await.expect("the mapping never settled")
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_leaves_the_rest() {
    let cloud = mapped(Clock::manual(NOW), json!({ "ScalingConfig": { "MaximumConcurrency": 7 } })).await;
    start(&cloud);
    cloud.clock.advance(Duration::from_secs(5));
    let changes = json!({ "BatchSize": 50, "MaximumBatchingWindowInSeconds": 3,
        "FilterCriteria": { "Filters": [{ "Pattern": r#"{"body":{"kind":["wanted"]}}"# }] },
        "FunctionResponseTypes": ["ReportBatchItemFailures"] });
    let answer = update(&cloud, changes.clone()).await.unwrap();
    assert_eq!(answer["State"], "Updating");
    let now = settled(&cloud).await;
    assert_eq!(now["State"], "Enabled");
    for (member, value) in changes.as_object().unwrap() {
        assert_eq!((&answer[member], &now[member]), (value, value), "{member}");
    }
    assert_eq!(now["ScalingConfig"]["MaximumConcurrency"], 7);
    assert_eq!(now["LastModified"], (NOW + 5_000) as f64 / 1_000.0);
    // Empty objects and lists take away.
    update(&cloud, json!({ "FilterCriteria": {}, "ScalingConfig": {}, "FunctionResponseTypes": [] }))
        .await
        .unwrap();
    let now = settled(&cloud).await;
    assert_eq!((now.get("FilterCriteria"), now.get("ScalingConfig")), (None, None));
    assert_eq!(now["FunctionResponseTypes"], json!([]));
}

#[tokio::test]
async fn a_mapping_passes_through_disabling_and_enabling_and_polls_as_it_says() {
    let cloud = mapped(Clock::system(), json!({})).await;
    start(&cloud);
    assert_eq!(update(&cloud, json!({ "Enabled": false })).await.unwrap()["State"], "Disabling");
    let early = update(&cloud, json!({ "Enabled": true })).await.unwrap_err();
    assert_eq!(early.code, "ResourceInUseException");
    assert_eq!(settled(&cloud).await["State"], "Disabled");
    send(&cloud, json!(1)).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(counts(&cloud, "q").await, [1, 0]);
    assert_eq!(update(&cloud, json!({ "Enabled": true })).await.unwrap()["State"], "Enabling");
    assert_eq!(settled(&cloud).await["State"], "Enabled");
    until(&cloud, "q", [0, 0]).await;
}

#[tokio::test]
async fn a_new_filter_holds_for_the_next_messages() {
    let cloud = mapped(Clock::system(), json!({})).await;
    // Whatever is invoked fails, and stays in the queue.
    let variables = json!({ "Variables": { "INIT": "exit" } });
    lambda_tests::function(&cloud, json!({ "Timeout": 30, "Environment": variables })).await;
    start(&cloud);
    let filter = json!({ "Filters": [{ "Pattern": r#"{"body":{"kind":["wanted"]}}"# }] });
    update(&cloud, json!({ "FilterCriteria": filter })).await.unwrap();
    settled(&cloud).await;
    send(&cloud, json!({ "kind": "wanted" })).await;
    send(&cloud, json!({ "kind": "other" })).await;
    until(&cloud, "q", [0, 1]).await;
}

#[tokio::test]
async fn an_update_holds_over_a_restart_until_the_template_says_something_else() {
    let cloud = mapped(Clock::manual(NOW), json!({})).await;
    update(&cloud, json!({ "Enabled": false, "BatchSize": 3 })).await.unwrap();
    // A start of the local cloud deploys the template again.
    let template = json!({ "FunctionName": "f", "EventSourceArn": QUEUE });
    cloud.deploy(&resource(template.clone())).await.unwrap();
    let now = get(&cloud).await;
    assert_eq!((&now["State"], &now["BatchSize"]), (&json!("Disabled"), &json!(3)));
    cloud.deploy(&resource(merged(template, json!({ "BatchSize": 4 })))).await.unwrap();
    let now = get(&cloud).await;
    assert_eq!((&now["State"], &now["BatchSize"]), (&json!("Enabled"), &json!(4)));
}

#[tokio::test]
async fn an_update_to_a_function_that_is_gone_gives_way_to_the_template() {
    let cloud = mapped(Clock::manual(NOW), json!({})).await;
    let gone = json!({ "FunctionName": "gone", "EventSourceArn": QUEUE, "BatchSize": 3 }).to_string();
    let change = "UPDATE event_source_mappings SET properties = ?1";
    cloud.store.write(|tx| tx.execute(change, [gone])).unwrap();
    let template = json!({ "FunctionName": "f", "EventSourceArn": QUEUE });
    cloud.deploy(&resource(template.clone())).await.unwrap();
    let now = get(&cloud).await;
    assert!(now["FunctionArn"].as_str().unwrap().ends_with(":f"), "{now}");
    assert_eq!((&now["State"], &now["BatchSize"]), (&json!("Enabled"), &json!(10)));
    // What the template itself says wrong is refused all the same.
    let wrong = resource(merged(template, json!({ "FunctionName": "gone" })));
    assert!(cloud.deploy(&wrong).await.unwrap_err().to_string().contains("gone"));
}

#[tokio::test]
async fn what_an_update_cannot_change_is_refused_by_name_and_changes_nothing() {
    let cloud = mapped(Clock::manual(NOW), json!({})).await;
    for (changes, part) in [
        (json!({ "ProvisionedPollerConfig": { "MinimumPollers": 2 } }), "ProvisionedPollerConfig"),
        (json!({ "KMSKeyArn": "arn:aws:kms:us-east-1:123456789012:key/k" }), "KMSKeyArn"),
        (json!({ "BatchSize": 0 }), "BatchSize"),
        (json!({ "BatchSize": 11 }), "Maximum batch window in seconds must be greater than 0"),
        (json!({ "ParallelizationFactor": 2 }), "ParallelizationFactor"),
        (json!({ "TumblingWindowInSeconds": 5 }), "TumblingWindowInSeconds"),
        (
            json!({ "FilterCriteria": { "Filters": [{ "Pattern": "{" }] } }),
            "Invalid filter pattern definition.",
        ),
    ] {
        let refused = update(&cloud, merged(changes, json!({ "Enabled": false }))).await.unwrap_err();
        assert_eq!(refused.code, "InvalidParameterValueException");
        assert!(refused.message.contains(part), "{refused}");
    }
    let missing = update(&cloud, json!({ "FunctionName": "nobodys" })).await.unwrap_err();
    assert_eq!((missing.status, missing.code.as_str()), (404, "ResourceNotFoundException"));
    let now = get(&cloud).await;
    assert_eq!((&now["State"], &now["BatchSize"]), (&json!("Enabled"), &json!(10)));
}
