"""The board: caps, classes, fair turns, refills that bring nothing twice."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ringback.core.lane import LANE_WINDOW, WEAK_WINDOW, Rank
from ringback.core.model import Owed, Phase, RateLimit
from ringback.core.schedule import SUSPECT_AFTER_S, Board, Limits
from ringback.core.window import Signal, Window


def owed(lane, event, *, size=100, phase=Phase.FRESH, due=0):
    """One obligation."""
    return Owed(lane, event, phase, due, 0, size)


def proved(board, number, tenant="t", cap=8, size=None):
    """A lane that has answered well before."""
    lane = board.lane(number, tenant, cap)
    lane.window = Window(float(size or cap), 0, proved=True)
    return lane


def start_all(board, now_s=0.0):
    """Everything that may start now."""
    started = []
    while (one := board.start(now_s)) is not None:
        started.append(one)
    return started


def fill(board, lane, count, first=1, **kwargs):
    """Hand that many events to a lane."""
    for event in range(first, first + count):
        board.hand_off(lane, owed(lane.number, event, **kwargs))


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
    assert 50 <= count <= 101
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


def test_a_closed_lane_starts_nothing_and_gives_its_memory_back():
    """Paused: the rows wait in the table, only requests in flight remain."""
    board = Board(Limits())
    lane = proved(board, 1, cap=2)
    fill(board, lane, 10)
    started = start_all(board)
    board.close(lane)
    assert board.items == 0
    board.ended(started[0], Signal.SUCCESS, 0.0)
    assert board.start(0.0) is None
    board.open(lane)
    assert board.begin_refill(lane, 0)[0] > 0


def test_a_dead_lane_holds_few_ids():
    """A million owed rows at a dead endpoint are a handful of ids in memory."""
    board = Board(Limits())
    lane = proved(board, 1, cap=8)
    fill(board, lane, LANE_WINDOW)
    one = board.start(0.0)
    board.ended(one, Signal.FAILURE, 0.0)
    assert lane.waiting <= WEAK_WINDOW
    assert lane.overflowed


def test_dead_lanes_cannot_use_up_the_memory_of_healthy_ones():
    """With the shared memory full every lane still gets its small window."""
    board = Board(Limits(window_items=100))
    for number in range(100):
        fill(board, board.lane(number, "t", 8), 50, first=number * 100)
    healthy = proved(board, 999)
    fill(board, healthy, 50, first=10**6)
    assert len(healthy.fresh) == WEAK_WINDOW


def test_a_refill_leaves_out_what_ended_while_it_read():
    """The table is read as it was: an event that was in flight when the read began is not started again."""
    board = Board(Limits())
    lane = proved(board, 1, cap=1)
    fill(board, lane, 1, first=7)
    one = board.start(0.0)
    board.look_again(lane)
    assert board.begin_refill(lane, 10) != (0, 0)
    board.ended(one, Signal.SUCCESS, 0.0)
    board.settled(one)
    board.end_refill(lane, [owed(1, 7), owed(1, 8)], 10, more_fresh=False, next_timed_ms=None)
    assert board.start(0.0).item.event == 8
    assert lane.waiting == 0


def test_a_hand_off_missed_during_a_refill_is_asked_for_again():
    """An event committed after the read's snapshot isn't in its answer: the lane stays thirsty."""
    board = Board(Limits())
    lane = proved(board, 1, cap=1)
    board.look_again(lane)
    board.begin_refill(lane, 10)
    board.thirsty.clear()
    board.hand_off(lane, owed(1, 5))
    board.end_refill(lane, [], 10, more_fresh=False, next_timed_ms=None)
    assert lane.overflowed
    assert lane.number in board.thirsty


def test_a_dropped_lane_still_frees_its_slot():
    """An endpoint deleted with a request out: the slot comes back when it ends."""
    board = Board(Limits())
    lane = proved(board, 1)
    fill(board, lane, 3)
    one = board.start(0.0)
    board.drop(lane)
    assert board.start(0.0) is None
    board.ended(one, Signal.SUCCESS, 0.0)
    board.settled(one)
    assert (board.in_flight, board.bytes, board.items, board.uncommitted) == (0, 0, 0, 0)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30), st.integers(1, 6)), min_size=1, max_size=12),
    st.integers(1, 20),
)
def test_nothing_starves(lanes, slots):
    """As long as requests end well, every owed delivery is started, once."""
    board = Board(Limits(slots=slots))
    expected = set()
    for number, (tenant, count, cap) in enumerate(lanes):
        lane = board.lane(number, f"t{tenant}", cap)
        for event in range(min(count, WEAK_WINDOW)):
            board.hand_off(lane, owed(number, event))
            expected.add((number, event))
    seen = []
    for turn in range(10_000):
        running = start_all(board, float(turn))
        assert len(running) <= slots
        if not running:
            break
        for one in running:
            seen.append((one.item.lane, one.item.event))
            board.ended(one, Signal.SUCCESS, float(turn))
            board.settled(one)
    assert sorted(seen) == sorted(expected)


class BoardMachine(RuleBasedStateMachine):
    """Any order of calls: the caps hold and the counters agree with what is in flight."""

    def __init__(self):
        super().__init__()
        self.board = Board(Limits(slots=16, body_bytes=4000, window_items=60, uncommitted=20, failing_starts_per_s=50))
        self.running = []
        self.unsettled = []
        self.event = 0
        self.now_s = 100.0

    @rule(number=st.integers(0, 9), count=st.integers(1, 20), size=st.integers(0, 900))
    def hand_off(self, number, count, size):
        lane = self.board.lane(number, f"t{number % 3}", 1 + number % 5)
        for _ in range(count):
            self.event += 1
            self.board.hand_off(lane, owed(number, self.event, size=size))

    @rule(step_s=st.floats(0, 3))
    def start(self, step_s):
        self.now_s += step_s
        while (one := self.board.start(self.now_s)) is not None:
            self.running.append(one)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), signal=st.sampled_from(Signal))
    def end(self, data, signal):
        one = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.board.ended(one, signal, self.now_s)
        self.unsettled.append(one)

    @precondition(lambda self: self.unsettled)
    @rule()
    def settle(self):
        self.board.settled(self.unsettled.pop())

    @rule(number=st.integers(0, 9), what=st.sampled_from(["close", "open", "drop"]))
    def change(self, number, what):
        lane = self.board.lanes.get(number)
        if lane is not None:
            getattr(self.board, what)(lane)

    @invariant()
    def caps_hold(self):
        board = self.board
        assert board.in_flight == len(self.running) <= 16
        assert board.bytes == sum(s.item.size for s in self.running) <= 4000 + 900
        assert board.uncommitted == len(self.unsettled)
        assert board.items == sum(lane.waiting for lane in board.lanes.values())
        for rank in Rank:
            lanes = {id(s.lane): s.lane for s in self.running}.values()
            assert board._slots[rank] == sum(lane.in_flight for lane in lanes if lane.counted is rank)
        for lane in board.lanes.values():
            assert lane.in_flight == sum(s.lane is lane for s in self.running)
            assert lane.in_flight <= lane.cap

    @invariant()
    def nothing_runs_twice(self):
        keys = [(s.item.lane, s.item.event) for s in (*self.running, *self.unsettled)]
        assert len(keys) == len(set(keys))


TestBoard = BoardMachine.TestCase
TestBoard.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


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


def test_what_is_withheld_neither_starts_nor_comes_back_by_a_refill():
    """A delivery whose row will change now leaves its lane, and a refill that read the old row is ignored."""
    board = Board(Limits())
    lane = proved(board, 1)
    fill(board, lane, 2)
    lane.overflowed = True
    board.begin_refill(lane, 0)
    board.withhold(lane, 2)
    board.end_refill(lane, [owed(1, 2)], 0, more_fresh=False, next_timed_ms=None)
    assert [one.item.event for one in start_all(board)] == [1]
    assert board.items == 0


def test_what_is_given_back_is_asked_for_again():
    """After the row has changed, or not, the table decides anew whether it is owed."""
    board = Board(Limits())
    lane = proved(board, 1)
    fill(board, lane, 1)
    board.withhold(lane, 1)
    board.give_back(lane, 1)
    fresh, _ = board.begin_refill(lane, 0)
    assert fresh > 0
    board.end_refill(lane, [owed(1, 1)], 0, more_fresh=False, next_timed_ms=None)
    assert [one.item.event for one in start_all(board)] == [1]
