"""Step Functions: the approval workflow as an operator sees and steers it."""

import json

import pytest
from botocore.exceptions import ClientError

from conftest import Property, events_logged, group_of, receive, until

ENDED = ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")


@pytest.fixture(scope="module")
def states(client):
    return client("stepfunctions")


@pytest.fixture(scope="module")
def machine(outputs):
    return outputs["ApprovalStateMachineArn"]


def request_event(home, **given):
    """What the state machine is started with: the whole event."""
    return json.dumps(
        {
            "version": "0",
            "id": f"event-of-{home.city}",
            "detail-type": "PublicationApprovalRequested",
            "source": "unicorn-web",
            "account": "123456789012",
            "time": "2026-11-23T18:22:06Z",
            "region": "us-east-1",
            "resources": [home.id],
            "detail": home.event(approval_request_id=f"request-{home.city}") | given,
        }
    )


def history(states, arn):
    pages = states.get_paginator("get_execution_history").paginate(executionArn=arn, PaginationConfig={"PageSize": 3})
    return [event for page in pages for event in page["events"]]


def ended(states, arn):
    def look():
        execution = states.describe_execution(executionArn=arn)
        return execution["status"] in ENDED and execution

    return until(f"the end of {arn}", look, 60)


def entered(states, arn):
    return [event["stateEnteredEventDetails"]["name"] for event in history(states, arn) if "stateEnteredEventDetails" in event]


def test_the_approval_machine_is_listed_and_described(states, machine):
    machines = [m for page in states.get_paginator("list_state_machines").paginate() for m in page["stateMachines"]]
    assert machine in [m["stateMachineArn"] for m in machines]
    described = states.describe_state_machine(stateMachineArn=machine)
    assert described["status"] == "ACTIVE"
    assert described["type"] == "STANDARD"
    assert described["roleArn"].startswith("arn:aws:iam::")
    definition = json.loads(described["definition"])
    assert definition["QueryLanguage"] == "JSONata"
    assert "WaitForContractApproval" in described["definition"]
    tags = {tag["key"]: tag["value"] for tag in states.list_tags_for_resource(resourceArn=machine)["tags"]}
    assert {"Owner", "Service", "Stage", "Project"} <= set(tags)


def test_a_request_without_a_contract_is_declined_and_fails_as_not_found(client, states, machine, outputs):
    home = Property()
    arn = states.start_execution(stateMachineArn=machine, name=home.city, input=request_event(home))["executionArn"]
    assert arn.endswith(f":execution:{machine.rsplit(':', 1)[1]}:{home.city}")
    execution = ended(states, arn)
    assert execution["status"] == "FAILED"
    assert execution["name"] == home.city
    assert json.loads(execution["input"])["detail"]["property_id"] == home.id
    assert execution["stopDate"] >= execution["startDate"]
    assert execution["redriveStatus"] == "REDRIVABLE"
    assert execution["error"] == "ContractNotFound"
    assert "NotFound" in entered(states, arn)
    group = group_of(outputs["PropertiesCatchAllLogGroupArn"])
    [event] = until("the evaluation", lambda: events_logged(client, group, home.id, "PublicationEvaluationCompleted"))
    assert event["detail"]["evaluation_result"] == "DECLINED"
    assert event["detail"]["evaluation_reasons"] == ["contract_not_found"]


@pytest.fixture(scope="module")
def waiting(api, states, machine):
    """An execution that waits for its contract, and the property."""
    home = Property()
    assert api.outcome(api.post("/contracts", home.contract))["status"] == "APPLIED"
    arn = states.start_execution(stateMachineArn=machine, name=home.city, input=request_event(home))["executionArn"]
    until("the wait for the contract", lambda: "WaitForContractApproval" in entered(states, arn))
    return home, arn


def test_a_waiting_execution_runs_and_goes_on_when_the_contract_is_approved(api, states, waiting):
    home, arn = waiting
    assert states.describe_execution(executionArn=arn)["status"] == "RUNNING"
    assert "stopDate" not in states.describe_execution(executionArn=arn)
    assert api.outcome(api.put("/contracts", {"property_id": home.id}))["status"] == "APPLIED"
    execution = ended(states, arn)
    assert execution["status"] == "SUCCEEDED"
    json.loads(execution["output"])
    assert entered(states, arn)[-1] == "Approved"


def test_the_history_is_numbered_linked_and_typed_as_on_aws(states, waiting):
    _, arn = waiting
    ended(states, arn)
    events = history(states, arn)
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["type"] == "ExecutionStarted"
    assert [event["previousEventId"] for event in events[:3]] == [0, 0, 2]
    assert json.loads(events[0]["executionStartedEventDetails"]["input"])
    assert events[0]["executionStartedEventDetails"]["roleArn"]
    assert events[-1]["type"] == "ExecutionSucceeded"
    assert all(event["previousEventId"] < event["id"] for event in events[1:])
    assert {"TaskStateEntered", "TaskScheduled", "TaskStarted", "TaskSucceeded", "TaskStateExited", "ParallelStateEntered", "ParallelStateStarted", "ParallelStateSucceeded", "ParallelStateExited", "ChoiceStateEntered", "ChoiceStateExited", "TaskSubmitted"} <= {event["type"] for event in events}
    for event in events:
        if event["type"] == "TaskScheduled":
            details = event["taskScheduledEventDetails"]
            assert details["resourceType"] and details["resource"] and json.loads(details["parameters"]) is not None
    [wait] = [e for e in events if e["type"] == "TaskScheduled" and e["taskScheduledEventDetails"]["resource"] == "invoke.waitForTaskToken"]
    assert wait["taskScheduledEventDetails"]["resourceType"] == "lambda"
    times = [event["timestamp"] for event in events]
    assert times == sorted(times)
    backwards = states.get_execution_history(executionArn=arn, reverseOrder=True, maxResults=1)
    assert backwards["events"][0]["type"] == "ExecutionSucceeded"
    assert backwards["nextToken"]
    bare = states.get_execution_history(executionArn=arn, includeExecutionData=False, maxResults=1)["events"][0]
    assert "input" not in bare["executionStartedEventDetails"]


def test_executions_are_listed_newest_first_in_pages_and_by_status(states, machine, waiting):
    _, arn = waiting
    ended(states, arn)
    pages = list(states.get_paginator("list_executions").paginate(stateMachineArn=machine, PaginationConfig={"PageSize": 1}))
    executions = [execution for page in pages for execution in page["executions"]]
    assert len(pages) > 1
    assert arn in [execution["executionArn"] for execution in executions]
    starts = [execution["startDate"] for execution in executions]
    assert starts == sorted(starts, reverse=True)
    failed = states.list_executions(stateMachineArn=machine, statusFilter="FAILED")["executions"]
    assert all(execution["status"] == "FAILED" for execution in failed)
    with pytest.raises(states.exceptions.InvalidToken):
        states.list_executions(stateMachineArn=machine, nextToken="nonsense")


def test_a_name_is_used_once_but_the_same_start_is_the_same_execution(api, states, machine):
    home = Property()
    assert api.outcome(api.post("/contracts", home.contract))["status"] == "APPLIED"
    given = {"stateMachineArn": machine, "name": home.city, "input": request_event(home)}
    first = states.start_execution(**given)
    again = states.start_execution(**given)
    assert again["executionArn"] == first["executionArn"]
    with pytest.raises(states.exceptions.ExecutionAlreadyExists) as error:
        states.start_execution(**given | {"input": request_event(home, listprice=1)})
    assert home.city in error.value.response["Error"]["Message"]
    stopped = states.stop_execution(executionArn=first["executionArn"], error="Tests", cause="No more needed")
    assert stopped["stopDate"]
    execution = ended(states, first["executionArn"])
    assert (execution["status"], execution["error"], execution["cause"]) == ("ABORTED", "Tests", "No more needed")
    assert history(states, first["executionArn"])[-1]["type"] == "ExecutionAborted"
    with pytest.raises(states.exceptions.ExecutionAlreadyExists):
        states.start_execution(**given)


def test_an_execution_without_a_name_gets_one(states, machine):
    arn = states.start_execution(stateMachineArn=machine, input=request_event(Property()))["executionArn"]
    assert len(arn.rsplit(":", 1)[1]) == 36
    assert states.describe_execution(executionArn=arn)["stateMachineArn"] == machine


def test_what_is_not_there_or_not_valid_is_refused(states, machine):
    nobodys = machine.rsplit(":", 1)[0] + ":nobodys"
    execution = machine.replace(":stateMachine:", ":execution:") + ":nobodys"
    for expected, call in (
        ("StateMachineDoesNotExist", lambda: states.start_execution(stateMachineArn=nobodys)),
        ("StateMachineDoesNotExist", lambda: states.describe_state_machine(stateMachineArn=nobodys)),
        ("StateMachineDoesNotExist", lambda: states.list_executions(stateMachineArn=nobodys)),
        ("ExecutionDoesNotExist", lambda: states.describe_execution(executionArn=execution)),
        ("ExecutionDoesNotExist", lambda: states.get_execution_history(executionArn=execution)),
        ("ExecutionDoesNotExist", lambda: states.stop_execution(executionArn=execution)),
        ("InvalidArn", lambda: states.describe_execution(executionArn="nonsense")),
        ("InvalidArn", lambda: states.start_execution(stateMachineArn="nonsense")),
        ("InvalidExecutionInput", lambda: states.start_execution(stateMachineArn=machine, input="{")),
        ("InvalidName", lambda: states.start_execution(stateMachineArn=machine, name="no spaces", input="{}")),
    ):
        with pytest.raises(ClientError) as error:
            call()
        assert error.value.response["Error"]["Code"] == expected


def test_a_token_that_is_nobodys_is_refused(states):
    for call in (
        lambda: states.send_task_success(taskToken="nonsense", output="{}"),
        lambda: states.send_task_failure(taskToken="nonsense", error="E", cause="c"),
        lambda: states.send_task_heartbeat(taskToken="nonsense"),
    ):
        with pytest.raises(ClientError) as error:
            call()
        assert error.value.response["Error"]["Code"] == "InvalidToken"
    with pytest.raises(ClientError) as error:
        states.send_task_success(taskToken="nonsense", output="{")
    assert error.value.response["Error"]["Code"] in ("InvalidOutput", "InvalidToken")


@pytest.fixture
def asking(states, machine, queue, name):
    """A machine of the test's own that sends its token to a queue, and waits."""
    definition = {
        "QueryLanguage": "JSONata",
        "StartAt": "Ask",
        "States": {
            "Ask": {
                "Type": "Task",
                "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
                "HeartbeatSeconds": 600,
                "Arguments": {"QueueUrl": queue, "MessageBody": {"token": "{% $states.context.Task.Token %}", "of": "{% $states.input.of %}"}},
                "Output": "{% {'answer': $states.result} %}",
                "End": True,
            }
        },
    }
    role = states.describe_state_machine(stateMachineArn=machine)["roleArn"]
    arn = states.create_state_machine(name=name, definition=json.dumps(definition), roleArn=role)["stateMachineArn"]
    yield arn
    states.delete_state_machine(stateMachineArn=arn)


def test_a_task_token_is_given_back_with_success_or_failure(client, states, asking, queue):
    started, tokens = {}, {}
    for name in ("good", "bad"):
        started[name] = states.start_execution(stateMachineArn=asking, name=name, input=json.dumps({"of": name}))["executionArn"]
        body = json.loads(receive(client, queue)["Body"])
        assert body["of"] == name
        tokens[name] = body["token"]
        states.send_task_heartbeat(taskToken=body["token"])
        assert states.describe_execution(executionArn=started[name])["status"] == "RUNNING"
    with pytest.raises(states.exceptions.InvalidOutput):
        states.send_task_success(taskToken=tokens["good"], output="{")
    states.send_task_success(taskToken=tokens["good"], output='{"n": 42}')
    good = ended(states, started["good"])
    assert (good["status"], json.loads(good["output"])) == ("SUCCEEDED", {"answer": {"n": 42}})
    states.send_task_failure(taskToken=tokens["bad"], error="Refused", cause="Nobody is at home")
    bad = ended(states, started["bad"])
    assert (bad["status"], bad["error"], bad["cause"]) == ("FAILED", "Refused", "Nobody is at home")
    [failed] = [event["taskFailedEventDetails"] for event in history(states, started["bad"]) if event["type"] == "TaskFailed"]
    assert failed == {"resourceType": "sqs", "resource": "sendMessage.waitForTaskToken", "error": "Refused", "cause": "Nobody is at home"}
    for call in (
        lambda: states.send_task_success(taskToken=tokens["good"], output="{}"),
        lambda: states.send_task_failure(taskToken=tokens["bad"]),
        lambda: states.send_task_heartbeat(taskToken=tokens["bad"]),
    ):
        with pytest.raises(states.exceptions.TaskTimedOut):
            call()


SMALL = {
    "QueryLanguage": "JSONata",
    "StartAt": "Double",
    "States": {"Double": {"Type": "Pass", "Output": "{% {'n': $states.input.n * 2} %}", "End": True}},
}


def test_a_machine_of_my_own_is_made_run_and_deleted(states, machine, name):
    role = states.describe_state_machine(stateMachineArn=machine)["roleArn"]
    arn = states.create_state_machine(name=name, definition=json.dumps(SMALL), roleArn=role)["stateMachineArn"]
    assert states.describe_state_machine(stateMachineArn=arn)["definition"] == json.dumps(SMALL)
    execution = ended(states, states.start_execution(stateMachineArn=arn, input='{"n": 21}')["executionArn"])
    assert json.loads(execution["output"]) == {"n": 42}
    assert execution["redriveStatusReason"] == "Execution is SUCCEEDED and cannot be redriven"
    states.delete_state_machine(stateMachineArn=arn)

    def gone():
        try:
            return states.describe_state_machine(stateMachineArn=arn)["status"] != "DELETING"
        except states.exceptions.StateMachineDoesNotExist:
            return True

    until("the machine's end", gone)
    with pytest.raises(states.exceptions.InvalidDefinition) as error:
        states.create_state_machine(name=name + "-bad", definition='{"StartAt": "A"}', roleArn=role)
    assert "SCHEMA_VALIDATION_FAILED: These fields are required: [States] at /" in str(error.value)


def test_limits_are_told_by_member_and_constraint(states, machine):
    for call, message in (
        (lambda: states.start_execution(stateMachineArn=machine, name="x" * 81), "at 'name' failed to satisfy constraint: Member must have length less than or equal to 80"),
        (lambda: states.list_executions(stateMachineArn=machine, statusFilter="succeeded"), "Value 'succeeded' at 'statusFilter' failed to satisfy constraint: Member must satisfy enum value set"),
        (lambda: states.list_state_machines(maxResults=1001), "Value '1001' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 1000"),
    ):
        with pytest.raises(ClientError) as error:
            call()
        assert error.value.response["Error"]["Code"] == "ValidationException"
        assert message in error.value.response["Error"]["Message"]
