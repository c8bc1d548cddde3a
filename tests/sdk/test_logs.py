"""CloudWatch Logs: groups, streams, paging, patterns; and what `aws logs tail` asks."""

import time
from datetime import datetime, timezone

import pytest
from botocore.exceptions import ClientError

from conftest import events_logged, group_of, until


@pytest.fixture(scope="module")
def logs(client):
    return client("logs")


@pytest.fixture
def group(logs, name):
    logs.create_log_group(logGroupName=f"/sdk/{name}", tags={"Owner": "me"})
    yield f"/sdk/{name}"
    logs.delete_log_group(logGroupName=f"/sdk/{name}")


def test_the_catch_all_groups_of_the_stack_are_there(logs, outputs):
    for key in ("Contracts", "Web", "Properties"):
        name = group_of(outputs[f"{key}CatchAllLogGroupArn"])
        [found] = [g for page in logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=name) for g in page["logGroups"]]
        assert found["logGroupName"] == name
        assert found["arn"].endswith(f":log-group:{name}:*")
        assert found["logGroupArn"] == found["arn"].removesuffix(":*")
        assert found["retentionInDays"] > 0


def test_the_functions_write_to_groups_of_their_own(client, logs, api, home):
    api.outcome(api.post("/contracts", home.contract))
    functions = [f for page in client("lambda").get_paginator("list_functions").paginate() for f in page["Functions"]]
    groups = {f.get("LoggingConfig", {}).get("LogGroup", f"/aws/lambda/{f['FunctionName']}") for f in functions}
    known = {g["logGroupName"] for page in logs.get_paginator("describe_log_groups").paginate(PaginationConfig={"PageSize": 3}) for g in page["logGroups"]}
    assert groups <= known
    ingest = next(g for g in groups if "contracts-ingest" in g)

    def look():
        return logs.filter_log_events(logGroupName=ingest, filterPattern='"REPORT RequestId"', limit=1)["events"] or logs.filter_log_events(logGroupName=ingest, filterPattern='{ $.type = "platform.report" }', limit=1)["events"]

    assert until("the report of an invocation", look)


def test_contract_events_can_be_read_stream_by_stream(client, logs, outputs, api, home):
    api.outcome(api.post("/contracts", home.contract))
    group = group_of(outputs["ContractsCatchAllLogGroupArn"])
    until("the event", lambda: events_logged(client, group, home.id, "ContractStatusChanged"))
    streams = [s for page in logs.get_paginator("describe_log_streams").paginate(logGroupName=group, orderBy="LastEventTime", descending=True) for s in page["logStreams"]]
    messages = []
    for stream in streams:
        assert stream["lastEventTimestamp"] >= stream["firstEventTimestamp"]
        answer = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True)
        messages.extend(event["message"] for event in answer["events"])
    assert any(home.id in message for message in messages)


def test_log_events_are_paged_forth_and_back_with_tokens(logs, group):
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    now = int(time.time() * 1000)
    logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=[{"timestamp": now + n, "message": f"line {n}"} for n in range(10)])
    given = {"logGroupName": group, "logStreamName": "s", "limit": 4}
    seen, token = [], None
    while True:
        page = logs.get_log_events(**given, startFromHead=True, **({"nextToken": token} if token else {}))
        assert page["nextForwardToken"].startswith("f/")
        assert page["nextBackwardToken"].startswith("b/")
        seen.extend(event["message"] for event in page["events"])
        if page["nextForwardToken"] == token:
            break
        token = page["nextForwardToken"]
    assert seen == [f"line {n}" for n in range(10)]
    last = logs.get_log_events(**given)
    assert [event["message"] for event in last["events"]] == [f"line {n}" for n in range(6, 10)]
    before = logs.get_log_events(**given, nextToken=last["nextBackwardToken"])
    assert [event["message"] for event in before["events"]] == [f"line {n}" for n in range(2, 6)]
    between = logs.get_log_events(logGroupName=group, logStreamName="s", startTime=now + 3, endTime=now + 5, startFromHead=True)
    assert [event["message"] for event in between["events"]] == ["line 3", "line 4"]
    assert all(event["ingestionTime"] for event in between["events"])
    with pytest.raises(logs.exceptions.InvalidParameterException):
        logs.get_log_events(**given, nextToken="nonsense")


def test_a_new_line_is_found_with_the_last_token(logs, group):
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    put = lambda text: logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=[{"timestamp": int(time.time() * 1000), "message": text}])
    put("one")
    token = logs.get_log_events(logGroupName=group, logStreamName="s", startFromHead=True)["nextForwardToken"]
    put("two")
    page = logs.get_log_events(logGroupName=group, logStreamName="s", startFromHead=True, nextToken=token)
    assert [event["message"] for event in page["events"]] == ["two"]


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("ERROR", [1, 2]),
        ("ERROR timeout", [2]),
        ("?timeout ?hello", [0, 2]),
        ("ERROR -timeout", [1]),
        ('"ERROR disk"', [1]),
        ('{ $.level = "WARN" }', [3]),
        ('{ $.n > 5 }', [4]),
        ('{ $.level = "W*" && $.n = 5 }', [3]),
        ('{ $.level = "INFO" || $.n = 5 }', [3, 4]),
        ("{ $.deep.list[1] = 2 }", [4]),
        ("{ $.deep.none IS NULL }", [4]),
        ("{ $.deep NOT EXISTS }", [3]),
        ("%dis.%", [1]),
        ("{ $.level = %^W.*% }", [3]),
        ("{ $.deep.list[0] = * }", [4]),
        ("", [0, 1, 2, 3, 4]),
    ],
)
def test_filters_find_what_their_pattern_says(logs, filtered, pattern, expected):
    name, lines = filtered
    answer = logs.filter_log_events(logGroupName=name, **({"filterPattern": pattern} if pattern else {}))
    assert [lines.index(event["message"]) for event in answer["events"]] == expected


def test_a_pattern_of_space_delimited_fields_is_refused_by_name(logs, filtered):
    with pytest.raises(logs.exceptions.InvalidParameterException) as error:
        logs.filter_log_events(logGroupName=filtered[0], filterPattern="[level = ERROR, ...]")
    assert "not emulated" in error.value.response["Error"]["Message"]


@pytest.fixture(scope="module")
def filtered(logs):
    lines = [
        "hello world",
        "ERROR disk full",
        "ERROR the timeout was reached",
        '{"level": "WARN", "n": 5}',
        '{"level": "INFO", "n": 6, "deep": {"list": [1, 2], "none": null}}',
    ]
    name = f"/sdk/filter-{time.time_ns()}"
    logs.create_log_group(logGroupName=name)
    now = int(time.time() * 1000)
    for stream in ("a", "b"):
        logs.create_log_stream(logGroupName=name, logStreamName=stream)
    for n, line in enumerate(lines):
        logs.put_log_events(logGroupName=name, logStreamName="ab"[n % 2], logEvents=[{"timestamp": now + n, "message": line}])
    yield name, lines
    logs.delete_log_group(logGroupName=name)


def test_a_filter_reads_the_streams_that_it_is_given_in_pages(logs, filtered):
    name, lines = filtered
    pages = list(logs.get_paginator("filter_log_events").paginate(logGroupName=name, PaginationConfig={"PageSize": 2}))
    events = [event for page in pages for event in page["events"]]
    assert [event["message"] for event in events] == lines
    assert len({event["eventId"] for event in events}) == len(lines)
    named = logs.filter_log_events(logGroupName=name, logStreamNames=["a"])["events"]
    assert {event["logStreamName"] for event in named} == {"a"}
    prefixed = logs.filter_log_events(logGroupName=name, logStreamNamePrefix="b")["events"]
    assert {event["logStreamName"] for event in prefixed} == {"b"}
    with pytest.raises(logs.exceptions.InvalidParameterException):
        logs.filter_log_events(logGroupName=name, logStreamNames=["a"], logStreamNamePrefix="b")
    with pytest.raises(logs.exceptions.InvalidParameterException):
        logs.filter_log_events(logGroupName=name, filterPattern="{ $.level = ")


def test_what_aws_logs_tail_asks_is_answered(logs, filtered):
    # The command line's version 2: first since ten minutes ago, then again from the last event on.
    name, lines = filtered
    since = int(datetime.now(timezone.utc).timestamp() * 1000) - 600_000
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=name, interleaved=True, startTime=since)
    events = [event for page in pages for event in page["events"]]
    assert [event["message"] for event in events] == lines
    last = events[-1]["timestamp"]
    again = logs.filter_log_events(logGroupName=name, interleaved=True, startTime=last)["events"]
    assert again[0]["eventId"] == events[-1]["eventId"]
    by_arn = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"][0]["logGroupArn"]
    assert len(logs.filter_log_events(logGroupIdentifier=by_arn)["events"]) == len(lines)


def test_groups_and_streams_that_are_not_there_or_are_there_already(logs, group):
    for call in (
        lambda: logs.describe_log_streams(logGroupName="/nobodys"),
        lambda: logs.filter_log_events(logGroupName="/nobodys"),
        lambda: logs.get_log_events(logGroupName=group, logStreamName="nobodys"),
        lambda: logs.delete_log_group(logGroupName="/nobodys"),
        lambda: logs.put_log_events(logGroupName=group, logStreamName="nobodys", logEvents=[{"timestamp": 1, "message": "x"}]),
    ):
        with pytest.raises(logs.exceptions.ResourceNotFoundException) as error:
            call()
        assert error.value.response["Error"]["Message"].startswith("The specified log ")
    with pytest.raises(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    with pytest.raises(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_stream(logGroupName=group, logStreamName="s")
    assert logs.describe_log_groups(logGroupNamePrefix="/nobodys")["logGroups"] == []


def test_a_stream_is_deleted_with_its_events_and_groups_have_tags(logs, group):
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=[{"timestamp": int(time.time() * 1000), "message": "x"}])
    logs.delete_log_stream(logGroupName=group, logStreamName="s")
    assert logs.filter_log_events(logGroupName=group)["events"] == []
    with pytest.raises(logs.exceptions.ResourceNotFoundException):
        logs.delete_log_stream(logGroupName=group, logStreamName="s")
    arn = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]["logGroupArn"]
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"Owner": "me"}
    with pytest.raises(ClientError) as error:
        logs.list_tags_log_group(logGroupName=group)
    assert error.value.response["Error"]["Code"] == "NotImplemented"


def test_retention_is_set_to_what_aws_allows(logs, group):
    logs.put_retention_policy(logGroupName=group, retentionInDays=7)
    assert logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]["retentionInDays"] == 7
    with pytest.raises(logs.exceptions.InvalidParameterException):
        logs.put_retention_policy(logGroupName=group, retentionInDays=8)
    logs.delete_retention_policy(logGroupName=group)
    assert "retentionInDays" not in logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]


def test_queries_of_logs_insights_are_said_not_to_be_emulated(logs, group):
    with pytest.raises(ClientError) as error:
        logs.start_query(logGroupName=group, startTime=0, endTime=1, queryString="fields @message")
    assert "emulated" in str(error.value)


@pytest.mark.parametrize("pattern", ["%(dis)%", "{ $.list[*] = 1 }"])
def test_patterns_that_are_not_emulated_are_refused_and_never_match_nothing(logs, filtered, pattern):
    with pytest.raises(logs.exceptions.InvalidParameterException):
        logs.filter_log_events(logGroupName=filtered[0], filterPattern=pattern)
