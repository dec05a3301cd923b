"""How much of the database is in use, and what of it is finished: what a budget is kept by.

Role: reads for the janitor, on a reader's connection, so that looking costs the writer nothing.
Rules: a look walks a bounded window of events. What it names may be owed again a moment later: the writer looks once
more before it deletes (``retention.prune_finished``).
Must not know: the budget, who asks.
"""

from typing import NamedTuple

from ringback.store.reader import Fetches

# The log isn't counted, nor are pages that deleting has freed: they are used again before the file grows.
_USED = (
    "SELECT (p.page_count - f.freelist_count) * s.page_size"
    " FROM pragma_page_count p, pragma_freelist_count f, pragma_page_size s"
)
_WINDOW_END = "SELECT count(*), max(seq) FROM (SELECT seq FROM event WHERE seq > ? ORDER BY seq LIMIT ?)"
# length() of a blob reads the row's head, not the blob.
_FINISHED = (
    "SELECT e.seq, coalesce(length(p.data), 0) FROM event e LEFT JOIN payload p ON p.event = e.seq"
    " WHERE e.seq > ? AND e.seq <= ?"
    " AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.event = e.seq AND d.state = 0) ORDER BY e.seq LIMIT ?"
)


class Finished(NamedTuple):
    """(seq, payload bytes) of events that owe nobody anything, oldest first.

    ``end``: looked through up to this event. ``more``: there are events beyond it.
    """

    events: list[tuple[int, int]]
    end: int
    more: bool


class RoomReads:
    """Reads through whatever fetches."""

    def __init__(self, reader: Fetches) -> None:
        self._reader = reader

    async def used_bytes(self) -> int:
        """Bytes of the pages in use, as of the last commit."""
        used: int = (await self._reader.fetch(_USED))[0][0]
        return used

    async def finished(self, after: int, window: int, limit: int) -> Finished:
        """Up to ``limit`` finished events among the ``window`` events behind ``after``. Raises QueryTimeout."""
        ((count, end),) = await self._reader.fetch(_WINDOW_END, (after, window))
        if not count:
            return Finished([], after, more=False)
        found = [(seq, size) for seq, size in await self._reader.fetch(_FINISHED, (after, end, limit))]
        cut_short = len(found) == limit
        return Finished(found, found[-1][0] if cut_short else end, more=cut_short or count == window)
