"""Steps of the wall clock: what is noticed, and which cautions follow."""

from hypothesis import given
from hypothesis import strategies as st

from ringback.core.clock_steps import AHEAD_MS, BACK_MS, CAUTION_S, begin, look

NOW_MS = 1_800_000_000_000


@given(st.floats(0, 1e6), st.integers(-BACK_MS + 2, AHEAD_MS - 2))
def test_time_that_goes_on_is_no_step(elapsed_s, drift_ms):
    """Hours may pass, a time service may pull: nothing is noticed."""
    trust = begin(NOW_MS, 100.0, NOW_MS - 5)
    after, stepped = look(trust, NOW_MS + round(elapsed_s * 1000) + drift_ms, 100.0 + elapsed_s)
    assert stepped == 0
    assert (after.prune_from_s, after.reach_until_s) == (0.0, 0.0)


def test_a_jump_ahead_stops_pruning_for_an_hour():
    """A clock a month ahead must not delete a month."""
    trust, stepped = look(begin(NOW_MS, 100.0, None), NOW_MS + 31 * 86_400_000, 101.0)
    assert stepped >= 30 * 86_400_000
    assert trust.prune_from_s == 101.0 + CAUTION_S
    later, again = look(trust, trust.wall_ms + 1000, 102.0)
    assert (later.prune_from_s, again) == (trust.prune_from_s, 0)


def test_a_jump_back_lets_due_times_be_brought_back():
    """What was written by the clock that was ahead is out of reach now."""
    trust, stepped = look(begin(NOW_MS, 100.0, None), NOW_MS - 3_600_000, 101.0)
    assert stepped <= -3_600_000
    assert trust.reach_until_s == 101.0 + CAUTION_S


def test_a_clock_set_while_the_daemon_was_down_is_noticed_by_the_newest_event():
    """The newest event lies in the future: the clock went back meanwhile."""
    assert begin(NOW_MS, 100.0, NOW_MS + BACK_MS + 1).reach_until_s == 100.0 + CAUTION_S
    assert begin(NOW_MS, 100.0, NOW_MS - 1).reach_until_s == 0.0
