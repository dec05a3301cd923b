"""core.retry: due times, the clamp, the limits of a policy, Retry-After."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.core.model import RetryPolicy
from ringback.core.retry import (
    MAX_ATTEMPTS,
    MAX_DELAYS,
    MAX_GAP_S,
    check_policy,
    clamp_due_ms,
    largest_gap_ms,
    next_due_ms,
    parse_retry_after,
)

NOW_MS = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()) * 1000
PLAIN = RetryPolicy(delays_s=(5.0, 300.0, 60.0), jitter=0.0)
GROWING = RetryPolicy(delays_s=None, initial_s=2.0, factor=3.0, max_s=100.0, attempts=6, jitter=0.0)


def gaps(policy, u=0.5):
    """The gaps in seconds that a receiver failing every time would see."""
    found = []
    while (due := next_due_ms(policy, len(found) + 1, NOW_MS, u, None)) is not None:
        found.append((due - NOW_MS) / 1000)
    return found


policies = st.builds(
    RetryPolicy,
    delays_s=st.none() | st.lists(st.floats(0, MAX_GAP_S), max_size=MAX_DELAYS).map(tuple),
    initial_s=st.floats(0, 100),
    factor=st.floats(1, 10),
    max_s=st.floats(100, MAX_GAP_S),
    attempts=st.integers(1, MAX_ATTEMPTS),
    jitter=st.floats(0, 1),
)


def test_default_schedule():
    """The default policy makes ten attempts with SEMANTICS' nine gaps."""
    assert gaps(RetryPolicy()) == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]


def test_listed_gaps_are_taken_in_order():
    """N gaps make N + 1 attempts, in the order given."""
    assert gaps(PLAIN) == [5, 300, 60]


def test_no_gaps_is_one_attempt():
    """An empty list never retries."""
    assert gaps(RetryPolicy(delays_s=())) == []
    assert largest_gap_ms(RetryPolicy(delays_s=())) == 0


def test_exponential_gaps_grow_to_their_cap():
    """The exponential form multiplies up to max_s and counts the first attempt."""
    assert gaps(GROWING) == [2, 6, 18, 54, 100]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (RetryPolicy(delays_s=None, attempts=1), []),
        (RetryPolicy(delays_s=None, initial_s=0.0, attempts=3, jitter=0.0), [0, 0]),
        (RetryPolicy(delays_s=None, initial_s=7.0, factor=1.0, attempts=4, jitter=0.0), [7, 7, 7]),
        (RetryPolicy(delays_s=None, initial_s=7.0, max_s=7.0, attempts=3, jitter=0.0), [7, 7]),
        (RetryPolicy(delays_s=None, initial_s=0.0, max_s=0.0, attempts=2, jitter=0.0), [0]),
    ],
)
def test_exponential_edges(policy, expected):
    """Zero, flat and single-attempt policies neither divide by zero nor lose an attempt."""
    assert gaps(policy) == expected


@pytest.mark.parametrize(("u", "expected"), [(0.0, 8.0), (0.5, 10.0), (0.999999, 12.0)])
def test_jitter_stretches_both_ways(u, expected):
    """Jitter 0.2 spreads a gap over ± 20 %."""
    (gap,) = gaps(RetryPolicy(delays_s=(10.0,), jitter=0.2), u)
    assert gap == pytest.approx(expected, abs=0.01)


def test_a_count_of_zero_is_a_bug():
    """Asking for the gap before any attempt raises instead of reading the list from its end."""
    with pytest.raises(ValueError, match="at least 1"):
        next_due_ms(PLAIN, 0, NOW_MS, 0.5, None)


@pytest.mark.parametrize(
    ("retry_after_s", "expected_s"),
    [(None, 5), (0, 5), (4, 5), (30, 30), (300, 300), (301, 300), (10**9, 300)],
)
def test_retry_after_only_lengthens_and_only_to_the_largest_gap(retry_after_s, expected_s):
    """Due is the later of schedule and wish, the wish counting up to the largest gap of the policy."""
    wish_ms = None if retry_after_s is None else retry_after_s * 1000
    assert next_due_ms(PLAIN, 1, NOW_MS, 0.5, wish_ms) == NOW_MS + expected_s * 1000


def test_retry_after_doesnt_make_more_attempts():
    """A used-up policy stays used up, whatever the receiver asks for."""
    assert next_due_ms(PLAIN, 4, NOW_MS, 0.5, 1000) is None


@given(policies, st.integers(1, 10**6), st.floats(0, 1, exclude_max=True), st.none() | st.integers(0, 10**12))
def test_due_times_are_bounded(policy, attempts, u, retry_after_ms):
    """A due time is never in the past and never beyond the largest jittered gap, up to a millionth attempt."""
    due = next_due_ms(policy, attempts, NOW_MS, u, retry_after_ms)
    allowed = len(policy.delays_s) if policy.delays_s is not None else policy.attempts - 1
    assert (due is None) == (attempts > allowed)
    if due is not None:
        assert NOW_MS <= due <= NOW_MS + math.ceil(largest_gap_ms(policy) * (1 + policy.jitter)) + 1


@given(policies, st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_a_due_time_just_made_survives_the_clamp(policy, attempts, u):
    """What the policy itself asked for is not shortened when it is loaded again at once."""
    due = next_due_ms(policy, attempts, NOW_MS, u, None)
    if due is not None:
        assert abs(clamp_due_ms(policy, due, NOW_MS) - due) <= 1


def test_a_millionth_attempt_doesnt_overflow():
    """The power is capped before it is taken."""
    endless = RetryPolicy(delays_s=None, initial_s=0.001, factor=10.0, max_s=60.0, attempts=10**7, jitter=0.0)
    assert next_due_ms(endless, 10**6, NOW_MS, 0.5, None) == NOW_MS + 60_000


def test_a_first_gap_next_to_nothing_doesnt_overflow():
    """A gap whose power alone is no float grows as any other, and is asked for and clamped alike."""
    tiny = RetryPolicy(delays_s=None, initial_s=1e-309, factor=8.0, max_s=100.0, attempts=344, jitter=0.0)
    gap_ms = largest_gap_ms(tiny)
    assert abs(gap_ms - 1000 * 10 ** (342 * math.log10(8) - 309)) < 1
    assert next_due_ms(tiny, 343, NOW_MS, 0.5, None) == NOW_MS + gap_ms
    endless = RetryPolicy(delays_s=None, initial_s=5e-324, factor=8.0, max_s=100.0, attempts=1000, jitter=0.0)
    assert largest_gap_ms(endless) == 100_000


def test_clamp_pulls_back_a_due_time_from_a_wrong_clock():
    """A row written while the clock was a year ahead is due after the largest jittered gap at the latest."""
    jittered = RetryPolicy(delays_s=(10.0, 100.0), jitter=0.5)
    assert clamp_due_ms(jittered, NOW_MS + 10**10, NOW_MS) == NOW_MS + 150_000
    assert clamp_due_ms(jittered, NOW_MS + 7, NOW_MS) == NOW_MS + 7
    assert clamp_due_ms(jittered, 0, NOW_MS) == 0


def test_largest_gap():
    """The largest gap is the list's maximum, or where the exponential form ends."""
    assert largest_gap_ms(PLAIN) == 300_000
    assert largest_gap_ms(GROWING) == 100_000
    assert largest_gap_ms(RetryPolicy(delays_s=None, initial_s=2.0, factor=3.0, attempts=3)) == 6_000
    assert largest_gap_ms(RetryPolicy(delays_s=None, attempts=1)) == 0


@pytest.mark.parametrize(
    "policy",
    [
        RetryPolicy(),
        RetryPolicy(delays_s=()),
        RetryPolicy(delays_s=(0.0,) * MAX_DELAYS, jitter=1.0),
        RetryPolicy(delays_s=(MAX_GAP_S,), jitter=0.0),
        RetryPolicy(delays_s=None),
        RetryPolicy(delays_s=None, initial_s=0, factor=1, max_s=0, attempts=1),
        RetryPolicy(delays_s=None, initial_s=1, factor=10, max_s=MAX_GAP_S, attempts=MAX_ATTEMPTS),
    ],
)
def test_good_policies(policy):
    """Everything within the named limits is accepted, both edges included."""
    assert check_policy(policy) == []


@pytest.mark.parametrize(
    ("policy", "word"),
    [
        (RetryPolicy(delays_s=(1.0,) * (MAX_DELAYS + 1)), "delays_s"),
        (RetryPolicy(delays_s=(5.0, -1.0)), "wrong at 1"),
        (RetryPolicy(delays_s=(math.nan,)), "wrong at 0"),
        (RetryPolicy(delays_s=(math.inf,)), "wrong at 0"),
        (RetryPolicy(delays_s=(MAX_GAP_S + 1,)), "wrong at 0"),
        (RetryPolicy(jitter=-0.1), "jitter"),
        (RetryPolicy(jitter=1.1), "jitter"),
        (RetryPolicy(jitter=math.nan), "jitter"),
        (RetryPolicy(delays_s=None, initial_s=-1.0), "initial_s"),
        (RetryPolicy(delays_s=None, initial_s=math.nan), "initial_s"),
        (RetryPolicy(delays_s=None, max_s=MAX_GAP_S + 1), "max_s"),
        (RetryPolicy(delays_s=None, initial_s=10.0, max_s=5.0), "larger than max_s"),
        (RetryPolicy(delays_s=None, factor=0.9), "factor"),
        (RetryPolicy(delays_s=None, factor=10.1), "factor"),
        (RetryPolicy(delays_s=None, factor=math.nan), "factor"),
        (RetryPolicy(delays_s=None, attempts=0), "attempts"),
        (RetryPolicy(delays_s=None, attempts=MAX_ATTEMPTS + 1), "attempts"),
    ],
)
def test_bad_policies_are_named(policy, word):
    """Each value beyond its limit is one problem that names the member."""
    (problem,) = check_policy(policy)
    assert word in problem


def test_every_problem_is_named_at_once():
    """A policy wrong in four places answers four sentences."""
    bad = RetryPolicy(delays_s=None, initial_s=-1, factor=0, attempts=0, jitter=2)
    assert len(check_policy(bad)) == 4


def date_ms(*parts):
    """Milliseconds of a UTC moment."""
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * 1000


@pytest.mark.parametrize(
    ("value", "expected_ms"),
    [
        ("0", 0),
        ("120", 120_000),
        (" 7\t", 7_000),
        ("007", 7_000),
        (str(MAX_GAP_S), MAX_GAP_S * 1000),
        (str(MAX_GAP_S + 1), MAX_GAP_S * 1000),
        ("9" * 60, MAX_GAP_S * 1000),
        ("Sat, 21 Nov 2026 12:02:00 GMT", 120_000),
        ("sat, 21 nov 2026 12:02:00 gmt", 120_000),
        ("Saturday, 21-Nov-26 12:02:00 GMT", 120_000),
        ("Sat Nov 21 12:02:00 2026", 120_000),
        ("Tue Dec  1 00:00:00 2026", date_ms(2026, 12, 1) - NOW_MS),
        ("Sat, 21 Nov 2026 12:00:60 GMT", 59_000),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0),
        ("Sun Nov  6 08:49:37 1994", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_GAP_S * 1000),
        ("Saturday, 01-Jan-77 00:00:00 GMT", 0),
    ],
)
def test_retry_after_forms(value, expected_ms):
    """Seconds and all three HTTP dates are read as a wait from now, never negative, never beyond the cap."""
    assert parse_retry_after(value, NOW_MS) == expected_ms


def test_two_digit_years_within_fifty_years_are_ahead():
    """RFC 9110's window: 76 is 2076 in 2026, 77 would be 51 years ahead and so is 1977."""
    assert parse_retry_after("Saturday, 01-Jan-76 00:00:00 GMT", NOW_MS) == MAX_GAP_S * 1000
    assert parse_retry_after("Saturday, 01-Jan-77 00:00:00 GMT", NOW_MS) == 0


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "-1",
        "+1",
        "1.5",
        "1e3",
        "0x10",
        "1 2",
        "1,2",
        "soon",
        "١٢٠",
        "²",
        "9" * 65,
        "Sat, 21 Nov 2026 12:02:00",
        "Sat, 21 Nov 2026 12:02:00 UTC",
        "Sat, 21 Nov 2026 12:02:00 +0000",
        "Sat, 1 Nov 2026 12:02:00 GMT",
        "Sat, 31 Nov 2026 12:02:00 GMT",
        "Sat, 21 Foo 2026 12:02:00 GMT",
        "Sat, 21 Nov 2026 24:00:00 GMT",
        "Sat, 21 Nov 2026 12:61:00 GMT",
        "Sat, 21 Nov 2026 12:00:61 GMT",
        "Sat, 21 Nov 0000 12:00:00 GMT",
        "2026-11-21T12:02:00Z",
        "Sat Nov 21 12:02:00 26",
        "120\n",
        "120\x00",
    ],
)
def test_retry_after_garbage_says_nothing(value):
    """Whatever isn't exactly one of the forms is no wish at all."""
    assert parse_retry_after(value, NOW_MS) is None


@given(st.text(max_size=80), st.integers(0, 4 * 10**12))
def test_retry_after_never_raises(value, now_ms):
    """Any header value is a bounded wait or nothing."""
    wait = parse_retry_after(value, now_ms)
    assert wait is None or 0 <= wait <= MAX_GAP_S * 1000
