"""Keeping the database within its budget: ``[retention] max_database_bytes``.

Role: the janitor's chore that looks at the bytes in use and carries out what ``core.budget`` says: prune the oldest
finished events in bounded steps, shut the writer to new ones while nothing else helps, open it again.
Rules: without a budget nothing is looked at. Finding what is finished is a reader's work; a round that found nothing
isn't repeated before ten times as long has passed as it took.
Must not know: SQL, time as such: age plays no part here.
"""

from typing import Protocol

import msgspec

from ringback.core import budget
from ringback.core.budget import Episode
from ringback.core.times import rfc3339
from ringback.kit.clock import Clock
from ringback.kit.log import get_logger
from ringback.store.errors import QueryTimeout
from ringback.store.retention import prune_finished
from ringback.store.room import Finished
from ringback.store.writer import Writer

#: Events pruned in one step, and the bytes of their payloads: freeing a page costs as much as writing one.
STEP_EVENTS = 256
STEP_BYTES = 16 * 1024 * 1024
#: What an event takes beside its payload, in bytes, at least: rather too little is pruned in a step than too much.
EVENT_BYTES = 256
#: Events looked through at once; halved, down to the least, when that took too long.
WINDOW = 4096
MIN_WINDOW = 64
#: A round that found nothing is repeated after so many times its length, in seconds at least.
ROUND_PAUSE = 10
MIN_ROUND_PAUSE_S = 1.0

_log = get_logger()


class LooksAtRoom(Protocol):
    """What is asked of the table."""

    async def used_bytes(self) -> int:
        """Bytes in use now."""
        ...

    async def finished(self, after: int, window: int, limit: int) -> Finished:
        """Events that owe nobody anything, behind that one."""
        ...


class Budget:
    """``used_bytes``: as of the last look, None without a budget. ``max_bytes``: 0 is none."""

    def __init__(self, reads: LooksAtRoom, writer: Writer, clock: Clock, max_bytes: int = 0) -> None:
        self._reads = reads
        self._writer = writer
        self._clock = clock
        self.max_bytes = max_bytes
        self.used_bytes: int | None = None
        self._episode: Episode | None = None
        self._pruned = 0  # in this episode, and not yet told
        self._told = False  # that this episode prunes, though it goes on
        self._latest_ms = 0  # when the latest of them was accepted
        self._after = 0  # the round under way has come to this event,
        self._found = False  # has found something,
        self._began_s = 0.0  # began then
        self._next_round_s = 0.0
        self._window = WINDOW

    def limit(self, max_bytes: int) -> None:
        """Keep within this from the next look on."""
        self.max_bytes = max_bytes

    async def turn(self) -> bool:
        """Look and, over the budget, take one step; True if the next should follow at once.

        Raises StoreError if it can't be written, QueryTimeout if even a small look took too long.
        """
        if not self.max_bytes and self._episode is None:
            self.used_bytes = None
            return False
        self.used_bytes = await self._reads.used_bytes()
        self._judge(self.used_bytes)
        if self._episode is None or self._clock.monotonic() < self._next_round_s:
            return False
        return await self._step(int(self.used_bytes - self.max_bytes * budget.PRUNE_TO))

    def _judge(self, used_bytes: int) -> None:
        """Carry out what the look came to."""
        before, self._episode = self._episode, budget.look(self._episode, used_bytes, self.max_bytes)
        if self._episode is None:
            if before is not None:
                self._tell()
                self._told, self._after, self._next_round_s, self._window = False, 0, 0.0, WINDOW
            self._writer.reopen()
        elif self._episode.refusing is None:
            self._writer.reopen()
        else:
            self._writer.shut(self._episode.refusing)

    async def _step(self, excess_bytes: int) -> bool:
        """Find what is finished behind where the round stands, and prune as much of it as is needed."""
        if not self._after:
            self._began_s, self._found = self._clock.monotonic(), False
        try:
            found = await self._reads.finished(self._after, self._window, STEP_EVENTS)
        except QueryTimeout:
            if self._window == MIN_WINDOW:
                raise
            self._window = max(MIN_WINDOW, self._window // 2)
            return True
        seqs = _enough(found.events, min(excess_bytes, STEP_BYTES))
        if not seqs:
            self._after = found.end
            return self._round_goes_on(found)
        done = await self._writer.run(prune_finished(seqs, STEP_EVENTS))
        self._after = done.last
        self._pruned += done.pruned
        self._latest_ms = max(self._latest_ms, done.latest_ms)
        self._found |= done.pruned > 0
        return True

    def _round_goes_on(self, found: Finished) -> bool:
        """At the end of a round: begin anew, at once only if this one found something."""
        if found.more:
            return True
        self._after = 0
        if self._episode is not None:
            self._episode = msgspec.structs.replace(self._episode, exhausted=not self._found)
        if not self._found:
            now_s = self._clock.monotonic()
            self._next_round_s = now_s + max(MIN_ROUND_PAUSE_S, ROUND_PAUSE * (now_s - self._began_s))
            if not self._told:
                self._tell()
        return True  # judge it now

    def _tell(self) -> None:
        """Say what was pruned before its time, if anything was: once nothing is left or the episode is over."""
        if self._pruned:
            since = rfc3339(self._latest_ms)
            _log.warning(
                "retention.budget",
                events=self._pruned,
                remembered_since=since,
                used_bytes=self.used_bytes,
                budget_bytes=self.max_bytes,
            )
            self._pruned, self._told = 0, True


def _enough(events: list[tuple[int, int]], wanted_bytes: int) -> list[int]:
    """The oldest of these events that together free about so much; at least one, if there is any."""
    seqs: list[int] = []
    for seq, size in events:
        if seqs and wanted_bytes <= 0:
            break
        seqs.append(seq)
        wanted_bytes -= size + EVENT_BYTES
    return seqs
