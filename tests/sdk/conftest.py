"""What every test needs: SDK clients, the outputs of the stack, names that are nobody else's.

Nothing is started here. The suite reads AWS_ENDPOINT_URL, as any SDK does, and learns the rest
from the outputs of the stack; it knows nothing of what answers there.
"""

import json
import os
import time
import uuid

import boto3
import pytest
import requests
from botocore.config import Config

import strict

os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
os.environ.setdefault("AWS_ACCESS_KEY_ID", "any")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "any")

STACK = os.environ.get("STACK_NAME", "uni-prop-local")
PATIENCE = 30


def pytest_configure(config):
    if "AWS_ENDPOINT_URL" not in os.environ:
        raise pytest.UsageError("AWS_ENDPOINT_URL is not set: this suite does not run against AWS itself")


@pytest.fixture(scope="session")
def not_as_modelled():
    """What was wrong with the answers so far."""
    boto3.setup_default_session()
    return strict.watch(boto3.DEFAULT_SESSION)


@pytest.fixture(autouse=True)
def answers_are_as_modelled(not_as_modelled):
    yield
    found = list(dict.fromkeys(not_as_modelled))
    not_as_modelled.clear()
    assert not found, "\n".join(["answers that AWS's model does not have:", *found])


@pytest.fixture(scope="session")
def client(not_as_modelled):
    """A client per service, made once; no retries, so that a failure is seen as it is."""
    clients = {}

    def of(service):
        if service not in clients:
            clients[service] = boto3.client(service, config=Config(retries={"total_max_attempts": 1}))
        return clients[service]

    return of


@pytest.fixture(scope="session")
def outputs(client):
    stacks = client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in stacks[0]["Outputs"]}


@pytest.fixture
def name():
    """A name that no other test and no earlier run has used."""
    return f"sdk-{uuid.uuid4().hex[:12]}"


def until(what, look, patience=PATIENCE):
    """Looks until there is something, and says what it was waiting for when there is not."""
    end = time.monotonic() + patience
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < end, f"{what} did not come within {patience} s; last seen: {seen!r}"
        time.sleep(0.05)


class Api:
    """The HTTP APIs at the addresses that the stack names."""

    def __init__(self, contracts, web):
        self.contracts, self.web = contracts.rstrip("/"), web.rstrip("/")
        self.session = requests.Session()

    def call(self, method, path, **given):
        base = self.contracts if path.startswith("/contracts") else self.web
        return self.session.request(method, base + path, timeout=30, **given)

    def get(self, path, **given):
        return self.call("GET", path, **given)

    def post(self, path, body, **given):
        return self.call("POST", path, json=body, **given)

    def put(self, path, body, **given):
        return self.call("PUT", path, json=body, **given)

    def outcome(self, accepted):
        """What became of a command whose acceptance this is."""
        assert accepted.status_code == 200, accepted.text
        command = accepted.headers["x-command-id"]
        path = "/contracts" if accepted.url.startswith(self.contracts + "/") else "/listings"

        def look():
            answer = self.get(f"{path}/commands/{command}")
            return answer.ok and answer.json()["status"] != "PENDING" and answer.json()

        return until(f"the outcome of {command}", look, 60)


@pytest.fixture(scope="session")
def api(outputs):
    return Api(outputs["ContractsApiUrl"], outputs["WebApiUrl"])


class Property:
    """A property in a city of its own."""

    def __init__(self, city=None, number=1):
        self.city, self.number = city or f"city-{uuid.uuid4().hex[:12]}", number

    @property
    def id(self):
        return f"usa/{self.city}/main-street/{self.number}"

    @property
    def address(self):
        return {"country": "USA", "city": self.city, "street": "Main Street", "number": self.number}

    @property
    def contract(self):
        return {"property_id": self.id, "seller_name": "Smith & Sons", "address": self.address}

    def listing(self, **given):
        return {
            "address": self.address,
            "description": "A lovely, bright family home with a wonderful garden.",
            "contract": "sale",
            "listprice": 350000,
            "currency": "USD",
            "images": ["usa/anytown/main-street-111.png"],
        } | given

    def event(self, **given):
        """What the web service asks the approval of this property with."""
        return {
            "property_id": self.id,
            "address": {"country": "usa", "city": self.city, "street": "main-street", "number": self.number},
            "status": "PENDING",
            "description": "A lovely, bright family home with a wonderful garden.",
            "images": ["usa/anytown/main-street-111.png"],
            "contract": "sale",
            "listprice": 350000,
            "currency": "USD",
        } | given


@pytest.fixture
def home():
    return Property()


@pytest.fixture
def queue(client, name):
    """A queue of the test's own: its URL."""
    url = client("sqs").create_queue(QueueName=name)["QueueUrl"]
    yield url
    client("sqs").delete_queue(QueueUrl=url)


def arn_of(client, queue_url):
    answer = client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
    return answer["Attributes"]["QueueArn"]


def receive(client, queue_url, wait=20):
    """One message that must come; it is deleted."""
    messages = client("sqs").receive_message(
        QueueUrl=queue_url,
        WaitTimeSeconds=wait,
        MessageAttributeNames=["All"],
        MessageSystemAttributeNames=["All"],
    ).get("Messages", [])
    assert messages, f"no message came within {wait} s"
    client("sqs").delete_message(QueueUrl=queue_url, ReceiptHandle=messages[0]["ReceiptHandle"])
    return messages[0]


def group_of(arn):
    """The name of the log group of an ARN such as the stack's outputs hold."""
    return arn.split(":log-group:")[1].removesuffix(":*")


def events_logged(client, group, property_id, detail_type):
    """The events about a property that a catch-all log group holds."""
    pages = client("logs").get_paginator("filter_log_events").paginate(
        logGroupName=group,
        filterPattern=f'{{ $.detail.property_id = "{property_id}" && $.detail-type = "{detail_type}" }}',
    )
    return [json.loads(event["message"]) for page in pages for event in page["events"]]
