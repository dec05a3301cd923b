"""Erasing over the API: one event, a whole tenant, and what is shown of them afterwards."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.api.parts import Parts
from tests.harness.waiting import wait_until

from ringback.core.lifecycle import dead, retry_at

WORD = "xyzzy-plugh"
LATER_MS = 4_000_000_000_000
EVENT = "/api/v1/events/e1"


@pytest.fixture
def erased(parts: Parts) -> dict[str, Any]:
    """An event with a dead delivery, a pending one and a callback, erased; the answer to that."""
    parts.endpoint(name="a")
    parts.endpoint(name="b")
    parts.event(id="e1", data={"said": WORD}, callback={"url": f"https://cb.example.com/{WORD}", "secret": WORD})
    (seq, first), (_, second), _ = parts.flights.owed
    parts.attempt(seq, first, dead(), outcome="bad_status", status=410, body=WORD.encode(), full=WORD.encode() * 999)
    parts.attempt(seq, second, retry_at(LATER_MS), outcome="bad_status", status=500, body=WORD.encode())
    parts.index()
    status, told = parts.call("POST", f"{EVENT}/erase")
    assert status == 200, told
    return told


def test_a_tombstone_is_shown_with_nothing_in_it(parts: Parts, erased: dict[str, Any]) -> None:
    """Event, list, deliveries and their attempts: times and states, no data, no bodies, no peer, no callback."""
    assert set(erased) == {"id", "tenant", "erased_at"}
    shown = parts.call("GET", EVENT)[1]
    assert (shown["erased_at"], shown["data"], shown["source"]) == (erased["erased_at"], None, None)
    assert (shown["callback"], shown["corrupt"], shown["size"]) == (None, False, 0)
    assert shown["deliveries"] == {"dead": 1, "cancelled": 2}
    (row,) = parts.call("GET", "/api/v1/events")[1]["data"]
    assert (row["id"], row["erased_at"]) == ("e1", erased["erased_at"])
    rows = parts.call("GET", "/api/v1/deliveries?event=e1")[1]["data"]
    whole = [parts.call("GET", f"/api/v1/deliveries/{one['id']}")[1] for one in rows]
    assert sorted(one["status"] for one in whole) == ["cancelled", "cancelled", "dead"]
    assert {one["erased_at"] for one in whole} == {erased["erased_at"]}
    (attempt,) = next(one for one in whole if one["status"] == "dead")["attempts"]
    assert (attempt["outcome"], attempt["request"]) == ("bad_status", None)
    assert attempt["response"] == {"status": 410, "headers": {}, "body": "", "truncated": True}
    assert WORD not in json.dumps([shown, row, rows, whole])


def test_why_says_that_it_was_erased(parts: Parts, erased: dict[str, Any]) -> None:
    """Of the event and of each delivery, with the time."""
    told = parts.call("GET", "/api/v1/why/e1")[1]
    assert "erased" in told["summary"]
    assert told["timeline"][-1]["at"] == erased["erased_at"]
    for one in parts.call("GET", "/api/v1/deliveries?event=e1")[1]["data"]:
        told = parts.call("GET", f"/api/v1/why/{one['id']}")[1]
        assert "erased" in told["summary"]
        assert told["timeline"][-1]["at"] == erased["erased_at"]
        assert told["next"] is None


def test_nothing_of_it_is_sent_again(parts: Parts, erased: dict[str, Any]) -> None:
    """A retry is refused by name, whatever state the delivery is in."""
    for one in parts.call("GET", "/api/v1/deliveries?event=e1")[1]["data"]:
        status, told = parts.call("POST", f"/api/v1/deliveries/{one['id']}/retry")
        assert (status, told["code"]) == (409, "erased")
    assert parts.flights.withheld == set()


@pytest.mark.parametrize("data", [{"said": WORD}, {"other": 1}])
def test_the_same_id_again_is_a_duplicate(parts: Parts, erased: dict[str, Any], data: Any) -> None:
    """Whatever comes under it: nothing new."""
    told = parts.event(id="e1", data=data)
    assert (told["duplicate"], told["deliveries"]) == (True, 3)
    assert parts.call("GET", EVENT)[1]["data"] is None


def test_twice_is_once_and_an_unknown_one_is_404(parts: Parts, erased: dict[str, Any]) -> None:
    """The same answer again; another tenant's event of that id isn't there."""
    assert parts.call("POST", f"{EVENT}/erase") == (200, erased)
    assert parts.call("POST", f"{EVENT}/erase?tenant=acme")[0] == 404
    assert parts.call("POST", f"{EVENT}/erase", {"really": True})[0] == 422


def tenant(parts: Parts, name: str = "acme") -> Any:
    """What is known of a tenant once its erasure has come to its end."""
    wait_until(lambda: not parts.call("GET", f"/api/v1/tenants/{name}")[1]["erasing"], 60, lambda: "still erasing")
    return parts.call("GET", f"/api/v1/tenants/{name}")[1]


def test_all_that_a_tenant_has_goes(parts: Parts) -> None:
    """Endpoints and tokens at once, events behind it; the bytes are gone from the files; a new start is possible."""
    made = parts.endpoint(tenant="acme", name="crm", url=f"https://{WORD}.example.com/", description=WORD)
    token = parts.token("acme")
    for n in range(300):
        parts.event(id=f"e{n}", tenant="acme", data={"said": WORD})
    parts.event(id="e1", tenant="beta", data={"kept": 1})
    seq, lane = parts.flights.owed[0]
    parts.attempt(seq, lane, dead(), outcome="bad_status", status=410, body=WORD.encode())
    (other, *_) = parts.call("GET", "/api/v1/deliveries?event=e0&tenant=acme")[1]["data"]
    assert parts.call("GET", "/api/v1/tenants/acme")[1] == {
        "tenant": "acme", "endpoints": 1, "tokens": 1, "events": 300, "owed": 299, "erasing": False, "left": 0,
    }  # fmt: skip
    status, told = parts.call("POST", "/api/v1/tenants/acme/erase")
    assert (status, told) == (202, {"tenant": "acme", "events": 300, "endpoints": 1, "erasing": True})
    assert parts.tcp("GET", "/api/v1/events", token=token)[0] == 401
    assert parts.call("GET", f"/api/v1/endpoints/{made['id']}")[0] == 404
    assert parts.call("POST", f"/api/v1/deliveries/{other['id']}/retry")[1]["code"] == "erased"
    assert tenant(parts) == {
        "tenant": "acme", "endpoints": 0, "tokens": 0, "events": 300, "owed": 0, "erasing": False, "left": 0,
    }  # fmt: skip
    assert parts.call("GET", "/api/v1/events/e7?tenant=acme")[1]["erased_at"]
    assert parts.call("GET", "/api/v1/events/e1?tenant=beta")[1]["data"] == {"kept": 1}
    assert parts.call("GET", "/api/v1/deliveries?status=pending")[1]["data"] == []
    shown = parts.call("GET", f"/api/v1/deliveries/{other['id']}")[1]
    assert (shown["endpoint_id"], shown["status"]) == (made["id"], "dead")
    assert "deleted since" in parts.call("GET", f"/api/v1/why/{other['id']}")[1]["timeline"][0]["text"]
    wait_until(lambda: WORD.encode() not in files(parts.folder), 60, lambda: "it is still in the files")
    again = parts.endpoint(tenant="acme", name="crm")
    assert parts.event(id="new", tenant="acme")["deliveries"] == 1
    assert again["id"] != made["id"]


def files(folder: Path) -> bytes:
    """Every byte of the state directory."""
    return b"".join(path.read_bytes() for path in (folder / "state").iterdir() if path.is_file())


def test_a_tenant_that_nobody_knows_is_404(parts: Parts) -> None:
    """To look at and to erase."""
    assert parts.call("GET", "/api/v1/tenants/nobody")[0] == 404
    assert parts.call("POST", "/api/v1/tenants/nobody/erase")[0] == 404


def test_a_declared_endpoint_is_in_the_way(parts: Parts) -> None:
    """It would come back: 409 that names it, and nothing is erased."""
    body = {"url": "https://a.example.com/", "tenant": "acme", "name": "crm"}
    parts.run(parts.endpoints.create(body, declared=True))
    parts.event(id="e1", tenant="acme")
    status, told = parts.call("POST", "/api/v1/tenants/acme/erase")
    assert (status, told["code"]) == (409, "conflict")
    assert "crm" in told["detail"]
    assert parts.call("GET", "/api/v1/events/e1?tenant=acme")[1]["erased_at"] is None
