"""The window: slow start, growth of one a round, halving."""

from hypothesis import given
from hypothesis import strategies as st

from ringback.core.window import MIN_SIZE, Signal, Window, after

signals = st.lists(st.sampled_from(Signal), max_size=300)


def test_a_lane_nobody_has_heard_from_gets_one_request():
    """The first request is a probe."""
    assert int(Window().size) == 1
    assert not Window().proved


def test_growth_is_at_most_one_a_round():
    """After a full round of successes the window is at most one wider."""
    window = Window()
    for _ in range(20):
        before = int(window.size)
        for _ in range(before):
            window = after(window, Signal.SUCCESS, before, 100)
        assert int(window.size) <= before + 1
    assert window.size > 10


def test_an_unused_window_does_not_grow():
    """A lane with one request at a time keeps a small window, however many succeed."""
    window = Window()
    for _ in range(1000):
        window = after(window, Signal.SUCCESS, 1, 100)
    assert window.size <= 3


def test_an_answer_about_one_event_clears_failures_but_widens_nothing():
    """A 404 shows that the endpoint is alive; it is no reason to send more."""
    window = after(Window(4.0, 5, proved=True), Signal.ANSWERED, 4, 8)
    assert window == Window(4.0, 0, proved=True)


@given(signals, st.integers(1, 50))
def test_the_size_stays_within_its_bounds(sequence, cap):
    """Whatever happens, one request is always allowed and the cap is never passed."""
    window = Window()
    for signal in sequence:
        window = after(window, signal, max(1, int(window.size)), cap)
        assert MIN_SIZE <= window.size <= max(cap, MIN_SIZE)


@given(signals)
def test_failures_count_those_in_a_row(sequence):
    """The count is that of failures since the last answer; neutral ends don't touch it."""
    window, expected = Window(), 0
    for signal in sequence:
        window = after(window, signal, 1, 8)
        if signal is Signal.FAILURE:
            expected += 1
        elif signal is not Signal.NEUTRAL:
            expected = 0
        assert window.failures == expected
