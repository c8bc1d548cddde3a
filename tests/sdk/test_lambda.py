"""Lambda: the functions of the stack, listed, read and invoked."""

import base64
import json

import pytest
from botocore.exceptions import ClientError

from conftest import until


@pytest.fixture(scope="module")
def functions(client):
    return client("lambda")


@pytest.fixture(scope="module")
def query(functions):
    """The function that answers reads of contracts."""
    names = [f["FunctionName"] for page in functions.get_paginator("list_functions").paginate() for f in page["Functions"]]
    return next(name for name in names if "contracts" in name and "query" in name)


def http_get(path, resource, **parameters):
    return json.dumps(
        {
            "resource": resource,
            "path": path,
            "httpMethod": "GET",
            "headers": {"Host": "localhost"},
            "multiValueHeaders": {"Host": ["localhost"]},
            "queryStringParameters": None,
            "multiValueQueryStringParameters": None,
            "pathParameters": parameters,
            "stageVariables": None,
            "requestContext": {
                "accountId": "123456789012", "apiId": "a", "httpMethod": "GET", "path": path, "protocol": "HTTP/1.1",
                "requestId": "r", "resourceId": "x", "resourcePath": resource, "stage": "local",
                "identity": {"sourceIp": "127.0.0.1"},
            },
            "body": None,
            "isBase64Encoded": False,
        }
    )


UNKNOWN = http_get("/contracts/commands/nobodys", "/contracts/commands/{command_id}", command_id="nobodys")


def test_functions_are_listed_in_pages(functions):
    pages = list(functions.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2}))
    listed = [f for page in pages for f in page["Functions"]]
    assert len(pages) > 1
    assert len({f["FunctionName"] for f in listed}) == len(listed) >= 8
    for function in listed:
        assert function["Runtime"] == "provided.al2023"
        assert function["Handler"]
        assert function["PackageType"] == "Zip"
        assert function["Timeout"] > 0 and function["MemorySize"] >= 128
        assert function["FunctionArn"].endswith(f":function:{function['FunctionName']}")


def test_a_function_is_read_by_name_by_arn_and_by_qualifier(functions, query):
    one = functions.get_function(FunctionName=query)
    configuration = one["Configuration"]
    assert configuration["State"] == "Active"
    assert configuration["LastUpdateStatus"] == "Successful"
    assert configuration["Environment"]["Variables"]
    assert {"Owner", "Service", "Stage", "Project"} <= set(one["Tags"])
    assert functions.get_function(FunctionName=configuration["FunctionArn"])["Configuration"]["FunctionName"] == query
    assert functions.get_function_configuration(FunctionName=query, Qualifier="$LATEST")["FunctionName"] == query
    functions.get_waiter("function_active_v2").wait(FunctionName=query, WaiterConfig={"MaxAttempts": 1})
    functions.get_waiter("function_updated_v2").wait(FunctionName=query, WaiterConfig={"MaxAttempts": 1})


def test_an_invocation_answers_with_payload_version_and_log(functions, query):
    answer = functions.invoke(FunctionName=query, Payload=UNKNOWN, LogType="Tail")
    assert answer["StatusCode"] == 200
    assert answer["ExecutedVersion"] == "$LATEST"
    assert "FunctionError" not in answer
    response = json.loads(answer["Payload"].read())
    assert response["statusCode"] == 404
    log = base64.b64decode(answer["LogResult"]).decode()
    assert "REPORT RequestId" in log or "platform.report" in log
    assert len(log) <= 4096


def test_an_asynchronous_and_a_dry_invocation_answer_at_once(functions, query):
    queued = functions.invoke(FunctionName=query, InvocationType="Event", Payload=UNKNOWN)
    assert queued["StatusCode"] == 202
    assert queued["Payload"].read() == b""
    dry = functions.invoke(FunctionName=query, InvocationType="DryRun")
    assert dry["StatusCode"] == 204


def test_an_error_of_the_function_is_marked_and_told(functions, query):
    answer = functions.invoke(FunctionName=query, Payload=b'{"not": "a request"}')
    payload = json.loads(answer["Payload"].read())
    assert answer["StatusCode"] == 200
    if "FunctionError" in answer:
        assert answer["FunctionError"] == "Unhandled"
        assert {"errorType", "errorMessage"} <= set(payload)
    else:
        assert payload["statusCode"] >= 400


def test_what_is_not_there_or_not_json_is_refused(functions, query):
    with pytest.raises(functions.exceptions.ResourceNotFoundException) as error:
        functions.get_function(FunctionName="nobodys")
    assert error.value.response["Error"]["Message"].startswith("Function not found: arn:aws:lambda:us-east-1:")
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    with pytest.raises(functions.exceptions.ResourceNotFoundException):
        functions.invoke(FunctionName="nobodys")
    with pytest.raises(functions.exceptions.ResourceNotFoundException):
        functions.invoke(FunctionName=query, Qualifier="7")
    with pytest.raises(functions.exceptions.InvalidRequestContentException):
        functions.invoke(FunctionName=query, Payload=b"{")
    with pytest.raises(ClientError) as error:
        functions.invoke(FunctionName=query, InvocationType="Event", Payload=b'"' + b"x" * 1_100_000 + b'"')
    assert error.value.response["Error"]["Code"] == "RequestTooLargeException"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_a_mapping_is_switched_off_and_on(functions, client, outputs):
    queue = client("sqs").get_queue_attributes(QueueUrl=outputs["WebIngestQueueUrl"], AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    [mapping] = functions.list_event_source_mappings(EventSourceArn=queue)["EventSourceMappings"]
    state = lambda: functions.get_event_source_mapping(UUID=mapping["UUID"])["State"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    until("the mapping's end", lambda: state() == "Disabled")
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)
    until("the mapping's start", lambda: state() == "Enabled")


def test_the_mappings_of_the_ingest_functions_name_their_queues(functions, client, outputs):
    mappings = [m for page in functions.get_paginator("list_event_source_mappings").paginate() for m in page["EventSourceMappings"]]
    queue = client("sqs").get_queue_attributes(QueueUrl=outputs["ContractsIngestQueueUrl"], AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    [mapping] = [m for m in mappings if m["EventSourceArn"] == queue]
    assert mapping["State"] == "Enabled"
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    one = functions.get_event_source_mapping(UUID=mapping["UUID"])
    assert one["FunctionArn"] == mapping["FunctionArn"]
    assert [m["UUID"] for m in functions.list_event_source_mappings(EventSourceArn=queue)["EventSourceMappings"]] == [mapping["UUID"]]
    with pytest.raises(functions.exceptions.ResourceNotFoundException):
        functions.get_event_source_mapping(UUID="00000000-0000-0000-0000-000000000000")


def test_a_mapping_is_changed_passes_through_its_states_and_keeps_the_rest(functions, client, outputs):
    queue = client("sqs").get_queue_attributes(QueueUrl=outputs["ContractsIngestQueueUrl"], AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    [before] = functions.list_event_source_mappings(EventSourceArn=queue)["EventSourceMappings"]
    identity = before["UUID"]

    def settled(state):
        now = functions.get_event_source_mapping(UUID=identity)
        return now if now["State"] == state else None

    try:
        answer = functions.update_event_source_mapping(UUID=identity, Enabled=False, BatchSize=3)
        assert (answer["State"], answer["BatchSize"]) == ("Disabling", 3)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
        now = until("Disabled", lambda: settled("Disabled"))
        assert now["FunctionResponseTypes"] == before["FunctionResponseTypes"]
        assert now["LastModified"] >= before["LastModified"]
        with pytest.raises(functions.exceptions.InvalidParameterValueException) as error:
            functions.update_event_source_mapping(UUID=identity, BatchSize=10_000, MaximumBatchingWindowInSeconds=0)
        assert "Maximum batch window in seconds" in error.value.response["Error"]["Message"]
        with pytest.raises(functions.exceptions.ResourceNotFoundException):
            functions.update_event_source_mapping(UUID="00000000-0000-0000-0000-000000000000", Enabled=True)
    finally:
        functions.update_event_source_mapping(UUID=identity, Enabled=True, BatchSize=before["BatchSize"])
    now = until("Enabled", lambda: settled("Enabled"))
    assert now["BatchSize"] == before["BatchSize"]


def test_only_the_latest_version_is_there(functions, query):
    assert functions.invoke(FunctionName=f"{query}:$LATEST", Payload=UNKNOWN)["ExecutedVersion"] == "$LATEST"
    with pytest.raises(functions.exceptions.ResourceNotFoundException) as error:
        functions.invoke(FunctionName=query, Qualifier="7")
    message = error.value.response["Error"]["Message"]
    assert message.startswith("Function not found: arn:aws:lambda:") and message.endswith(":7")
