"""The operations: what the writer is asked to do, and what it answers. Values only.

Role: the vocabulary between the services and the one writer.
Rules: ``done`` of each operation gets exactly one ``Result``, after the commit that holds it. ``Failed`` can answer
any operation: ``storage_full`` (nothing was stored), ``unknown_outcome`` (it may or may not be stored: send the same
id again), ``internal_error`` (nothing was stored; this operation alone is at fault), ``shutting_down`` (nothing was
stored).
Must not know: SQL, threads.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from ringback.core.model import AttemptRecord, Event, Peer, Transition

T = TypeVar("T")

STORAGE_FULL = "storage_full"
UNKNOWN_OUTCOME = "unknown_outcome"
INTERNAL_ERROR = "internal_error"
SHUTTING_DOWN = "shutting_down"

#: What a full disk is called, to whoever is refused for it.
DISK_FULL = "the disk is full"

#: The same, to whoever asked for a change by hand: it won't be made behind his back when there is room again.
NO_ROOM = f"{DISK_FULL}, nothing was changed: free some space and ask again"

#: What a row weighs beyond its blobs, in bytes: for the batch's bound and the estimate of the log's growth.
ROW_OVERHEAD_BYTES = 256


class AcceptEvent(msgspec.Struct, frozen=True, gc=False):
    """Store an event and one delivery for each lane, or recognise it. Answer: ``Accepted`` or ``Conflict``.

    ``callback_origin``: whose lane gets the delivery to the event's callback besides; None if it has none.
    """

    event: Event
    lanes: tuple[int, ...]
    accepted_at_ms: int
    peer: Peer | None = None
    callback_origin: str | None = None

    @property
    def deliveries(self) -> int:
        """How many deliveries it makes."""
        return len(self.lanes) + (self.callback_origin is not None)


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The event is on disk under ``seq``. ``duplicate``: it already was, with ``deliveries`` obligations.

    ``callback_lane``: the lane of the delivery to its callback, which this batch made.
    """

    seq: int
    deliveries: int
    duplicate: bool = False
    callback_lane: int | None = None


class Conflict(msgspec.Struct, frozen=True, gc=False):
    """The id is taken by an event of other content; the first stands."""


class Finish(msgspec.Struct, frozen=True, gc=False):
    """Apply a transition to one delivery and log its attempt. Answer: True, or False if the delivery had moved on.

    ``event`` is the event's seq. ``attempt`` None: nothing was sent (expired, cancelled, reopened).
    """

    lane: int
    event: int
    transition: Transition
    attempt: AttemptRecord | None = None


@dataclass(frozen=True, slots=True)
class Task(Generic[T]):
    """A cold change: a function run inside the writer's transaction. Built by functions of the store only.

    ``background``: waits until nothing else does (within a limit). ``rows``: about how many rows it touches.
    """

    name: str
    run: Callable[[sqlite3.Connection], T]
    background: bool = False
    rows: int = 1


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The operation wasn't carried out, or nobody knows; ``code`` as in the module's docstring."""

    code: str
    message: str


Op = AcceptEvent | Finish | Task[Any]
Result = Any
Done = Callable[[Any], None]


def rows_of(op: Op) -> int:
    """How many rows the operation weighs in a batch."""
    if isinstance(op, AcceptEvent):
        return 1 + op.deliveries
    return op.rows if isinstance(op, Task) else 1


def bytes_of(op: Op) -> int:
    """About how many bytes the operation holds in memory and writes."""
    if isinstance(op, AcceptEvent):
        asked = op.event.callback
        return len(op.event.data) + (len(asked.extra) if asked else 0) + ROW_OVERHEAD_BYTES * (1 + op.deliveries)
    if isinstance(op, Finish) and op.attempt is not None:
        return len(op.attempt.info) + len(op.attempt.full_body or b"") + ROW_OVERHEAD_BYTES
    return ROW_OVERHEAD_BYTES
