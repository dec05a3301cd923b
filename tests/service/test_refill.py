"""Refills: the timers of rows that are due later, and whose turn it is to be asked for."""

from tests.harness.boards import owed, proved

from ringback.core.lane import LANE_WINDOW
from ringback.core.model import Phase
from ringback.core.schedule import Board, Limits
from ringback.kit.clock import SystemClock
from ringback.kit.wake import WakeUp
from ringback.service.refill import LANES_A_READ, Refiller
from ringback.store.queue import Refill

FAR_MS = 86_400_000


class Reads:
    """A table that holds one row, due in a day."""

    async def refill(self, asks, now_ms):
        return [Refill(ask.lane, [], FAR_MS, more_fresh=False) for ask in asks if now_ms < FAR_MS]


async def test_a_far_timer_is_kept_once_however_often_nearer_ones_come_and_go():
    """A retry due tomorrow beside a thousand due in seconds must not fill the memory with timers of its own."""
    board = Board(Limits())
    lane = board.lane(1, "t", 8)
    refiller = Refiller(board, Reads(), SystemClock(), WakeUp(), lambda _: None)
    refiller.note_due(lane, FAR_MS)
    for second in range(1, 1000):
        refiller.note_due(lane, second * 1000)
        await refiller.turn(second * 1000)
    assert len(refiller._timers) == 1
    assert lane.next_timed_ms == FAR_MS


class Table:
    """A table of rows that are due at a time: (lane, due) each."""

    def __init__(self, *rows):
        self.rows = set(rows)
        self.asked = []

    async def refill(self, asks, now_ms):
        self.asked.append([ask.lane for ask in asks])
        return [self.answer(ask, sorted(due for lane, due in self.rows if lane == ask.lane), now_ms) for ask in asks]

    @staticmethod
    def answer(ask, dues, now_ms):
        due = [owed(ask.lane, ms, phase=Phase.TIMED, due=ms) for ms in dues if ms <= now_ms]
        later = [ms for ms in dues if ms > now_ms] or [None]
        next_ms = due[ask.timed].due_at_ms if len(due) > ask.timed else later[0]
        return Refill(ask.lane, due[: ask.timed], next_ms, more_fresh=False)


async def test_a_retry_waits_for_its_own_time_after_an_earlier_one_was_sent_by_hand_or_called_off():
    """The earlier one's timer is still there, and nobody else would wake the lane for the later one."""
    board = Board(Limits())
    lane = board.lane(1, "t", 8)
    table = Table((1, 5000), (1, 9000))
    refiller = Refiller(board, table, SystemClock(), WakeUp(), lambda _: None)
    refiller.note_due(lane, 5000)
    refiller.note_due(lane, 9000)
    board.withhold(lane, 5000)
    table.rows.remove((1, 5000))
    board.give_back(lane, 5000)
    await refiller.turn(1000)
    assert await refiller.turn(5000) == 4.0, "the next timer is the later one's"
    await refiller.turn(9000)
    assert [item.event for item in lane.timed] == [9000]


async def test_what_was_due_already_comes_in_its_time_after_the_clock_was_put_back():
    """More than a lane holds was due; what had to stay in the table is due later now, and a timer must bring it."""
    board = Board(Limits())
    lane = proved(board, 1)
    table = Table(*((1, ms) for ms in range(5000, 5000 + 2 * LANE_WINDOW)))
    refiller = Refiller(board, table, SystemClock(), WakeUp(), lambda _: None)
    refiller.note_due(lane, 5000)
    await refiller.turn(9000)
    assert (lane.waiting, lane.timed_left) == (LANE_WINDOW, True)
    board.start(0.0)
    assert lane.number in board.thirsty
    left_ms = 5000 + LANE_WINDOW
    assert await refiller.turn(3000) == (left_ms - 3000) / 1000, "a timer is set for the first that was left"


async def test_lanes_are_refilled_in_the_order_they_ran_low():
    """With more of them than one read takes, those that run low again at once come behind those that wait."""
    board = Board(Limits())
    lanes = [board.lane(number, "t", 8) for number in range(2 * LANES_A_READ + 1)]
    table = Table()
    refiller = Refiller(board, table, SystemClock(), WakeUp(), lambda _: None)
    for lane in lanes:
        board.look_again(lane)
    for _ in range(3):
        await refiller.turn(0)
        for number in table.asked[-1]:
            board.look_again(lanes[number])
    assert [number for asked in table.asked for number in asked][: len(lanes)] == list(range(len(lanes)))
