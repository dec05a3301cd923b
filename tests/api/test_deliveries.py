"""Deliveries: what became of each event at each endpoint, and what can be done about it."""

import pytest
from tests.api.parts import Parts

from ringback.core.ids import delivery_id, parse_delivery_id
from ringback.core.lifecycle import cancelled, dead, expired, interrupted, retry_at
from ringback.dialects import Shot, get

PATH = "/api/v1/deliveries"
LATER_MS = 4_000_000_000_000


def ids(parts: Parts, query: str = "") -> list[str]:
    """The ids of a list."""
    status, page = parts.call("GET", f"{PATH}?{query}")
    assert status == 200, page
    return [one["id"] for one in page["data"]]


def only(parts: Parts) -> tuple[str, int, int]:
    """The one delivery there is: id, event number, lane."""
    (one,) = ids(parts)
    parsed = parse_delivery_id(one)
    assert parsed is not None
    return one, parsed[1], parsed[2]


def test_a_delivery_is_listed_and_shown(parts: Parts) -> None:
    """The list has the facts of each, the single one its attempts besides."""
    endpoint = parts.endpoint()
    event = parts.event("stt.done", id="e1")
    one, seq, lane = only(parts)
    parts.attempt(seq, lane, retry_at(LATER_MS), outcome="bad_status", status=503, error="HTTP 503")
    row = parts.call("GET", PATH)[1]["data"][0]
    assert row["event_id"] == event["id"]
    assert row["endpoint_id"] == endpoint["id"]
    assert (row["type"], row["tenant"], row["status"]) == ("stt.done", "default", "pending")
    assert (row["attempt_count"], row["last_outcome"], row["last_status"]) == (1, "bad_status", 503)
    assert row["next_attempt_at"] == "2096-10-02T07:06:40.000Z"
    status, shown = parts.call("GET", f"{PATH}/{one}")
    attempts = shown.pop("attempts")
    assert shown.pop("callback") is None
    assert shown.pop("erased_at") is None
    assert (status, shown) == (200, row)
    assert [attempt["n"] for attempt in attempts] == [1]


@pytest.mark.parametrize("one", ["x", "019a9c1e-7d0f-7c52-a4b6-0b7f1f0c3d21", "0" * 36])
def test_unknown_deliveries_are_404(parts: Parts, one: str) -> None:
    """No delivery has this id, whatever is asked of it."""
    parts.endpoint()
    parts.event()
    for method, path in [("GET", ""), ("POST", "/retry"), ("POST", "/cancel")]:
        status, told = parts.call(method, f"{PATH}/{one}{path}")
        assert (status, told["code"]) == (404, "not_found")


def test_an_id_with_another_time_is_unknown(parts: Parts) -> None:
    """All of an id counts, not only the parts that find the row."""
    parts.endpoint()
    parts.event()
    _, seq, lane = only(parts)
    assert parts.call("GET", f"{PATH}/{delivery_id(5, seq, lane)}")[0] == 404


def test_statuses_are_derived_and_filtered(parts: Parts) -> None:
    """Held follows the endpoint, in_flight the dispatcher; each delivery has one status, in lists and alone."""
    active, paused, deleted = parts.endpoint(), parts.endpoint(), parts.endpoint()
    parts.event()
    parts.event()
    a1, p1, d1, a2, p2, d2 = parts.flights.owed
    parts.call("POST", f"/api/v1/endpoints/{paused['id']}/pause")
    parts.call("DELETE", f"/api/v1/endpoints/{deleted['id']}")
    parts.flights.flying = {a1, p1}
    found = {one["id"]: one["status"] for one in parts.call("GET", PATH)[1]["data"]}
    keyed = {parse_delivery_id(one)[1:]: status for one, status in found.items()}
    assert keyed == {a1: "in_flight", p1: "in_flight", d1: "cancelled", a2: "pending", p2: "held", d2: "cancelled"}
    for status in ("in_flight", "pending", "held"):
        listed = ids(parts, f"status={status}")
        assert listed == [one for one, shown in found.items() if shown == status], status
        for endpoint in (active, paused, deleted):
            wanted = [
                row["id"]
                for row in parts.call("GET", f"{PATH}?endpoint={endpoint['id']}")[1]["data"]
                if row["status"] == status
            ]
            assert ids(parts, f"status={status}&endpoint={endpoint['id']}") == wanted
    for one, status in found.items():
        assert parts.call("GET", f"{PATH}/{one}")[1]["status"] == status


@pytest.mark.parametrize("indexed", [False, True])
def test_final_statuses_are_filtered(parts: Parts, indexed: bool) -> None:
    """Each final state can be listed alone, before and after the history index was built."""
    endpoint = parts.endpoint()
    steps = {"succeeded": None, "dead": dead(), "expired": expired(), "cancelled": cancelled()}
    for step in steps:
        parts.event(f"t.{step}")
    for (seq, lane), step in zip(parts.flights.owed, steps.values(), strict=True):
        parts.attempt(seq, lane, step)
    if indexed:
        parts.index()
    for status in steps:
        for query in (f"status={status}", f"status={status}&endpoint={endpoint['id']}", f"type=t.{status}"):
            rows = parts.call("GET", f"{PATH}?{query}")[1]["data"]
            assert [(row["status"], row["type"]) for row in rows] == [(status, f"t.{status}")], query


def test_lists_filter_by_event_tenant_and_time(parts: Parts) -> None:
    """Each filter alone, and an event's deliveries in its own tenant."""
    for tenant in ("default", "acme"):
        parts.endpoint(tenant=tenant)
        parts.event(id="e1", tenant=tenant, created_at="2026-01-01T00:00:00Z")
        parts.event(id="e2", tenant=tenant, created_at="2026-01-02T00:00:00Z")
    acme2, acme1, default2, default1 = ids(parts)
    for query, wanted in [
        ("event=e1", [default1]),
        ("event=e1&tenant=acme", [acme1]),
        ("event=e9", []),
        ("tenant=acme", [acme2, acme1]),
        ("since=2026-01-02T00:00:00Z", [acme2, default2]),
        ("until=2026-01-02T00:00:00Z", [acme1, default1]),
    ]:
        assert ids(parts, query) == wanted, query


@pytest.mark.parametrize("query", ["", "status=in_flight", "status=pending", "type=a.b"])
def test_pages_show_each_delivery_once(parts: Parts, query: str) -> None:
    """Following the cursor to its end shows every delivery once, newest first."""
    for _ in range(3):
        parts.endpoint()
    for _ in range(5):
        parts.event()
    if "in_flight" in query:
        parts.flights.flying = set(parts.flights.owed)
    seen, cursor = [], ""
    while True:
        page = parts.call("GET", f"{PATH}?{query}&limit=4{cursor}")[1]
        assert len(page["data"]) <= 4
        seen += [one["id"] for one in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == sorted({*seen}, reverse=True)
    assert len(seen) == 15


@pytest.mark.parametrize("query", ["endpoint=nobody", "status=lost", "cursor=eA", "colour=red", "limit=0"])
def test_bad_queries(parts: Parts, query: str) -> None:
    """An unknown endpoint is a mistake worth telling, not an empty list."""
    assert parts.call("GET", f"{PATH}?{query}")[0] == 422


def test_a_deleted_endpoint_s_history_stays(parts: Parts) -> None:
    """Its deliveries are listed by its id, and still say whose they are."""
    endpoint = parts.endpoint()
    parts.event()
    one, seq, lane = only(parts)
    parts.attempt(seq, lane)
    parts.call("DELETE", f"/api/v1/endpoints/{endpoint['id']}")
    assert ids(parts, f"endpoint={endpoint['id']}") == [one]
    assert parts.call("GET", f"{PATH}/{one}")[1]["endpoint_id"] == endpoint["id"]


def sent_body(parts: Parts, seq: int) -> bytes:
    """What the dialect makes of the event."""
    rows = parts.run(parts.deps.reads.list_events(limit=250)).items
    row = next(row for row in rows if row.seq == seq)
    stored = parts.run(parts.deps.reads.get_event(row.tenant, row.id)).stored
    return get("standard").encode(Shot(stored.event, stored.event.type), ())


def test_an_attempt_shows_request_and_response(parts: Parts) -> None:
    """The request is rebuilt with its signature and secret headers masked; the response is text, cookies masked."""
    parts.endpoint(headers={"Authorization": "Bearer abc", "X-Plain": "p"})
    parts.event(id="e1")
    one, seq, lane = only(parts)
    parts.attempt(seq, lane, sent=sent_body(parts, seq), body=b"thanks \xff")
    (attempt,) = parts.call("GET", f"{PATH}/{one}")[1]["attempts"]
    assert (attempt["n"], attempt["outcome"], attempt["elapsed_ms"], attempt["error"]) == (1, "delivered", 12, None)
    request = attempt["request"]
    assert (request["method"], request["url"], request["rebuilt"]) == ("POST", "https://a.example.com/", True)
    assert request["body"].encode() == sent_body(parts, seq)
    assert request["headers"]["webhook-id"] == "e1"
    assert request["headers"]["webhook-timestamp"] == "1800000000"
    assert request["headers"]["webhook-signature"] == "…"
    assert (request["headers"]["Authorization"], request["headers"]["X-Plain"]) == ("…", "p")
    assert attempt["response"] == {
        "status": 200,
        "headers": {"content-type": "text/plain", "set-cookie": "…"},
        "body": "thanks \\xff",
        "truncated": False,
    }


def test_a_digest_that_no_longer_fits_is_flagged(parts: Parts) -> None:
    """If the bytes shown can't be shown to be the ones that were sent, the answer says so."""
    parts.endpoint()
    parts.event()
    one, seq, lane = only(parts)
    parts.attempt(seq, lane, sent=b"something else")
    assert parts.call("GET", f"{PATH}/{one}")[1]["attempts"][0]["request"]["rebuilt"] is False


def test_the_request_shown_is_of_the_revision_that_was_sent(parts: Parts) -> None:
    """A later change of the url must not rewrite history."""
    endpoint = parts.endpoint()
    parts.event()
    one, seq, lane = only(parts)
    parts.attempt(seq, lane, retry_at(LATER_MS))
    parts.call("PATCH", f"/api/v1/endpoints/{endpoint['id']}", {"url": "https://b.example.com/"})
    parts.attempt(seq, lane)
    attempts = parts.call("GET", f"{PATH}/{one}")[1]["attempts"]
    assert [a["request"]["url"] for a in attempts] == ["https://a.example.com/", "https://b.example.com/"]
    assert [a["n"] for a in attempts] == [1, 2]


def test_an_attempt_without_an_answer_has_no_response(parts: Parts) -> None:
    """A time-out shows what was sent, and null for what never came."""
    parts.endpoint()
    parts.event()
    one, seq, lane = only(parts)
    parts.attempt(seq, lane, interrupted(), outcome="timeout", status=None, error="no answer within 30 s")
    (attempt,) = parts.call("GET", f"{PATH}/{one}")[1]["attempts"]
    assert attempt["response"] is None
    assert attempt["request"]["method"] == "POST"
    assert attempt["error"] == "no answer within 30 s"


def test_full_bodies_are_shown_while_they_are_kept(parts: Parts) -> None:
    """A long answer is shown whole; when only its beginning is left, truncated says so."""
    parts.endpoint()
    parts.event()
    one, seq, lane = only(parts)
    long = b"x" * 9000
    for _ in range(22):
        parts.attempt(seq, lane, retry_at(LATER_MS), body=long[:4096], full=long, status=500, outcome="bad_status")
    attempts = parts.call("GET", f"{PATH}/{one}")[1]["attempts"]
    lengths = [(len(a["response"]["body"]), a["response"]["truncated"]) for a in attempts]
    assert lengths == [(4096, True)] * 2 + [(9000, False)] * 20


def test_diverted_requests_show_where_they_went(tmp_path) -> None:
    """With divert_to the request shown is the diverted one, its real url in the header."""
    with Parts(tmp_path, divert_to="https://staging.example.com/") as parts:
        parts.endpoint()
        parts.event()
        one, seq, lane = only(parts)
        parts.attempt(seq, lane)
        request = parts.call("GET", f"{PATH}/{one}")[1]["attempts"][0]["request"]
    assert request["url"] == "https://staging.example.com/"
    assert request["headers"]["x-ringback-diverted-from"] == "https://a.example.com/"


@pytest.mark.parametrize("final", [None, dead(), expired(), cancelled()])
def test_retry_reopens_what_is_final(parts: Parts, final) -> None:
    """202, pending again, its lane is told, the next attempt is number two of a second run."""
    parts.endpoint()
    parts.event()
    one, seq, lane = only(parts)
    parts.attempt(seq, lane, final)
    assert parts.call("POST", f"{PATH}/{one}/retry") == (202, {"id": one, "status": "pending"})
    assert parts.flights.kicked == [lane]
    assert parts.call("GET", f"{PATH}/{one}")[1]["status"] == "pending"
    parts.attempt(seq, lane)
    attempts = parts.call("GET", f"{PATH}/{one}")[1]["attempts"]
    assert [(a["n"], a["run"]) for a in attempts] == [(1, 1), (2, 2)]


def test_what_is_reopened_at_a_paused_endpoint_is_told_as_held(parts: Parts) -> None:
    """Nothing is sent there now, and the answer doesn't say so."""
    endpoint = parts.endpoint()
    parts.event()
    one, seq, lane = only(parts)
    parts.attempt(seq, lane, dead())
    parts.call("POST", f"/api/v1/endpoints/{endpoint['id']}/pause")
    assert parts.call("POST", f"{PATH}/{one}/retry") == (202, {"id": one, "status": "held"})
    assert parts.call("GET", f"{PATH}/{one}")[1]["status"] == "held"


def test_cancel_ends_what_is_owed(parts: Parts) -> None:
    """202, cancelled, and nothing more comes of a late report."""
    parts.endpoint()
    parts.event()
    one, _, lane = only(parts)
    assert parts.call("POST", f"{PATH}/{one}/cancel") == (202, {"id": one, "status": "cancelled"})
    assert parts.flights.kicked == [lane]
    assert parts.call("GET", f"{PATH}/{one}")[1]["status"] == "cancelled"
    assert parts.call("POST", f"{PATH}/{one}/cancel")[0] == 409
    assert parts.call("POST", f"{PATH}/{one}/retry")[0] == 202


def test_retry_and_cancel_wait_for_what_is_in_flight(parts: Parts) -> None:
    """409 while an attempt runs: it decides first. Nor can what was owed to a deleted endpoint be sent again."""
    endpoint = parts.endpoint()
    parts.event()
    one, seq, lane = only(parts)
    parts.flights.flying = {(seq, lane)}
    for verb in ("retry", "cancel"):
        status, told = parts.call("POST", f"{PATH}/{one}/{verb}")
        assert (status, told["code"]) == (409, "conflict")
    parts.flights.flying = set()
    parts.attempt(seq, lane, dead())
    parts.call("DELETE", f"/api/v1/endpoints/{endpoint['id']}")
    status, told = parts.call("POST", f"{PATH}/{one}/retry")
    assert status == 409
    assert "deleted" in told["detail"]


def test_a_retry_of_one_that_waits_makes_it_due_now(parts: Parts) -> None:
    """202; its lane is told; the same run goes on, and why knows who asked. Once more there is nothing to do."""
    parts.endpoint(retry={"delays_s": [600, 600], "jitter": 0})
    parts.event()
    one, seq, lane = only(parts)
    parts.attempt(seq, lane, retry_at(LATER_MS), outcome="bad_status", status=503)
    assert parts.call("POST", f"{PATH}/{one}/retry") == (202, {"id": one, "status": "pending"})
    assert parts.flights.kicked == [lane]
    assert not parts.flights.withheld
    told = parts.call("GET", f"/api/v1/why/{one}")[1]
    assert told["next"]["rule"] == "attempt 2: due now, asked for by hand"
    assert told["waits_for"] == ["is about to be sent: nothing holds it"]
    status, again = parts.call("POST", f"{PATH}/{one}/retry")
    assert (status, again["detail"]) == (409, "the delivery is due already: ringback why says what it waits for")
    parts.attempt(seq, lane, retry_at(LATER_MS))
    attempts = parts.call("GET", f"{PATH}/{one}")[1]["attempts"]
    assert [(a["n"], a["run"]) for a in attempts] == [(1, 1), (2, 1)]


def test_a_retry_does_not_override_a_hold_or_a_wish(parts: Parts) -> None:
    """409, with what to do or when it goes: its endpoint is paused, its event says deliver_after, it is due already."""
    endpoint = parts.endpoint()
    parts.event()
    one, seq, lane = only(parts)
    assert "due already" in parts.call("POST", f"{PATH}/{one}/retry")[1]["detail"]
    parts.attempt(seq, lane, retry_at(LATER_MS))
    parts.event(deliver_after="2096-10-02T07:06:40Z")
    wish = ids(parts)[0]
    status, told = parts.call("POST", f"{PATH}/{wish}/retry")
    assert (status, told["detail"]) == (
        409,
        "its event says deliver_after 2096-10-02T07:06:40.000Z: it is not sent before",
    )
    parts.call("POST", f"/api/v1/endpoints/{endpoint['id']}/pause")
    status, told = parts.call("POST", f"{PATH}/{one}/retry")
    assert (status, told["code"]) == (409, "conflict")
    assert told["detail"] == "the delivery is held: its endpoint is paused by hand; resume lets it go"


def test_large_requests_are_shown_within_a_budget(parts: Parts, monkeypatch) -> None:
    """However many attempts a large event had, an answer stays bounded: the newest have their requests."""
    monkeypatch.setattr("ringback.api.delivery_view.MAX_REQUEST_BYTES", 70_000)
    parts.endpoint()
    parts.event(data={"x": "y" * 30_000})
    one, seq, lane = only(parts)
    for _ in range(4):
        parts.attempt(seq, lane, retry_at(LATER_MS))
    attempts = parts.call("GET", f"{PATH}/{one}")[1]["attempts"]
    assert [a["request"] is None for a in attempts] == [True, True, False, False]
