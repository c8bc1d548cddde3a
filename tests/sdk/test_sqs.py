"""SQS: standard queues from creation to the redrive of dead letters."""

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from conftest import arn_of, receive, until


@pytest.fixture(scope="module")
def sqs(client):
    return client("sqs")


def code(error):
    return error.value.response["Error"]["Code"]


def test_the_queues_of_the_stack_are_listed_and_found(sqs, outputs):
    url = outputs["ContractsIngestQueueUrl"]
    name = url.rsplit("/", 1)[1]
    listed = [url for page in sqs.get_paginator("list_queues").paginate(QueueNamePrefix=name, PaginationConfig={"PageSize": 1}) for url in page["QueueUrls"]]
    assert url in listed
    assert sqs.get_queue_url(QueueName=name)["QueueUrl"] == url
    assert "QueueUrls" not in sqs.list_queues(QueueNamePrefix="nobodys-")


def test_the_ingest_queue_sends_its_dead_letters_to_the_queue_of_the_output(client, sqs, outputs):
    attributes = sqs.get_queue_attributes(QueueUrl=outputs["ContractsIngestQueueUrl"], AttributeNames=["All"])["Attributes"]
    redrive = json.loads(attributes["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"] == arn_of(client, outputs["ContractsIngestDLQUrl"])
    assert int(redrive["maxReceiveCount"]) >= 5
    assert int(attributes["VisibilityTimeout"]) > 0
    for count in ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"):
        assert attributes[count].isdigit()
    sources = sqs.list_dead_letter_source_queues(QueueUrl=outputs["ContractsIngestDLQUrl"])["queueUrls"]
    assert sources == [outputs["ContractsIngestQueueUrl"]]


def test_an_unknown_queue_does_not_exist(sqs, queue):
    with pytest.raises(sqs.exceptions.QueueDoesNotExist) as error:
        sqs.get_queue_url(QueueName="nobodys-queue")
    assert code(error) == "AWS.SimpleQueueService.NonExistentQueue"
    nobodys = queue.rsplit("/", 1)[0] + "/nobodys-queue"
    for call in (
        lambda: sqs.send_message(QueueUrl=nobodys, MessageBody="x"),
        lambda: sqs.receive_message(QueueUrl=nobodys),
        lambda: sqs.get_queue_attributes(QueueUrl=nobodys, AttributeNames=["All"]),
        lambda: sqs.purge_queue(QueueUrl=nobodys),
        lambda: sqs.delete_queue(QueueUrl=nobodys),
    ):
        with pytest.raises(sqs.exceptions.QueueDoesNotExist):
            call()


def test_a_queue_is_created_once_with_the_same_attributes_only(sqs, name, queue):
    assert sqs.create_queue(QueueName=name)["QueueUrl"] == queue
    with pytest.raises(sqs.exceptions.QueueNameExists):
        sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "7"})
    for bad in ("no spaces", "x" * 81):
        with pytest.raises(ClientError) as error:
            sqs.create_queue(QueueName=bad)
        assert code(error) == "InvalidParameterValue"


def test_a_message_travels_with_its_attributes_and_checksums(sqs, queue):
    body = 'a & b + c % d # "e" \\ \n😀'
    attributes = {
        "Text": {"DataType": "String", "StringValue": "wörd"},
        "Number": {"DataType": "Number", "StringValue": "42"},
        "Bytes": {"DataType": "Binary", "BinaryValue": b"\x00\x01"},
        "Custom": {"DataType": "String.mine", "StringValue": "x"},
    }
    sent = sqs.send_message(QueueUrl=queue, MessageBody=body, MessageAttributes=attributes)
    assert sent["MD5OfMessageBody"] == hashlib.md5(body.encode()).hexdigest()
    message = receive_one(sqs, queue)
    assert message["MessageId"] == sent["MessageId"]
    assert message["Body"] == body
    assert message["MD5OfBody"] == sent["MD5OfMessageBody"]
    assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
    assert message["MessageAttributes"] == attributes
    system = message["Attributes"]
    assert system["ApproximateReceiveCount"] == "1"
    assert abs(int(system["SentTimestamp"]) / 1000 - time.time()) < 60
    assert {"SenderId", "ApproximateFirstReceiveTimestamp"} <= set(system)


def receive_one(sqs, queue, **given):
    [message] = sqs.receive_message(
        QueueUrl=queue, WaitTimeSeconds=5, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"], **given
    )["Messages"]
    return message


def test_attributes_are_given_only_to_who_asks(sqs, queue):
    sqs.send_message(QueueUrl=queue, MessageBody="x", MessageAttributes={"A.b": {"DataType": "String", "StringValue": "1"}, "C": {"DataType": "String", "StringValue": "2"}})
    plain = sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0)["Messages"][0]
    assert "MessageAttributes" not in plain
    assert "Attributes" not in plain
    prefixed = sqs.receive_message(QueueUrl=queue, MessageAttributeNames=["A.*"], AttributeNames=["SentTimestamp"])["Messages"][0]
    assert set(prefixed["MessageAttributes"]) == {"A.b"}
    assert set(prefixed["Attributes"]) == {"SentTimestamp"}


def test_a_received_message_is_invisible_until_it_is_given_back(sqs, queue):
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    first = receive_one(sqs, queue, VisibilityTimeout=30)
    assert "Messages" not in sqs.receive_message(QueueUrl=queue)
    seen = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessages"])["Attributes"]
    assert seen == {"ApproximateNumberOfMessagesNotVisible": "1", "ApproximateNumberOfMessages": "0"}
    sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0)
    second = receive_one(sqs, queue)
    assert second["MessageId"] == first["MessageId"]
    assert second["Attributes"]["ApproximateReceiveCount"] == "2"
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=second["ReceiptHandle"])
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=second["ReceiptHandle"])
    with pytest.raises(ClientError) as error:
        sqs.delete_message(QueueUrl=queue, ReceiptHandle="not a handle")
    assert code(error) == "ReceiptHandleIsInvalid"


def test_a_message_comes_back_after_its_visibility_timeout(sqs, queue):
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    receive_one(sqs, queue, VisibilityTimeout=1)
    assert receive_one(sqs, queue)["Attributes"]["ApproximateReceiveCount"] == "2"


def test_a_delayed_message_is_seen_later(sqs, queue):
    begun = time.monotonic()
    sqs.send_message(QueueUrl=queue, MessageBody="x", DelaySeconds=1)
    assert sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["ApproximateNumberOfMessagesDelayed"])["Attributes"]["ApproximateNumberOfMessagesDelayed"] == "1"
    receive_one(sqs, queue)
    assert time.monotonic() - begun >= 0.9


def test_a_long_poll_ends_with_the_message_or_the_wait(sqs, queue):
    begun = time.monotonic()
    assert "Messages" not in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1)
    assert time.monotonic() - begun >= 0.9
    with ThreadPoolExecutor() as pool:
        begun = time.monotonic()
        waiting = pool.submit(receive_one, sqs, queue)
        time.sleep(0.3)
        sqs.send_message(QueueUrl=queue, MessageBody="now")
        assert waiting.result()["Body"] == "now"
        assert time.monotonic() - begun < 4


def test_batches_report_each_entry(sqs, queue):
    entries = [{"Id": f"n{n}", "MessageBody": str(n)} for n in range(9)]
    answer = sqs.send_message_batch(QueueUrl=queue, Entries=entries + [{"Id": "bad", "MessageBody": "\x00"}])
    assert [entry["Id"] for entry in answer["Successful"]] == [f"n{n}" for n in range(9)]
    [failed] = answer["Failed"]
    assert (failed["Id"], failed["Code"], failed["SenderFault"]) == ("bad", "InvalidMessageContents", True)
    got = {}

    def drain():
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", []):
            got[message["Body"]] = message["ReceiptHandle"]
        return len(got) == 9

    until("nine messages", drain)
    handles = [{"Id": body, "ReceiptHandle": handle} for body, handle in got.items()]
    changed = sqs.change_message_visibility_batch(QueueUrl=queue, Entries=[entry | {"VisibilityTimeout": 60} for entry in handles])
    assert len(changed["Successful"]) == 9
    deleted = sqs.delete_message_batch(QueueUrl=queue, Entries=handles[:8] + [{"Id": "bad", "ReceiptHandle": "nonsense"}])
    assert len(deleted["Successful"]) == 8
    assert deleted["Failed"][0]["Code"] == "ReceiptHandleIsInvalid"


def test_batches_that_are_wrong_as_a_whole_are_refused(sqs, queue):
    entry = {"Id": "a", "MessageBody": "x"}
    for entries, expected in (
        ([], "AWS.SimpleQueueService.EmptyBatchRequest"),
        ([entry, entry], "AWS.SimpleQueueService.BatchEntryIdsNotDistinct"),
        ([{"Id": str(n), "MessageBody": "x"} for n in range(11)], "AWS.SimpleQueueService.TooManyEntriesInBatchRequest"),
        ([{"Id": "no spaces", "MessageBody": "x"}], "AWS.SimpleQueueService.InvalidBatchEntryId"),
        ([{"Id": str(n), "MessageBody": "x" * 600_000} for n in range(2)], "AWS.SimpleQueueService.BatchRequestTooLong"),
    ):
        with pytest.raises(ClientError) as error:
            sqs.send_message_batch(QueueUrl=queue, Entries=entries)
        assert code(error) == expected


def test_what_cannot_be_a_message_is_refused(sqs, queue):
    for given, expected in (
        ({"MessageBody": "x" * 1_048_577}, "InvalidParameterValue"),
        ({"MessageBody": "\x00"}, "InvalidMessageContents"),
        ({"MessageBody": ""}, "MissingParameter"),
        ({"MessageBody": "x", "DelaySeconds": 901}, "InvalidParameterValue"),
        ({"MessageBody": "x", "MessageAttributes": {"A": {"DataType": "Colour", "StringValue": "1"}}}, "InvalidParameterValue"),
        ({"MessageBody": "x", "MessageGroupId": "g", "MessageDeduplicationId": "d"}, "InvalidParameterValue"),
    ):
        with pytest.raises(ClientError) as error:
            sqs.send_message(QueueUrl=queue, **given)
        assert code(error) == expected, given.keys()


def test_wrong_numbers_are_refused(sqs, queue):
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    handle = sqs.receive_message(QueueUrl=queue)["Messages"][0]["ReceiptHandle"]
    for call in (
        lambda: sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=11),
        lambda: sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=21),
        lambda: sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=handle, VisibilityTimeout=43201),
    ):
        with pytest.raises(ClientError) as error:
            call()
        assert code(error) == "InvalidParameterValue"
    with pytest.raises(ClientError) as error:
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "-1"})
    assert code(error) == "InvalidAttributeValue"
    with pytest.raises(ClientError) as error:
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Colour": "red"})
    assert code(error) == "InvalidAttributeName"


def test_a_message_received_too_often_is_dead_and_can_be_moved_back(client, sqs, queue, name):
    dead = sqs.create_queue(QueueName=name + "-dlq")["QueueUrl"]
    policy = {"deadLetterTargetArn": arn_of(client, dead), "maxReceiveCount": 2}
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": json.dumps(policy), "VisibilityTimeout": "0"})
    sent = sqs.send_message(QueueUrl=queue, MessageBody="poison", MessageAttributes={"Why": {"DataType": "String", "StringValue": "kept"}})
    for count in ("1", "2"):
        assert receive_one(sqs, queue)["Attributes"]["ApproximateReceiveCount"] == count
    assert "Messages" not in sqs.receive_message(QueueUrl=queue)
    corpse = receive_one(sqs, dead, VisibilityTimeout=0)
    assert corpse["Body"] == "poison"
    assert corpse["MessageId"] == sent["MessageId"]
    assert corpse["MessageAttributes"]["Why"]["StringValue"] == "kept"
    assert corpse["Attributes"]["DeadLetterQueueSourceArn"] == arn_of(client, queue)
    task = sqs.start_message_move_task(SourceArn=arn_of(client, dead))
    assert task["TaskHandle"]

    def finished():
        [latest] = sqs.list_message_move_tasks(SourceArn=arn_of(client, dead))["Results"]
        return latest["Status"] == "COMPLETED" and latest

    latest = until("the end of the move", finished)
    assert latest["ApproximateNumberOfMessagesMoved"] == 1
    assert receive_one(sqs, queue)["Body"] == "poison"
    with pytest.raises(ClientError) as error:
        sqs.start_message_move_task(SourceArn=arn_of(client, queue))
    assert code(error) in ("InvalidParameterValue", "AWS.SimpleQueueService.UnsupportedOperation")
    with pytest.raises(ClientError) as error:
        sqs.start_message_move_task(SourceArn=arn_of(client, queue) + "-nobodys")
    assert code(error) == "ResourceNotFoundException"
    sqs.delete_queue(QueueUrl=dead)


def test_a_move_of_messages_is_cancelled_between_two(client, sqs, queue, name):
    dead = sqs.create_queue(QueueName=name + "-dlq")["QueueUrl"]
    policy = {"deadLetterTargetArn": arn_of(client, dead), "maxReceiveCount": 1}
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": json.dumps(policy)})
    sqs.send_message_batch(QueueUrl=dead, Entries=[{"Id": str(n), "MessageBody": str(n)} for n in range(10)])
    start = {"SourceArn": arn_of(client, dead), "DestinationArn": arn_of(client, queue), "MaxNumberOfMessagesPerSecond": 1}
    handle = sqs.start_message_move_task(**start)["TaskHandle"]
    with pytest.raises(ClientError) as error:
        sqs.start_message_move_task(**start)
    assert code(error) == "InvalidParameterValue"
    assert sqs.cancel_message_move_task(TaskHandle=handle)["ApproximateNumberOfMessagesMoved"] < 10

    def cancelled():
        [latest] = sqs.list_message_move_tasks(SourceArn=arn_of(client, dead))["Results"]
        return latest["Status"] == "CANCELLED" and latest

    assert "TaskHandle" not in until("the end of the move", cancelled)
    with pytest.raises(sqs.exceptions.ResourceNotFoundException):
        sqs.cancel_message_move_task(TaskHandle=handle)
    with pytest.raises(ClientError) as error:
        sqs.cancel_message_move_task(TaskHandle="nobodys")
    assert code(error) == "InvalidParameterValue"
    sqs.delete_queue(QueueUrl=dead)


def test_a_purge_empties_the_queue_once_a_minute(sqs, queue):
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    sqs.purge_queue(QueueUrl=queue)
    assert "Messages" not in sqs.receive_message(QueueUrl=queue)
    with pytest.raises(sqs.exceptions.PurgeQueueInProgress):
        sqs.purge_queue(QueueUrl=queue)


def test_tags_are_put_listed_and_taken_off(sqs, queue):
    sqs.tag_queue(QueueUrl=queue, Tags={"Owner": "me", "Other": "x"})
    sqs.untag_queue(QueueUrl=queue, TagKeys=["Other"])
    assert sqs.list_queue_tags(QueueUrl=queue)["Tags"] == {"Owner": "me"}


def test_a_deleted_queue_is_gone(sqs, name):
    url = sqs.create_queue(QueueName=name, Attributes={"MessageRetentionPeriod": "60"}, tags={"a": "b"})["QueueUrl"]
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"a": "b"}
    sqs.delete_queue(QueueUrl=url)
    with pytest.raises(sqs.exceptions.QueueDoesNotExist):
        sqs.send_message(QueueUrl=url, MessageBody="x")
    assert "QueueUrls" not in sqs.list_queues(QueueNamePrefix=name)
