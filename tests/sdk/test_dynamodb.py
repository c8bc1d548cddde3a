"""DynamoDB: tables, items, conditions, transactions, pages, streams."""

from decimal import Decimal

import boto3
import pytest
from boto3.dynamodb.conditions import Attr, Key
from botocore.exceptions import ClientError

from conftest import until


@pytest.fixture(scope="module")
def dynamodb(client):
    return client("dynamodb")


@pytest.fixture
def table(dynamodb, name):
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "N"},
            {"AttributeName": "city", "AttributeType": "S"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by-city",
                "KeySchema": [{"AttributeName": "city", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    yield boto3.resource("dynamodb").Table(name)
    dynamodb.delete_table(TableName=name)
    dynamodb.get_waiter("table_not_exists").wait(TableName=name, WaiterConfig={"Delay": 1})


def test_the_tables_of_the_stack_are_listed_page_by_page(dynamodb, outputs):
    pages = list(dynamodb.get_paginator("list_tables").paginate(PaginationConfig={"PageSize": 2}))
    names = [table for page in pages for table in page["TableNames"]]
    assert len(pages) > 1
    assert len(names) == len(set(names))
    assert {outputs["ContractsTableName"], outputs["ListingsTableName"], outputs["ContractStatusTableName"]} <= set(names)


def test_the_contracts_table_is_described(dynamodb, outputs):
    table = dynamodb.describe_table(TableName=outputs["ContractsTableName"])["Table"]
    assert table["TableStatus"] == "ACTIVE"
    assert table["TableArn"].startswith("arn:aws:dynamodb:us-east-1:")
    assert table["TableArn"].endswith(f":table/{outputs['ContractsTableName']}")
    assert table["KeySchema"] == [{"AttributeName": "property_id", "KeyType": "HASH"}]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["StreamSpecification"]["StreamEnabled"]
    assert table["LatestStreamArn"].startswith(table["TableArn"] + "/stream/")


def test_a_table_is_described_by_its_arn(dynamodb, outputs):
    arn = dynamodb.describe_table(TableName=outputs["ContractsTableName"])["Table"]["TableArn"]
    assert dynamodb.describe_table(TableName=arn)["Table"]["TableName"] == outputs["ContractsTableName"]


def test_an_unknown_table_is_not_found(dynamodb):
    with pytest.raises(dynamodb.exceptions.ResourceNotFoundException) as error:
        dynamodb.describe_table(TableName="nobodys-table")
    assert error.value.response["Error"]["Message"] == "Requested resource not found: Table: nobodys-table not found"
    for call in (
        lambda: dynamodb.scan(TableName="nobodys-table"),
        lambda: dynamodb.get_item(TableName="nobodys-table", Key={"pk": {"S": "a"}}),
    ):
        with pytest.raises(dynamodb.exceptions.ResourceNotFoundException):
            call()


def test_a_table_that_is_there_is_in_use(dynamodb, table):
    with pytest.raises(dynamodb.exceptions.ResourceInUseException):
        dynamodb.create_table(
            TableName=table.name,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )


def test_items_of_every_type_come_back_as_they_went(table):
    item = {
        "pk": "a",
        "sk": Decimal("1.5"),
        "text": "Straße 😀 \n\"",
        "flag": True,
        "nothing": None,
        "bytes": b"\x00\xff",
        "list": ["a", 1, {"deep": [False]}],
        "set": {"x", "y"},
        "numbers": {Decimal(1), Decimal(2)},
        "large": Decimal("12345678901234567890123456789012345678"),
    }
    table.put_item(Item=item)
    back = table.get_item(Key={"pk": "a", "sk": Decimal("1.5")}, ConsistentRead=True)["Item"]
    assert back.pop("bytes").value == item.pop("bytes")
    assert back == item
    assert "Item" not in table.get_item(Key={"pk": "a", "sk": 2})


def test_a_condition_that_fails_shows_the_item_when_asked(dynamodb, table):
    table.put_item(Item={"pk": "a", "sk": 1, "v": 1}, ConditionExpression="attribute_not_exists(pk)")
    with pytest.raises(dynamodb.exceptions.ConditionalCheckFailedException) as error:
        dynamodb.put_item(
            TableName=table.name,
            Item={"pk": {"S": "a"}, "sk": {"N": "1"}},
            ConditionExpression="attribute_not_exists(pk)",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    assert error.value.response["Error"]["Message"] == "The conditional request failed"
    assert error.value.response["Item"]["v"] == {"N": "1"}


def test_updates_count_append_and_return_what_they_did(table):
    key = {"pk": "a", "sk": 1}
    for _ in range(3):
        answer = table.update_item(
            Key=key,
            UpdateExpression="ADD #n :one SET tags = list_append(if_not_exists(tags, :none), :tag)",
            ExpressionAttributeNames={"#n": "n"},
            ExpressionAttributeValues={":one": 1, ":none": [], ":tag": ["t"]},
            ReturnValues="ALL_NEW",
        )
    assert answer["Attributes"]["n"] == 3
    assert answer["Attributes"]["tags"] == ["t", "t", "t"]
    gone = table.update_item(Key=key, UpdateExpression="REMOVE tags", ReturnValues="UPDATED_OLD")
    assert gone["Attributes"]["tags"] == ["t", "t", "t"]


def test_bad_requests_are_validation_exceptions(dynamodb, table):
    for call in (
        lambda: table.put_item(Item={"pk": "a"}),
        lambda: table.put_item(Item={"pk": "", "sk": 1}),
        lambda: table.get_item(Key={"pk": "a"}),
        lambda: table.update_item(Key={"pk": "a", "sk": 1}, UpdateExpression="SET x = :missing"),
        lambda: table.update_item(Key={"pk": "a", "sk": 1}, UpdateExpression="FROB x"),
        lambda: table.put_item(Item={"pk": "a", "sk": 1, "text": "x" * 410_000}),
        lambda: dynamodb.scan(TableName=table.name, Limit=0),
    ):
        with pytest.raises(Exception) as error:
            call()
        if isinstance(error.value, ClientError):
            assert error.value.response["Error"]["Code"] == "ValidationException"
            assert error.value.response["Error"]["Message"]


def test_queries_page_in_order_and_backwards(table):
    with table.batch_writer() as batch:
        for n in range(25):
            batch.put_item(Item={"pk": "a", "sk": n, "city": "x" if n % 2 else "y", "text": "z" * 10})
    pages = table.meta.client.get_paginator("query").paginate(
        TableName=table.name,
        KeyConditionExpression=Key("pk").eq("a") & Key("sk").between(3, 20),
        PaginationConfig={"PageSize": 5},
    )
    assert [item["sk"] for page in pages for item in page["Items"]] == list(range(3, 21))
    last = table.query(KeyConditionExpression=Key("pk").eq("a"), ScanIndexForward=False, Limit=2)
    assert [item["sk"] for item in last["Items"]] == [24, 23]
    assert last["LastEvaluatedKey"] == {"pk": "a", "sk": 23}
    by_city = table.query(IndexName="by-city", KeyConditionExpression=Key("city").eq("x"))
    assert by_city["Count"] == 12
    filtered = table.query(
        KeyConditionExpression=Key("pk").eq("a"), FilterExpression=Attr("city").eq("y"), Limit=10, Select="COUNT"
    )
    assert (filtered["Count"], filtered["ScannedCount"]) == (5, 10)
    assert "Items" not in filtered


def test_scans_page_and_split_into_segments(table):
    with table.batch_writer() as batch:
        for n in range(30):
            batch.put_item(Item={"pk": f"p{n}", "sk": n})
    scan = table.meta.client.get_paginator("scan")
    pages = list(scan.paginate(TableName=table.name, PaginationConfig={"PageSize": 7}))
    assert sorted(item["sk"] for page in pages for item in page["Items"]) == list(range(30))
    assert len(pages) >= 5
    halves = [
        item["sk"]
        for segment in range(2)
        for page in scan.paginate(TableName=table.name, Segment=segment, TotalSegments=2)
        for item in page["Items"]
    ]
    assert sorted(halves) == list(range(30))


def test_batches_read_and_write_across_items(dynamodb, table):
    dynamodb.batch_write_item(
        RequestItems={
            table.name: [{"PutRequest": {"Item": {"pk": {"S": "a"}, "sk": {"N": str(n)}}}} for n in range(25)]
        }
    )
    answer = dynamodb.batch_get_item(
        RequestItems={table.name: {"Keys": [{"pk": {"S": "a"}, "sk": {"N": str(n)}} for n in range(30)]}}
    )
    assert len(answer["Responses"][table.name]) == 25
    assert answer["UnprocessedKeys"] == {}
    with pytest.raises(ClientError) as error:
        dynamodb.batch_write_item(
            RequestItems={
                table.name: [{"PutRequest": {"Item": {"pk": {"S": "a"}, "sk": {"N": str(n)}}}} for n in range(26)]
            }
        )
    assert error.value.response["Error"]["Code"] == "ValidationException"


def test_a_transaction_is_all_or_nothing_and_names_its_reasons(dynamodb, table):
    def put(sk, **given):
        return {"Put": {"TableName": table.name, "Item": {"pk": {"S": "t"}, "sk": {"N": str(sk)}}} | given}

    dynamodb.transact_write_items(TransactItems=[put(1), put(2)])
    with pytest.raises(dynamodb.exceptions.TransactionCanceledException) as error:
        dynamodb.transact_write_items(
            TransactItems=[put(3), {"Put": put(1)["Put"] | {"ConditionExpression": "attribute_not_exists(pk)"}}]
        )
    reasons = error.value.response["CancellationReasons"]
    assert [reason["Code"] for reason in reasons] == ["None", "ConditionalCheckFailed"]
    assert error.value.response["Error"]["Message"] == (
        "Transaction cancelled, please refer cancellation reasons for specific reasons [None, ConditionalCheckFailed]"
    )
    assert "Item" not in table.get_item(Key={"pk": "t", "sk": 3})
    both = dynamodb.transact_get_items(
        TransactItems=[
            {"Get": {"TableName": table.name, "Key": {"pk": {"S": "t"}, "sk": {"N": str(sk)}}}} for sk in (1, 3)
        ]
    )["Responses"]
    assert both[0]["Item"]["sk"] == {"N": "1"}
    assert "Item" not in both[1]


def test_a_transaction_with_the_same_token_happens_once(dynamodb, table):
    write = {
        "Update": {
            "TableName": table.name,
            "Key": {"pk": {"S": "once"}, "sk": {"N": "1"}},
            "UpdateExpression": "ADD n :one",
            "ExpressionAttributeValues": {":one": {"N": "1"}},
        }
    }
    for _ in range(3):
        dynamodb.transact_write_items(TransactItems=[write], ClientRequestToken="a-token-of-this-test" + table.name[-8:])
    assert table.get_item(Key={"pk": "once", "sk": 1})["Item"]["n"] == 1


def test_partiql_reads_and_writes(dynamodb, table):
    table.put_item(Item={"pk": "a", "sk": 1, "v": "x"})
    answer = dynamodb.execute_statement(
        Statement=f'SELECT * FROM "{table.name}" WHERE pk = ? AND sk = ?', Parameters=[{"S": "a"}, {"N": "1"}]
    )
    assert answer["Items"] == [{"pk": {"S": "a"}, "sk": {"N": "1"}, "v": {"S": "x"}}]


def test_several_statements_run_as_a_transaction_or_each_alone(dynamodb, table):
    insert = lambda sk: {"Statement": f"INSERT INTO \"{table.name}\" VALUE {{'pk': 'a', 'sk': ?}}", "Parameters": [{"N": str(sk)}]}
    dynamodb.execute_transaction(TransactStatements=[insert(1), insert(2)])
    with pytest.raises(dynamodb.exceptions.TransactionCanceledException):
        dynamodb.execute_transaction(TransactStatements=[insert(3), insert(2)])
    select = f"SELECT * FROM \"{table.name}\" WHERE pk = 'a' AND sk = ?"
    answer = dynamodb.batch_execute_statement(Statements=[{"Statement": select, "Parameters": [{"N": str(sk)}]} for sk in (1, 3)])
    assert answer["Responses"][0]["Item"]["sk"] == {"N": "1"}
    assert "Item" not in answer["Responses"][1]


def test_a_table_is_changed_and_tagged(dynamodb, table):
    arn = dynamodb.describe_table(TableName=table.name)["Table"]["TableArn"]
    dynamodb.tag_resource(ResourceArn=arn, Tags=[{"Key": "Owner", "Value": "me"}, {"Key": "Other", "Value": "x"}])
    dynamodb.untag_resource(ResourceArn=arn, TagKeys=["Other"])
    assert dynamodb.list_tags_of_resource(ResourceArn=arn)["Tags"] == [{"Key": "Owner", "Value": "me"}]
    dynamodb.update_table(
        TableName=table.name,
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind} for name, kind in (("pk", "S"), ("sk", "N"), ("city", "S"), ("kind", "S"))],
        GlobalSecondaryIndexUpdates=[{"Create": {"IndexName": "by-kind", "KeySchema": [{"AttributeName": "kind", "KeyType": "HASH"}], "Projection": {"ProjectionType": "ALL"}}}],
    )
    until("the index", lambda: all(index["IndexStatus"] == "ACTIVE" for index in dynamodb.describe_table(TableName=table.name)["Table"]["GlobalSecondaryIndexes"]))
    table.put_item(Item={"pk": "a", "sk": 1, "kind": "x"})
    assert table.query(IndexName="by-kind", KeyConditionExpression=Key("kind").eq("x"))["Count"] == 1


def test_time_to_live_is_described(dynamodb, table):
    described = dynamodb.describe_time_to_live(TableName=table.name)["TimeToLiveDescription"]
    assert described == {"TimeToLiveStatus": "DISABLED"}
    dynamodb.update_time_to_live(
        TableName=table.name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"}
    )
    described = dynamodb.describe_time_to_live(TableName=table.name)["TimeToLiveDescription"]
    assert described["TimeToLiveStatus"] in ("ENABLED", "ENABLING")
    assert described["AttributeName"] == "expires"


def test_tags_of_the_stacks_tables_are_described(dynamodb, outputs):
    table = outputs["ContractsTableName"]
    arn = dynamodb.describe_table(TableName=table)["Table"]["TableArn"]
    tags = {tag["Key"]: tag["Value"] for tag in dynamodb.list_tags_of_resource(ResourceArn=arn)["Tags"]}
    assert {"Owner", "Service", "Stage", "Project"} <= set(tags)


def test_the_stream_tells_every_change_in_order(client, dynamodb, table):
    streams = client("dynamodbstreams")
    arn = dynamodb.describe_table(TableName=table.name)["Table"]["LatestStreamArn"]
    [stream] = streams.list_streams(TableName=table.name)["Streams"]
    assert stream["StreamArn"] == arn
    described = streams.describe_stream(StreamArn=arn)["StreamDescription"]
    assert described["StreamStatus"] == "ENABLED"
    assert described["StreamViewType"] == "NEW_AND_OLD_IMAGES"
    table.put_item(Item={"pk": "a", "sk": 1, "v": 1})
    table.put_item(Item={"pk": "a", "sk": 1, "v": 2})
    table.put_item(Item={"pk": "a", "sk": 1, "v": 2})
    table.delete_item(Key={"pk": "a", "sk": 1})
    records = []
    iterators = [
        streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    ]

    def read():
        for n, iterator in enumerate(iterators):
            if iterator:
                answer = streams.get_records(ShardIterator=iterator, Limit=2)
                records.extend(answer["Records"])
                iterators[n] = answer.get("NextShardIterator")
        return len(records) >= 3

    until("three changes", read)
    assert [record["eventName"] for record in records] == ["INSERT", "MODIFY", "REMOVE"]
    change = records[1]["dynamodb"]
    assert change["OldImage"]["v"] == {"N": "1"}
    assert change["NewImage"]["v"] == {"N": "2"}
    assert change["StreamViewType"] == "NEW_AND_OLD_IMAGES"
    assert records[0]["awsRegion"] == "us-east-1"
    assert records[0]["eventSource"] == "aws:dynamodb"
    numbers = [int(record["dynamodb"]["SequenceNumber"]) for record in records]
    assert numbers == sorted(numbers)
    with pytest.raises(streams.exceptions.ResourceNotFoundException):
        streams.describe_stream(StreamArn=arn[:-3] + "999")
