use cloud_core::Settings;
use cloud_core::clock::Clock;
use cloud_core::random::Random;
use cloud_core::resource::Resource;
use serde_json::{Value, json};

use super::*;

/// A table as a template declares it, with the given stream and time to live.
fn table(properties: Value) -> Resource {
    let mut all = json!({
        "AttributeDefinitions": [{"AttributeName": "PK", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "PK", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
    });
    for (name, value) in properties.as_object().unwrap() {
        all[name] = value.clone();
    }
    Resource {
        stack: "uni-prop-local".into(),
        logical_id: "Contracts".into(),
        kind: "AWS::DynamoDB::Table".into(),
        physical_id: "contracts".into(),
        arn: "arn:aws:dynamodb:us-east-1:123456789012:table/contracts".into(),
        properties: all,
        metadata: Value::Null,
        file: "template.yaml".into(),
    }
}

const STREAM_ARN: &str =
    "arn:aws:dynamodb:us-east-1:123456789012:table/contracts/stream/2026-01-01T00:00:00.000";

fn stream() -> Value {
    json!({"StreamSpecification": {"StreamViewType": "NEW_AND_OLD_IMAGES"}})
}

async fn put(cloud: &Arc<Cloud>, key: &str) -> Result<Value, AwsError> {
    let item = json!({"PK": {"S": key}});
    cloud.call("dynamodb", "PutItem", json!({"TableName": "contracts", "Item": item})).await
}

#[tokio::test]
async fn a_deployed_table_is_described_with_arns_of_this_account() {
    let cloud = crate::testing::cloud();
    cloud.deploy(&table(stream())).await.unwrap();
    let answer = cloud.call("dynamodb", "DescribeTable", json!({"TableName": "contracts"})).await.unwrap();
    let table = &answer["Table"];
    assert_eq!(table["TableStatus"], "ACTIVE");
    assert_eq!(table["TableArn"], "arn:aws:dynamodb:us-east-1:123456789012:table/contracts");
    assert_eq!(table["LatestStreamArn"], STREAM_ARN);
    assert_eq!(table["LatestStreamLabel"], STREAM_LABEL);
    assert!(!answer.to_string().contains("dynoxide"), "{answer}");
}

#[tokio::test]
async fn a_stream_is_read_by_the_arn_that_the_template_computes() {
    let cloud = crate::testing::cloud();
    cloud.deploy(&table(stream())).await.unwrap();
    put(&cloud, "usa/anytown/main-street/111").await.unwrap();
    let described = cloud.call("dynamodb", "DescribeStream", json!({"StreamArn": STREAM_ARN})).await.unwrap();
    let description = &described["StreamDescription"];
    assert_eq!(description["StreamLabel"], STREAM_LABEL);
    assert_eq!(description["Shards"][0]["ShardId"], SHARD_ID);
    assert!(description["Shards"][0]["SequenceNumberRange"]["EndingSequenceNumber"].is_null());
    let iterator = cloud
        .call(
            "dynamodb",
            "GetShardIterator",
            json!({
                "StreamArn": STREAM_ARN,
                "ShardId": description["Shards"][0]["ShardId"],
                "ShardIteratorType": "TRIM_HORIZON",
            }),
        )
        .await
        .unwrap();
    let records = cloud
        .call("dynamodb", "GetRecords", json!({"ShardIterator": iterator["ShardIterator"]}))
        .await
        .unwrap();
    let record = &records["Records"][0];
    assert_eq!(record["awsRegion"], "us-east-1");
    assert_eq!(record["eventName"], "INSERT");
    assert_eq!(record["dynamodb"]["NewImage"]["PK"]["S"], "usa/anytown/main-street/111");
}

async fn records(cloud: &Arc<Cloud>) -> Vec<Value> {
    let from = json!({"StreamArn": STREAM_ARN, "ShardId": SHARD_ID, "ShardIteratorType": "TRIM_HORIZON"});
    let iterator = cloud.call("dynamodb", "GetShardIterator", from).await.unwrap();
    let answer = cloud
        .call("dynamodb", "GetRecords", json!({"ShardIterator": iterator["ShardIterator"]}))
        .await
        .unwrap();
    answer["Records"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_write_that_changes_nothing_is_not_in_the_stream() {
    let cloud = crate::testing::cloud();
    cloud.deploy(&table(stream())).await.unwrap();
    for _ in 0..3 {
        put(&cloud, "a").await.unwrap();
    }
    cloud
        .call("dynamodb", "DeleteItem", json!({"TableName": "contracts", "Key": {"PK": {"S": "a"}}}))
        .await
        .unwrap();
    let names: Vec<Value> =
        records(&cloud).await.into_iter().map(|record| record["eventName"].clone()).collect();
    assert_eq!(names, ["INSERT", "REMOVE"]);
}

#[tokio::test]
async fn a_table_may_be_named_by_its_arn() {
    let cloud = crate::testing::cloud();
    let resource = table(stream());
    cloud.deploy(&resource).await.unwrap();
    let arn = &resource.arn;
    // An item that looks like an ARN stays as it is.
    let item = json!({"PK": {"S": arn}, "TableName": {"S": arn}});
    cloud.call("dynamodb", "PutItem", json!({"TableName": arn, "Item": item})).await.unwrap();
    let write = json!({"Put": {"TableName": arn, "Item": {"PK": {"S": "b"}}}});
    cloud.call("dynamodb", "TransactWriteItems", json!({"TransactItems": [write]})).await.unwrap();
    let many = json!({arn: [{"PutRequest": {"Item": {"PK": {"S": "c"}}}}]});
    cloud.call("dynamodb", "BatchWriteItem", json!({"RequestItems": many})).await.unwrap();
    let answer = cloud.call("dynamodb", "Scan", json!({"TableName": arn})).await.unwrap();
    assert_eq!(answer["Count"], 3);
    assert!(answer["Items"].as_array().unwrap().contains(&item), "{answer}");
}

#[tokio::test]
async fn streams_are_listed_page_by_page() {
    let cloud = crate::testing::cloud();
    for name in ["one", "two"] {
        let mut resource = table(stream());
        resource.physical_id = format!("table-{name}");
        cloud.deploy(&resource).await.unwrap();
    }
    let first = cloud.call("dynamodb", "ListStreams", json!({"Limit": 1})).await.unwrap();
    let last = first["LastEvaluatedStreamArn"].as_str().unwrap();
    assert!(last.ends_with(STREAM_LABEL), "{last}");
    let second =
        cloud.call("dynamodb", "ListStreams", json!({"ExclusiveStartStreamArn": last})).await.unwrap();
    assert_eq!(second["Streams"].as_array().unwrap().len(), 1);
    assert_ne!(first["Streams"][0]["TableName"], second["Streams"][0]["TableName"]);
}

#[tokio::test]
async fn a_stream_with_another_label_does_not_exist() {
    let cloud = crate::testing::cloud();
    cloud.deploy(&table(stream())).await.unwrap();
    let arn = STREAM_ARN.replace("2026", "2025");
    let error = cloud.call("dynamodb", "DescribeStream", json!({"StreamArn": arn})).await.unwrap_err();
    assert_eq!(error.code, "ResourceNotFoundException");
}

#[tokio::test]
async fn a_shard_that_a_stream_does_not_have_is_not_found() {
    let cloud = crate::testing::cloud();
    cloud.deploy(&table(stream())).await.unwrap();
    let input = json!({
        "StreamArn": STREAM_ARN,
        "ShardId": "shardId-00000000000000000000-00000000",
        "ShardIteratorType": "LATEST",
    });
    let error = cloud.call("dynamodb", "GetShardIterator", input).await.unwrap_err();
    assert_eq!(error.code, "ResourceNotFoundException");
}

#[tokio::test]
async fn every_write_ticks_and_a_refused_one_does_not() {
    let cloud = crate::testing::cloud();
    cloud.deploy(&table(json!({}))).await.unwrap();
    let mut changes = changes(&cloud, STREAM_ARN);
    changes.mark_unchanged();
    put(&cloud, "a").await.unwrap();
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    let refused = json!({
        "TableName": "contracts",
        "Item": {"PK": {"S": "a"}},
        "ConditionExpression": "attribute_not_exists(PK)",
    });
    let error = cloud.call("dynamodb", "PutItem", refused).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.status), ("ConditionalCheckFailedException", 400));
    assert!(!changes.has_changed().unwrap());
}

#[tokio::test]
async fn a_cancelled_transaction_says_why_for_each_of_its_items() {
    let cloud = crate::testing::cloud();
    cloud.deploy(&table(json!({}))).await.unwrap();
    put(&cloud, "a").await.unwrap();
    let unless_there = |key: &str| {
        json!({"Put": {
            "TableName": "contracts",
            "Item": {"PK": {"S": key}},
            "ConditionExpression": "attribute_not_exists(PK)",
        }})
    };
    let transaction = json!({"TransactItems": [unless_there("a"), unless_there("b")]});
    let error = cloud.call("dynamodb", "TransactWriteItems", transaction).await.unwrap_err();
    assert_eq!(error.code, "TransactionCanceledException");
    assert_eq!(error.details["CancellationReasons"][0]["Code"], "ConditionalCheckFailed");
    assert_eq!(error.details["CancellationReasons"][1]["Code"], "None");
}

#[tokio::test]
async fn an_item_whose_time_to_live_is_over_is_swept_by_the_clouds_clock() {
    let cloud =
        crate::testing::open(Settings::for_tests(), Clock::manual(1_800_000_000_000), Random::seeded(1))
            .unwrap();
    let ttl = json!({"TimeToLiveSpecification": {"AttributeName": "expires_at", "Enabled": true}});
    cloud.deploy(&table(ttl)).await.unwrap();
    cloud_core::housekeeping::start(&cloud);
    let item = json!({"PK": {"S": "a"}, "expires_at": {"N": "1800000010"}});
    cloud.call("dynamodb", "PutItem", json!({"TableName": "contracts", "Item": item})).await.unwrap();
    let mut changes = changes(&cloud, STREAM_ARN);
    changes.mark_unchanged();
    tokio::task::yield_now().await;
    cloud.clock.advance(SWEEP_EVERY);
    changes.changed().await.unwrap();
    let rest = cloud.call("dynamodb", "Scan", json!({"TableName": "contracts"})).await.unwrap();
    assert_eq!(rest["Count"], 0);
    cloud.stopping.cancel();
}

#[tokio::test]
async fn a_restart_keeps_items_and_the_streams_arn() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { state: Some(folder.path().into()), ..Settings::for_tests() };
    for run in 0..2 {
        let cloud = crate::testing::open(settings.clone(), Clock::system(), Random::seeded(1)).unwrap();
        cloud.deploy(&table(stream())).await.unwrap();
        put(&cloud, &format!("run-{run}")).await.unwrap();
        let found = cloud.call("dynamodb", "Scan", json!({"TableName": "contracts"})).await.unwrap();
        assert_eq!(found["Count"], run + 1);
        cloud.call("dynamodb", "DescribeStream", json!({"StreamArn": STREAM_ARN})).await.unwrap();
    }
}

/// A full scan of the records per write would make a long run slower and slower.
#[tokio::test]
async fn the_last_record_of_a_stream_is_found_by_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { state: Some(folder.path().into()), ..Settings::for_tests() };
    let cloud = crate::testing::open(settings, Clock::system(), Random::seeded(1)).unwrap();
    cloud.deploy(&table(stream())).await.unwrap();
    put(&cloud, "a").await.unwrap();
    let file = rusqlite::Connection::open(folder.path().join("dynamodb.sqlite")).unwrap();
    for query in [
        "SELECT MAX(CAST(sequence_number AS INTEGER)) FROM _stream_records WHERE table_name = 'contracts'",
        "SELECT event_name FROM _stream_records WHERE table_name = 'contracts' AND shard_id = 's'
         AND CAST(sequence_number AS INTEGER) > 1 ORDER BY CAST(sequence_number AS INTEGER) LIMIT 1",
    ] {
        let plan: String =
            file.query_row(&format!("EXPLAIN QUERY PLAN {query}"), [], |row| row.get(3)).unwrap();
        assert!(plan.contains("local_cloud_stream_order"), "{plan}");
    }
}

#[tokio::test]
async fn a_table_that_exists_with_other_keys_is_refused_by_name() {
    let cloud = crate::testing::cloud();
    cloud.deploy(&table(json!({}))).await.unwrap();
    let mut changed = table(json!({}));
    changed.properties["KeySchema"][0]["AttributeName"] = "id".into();
    changed.properties["AttributeDefinitions"][0]["AttributeName"] = "id".into();
    let refusal = cloud.deploy(&changed).await.unwrap_err().to_string();
    assert!(refusal.contains("Contracts.Properties.KeySchema"), "{refusal}");
    assert!(refusal.contains("--fresh"), "{refusal}");
}

#[tokio::test]
async fn a_table_with_indexes_is_the_same_table_when_it_is_deployed_again() {
    let cloud = crate::testing::cloud();
    let resource = table(json!({
        "AttributeDefinitions": [
            {"AttributeName": "PK", "AttributeType": "S"},
            {"AttributeName": "status", "AttributeType": "S"},
        ],
        "GlobalSecondaryIndexes": [{
            "IndexName": "by-status",
            "KeySchema": [{"AttributeName": "status", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["b", "a"]},
        }],
        "TimeToLiveSpecification": {"AttributeName": "expires_at", "Enabled": true},
        "StreamSpecification": {"StreamViewType": "NEW_IMAGE"},
        "Tags": [{"Key": "Owner", "Value": "us"}],
        "DeletionProtectionEnabled": true,
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": true},
        "SSESpecification": {"SSEEnabled": true},
    }));
    cloud.deploy(&resource).await.unwrap();
    cloud.deploy(&resource).await.unwrap();
    let ttl = cloud.call("dynamodb", "DescribeTimeToLive", json!({"TableName": "contracts"})).await.unwrap();
    assert_eq!(ttl["TimeToLiveDescription"]["AttributeName"], "expires_at");
}

#[tokio::test]
async fn an_item_in_a_refusal_is_shown_as_it_is() {
    let cloud = crate::testing::cloud();
    cloud.deploy(&table(json!({}))).await.unwrap();
    let odd =
        json!({"PK": {"S": "a"}, "StreamLabel": {"S": "arn:aws:dynamodb:dynoxide:000000000000:table/x"}});
    cloud.call("dynamodb", "PutItem", json!({"TableName": "contracts", "Item": odd})).await.unwrap();
    let refused = json!({
        "TableName": "contracts",
        "Item": {"PK": {"S": "a"}},
        "ConditionExpression": "attribute_not_exists(PK)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    });
    let error = cloud.call("dynamodb", "PutItem", refused).await.unwrap_err();
    assert_eq!(error.details["Item"], odd);
}

#[tokio::test]
async fn protection_from_deletion_follows_the_template() {
    let cloud = crate::testing::cloud();
    let delete = json!({"TableName": "contracts"});
    cloud.deploy(&table(json!({"DeletionProtectionEnabled": true}))).await.unwrap();
    assert_eq!(
        cloud.call("dynamodb", "DeleteTable", delete.clone()).await.unwrap_err().code,
        "ValidationException"
    );
    cloud.deploy(&table(json!({"DeletionProtectionEnabled": false}))).await.unwrap();
    cloud.call("dynamodb", "DeleteTable", delete).await.unwrap();
}

#[tokio::test]
async fn an_unknown_property_of_a_table_is_refused_by_name() {
    let cloud = crate::testing::cloud();
    let refusal = cloud.deploy(&table(json!({"ImportSourceSpecification": {}}))).await.unwrap_err();
    assert!(refusal.reason.contains("ImportSourceSpecification"), "{refusal}");
}

#[tokio::test]
async fn an_action_that_is_not_emulated_says_so() {
    let cloud = crate::testing::cloud();
    let error = cloud.call("dynamodb", "CreateBackup", json!({})).await.unwrap_err();
    assert_eq!(error.code, "NotImplemented");
}

#[tokio::test]
async fn a_write_wakes_the_readers_of_its_stream_though_its_caller_has_gone_away() {
    let cloud = crate::testing::cloud();
    cloud.deploy(&table(stream())).await.unwrap();
    let mut changes = changes(&cloud, STREAM_ARN);
    let mut putting = Box::pin(put(&cloud, "a"));
    assert!(futures::poll!(&mut putting).is_pending());
    drop(putting);
    tokio::time::timeout(Duration::from_secs(10), changes.changed()).await.unwrap().unwrap();
    let key = json!({"TableName": "contracts", "Key": {"PK": {"S": "a"}}});
    assert_eq!(cloud.call("dynamodb", "GetItem", key).await.unwrap()["Item"]["PK"]["S"], "a");
}

#[tokio::test]
async fn continuous_backups_are_described_as_off_for_tables_that_exist() {
    let cloud = crate::testing::cloud();
    let input = json!({"TableName": "contracts"});
    let missing = cloud.call("dynamodb", "DescribeContinuousBackups", input.clone()).await.unwrap_err();
    assert_eq!(missing.code, "ResourceNotFoundException");
    cloud.deploy(&table(json!({}))).await.unwrap();
    let answer = cloud.call("dynamodb", "DescribeContinuousBackups", input).await.unwrap();
    let backups = &answer["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"];
    assert_eq!(backups["PointInTimeRecoveryStatus"], "DISABLED");
}
