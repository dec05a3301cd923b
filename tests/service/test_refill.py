"""Refills: the timers of rows that are due later."""

from ringback.core.schedule import Board, Limits
from ringback.kit.clock import SystemClock
from ringback.kit.wake import WakeUp
from ringback.service.refill import Refiller
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
