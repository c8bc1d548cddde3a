"""EventBridge: buses, rules, patterns, targets, archives and replays."""

import json
from datetime import datetime, timedelta, timezone

import pytest
from botocore.exceptions import ClientError

from conftest import arn_of, events_logged, group_of, receive, until


@pytest.fixture(scope="module")
def events(client):
    return client("events")


@pytest.fixture
def rule(events, outputs, name, request):
    """Names a rule on the contracts bus that is taken away afterwards."""
    bus = outputs["ContractsEventBusName"]
    yield bus, name
    try:
        targets = events.list_targets_by_rule(Rule=name, EventBusName=bus)["Targets"]
        if targets:
            events.remove_targets(Rule=name, EventBusName=bus, Ids=[target["Id"] for target in targets])
    except events.exceptions.ResourceNotFoundException:
        return
    events.delete_rule(Name=name, EventBusName=bus)


def allow_events(client, queue, rule_arn):
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "events.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": arn_of(client, queue),
                "Condition": {"ArnEquals": {"aws:SourceArn": rule_arn}},
            }
        ],
    }
    client("sqs").set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps(policy)})


def test_the_buses_of_the_stack_are_there(events, outputs):
    for key in ("ContractsEventBusName", "WebEventBusName", "PropertiesEventBusName"):
        bus = events.describe_event_bus(Name=outputs[key])
        assert bus["Name"] == outputs[key]
        assert bus["Arn"].endswith(f":event-bus/{outputs[key]}")
    names = [bus["Name"] for bus in events.list_event_buses()["EventBuses"]]
    assert {outputs["ContractsEventBusName"], outputs["WebEventBusName"], outputs["PropertiesEventBusName"], "default"} <= set(names)
    with pytest.raises(events.exceptions.ResourceNotFoundException):
        events.describe_event_bus(Name="nobodys-bus")


def test_each_bus_has_a_rule_that_logs_everything(events, outputs):
    for key in ("Contracts", "Web", "Properties"):
        bus = outputs[f"{key}EventBusName"]
        rules = [rule for page in events.get_paginator("list_rules").paginate(EventBusName=bus) for rule in page["Rules"]]
        targets = {
            target["Arn"]
            for rule in rules
            for page in events.get_paginator("list_targets_by_rule").paginate(Rule=rule["Name"], EventBusName=bus)
            for target in page["Targets"]
        }
        group = group_of(outputs[f"{key}CatchAllLogGroupArn"])
        assert any(f":log-group:{group}" in arn for arn in targets)
        for rule in rules:
            described = events.describe_rule(Name=rule["Name"], EventBusName=bus)
            assert described["State"] == "ENABLED"
            assert described["EventBusName"] == bus
            json.loads(described["EventPattern"])


def test_put_events_tells_which_entries_failed(events, outputs):
    good = {"Source": "sdk-tests", "DetailType": "Nothing", "Detail": "{}", "EventBusName": outputs["ContractsEventBusName"]}
    answer = events.put_events(
        Entries=[
            good,
            good | {"Detail": "not json"},
            {key: value for key, value in good.items() if key != "Source"},
            {key: value for key, value in good.items() if key != "DetailType"},
            {key: value for key, value in good.items() if key != "Detail"},
            good | {"Source": "aws.mine"},
        ]
    )
    assert answer["FailedEntryCount"] == 5
    entries = answer["Entries"]
    assert len(entries[0]["EventId"]) == 36
    assert entries[1]["ErrorCode"] == "MalformedDetail"
    assert [entry["ErrorCode"] for entry in entries[2:5]] == ["InvalidArgument"] * 3
    assert entries[5]["ErrorCode"] == "NotAuthorizedForSourceException"
    assert all(entry["ErrorMessage"] for entry in entries[1:])


def test_put_events_takes_one_to_ten_entries(events, outputs):
    entry = {"Source": "sdk-tests", "DetailType": "Nothing", "Detail": "{}", "EventBusName": outputs["ContractsEventBusName"]}
    with pytest.raises(ClientError) as error:
        events.put_events(Entries=[entry] * 11)
    assert error.value.response["Error"]["Code"] == "ValidationException"
    with pytest.raises(ClientError) as error:
        events.put_events(Entries=[entry | {"Detail": json.dumps({"x": "y" * 1_100_000})}])
    assert error.value.response["Error"]["Code"] in ("ValidationException", "RequestEntityTooLargeException")


def test_an_event_reaches_the_catch_all_log_group(client, events, outputs, name):
    bus = outputs["WebEventBusName"]
    answer = events.put_events(Entries=[{"Source": "sdk-tests", "DetailType": "Hello", "Detail": json.dumps({"property_id": name}), "EventBusName": bus, "Resources": ["a"], "Time": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)}])
    group = group_of(outputs["WebCatchAllLogGroupArn"])
    [event] = until("the event in the log", lambda: events_logged(client, group, name, "Hello"))
    assert event["id"] == answer["Entries"][0]["EventId"]
    assert event["version"] == "0"
    assert event["region"] == "us-east-1"
    assert event["time"] == "2026-01-02T03:04:05Z"
    assert event["resources"] == ["a"]
    assert event["source"] == "sdk-tests"


def test_a_queue_of_my_own_hears_of_contracts(client, events, api, home, queue, rule):
    bus, name = rule
    pattern = {"source": ["unicorn-contracts"], "detail-type": ["ContractStatusChanged"], "detail": {"property_id": [home.id]}}
    arn = events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps(pattern), State="ENABLED")["RuleArn"]
    assert arn.endswith(f":rule/{bus}/{name}")
    allow_events(client, queue, arn)
    assert events.put_targets(Rule=name, EventBusName=bus, Targets=[{"Id": "queue", "Arn": arn_of(client, queue)}])["FailedEntryCount"] == 0
    assert api.outcome(api.post("/contracts", home.contract))["status"] == "APPLIED"
    event = json.loads(receive(client, queue)["Body"])
    assert event["detail-type"] == "ContractStatusChanged"
    assert event["source"] == "unicorn-contracts"
    assert event["detail"]["property_id"] == home.id
    assert event["detail"]["contract_status"] == "DRAFT"
    assert "seller_name" not in json.dumps(event)
    assert api.outcome(api.put("/contracts", {"property_id": home.id}))["status"] == "APPLIED"
    second = json.loads(receive(client, queue)["Body"])
    assert second["detail"]["contract_status"] == "APPROVED"
    assert second["detail"]["contract_id"] == event["detail"]["contract_id"]
    assert int(second["detail"]["contract_version"]) == int(event["detail"]["contract_version"]) + 1


def test_a_disabled_rule_is_silent_and_an_input_is_transformed(client, events, queue, rule):
    bus, name = rule
    arn = events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps({"source": [name]}))["RuleArn"]
    allow_events(client, queue, arn)
    events.put_targets(
        Rule=name,
        EventBusName=bus,
        Targets=[
            {
                "Id": "queue",
                "Arn": arn_of(client, queue),
                "InputTransformer": {"InputPathsMap": {"n": "$.detail.n", "type": "$.detail-type"}, "InputTemplate": '{"got": <n>, "of": "<type>"}'},
            }
        ],
    )

    def put(n):
        events.put_events(Entries=[{"Source": name, "DetailType": "T", "Detail": json.dumps({"n": n}), "EventBusName": bus}])

    events.disable_rule(Name=name, EventBusName=bus)
    assert events.describe_rule(Name=name, EventBusName=bus)["State"] == "DISABLED"
    put(1)
    events.enable_rule(Name=name, EventBusName=bus)
    put(2)
    assert json.loads(receive(client, queue)["Body"]) == {"got": 2, "of": "T"}
    assert "Messages" not in client("sqs").receive_message(QueueUrl=queue)


def test_rules_that_are_wrong_are_refused(client, events, queue, rule):
    bus, name = rule
    for pattern in ("not json", '{"source": "text"}', '{"source": []}', '{"source": [{"sounds-like": "x"}]}'):
        with pytest.raises(events.exceptions.InvalidEventPatternException):
            events.put_rule(Name=name, EventBusName=bus, EventPattern=pattern)
    with pytest.raises(events.exceptions.ResourceNotFoundException):
        events.put_rule(Name=name, EventBusName="nobodys-bus", EventPattern='{"source": ["x"]}')
    with pytest.raises(events.exceptions.ResourceNotFoundException):
        events.describe_rule(Name=name, EventBusName=bus)
    with pytest.raises(events.exceptions.ResourceNotFoundException):
        events.put_targets(Rule=name, EventBusName=bus, Targets=[{"Id": "a", "Arn": arn_of(client, queue)}])
    events.delete_rule(Name=name, EventBusName=bus)
    events.put_rule(Name=name, EventBusName=bus, EventPattern='{"source": ["x"]}')
    events.put_targets(Rule=name, EventBusName=bus, Targets=[{"Id": "a", "Arn": arn_of(client, queue)}])
    with pytest.raises(ClientError) as error:
        events.delete_rule(Name=name, EventBusName=bus)
    assert error.value.response["Error"]["Code"] == "ValidationException"


EVENT = {
    "id": "1",
    "account": "123456789012",
    "source": "unicorn-web",
    "time": "2026-01-02T03:04:05Z",
    "region": "us-east-1",
    "resources": ["usa/anytown/main-street/1"],
    "detail-type": "T",
    "detail": {"n": 5, "text": "Anytown", "list": ["a", "b"], "none": None, "flag": True},
}


@pytest.mark.parametrize(
    "pattern, matches",
    [
        ({"source": ["unicorn-web"]}, True),
        ({"source": ["other"]}, False),
        ({"source": [{"prefix": "unicorn-"}]}, True),
        ({"source": [{"suffix": "-web"}]}, True),
        ({"source": [{"wildcard": "uni*web"}]}, True),
        ({"source": [{"anything-but": ["unicorn-web"]}]}, False),
        ({"source": [{"anything-but": {"prefix": "uni"}}]}, False),
        ({"source": [{"equals-ignore-case": "UNICORN-WEB"}]}, True),
        ({"detail": {"n": [{"numeric": [">", 0, "<=", 5]}]}}, True),
        ({"detail": {"n": [{"numeric": ["<", 5]}]}}, False),
        ({"detail": {"list": ["b"]}}, True),
        ({"detail": {"missing": [{"exists": False}]}}, True),
        ({"detail": {"n": [{"exists": True}]}}, True),
        ({"detail": {"none": [None]}}, True),
        ({"detail": {"flag": [True]}}, True),
        ({"detail": {"text": ["anytown"]}}, False),
        ({"$or": [{"source": ["other"]}, {"detail": {"n": [5]}}]}, True),
        ({"detail": {"n": ["5"]}}, False),
    ],
)
def test_patterns_match_as_documented(events, pattern, matches):
    answer = events.test_event_pattern(EventPattern=json.dumps(pattern), Event=json.dumps(EVENT))
    assert answer["Result"] is matches


def test_a_pattern_or_event_that_cannot_be_read_is_refused(events):
    with pytest.raises(events.exceptions.InvalidEventPatternException):
        events.test_event_pattern(EventPattern="{", Event=json.dumps(EVENT))
    with pytest.raises(ClientError) as error:
        events.test_event_pattern(EventPattern='{"source": ["x"]}', Event="{")
    assert error.value.response["Error"]["Code"] == "ValidationException"


def test_the_archive_of_a_bus_replays_what_went_over_it(client, events, outputs, queue, rule):
    bus, name = rule
    source = events.describe_event_bus(Name=bus)["Arn"]
    [archive] = events.list_archives(EventSourceArn=source)["Archives"]
    assert archive["State"] == "ENABLED"
    described = events.describe_archive(ArchiveName=archive["ArchiveName"])
    assert described["EventSourceArn"] == source
    begun = datetime.now(timezone.utc) - timedelta(minutes=1)
    events.put_events(Entries=[{"Source": "unicorn-contracts", "DetailType": name, "Detail": "{}", "EventBusName": bus}])
    until("the event in the archive", lambda: events.describe_archive(ArchiveName=archive["ArchiveName"])["EventCount"] > described["EventCount"])
    arn = events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps({"detail-type": [name]}))["RuleArn"]
    allow_events(client, queue, arn)
    events.put_targets(Rule=name, EventBusName=bus, Targets=[{"Id": "queue", "Arn": arn_of(client, queue)}])
    started = events.start_replay(
        ReplayName=name,
        EventSourceArn=described["ArchiveArn"],
        EventStartTime=begun,
        EventEndTime=datetime.now(timezone.utc) + timedelta(seconds=1),
        Destination={"Arn": source, "FilterArns": [arn]},
    )
    assert started["State"] in ("STARTING", "RUNNING")
    replayed = json.loads(receive(client, queue)["Body"])
    assert replayed["detail-type"] == name
    assert replayed["replay-name"] == name
    until("the end of the replay", lambda: events.describe_replay(ReplayName=name)["State"] == "COMPLETED")
    assert name in [replay["ReplayName"] for replay in events.list_replays(NamePrefix=name)["Replays"]]
    with pytest.raises(events.exceptions.ResourceAlreadyExistsException):
        events.start_replay(
            ReplayName=name,
            EventSourceArn=described["ArchiveArn"],
            EventStartTime=begun,
            EventEndTime=datetime.now(timezone.utc),
            Destination={"Arn": source},
        )
    with pytest.raises(events.exceptions.ResourceNotFoundException):
        events.describe_replay(ReplayName="nobodys-replay")
    with pytest.raises(events.exceptions.ResourceNotFoundException):
        events.describe_archive(ArchiveName="nobodys-archive")


def test_an_archive_of_my_own_is_made_and_deleted(events, name):
    bus = events.create_event_bus(Name=name)["EventBusArn"]
    try:
        given = {"ArchiveName": name, "EventSourceArn": bus, "Description": "mine", "EventPattern": '{"source": ["kept"]}', "RetentionDays": 1}
        created = events.create_archive(**given)
        assert created["State"] == "ENABLED"
        assert created["ArchiveArn"].endswith(f":archive/{name}")
        with pytest.raises(events.exceptions.ResourceAlreadyExistsException):
            events.create_archive(**given)
        entries = [{"Source": source, "DetailType": "T", "Detail": "{}", "EventBusName": name} for source in ("kept", "other")]
        assert events.put_events(Entries=entries)["FailedEntryCount"] == 0
        until("the event that the pattern keeps", lambda: events.describe_archive(ArchiveName=name)["EventCount"] == 1)
        described = events.describe_archive(ArchiveName=name)
        assert (described["RetentionDays"], described["Description"], described["EventPattern"]) == (1, "mine", given["EventPattern"])
        with pytest.raises(events.exceptions.InvalidEventPatternException):
            events.create_archive(ArchiveName=name + "-2", EventSourceArn=bus, EventPattern='{"source": "kept"}')
        with pytest.raises(events.exceptions.ResourceNotFoundException):
            events.create_archive(ArchiveName=name + "-2", EventSourceArn=bus + "-nobodys")
        events.delete_archive(ArchiveName=name)
        for call in (events.describe_archive, events.delete_archive):
            with pytest.raises(events.exceptions.ResourceNotFoundException):
                call(ArchiveName=name)
    finally:
        events.delete_event_bus(Name=name)


def test_a_rule_has_tags(events, outputs, rule):
    bus, name = rule
    arn = events.put_rule(Name=name, EventBusName=bus, EventPattern='{"source": ["x"]}', Tags=[{"Key": "Owner", "Value": "me"}])["RuleArn"]
    assert events.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "Owner", "Value": "me"}]
    with pytest.raises(events.exceptions.ResourceNotFoundException):
        events.list_tags_for_resource(ResourceARN=arn + "-nobodys")


def test_what_is_not_emulated_is_refused_by_name(events):
    for call, given in (
        (events.cancel_replay, {"ReplayName": "any"}),
        (events.list_rule_names_by_target, {"TargetArn": "arn:aws:sqs:us-east-1:123456789012:any"}),
        (events.put_permission, {"Action": "events:PutEvents", "Principal": "*", "StatementId": "any"}),
        (events.remove_permission, {"StatementId": "any"}),
        (events.tag_resource, {"ResourceARN": "arn:aws:events:us-east-1:123456789012:event-bus/default", "Tags": []}),
        (events.untag_resource, {"ResourceARN": "arn:aws:events:us-east-1:123456789012:event-bus/default", "TagKeys": []}),
        (events.update_archive, {"ArchiveName": "any"}),
    ):
        with pytest.raises(ClientError) as error:
            call(**given)
        assert error.value.response["Error"]["Code"] == "NotImplemented"


def test_a_bus_of_my_own_is_made_and_deleted(events, name):
    arn = events.create_event_bus(Name=name)["EventBusArn"]
    assert arn.endswith(f":event-bus/{name}")
    with pytest.raises(events.exceptions.ResourceAlreadyExistsException):
        events.create_event_bus(Name=name)
    events.delete_event_bus(Name=name)
    with pytest.raises(events.exceptions.ResourceNotFoundException):
        events.describe_event_bus(Name=name)
