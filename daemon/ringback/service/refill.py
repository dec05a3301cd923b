"""Refill: lanes that ran low get their next ids from the table.

Role: keeps the timers of rows that are due later and the list of thirsty lanes, and asks the table for many at once.
Rules: one read at a time; what the table shows is as old as the read, so whatever a lane knew since the read began is
left out (``Board.begin_refill``); a read that takes too long is asked again later, nothing is lost by it.
Must not know: SQL, attempts, answers.
"""

import heapq
from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import Protocol

from ringback.core.lane import Lane, Rank
from ringback.core.model import Owed
from ringback.core.schedule import Board
from ringback.kit.clock import Clock
from ringback.kit.log import get_logger
from ringback.kit.wake import WakeUp
from ringback.store.errors import QueryTimeout
from ringback.store.queue import Ask, Refill

#: Lanes asked for in one read.
LANES_A_READ = 64
#: Events whose data is read ahead after one read, all its lanes together.
AHEAD_ITEMS = 512
#: After a read that took too long.
AGAIN_S = 1.0

_log = get_logger()


class RefillsLanes(Protocol):
    """The table's side."""

    async def refill(self, asks: Sequence[Ask], now_ms: int) -> Sequence[Refill]:
        """The next ids of these lanes."""
        ...


class Refiller:
    """Watches the board's thirsty lanes and their timers."""

    def __init__(
        self,
        board: Board,
        reads: RefillsLanes,
        clock: Clock,
        on_refilled: WakeUp,
        read_ahead: Callable[[Sequence[Owed]], None],
    ) -> None:
        self.wake = WakeUp()
        self._board = board
        self._reads = reads
        self._clock = clock
        self._on_refilled = on_refilled
        self._read_ahead = read_ahead
        self._timers: list[tuple[int, int]] = []
        self._armed: dict[int, int] = {}  # lane to its earliest timer
        self._in_heap: set[tuple[int, int]] = set()  # none is twice in the heap: a far one is armed again and again

    def note_due(self, lane: Lane, due_at_ms: int) -> None:
        """A row of this lane is due then (wall clock) and only the table has it."""
        lane.note_due(due_at_ms)
        self._arm(lane)

    async def turn(self, now_ms: int) -> float | None:
        """Refill what wants it; returns seconds until the next timer, None if there is none."""
        board = self._board
        while self._timers and self._timers[0][0] <= now_ms:
            timer = heapq.heappop(self._timers)
            self._in_heap.discard(timer)
            number = timer[1]
            self._armed.pop(number, None)
            lane = board.lanes.get(number)
            if lane is not None:
                board.thirsty[lane.number] = lane
        asks: list[Ask] = []
        lanes: list[tuple[Lane, bool]] = []
        while board.thirsty and len(asks) < LANES_A_READ:
            _, lane = board.thirsty.popitem(last=False)
            fresh, timed = board.begin_refill(lane, now_ms)
            if fresh or timed:
                known = len(lane.known)
                asks.append(Ask(lane.number, fresh + known if fresh else 0, timed + known if timed else 0))
                lanes.append((lane, bool(fresh)))
            elif not lane.timed_left:
                # The timer that brought it here was another row's, that has been sent or called off since; or the clock
                # was put back. Its own may have been left out for it.
                self._arm(lane)
        if asks and not await self._read(asks, lanes, now_ms):
            return AGAIN_S
        if board.thirsty:
            return 0.0
        return max(0.0, (self._timers[0][0] - now_ms) / 1000) if self._timers else None

    async def _read(self, asks: list[Ask], lanes: list[tuple[Lane, bool]], now_ms: int) -> bool:
        refills: Sequence[Refill] = ()
        done = False
        try:
            refills = await self._reads.refill(asks, now_ms)
            done = True
        except QueryTimeout:
            _log.warning("store.slow", what="refill", lanes=len(asks))
        finally:
            answers = {r.lane: r for r in refills}
            for lane, asked_fresh in lanes:
                self._end(lane, answers.get(lane.number), now_ms, asked_fresh=asked_fresh)
        self._look_ahead([lane for lane, _ in lanes])
        self._on_refilled.wake()
        return done

    def _end(self, lane: Lane, answer: Refill | None, now_ms: int, *, asked_fresh: bool) -> None:
        """Give a lane its answer; without one it is asked for again, from the beginning."""
        board = self._board
        if answer is None:
            board.end_refill(lane, [], now_ms, more_fresh=True, next_timed_ms=None)
            board.look_again(lane)
            return
        more_fresh = answer.more_fresh or not asked_fresh
        board.end_refill(lane, answer.items, now_ms, more_fresh=more_fresh, next_timed_ms=answer.next_timed_ms)
        if not lane.timed_left:
            self._arm(lane)

    def _look_ahead(self, lanes: Sequence[Lane]) -> None:
        """Have the data of what comes next in healthy lanes read in one go: a start that waits for it holds a slot."""
        healthy = [lane for lane in lanes if lane.open and lane.rank() <= Rank.BUSY]
        if healthy:
            share = AHEAD_ITEMS // len(healthy)
            self._read_ahead([item for lane in healthy for item in islice(chain(lane.fresh, lane.timed), share)])

    def _arm(self, lane: Lane) -> None:
        """See to it that a timer fires no later than the lane's next due time."""
        due_at_ms = lane.next_timed_ms
        if due_at_ms is not None and due_at_ms < self._armed.get(lane.number, due_at_ms + 1):
            self._armed[lane.number] = due_at_ms
            timer = (due_at_ms, lane.number)
            if timer not in self._in_heap:
                self._in_heap.add(timer)
                heapq.heappush(self._timers, timer)
                self.wake.wake()
