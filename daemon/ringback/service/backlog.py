"""How much is owed in all, and since when: read from the table, but never often enough to cost anything.

Role: the two gauges that memory doesn't know.
Rules: the look walks over every owed row (a tenth of a second for a million, on a reader's thread), so a look is reused
for ``KEPT_S`` and for as long as keeps the looking below one part in ``SHARE`` of the time; a look that takes too long
leaves the last one standing and counts as a long one. One look at a time, whoever asks.
Must not know: SQL, scrapers.
"""

import asyncio
import contextlib
from typing import Protocol

import msgspec

from ringback.kit.clock import Clock
from ringback.store.errors import QueryTimeout

#: A look is reused for this long at least.
KEPT_S = 5.0
#: Looking may take one part in this many of the time.
SHARE = 100


class Backlog(msgspec.Struct, frozen=True):
    """What is owed. ``oldest_at_ms``: when the oldest of it was accepted (wall clock); None if nothing is owed."""

    pending: int = 0
    oldest_at_ms: int | None = None


class LooksAtQueue(Protocol):
    """The table's side."""

    async def backlog(self) -> tuple[int, int | None]:
        """How many rows are owed, and when the oldest event among them was accepted."""
        ...


class BacklogLook:
    """The latest look, renewed when asked for and old enough."""

    def __init__(self, reads: LooksAtQueue, clock: Clock) -> None:
        self._reads = reads
        self._clock = clock
        self._latest = Backlog()
        self._again_at_s = 0.0
        self._one = asyncio.Lock()

    async def get(self) -> Backlog:
        """What is owed, a little while ago."""
        async with self._one:
            began_s = self._clock.monotonic()
            if began_s >= self._again_at_s:
                with contextlib.suppress(QueryTimeout):  # too much to count: the last look stands, the next comes later
                    self._latest = Backlog(*await self._reads.backlog())
                took_s = self._clock.monotonic() - began_s
                self._again_at_s = began_s + max(KEPT_S, SHARE * took_s)
            return self._latest
