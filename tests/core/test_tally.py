"""Tallies: buckets, percentiles, merging."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ringback.core.tally import MAX_MS, Tally, bucket, percentile_ms, total, upper_ms

DURATIONS = st.integers(0, MAX_MS)


@given(DURATIONS)
def test_a_duration_lies_in_its_bucket(ms):
    """At most the bucket's end, which is at most an eighth more, and beyond the end of the one before."""
    index = bucket(ms)
    assert ms <= upper_ms(index) <= ms + ms // 8
    assert index == 0 or upper_ms(index - 1) < ms


def test_what_is_out_of_range_counts_at_the_edge():
    """A clock that ran backwards and a request that never ended are durations too."""
    assert bucket(-5) == bucket(0) == 0
    assert bucket(10 * MAX_MS) == bucket(MAX_MS)
    assert bucket(MAX_MS) < 160, "a histogram is a few dozen numbers"


@given(st.lists(DURATIONS, min_size=1), st.sampled_from([0.01, 0.5, 0.99, 1.0]))
def test_a_percentile_is_the_true_one_to_an_eighth(durations, share):
    """Never less than the exact answer, and at most an eighth more."""
    exact = sorted(durations)[max(0, -int(-share * len(durations) // 1) - 1)]
    found = percentile_ms(Counter(map(bucket, durations)), share)
    assert found is not None
    assert exact <= found <= exact + exact // 8 or found == upper_ms(bucket(exact))


def test_without_attempts_there_is_no_percentile():
    """None rather than a zero that looks fast."""
    assert percentile_ms({}, 0.5) is None


def test_tallies_add_up():
    """Outcome by outcome, bucket by bucket; the sum shares nothing with its parts."""
    one, other = Tally(), Tally()
    one.note("delivered", 10, dead=False)
    other.note("delivered", 10, dead=False)
    other.note("timeout", 30_000, dead=True)
    whole = total([one, other])
    assert (whole.attempts, whole.delivered, whole.dead) == (3, 2, 1)
    assert whole.outcomes == {"delivered": 2, "timeout": 1}
    assert sum(whole.took.values()) == 3
    assert one.attempts == 1
