"""Wake-ups and the loop that every service runs: a turn, then a wait for the next one.

Role: ``WakeUp`` is a hint that there may be work; ``run_turns`` is the one shape of a loop.
Rules: hints coalesce and are never lost between a turn and the wait after it; every loop also polls, so that a missing
hint costs time and not progress; an exception in a turn ends the loop and reaches its owner.
Must not know: what a turn does.
"""

import asyncio
from collections.abc import Awaitable, Callable

from ringback.kit.clock import Clock

#: A loop looks again at least this often, hint or no hint.
POLL_S = 30.0


class WakeUp:
    """A coalescing hint from anybody on the loop's thread to one waiting loop. Not thread-safe."""

    __slots__ = ("_waiter", "_woken")

    def __init__(self) -> None:
        self._woken = False
        self._waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Ask for a turn. Any number of calls before the next ``wait`` count as one."""
        self._woken = True
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def wait(self, timeout_s: float | None, clock: Clock) -> bool:
        """Return True once woken, False after ``timeout_s`` seconds (None: no time limit).

        Always lets the rest of the event loop run, even when there is nothing to wait for.

        Raises:
            RuntimeError: somebody else is waiting already; a hint has one listener.
        """
        if self._waiter is not None:
            raise RuntimeError("a WakeUp has one waiter")
        if self._woken or (timeout_s is not None and timeout_s <= 0):
            await clock.sleep(0)
        else:
            await self._sleep(timeout_s, clock)
        woken, self._woken = self._woken, False
        return woken

    async def _sleep(self, timeout_s: float | None, clock: Clock) -> None:
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        try:
            if timeout_s is None:
                await waiter
            else:
                await _first(waiter, clock.sleep(timeout_s))
        finally:
            self._waiter = None


async def _first(waiter: asyncio.Future[None], sleep: Awaitable[None]) -> None:
    timer = asyncio.ensure_future(sleep)
    try:
        await asyncio.wait((waiter, timer), return_when=asyncio.FIRST_COMPLETED)
        if timer.done():
            timer.result()
    finally:
        timer.cancel()


async def run_turns(
    turn: Callable[[int], Awaitable[float | None]], clock: Clock, wake: WakeUp, poll_s: float = POLL_S
) -> None:
    """Run ``delay_s = await turn(now_ms)`` for ever, waiting in between for the delay or a wake-up.

    A delay of None means: nothing is due, only ``poll_s`` or a wake-up brings the next turn. Ends by cancellation, or
    by the first exception out of a turn, which is passed on. ``now_ms`` is the turn's one reading of the wall clock.
    """
    while True:
        delay_s = await turn(clock.now_ms())
        await wake.wait(poll_s if delay_s is None else min(delay_s, poll_s), clock)
