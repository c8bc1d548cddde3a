"""The application over HTTP, at the addresses that the stack names."""

import json
import uuid
from urllib.parse import quote

import pytest
import requests

from conftest import Property, events_logged, group_of, until


def test_a_contract_is_created_moved_and_read(api, home):
    accepted = api.post("/contracts", home.contract)
    assert (accepted.status_code, accepted.text) == (200, '{"message":"OK"}')
    assert accepted.headers["content-type"].startswith("application/json")
    assert accepted.headers["access-control-allow-origin"] == "*"
    assert accepted.headers["x-amzn-requestid"]
    outcome = api.outcome(accepted)
    assert (outcome["command_id"], outcome["status"]) == (accepted.headers["x-command-id"], "APPLIED")
    contract = api.get(f"/contracts/{home.id}")
    assert contract.status_code == 200
    body = contract.json()
    assert (body["property_id"], body["contract_status"], body["contract_version"]) == (home.id, "DRAFT", 1)
    assert body["address"]["number"] == 1
    uuid.UUID(body["contract_id"])
    assert api.outcome(api.put("/contracts", {"property_id": home.id.upper()}))["status"] == "APPLIED"
    again = api.get(f"/contracts/{home.id}").json()
    assert (again["contract_status"], again["contract_version"], again["contract_id"]) == ("APPROVED", 2, body["contract_id"])
    assert again["contract_last_modified_on"] > body["contract_last_modified_on"]


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda home: ("POST", home.contract), "contract_exists"),
        (lambda home: ("POST", home.contract | {"property_id": "usa/x/y/1"}), "property_id_mismatch"),
        (lambda home: ("PUT", {"property_id": home.id, "status": "CLOSED"}), "invalid_transition"),
        (lambda home: ("PUT", {"property_id": home.id, "status": "DRAFT"}), "invalid_transition"),
    ],
)
def test_a_command_that_cannot_be_is_rejected_with_its_reason(api, home, change, reason):
    assert api.outcome(api.post("/contracts", home.contract))["status"] == "APPLIED"
    method, body = change(home)
    outcome = api.outcome(api.call(method, "/contracts", json=body))
    assert (outcome["status"], outcome["reason"]) == ("REJECTED", reason)
    assert outcome["message"]


BAD_CONTRACTS = {
    "empty": {},
    "a list": [],
    "no seller": lambda c: {k: v for k, v in c.items() if k != "seller_name"},
    "no address": lambda c: {k: v for k, v in c.items() if k != "address"},
    "number as text": lambda c: c | {"address": c["address"] | {"number": "1"}},
    "number 0": lambda c: c | {"address": c["address"] | {"number": 0}},
    "number with a fraction": lambda c: c | {"address": c["address"] | {"number": 1.5}},
    "letters beyond ASCII": lambda c: c | {"address": c["address"] | {"city": "Zürich"}},
    "bad property id": lambda c: c | {"property_id": "usa/anytown"},
    "null seller": lambda c: c | {"seller_name": None},
}


@pytest.mark.parametrize("what", BAD_CONTRACTS)
def test_a_body_that_does_not_fit_its_schema_is_400(api, home, what):
    bad = BAD_CONTRACTS[what]
    answer = api.post("/contracts", bad(home.contract) if callable(bad) else bad)
    assert (answer.status_code, answer.json()) == (400, {"message": "Invalid request body"})
    assert "x-command-id" not in answer.headers
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("body", ["", "{", "null", '"text"', '{"a":1,}', "\x00"])
def test_what_is_not_json_is_400(api, body):
    for method, path in (("POST", "/contracts"), ("PUT", "/contracts"), ("POST", "/listings"), ("POST", "/request_approval")):
        answer = api.call(method, path, data=body.encode(), headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()) == (400, {"message": "Invalid request body"})


def test_another_content_type_is_415(api, home):
    for kind in ("text/plain", "application/xml", "application/x-www-form-urlencoded"):
        answer = api.call("POST", "/contracts", data=json.dumps(home.contract), headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()) == (415, {"message": "Unsupported Media Type"})


def test_an_unknown_route_or_method_is_403(api):
    for method, path in (("GET", "/contracts"), ("DELETE", "/contracts"), ("GET", "/nothing"), ("PATCH", "/listings"), ("GET", "/search/usa"), ("GET", "/")):
        answer = api.call(method, path)
        assert answer.status_code == 403
        assert answer.json() == {"message": "Missing Authentication Token"}
        assert answer.headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"


def test_too_large_a_body_is_413(api, home):
    queued = api.post("/contracts", home.contract | {"note": "x" * 1_100_000})
    assert queued.status_code == 413
    assert list(queued.json()) == ["message"]
    assert "x-command-id" not in queued.headers
    assert api.post("/contracts", home.contract | {"note": "x" * 11_000_000}).status_code == 413


def test_what_is_not_there_is_404(api, home):
    for path in (f"/contracts/{home.id}", f"/listings/{home.id}", f"/properties/{home.id}", "/contracts/commands/nobodys", "/listings/commands/nobodys"):
        answer = api.get(path)
        assert answer.status_code == 404, path
        assert list(answer.json()) == ["message"]
        assert answer.headers["access-control-allow-origin"] == "*"


def test_every_route_answers_browsers_before_they_ask(api, home):
    for path, methods in (
        ("/contracts", "POST PUT"),
        (f"/contracts/{home.id}", "GET"),
        ("/contracts/commands/x", "GET"),
        ("/listings", "POST"),
        (f"/listings/{home.id}", "GET DELETE"),
        ("/listings/commands/x", "GET"),
        ("/request_approval", "POST"),
        ("/search/usa/anytown", "GET"),
        ("/search/usa/anytown/main-street", "GET"),
        (f"/properties/{home.id}", "GET"),
    ):
        answer = api.call("OPTIONS", path, headers={"Origin": "https://example.com", "Access-Control-Request-Method": methods.split()[0]})
        assert answer.status_code in (200, 204), path
        assert answer.headers["access-control-allow-origin"] == "*"
        allowed = answer.headers["access-control-allow-methods"]
        assert all(method in allowed for method in methods.split())
        assert "idempotency-key" in answer.headers["access-control-allow-headers"].lower()
        exposed = answer.headers["access-control-expose-headers"].lower()
        assert "x-command-id" in exposed and "link" in exposed


def test_odd_characters_reach_the_table_unchanged(api, home):
    seller = "A & B + C=100% #1 \"x\" \\ / \n\t ' ; 😀 é &Action=DeleteQueue"
    assert api.outcome(api.post("/contracts", home.contract | {"seller_name": seller}))["status"] == "APPLIED"
    assert api.get(f"/contracts/{home.id}").json()["seller_name"] == seller


def test_the_same_idempotency_key_is_one_command(api, home):
    key = {"Idempotency-Key": f"key-{home.city}"}
    first = api.post("/contracts", home.contract, headers=key)
    assert api.outcome(first)["status"] == "APPLIED"
    again = api.post("/contracts", home.contract, headers=key)
    assert again.headers["x-command-id"] != first.headers["x-command-id"]
    assert api.outcome(again)["status"] == "APPLIED"
    assert api.get(f"/contracts/{home.id}").json()["contract_version"] == 1
    other = api.outcome(api.post("/contracts", home.contract | {"seller_name": "Other"}, headers=key))
    assert (other["status"], other["reason"]) == ("REJECTED", "idempotency_key_reused")
    bad = api.outcome(api.post("/contracts", Property().contract, headers={"Idempotency-Key": "x" * 129}))
    assert (bad["status"], bad["reason"]) == ("REJECTED", "invalid_idempotency_key")


def test_a_listing_is_published_searched_paged_and_taken_down(api, client, outputs):
    homes = [Property(number=number) for number in (1,)]
    homes += [Property(city=homes[0].city, number=number) for number in (2, 10)]
    city = homes[0].city
    for home in homes:
        assert api.outcome(api.post("/contracts", home.contract))["status"] == "APPLIED"
        assert api.outcome(api.put("/contracts", {"property_id": home.id}))["status"] == "APPLIED"
        assert api.outcome(api.post("/listings", home.listing()))["status"] == "APPLIED"
        assert api.get(f"/listings/{home.id}").json()["status"] == "NEW"
    none = api.get(f"/search/usa/{city}")
    assert (none.status_code, none.json()) == (200, [])
    assert api.get(f"/properties/{homes[0].id}").status_code == 404
    for home in homes:
        assert api.outcome(api.post("/request_approval", {"property_id": home.id}))["status"] == "APPLIED"
    until("three approved listings", lambda: len(api.get(f"/search/usa/{city}").json()) == 3)
    found = api.get(f"/search/USA/{city.upper()}/Main%20Street").json()
    assert [listing["number"] for listing in found] == [1, 2, 10]
    assert set(found[0]) == {"country", "city", "street", "number", "description", "contract", "listprice", "currency", "status"}
    assert found[0]["status"] == "APPROVED"
    details = api.get(f"/properties/{homes[0].id}").json()
    assert details == found[0] | {"images": homes[0].listing()["images"]}

    page = api.get(f"/search/usa/{city}?limit=2")
    assert [listing["number"] for listing in page.json()] == [1, 2]
    link = page.links["next"]["url"]
    assert link.startswith(api.web + "/search/usa/") and "limit=2" in link
    last = requests.get(link, timeout=10)
    assert [listing["number"] for listing in last.json()] == [10]
    assert "next" not in last.links

    events = events_logged(client, group_of(outputs["WebCatchAllLogGroupArn"]), homes[0].id, "PublicationApprovalRequested")
    assert len(events) == 1
    again = api.outcome(api.post("/request_approval", {"property_id": homes[0].id}))
    assert again["reason"] == "already_approved"
    assert api.outcome(api.call("DELETE", f"/listings/{homes[1].id}"))["status"] == "APPLIED"
    assert [listing["number"] for listing in api.get(f"/search/usa/{city}").json()] == [1, 10]
    assert api.get(f"/listings/{homes[1].id}").json()["status"] == "WITHDRAWN"
    assert api.outcome(api.put("/contracts", {"property_id": homes[2].id, "status": "CANCELLED"}))["status"] == "APPLIED"
    until("the end of a listing whose contract ended", lambda: [l["number"] for l in api.get(f"/search/usa/{city}").json()] == [1])
    view = api.get(f"/listings/{homes[2].id}").json()
    assert (view["status"], view["evaluation_reasons"]) == ("DECLINED", ["contract_ended"])


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=", "next=nonsense", "limit=-1", "limit=1.5"])
def test_a_limit_or_a_position_that_is_none_is_400(api, query):
    answer = api.get(f"/search/usa/anytown?{query}")
    assert answer.status_code == 400
    assert list(answer.json()) == ["message"]


@pytest.mark.parametrize(
    "given",
    [
        {"description": ""},
        {"description": "x" * 1201},
        {"contract": "lease"},
        {"listprice": 0},
        {"listprice": 1.5},
        {"currency": "usd"},
        {"images": "a.png"},
        {"images": [1]},
    ],
    ids=str,
)
def test_a_listing_that_does_not_fit_its_schema_is_400(api, home, given):
    answer = api.post("/listings", home.listing(**given))
    assert (answer.status_code, answer.json()) == (400, {"message": "Invalid request body"})


@pytest.mark.parametrize("images", [[], ["a.png"] * 21], ids=["none", "too many"])
def test_the_number_of_images_is_checked_by_the_consumer(api, home, images):
    outcome = api.outcome(api.post("/listings", home.listing(images=images)))
    assert (outcome["status"], outcome["reason"]) == ("REJECTED", "invalid_body")


def test_path_parameters_are_percent_decoded(api):
    home = Property(city=f"st-john-{uuid.uuid4().hex[:8]}")
    address = home.address | {"city": home.city.replace("st-john-", "St. John ")}
    assert api.outcome(api.post("/contracts", home.contract | {"address": address}))["status"] == "APPLIED"
    path = "/".join(quote(part, safe="") for part in ("USA", address["city"], "Main Street", "1"))
    assert api.get(f"/contracts/{path}").json()["property_id"] == home.id


def test_methods_of_the_other_service_are_not_routes_of_this_one(api):
    answer = requests.get(f"{api.contracts}/search/usa/anytown", timeout=10)
    assert answer.status_code == 403
