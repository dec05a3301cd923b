"""Ping, test, retry and rotate-secret, by the API."""

import json

import msgspec
import pytest
from tests.api.parts import Parts
from tests.harness.waiting import wait_until

from ringback import dialects
from ringback.core.lifecycle import retry_at
from ringback.core.model import EndpointStatus, Proof
from ringback.service.rotation import MAX_GRACE_S, MAX_LIVE

LATER_MS = 4_000_000_000_000


@pytest.mark.parametrize("kind", ["ping", "test"])
def test_a_probe_is_an_ordinary_delivery_to_that_endpoint_alone(parts: Parts, kind: str) -> None:
    """Whatever the filter says; nobody else gets it, not even who wants everything."""
    parts.endpoint()
    made = parts.endpoint(events=["stt.**"], tenant="acme")
    parts.endpoint(tenant="acme")
    status, told = parts.call("POST", f"/api/v1/endpoints/{made['id']}/{kind}")
    assert (status, told["endpoint_id"]) == (202, made["id"])
    shown = parts.call("GET", f"/api/v1/deliveries/{told['delivery_id']}")[1]
    assert (shown["type"], shown["tenant"], shown["endpoint_id"]) == ("ringback.test", "acme", made["id"])
    event = parts.call("GET", f"/api/v1/events/{told['event_id']}?tenant=acme")[1]
    assert event["data"] == {"kind": kind, "endpoint_id": made["id"], "name": None}
    assert event["deliveries"] == {"pending": 1}
    lane = parts.endpoints.get(made["id"]).lane
    assert [owed for _, owed in parts.flights.owed] == [lane], "handed to the dispatcher like any other"


@pytest.mark.parametrize("name", dialects.names())
def test_every_dialect_can_be_pinged(parts: Parts, name: str) -> None:
    """Each has a form for ringback.test, and encodes it."""
    extra = {"secret": "a secret of theirs"} if name != "standard" else {}
    made = parts.endpoint(dialect=name, handshake="none", **extra)
    status, told = parts.call("POST", f"/api/v1/endpoints/{made['id']}/ping")
    assert status == 202, told
    seq, lane = parts.flights.owed[-1]
    parts.attempt(seq, lane)
    request = parts.call("GET", f"/api/v1/deliveries/{told['id']}")[1]["attempts"][0]["request"]
    assert json.loads(request["body"]), "rebuilt as the dialect encodes it"


def test_producers_may_still_not_emit_it(parts: Parts) -> None:
    """The daemon's own types are its own."""
    assert parts.call("POST", "/api/v1/events", {"type": "ringback.test", "data": {}})[0] == 422


def test_what_waits_for_its_next_try_is_sent_now(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """In slices, and the answer says whether to ask again; other endpoints' retries and what was never tried stay."""
    monkeypatch.setattr("ringback.api.endpoint_verbs.RETRY_ROWS", 2)
    made, other = parts.endpoint(), parts.endpoint()
    for _ in range(3):
        parts.event()
    for seq, lane in parts.flights.owed:
        parts.attempt(seq, lane, retry_at(LATER_MS), outcome="bad_status", status=503)
    parts.event(deliver_after="2096-10-02T07:06:40Z")
    parts.flights.kicked.clear()
    path = f"/api/v1/endpoints/{made['id']}/retry"
    (status, first), other_list = parts.call("POST", path), parts.call("GET", "/api/v1/deliveries?limit=1")[1]
    assert (status, first) == (
        202,
        {"id": made["id"], "deliveries": 2, "more": True} | {"next_cursor": first["next_cursor"]},
    )
    told = [parts.call("POST", f"{path}?cursor={first['next_cursor']}")]
    told += [parts.call("POST", f"{path}?cursor={told[0][1]['next_cursor']}"), parts.call("POST", path)]
    assert [(one["deliveries"], one["more"]) for _, one in told] == [(1, True), (0, False), (0, False)]
    assert parts.call("POST", f"{path}?cursor={other_list['next_cursor']}")[1]["code"] == "invalid_query"
    assert parts.flights.kicked == [parts.endpoints.get(made["id"]).lane] * 2, "told only when there is something"
    rows = parts.call("GET", "/api/v1/deliveries")[1]["data"]
    waiting = [row for row in rows if row["next_attempt_at"] is not None]
    assert [row["endpoint_id"] for row in waiting if row["attempt_count"]] == [other["id"]] * 3
    assert len(waiting) == 3 + 2, "the wish of the last event stands at both"


def test_what_is_held_is_not_retried(parts: Parts) -> None:
    """409, with what lets it go."""
    made = parts.endpoint()
    parts.call("POST", f"/api/v1/endpoints/{made['id']}/pause")
    status, told = parts.call("POST", f"/api/v1/endpoints/{made['id']}/retry")
    assert (status, told["detail"]) == (409, "the endpoint is paused by hand; resume lets it go")


def test_a_new_secret_signs_beside_the_old_one(parts: Parts) -> None:
    """The new one is first and in full in the answer; the old one lives for a day."""
    made = parts.endpoint()
    status, told = parts.call("POST", f"/api/v1/endpoints/{made['id']}/rotate-secret")
    assert status == 202
    assert told["secret"].startswith("whsec_")
    assert told["secret"] != made["secret"]
    assert told["revision"] == made["revision"] + 1
    new, old = parts.endpoints.get(made["id"]).secrets
    assert (new.value, new.expires_at_ms) == (told["secret"], None)
    assert (old.value, old.expires_at_ms) == (made["secret"], new.created_at_ms + 86_400_000)
    shown = parts.call("GET", f"/api/v1/endpoints/{made['id']}")[1]
    assert told["secret"] not in str(shown)
    assert made["secret"] not in str(shown)
    assert [row["secret"][-4:] for row in shown["previous_secrets"]] == [made["secret"][-4:]]


@pytest.mark.parametrize(("kind", "status"), [("zoom", "pending"), ("azure-speech", "pending"), ("graph", "active")])
def test_a_new_secret_is_proved_where_the_handshake_is_made_with_it(parts: Parts, kind: str, status: str) -> None:
    """Nothing signed with it goes to a receiver that may not know it: what is owed is held until it has answered."""
    made = parts.endpoint(handshake=kind)
    where = f"/api/v1/endpoints/{made['id']}"  # the network of these tests echoes nothing: it fails
    wait_until(lambda: parts.call("GET", where)[1]["status"] != "pending", 60, lambda: parts.call("GET", where))
    old = parts.endpoints.get(made["id"])
    proved = msgspec.structs.replace(old, status=EndpointStatus.ACTIVE, proof=Proof(proved_at_ms=1))
    parts.endpoints.install(proved)
    assert parts.call("POST", f"/api/v1/endpoints/{made['id']}/rotate-secret")[1]["status"] == status
    assert (parts.endpoints.get(made["id"]).proof is None) == (status == "pending")


def test_without_grace_the_old_secret_is_gone_at_once(parts: Parts) -> None:
    """A secret that leaked must not sign once more."""
    made = parts.endpoint()
    given = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    status, told = parts.call("POST", f"/api/v1/endpoints/{made['id']}/rotate-secret", {"grace_s": 0, "secret": given})
    assert (status, told["secret"], told["previous_secrets"]) == (202, given, [])


def test_old_secrets_never_live_longer_than_they_were_told(parts: Parts) -> None:
    """A later rotation with more grace doesn't prolong them; one with less shortens them."""
    made = parts.endpoint()
    path = f"/api/v1/endpoints/{made['id']}/rotate-secret"
    parts.call("POST", path, {"grace_s": 60})
    first = parts.endpoints.get(made["id"]).secrets[1].expires_at_ms
    parts.call("POST", path, {"grace_s": 3600})
    assert parts.endpoints.get(made["id"]).secrets[2].expires_at_ms == first
    parts.call("POST", path, {"grace_s": 1})
    ends = [secret.expires_at_ms for secret in parts.endpoints.get(made["id"]).secrets[1:]]
    assert max(ends) < first


def test_secrets_that_live_at_once_are_bounded(parts: Parts) -> None:
    """Each is a signature in every request."""
    path = f"/api/v1/endpoints/{parts.endpoint()['id']}/rotate-secret"
    statuses = [parts.call("POST", path)[0] for _ in range(MAX_LIVE)]
    assert statuses == [202] * (MAX_LIVE - 1) + [409]
    assert parts.call("POST", path, {"grace_s": 0})[0] == 202


def test_what_has_expired_is_dropped_at_its_time(parts: Parts) -> None:
    """The clock's turn says when the next one ends, and takes it out of the table too; the revision stays."""
    made = parts.endpoint()
    rotation = parts.deps.rotation
    parts.endpoints.on_change(rotation.changed)
    told = parts.call("POST", f"/api/v1/endpoints/{made['id']}/rotate-secret", {"grace_s": 60})[1]
    end_ms = parts.endpoints.get(made["id"]).secrets[1].expires_at_ms
    assert parts.run(rotation.turn(end_ms - 1000)) == 1.0
    assert len(parts.endpoints.get(made["id"]).secrets) == 2
    assert parts.run(rotation.turn(end_ms)) is None
    now = parts.endpoints.get(made["id"])
    assert [secret.value for secret in now.secrets] == [told["secret"]]
    assert now.revision == told["revision"]
    assert parts.run(parts.deps.revisions.by_id(made["id"])).secrets == now.secrets


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"grace_s": -1}, ["grace_s"]),
        ({"grace_s": MAX_GRACE_S + 1}, ["grace_s"]),
        ({"grace_s": "60"}, ["grace_s"]),
        ({"grace_s": True}, ["grace_s"]),
        ({"secret": ""}, ["secret"]),
        ({"secret": "whsec_short"}, ["secret"]),
        ({"secret": 5}, ["secret"]),
        ({"grace": 1}, ["grace"]),
        ([], []),
    ],
)
def test_a_rotation_that_makes_no_sense_changes_nothing(parts: Parts, body: object, loc: list[str]) -> None:
    """Each problem with its place."""
    made = parts.endpoint()
    status, told = parts.call("POST", f"/api/v1/endpoints/{made['id']}/rotate-secret", body)
    assert (status, told["errors"][0]["loc"]) == (422, loc)
    if loc == ["grace_s"]:
        assert told["errors"][0]["msg"] == "must be 0 to 2592000 seconds"
    assert len(parts.endpoints.get(made["id"]).secrets) == 1


def test_the_same_secret_is_no_rotation(parts: Parts) -> None:
    """It would be signed with twice."""
    made = parts.endpoint()
    path = f"/api/v1/endpoints/{made['id']}/rotate-secret"
    assert parts.call("POST", path, {"secret": made["secret"]})[0] == 422
