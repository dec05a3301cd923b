"""``/api/v1/why``: which thing an id is, what is gathered for it, and for whom."""

import json

import msgspec
import pytest
from tests.api.parts import Parts
from tests.harness.waiting import wait_until

from ringback.core.lifecycle import retry_at, succeeded
from ringback.core.model import Outcome, OutcomeKind
from ringback.core.times import rfc3339
from ringback.service.lane_facts import LaneFacts

NOBODYS = "019a9c1e-7d0f-7c52-a4b6-0b7f1f0c3d21"


def texts(told):
    """The timeline's words."""
    return [line["text"] for line in told["timeline"]]


def test_a_delivery(parts: Parts) -> None:
    """Who emitted it, the attempt with the receiver's words, and when the next one is by which rule."""
    endpoint = parts.endpoint(name="crm", retry={"delays_s": [600], "jitter": 0})
    parts.event(id="e1", type="a.b")
    seq, lane = parts.flights.owed[-1]
    due = parts.deps.clock.now_ms() + 600_000
    started = {"started_at_ms": due - 600_012, "elapsed_ms": 12}
    parts.attempt(seq, lane, retry_at(due), outcome="bad_status", status=503, body=b"busy now", **started)
    (row,) = parts.call("GET", "/api/v1/deliveries")[1]["data"]
    status, told = parts.call("GET", f"/api/v1/why/{row['id']}")
    assert status == 200
    assert (told["kind"], told["status"], told["endpoint_id"]) == ("delivery", "pending", endpoint["id"])
    assert texts(told)[0].startswith("accepted by the HTTP API, from uid ")
    assert texts(told)[1] == "attempt 1: the receiver answered 503 after 12 ms: “busy now”"
    assert told["waits_for"][0].startswith("waits for its time")
    assert told["next"]["rule"] == "attempt 2 of 2: the schedule says 10 min after failure 1"
    parts.call("POST", f"/api/v1/endpoints/{endpoint['id']}/pause")
    told = parts.call("GET", f"/api/v1/why/{row['id']}")[1]
    assert "paused by hand" in told["waits_for"][0]
    assert told["next"]["at"] is None


def test_a_failing_endpoint_with_a_backlog_tells_its_latest_attempts(parts: Parts) -> None:
    """However many wait untried behind them; the doctor too knows what they ended with."""
    made = parts.endpoint(name="crm")
    for number in range(9):
        parts.event(id=f"e{number}")
    later = parts.deps.clock.now_ms() + 600_000
    for seq, lane in parts.flights.owed[:2]:
        parts.attempt(seq, lane, retry_at(later), outcome="bad_status", status=503)
    told = texts(parts.call("GET", f"/api/v1/why/{made['id']}")[1])
    assert sorted(text for text in told if "503" in text) == [
        f"event e{number} (a.b): attempt 1 ended with 503; it is tried again" for number in (0, 1)
    ]
    steps = parts.call("POST", "/api/v1/doctor", {"endpoint": made["id"]})[1]["steps"]
    (step,) = [step for step in steps if step["step"] == "attempts"]
    assert step["text"] == "its latest 2 deliveries ended with 503, 503 (newest first)"


def test_an_endpoint_with_something_due_is_called_before_its_earliest_retry(parts: Parts) -> None:
    """As soon as its lane lets one go, which a rate limit dates; with nothing due it is the earliest due time."""
    made = parts.endpoint(name="crm")
    parts.event(id="e1")
    now_ms = parts.deps.clock.now_ms()
    lane = LaneFacts(waiting=3, rate_wait_s=2.0, next_due_ms=now_ms + 600_000)
    parts.deps.lane_facts = lambda _lane: lane
    told = parts.call("GET", f"/api/v1/why/{made['id']}")[1]["next"]
    assert "are due" in told["rule"]
    assert told["at"] < rfc3339(now_ms + 600_000)
    lane = msgspec.structs.replace(lane, waiting=0)
    told = parts.call("GET", f"/api/v1/why/{made['id']}")[1]["next"]
    assert told == {"at": rfc3339(now_ms + 600_000), "rule": "the earliest due time among its deliveries"}


def test_what_is_ahead_of_it(parts: Parts) -> None:
    """Earlier deliveries of the same lane are counted, those of others aren't."""
    parts.endpoint(events=["a.*"])
    parts.endpoint(events=["b.*"])
    for kind in ("a.1", "b.1", "a.2", "b.2", "a.3"):
        parts.event(kind)
    newest = parts.call("GET", "/api/v1/deliveries?type=a.3")[1]["data"][0]
    told = parts.call("GET", f"/api/v1/why/{newest['id']}")[1]
    assert "2 deliveries of the same endpoint are ahead of it" in told["waits_for"]


def test_an_event(parts: Parts) -> None:
    """Where it went, and why each other endpoint of its tenant didn't get it; no word of other tenants'."""
    parts.endpoint(name="wants")
    parts.endpoint(name="filters", events=["x.**"])
    parts.endpoint(name="elsewhere", tenant="beta")
    azure = {"dialect": "azure-speech", "secret": "s", "options": {"self_template": "https://h.example.com/{job_id}"}}
    parts.endpoint(name="azure", **azure)
    parts.event(id="e1", type="a.b")
    parts.endpoint(name="late")
    seq, lane = parts.flights.owed[-1]
    parts.attempt(seq, lane, succeeded())
    told = parts.call("GET", "/api/v1/why/e1")[1]
    assert told["summary"] == "1 delivery: 1 succeeded"
    assert [(one["to"], one["status"]) for one in told["matched"]] == [("endpoint wants", "succeeded")]
    reasons = {one["name"]: one["reason"] for one in told["not_matched"]}
    assert set(reasons) == {"filters", "azure", "late"}
    assert "(x.**) does not match a.b" in reasons["filters"]
    assert "can't express" in reasons["azure"]
    assert "made later" in reasons["late"]
    assert "elsewhere" not in json.dumps(told)


def test_an_event_nobody_wanted(parts: Parts) -> None:
    """Said as such."""
    parts.event(id="e1")
    assert parts.call("GET", "/api/v1/why/e1")[1]["summary"].startswith("no endpoint wanted it")


def test_an_endpoint(parts: Parts) -> None:
    """Its status, what it is owed, its latest deliveries; the URL's query stays out."""
    endpoint = parts.endpoint(url="https://a.example.com/?token=PLANTED")
    parts.event(id="e1")
    parts.index()
    told = parts.call("GET", f"/api/v1/why/{endpoint['id']}")[1]
    assert told["summary"] == "active; it is owed 1 delivery"
    parts.attempt(*parts.flights.owed[-1], succeeded())
    told = parts.call("GET", f"/api/v1/why/{endpoint['id']}")[1]
    assert "event e1 (a.b): attempt 1 ended with 200: delivered" in texts(told)
    assert "PLANTED" not in json.dumps(told)


def test_an_endpoint_that_has_not_proved_itself(parts: Parts) -> None:
    """The latest try, the receiver's answer and the next try: here, in the endpoint itself, and in a delivery's why."""

    async def busy(_request, _timeout_s):
        return Outcome(OutcomeKind.RESPONSE, status=503)

    parts.send = busy
    endpoint = parts.endpoint(handshake="graph")
    parts.event(id="e1")
    path = f"/api/v1/endpoints/{endpoint['id']}"
    wait_until(lambda: parts.call("GET", path)[1]["challenge"]["failure"], 60, lambda: "it was not asked")
    shown = parts.call("GET", path)[1]
    assert shown["challenge"]["tries"] >= 1
    assert shown["challenge"]["failure"] == "bad_status: the receiver answered 503"
    told = parts.call("GET", f"/api/v1/why/{endpoint['id']}")[1]
    assert any("asked to prove itself: challenge " in text for text in texts(told))
    (held,) = told["waits_for"]
    assert held.startswith("it has not proved itself yet (handshake graph): challenge ")
    (row,) = parts.call("GET", "/api/v1/deliveries")[1]["data"]
    told = parts.call("GET", f"/api/v1/why/{row['id']}")[1]
    assert "its endpoint has not proved itself yet (handshake graph): challenge " in told["waits_for"][0]
    assert "the receiver answered 503" in told["waits_for"][0]


def test_a_stopped_endpoint_says_so_even_if_it_is_owed_nothing(parts: Parts) -> None:
    """Who asks why nothing arrives needs no delivery to be waiting."""
    endpoint = parts.endpoint()
    parts.call("POST", f"/api/v1/endpoints/{endpoint['id']}/pause")
    told = parts.call("GET", f"/api/v1/why/{endpoint['id']}")[1]
    assert told["waits_for"] == ["it is paused by hand; resume lets it go"]


def test_an_endpoint_that_changes_while_it_is_looked_at(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told as it is after what was tried there: not as active beside the answer that disabled it."""
    made = parts.endpoint()
    look = parts.deps.reads.latest_tried

    async def look_slowly(lane: int, limit: int) -> object:
        await parts.endpoints.disable(lane, "gone")
        return await look(lane, limit)

    monkeypatch.setattr(parts.deps.reads, "latest_tried", look_slowly)
    told = parts.call("GET", f"/api/v1/why/{made['id']}")[1]
    assert (told["status"], told["summary"]) == ("disabled", "disabled (gone); it is owed nothing")
    assert told["waits_for"] == ["it is disabled (gone); resume lets it go"]


def test_what_is_not_there(parts: Parts) -> None:
    """404, whatever the id looks like."""
    for text in (NOBODYS, "nothing", "a%20b"):
        assert parts.call("GET", f"/api/v1/why/{text}")[0] == 404


def test_another_tenants_things_are_not_there(parts: Parts) -> None:
    """Neither endpoint, nor delivery, nor event; its own are."""
    endpoint = parts.endpoint(tenant="acme")
    parts.event(id="e1", tenant="acme")
    (row,) = parts.call("GET", "/api/v1/deliveries")[1]["data"]
    beta, acme = parts.token("beta"), parts.token("acme")
    for text in (endpoint["id"], row["id"], "e1"):
        assert parts.tcp("GET", f"/api/v1/why/{text}", token=beta)[0] == 404
        assert parts.tcp("GET", f"/api/v1/why/{text}", token=acme)[0] == 200
    assert parts.tcp("GET", "/api/v1/why/e1?tenant=acme", token=beta)[0] == 403
    assert parts.tcp("GET", f"/api/v1/why/{endpoint['id']}?tenant=beta", token=acme)[0] == 403
