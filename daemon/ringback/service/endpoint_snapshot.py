"""All endpoints in memory: who has which lane and id, and who wants an event.

Role: what the intake, the dispatcher and the API read; frozen values, replaced when an endpoint changes.
Rules: building a matcher of 10,000 endpoints costs a tenth of a second, so it isn't built anew for each change: changed
lanes are matched by a small one of their own until they are a share of all.
Must not know: how endpoints change, the table, HTTP.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator

from ringback import dialects
from ringback.core.matching import Matcher, Route
from ringback.core.model import Endpoint
from ringback.kit.log import get_logger

#: Changed lanes beside the matcher: this many, or this part of all, before it is built anew.
MIN_CHANGED = 64
CHANGED_SHARE = 16

#: Deleted endpoints whose lane is remembered.
MAX_GONE = 10_000

_log = get_logger()


class Snapshot:
    """The undeleted endpoints. Bounded by what the verbs allow."""

    def __init__(self) -> None:
        self._by_lane: dict[int, Endpoint] = {}
        self._lanes: dict[str, int] = {}
        self._ids: list[str] = []
        self._per_tenant: Counter[str] = Counter()
        self._matcher = Matcher(())
        self._changed: set[int] = set()  # lanes the matcher doesn't know as they are now
        self._late: Matcher | None = None  # of those lanes alone
        self._gone: dict[str, int] = {}  # ids of deleted endpoints, the latest: their history can still be asked for

    def fill(self, endpoints: Iterable[Endpoint]) -> None:
        """Take what the table holds, at start; deleted ones are left out."""
        for endpoint in endpoints:
            if endpoint.deleted_at_ms is None:
                self.install(endpoint)
            else:
                self._gone[endpoint.id] = endpoint.lane
            if dialects.get(endpoint.dialect) is None:
                _log.error("endpoint.dialect_unknown", endpoint_id=endpoint.id, dialect=endpoint.dialect)

    def by_lane(self, lane: int) -> Endpoint | None:
        """The endpoint of a lane, None if there is none or it was deleted."""
        return self._by_lane.get(lane)

    def get(self, endpoint_id: str) -> Endpoint | None:
        """The endpoint of that id, None if there is none or it was deleted."""
        lane = self._lanes.get(endpoint_id)
        return None if lane is None else self._by_lane[lane]

    def lane_of(self, endpoint_id: str) -> int | None:
        """The lane of that id, also of an endpoint that was deleted lately; None if it isn't known."""
        lane = self._lanes.get(endpoint_id)
        return self._gone.get(endpoint_id) if lane is None else lane

    def count(self, tenant: str) -> int:
        """How many endpoints a tenant has."""
        return self._per_tenant[tenant]

    def __len__(self) -> int:
        return len(self._by_lane)

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._by_lane.values())

    def newest_first(self, before_id: str | None = None) -> Iterator[Endpoint]:
        """All, by id downwards, from the one before ``before_id`` on. Don't await while iterating."""
        end = len(self._ids) if before_id is None else bisect_left(self._ids, before_id)
        return (self._by_lane[self._lanes[self._ids[place]]] for place in range(end - 1, -1, -1))

    def match(self, tenant: str, event_type: str) -> tuple[int, ...]:
        """The lanes of every undeleted endpoint that matches, ascending, whatever its status."""
        if len(self._changed) > max(MIN_CHANGED, len(self._by_lane) // CHANGED_SHARE):
            self._matcher = Matcher(_routes(self._by_lane.values()))
            self._changed.clear()
            self._late = None
        lanes = self._matcher.match(tenant, event_type)
        if not self._changed:
            return lanes
        if self._late is None:
            self._late = Matcher(_routes(self._by_lane[lane] for lane in self._changed if lane in self._by_lane))
        kept = [lane for lane in lanes if lane not in self._changed]
        return tuple(sorted((*kept, *self._late.match(tenant, event_type))))

    def install(self, endpoint: Endpoint) -> None:
        """Put in a new endpoint, or in place of what it was."""
        old = self._by_lane.get(endpoint.lane)
        self._by_lane[endpoint.lane] = endpoint
        if old is None:
            self._lanes[endpoint.id] = endpoint.lane
            insort(self._ids, endpoint.id)
            self._per_tenant[endpoint.tenant] += 1
        if old is None or old.events != endpoint.events:
            self._mark(endpoint.lane)

    def remove(self, endpoint: Endpoint) -> None:
        """Take out a deleted endpoint."""
        if len(self._gone) >= MAX_GONE:
            del self._gone[next(iter(self._gone))]
        self._gone[endpoint.id] = endpoint.lane
        del self._by_lane[endpoint.lane]
        del self._lanes[endpoint.id]
        del self._ids[bisect_left(self._ids, endpoint.id)]
        self._per_tenant[endpoint.tenant] -= 1
        self._mark(endpoint.lane)

    def _mark(self, lane: int) -> None:
        self._changed.add(lane)
        self._late = None


def _routes(endpoints: Iterable[Endpoint]) -> Iterator[Route]:
    for endpoint in endpoints:
        dialect = dialects.get(endpoint.dialect)
        if dialect is not None:
            yield Route(endpoint.lane, endpoint.tenant, endpoint.events, dialect.expresses)
