"""The board: caps, classes, fair turns."""

from collections import Counter

import pytest
from tests.harness.boards import fill, owed, proved, start_all

from ringback.core.lane import Rank
from ringback.core.model import Phase, RateLimit
from ringback.core.schedule import FAILING_BURST_S, SUSPECT_AFTER_S, Board, Limits
from ringback.core.window import Signal, Window


def test_a_lane_never_exceeds_its_cap():
    """An endpoint with a cap of three has three in flight, and the next one starts when one ended."""
    board = Board(Limits())
    lane = proved(board, 1, cap=3)
    fill(board, lane, 10)
    started = start_all(board)
    assert len(started) == 3
    board.ended(started[0], Signal.SUCCESS, 0.0)
    assert len(start_all(board)) == 1


def test_the_global_cap_holds_over_all_lanes():
    """However many lanes could start, the slots are the limit."""
    board = Board(Limits(slots=10))
    for number in range(50):
        fill(board, proved(board, number, cap=8), 8, first=number * 100)
    assert len(start_all(board)) == 10


def test_an_unproved_lane_starts_one_request():
    """A new endpoint gets a probe first."""
    board = Board(Limits())
    fill(board, board.lane(1, "t", 8), 5)
    assert len(start_all(board)) == 1


def test_failing_lanes_hold_at_most_a_quarter_of_the_slots():
    """999 dead endpoints leave three quarters to the others."""
    board = Board(Limits(slots=100, failing_starts_per_s=1000))
    for number in range(999):
        lane = board.lane(number, "t", 8)
        lane.window = Window(1.0, 3, proved=True)
        fill(board, lane, 2, first=number * 10)
    assert len(start_all(board)) == 25


def test_unproved_and_failing_lanes_together_leave_a_quarter():
    """Never-proved endpoints can't take every slot either."""
    board = Board(Limits(slots=100, failing_starts_per_s=1000))
    for number in range(999):
        fill(board, board.lane(number, "t", 8), 2, first=number * 10)
    assert len(start_all(board)) == 75
    fill(board, proved(board, 5000, cap=30), 40, first=90_000)
    assert len(start_all(board)) > 0


def test_a_healthy_lane_finds_room_among_hanging_ones():
    """300 hanging endpoints and one healthy one: the healthy one is never kept waiting for a slot."""
    board = Board(Limits())
    for number in range(300):
        fill(board, board.lane(number, "t", 8), 20, first=number * 100)
    hanging = start_all(board)
    assert len(hanging) == 300
    healthy = proved(board, 1000, size=1)
    for event in range(100_000, 100_500):
        board.hand_off(healthy, owed(1000, event))
        (one,) = start_all(board, now_s=0.5)
        assert one.lane is healthy
        board.ended(one, Signal.SUCCESS, 0.5)
        board.settled(one)


def test_silent_lanes_count_as_failing_before_any_time_out():
    """A proved endpoint that stops answering moves to the failing class within twice the suspicion time."""
    board = Board(Limits())
    lane = proved(board, 1, cap=4)
    fill(board, lane, 8)
    start_all(board, now_s=10.0)
    board.lane(2, "t", 1)
    fill(board, board.lanes[2], 1, first=100)
    board.start(10.0 + SUSPECT_AFTER_S)
    assert lane.rank() is Rank.FAILING
    assert lane.counted is Rank.FAILING


def test_a_suspect_that_answers_is_healthy_again():
    """Slow is not dead: one answer clears the suspicion."""
    board = Board(Limits())
    lane = proved(board, 1, cap=4)
    fill(board, lane, 8)
    started = start_all(board, now_s=10.0)
    board.start(10.0 + SUSPECT_AFTER_S)
    board.ended(started[0], Signal.SUCCESS, 13.0)
    assert lane.rank() is Rank.BUSY


def test_failing_lanes_start_at_their_pace():
    """Refused connections end at once; still only so many are made a second."""
    board = Board(Limits(failing_starts_per_s=50))
    lane = board.lane(1, "t", 1)
    lane.window = Window(1.0, 3, proved=True)
    count = 0
    for step in range(1000):  # one simulated second
        now_s = 100.0 + step / 1000
        if not lane.fresh:
            lane.overflowed = False
            fill(board, lane, 1, first=step * 10)
        while (one := board.start(now_s)) is not None:
            count += 1
            board.ended(one, Signal.FAILURE, now_s)
            board.settled(one)
    assert 50 <= count <= 50 * (1 + FAILING_BURST_S) + 1, "a second's worth, and no more at once than the burst"
    wait_s = board.wake_in_s(101.0)
    assert wait_s is not None
    assert wait_s <= 1 / 50


def test_tenants_share_before_lanes_do():
    """A tenant with 200 endpoints and one with a single endpoint get turns alike."""
    board = Board(Limits(slots=1000, uncommitted=10**9))
    for number in range(200):
        fill(board, proved(board, number, "many", cap=50), 40, first=number * 100)
    fill(board, proved(board, 900, "one", cap=1000), 200, first=10**6)
    turns = Counter(board.start(0.0).lane.tenant for _ in range(200))
    assert turns["one"] >= 90


def test_a_tenant_cannot_own_every_slot():
    """With one tenant's 2,000 endpoints all busy, another's idle endpoint still starts."""
    board = Board(Limits())
    small = proved(board, 5000, "small")
    for number in range(2000):
        fill(board, proved(board, number, "big"), 8, first=number * 10)
    start_all(board)
    fill(board, small, 1, first=10**6)
    one = board.start(0.0)
    assert one is not None
    assert one.lane is small


def test_fresh_and_timed_take_turns():
    """A hundred thousand overdue retries don't starve what is new, nor the other way round."""
    board = Board(Limits())
    lane = proved(board, 1, cap=1)
    fill(board, lane, 20)
    board.look_again(lane)
    board.begin_refill(lane, 10)
    items = [owed(1, 1000 + n, phase=Phase.TIMED, due=5) for n in range(20)]
    board.end_refill(lane, items, 10, more_fresh=False, next_timed_ms=None)
    phases = []
    for _ in range(20):
        one = board.start(0.0)
        phases.append(one.item.phase)
        board.ended(one, Signal.SUCCESS, 0.0)
    assert phases.count(Phase.TIMED) == 10


def test_bodies_in_flight_stay_under_their_budget():
    """At most one body over the budget is in flight."""
    board = Board(Limits(body_bytes=1000))
    fill(board, proved(board, 1, cap=100), 50, size=300)
    assert sum(s.item.size for s in start_all(board)) <= 1300


def test_uncommitted_results_stop_new_starts():
    """When the disk is slower than the network the board waits for it."""
    board = Board(Limits(uncommitted=3))
    fill(board, proved(board, 1, cap=10), 10)
    ended = [board.start(0.0) for _ in range(3)]
    for one in ended:
        board.ended(one, Signal.SUCCESS, 0.0)
    assert board.start(0.0) is None
    board.settled(ended[0])
    assert board.start(0.0) is not None


@pytest.mark.parametrize("lanes", [1, 10_000])
def test_a_start_costs_the_same_with_many_lanes(lanes):
    """Picking looks at a bounded number of lanes: counted in steps, not in time."""
    board = Board(Limits(slots=512))
    for number in range(lanes):
        fill(board, proved(board, number), 1, first=number * 10)
    looked = 0
    original = board._turns._next_lane

    def counting(tenant, *args, **kwargs):
        nonlocal looked
        before = sum(map(len, tenant.rings))
        lane = original(tenant, *args, **kwargs)
        looked += before - sum(map(len, tenant.rings))
        return lane

    board._turns._next_lane = counting
    started = start_all(board)
    assert looked <= 2 * len(started) + 1


def test_failing_lanes_that_wait_for_a_slot_ask_for_no_turn():
    """While dead endpoints hold all that failing lanes may hold, no timer is set for the rest: it would spin."""
    board = Board(Limits(slots=16))
    for number in range(20):
        lane = board.lane(number, "t", 8)
        lane.window = Window(1.0, 3, proved=True)
        fill(board, lane, 2, first=number * 10)
    started = start_all(board, 5.0)
    assert len(started) == 4
    assert board.wake_in_s(5.0) is None
    board.ended(started[0], Signal.FAILURE, 6.0)
    assert board.start(6.0) is not None


def test_nothing_is_timed_while_too_many_results_are_unwritten():
    """When results wait for the disk only their commit brings a turn, and it says so."""
    board = Board(Limits(uncommitted=1))
    lane = board.lane(1, "t", 8, (RateLimit(1, 10.0),))
    fill(board, lane, 2)
    started = start_all(board)
    board.ended(started[0], Signal.FAILURE, 1.0)
    assert board.start(20.0) is None
    assert board.wake_in_s(20.0) is None
    assert board.settled(started[0])
    assert board.start(20.0) is not None
