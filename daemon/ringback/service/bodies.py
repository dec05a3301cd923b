"""Event bodies on their way from the commit to the wire, so that a fresh delivery needn't read back what it just wrote.

Role: a bounded cache of events that were accepted a moment ago, and the loader for those that are not in it.
Rules: bounded in bytes; the oldest goes first when it is full, so that events waiting at dead endpoints can't push out
everybody else's; an event whose last direct hand-off has started is let go at once.
Must not know: lanes, turns, HTTP.
"""

from collections.abc import Sequence
from typing import Protocol

from ringback.core.model import Event

#: Bytes of events kept; a body beyond it is read from the table when its turn comes.
MAX_CACHED_BYTES = 32 * 1024 * 1024
#: What an event weighs beside its data (its objects, its places in dicts): without it, millions of tiny events fit.
OVERHEAD_BYTES = 1024


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
    """Stands for an owed event that the table doesn't hold: its delivery ends, by name, and doesn't come up for ever."""
    return Body(Event(f"missing-{seq}", "", "", b"", 0, b""), 0, 0, corrupt=True)


class Bodies:
    """The cache and the loader."""

    def __init__(self, reads: LoadsEvents, max_bytes: int = MAX_CACHED_BYTES) -> None:
        self._reads = reads
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: dict[int, Body] = {}

    def keep(self, seq: int, event: Event, accepted_at_ms: int, holders: int) -> None:
        """Remember an event that ``holders`` lanes may soon start."""
        size = _weight(event)
        if size > self._max_bytes // 8:
            return
        self._kept[seq] = Body(event, accepted_at_ms, holders)
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
        """Bodies from the table; what is missing there is missing here."""
        stored = await self._reads.load(seqs)
        return {s.seq: Body(s.event, s.accepted_at_ms, 0, corrupt=s.corrupt) for s in stored}

    def _drop(self, seq: int) -> None:
        self._bytes -= _weight(self._kept.pop(seq).event)


def _weight(event: Event) -> int:
    return len(event.data) + OVERHEAD_BYTES
