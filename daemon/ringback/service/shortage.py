"""What follows when this process has no file descriptor left, for a request or for who connects.

Role: counts requests, lets the board rest for a moment (every other start would fail as well, and each failure is a
write), and tells the operator now and then. That nobody can connect is found by looking: the loop's library accepts
such a connection in an emergency and closes it, or leaves it to wait, and says nothing of either.
Rules: an endpoint has nothing to do with it, so nothing is told of one.
Must not know: which request it was, how a descriptor comes free.
"""

from ringback.core.model import OutcomeKind
from ringback.core.schedule import Board
from ringback.kit.clock import Clock
from ringback.kit.limits import lacking
from ringback.kit.log import get_logger
from ringback.service.metrics import Metrics

#: Seconds in which nothing starts: long enough that trying costs nothing, short enough that nobody misses them.
REST_S = 0.25
#: Seconds between two lines in the log about it.
SAY_EVERY_S = 10.0
#: Seconds between two looks whether one more descriptor can be had: a call to the kernel, a few microseconds.
LOOK_EVERY_S = 1.0

_log = get_logger()


class Shortage:
    """Hears of every request that could not be made."""

    def __init__(self, board: Board, clock: Clock, metrics: Metrics) -> None:
        self._board = board
        self._clock = clock
        self._metrics = metrics
        self._say_at_s = 0.0
        self._unsaid = 0

    def met(self, lack: str) -> None:
        """One more; ``lack`` says in words what there is none of."""
        now_s = self._clock.monotonic()
        self._board.rest_until_s = now_s + REST_S
        self._metrics.attempts.add(OutcomeKind.NO_RESOURCES)
        self._unsaid += 1
        if now_s >= self._say_at_s:
            _log.error("daemon.out_of_files", error=lack, postponed=self._unsaid)
            self._say_at_s, self._unsaid = now_s + SAY_EVERY_S, 0


class Doors:
    """Looks whether anybody can connect; ``turn`` is its loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._say_at_s = 0.0

    async def turn(self, _now_ms: int) -> float:
        """Look, and tell; seconds until the next look."""
        lack, now_s = lacking(), self._clock.monotonic()
        if lack is not None and now_s >= self._say_at_s:
            _log.error("daemon.out_of_files", error=lack, connections="who connects now is turned away or waits")
            self._say_at_s = now_s + SAY_EVERY_S
        return LOOK_EVERY_S
