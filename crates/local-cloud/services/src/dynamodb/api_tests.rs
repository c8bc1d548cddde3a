//! What clients of DynamoDB rely on, asked through the door that the endpoint uses. Most of
//! it is dynoxide's own doing, and held here so that another version of it cannot lose it.

use cloud_core::Settings;
use cloud_core::clock::Clock;
use cloud_core::random::Random;
use serde_json::{Value, json};

use super::*;

async fn ok(cloud: &Arc<Cloud>, action: &str, input: Value) -> Value {
    cloud.call("dynamodb", action, input).await.unwrap()
}

/// Code and message of a refusal.
async fn refused(cloud: &Arc<Cloud>, action: &str, input: Value) -> (String, String) {
    let error = cloud.call("dynamodb", action, input).await.unwrap_err();
    (error.code, error.message)
}

/// A table with a hash and a range key, an index by status, and a stream.
async fn world() -> Arc<Cloud> {
    let cloud =
        crate::testing::open(Settings::for_tests(), Clock::manual(1_800_000_000_000), Random::seeded(1))
            .unwrap();
    let schema = |hash: &str, range: &str| json!([{ "AttributeName": hash, "KeyType": "HASH" }, { "AttributeName": range, "KeyType": "RANGE" }]);
    let table = json!({
        "TableName": "things",
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            { "AttributeName": "PK", "AttributeType": "S" },
            { "AttributeName": "SK", "AttributeType": "N" },
            { "AttributeName": "status", "AttributeType": "S" },
        ],
        "KeySchema": schema("PK", "SK"),
        "GlobalSecondaryIndexes": [{
            "IndexName": "by-status",
            "KeySchema": schema("status", "SK"),
            "Projection": { "ProjectionType": "KEYS_ONLY" },
        }],
        "StreamSpecification": { "StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES" },
    });
    ok(&cloud, "CreateTable", table).await;
    cloud
}

fn item(pk: &str, sk: u32, status: &str) -> Value {
    json!({ "PK": { "S": pk }, "SK": { "N": sk.to_string() }, "status": { "S": status } })
}

fn key(pk: &str, sk: u32) -> Value {
    json!({ "PK": { "S": pk }, "SK": { "N": sk.to_string() } })
}

async fn put(cloud: &Arc<Cloud>, pk: &str, sk: u32, status: &str) {
    ok(cloud, "PutItem", json!({ "TableName": "things", "Item": item(pk, sk, status) })).await;
}

#[tokio::test]
async fn a_table_that_does_not_exist_is_refused_in_the_words_of_each_action() {
    let cloud = world().await;
    let not_found = "ResourceNotFoundException".to_owned();
    let get = json!({ "TableName": "none", "Key": key("a", 1) });
    assert_eq!(
        refused(&cloud, "GetItem", get).await,
        (not_found.clone(), "Requested resource not found".into())
    );
    let put = json!({ "TableName": "none", "Item": item("a", 1, "x") });
    assert_eq!(
        refused(&cloud, "PutItem", put).await,
        (not_found.clone(), "Requested resource not found".into())
    );
    let table = json!({ "TableName": "none" });
    for action in ["DescribeTable", "DeleteTable"] {
        let (code, message) = refused(&cloud, action, table.clone()).await;
        assert_eq!(code, not_found);
        assert_eq!(message, "Requested resource not found: Table: none not found");
    }
}

#[tokio::test]
async fn a_table_that_exists_already_is_in_use() {
    let cloud = world().await;
    let again = json!({
        "TableName": "things", "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{ "AttributeName": "PK", "AttributeType": "S" }],
        "KeySchema": [{ "AttributeName": "PK", "KeyType": "HASH" }],
    });
    let (code, message) = refused(&cloud, "CreateTable", again).await;
    assert_eq!((code.as_str(), message.as_str()), ("ResourceInUseException", "Table already exists: things"));
}

#[tokio::test]
async fn what_an_item_or_an_expression_lacks_is_told_in_the_words_of_aws() {
    let cloud = world().await;
    let validation = "ValidationException".to_owned();
    let no_key = json!({ "TableName": "things", "Item": { "PK": { "S": "a" } } });
    assert_eq!(
        refused(&cloud, "PutItem", no_key).await,
        (
            validation.clone(),
            "One or more parameter values were invalid: Missing the key SK in the item".into()
        )
    );
    let wrong = json!({ "TableName": "things", "Item": { "PK": { "N": "1" }, "SK": { "N": "1" } } });
    assert_eq!(
        refused(&cloud, "PutItem", wrong).await,
        (
            validation.clone(),
            "One or more parameter values were invalid: Type mismatch for key PK expected: S actual: N"
                .into()
        )
    );
    let half = json!({ "TableName": "things", "Key": { "PK": { "S": "a" } } });
    assert_eq!(
        refused(&cloud, "GetItem", half).await,
        (validation.clone(), "The provided key element does not match the schema".into())
    );
    let undefined = json!({
        "TableName": "things", "Key": key("a", 1), "UpdateExpression": "SET #n = :v",
        "ExpressionAttributeNames": { "#n": "n" },
    });
    let (code, message) = refused(&cloud, "UpdateItem", undefined).await;
    assert_eq!(code, validation);
    // AWS has put more before it since October 2026.
    let words = "Invalid UpdateExpression: An expression attribute value used in expression is not defined; attribute value: :v";
    assert!(message.ends_with(words), "{message}");
    let unused = json!({
        "TableName": "things", "Item": item("a", 1, "x"), "ConditionExpression": "attribute_not_exists(PK)",
        "ExpressionAttributeNames": { "#n": "n" },
    });
    let (_, message) = refused(&cloud, "PutItem", unused).await;
    let words = "Value provided in ExpressionAttributeNames unused in expressions: keys: {#n}";
    assert!(message.ends_with(words), "{message}");
}

#[tokio::test]
async fn a_condition_that_fails_can_show_the_item() {
    let cloud = world().await;
    put(&cloud, "a", 1, "DRAFT").await;
    let mut update = json!({
        "TableName": "things", "Key": key("a", 1), "UpdateExpression": "SET #s = :new",
        "ConditionExpression": "#s = :old", "ExpressionAttributeNames": { "#s": "status" },
        "ExpressionAttributeValues": { ":new": { "S": "CLOSED" }, ":old": { "S": "APPROVED" } },
    });
    let error = cloud.call("dynamodb", "UpdateItem", update.clone()).await.unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("ConditionalCheckFailedException", "The conditional request failed")
    );
    assert!(error.details.get("Item").is_none());
    update["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD".into();
    let error = cloud.call("dynamodb", "UpdateItem", update).await.unwrap_err();
    assert_eq!(error.details["Item"], item("a", 1, "DRAFT"));
}

#[tokio::test]
async fn a_transaction_is_all_or_nothing_and_its_token_makes_it_once() {
    let cloud = world().await;
    put(&cloud, "a", 1, "DRAFT").await;
    let write = |pk: &str| {
        json!({ "Put": {
            "TableName": "things", "Item": item(pk, 1, "x"), "ConditionExpression": "attribute_not_exists(PK)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        } })
    };
    let both = json!({ "TransactItems": [write("b"), write("a")] });
    let error = cloud.call("dynamodb", "TransactWriteItems", both).await.unwrap_err();
    assert_eq!(
        error.message,
        "Transaction cancelled, please refer cancellation reasons for specific reasons [None, ConditionalCheckFailed]"
    );
    assert_eq!(error.details["CancellationReasons"][1]["Item"], item("a", 1, "DRAFT"));
    assert_eq!(error.details["CancellationReasons"][1]["Message"], "The conditional request failed");
    let once = json!({ "ClientRequestToken": "t", "TransactItems": [write("b")] });
    ok(&cloud, "TransactWriteItems", once.clone()).await;
    ok(&cloud, "TransactWriteItems", once).await;
    let other = json!({ "ClientRequestToken": "t", "TransactItems": [write("c")] });
    assert_eq!(refused(&cloud, "TransactWriteItems", other).await.0, "IdempotentParameterMismatchException");
    let found = ok(&cloud, "Scan", json!({ "TableName": "things", "Select": "COUNT" })).await;
    assert_eq!(found["Count"], 2);
}

#[tokio::test]
async fn a_query_goes_page_by_page_over_a_table_and_an_index() {
    let cloud = world().await;
    for n in 1..=5 {
        put(&cloud, "a", n, if n % 2 == 0 { "even" } else { "odd" }).await;
    }
    let mut query = json!({
        "TableName": "things", "KeyConditionExpression": "PK = :a", "ExpressionAttributeValues": { ":a": { "S": "a" } },
        "ScanIndexForward": false, "Limit": 2, "ReturnConsumedCapacity": "TOTAL",
    });
    let mut seen = Vec::new();
    loop {
        let page = ok(&cloud, "Query", query.clone()).await;
        assert_eq!(page["ConsumedCapacity"]["TableName"], "things");
        assert_eq!(page["ConsumedCapacity"]["CapacityUnits"], 0.5);
        seen.extend(page["Items"].as_array().unwrap().iter().map(|item| item["SK"]["N"].clone()));
        let Some(last) = page.get("LastEvaluatedKey") else { break };
        query["ExclusiveStartKey"] = last.clone();
    }
    assert_eq!(seen, ["5", "4", "3", "2", "1"]);
    let index = json!({
        "TableName": "things", "IndexName": "by-status", "KeyConditionExpression": "#s = :s",
        "ExpressionAttributeNames": { "#s": "status" }, "ExpressionAttributeValues": { ":s": { "S": "even" } },
    });
    let page = ok(&cloud, "Query", index).await;
    assert_eq!((&page["Count"], &page["ScannedCount"]), (&json!(2), &json!(2)));
}

#[tokio::test]
async fn tables_are_listed_page_by_page_and_described_with_their_indexes() {
    let cloud = world().await;
    for name in ["alpha", "omega"] {
        let table = json!({
            "TableName": name, "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{ "AttributeName": "PK", "AttributeType": "S" }],
            "KeySchema": [{ "AttributeName": "PK", "KeyType": "HASH" }],
        });
        ok(&cloud, "CreateTable", table).await;
    }
    let first = ok(&cloud, "ListTables", json!({ "Limit": 2 })).await;
    assert_eq!(first["TableNames"], json!(["alpha", "omega"]));
    let after = json!({ "ExclusiveStartTableName": first["LastEvaluatedTableName"] });
    let second = ok(&cloud, "ListTables", after).await;
    assert_eq!(second, json!({ "TableNames": ["things"] }));
    let described = ok(&cloud, "DescribeTable", json!({ "TableName": "things" })).await;
    let index = &described["Table"]["GlobalSecondaryIndexes"][0];
    assert_eq!(index["IndexStatus"], "ACTIVE");
    assert_eq!(index["IndexArn"], "arn:aws:dynamodb:us-east-1:123456789012:table/things/index/by-status");
    assert_eq!(described["Table"]["BillingModeSummary"]["BillingMode"], "PAY_PER_REQUEST");
    // A waiter for a table that is gone asks until it is not found.
    ok(&cloud, "DeleteTable", json!({ "TableName": "alpha" })).await;
    let gone = refused(&cloud, "DescribeTable", json!({ "TableName": "alpha" })).await;
    assert_eq!(gone.0, "ResourceNotFoundException");
}

#[tokio::test]
async fn a_batch_answers_what_was_not_done() {
    let cloud = world().await;
    let puts: Vec<Value> = (0..26).map(|n| json!({ "PutRequest": { "Item": item("a", n, "x") } })).collect();
    let many = json!({ "RequestItems": { "things": puts } });
    assert_eq!(refused(&cloud, "BatchWriteItem", many).await.0, "ValidationException");
    let few = json!({ "RequestItems": { "things": puts[..25] } });
    assert_eq!(ok(&cloud, "BatchWriteItem", few).await["UnprocessedItems"], json!({}));
    let keys: Vec<Value> = (0..3).map(|n| key("a", n)).collect();
    let found = ok(&cloud, "BatchGetItem", json!({ "RequestItems": { "things": { "Keys": keys } } })).await;
    assert_eq!(found["Responses"]["things"].as_array().unwrap().len(), 3);
    assert_eq!(found["UnprocessedKeys"], json!({}));
}

#[tokio::test]
async fn statements_of_partiql_read_and_write() {
    let cloud = world().await;
    let insert = "INSERT INTO things VALUE {'PK': 'a', 'SK': 1, 'status': 'DRAFT'}";
    ok(&cloud, "ExecuteStatement", json!({ "Statement": insert })).await;
    let again = refused(&cloud, "ExecuteStatement", json!({ "Statement": insert })).await;
    assert_eq!(again.0, "DuplicateItemException");
    let select = json!({ "Statement": "SELECT status FROM things WHERE PK = ? AND SK = ?", "Parameters": [{ "S": "a" }, { "N": "1" }] });
    let selected = ok(&cloud, "ExecuteStatement", select).await;
    assert_eq!(selected["Items"], json!([{ "status": { "S": "DRAFT" } }]));
}

async fn iterator(cloud: &Arc<Cloud>, kind: &str, sequence: Option<&Value>) -> Value {
    let described = ok(cloud, "DescribeTable", json!({ "TableName": "things" })).await;
    let mut input = json!({ "StreamArn": described["Table"]["LatestStreamArn"], "ShardId": SHARD_ID, "ShardIteratorType": kind });
    if let Some(sequence) = sequence {
        input["SequenceNumber"] = sequence.clone();
    }
    ok(cloud, "GetShardIterator", input).await["ShardIterator"].clone()
}

/// What a reader gets from an iterator: the keys of the records, and the records.
async fn read(cloud: &Arc<Cloud>, iterator: &Value) -> (Vec<Value>, Value) {
    let answer = ok(cloud, "GetRecords", json!({ "ShardIterator": iterator })).await;
    let records = answer["Records"].as_array().unwrap();
    (records.iter().map(|record| record["dynamodb"]["Keys"]["SK"]["N"].clone()).collect(), answer)
}

#[tokio::test]
async fn a_stream_is_read_from_each_kind_of_position() {
    let cloud = world().await;
    let latest = iterator(&cloud, "LATEST", None).await;
    for n in 1..=3 {
        put(&cloud, "a", n, "x").await;
    }
    let oldest = iterator(&cloud, "TRIM_HORIZON", None).await;
    let (keys, answer) = read(&cloud, &oldest).await;
    assert_eq!(keys, ["1", "2", "3"]);
    assert_eq!(read(&cloud, &latest).await.0, ["1", "2", "3"]);
    let second = &answer["Records"][1]["dynamodb"]["SequenceNumber"];
    let at = iterator(&cloud, "AT_SEQUENCE_NUMBER", Some(second)).await;
    assert_eq!(read(&cloud, &at).await.0, ["2", "3"]);
    let after = iterator(&cloud, "AFTER_SEQUENCE_NUMBER", Some(second)).await;
    assert_eq!(read(&cloud, &after).await.0, ["3"]);
    let now = iterator(&cloud, "LATEST", None).await;
    assert!(read(&cloud, &now).await.0.is_empty());
    // The iterator behind the last record goes on with what is written next.
    put(&cloud, "a", 4, "x").await;
    assert_eq!(read(&cloud, &answer["NextShardIterator"]).await.0, ["4"]);
}

#[tokio::test]
async fn a_record_of_a_stream_has_what_changed_before_and_after() {
    let cloud = world().await;
    put(&cloud, "a", 1, "DRAFT").await;
    put(&cloud, "a", 1, "APPROVED").await;
    ok(&cloud, "DeleteItem", json!({ "TableName": "things", "Key": key("a", 1) })).await;
    let oldest = iterator(&cloud, "TRIM_HORIZON", None).await;
    let (_, answer) = read(&cloud, &oldest).await;
    let records = answer["Records"].as_array().unwrap();
    let names: Vec<&Value> = records.iter().map(|record| &record["eventName"]).collect();
    assert_eq!(names, ["INSERT", "MODIFY", "REMOVE"]);
    assert_eq!(records[1]["dynamodb"]["OldImage"], item("a", 1, "DRAFT"));
    assert_eq!(records[1]["dynamodb"]["NewImage"], item("a", 1, "APPROVED"));
    assert!(records[2]["dynamodb"].get("NewImage").is_none());
    // PK and its letter 3, SK and its digit 4; status 6, DRAFT 5, APPROVED 8.
    let sizes: Vec<&Value> = records.iter().map(|record| &record["dynamodb"]["SizeBytes"]).collect();
    assert_eq!(sizes, [&json!(7 + 18), &json!(7 + 18 + 21), &json!(7 + 21)]);
    assert_eq!(records[0]["eventSource"], "aws:dynamodb");
    assert_eq!(records[0]["dynamodb"]["StreamViewType"], "NEW_AND_OLD_IMAGES");
    assert_eq!(records[0]["dynamodb"]["ApproximateCreationDateTime"], 1_800_000_000.0);
}

#[tokio::test]
async fn a_stream_is_described_with_its_keys_and_the_first_number_of_its_shard() {
    let cloud = world().await;
    let table = ok(&cloud, "DescribeTable", json!({ "TableName": "things" })).await;
    let arn = &table["Table"]["LatestStreamArn"];
    let described = ok(&cloud, "DescribeStream", json!({ "StreamArn": arn })).await;
    let stream = &described["StreamDescription"];
    assert_eq!(stream["KeySchema"], table["Table"]["KeySchema"]);
    assert_eq!(stream["StreamStatus"], "ENABLED");
    let range = &stream["Shards"][0]["SequenceNumberRange"];
    assert!(range["StartingSequenceNumber"].as_str().unwrap().len() >= 21, "{range}");
    assert!(range.get("EndingSequenceNumber").is_none());
}

#[tokio::test]
async fn the_kind_of_an_iterator_and_the_limit_of_a_read_are_checked() {
    let cloud = world().await;
    let table = ok(&cloud, "DescribeTable", json!({ "TableName": "things" })).await;
    let odd = json!({ "StreamArn": table["Table"]["LatestStreamArn"], "ShardId": SHARD_ID, "ShardIteratorType": "OLDEST" });
    let (code, message) = refused(&cloud, "GetShardIterator", odd).await;
    assert_eq!(code, "ValidationException");
    assert!(message.contains("'OLDEST' at 'shardIteratorType'"), "{message}");
    let iterator = iterator(&cloud, "TRIM_HORIZON", None).await;
    for (limit, bound) in [(0, "greater than or equal to 1"), (1001, "less than or equal to 1000")] {
        let input = json!({ "ShardIterator": iterator, "Limit": limit });
        let (code, message) = refused(&cloud, "GetRecords", input).await;
        assert_eq!(code, "ValidationException");
        assert!(message.ends_with(bound), "{message}");
    }
}

#[tokio::test]
async fn what_dynoxide_would_ignore_is_refused_by_name() {
    let cloud = world().await;
    for (action, member) in [
        ("CreateTable", "ResourcePolicy"),
        ("CreateTable", "WarmThroughput"),
        ("UpdateTable", "ReplicaUpdates"),
        ("UpdateTable", "SSESpecification"),
    ] {
        let input = json!({ "TableName": "things", member: { "X": 1 } });
        let (code, message) = refused(&cloud, action, input).await;
        assert_eq!(code, "NotImplemented");
        assert!(message.contains(member), "{message}");
    }
}

#[tokio::test]
async fn limits_and_endpoints_are_described() {
    let cloud = world().await;
    let limits = ok(&cloud, "DescribeLimits", json!({})).await;
    assert_eq!(limits["TableMaxReadCapacityUnits"], 40_000);
    cloud.endpoint_url.set("http://127.0.0.1:4566".into()).unwrap();
    let endpoints = ok(&cloud, "DescribeEndpoints", json!({})).await;
    assert_eq!(endpoints["Endpoints"][0]["Address"], "127.0.0.1:4566");
}
