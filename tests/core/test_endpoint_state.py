"""core.endpoint_state: the table, the stops over the proof, the refusals."""

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ringback.core.endpoint_state import (
    TABLE,
    EndpointEvent,
    Move,
    Refused,
    apply,
    delivers,
    starting_status,
)
from ringback.core.model import Endpoint, EndpointStatus

PENDING, ACTIVE, PAUSED = EndpointStatus.PENDING, EndpointStatus.ACTIVE, EndpointStatus.PAUSED
FAILED, DISABLED = EndpointStatus.FAILED, EndpointStatus.DISABLED
E = EndpointEvent
LATER_MS = 2_000


def endpoint(status=ACTIVE, **more):
    """An endpoint made at 1,000 ms."""
    fields = {"lane": 1, "id": "e", "tenant": "default", "url": "https://a.example/", "dialect": "standard"}
    return Endpoint(**fields, created_at_ms=1_000, updated_at_ms=1_000, status=status, **more)


def walk(start, *events):
    """The endpoint after the events, each either an event or (event, reason)."""
    current = start
    for step in events:
        event, reason = step if isinstance(step, tuple) else (step, None)
        current = apply(current, event, now_ms=LATER_MS, reason=reason)
        assert isinstance(current, Endpoint), current
    return current


def shape(one):
    """What a transition may change, but for the time."""
    return (one.status, one.below, one.status_reason)


def test_the_table_is_total():
    """Every event has an entry in every status."""
    assert {status: set(row) for status, row in TABLE.items()} == {status: set(E) for status in EndpointStatus}


def test_only_active_delivers():
    """Attempts start in no other status."""
    assert [status for status in EndpointStatus if delivers(status)] == [ACTIVE]


@pytest.mark.parametrize(("kind", "status"), [("none", ACTIVE), ("assumed", ACTIVE), ("zoom", PENDING), ("", PENDING)])
def test_start(kind, status):
    """An endpoint starts active only if its handshake asks nothing; an unknown kind has to be proved."""
    assert starting_status(kind) is status


def test_pause_and_resume_return_to_active():
    """A pause remembers active and a resume finds it."""
    paused = walk(endpoint(), E.PAUSE)
    assert shape(paused) == (PAUSED, ACTIVE, None)
    assert paused.updated_at_ms == LATER_MS
    assert shape(walk(paused, E.RESUME)) == (ACTIVE, None, None)


@pytest.mark.parametrize("status", [PENDING, FAILED])
def test_pause_and_resume_dont_prove(status):
    """What was not proved before the pause isn't after it."""
    before = endpoint(status, handshake="zoom", status_reason="no echo")
    assert shape(walk(before, E.PAUSE, E.RESUME)) == (status, None, "no echo")


@pytest.mark.parametrize(
    ("status", "event"),
    [(PAUSED, E.PAUSE), (ACTIVE, E.RESUME), (DISABLED, E.DISABLE), (ACTIVE, E.CHALLENGE_PASSED)],
)
def test_what_already_holds_changes_nothing(status, event):
    """An idempotent repeat answers the very same object, so nothing is written."""
    one = endpoint(status, below=ACTIVE if status in (PAUSED, DISABLED) else None)
    assert apply(one, event, now_ms=LATER_MS, reason="again") is one


@pytest.mark.parametrize(
    ("status", "event", "words"),
    [
        (PENDING, E.RESUME, "not proved yet"),
        (FAILED, E.RESUME, "failed its proof"),
        (DISABLED, E.PAUSE, "resume it first"),
    ],
)
def test_refusals_say_what_to_do(status, event, words):
    """A refused event is a named conflict and says what would help."""
    refused = apply(endpoint(status), event, now_ms=LATER_MS)
    assert isinstance(refused, Refused)
    assert refused.code == "conflict"
    assert words in refused.message


def test_disable_holds_with_its_reason_and_resume_leaves_it():
    """Disabled by policy shows why; a resume by hand leads back to active and drops the words."""
    disabled = walk(endpoint(), (E.DISABLE, "410 Gone"))
    assert shape(disabled) == (DISABLED, ACTIVE, "410 Gone")
    assert shape(walk(disabled, E.RESUME)) == (ACTIVE, None, None)


def test_disable_wins_over_pause_and_one_resume_lifts_both():
    """An attempt in flight at the pause may answer 410: the reason must show, and one resume goes below both stops."""
    both = walk(endpoint(), E.PAUSE, (E.DISABLE, "410 Gone"))
    assert shape(both) == (DISABLED, ACTIVE, "410 Gone")
    assert walk(both, E.RESUME).status is ACTIVE


def test_disable_doesnt_prove():
    """Disabling and resuming an unproved endpoint leaves it unproved."""
    assert walk(endpoint(PENDING, handshake="zoom"), (E.DISABLE, "undeclared"), E.RESUME).status is PENDING
    assert walk(endpoint(PENDING, handshake="zoom"), E.PAUSE, (E.DISABLE, "x"), E.RESUME).status is PENDING


def test_a_stop_that_forgot_what_it_covers_is_never_taken_as_proved():
    """A row without ``below`` begins anew by its handshake."""
    assert walk(endpoint(PAUSED, handshake="zoom"), E.RESUME).status is PENDING
    assert walk(endpoint(DISABLED, handshake="none"), E.RESUME).status is ACTIVE


@pytest.mark.parametrize("status", [PENDING, FAILED])
def test_a_passed_challenge_activates(status):
    """Proof opens both unproved states and clears the words."""
    assert shape(walk(endpoint(status, status_reason="no echo"), E.CHALLENGE_PASSED)) == (ACTIVE, None, None)


def test_a_failed_challenge_fails_with_its_reason():
    """Pending and active (a renewal) become failed; failed again shows the newer reason."""
    failed = walk(endpoint(PENDING), (E.CHALLENGE_FAILED, "no echo"))
    assert shape(failed) == (FAILED, None, "no echo")
    assert shape(walk(failed, (E.CHALLENGE_FAILED, "timeout"))) == (FAILED, None, "timeout")
    assert apply(failed, E.CHALLENGE_FAILED, now_ms=LATER_MS, reason="no echo") is failed
    assert shape(walk(endpoint(), (E.CHALLENGE_FAILED, "timeout"))) == (FAILED, None, "timeout")


def test_a_challenge_by_hand_leaves_failed():
    """Failed waits for the proof again, so that a restart resumes it; what is proved stays so until the answer."""
    failed = endpoint(FAILED, handshake="zoom", status_reason="no echo")
    assert shape(walk(failed, E.CHALLENGED)) == (PENDING, None, None)
    assert walk(endpoint(), E.CHALLENGED).status is ACTIVE
    beneath = walk(failed, E.PAUSE, E.CHALLENGED)
    assert (beneath.status, beneath.below) == (PAUSED, PENDING)


@pytest.mark.parametrize("status", [PENDING, ACTIVE, FAILED])
def test_a_new_url_must_be_proved(status):
    """With a handshake a new url is pending again; without one it is active at once."""
    assert walk(endpoint(status, handshake="zoom", status_reason="x"), E.PROOF_VOID).status is PENDING
    assert walk(endpoint(status, handshake="none", status_reason="x"), E.PROOF_VOID).status is ACTIVE


@pytest.mark.parametrize("stop", [E.PAUSE, E.DISABLE])
def test_proof_goes_on_beneath_a_stop(stop):
    """Challenges and new urls change what a stop covers, never the stop."""
    stopped = walk(endpoint(PENDING, handshake="zoom"), stop)
    proved = walk(stopped, E.CHALLENGE_PASSED)
    assert (proved.status, proved.below) == (stopped.status, ACTIVE)
    moved = walk(proved, E.PROOF_VOID)
    assert (moved.status, moved.below) == (stopped.status, PENDING)
    failed = walk(moved, (E.CHALLENGE_FAILED, "no echo"))
    assert (failed.status, failed.below) == (stopped.status, FAILED)
    assert walk(failed, E.RESUME).status is FAILED


def test_words_beneath_a_stop():
    """A pause shows the covered failure's words and loses them with it; a disable keeps its own."""
    paused = walk(endpoint(PENDING, handshake="zoom"), E.PAUSE, (E.CHALLENGE_FAILED, "no echo"))
    assert paused.status_reason == "no echo"
    assert walk(paused, E.CHALLENGE_PASSED).status_reason is None
    disabled = walk(endpoint(PENDING, handshake="zoom"), (E.DISABLE, "undeclared"), (E.CHALLENGE_FAILED, "no echo"))
    assert disabled.status_reason == "undeclared"


def test_nothing_but_the_status_changes():
    """A transition leaves every other field alone."""
    one = endpoint(name="a", secrets=(), headers={"x": "y"}, concurrency=3)
    back = walk(one, E.PAUSE, E.RESUME)
    assert back == msgspec.structs.replace(one, updated_at_ms=LATER_MS)


class EndpointMachine(RuleBasedStateMachine):
    """An endpoint with a handshake against a model of two independent facts: its proof, and what stops it."""

    @initialize()
    def made(self):
        """A new endpoint of a dialect with a handshake."""
        self.endpoint = endpoint(PENDING, handshake="zoom")
        self.proof = PENDING
        self.stop = None

    @rule(event=st.sampled_from(E), reason=st.sampled_from([None, "a", "b"]))
    def something_happens(self, event, reason):
        """Any event at any time."""
        result = apply(self.endpoint, event, now_ms=LATER_MS, reason=reason)
        if isinstance(result, Refused):
            assert event in (E.PAUSE, E.RESUME)
            return
        self.endpoint = result
        self.model(event)

    def model(self, event):
        """The naive version of the rules."""
        if event is E.PAUSE:
            self.stop = self.stop or PAUSED
        elif event is E.DISABLE:
            self.stop = DISABLED
        elif event is E.RESUME:
            self.stop = None
        elif event is E.PROOF_VOID:
            self.proof = PENDING
        elif event is E.CHALLENGE_PASSED:
            self.proof = ACTIVE
        elif event is E.CHALLENGE_FAILED:
            self.proof = FAILED
        elif self.proof is FAILED:
            self.proof = PENDING

    @invariant()
    def the_facts_agree(self):
        """It delivers exactly when it is proved and nothing stops it; a stop always knows what it covers."""
        assert self.endpoint.status is (self.stop or self.proof)
        assert self.endpoint.below is (self.proof if self.stop else None)
        assert delivers(self.endpoint.status) == (self.stop is None and self.proof is ACTIVE)


TestEndpointMachine = EndpointMachine.TestCase
TestEndpointMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_moves_are_all_used():
    """No kind of table entry is dead code."""
    entries = [entry for row in TABLE.values() for entry in row.values()]
    assert {entry for entry in entries if isinstance(entry, Move)} == set(Move)
