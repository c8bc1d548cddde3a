"""The whole system as someone sees it who knows the workshop and nothing of what runs here.

The way of such suites: find addresses and names in the outputs of the stacks, call the APIs or put
an event on a bus, then read log groups, tables and executions.
"""

import json
import pathlib

import pytest

from conftest import STACK, Property, group_of, until

EVENTS = pathlib.Path(__file__).parents[2] / "events"
WORST = "A terrible, ugly and dirty ruin; the worst house in town."


@pytest.fixture(scope="module")
def logged(client, outputs):
    """The events of a property in a catch-all log group, read from its newest streams as the console does."""
    logs = client("logs")

    def read(service, property_id, detail_type):
        group = outputs[f"{service}CatchAllLogGroupArn"].removesuffix(":*")
        streams = logs.describe_log_streams(logGroupIdentifier=group, orderBy="LastEventTime", descending=True, limit=20)["logStreams"]
        lines = [
            json.loads(event["message"])
            for stream in streams
            for event in logs.get_log_events(logGroupIdentifier=group, logStreamName=stream["logStreamName"])["events"]
        ]
        return [line for line in lines if line["detail-type"] == detail_type and line["detail"].get("property_id") == property_id]

    return read


@pytest.fixture(scope="module")
def put(client, outputs):
    """Puts an event on the bus of a service, as that service itself would."""

    def put(service, detail_type, detail):
        bus, source = outputs[f"{service}EventBusName"], f"unicorn-{service.lower()}"
        answer = client("events").put_events(
            Entries=[{"EventBusName": bus, "Source": source, "DetailType": detail_type, "Detail": json.dumps(detail), "Resources": [detail["property_id"]]}]
        )
        assert answer["FailedEntryCount"] == 0
        return answer["Entries"][0]["EventId"]

    return put


@pytest.fixture(scope="module")
def execution(client, outputs):
    """The execution that an approval request of this property started, once it has ended or as soon as it is there."""
    states = client("stepfunctions")

    def find(home, ended=True):
        def look():
            pages = states.get_paginator("list_executions").paginate(stateMachineArn=outputs["ApprovalStateMachineArn"])
            for listed in (execution for page in pages for execution in page["executions"]):
                described = states.describe_execution(executionArn=listed["executionArn"])
                if json.loads(described["input"])["detail"]["property_id"] == home.id:
                    return described if described["status"] != "RUNNING" or not ended else None

        described = until(f"the execution for {home.id}", look, 60)
        pages = states.get_paginator("get_execution_history").paginate(executionArn=described["executionArn"])
        return described, [event for page in pages for event in page["events"]]

    return find


def resource_of(client, stack, logical):
    [resource] = client("cloudformation").describe_stack_resources(StackName=stack, LogicalResourceId=logical)["StackResources"]
    return resource["PhysicalResourceId"]


def contract_changed(home, status, version):
    return {
        "property_id": home.id,
        "contract_id": "2d0cf0a3-5c28-5e1c-9c3e-0b6f6a1f5f10",
        "contract_status": status,
        "contract_last_modified_on": f"2026-11-23T18:22:0{version}.123Z",
        "contract_version": str(version),
    }


def item(client, table, **key):
    answer = client("dynamodb").get_item(TableName=table, Key={name: {"S": value} for name, value in key.items()}, ConsistentRead=True)
    return answer.get("Item", {})


def status_of(client, outputs, home):
    return item(client, outputs["ContractStatusTableName"], property_id=home.id).get("contract_status", {}).get("S")


def test_a_property_goes_from_its_contract_to_the_search(client, outputs, api, home, logged, execution):
    assert api.post("/contracts", home.contract).json() == {"message": "OK"}
    [draft] = until("the contract's event", lambda: logged("Contracts", home.id, "ContractStatusChanged"))
    assert (draft["source"], draft["detail"]["contract_status"]) == ("unicorn-contracts", "DRAFT")
    stored = item(client, outputs["ContractsTableName"], property_id=home.id)
    assert stored["contract_id"]["S"] == draft["detail"]["contract_id"]
    assert stored["contract_status"]["S"] == "DRAFT"
    until("the contract's status at the approval service", lambda: status_of(client, outputs, home) == "DRAFT")

    assert api.outcome(api.post("/listings", home.listing()))["status"] == "APPLIED"
    assert api.outcome(api.post("/request_approval", {"property_id": home.id}))["status"] == "APPLIED"
    [requested] = until("the request's event", lambda: logged("Web", home.id, "PublicationApprovalRequested"))
    assert (requested["source"], requested["detail"]["status"]) == ("unicorn-web", "PENDING")
    # The request crosses to the approval service, where the workflow stops until the contract is approved.
    until("the request on the other bus", lambda: logged("Properties", home.id, "PublicationApprovalRequested"))
    waiting, history = execution(home, ended=False)
    assert waiting["status"] == "RUNNING"

    assert api.put("/contracts", {"property_id": home.id}).json() == {"message": "OK"}
    ended, history = execution(home)
    assert ended["status"] == "SUCCEEDED"
    assert [event for event in history if event["type"] == "SucceedStateEntered"][-1]["stateEnteredEventDetails"]["name"] == "Approved"
    [evaluated] = until("the evaluation", lambda: logged("Properties", home.id, "PublicationEvaluationCompleted"))
    assert evaluated["detail"]["evaluation_result"] == "APPROVED"
    until("the property in the search", lambda: [found["number"] for found in api.get(f"/search/usa/{home.city}").json()] == [1])
    assert status_of(client, outputs, home) == "APPROVED"
    assert "APPROVED" in json.dumps(
        client("dynamodb").scan(
            TableName=outputs["ListingsTableName"], FilterExpression="city = :city", ExpressionAttributeValues={":city": {"S": home.city}}
        )["Items"]
    )


def test_contract_events_of_my_own_reach_the_table_of_the_approval_service(client, outputs, put, home):
    put("Contracts", "ContractStatusChanged", contract_changed(home, "DRAFT", 1))
    until("the draft", lambda: status_of(client, outputs, home) == "DRAFT")
    put("Contracts", "ContractStatusChanged", contract_changed(home, "APPROVED", 2))
    until("the approval", lambda: status_of(client, outputs, home) == "APPROVED")
    # What comes late changes nothing, and leaves no dead letter.
    put("Contracts", "ContractStatusChanged", contract_changed(home, "DRAFT", 1))
    assert status_of(client, outputs, home) == "APPROVED"


def test_a_request_of_my_own_for_a_property_without_contract_fails_as_not_found(put, execution, home):
    put("Web", "PublicationApprovalRequested", home.event())
    ended, history = execution(home)
    assert ended["status"] == "FAILED"
    [failed] = [event for event in history if event["type"] == "FailStateEntered"]
    assert failed["stateEnteredEventDetails"]["name"] == "NotFound"
    assert history[-1]["type"] == "ExecutionFailed"


@pytest.mark.parametrize("given", [{"description": WORST}, {"images": ["usa/anytown/unsafe-party.png"]}], ids=["description", "images"])
def test_a_request_of_my_own_with_content_that_nobody_wants_is_declined(put, execution, home, logged, given):
    put("Contracts", "ContractStatusChanged", contract_changed(home, "DRAFT", 1))
    put("Web", "PublicationApprovalRequested", home.event(**given))
    ended, history = execution(home)
    assert ended["status"] == "SUCCEEDED"
    [entered] = [event for event in history if event["type"] == "SucceedStateEntered"]
    assert entered["stateEnteredEventDetails"]["name"] == "Declined"
    [evaluated] = until("the evaluation", lambda: logged("Properties", home.id, "PublicationEvaluationCompleted"))
    assert evaluated["detail"]["evaluation_result"] == "DECLINED"


def test_an_execution_waits_and_goes_on_with_an_event_of_my_own(client, outputs, put, execution, home):
    put("Contracts", "ContractStatusChanged", contract_changed(home, "DRAFT", 1))
    until("the draft", lambda: status_of(client, outputs, home) == "DRAFT")
    put("Web", "PublicationApprovalRequested", home.event())

    def waits():
        found, history = execution(home, ended=False)
        return history[-1]["type"] == "TaskSubmitted" and found

    assert until("the wait for the contract", waits)["status"] == "RUNNING"
    put("Contracts", "ContractStatusChanged", contract_changed(home, "APPROVED", 2))
    assert execution(home)[0]["status"] == "SUCCEEDED"


def test_an_event_is_found_by_a_pattern_right_after_it_was_put(client, outputs, put, home):
    group, logs = group_of(outputs["ContractsCatchAllLogGroupArn"]), client("logs")
    event = put("Contracts", "ContractStatusChanged", contract_changed(home, "DRAFT", 1))
    for pattern in (f'{{ $.id = "{event}" }}', f'"{event}"', f'{{ $.detail.property_id = "{home.id}" && $.detail.contract_status = "DRAFT" }}', f'{{ $.detail.property_id = "usa/{home.city}/*" }}'):
        [found] = until(pattern, lambda: logs.filter_log_events(logGroupName=group, filterPattern=pattern)["events"])
        assert json.loads(found["message"])["id"] == event


@pytest.mark.parametrize("function", ["contracts-query", "search"])
def test_functions_answer_the_sample_events_when_invoked_directly(client, function):
    names = [f["FunctionName"] for page in client("lambda").get_paginator("list_functions").paginate() for f in page["Functions"]]
    [name] = [name for name in names if name.endswith(f"-{function}")]
    samples = sorted(path for path in (EVENTS / function).glob("*.json") if not path.name.endswith(".answer.json"))
    assert samples
    for sample in samples:
        expected = json.loads(sample.with_suffix("").with_suffix(".answer.json").read_text())
        answer = client("lambda").invoke(FunctionName=name, Payload=sample.read_bytes())
        assert "FunctionError" not in answer
        assert json.load(answer["Payload"])["statusCode"] == expected["statusCode"], sample.name


def test_resources_are_found_by_their_logical_ids_through_the_nested_stacks(client, outputs):
    def physical(stack, logical):
        return resource_of(client, stack, logical)

    service = physical(STACK, "ContractsService")
    [nested] = client("cloudformation").describe_stacks(StackName=service)["Stacks"]
    given = {output["OutputKey"]: output["OutputValue"] for output in nested["Outputs"]}
    assert given["ContractsTableName"] == outputs["ContractsTableName"] == physical(service, "ContractsTable")
    assert physical(service, "IngestDLQ") == outputs["ContractsIngestDLQUrl"]
    assert client("lambda").get_function(FunctionName=physical(service, "IngestFunction"))["Configuration"]["State"] == "Active"
    assert client("events").describe_event_bus(Name=physical(service, "EventBus"))["Name"] == outputs["ContractsEventBusName"]
    assert physical(STACK, "ImagesBucket") == outputs["ImagesBucketName"]


def test_a_poisoned_message_ends_in_the_dead_letter_queue_and_nothing_else_does(client, outputs):
    sqs = client("sqs")
    sent = sqs.send_message(QueueUrl=outputs["ContractsIngestQueueUrl"], MessageBody="{")
    dead = outputs["ContractsIngestDLQUrl"]

    def look():
        messages = sqs.receive_message(QueueUrl=dead, WaitTimeSeconds=1, MaxNumberOfMessages=10).get("Messages", [])
        return next((message for message in messages if message["MessageId"] == sent["MessageId"]), None)

    letter = until("the dead letter", look, 60)
    assert letter["Body"] == "{"
    sqs.delete_message(QueueUrl=dead, ReceiptHandle=letter["ReceiptHandle"])
    prefix = outputs["ContractsTableName"].removesuffix("-contracts")
    queues = [url for page in sqs.get_paginator("list_queues").paginate(QueueNamePrefix=prefix) for url in page["QueueUrls"]]
    letters = {url: sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"] for url in queues if url.endswith("-dlq")}
    assert len(letters) >= 10
    assert {url: count for url, count in letters.items() if count["ApproximateNumberOfMessages"] != "0"} == {}


def test_the_items_of_a_table_are_scanned_and_deleted_in_batches(client, outputs, put):
    homes = [Property() for _ in range(3)]
    for home in homes:
        put("Contracts", "ContractStatusChanged", contract_changed(home, "DRAFT", 1))
    table, dynamodb = outputs["ContractStatusTableName"], client("dynamodb")
    until("three items", lambda: all(status_of(client, outputs, home) for home in homes))
    pages = dynamodb.get_paginator("scan").paginate(TableName=table, ProjectionExpression="property_id", PaginationConfig={"PageSize": 5})
    keys = [key for page in pages for key in page["Items"] if key["property_id"]["S"] in {home.id for home in homes}]
    assert len(keys) == 3
    answer = dynamodb.batch_write_item(RequestItems={table: [{"DeleteRequest": {"Key": key}} for key in keys]})
    assert answer["UnprocessedItems"] == {}
    assert not any(status_of(client, outputs, home) for home in homes)
