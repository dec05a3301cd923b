"""After a restore: what it holds, what would be sent, and the word that lets it go.

Role: the endpoints that the restore paused, and the callbacks it holds, until ``resume_all`` or, one by one, until
somebody moves them.
Rules: an endpoint that was paused by hand stays so; one that was moved since the restore is no longer its. What would
be sent was perhaps sent after the backup was taken: it goes out only when somebody says so.
Must not know: SQL, HTTP, where the backup was.
"""

from collections.abc import Callable
from typing import Protocol

from ringback.core.model import Endpoint, EndpointStatus
from ringback.core.times import rfc3339
from ringback.kit.log import get_logger
from ringback.service.endpoint_fields import Refusal
from ringback.service.endpoints import Changed, Endpoints
from ringback.store import restore as table
from ringback.store.reader import Fetches
from ringback.store.writer import Writer

#: In the log, where to look.
SEE = "ringback db held"

_log = get_logger()


class KnowsEndpoints(Protocol):
    """The endpoints as they are now."""

    def by_lane(self, lane: int) -> Endpoint | None:
        """None once it is deleted."""
        ...

    async def resume(self, endpoint_id: str) -> Changed | Refusal:
        """Send to it again."""
        ...


class Restored:
    """``restored_at_ms`` is 0 when nothing is held. ``hold(bool)`` holds the callbacks, or lets them go."""

    def __init__(self, endpoints: KnowsEndpoints, writer: Writer, reads: Fetches, hold: Callable[[bool], None]) -> None:
        self._endpoints = endpoints
        self._writer = writer
        self._reads = reads
        self._hold = hold
        self._lanes: set[int] = set()
        self.restored_at_ms = 0
        self.taken_at_ms = 0

    async def load(self) -> "Restored":
        """Find what is held, hold it, and say so."""
        found = await table.held(self._reads)
        self.restored_at_ms, self.taken_at_ms = found.restored_at_ms, found.taken_at_ms
        self._lanes = {lane for lane in found.lanes if self._paused(lane)}
        if found.callbacks:
            self._hold(True)
        if self.restored_at_ms:
            _log.warning("restore.held", endpoints=self.endpoints, restored_at=rfc3339(self.restored_at_ms), see=SEE)
        return self

    @property
    def endpoints(self) -> int:
        """How many endpoints are still paused for the restore."""
        return len(self._lanes)

    def holds(self, lane: int) -> bool:
        """Whether this endpoint is still paused for the restore."""
        return lane in self._lanes

    async def owed(self) -> list[table.OwedTo]:
        """What would be sent, the most first. Raises QueryTimeout if that is too much to be counted."""
        found = await table.owed_now(self._reads) if self.restored_at_ms else []
        return [one for one in found if one.endpoint_id is None or self.holds(one.lane)]

    def changed(self, lane: int) -> None:
        """An endpoint was changed: if somebody moved it, it is his."""
        if lane in self._lanes and not self._paused(lane):
            self._lanes.discard(lane)
            self._writer.submit(table.let_go(lane), lambda _: None)

    async def resume_all(self) -> int:
        """Send everything that is held: the number of endpoints resumed. Raises StoreError if it can't be written.

        Breaking off leaves the rest held; saying it again goes on.
        """
        resumed = 0
        for lane in sorted(self._lanes):
            endpoint = self._endpoints.by_lane(lane)
            if endpoint is not None:
                resumed += not isinstance(await self._endpoints.resume(endpoint.id), Refusal)
        if self.restored_at_ms:
            await self._writer.run(table.let_all_go())
            self._lanes.clear()
            self.restored_at_ms = 0
            self._hold(False)
            _log.info("restore.resumed", endpoints=resumed)
        return resumed

    def _paused(self, lane: int) -> bool:
        endpoint = self._endpoints.by_lane(lane)
        return endpoint is not None and endpoint.status is EndpointStatus.PAUSED


async def restored(endpoints: Endpoints, writer: Writer, reads: Fetches, hold: Callable[[bool], None]) -> Restored:
    """What a restore holds, held, and told of every change."""
    found = await Restored(endpoints, writer, reads, hold).load()
    endpoints.on_change(found.changed)
    return found
