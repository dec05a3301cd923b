"""Event bodies on their way from the commit to the wire, so that a fresh delivery needn't read back what it just wrote.

Role: a bounded cache of events that were accepted a moment ago, and the loader for those that are not in it.
Rules: bounded in bytes; the oldest goes first when it is full, so that events waiting at dead endpoints can't push out
everybody else's; an event whose last direct hand-off has started is let go at once, and so is one that is erased. One
read at a time: what is asked for meanwhile is read together next, because under load a read costs a turn on the
processor, however small it is.
Must not know: lanes, turns, HTTP.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from ringback.core.model import Event, Owed
from ringback.store.errors import QueryTimeout

#: Bytes of events kept; a body beyond it is read from the table when its turn comes.
MAX_CACHED_BYTES = 32 * 1024 * 1024
#: What an event weighs beside its data (its objects, its places in dicts): without it, millions of tiny events fit.
OVERHEAD_BYTES = 1024
#: Erased events that are remembered, the latest: what was on its way to an attempt must not be sent.
MAX_ERASED = 65_536
#: What one call of ``ahead`` reads at most.
MAX_AHEAD_BYTES = 4 * 1024 * 1024


class Stored(Protocol):
    """An event as the table gives it back."""

    @property
    def seq(self) -> int:
        """Its row number."""
        ...

    @property
    def event(self) -> Event:
        """The event."""
        ...

    @property
    def accepted_at_ms(self) -> int:
        """When it was accepted, wall clock."""
        ...

    @property
    def corrupt(self) -> bool:
        """Its data is not what was written."""
        ...

    @property
    def erased_at_ms(self) -> int | None:
        """When it was erased, None if it wasn't."""
        ...


class LoadsEvents(Protocol):
    """The table's side."""

    async def load(self, seqs: Sequence[int]) -> Sequence[Stored]:
        """These events; those that are gone are left out."""
        ...


class Body:
    """One event in memory, with the encodings its endpoints share (by encoder key: each is made once)."""

    __slots__ = ("accepted_at_ms", "corrupt", "encoded", "event", "holders")

    def __init__(self, event: Event, accepted_at_ms: int, holders: int, *, corrupt: bool = False) -> None:
        self.event = event
        self.accepted_at_ms = accepted_at_ms
        self.holders = holders
        self.corrupt = corrupt
        self.encoded: dict[str, bytes] = {}


def missing(seq: int) -> Body:
    """Stands for an owed event that the table doesn't hold: its delivery ends, by name, and is not asked for again."""
    return Body(Event(f"missing-{seq}", "", "", b"", 0, b""), 0, 0, corrupt=True)


class _Batch:
    """Events that are read together. ``starting``: those an attempt waits for."""

    __slots__ = ("error", "found", "seqs", "starting")

    def __init__(self) -> None:
        self.seqs: set[int] = set()
        self.starting: set[int] = set()
        self.found: dict[int, Body] | None = None
        self.error: Exception | None = None


class Bodies:
    """The cache and the loader."""

    def __init__(self, reads: LoadsEvents, max_bytes: int = MAX_CACHED_BYTES) -> None:
        self._reads = reads
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: dict[int, Body] = {}
        self._turn = asyncio.Lock()
        self._next: _Batch | None = None
        self._reading: _Batch | None = None
        self._erased: dict[int, None] = {}

    def forget(self, seq: int) -> None:
        """The event is erased, or about to be: what is here of it, or on its way here, must not be sent."""
        if len(self._erased) >= MAX_ERASED:
            del self._erased[next(iter(self._erased))]
        self._erased[seq] = None
        if seq in self._kept:
            self._drop(seq)
        self._keep_nothing_of(self._reading)

    def forget_tenant(self, tenant: str) -> None:
        """The same of all that a tenant has, but for what attempts have in hand."""
        for seq in [seq for seq, body in self._kept.items() if body.event.tenant == tenant]:
            self._drop(seq)
        self._keep_nothing_of(self._reading)

    def regain(self, seq: int) -> None:
        """It could not be erased."""
        self._erased.pop(seq, None)

    def is_erased(self, seq: int) -> bool:
        """Whether it was erased lately; of those before, the table says so."""
        return seq in self._erased

    @staticmethod
    def _keep_nothing_of(batch: _Batch | None) -> None:
        if batch is not None:
            batch.starting.update(batch.seqs)

    def keep(self, seq: int, event: Event, accepted_at_ms: int, holders: int) -> None:
        """Remember an event that ``holders`` lanes may soon start."""
        self._keep(seq, Body(event, accepted_at_ms, holders))

    def _keep(self, seq: int, body: Body) -> None:
        size = _weight(body.event)
        if size > self._max_bytes // 8 or seq in self._kept:
            return
        self._kept[seq] = body
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def take(self, seq: int) -> Body | None:
        """The event for a start, if it is here; its last holder takes it out."""
        body = self._kept.get(seq)
        if body is not None:
            body.holders -= 1
            if body.holders <= 0:
                self._drop(seq)
        return body

    async def load(self, seqs: Sequence[int]) -> dict[int, Body]:
        """Bodies from the table, maybe more than asked for; what is missing there is missing here.

        Raises:
            QueryTimeout: they couldn't be read in time.
        """
        found: dict[int, Body] = {}
        for batch in self._ask(seqs):
            batch.starting.update(seqs)
            found.update(await self._read(batch))
        return found

    async def ahead(self, items: Iterable[Owed]) -> None:
        """Read what starts soon, as far as it isn't here; what can't be read now is read when it starts."""
        room, seqs = MAX_AHEAD_BYTES, []
        for item in items:
            if item.event not in self._kept:
                room -= item.size
                if room < 0:
                    break
                seqs.append(item.event)
        try:
            for batch in self._ask(seqs):
                found = await self._read(batch)
                for seq in seqs:
                    if seq in found and seq not in batch.starting:
                        self._keep(seq, found[seq])
        except QueryTimeout:
            return

    def _ask(self, seqs: Sequence[int]) -> list[_Batch]:
        """The batches that will bring these: the one that is being read has some, the next one takes the rest."""
        reading = self._reading
        rest = [seq for seq in seqs if reading is None or seq not in reading.seqs]
        batches = [reading] if reading is not None and len(rest) < len(seqs) else []
        if rest:
            self._next = self._next or _Batch()
            self._next.seqs.update(rest)
            batches.append(self._next)
        return batches

    async def _read(self, batch: _Batch) -> dict[int, Body]:
        """A batch's bodies; the first to get its turn reads for all who wait."""
        async with self._turn:
            if batch.found is None and batch.error is None:
                self._next, self._reading = None, batch
                try:
                    stored = await self._reads.load(list(batch.seqs))
                    batch.found = {s.seq: _body(s) for s in stored}
                except Exception as error:
                    batch.error = error
                    raise
                finally:
                    self._reading = None
        if batch.error is not None:
            raise batch.error
        return batch.found or {}

    def _drop(self, seq: int) -> None:
        self._bytes -= _weight(self._kept.pop(seq).event)


def _body(stored: Stored) -> Body:
    gone = stored.corrupt or stored.erased_at_ms is not None
    return Body(stored.event, stored.accepted_at_ms, 1, corrupt=gone)


def _weight(event: Event) -> int:
    return len(event.data) + OVERHEAD_BYTES
