"""The step machine: every way a handshake ends, within its bound, and what changes nothing."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.core.handshake import (
    CONSENT_WINDOW_S,
    GAPS_S,
    NO_RESOURCES_REST_S,
    RENEWAL_GAPS_S,
    AwaitConsent,
    Begin,
    Consented,
    Decline,
    Finish,
    Lapsed,
    Phase,
    Replied,
    Rest,
    Send,
    State,
    digest,
    step,
)
from ringback.core.handshake_kinds import KINDS, Challenge, Failure, Proved
from ringback.core.model import Outcome, OutcomeKind

TOKEN = "0123456789abcdef0123456789abcdef"
ECHO = TOKEN.encode()
URL = "https://a.example/hook"
NOW_MS = 1_800_000_000_000
CALLBACK = "https://us.example/api/v1/handshakes/x"


def challenge(**more):
    """A challenge to one url."""
    return Challenge(URL, TOKEN, NOW_MS, **({"secrets": ("s",)} | more))


def answer(status=200, body=ECHO, **more):
    """A complete answer."""
    return Outcome(OutcomeKind.RESPONSE, status=status, body=body, **more)


def broken(kind):
    """No answer."""
    return Outcome(kind, error="words")


def asked(kind="azure-speech", state=None, **more):
    """A handshake whose challenge is out."""
    state, action = step(state or State(kind), Begin(challenge(**more)))
    assert isinstance(action, Send)
    return state


def reason(action):
    """The name of the failure an action ends with."""
    assert isinstance(action, Finish)
    assert isinstance(action.result, Failure)
    return action.result.reason


def test_the_right_echo_passes():
    """Asked, echoed, proved: two steps."""
    state, action = step(asked(), Replied(answer(), NOW_MS))
    assert state.phase is Phase.PASSED
    assert action == Finish(Proved())
    assert state.challenge is None, "the token is used up"


@pytest.mark.parametrize(
    ("outcome", "name"),
    [
        (answer(body=b"no"), "wrong_echo"),
        (answer(body=b""), "wrong_echo"),
        (answer(body=TOKEN.upper().encode()), "wrong_echo"),
        (answer(body=b"x" * 1025), "oversized"),
        (answer(body=TOKEN.encode() + b" " * 2000, truncated=True), "oversized"),
        (answer(301), "redirected"),
        (answer(307, b""), "redirected"),
        (answer(404), "bad_status"),
        (answer(404, b"x" * 9000, truncated=True), "bad_status"),
        (answer(201), "bad_status"),
        (broken(OutcomeKind.EGRESS_DENIED), "egress_denied"),
        (broken(OutcomeKind.INTERNAL_ERROR), "internal_error"),
    ],
)
def test_what_no_second_try_would_mend_fails_at_once(outcome, name):
    """A wrong, oversized or redirected echo, a final status, a forbidden address: failed, with the name for it."""
    state, action = step(asked(), Replied(outcome, NOW_MS))
    assert state.phase is Phase.FAILED
    assert reason(action) == name


@pytest.mark.parametrize(
    ("outcome", "name"),
    [
        (answer(500), "bad_status"),
        (answer(429), "bad_status"),
        (answer(elapsed_ms=10_001), "late"),
        (answer(error="the body broke off", truncated=True), "protocol_error"),
        (broken(OutcomeKind.TIMEOUT), "late"),
        (broken(OutcomeKind.CONNECT_FAILED), "unreachable"),
        (broken(OutcomeKind.CONNECT_TIMEOUT), "unreachable"),
        (broken(OutcomeKind.DNS_FAILED), "unreachable"),
        (broken(OutcomeKind.RESET), "unreachable"),
        (broken(OutcomeKind.TLS_FAILED), "tls_failed"),
        (broken(OutcomeKind.PROTOCOL_ERROR), "protocol_error"),
    ],
)
@pytest.mark.parametrize("gaps", [GAPS_S, RENEWAL_GAPS_S])
def test_what_may_pass_is_tried_again_and_then_fails_by_name(outcome, name, gaps):
    """A network's fault rests for each gap in turn, then it is failed with its own name."""
    state = State("azure-speech", gaps_s=gaps)
    for gap in gaps:
        state, action = step(asked(state=state), Replied(outcome, NOW_MS))
        assert isinstance(action, Rest)
        assert (action.delay_s, action.failure.reason) == (gap, name)
        assert state.phase is Phase.READY
    state, action = step(asked(state=state), Replied(outcome, NOW_MS))
    assert state.phase is Phase.FAILED
    assert reason(action) == name


def test_an_interruption_is_nobodys_failure():
    """What our own stop cut off counts as no try."""
    state, action = step(asked(), Replied(broken(OutcomeKind.INTERRUPTED), NOW_MS))
    assert (state, action) == (State("azure-speech"), None)


def test_a_question_that_could_not_be_put_is_put_again_uncounted():
    """Having no socket for it is our own lack: the handshake rests and has as many tries as before."""
    state, action = step(asked(), Replied(broken(OutcomeKind.NO_RESOURCES), NOW_MS))
    assert state == State("azure-speech")
    assert (action.delay_s, action.failure.reason) == (NO_RESOURCES_REST_S, "no_resources")


def consenting():
    """A handshake that waits to be called back."""
    state, action = step(asked("cloudevents", callback_url=CALLBACK), Replied(answer(405, b""), NOW_MS))
    assert action == AwaitConsent(NOW_MS + CONSENT_WINDOW_S * 1000)
    assert TOKEN not in msgspec.json.encode(state).decode(), "the token itself is kept nowhere"
    return state


def test_consent_may_come_later_once():
    """The token from the callback URL proves, with the rate it brings; it works a single time."""
    event = Consented(TOKEN, NOW_MS + 1, "localhost", rate="60")
    state, action = step(consenting(), event)
    assert action == Finish(Proved(60, "localhost"))
    assert step(state, event) == (state, None)


def test_consent_may_come_before_the_answer_does():
    """A receiver that calls back while it is being asked has consented; its answer then means nothing more."""
    state, action = step(asked("cloudevents", callback_url=CALLBACK), Consented(TOKEN, NOW_MS, "localhost", rate="60"))
    assert action == Finish(Proved(60, "localhost"))
    assert step(state, Replied(answer(405, b""), NOW_MS)) == (state, None)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"cloudevents"}))
def test_no_other_kinds_token_consents(kind):
    """Their tokens prove by coming back in the answer alone: whoever reads one in an access log has no consent."""
    state = asked(kind, callback_url=CALLBACK, secrets=("key",))
    assert step(state, Consented(TOKEN, NOW_MS, "localhost")) == (state, None)


@pytest.mark.parametrize("token", ["", "x", TOKEN[:-1], TOKEN + "0", "é", "\udcff", digest(TOKEN)])
def test_no_other_token_consents(token):
    """Anything but the token itself changes nothing."""
    state = consenting()
    assert step(state, Consented(token, NOW_MS, "localhost")) == (state, None)


def test_an_expired_token_consents_to_nothing():
    """After its time the token fails the handshake instead of proving it, and so does time alone."""
    late_ms = NOW_MS + CONSENT_WINDOW_S * 1000
    for event in (Consented(TOKEN, late_ms, "localhost"), Lapsed(late_ms)):
        state, action = step(consenting(), event)
        assert state.phase is Phase.FAILED
        assert reason(action) == "no_consent"
    assert step(consenting(), Lapsed(late_ms - 1))[1] is None


def test_a_call_back_with_bad_words_leaves_the_token_good():
    """A rate that can't be read is declined; the receiver can call again."""
    state = consenting()
    same, action = step(state, Consented(TOKEN, NOW_MS, "localhost", rate="fast"))
    assert same is state
    assert isinstance(action, Decline)
    assert isinstance(step(state, Consented(TOKEN, NOW_MS, "localhost", rate="5"))[1], Finish)


#: Ends of a question that are not the receiver's doing.
OURS = (OutcomeKind.INTERRUPTED, OutcomeKind.NO_RESOURCES)
EVENTS = st.one_of(
    st.builds(Begin, st.just(challenge(callback_url=CALLBACK))),
    st.builds(
        Replied,
        st.one_of(
            st.sampled_from(list(OutcomeKind)).map(lambda kind: Outcome(kind, status=200)),
            st.builds(
                answer,
                st.sampled_from([200, 204, 301, 404, 405, 410, 429, 500]),
                st.sampled_from([b"", TOKEN.encode(), b"{}", b"x" * 3000]),
            ),
        ),
        st.just(NOW_MS),
    ),
    st.builds(Consented, st.sampled_from([TOKEN, "x"]), st.just(NOW_MS), st.just("localhost")),
    st.builds(Lapsed, st.sampled_from([NOW_MS, NOW_MS + CONSENT_WINDOW_S * 2000])),
)


@given(st.sampled_from(sorted(KINDS)), st.lists(EVENTS, max_size=40))
def test_any_events_end_within_the_bound_and_the_end_is_final(kind, events):
    """Whatever comes in whatever order: a bounded number of steps but for interruptions; nothing leaves an end."""
    state, steps = State(kind), 0
    for event in events:
        after, action = step(state, event)
        if state.phase in (Phase.PASSED, Phase.FAILED):
            assert after is state
        if isinstance(event, Replied) and event.outcome.kind in OURS and after is not state:
            steps -= 1
        elif after is not state:
            steps += 1
        if action is None and not isinstance(event, Replied):
            assert after is state
        state = after
    assert steps <= 2 * (len(GAPS_S) + 1) + 2
    assert state.tries <= len(GAPS_S) + 1
    if state.phase is Phase.PASSED:
        assert any(isinstance(event, Replied | Consented) for event in events)
