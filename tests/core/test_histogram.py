"""Histograms: where a value is counted, and what the scraper is told."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.core import histogram
from ringback.core.histogram import Histogram


def test_a_bound_counts_what_is_equal_to_it():
    """Bounds are inclusive, as Prometheus has them; what is beyond the last one is in +Inf alone."""
    made = Histogram((1.0, 2.5))
    for value in (0.0, 1.0, 1.1, 2.5, 99.0):
        made.observe(value)
    assert made.cumulative() == [("1.0", 2), ("2.5", 4), ("+Inf", 5)]
    assert made.total == pytest.approx(103.6)


@given(st.lists(st.floats(0, 1e6)))
def test_cumulative_counts_agree_with_counting(values):
    """For each bound: how many were at most that."""
    made = Histogram(histogram.LATENCY_BOUNDS_S)
    for value in values:
        made.observe(value)
    for bound, count in made.cumulative():
        limit = math.inf if bound == "+Inf" else float(bound)
        assert count == sum(value <= limit for value in values)


def test_bounds_ascend():
    """A bisect over anything else would count at random."""
    for bounds in (
        histogram.LATENCY_BOUNDS_S,
        histogram.WAIT_BOUNDS_S,
        histogram.COMMIT_BOUNDS_S,
        histogram.ROW_BOUNDS,
    ):
        assert list(bounds) == sorted(set(bounds))
