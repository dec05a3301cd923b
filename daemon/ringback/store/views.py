"""What is seen when looking back: pages, events, deliveries, attempts. Values only.

Role: the answers of ``history`` and the filter it takes. Units as in ``core.model``.
"""

from typing import Generic, TypeVar

import msgspec

from ringback.core.model import DeliveryState, Event
from ringback.store.codec import NO_OPTS, EventOpts

T = TypeVar("T")


class StoredEvent(msgspec.Struct, frozen=True):
    """An event as it lies in the table. ``corrupt``: its data isn't what was written; it must not be delivered.

    Nor must one that was erased (``erased_at_ms``), of which a tombstone is left: its data is empty.
    """

    seq: int
    event: Event
    accepted_at_ms: int
    corrupt: bool = False
    opts: EventOpts = NO_OPTS

    @property
    def erased_at_ms(self) -> int | None:
        """When it was erased, None if it wasn't."""
        return self.opts.erased_at_ms


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page. ``next``: where the following one begins, None at the end; a short page may well have one."""

    items: list[T]
    next: tuple[int, int] | None


class EventRow(msgspec.Struct, frozen=True):
    """An event without its data. ``size``: of the data, in bytes."""

    seq: int
    id: str
    tenant: str
    type: str
    created_at_ms: int
    accepted_at_ms: int
    size: int
    opts: EventOpts


class EventView(msgspec.Struct, frozen=True):
    """One event in full, and how many of its deliveries are in which state."""

    stored: StoredEvent
    deliveries: dict[DeliveryState, int]


class DeliveryFilter(msgspec.Struct, frozen=True):
    """Which deliveries to list; None: whatever. ``since_ms`` inclusive, ``until_ms`` exclusive, on event creation."""

    tenant: str | None = None
    lane: int | None = None
    event_seq: int | None = None
    states: tuple[DeliveryState, ...] | None = None
    lanes_in: tuple[int, ...] | None = None
    lanes_not_in: tuple[int, ...] | None = None
    type: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


class DeliveryRow(msgspec.Struct, frozen=True):
    """A delivery with its event's envelope; the last attempt's fields are None before the first.

    ``due_at_ms``: of a pending one; 0 is at once. ``callback_origin``: whose lane it stands in if it goes to the
    event's callback ("" is the tenant's overflow lane), None if it goes to an endpoint.
    """

    event: int
    lane: int
    state: DeliveryState
    run: int
    attempts: int
    due_at_ms: int | None
    started_at_ms: int | None
    elapsed_ms: int | None
    status: int | None
    outcome: str | None
    error: str | None
    event_id: str
    tenant: str
    type: str
    created_at_ms: int
    accepted_at_ms: int
    callback_origin: str | None = None


class AttemptView(msgspec.Struct, frozen=True):
    """One attempt. ``info`` None: too old, stripped. ``full_body``: the whole response body, while it is kept."""

    n: int
    run: int
    started_at_ms: int
    elapsed_ms: int
    outcome: str
    status: int | None
    error: str | None
    info: bytes | None
    full_body: bytes | None = None


class DeliveryView(msgspec.Struct, frozen=True):
    """One delivery and its attempts, oldest first; ``opts``: its event's, as they were then."""

    row: DeliveryRow
    attempts: list[AttemptView]
    opts: EventOpts = NO_OPTS
