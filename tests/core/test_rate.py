"""Rates: never more than allowed in any stretch, nothing wasted, nobody else kept waiting."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.core import rate
from ringback.core.model import Owed, Phase, RateLimit
from ringback.core.schedule import Board, Limits
from ringback.core.window import Signal, Window

LIMITS = st.builds(RateLimit, st.integers(1, 40), st.sampled_from([0.1, 1.0, 7.0, 60.0]))


def lane_of(board, number, *rates, tenant="t", cap=50, events=100):
    """A proved lane with that many events waiting."""
    lane = board.lane(number, tenant, cap, rates)
    lane.window = Window(float(cap), 0, proved=True)
    for event in range(events):
        board.hand_off(lane, Owed(number, number * 1000 + event, Phase.FRESH, 0, 0, 10))
    return lane


def run(board, now_s):
    """Start and end everything that may start at a moment; the lanes' numbers."""
    numbers = []
    while (one := board.start(now_s)) is not None:
        numbers.append(one.lane.number)
        board.ended(one, Signal.SUCCESS, now_s)
        board.settled(one)
    return numbers


@given(st.lists(LIMITS, min_size=1, max_size=2), st.lists(st.floats(0, 5), min_size=1, max_size=300))
def test_no_stretch_sees_more_than_its_limit(limits, gaps):
    """Whenever starts are asked for, each limit holds in every stretch of its length."""
    meter = rate.meter(tuple(limits))
    now_s, starts = 100.0, []
    for gap in gaps:
        now_s += gap
        if rate.free_at_s(meter, now_s) <= now_s:
            meter = rate.take(meter, now_s)
            starts.append(now_s)
    for limit in limits:
        for begin in starts:
            assert sum(begin <= start < begin + limit.per_s for start in starts) <= limit.requests
    assert all(len(grains) <= rate.GRAINS + 2 for grains in meter.taken)


@given(LIMITS, st.integers(1, 200))
def test_who_waits_until_told_gets_nearly_the_whole_rate(limit, count):
    """Starting as soon as it is allowed loses at most one part in GRAINS of the rate."""
    meter = rate.meter((limit,))
    now_s = 0.0
    for _ in range(count):
        now_s = max(now_s, rate.free_at_s(meter, now_s))
        assert rate.free_at_s(meter, now_s) <= now_s, "the time it names is a time it allows"
        meter = rate.take(meter, now_s)
    stretches = (count - 1) // limit.requests
    assert now_s <= stretches * limit.per_s * (1 + 2 / rate.GRAINS) + 1e-6


def test_a_new_limit_goes_on_counting():
    """Changing the limit gives no second helping of what was just used."""
    meter = rate.meter((RateLimit(2, 10),))
    meter = rate.take(rate.take(meter, 0.0), 1.0)
    changed = rate.meter((RateLimit(3, 10),), meter)
    assert rate.free_at_s(changed, 2.0) <= 2.0
    assert rate.free_at_s(rate.take(changed, 2.0), 2.0) > 2.0
    assert rate.meter((), meter) is None


def test_a_change_of_one_limit_forgets_nothing_of_the_other():
    """What a receiver allows in a minute holds although the operator's own limit, a short one, changes or goes."""
    own, allowed = RateLimit(100, 0.01), RateLimit(2, 60.0)
    meter = rate.meter((own, allowed))
    meter = rate.take(rate.take(meter, 0.0), 1.0)
    for limits in ((RateLimit(50, 0.01), allowed), (allowed,), (own, RateLimit(1, 60.0)), (RateLimit(2, 30.0),)):
        changed = rate.meter(limits, meter)
        assert rate.free_at_s(changed, 5.0) > 5.0, limits


def test_a_lane_keeps_its_rate_and_says_when_it_goes_on():
    """Five a minute: five now, none until the board's wake-up time, then five more."""
    board = Board(Limits())
    lane_of(board, 1, RateLimit(5, 60))
    assert len(run(board, 0.0)) == 5
    assert board.wake_in_s(0.0) == pytest.approx(60)
    assert run(board, 59.9) == []
    assert len(run(board, 60.0)) == 5


def test_the_lower_of_two_rates_counts():
    """The operator's limit and the receiver's must both hold."""
    board = Board(Limits())
    lane_of(board, 1, RateLimit(50, 1), RateLimit(3, 60))
    assert len(run(board, 0.0)) == 3
    assert run(board, 2.0) == []


def test_a_limited_lane_costs_the_others_nothing():
    """Lanes that wait for a token are in nobody's way, whatever the tenant."""
    board = Board(Limits())
    for number in range(50):
        lane_of(board, number, RateLimit(1, 1000), events=5)
    lane_of(board, 100, events=40)
    lane_of(board, 101, tenant="u", events=40)
    numbers = run(board, 0.0)
    assert numbers.count(100) == numbers.count(101) == 40
    assert len(numbers) == 40 + 40 + 50
    assert not any(board._turns.rings), "a waiting lane stands in no ring"


def test_lifting_a_limit_lets_a_waiting_lane_go_on():
    """A lane that waited an hour for its token starts at once when the limit is taken away."""
    board = Board(Limits())
    lane = lane_of(board, 1, RateLimit(1, 3600))
    assert len(run(board, 0.0)) == 1
    board.lane(1, "t", lane.cap, ())
    assert len(run(board, 1.0)) == 99
    assert board.wake_in_s(1.0) is None


def test_a_dropped_lane_waits_for_nothing():
    """A deleted endpoint leaves no timer behind."""
    board = Board(Limits())
    lane = lane_of(board, 1, RateLimit(1, 3600))
    run(board, 0.0)
    board.drop(lane)
    assert board.wake_in_s(0.0) is None
    assert run(board, 4000.0) == []


def test_a_closed_lane_comes_back_within_its_rate():
    """Pausing and resuming doesn't refill the bucket."""
    board = Board(Limits())
    lane = lane_of(board, 1, RateLimit(2, 60), events=5)
    assert len(run(board, 0.0)) == 2
    board.close(lane)
    board.open(lane)
    lane.overflowed = False
    for event in range(5):
        board.hand_off(lane, Owed(1, 9000 + event, Phase.FRESH, 0, 0, 10))
    assert run(board, 30.0) == []
    assert len(run(board, 61.0)) == 2


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from([1.0, 10.0])), min_size=2, max_size=6))
def test_every_limited_lane_gets_all_of_its_rate(limits):
    """Nobody starves: following the board's wake-ups, each lane starts all it may in the time it takes."""
    board = Board(Limits())
    for number, (requests, per_s) in enumerate(limits):
        lane_of(board, number, RateLimit(requests, per_s), tenant=f"t{number % 2}", events=3 * requests)
    numbers, now_s = [], 0.0
    while (wait_s := board.wake_in_s(now_s)) is not None or not numbers:
        now_s += wait_s or 0.0
        numbers += run(board, now_s)
        assert now_s < 21
    assert all(numbers.count(number) == 3 * requests for number, (requests, _) in enumerate(limits))
