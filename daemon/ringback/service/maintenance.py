"""Looking after the database while the daemon runs: copy it, check it, prune it by hand.

Role: long work on connections of its own, in threads; one piece of it at a time; pruning through the one writer.
Rules: a copy is made beside the database (who asked takes it away from there), and only if there is room for it with
some to spare, so that it can't fill the disk under the queue. A stop calls off what runs.
Must not know: SQL, HTTP, where copies are kept.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, BinaryIO, Self, TypeVar

import msgspec

from ringback.kit.clock import Clock
from ringback.kit.log import get_logger
from ringback.service.endpoint_fields import Problem, Refusal
from ringback.service.janitor import DAY_MS, STEP_ROWS, Keep
from ringback.store import backup, retention
from ringback.store.backup import Aside, Cancelled, Contents
from ringback.store.check import Report, check_directory
from ringback.store.database import Database
from ringback.store.disk import usage
from ringback.store.errors import StateError
from ringback.store.writer import Writer

#: What a copy must leave free.
SPARE_BYTES = 64 * 1024 * 1024
#: Seconds of pruning in one call; the caller asks again while there is more.
PRUNE_S = 1.0
MAX_DAYS = 36_500
COPY_NAME = "copy"

T = TypeVar("T")

_log = get_logger()


class Swept(msgspec.Struct, frozen=True):
    """What was pruned in one call: events, attempts; and whether there is more."""

    events: int
    attempts: int
    more: bool


class Maintenance:
    """``keep()``: the retention in force. A context manager that stops at its end."""

    def __init__(self, database: Database, writer: Writer, clock: Clock, keep: Callable[[], Keep]) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock
        self._keep = keep
        self._busy: str | None = None
        self._aside: Aside | None = None
        self._ended = asyncio.Event()
        self._ended.set()
        self._stopping = False
        self._part = database.directory / (COPY_NAME + backup.PART_SUFFIX)
        self._part.unlink(missing_ok=True)  # of a daemon that was killed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @contextlib.asynccontextmanager
    async def backup(self) -> AsyncIterator[tuple[BinaryIO, Contents] | Refusal]:
        """A copy of everything committed by now, to be read as long as the context lasts."""
        disk = usage(self._database.directory)
        needed = disk.database_bytes + disk.log_bytes + SPARE_BYTES
        if disk.free_bytes < needed:
            yield Refusal("storage_full", f"a copy needs up to {needed} bytes beside the database for a while")
            return
        refusal = self._begin("backup")
        if refusal is not None:
            yield refusal
            return
        try:
            started, now_ms = self._clock.monotonic(), self._clock.now_ms()
            made = await self._apart(lambda aside: backup.copy(aside, self._part, now_ms))
            if isinstance(made, Refusal):
                yield made
                return
            elapsed_ms = round((self._clock.monotonic() - started) * 1000)
            _log.info("backup.made", bytes=made.size, elapsed_ms=elapsed_ms, **made.counts)
            with self._part.open("rb", buffering=0) as file:
                self._part.unlink()  # a kill from here on leaves nothing behind
                yield file, made
        finally:
            self._part.unlink(missing_ok=True)
            self._end()

    async def keyring(self) -> bytes:
        """A copy of the keyring as of now: keys wrapped by the master key."""
        found = await asyncio.to_thread(self._database.keyring_copy)
        _log.info("backup.keyring_made", bytes=len(found))
        return found

    async def check(self) -> Report | Refusal:
        """Look at the whole database."""
        refusal = self._begin("check")
        if refusal is not None:
            return refusal
        try:
            database = self._database
            found = await self._apart(lambda aside: check_directory(aside, database.directory, database.keys))
        finally:
            self._end()
        if isinstance(found, Report):
            say = _log.error if found.problems else _log.info
            say("check.ended", problems=len(found.problems), bytes=found.size)
        return found

    async def prune(self, asked: object) -> Swept | Refusal:
        """Prune for a moment what is older than the retention, or than the days that are asked for.

        Raises StoreError if it can't be written.
        """
        keep = self._read_keep(asked)
        if isinstance(keep, Refusal):
            return keep
        now_ms, until_s = self._clock.now_ms(), self._clock.monotonic() + PRUNE_S
        events = attempts = 0
        more = True
        while more and self._clock.monotonic() < until_s:
            first = await self._writer.run(retention.prune_events(now_ms - keep.events_ms, STEP_ROWS))
            second = await self._writer.run(retention.prune_attempts(now_ms - keep.attempts_ms, STEP_ROWS))
            events, attempts = events + first.pruned, attempts + second.pruned
            more = first.more or second.more
        if events:
            _log.info("retention.pruned", events=events)
        return Swept(events, attempts, more)

    async def stop(self) -> None:
        """Call off what runs, and wait for its end."""
        self._stopping = True
        if self._aside is not None:
            self._aside.cancel()
        await self._ended.wait()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _begin(self, what: str) -> Refusal | None:
        if self._stopping:
            return Refusal("shutting_down", "the daemon is stopping")
        if self._busy is not None:
            return Refusal("conflict", f"a {self._busy} is under way: one at a time")
        self._busy = what
        self._ended.clear()
        return None

    def _end(self) -> None:
        self._busy = None
        self._ended.set()

    async def _apart(self, work: Callable[[Aside], T]) -> T | Refusal:
        """Run it in a thread with a connection of its own; if nobody waits any more, call it off."""
        with Aside(self._database.path) as aside:
            self._aside = aside
            job = asyncio.ensure_future(asyncio.to_thread(work, aside))
            try:
                return await asyncio.shield(job)
            except asyncio.CancelledError:
                aside.cancel()
                await asyncio.wait({job})
                job.exception()
                raise
            except Cancelled:
                return Refusal("shutting_down", "the daemon is stopping")
            except StateError as problem:
                _log.exception("maintenance.failed", error=str(problem))
                return Refusal("internal_error", str(problem))
            finally:
                self._aside = None

    def _read_keep(self, asked: object) -> Keep | Refusal:
        """The retention in force with what is asked for put over it."""
        if asked is None:
            asked = {}
        if not isinstance(asked, dict):
            return _wrong((), "must be an object")
        keep: dict[str, Any] = {"events_days": self._keep().events_ms, "attempts_days": self._keep().attempts_ms}
        for name, days in asked.items():
            if name not in keep:
                return _wrong((name,), "is unknown; known are events_days and attempts_days")
            if isinstance(days, bool) or not isinstance(days, int) or not 0 <= days <= MAX_DAYS:
                return _wrong((name,), f"must be a whole number of days from 0 to {MAX_DAYS}")
            keep[name] = days * DAY_MS
        return Keep(keep["events_days"], keep["attempts_days"])


def _wrong(loc: tuple[str, ...], words: str) -> Refusal:
    problem = Problem(loc, words, "invalid_request")
    return Refusal("invalid_request", f"{'.'.join(loc)}: {words}" if loc else words, (problem,))
