"""How a lane stands, in a handful of numbers: what ``why`` and ``top`` show of the schedule.

Rules: looks, never changes; cheap enough for every endpoint of a page.
Must not know: words.
"""

from heapq import nlargest

import msgspec

from ringback.core import rate
from ringback.core.lane import Lane, Rank
from ringback.core.schedule import Board


class LaneFacts(msgspec.Struct, frozen=True):
    """One lane now. ``allowed``: requests it may have in flight; ``waiting``: ids in memory, the table may hold more.

    ``rate_wait_s``: until its rate limit lets the next one start. ``next_due_ms``: the earliest known due time of what
    waits in the table. ``slots_full``: all the daemon's requests are in flight.
    """

    in_flight: int = 0
    allowed: int = 1
    cap: int = 1
    failures: int = 0
    failing: bool = False
    proved: bool = False
    waiting: int = 0
    rate_wait_s: float = 0.0
    next_due_ms: int | None = None
    slots_full: bool = False


NOTHING_KNOWN = LaneFacts()


def lane_facts(board: Board, number: int, now_s: float) -> LaneFacts:
    """The facts of one lane at ``now_s`` (monotonic seconds); one that was never used stands at the beginning."""
    lane = board.lanes.get(number)
    if lane is None:
        return NOTHING_KNOWN
    wait_s = 0.0 if lane.meter is None else max(0.0, rate.free_at_s(lane.meter, now_s) - now_s)
    return LaneFacts(
        in_flight=lane.in_flight,
        allowed=min(lane.cap, int(lane.window.size)),
        cap=lane.cap,
        failures=lane.window.failures,
        failing=lane.rank() is Rank.FAILING,
        proved=lane.window.proved,
        waiting=lane.waiting,
        rate_wait_s=wait_s,
        next_due_ms=lane.next_timed_ms or None,
        slots_full=board.in_flight >= board.limits.slots,
    )


def busiest(board: Board, limit: int, now_s: float) -> list[tuple[int, LaneFacts]]:
    """The lanes with most to do, most first: by requests in flight, failures, ids that wait."""
    found = nlargest(limit, board.lanes.values(), key=_busyness)
    return [(lane.number, lane_facts(board, lane.number, now_s)) for lane in found]


def failing(board: Board) -> int:
    """How many lanes that may send are failing now: their latest attempts failed, or they are silent."""
    return sum(lane.open and lane.rank() is Rank.FAILING for lane in board.lanes.values())


def _busyness(lane: Lane) -> tuple[int, int, int]:
    return lane.in_flight, lane.waiting, lane.window.failures
