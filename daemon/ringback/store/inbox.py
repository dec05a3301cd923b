"""Where operations gather while a commit runs.

Role: a queue from the loop to the writer's thread that hands out bounded batches.
Rules: order is kept; a batch is bounded in rows and bytes, but one operation is always taken, however large. Background
work goes in when nothing else waits, or when it has been passed over ``BACKGROUND_PATIENCE`` times.
"""

from collections import deque
from queue import Empty, SimpleQueue
from typing import Any

import msgspec

from ringback.store.ops import Done, Op

MAX_BATCH_ROWS = 2048
MAX_BATCH_BYTES = 8 * 1024 * 1024
BACKGROUND_PATIENCE = 64


class Entry(msgspec.Struct, frozen=True):
    """One operation and who waits for it. ``rows`` and ``size`` (bytes): its weight.

    ``patient``: rather waits for room on the disk than being refused.
    """

    op: Op | Any  # Any: msgspec can't look into the generic task
    done: Done
    rows: int
    size: int
    patient: bool = True


class Inbox:
    """``put`` and ``close`` belong to the loop, ``take`` to the writer's thread."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Entry | None] = SimpleQueue()  # None: look again
        self._background: deque[Entry] = deque()
        self._carry: Entry | None = None
        self._passed_over = 0
        self._closed = False

    def put(self, entry: Entry, *, background: bool = False) -> None:
        """Add one; wakes the taker."""
        if background:
            self._background.append(entry)
            self._queue.put(None)
        else:
            self._queue.put(entry)

    def close(self) -> None:
        """Nothing will be put any more; wakes the taker."""
        self._closed = True
        self._queue.put(None)

    @property
    def drained(self) -> bool:
        """Closed, and everything was taken."""
        return self._closed and self._carry is None and not self._background and self._queue.empty()

    def take(self, wait_s: float | None) -> list[Entry]:
        """The next batch; empty if nothing came within ``wait_s`` (None: as long as it takes), or on a mere wake-up."""
        batch = self._gather(self._first(wait_s))
        if self._background:
            self._passed_over += 1
            if not batch or self._passed_over > BACKGROUND_PATIENCE:
                self._passed_over = 0
                batch.append(self._background.popleft())
        return batch

    def _first(self, wait_s: float | None) -> Entry | None:
        if self._carry is not None:
            first, self._carry = self._carry, None
            return first
        try:
            return self._queue.get(timeout=0 if self._background or self._closed else wait_s)
        except Empty:
            return None

    def _gather(self, entry: Entry | None) -> list[Entry]:
        batch: list[Entry] = []
        rows = size = 0
        while True:
            if entry is not None:
                if batch and (rows + entry.rows > MAX_BATCH_ROWS or size + entry.size > MAX_BATCH_BYTES):
                    self._carry = entry
                    return batch
                batch.append(entry)
                rows += entry.rows
                size += entry.size
            try:
                entry = self._queue.get_nowait()
            except Empty:
                return batch
