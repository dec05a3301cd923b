"""The board under any order of calls: nothing starves, caps hold, counters agree."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.harness.boards import owed, start_all

from ringback.core.lane import WEAK_WINDOW, Rank
from ringback.core.schedule import Board, Limits
from ringback.core.window import Signal


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
