use std::sync::Arc;

use cloud_core::clock::Clock;
use cloud_core::random::Random;
use cloud_core::resource::Resource;
use cloud_core::{Cloud, Settings};
use serde_json::{Value, json};

use super::deploy::Props;
use super::running::{State, start};
use crate::dynamodb;

const TABLE: &str = "contracts";
const TARGET: &str = "arn:aws:events:us-east-1:123456789012:event-bus/b";

fn stream_arn() -> String {
    format!("arn:aws:dynamodb:us-east-1:123456789012:table/{TABLE}/stream/{}", dynamodb::STREAM_LABEL)
}

async fn aws(cloud: &Arc<Cloud>, service: &str, action: &str, input: Value) -> Value {
    cloud.call(service, action, input).await.unwrap()
}

async fn world() -> Arc<Cloud> {
    world_in(crate::testing::cloud()).await
}

/// A table with a stream, a bus, a queue `seen` that gets every event, and a queue `dead`.
async fn world_in(cloud: Arc<Cloud>) -> Arc<Cloud> {
    aws(
        &cloud,
        "dynamodb",
        "CreateTable",
        json!({
            "TableName": TABLE, "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{ "AttributeName": "id", "AttributeType": "S" }],
            "KeySchema": [{ "AttributeName": "id", "KeyType": "HASH" }],
            "StreamSpecification": { "StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES" },
        }),
    )
    .await;
    aws(&cloud, "events", "CreateEventBus", json!({ "Name": "b" })).await;
    for queue in ["seen", "dead"] {
        aws(&cloud, "sqs", "CreateQueue", json!({ "QueueName": queue })).await;
    }
    let pattern = json!({ "version": ["0"] }).to_string();
    aws(&cloud, "events", "PutRule", json!({ "Name": "all", "EventBusName": "b", "EventPattern": pattern }))
        .await;
    let targets = json!([{ "Id": "q", "Arn": "arn:aws:sqs:us-east-1:123456789012:seen" }]);
    aws(&cloud, "events", "PutTargets", json!({ "Rule": "all", "EventBusName": "b", "Targets": targets }))
        .await;
    crate::eventbridge::start(&cloud);
    cloud
}

async fn write(cloud: &Arc<Cloud>, id: &str, status: &str, version: u32) {
    let item =
        json!({ "id": { "S": id }, "status": { "S": status }, "version": { "N": version.to_string() } });
    aws(cloud, "dynamodb", "PutItem", json!({ "TableName": TABLE, "Item": item })).await;
}

async fn receive(cloud: &Arc<Cloud>, queue: &str, seconds: u32) -> Vec<Value> {
    let url = aws(cloud, "sqs", "GetQueueUrl", json!({ "QueueName": queue })).await;
    let url = url["QueueUrl"].clone();
    let input = json!({ "QueueUrl": url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": seconds });
    let answer = aws(cloud, "sqs", "ReceiveMessage", input).await;
    let mut bodies = Vec::new();
    for message in answer["Messages"].as_array().into_iter().flatten() {
        let handle = &message["ReceiptHandle"];
        aws(cloud, "sqs", "DeleteMessage", json!({ "QueueUrl": url, "ReceiptHandle": handle })).await;
        bodies.push(serde_json::from_str(message["Body"].as_str().unwrap()).unwrap());
    }
    bodies
}

/// `count` events, as they arrive.
async fn events(cloud: &Arc<Cloud>, count: usize) -> Vec<Value> {
    let mut all = Vec::new();
    while all.len() < count {
        let some = receive(cloud, "seen", 5).await;
        assert!(!some.is_empty(), "only {} of {count} events came", all.len());
        all.extend(some);
    }
    all
}

fn pipe(changes: Value) -> Resource {
    let mut properties = json!({
        "Name": "p", "RoleArn": "arn:aws:iam::123456789012:role/p",
        "Source": stream_arn(), "Target": TARGET,
        "SourceParameters": {
            "FilterCriteria": { "Filters": [
                { "Pattern": "{\"eventName\":[\"INSERT\",\"MODIFY\"],\"dynamodb\":{\"NewImage\":{\"status\":{\"S\":[\"DRAFT\",\"APPROVED\"]}}}}" } ] },
            "DynamoDBStreamParameters": {
                "StartingPosition": "TRIM_HORIZON", "BatchSize": 10, "MaximumRetryAttempts": 1,
                "OnPartialBatchItemFailure": "AUTOMATIC_BISECT",
                "DeadLetterConfig": { "Arn": "arn:aws:sqs:us-east-1:123456789012:dead" } },
        },
        "TargetParameters": {
            "EventBridgeEventBusParameters": { "DetailType": "ContractStatusChanged", "Source": "unicorn", "Resources": ["$.dynamodb.Keys.id.S"] },
            "InputTemplate": "{\"id\": <$.dynamodb.NewImage.id.S>, \"status\": \"<$.dynamodb.NewImage.status.S>\", \"version\": <$.dynamodb.NewImage.version.N>, \"pipe\": <aws.pipes.pipe-name>}",
        },
    });
    merge(&mut properties, changes);
    Resource {
        stack: "s".into(),
        logical_id: "Pipe".into(),
        kind: "AWS::Pipes::Pipe".into(),
        physical_id: "p".into(),
        arn: String::new(),
        properties,
        metadata: Value::Null,
        file: "template.yaml".into(),
    }
}

fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (name, change) in changes {
                if change.is_null() {
                    into.remove(&name);
                } else {
                    merge(into.entry(name).or_insert(Value::Null), change);
                }
            }
        }
        (into, change) => *into = change,
    }
}

async fn started(changes: Value) -> Arc<Cloud> {
    let cloud = world().await;
    cloud.deploy(&pipe(changes)).await.unwrap();
    start(&cloud);
    cloud
}

#[tokio::test]
async fn a_change_of_the_table_becomes_an_event_by_filter_and_template() {
    let cloud = started(json!({})).await;
    write(&cloud, "a", "CLOSED", 1).await;
    write(&cloud, "a", "DRAFT", 2).await;
    let event = &events(&cloud, 1).await[0];
    assert_eq!(event["source"], "unicorn");
    assert_eq!(event["detail-type"], "ContractStatusChanged");
    assert_eq!(event["resources"], json!(["a"]));
    // A number of DynamoDB is a JSON string in the stream, and stays one.
    assert_eq!(event["detail"], json!({ "id": "a", "status": "DRAFT", "version": "2", "pipe": "p" }));
    assert!(receive(&cloud, "seen", 0).await.is_empty(), "the filter lets a closed contract pass");
}

#[tokio::test]
async fn without_a_template_the_detail_is_the_record() {
    let cloud =
        started(json!({ "TargetParameters": null, "SourceParameters": { "FilterCriteria": null } })).await;
    write(&cloud, "a", "CLOSED", 1).await;
    let event = &events(&cloud, 1).await[0];
    assert_eq!(event["source"], "Pipe p");
    assert_eq!(event["detail-type"], "Event from aws:dynamodb");
    assert_eq!(event["detail"]["dynamodb"]["NewImage"]["version"], json!({ "N": "1" }));
    assert_eq!(event["detail"]["eventSourceARN"], stream_arn());
}

#[tokio::test]
async fn an_entry_that_is_refused_is_retried_and_dead_lettered_and_the_others_pass() {
    let parameters = json!({
        "EventBridgeEventBusParameters": { "Source": "$.dynamodb.NewImage.status.S", "DetailType": "t", "Resources": null },
    });
    let source = json!({ "FilterCriteria": null });
    let cloud = started(json!({ "TargetParameters": parameters, "SourceParameters": source })).await;
    // `aws.` sources are refused by PutEvents, per entry.
    for (id, status) in [("1", "one"), ("2", "aws.no"), ("3", "three")] {
        write(&cloud, id, status, 1).await;
    }
    let mut sources: Vec<String> = Vec::new();
    while !(sources.contains(&"one".to_owned()) && sources.contains(&"three".to_owned())) {
        let some = receive(&cloud, "seen", 5).await;
        assert!(!some.is_empty(), "only {sources:?} came");
        sources.extend(some.iter().map(|event| event["source"].as_str().unwrap().to_owned()));
    }
    assert!(!sources.contains(&"aws.no".to_owned()));
    let mut dead = receive(&cloud, "dead", 20).await;
    let dead = dead.pop().unwrap();
    assert_eq!(dead["context"]["condition"], "RetryAttemptsExhausted");
    assert_eq!(dead["context"]["partnerResourceArn"], "arn:aws:pipes:us-east-1:123456789012:pipe/p");
    assert_eq!(dead["DDBStreamBatchInfo"]["batchSize"], 1);
}

#[tokio::test]
async fn a_stopped_pipe_moves_nothing_until_it_is_started_again() {
    let cloud = started(json!({ "DesiredState": "STOPPED" })).await;
    write(&cloud, "a", "DRAFT", 1).await;
    let described = aws(&cloud, "pipes", "DescribePipe", json!({ "Name": "p" })).await;
    assert_eq!(described["CurrentState"], "STOPPED");
    assert!(receive(&cloud, "seen", 0).await.is_empty());
    let answer = aws(&cloud, "pipes", "StartPipe", json!({ "Name": "p" })).await;
    assert_eq!(answer["CurrentState"], "RUNNING");
    assert_eq!(events(&cloud, 1).await[0]["detail"]["version"], "1");
    aws(&cloud, "pipes", "StopPipe", json!({ "Name": "p" })).await;
    write(&cloud, "a", "DRAFT", 2).await;
    assert!(receive(&cloud, "seen", 1).await.is_empty());
    // A redeployment with the same template does not undo what the operator did.
    cloud.deploy(&pipe(json!({ "DesiredState": "STOPPED" }))).await.unwrap();
    aws(&cloud, "pipes", "StartPipe", json!({ "Name": "p" })).await;
    assert_eq!(events(&cloud, 1).await[0]["detail"]["version"], "2");
}

#[tokio::test]
async fn a_pipe_that_is_started_again_waits_for_the_end_of_its_last_reader() {
    let cloud = started(json!({ "DesiredState": "STOPPED" })).await;
    let reading = cloud.state::<State>().find("p").unwrap().reading;
    let last_reader = reading.lock().await;
    for action in ["StartPipe", "StopPipe", "StartPipe"] {
        aws(&cloud, "pipes", action, json!({ "Name": "p" })).await;
    }
    write(&cloud, "a", "DRAFT", 1).await;
    assert!(receive(&cloud, "seen", 1).await.is_empty());
    drop(last_reader);
    assert_eq!(events(&cloud, 1).await.len(), 1);
    assert!(reading.try_lock().is_err(), "the reader does not hold its place");
    aws(&cloud, "pipes", "StopPipe", json!({ "Name": "p" })).await;
    let _ended = tokio::time::timeout(std::time::Duration::from_secs(10), reading.lock()).await.unwrap();
}

#[tokio::test]
async fn a_pipe_logs_what_its_level_asks_for() {
    let log = json!({ "Level": "INFO", "CloudwatchLogsLogDestination": { "LogGroupArn": "arn:aws:logs:us-east-1:123456789012:log-group:/pipe" } });
    let cloud = started(json!({ "LogConfiguration": log })).await;
    write(&cloud, "a", "DRAFT", 1).await;
    events(&cloud, 1).await;
    let found = json!({ "logGroupName": "/pipe", "filterPattern": "{ $.messageType = ExecutionStarted }" });
    let found = cloud.call("logs", "FilterLogEvents", found).await.unwrap();
    assert_eq!(found["events"].as_array().unwrap().len(), 1);
}

/// The messages of the group `/pipe`, until one is of this type.
async fn logged_until(cloud: &Arc<Cloud>, kind: &str) -> Vec<Value> {
    tokio::time::timeout(std::time::Duration::from_secs(20), async {
        loop {
            let found = cloud.call("logs", "FilterLogEvents", json!({ "logGroupName": "/pipe" })).await;
            let found = found.map(|found| found["events"].clone()).unwrap_or_default();
            let text = |event: &Value| serde_json::from_str(event["message"].as_str().unwrap()).unwrap();
            let messages: Vec<Value> = found.as_array().into_iter().flatten().map(text).collect();
            if messages.iter().any(|message| message["messageType"] == kind) {
                return messages;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn at_level_error_a_failed_transfer_tells_its_cause_and_nothing_of_its_data() {
    let group = "arn:aws:logs:us-east-1:123456789012:log-group:/pipe:*";
    let cloud = started(json!({
        "SourceParameters": { "FilterCriteria": null },
        "TargetParameters": { "EventBridgeEventBusParameters": {
            "Source": "$.dynamodb.NewImage.status.S", "DetailType": "t", "Resources": null } },
        "LogConfiguration": { "Level": "ERROR", "CloudwatchLogsLogDestination": { "LogGroupArn": group } },
    }))
    .await;
    write(&cloud, "secret-1", "one", 1).await;
    write(&cloud, "secret-2", "aws.no", 1).await;
    let logged = logged_until(&cloud, "ExecutionPartiallyFailed").await;
    let of_one = logged[0]["executionId"].clone();
    let kinds: Vec<&Value> = logged
        .iter()
        .filter(|record| record["executionId"] == of_one)
        .map(|record| &record["messageType"])
        .collect();
    let expected =
        ["TargetInvocationPartiallyFailed", "TargetStagePartiallyFailed", "ExecutionPartiallyFailed"];
    assert_eq!(kinds, expected.each_ref().map(|kind| json!(kind)).iter().collect::<Vec<_>>());
    for record in &logged {
        assert_eq!(record["resourceArn"], "arn:aws:pipes:us-east-1:123456789012:pipe/p");
        assert_eq!(record["logLevel"], "ERROR");
        assert!(record["timestamp"].is_i64() && record["error"]["requestId"].is_string(), "{record}");
        assert_eq!(record["error"]["awsService"], "events");
        let cause = record["error"]["message"].as_str().unwrap();
        assert!(cause.starts_with("NotAuthorizedForSourceException: "), "{cause}");
        assert!(!record.to_string().contains("secret"), "{record}");
    }
}

#[tokio::test]
async fn pipes_are_described_and_listed() {
    let cloud = started(json!({ "Tags": { "Owner": "me" }, "Description": "moves" })).await;
    let described = aws(&cloud, "pipes", "DescribePipe", json!({ "Name": "p" })).await;
    assert_eq!(described["Source"], stream_arn());
    assert_eq!(described["Description"], "moves");
    assert_eq!(described["DesiredState"], "RUNNING");
    let listed = aws(&cloud, "pipes", "ListPipes", json!({ "NamePrefix": "p" })).await;
    assert_eq!(listed["Pipes"][0]["Target"], TARGET);
    let none = aws(&cloud, "pipes", "ListPipes", json!({ "CurrentState": "STOPPED" })).await;
    assert_eq!(none["Pipes"], json!([]));
    let arn = json!({ "resourceArn": described["Arn"] });
    assert_eq!(aws(&cloud, "pipes", "ListTagsForResource", arn).await["tags"], json!({ "Owner": "me" }));
    let missing = cloud.call("pipes", "DescribePipe", json!({ "Name": "none" })).await.unwrap_err();
    assert_eq!((missing.code.as_str(), missing.status), ("NotFoundException", 404));
}

#[tokio::test]
async fn what_a_pipe_cannot_honour_is_refused_by_name() {
    let cloud = world().await;
    let stream =
        |parameters: Value| json!({ "SourceParameters": { "DynamoDBStreamParameters": parameters } });
    let filter = |pattern: &str| json!({ "SourceParameters": { "FilterCriteria": { "Filters": [{ "Pattern": pattern }] } } });
    for (changes, named) in [
        (json!({ "Enrichment": "arn:aws:lambda:us-east-1:1:function:f" }), "Enrichment"),
        (json!({ "Source": "arn:aws:sqs:us-east-1:1:q" }), "Source"),
        (json!({ "Target": "arn:aws:sqs:us-east-1:1:q" }), "Target"),
        (json!({ "Target": "arn:aws:events:us-east-1:123456789012:event-bus/none" }), "none"),
        (json!({ "DesiredState": "PAUSED" }), "DesiredState"),
        (stream(json!({ "BatchSize": 11 })), "BatchSize"),
        (stream(json!({ "MaximumRecordAgeInSeconds": 59 })), "MaximumRecordAgeInSeconds"),
        (stream(json!({ "OnPartialBatchItemFailure": "X" })), "OnPartialBatchItemFailure"),
        (filter("{"), "FilterCriteria"),
        (filter("{\"a\":[{\"anything-but\":{\"prefix\":\"x\"}}]}"), "anything-but"),
        (json!({ "TargetParameters": { "InputTemplate": "<$.a[*]>" } }), "$.a[*]"),
        (json!({ "TargetParameters": { "InputTemplate": "<aws.pipes.what>" } }), "aws.pipes.what"),
        (
            json!({ "TargetParameters": { "EventBridgeEventBusParameters": { "EndpointId": "x" } } }),
            "EndpointId",
        ),
        (json!({ "LogConfiguration": { "Level": "TRACE" } }), "TRACE"),
        (json!({ "LogConfiguration": { "Level": "ERROR" } }), "CloudwatchLogsLogDestination"),
        (
            json!({ "LogConfiguration": { "Level": "ERROR", "IncludeExecutionData": ["ALL"] } }),
            "IncludeExecutionData",
        ),
        (json!({ "LogConfiguration": { "Level": "ERROR", "S3LogDestination": {} } }), "S3LogDestination"),
        (
            json!({ "LogConfiguration": { "Level": "ERROR", "FirehoseLogDestination": {} } }),
            "FirehoseLogDestination",
        ),
    ] {
        let refusal = cloud.deploy(&pipe(changes)).await.unwrap_err().to_string();
        assert!(refusal.contains(named), "{refusal}");
    }
}

#[tokio::test]
async fn a_stopped_pipe_stays_so_over_a_restart_and_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let settings = Settings { state: Some(folder.path().to_owned()), ..Settings::for_tests() };
        crate::testing::open(settings, Clock::system(), Random::seeded(1)).unwrap()
    };
    let cloud = world_in(open()).await;
    cloud.deploy(&pipe(json!({}))).await.unwrap();
    start(&cloud);
    write(&cloud, "a", "DRAFT", 1).await;
    assert_eq!(events(&cloud, 1).await[0]["detail"]["version"], "1");
    aws(&cloud, "pipes", "StopPipe", json!({ "Name": "p" })).await;
    write(&cloud, "a", "DRAFT", 2).await;
    cloud.stopping.cancel();
    tokio::task::yield_now().await;
    let cloud = open();
    crate::eventbridge::start(&cloud);
    cloud.deploy(&pipe(json!({}))).await.unwrap();
    start(&cloud);
    let described = aws(&cloud, "pipes", "DescribePipe", json!({ "Name": "p" })).await;
    assert_eq!(
        (&described["CurrentState"], &described["DesiredState"]),
        (&json!("STOPPED"), &json!("STOPPED"))
    );
    assert!(receive(&cloud, "seen", 0).await.is_empty());
    aws(&cloud, "pipes", "StartPipe", json!({ "Name": "p" })).await;
    let seen = events(&cloud, 1).await;
    assert_eq!((seen.len(), &seen[0]["detail"]["version"]), (1, &json!("2")));
}

/// "DynamoDB numbers are strings" in a stream: a filter compares them as such.
#[tokio::test]
async fn a_filter_sees_the_numbers_of_a_record_as_texts() {
    let filter = |numbers: Value| {
        let pattern = json!({ "dynamodb": { "NewImage": { "version": { "N": numbers } } } }).to_string();
        json!([{ "Pattern": pattern }])
    };
    let filters =
        |filters: Value| json!({ "SourceParameters": { "FilterCriteria": { "Filters": filters } } });
    let cloud = started(filters(filter(json!(["2"])))).await;
    for version in 1..=3 {
        write(&cloud, "a", "DRAFT", version).await;
    }
    let seen = events(&cloud, 1).await;
    assert_eq!((seen.len(), &seen[0]["detail"]["version"]), (1, &json!("2")));
    assert!(receive(&cloud, "seen", 0).await.is_empty());
    let numeric = pipe(filters(filter(json!([{ "numeric": ["=", 2] }]))));
    let props: Props = numeric.read().unwrap();
    let numeric = props.pipe(&cloud, "p").unwrap();
    let record = json!({ "dynamodb": { "NewImage": { "version": { "N": "2" } } } });
    assert!(!numeric.filters.want(&record));
}

#[tokio::test]
async fn a_template_takes_objects_and_leaves_out_what_a_record_lacks() {
    let template = r#"{"image": <$.dynamodb.NewImage>, "was": <$.dynamodb.OldImage.status.S>, "text": "was <$.dynamodb.OldImage.status.S>", "from": "<aws.pipes.source-arn>", "event": <aws.pipes.event.json>}"#;
    let cloud = started(json!({ "TargetParameters": { "InputTemplate": template } })).await;
    write(&cloud, "a", "DRAFT", 1).await;
    let detail = events(&cloud, 1).await[0]["detail"].clone();
    let image = json!({ "id": { "S": "a" }, "status": { "S": "DRAFT" }, "version": { "N": "1" } });
    assert_eq!(detail["image"], image);
    assert_eq!((&detail["was"], &detail["text"]), (&json!(""), &json!("was ")));
    assert_eq!(detail["from"], stream_arn());
    assert_eq!(detail["event"]["dynamodb"]["NewImage"], image);
    assert_eq!(detail["event"]["eventSource"], "aws:dynamodb");
}

#[tokio::test]
async fn changes_of_one_item_arrive_in_their_order() {
    let parameters = json!({ "DynamoDBStreamParameters": { "ParallelizationFactor": 4 } });
    let cloud = started(json!({ "SourceParameters": parameters })).await;
    // A log group keeps the order in which the bus got them; a standard queue need not.
    aws(&cloud, "logs", "CreateLogGroup", json!({ "logGroupName": "/all" })).await;
    let group = json!([{ "Id": "l", "Arn": "arn:aws:logs:us-east-1:123456789012:log-group:/all" }]);
    aws(&cloud, "events", "PutTargets", json!({ "Rule": "all", "EventBusName": "b", "Targets": group }))
        .await;
    for version in 1..=12 {
        write(&cloud, if version % 2 == 0 { "a" } else { "b" }, "DRAFT", version).await;
    }
    events(&cloud, 12).await;
    let seen: Vec<Value> = loop {
        let found = aws(&cloud, "logs", "FilterLogEvents", json!({ "logGroupName": "/all" })).await;
        let found = found["events"].as_array().unwrap().clone();
        if found.len() == 12 {
            break found
                .iter()
                .map(|event| serde_json::from_str(event["message"].as_str().unwrap()).unwrap())
                .collect();
        }
        tokio::task::yield_now().await;
    };
    for id in ["a", "b"] {
        let versions: Vec<u32> = seen
            .iter()
            .filter(|event| event["detail"]["id"] == id)
            .map(|event| event["detail"]["version"].as_str().unwrap().parse().unwrap())
            .collect();
        assert!(versions.is_sorted(), "{id}: {versions:?}");
        assert_eq!(versions.len(), 6);
    }
}
