"""The words: for every way a delivery can stand, the reason and the rule that a person needs."""

import msgspec
import pytest

from ringback.core.model import (
    AttemptInfo,
    DeliveryState,
    Endpoint,
    EndpointStatus,
    OutcomeKind,
    Peer,
    RetryPolicy,
)
from ringback.service import why
from ringback.service.lane_facts import LaneFacts
from ringback.service.why import AHEAD_CAP, DeliveryFacts
from ringback.store.views import AttemptView, DeliveryRow

NOW = 1_800_000_000_000
POLICY = RetryPolicy(delays_s=(5.0, 300.0), jitter=0.2)
URL = "https://a.example.com/hook?key=PLANTED"
ENDPOINT = Endpoint(1, "e-1", "acme", URL, "standard", NOW - 9, NOW - 5, name="crm")
HEALTHY = LaneFacts(allowed=8, cap=8, proved=True)


def row(state=DeliveryState.PENDING, *, attempts=0, due_at_ms=0, run=1, **last):
    """A delivery as the table has it."""
    due = due_at_ms if state is DeliveryState.PENDING else None
    last = {"started_at_ms": None, "elapsed_ms": None, "status": None, "outcome": None, "error": None} | last
    return DeliveryRow(7, 1, state, run, attempts, due, *last.values(), "ev-1", "acme", "a.b", NOW - 10, NOW - 10)


def attempt(n=1, *, run=1, outcome="bad_status", status=500, error=None, body=b"", started_at_ms=NOW - 1000):
    """One that ended."""
    info = msgspec.msgpack.encode(AttemptInfo(1, 1, NOW, b"", (), body))
    return AttemptView(n, run, started_at_ms, 12, outcome, status, error, info)


def facts(row_=None, *attempts, status="pending", endpoint=ENDPOINT, **more):
    """What is known of it."""
    more = {"policy": POLICY, "lane": HEALTHY} | more
    return DeliveryFacts(row_ or row(), attempts, status, "endpoint crm", NOW, endpoint, **more)


@pytest.mark.parametrize(
    ("peer", "words"),
    [
        (Peer("socket", 1000, 100, 42), "accepted over the events socket, from uid 1000, pid 42"),
        (Peer("spool", 33, 33), "accepted from the spool directory, from uid 33"),
        (Peer("api"), "accepted by the HTTP API"),
        (None, "accepted"),
    ],
)
def test_who_handed_it_in(peer, words):
    """By which way, and the kernel's word on who."""
    assert why.accepted(peer) == words


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (EndpointStatus.PAUSED, "paused by hand"),
        (EndpointStatus.PENDING, "has not proved itself yet (handshake zoom)"),
        (EndpointStatus.FAILED, "failed its handshake (the words)"),
        (EndpointStatus.DISABLED, "disabled (the words)"),
    ],
)
def test_held(status, words):
    """Each status that holds has its reason, and nobody can say when it goes on."""
    endpoint = msgspec.structs.replace(ENDPOINT, status=status, status_reason="the words", handshake="zoom")
    told = facts(status="held", endpoint=endpoint)
    assert words in why.waits(told)[0]
    assert why.next_step(told).at_ms is None


def test_a_pause_over_a_failed_proof_says_both():
    """Else a resume would seem to be enough."""
    endpoint = msgspec.structs.replace(
        ENDPOINT, status=EndpointStatus.PAUSED, below=EndpointStatus.FAILED, status_reason="timeout"
    )
    assert "beneath the pause it is failed (timeout)" in why.held(endpoint)


@pytest.mark.parametrize(
    ("lane", "words"),
    [
        (LaneFacts(allowed=2, in_flight=2, cap=8), "2 of the 2 requests it may have in flight"),
        (LaneFacts(allowed=8, failures=4, failing=True), "its latest 4 attempts failed"),
        (LaneFacts(allowed=8, failing=True), "silent with a request out"),
        (LaneFacts(allowed=8, rate_wait_s=2.0), "rate limit lets the next request start at 2027-01-15T08:00:02.000Z"),
        (LaneFacts(allowed=8, slots_full=True), "delivery.concurrency"),
    ],
)
def test_what_a_lane_waits_for(lane, words):
    """Each brake of the schedule has its words."""
    assert words in why.waits(facts(lane=lane))[0]


def test_what_is_ahead_is_counted():
    """Exactly while that is cheap."""
    assert why.waits(facts(ahead=1)) == ["1 delivery of the same endpoint is ahead of it"]
    assert why.waits(facts(ahead=3)) == ["3 deliveries of the same endpoint are ahead of it"]
    assert why.waits(facts(ahead=AHEAD_CAP))[0].startswith("more than 1000")
    assert why.waits(facts()) == ["is about to be sent: nothing holds it"]


def test_the_next_attempt_and_its_rule():
    """The schedule's gap with its jitter, told apart from a receiver's Retry-After."""
    failed = attempt(started_at_ms=NOW - 1012)
    soon = why.next_step(facts(row(attempts=1, due_at_ms=NOW + 3800), failed))
    assert soon.at_ms == NOW + 3800
    assert soon.rule == "attempt 2 of 3: the schedule says 5 s after failure 1, give or take 20%"
    late = why.next_step(facts(row(attempts=1, due_at_ms=NOW + 60_000), failed))
    assert late.rule == "attempt 2 of 3: the receiver asked for it with Retry-After"


def test_interruptions_use_up_nothing():
    """The second failure is the second even if a stop came between."""
    made = (attempt(1), attempt(2, outcome="interrupted", status=None), attempt(3))
    told = why.next_step(facts(row(attempts=3, due_at_ms=NOW + 300_000), *made))
    assert told.rule.startswith("attempt 3 of 3: the schedule says 5 min")


def test_first_attempts_have_rules_too():
    """At once, at deliver_after, or because somebody asked for it."""
    assert why.next_step(facts()).rule == "a first attempt is due at once"
    assert why.next_step(facts(row(due_at_ms=NOW + 9))).rule == "the event's deliver_after"
    assert why.next_step(facts(row(run=2, due_at_ms=NOW))).rule == "sent again by hand: due at once"
    assert why.next_step(facts(row(), status="in_flight")).rule == "now"


def test_what_a_hand_hastened_says_so():
    """A retry that is due at once was asked for, whatever its schedule said."""
    step = why.next_step(facts(row(attempts=1), attempt()))
    assert (step.at_ms, step.rule) == (NOW, "attempt 2: due now, asked for by hand")


def test_a_rate_limit_puts_the_next_attempt_off():
    """What is due now goes no sooner than the limit lets it; what is due later than that, when it is due."""
    lane = msgspec.structs.replace(HEALTHY, rate_wait_s=60.0)
    step = why.next_step(facts(lane=lane))
    assert step.at_ms == NOW + 60_000
    assert step.rule == "not before its endpoint's rate limit lets it go; a first attempt is due at once"
    assert why.next_step(facts(row(due_at_ms=NOW + 90_000), lane=lane)).at_ms == NOW + 90_000


@pytest.mark.parametrize(
    ("last", "attempts", "words"),
    [
        ({"status": 410, "outcome": "bad_status"}, 1, "answered 410 (gone)"),
        ({"outcome": OutcomeKind.EGRESS_DENIED.value}, 1, "egress rules forbid"),
        ({"outcome": "data_corrupt"}, 1, "damaged"),
        ({"status": 500, "outcome": "bad_status"}, 3, "all 3 attempts of the schedule failed, the last with 500"),
        ({"status": 400, "outcome": "bad_status"}, 1, "refused it for good with 400"),
    ],
)
def test_why_it_was_given_up(last, attempts, words):
    """Each way to die, and what sends it again; there is no next attempt."""
    made = [attempt(n + 1) for n in range(attempts)]
    told = facts(row(DeliveryState.DEAD, attempts=attempts, **last), *made, status="dead")
    assert words in why.delivery_summary(told)
    assert "delivery retry" in why.delivery_summary(told)
    assert why.next_step(told) is None


def test_every_final_state_has_its_sentence():
    """No state is left without words."""
    for state in DeliveryState:
        assert why.delivery_summary(facts(row(state), status=state.name.lower()))


def test_the_timeline_tells_each_attempt():
    """The receiver's answer, its words cut short and made printable; runs by hand are told apart."""
    made = (
        attempt(1, body=b"no \x1b[31m" + b"x" * 999),
        attempt(2, outcome="timeout", status=None, error="no answer within 30 s"),
        attempt(3, run=2, outcome="delivered", status=204),
    )
    texts = [line.text for line in why.delivery_timeline(facts(row(attempts=3, run=2), *made))]
    assert texts[0] == "accepted, as a.b of tenant acme; goes to endpoint crm"
    assert texts[1].startswith("attempt 1: the receiver answered 500 after 12 ms: “no �[31mxxx")
    assert len(texts[1]) < 250
    assert texts[2] == "attempt 2: no answer (timeout) after 12 ms: no answer within 30 s"
    assert texts[3] == "sent again by hand, with a fresh schedule"
    assert texts[4] == "attempt 3: the receiver answered 204 after 12 ms"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"accepted_at_ms": NOW - 100}, "made later"),
        ({"wanted": False}, "does not match a.b"),
        ({"unsaid": "the dialect deepva can't express the type a.b"}, "can't express"),
        ({}, "changed since"),
    ],
)
def test_why_an_endpoint_did_not_get_it(given, words):
    """Made later, filtered, not sayable, or changed: in that order."""
    known = {"type_": "a.b", "accepted_at_ms": NOW, "wanted": True, "unsaid": None} | given
    assert words in why.not_matched(ENDPOINT, **known)


def test_an_endpoint_in_words():
    """What it is owed, its making and its latest deliveries in order of time; its URL without the query."""
    assert why.endpoint_summary(ENDPOINT, 0, capped=False) == "active; it is owed nothing"
    assert why.endpoint_summary(ENDPOINT, 100_000, capped=True).endswith("owed more than 100000 deliveries")
    failed = row(attempts=1, started_at_ms=NOW, status=500, outcome="bad_status")
    lines = why.endpoint_timeline(ENDPOINT, [failed])
    assert [line.at_ms for line in lines] == [NOW - 9, NOW]
    assert "event ev-1 (a.b): attempt 1 ended with 500; it is tried again" in lines[1].text
    assert "PLANTED" not in lines[0].text


@pytest.mark.parametrize(
    ("revision", "words"), [(1, "made for https://"), (2, "made, changed since; now for https://")]
)
def test_a_url_given_later_is_not_said_to_be_the_first(revision, words):
    """An endpoint whose URL may have been changed wasn't made for the one it has now."""
    (made,) = why.endpoint_timeline(msgspec.structs.replace(ENDPOINT, revision=revision), [])
    assert made.text.startswith(words)
