"""core.verdict: the order of judgement and the log's words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.core.model import Outcome, OutcomeKind, Verdict
from ringback.core.verdict import attempt_error, attempt_outcome, judge


def retry(_status):
    """A dialect that leaves everything to the retries."""
    return Verdict.RETRY


def response(status):
    """An outcome with that status."""
    return Outcome(OutcomeKind.RESPONSE, status=status)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 226, 299])
def test_2xx_is_delivered_whatever_the_dialect_says(status):
    """2xx is judged before the dialect is asked."""
    assert judge(response(status), lambda _: Verdict.GIVE_UP) is Verdict.DELIVERED


@pytest.mark.parametrize("status", [0, 100, 101, 103, 199, 300, 301, 304, 307, 399, 400, 404, 429, 500, 503, 599, 999])
def test_everything_else_retries_by_default(status):
    """No other status counts as success: not a redirect, not 1xx, not 999."""
    assert judge(response(status), retry) is Verdict.RETRY


def test_410_disables_before_the_dialect_is_asked():
    """Gone is gone in every dialect."""
    assert judge(response(410), retry) is Verdict.DISABLE


@pytest.mark.parametrize(
    ("said", "heeded"),
    [
        (Verdict.GIVE_UP, Verdict.GIVE_UP),
        (Verdict.DISABLE, Verdict.DISABLE),
        (Verdict.RETRY, Verdict.RETRY),
        (Verdict.DELIVERED, Verdict.RETRY),
        (Verdict.UNCOUNTED, Verdict.RETRY),
    ],
)
def test_a_dialect_may_only_make_a_failure_final(said, heeded):
    """A dialect can't call a failure delivered (lost) or uncounted (endless)."""
    assert judge(response(400), lambda _: said) is heeded


def test_the_dialect_gets_the_status():
    """The dialect is asked once, with the status of this response."""
    asked = []
    judge(response(422), lambda status: asked.append(status) or Verdict.GIVE_UP)
    assert asked == [422]


@pytest.mark.parametrize("kind", [kind for kind in OutcomeKind if kind is not OutcomeKind.RESPONSE])
def test_without_a_response(kind):
    """Egress denial is final, what is our own doing uncounted, every other failure to get a response retries."""
    expected = {
        OutcomeKind.EGRESS_DENIED: Verdict.GIVE_UP,
        OutcomeKind.INTERRUPTED: Verdict.UNCOUNTED,
        OutcomeKind.NO_RESOURCES: Verdict.POSTPONE,
    }
    assert judge(Outcome(kind), lambda _: Verdict.GIVE_UP) is expected.get(kind, Verdict.RETRY)


def test_a_status_beside_a_failure_doesnt_count():
    """A transport that failed isn't saved by a status it happened to see: only RESPONSE can deliver."""
    assert judge(Outcome(OutcomeKind.RESET, status=200), retry) is Verdict.RETRY


def test_a_response_without_status_retries():
    """An outcome that contradicts itself is a failure, not a success and not a crash."""
    assert judge(Outcome(OutcomeKind.RESPONSE), retry) is Verdict.RETRY
    assert attempt_outcome(Outcome(OutcomeKind.RESPONSE)) == "bad_status"


def test_log_words():
    """The log says delivered, bad_status, or the kind."""
    assert attempt_outcome(response(204)) == "delivered"
    assert attempt_outcome(response(302)) == "bad_status"
    assert attempt_outcome(Outcome(OutcomeKind.TLS_FAILED)) == "tls_failed"


def test_errors_are_words():
    """Success has no error; a failure has the transport's words or, without any, plain ones."""
    assert attempt_error(response(200)) is None
    assert attempt_error(Outcome(OutcomeKind.RESPONSE, status=200, error="cut short")) is None
    assert attempt_error(response(503)) == "the receiver answered 503"
    assert attempt_error(Outcome(OutcomeKind.CONNECT_FAILED, error="connection refused")) == "connection refused"
    assert attempt_error(Outcome(OutcomeKind.CONNECT_TIMEOUT)) == "connect timeout"


@given(st.sampled_from(OutcomeKind), st.none() | st.integers(-10, 1000), st.sampled_from(Verdict))
def test_delivered_means_2xx(kind, status, said):
    """Over all outcomes and dialects: delivered exactly for a response of 200 to 299, and the log agrees."""
    outcome = Outcome(kind, status=status)
    good = kind is OutcomeKind.RESPONSE and status is not None and 200 <= status <= 299
    assert (judge(outcome, lambda _: said) is Verdict.DELIVERED) == good
    assert (attempt_outcome(outcome) == "delivered") == good
    assert (attempt_error(outcome) is None) == good
