"""The spool: files become events on disk, then they go away.

Role: looks what lies in the spool directory, lets whole files in through ``Intake``, and removes a file only once all
its events are durable; a bad file goes to ``failed/`` with its reason.
Rules: a file counts as a whole: all its lines are judged, against the table too, before the first is committed; a file
that can't be dealt with now is held for ``HOLD_S`` and told once, so no file ever makes a loop. Files and their parsing
belong to a worker thread.
Must not know: SQL, what an event's line looks like.
"""

import asyncio
import errno
from typing import NamedTuple, Protocol

from ringback.core.events import EventLimits
from ringback.core.model import Event, Peer
from ringback.core.spool import BadLine, FileIdentity, Judged, reason_document, shown_name
from ringback.core.times import rfc3339
from ringback.kit.clock import Clock
from ringback.kit.log import get_logger
from ringback.kit.wake import WakeUp
from ringback.service.intake import CONFLICT, Intake
from ringback.service.spool_commit import Settled, SpoolCommit, bad_line
from ringback.store.errors import QueryTimeout
from ringback.transports.spool import Found, SpoolFolder, SpoolGone, SpoolInUse, Unready
from ringback.transports.spool_watch import SpoolWatch

#: The directory is looked at this often: beside the kernel's hints, and without them.
SWEEP_S = 5.0
SWEEP_UNWATCHED_S = 1.0
#: Files one look brings.
MAX_SCAN = 4096
#: Files are read together until they make this much; then they are committed.
BATCH_FILES = 256
BATCH_EVENTS = 512
BATCH_BYTES = 4 * 1024 * 1024
#: A file that can't be read, removed or moved is tried again after this long.
HOLD_S = 60.0
#: A file with two names gets this long to lose one.
LINK_GRACE_S = 2.0
#: After a full disk, a slow table or a lost directory the next look is this far away.
RETRY_S = 5.0
#: Files held at once; with more the spool waits, for something is wrong with all of it.
MAX_HELD = 10_000

_log = get_logger()


class Knows(Protocol):
    """Which ids are taken."""

    async def conflicts(self, events: list[Event]) -> set[tuple[str, str]]:
        """(tenant, id) of those whose id is stored with other content; QueryTimeout."""
        ...


class _Held(NamedTuple):
    """A file set aside until ``until_s`` (monotonic). ``durable``: only its removal is owed."""

    until_s: float
    durable: bool = False
    linked: bool = False


class _Good(NamedTuple):
    """A file all of whose lines are events."""

    found: Found
    judged: Judged


class _Bad(NamedTuple):
    """A file for ``failed/``; ``accepted`` of its lines were committed before it was known to be bad.

    ``counted``: its bad lines were refused by the intake, which counts them.
    """

    found: Found
    lines: list[BadLine]
    accepted: int = 0
    counted: bool = False


_Read = list[tuple[Found, Judged | Unready | None]]


class Spool:
    """The spool directory's service: ``turn`` is its loop, ``wake`` its hint."""

    def __init__(self, *, folder: SpoolFolder, intake: Intake, known: Knows, limits: EventLimits, clock: Clock) -> None:
        """``folder`` is open, and locked, by now."""
        self.wake = WakeUp()
        self._folder = folder
        self._known = known
        self._limits = limits
        self._clock = clock
        self._committing = SpoolCommit(intake)
        self._watch = SpoolWatch(self.wake.wake)
        self._watch_told = False
        self._held: dict[FileIdentity, _Held] = {}
        self._turning = asyncio.Lock()
        self._stopping = False
        self._lost = False
        self._trouble = ""

    async def stop(self) -> None:
        """Settle the slice under way, take nothing more, let the directory go. The rest of the file stays."""
        self._stopping = True
        self._committing.stop()
        async with self._turning:
            self._watch.stop()
            self._folder.close()

    async def turn(self, now_ms: int) -> float | None:
        """Take what lies there; the seconds until the next look."""
        async with self._turning:
            if self._stopping:
                return None
            try:
                if self._lost:
                    await asyncio.to_thread(self._folder.open)
                    self._lost = False
                    _log.info("spool.back", path=self._folder.path)
                self._start_watch()
                return await self._sweep(now_ms)
            except (OSError, SpoolInUse) as error:  # the directory itself: single files' troubles are dealt with below
                return self._lose(error)

    def _start_watch(self) -> None:
        if self._watch.running:
            return
        try:
            self._watch.start(self._folder.watched)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise SpoolGone(errno.ENOENT, "the spool directory was removed", self._folder.path) from error
            if not self._watch_told:
                self._watch_told = True
                _log.warning("spool.unwatched", error=str(error), sweep_s=SWEEP_UNWATCHED_S)

    def _lose(self, error: Exception) -> float:
        if not self._lost:
            _log.error("spool.unavailable", path=self._folder.path, error=str(error))
        self._lost = True
        self._watch.stop()
        self._folder.close()
        return RETRY_S

    async def _sweep(self, now_ms: int) -> float:
        now_s = self._clock.monotonic()
        due = {key: held for key, held in self._held.items() if held.until_s <= now_s}
        if len(self._held) - len(due) >= MAX_HELD:
            self._tell_trouble("too_many_held", f"{MAX_HELD} files can't be dealt with; see spool.paused")
            return RETRY_S
        waiting = self._held.keys() - due.keys()
        found = files = await asyncio.to_thread(self._folder.scan, MAX_SCAN, waiting.__contains__)
        while files and not self._stopping:
            batch, files = await asyncio.to_thread(self._read, files, now_ms, due)
            if not await self._take(batch, now_ms):
                return RETRY_S
            self._tell_trouble("", "")
        for key in due.keys() - {one.identity for one in found}:
            del self._held[key]  # it went away by itself
        return 0.0 if len(found) >= MAX_SCAN else self._delay_s()

    def _delay_s(self) -> float:
        sweep_s = SWEEP_S if self._watch.running else SWEEP_UNWATCHED_S
        linked = any(held.linked for held in self._held.values())
        return min(sweep_s, LINK_GRACE_S) if linked else sweep_s

    def _read(self, files: list[Found], now_ms: int, due: dict[FileIdentity, _Held]) -> tuple[_Read, list[Found]]:
        """Read files until they make a batch; the rest comes later. Runs in a thread."""
        batch: _Read = []
        events = size = 0
        for found in files[:BATCH_FILES]:
            held = due.get(found.identity)
            if held is not None and held.durable:
                batch.append((found, Judged([], [])))
                continue
            judged = self._folder.read(found, self._limits, now_ms, patient=held is None or not held.linked)
            batch.append((found, judged))
            if isinstance(judged, Judged):
                events += len(judged.events)
                size += found.size
            if events >= BATCH_EVENTS or size >= BATCH_BYTES:
                break
        return batch, files[len(batch) :]

    async def _take(self, batch: _Read, now_ms: int) -> bool:
        """Commit and clear away a batch; False: the store takes nothing now, so look again later."""
        good: list[_Good] = []
        bad: list[_Bad] = []
        for found, judged in batch:
            if isinstance(judged, Unready):
                self._hold(found, judged.why, linked=judged.linked)
            elif judged is None:
                self._held.pop(found.identity, None)
            elif judged.bad:
                bad.append(_Bad(found, judged.bad))
            elif refused := self._committing.refusals(judged):
                bad.append(_Bad(found, refused))
            else:
                good.append(_Good(found, judged))
        try:
            taken = await self._known.conflicts([e for one in good for _, e in one.judged.events if e.id_given])
        except QueryTimeout as error:
            self._tell_trouble("query_timeout", str(error))
            return False
        if taken:
            bad += [_Bad(one.found, lines) for one in good if (lines := _conflicts(one.judged, taken))]
            good = [one for one in good if not _conflicts(one.judged, taken)]
        settled = await self._committing.commit(
            [(Peer("spool", one.found.uid, one.found.gid), one.judged) for one in good]
        )
        durable = [one.found for one, what in zip(good, settled, strict=True) if self._judge(one.found, what, bad)]
        await self._clear_away(durable, bad, now_ms)
        return not any(what.cut or what.waits for what in settled)

    def _judge(self, found: Found, what: Settled, bad: list[_Bad]) -> bool:
        """Whether the file may go; else what is to become of it."""
        if what.waits is not None:
            self._tell_trouble(what.waits.code, what.waits.message)
        elif what.cut:
            return False
        elif what.stuck is not None:
            self._hold(found, f"{what.stuck.code}: {what.stuck.message}")
        elif what.bad:
            bad.append(_Bad(found, what.bad, what.accepted, counted=True))
        else:
            _log.debug("spool.accepted", file=shown_name(found.name), events=what.accepted, duplicates=what.duplicates)
            return True
        return False

    async def _clear_away(self, durable: list[Found], bad: list[_Bad], now_ms: int) -> None:
        kept = await asyncio.to_thread(self._remove, durable) if durable else {}
        for found in durable:
            if found in kept:
                self._hold(found, f"its events are accepted, but it can't be removed: {kept[found]}", durable=True)
            else:
                self._held.pop(found.identity, None)
        for one in bad:
            try:
                name = await asyncio.to_thread(self._fail, one, now_ms)
            except OSError as error:
                why = f"{one.lines[0].message}; and it can't be moved to failed/: {error.strerror or error}"
                self._hold(one.found, why)
                continue
            self._held.pop(one.found.identity, None)
            if name is not None:
                self._committing.count(one.lines if not one.counted else [])
                _tell_failed(one, name)

    def _fail(self, one: _Bad, now_ms: int) -> str | None:
        """Move a bad file away with its reason, which may name 50,000 lines. Runs in a thread; raises OSError."""
        found = one.found
        reason = reason_document(found.name, found.size, found.uid, rfc3339(now_ms), one.lines, one.accepted)
        return self._folder.fail(found, reason)

    def _remove(self, durable: list[Found]) -> dict[Found, str]:
        """Remove what is durable; what couldn't be, and why. Runs in a thread."""
        kept = {}
        for found in durable:
            try:
                self._folder.remove(found)
            except OSError as error:
                kept[found] = error.strerror or str(error)
        return kept

    def _hold(self, found: Found, why: str, *, durable: bool = False, linked: bool = False) -> None:
        """Set the file aside for a while; told once, however often it is tried."""
        told = found.identity in self._held
        wait_s = LINK_GRACE_S if linked else HOLD_S
        self._held[found.identity] = _Held(self._clock.monotonic() + wait_s, durable, linked)
        if not told and not linked:
            _log.warning("spool.paused", file=shown_name(found.name), reason=why, retry_s=wait_s)

    def _tell_trouble(self, code: str, message: str) -> None:
        """One line when the spool starts to wait, one when it goes on."""
        if code and code != self._trouble:
            _log.warning("spool.waiting", code=code, message=message, retry_s=RETRY_S)
        elif self._trouble and not code:
            _log.info("spool.resumed", after=self._trouble)
        self._trouble = code


def _conflicts(judged: Judged, taken: set[tuple[str, str]]) -> list[BadLine]:
    return [bad_line(number, CONFLICT) for number, event in judged.events if (event.tenant, event.id) in taken]


def _tell_failed(one: _Bad, name: str) -> None:
    first = one.lines[0]
    _log.warning(
        "spool.failed",
        file=shown_name(one.found.name),
        failed_as=name,
        bad_lines=len([line for line in one.lines if line.line is not None]),
        code=first.code,
        line=first.line,
        message=first.message,
        accepted=one.accepted,
        uid=one.found.uid,
    )
