"""What the API is given to work with: collaborators by name, nothing found by itself.

Must not know: how any of them is made.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web

from ringback.core.model import Event, Peer, Rejection
from ringback.kit.clock import Chance, Clock
from ringback.service.backlog import BacklogLook
from ringback.service.callbacks import Callbacks
from ringback.service.doctor import Doctor
from ringback.service.endpoints import Endpoints
from ringback.service.erasure import Erasure
from ringback.service.lane_facts import NOTHING_KNOWN, LaneFacts
from ringback.service.maintenance import Maintenance
from ringback.service.metrics import Metrics
from ringback.service.restored import Restored
from ringback.service.rotation import Rotation
from ringback.service.sealing import Sealing
from ringback.service.stats import Stats
from ringback.service.tokens import Tokens
from ringback.service.verify import Verify
from ringback.store.disk import Disk
from ringback.store.endpoints import EndpointReads
from ringback.store.history import HistoryReads
from ringback.store.ops import Accepted
from ringback.store.stats import StatsReads
from ringback.store.views import DeliveryRow
from ringback.store.writer import Writer


class TakesLines(Protocol):
    """The intake."""

    def handle(self, line: bytes, peer: Peer, answer: Callable[[bytes], None], tenant: str | None = None) -> None:
        """Take one event; ``answer`` is called once, later, from the loop's thread, with one answer line.

        ``tenant``: the only one it may be of; the line needn't name it.
        """
        ...

    def give(
        self,
        event: Event,
        lanes: tuple[int, ...],
        now_ms: int,
        peer: Peer,
        done: Callable[[Accepted | Rejection], None],
    ) -> None:
        """Take an event of the daemon's own for these lanes; ``done`` is called once, after the commit."""
        ...

    async def relieved(self) -> None:
        """Return once it can take more: not so much waits for the disk any longer."""
        ...

    def refuse(self, code: str, message: str, peer: Peer | None = None) -> bytes:
        """The answer line of a refusal made by the transport."""
        ...


class HoldsFlights(Protocol):
    """The dispatcher."""

    def in_flight(self) -> frozenset[tuple[int, int]]:
        """Every (event seq, lane) that an attempt is being made for."""
        ...

    def is_in_flight(self, row: DeliveryRow) -> bool:
        """Whether an attempt was being made for it, or its end not committed, when its row was read."""
        ...

    def lane_now(self, lane: int) -> tuple[float, int]:
        """How many requests the lane may have in flight by its window, and how many it has."""
        ...

    def withhold(self, event: int, lane: int) -> None:
        """Start no attempt of this delivery until ``give_back``."""
        ...

    def kick(self, number: int) -> None:
        """Rows of this lane have changed: look at them again."""
        ...

    def give_back(self, event: int, lane: int) -> None:
        """Its row has changed, or stays as it was: look at the lane's rows again."""
        ...


@dataclass(slots=True, kw_only=True)
class Deps:
    """The API's collaborators. ``ready()``: ``ready``, ``starting``, ``draining`` or ``unwritable``.

    ``max_event_bytes`` and ``max_response_bytes``: the settings' own. ``divert_to``: the settings' URL that gets
    everything, or an empty text. The two that a reload can change are set anew by it. ``erasure`` is made of the
    others, so it is set right after; nothing else ever is.
    """

    endpoints: Endpoints
    reads: HistoryReads
    revisions: EndpointReads
    writer: Writer
    intake: TakesLines
    dispatch: HoldsFlights
    callbacks: Callbacks
    tokens: Tokens
    rotation: Rotation
    stats: Stats
    stats_reads: StatsReads
    sealing: Sealing
    disk: Callable[[], Disk]
    started_at_ms: int
    verify: Verify
    doctor: Doctor
    maintenance: Maintenance
    restored: Restored
    clock: Clock
    chance: Chance
    ready: Callable[[], str]
    metrics: Metrics = field(default_factory=Metrics)
    erasure: Erasure = field(init=False)
    backlog: BacklogLook | None = None
    lane_facts: Callable[[int], LaneFacts] = lambda _lane: NOTHING_KNOWN
    failing: Callable[[], int] = lambda: 0
    busiest: Callable[[int], list[tuple[int, LaneFacts]]] = lambda _limit: []
    max_event_bytes: int = 1_048_576
    max_response_bytes: int = 65_536
    divert_to: str = ""


DEPS = web.AppKey("deps", Deps)


def deps_of(request: web.Request) -> Deps:
    """The collaborators of the application that got this request."""
    return request.app[DEPS]
