"""All endpoints in memory: who has which lane and id, and who wants an event.

Role: what the intake, the dispatcher and the API read; frozen values, replaced when an endpoint changes.
Rules: building a matcher of 10,000 endpoints costs a tenth of a second, so it isn't built anew for each change: changed
lanes are matched by a small one of their own until they are a share of all. An endpoint whose dialect can't say an
event doesn't get it, and the log says so.
Must not know: how endpoints change, the table, HTTP.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from ringback import dialects
from ringback.core.matching import Matcher, Route
from ringback.core.model import Endpoint, Event
from ringback.core.names import Names
from ringback.dialects import Dialect
from ringback.kit.log import get_logger

#: Changed lanes beside the matcher: this many, or this part of all, before it is built anew.
MIN_CHANGED = 64
CHANGED_SHARE = 16

#: Deleted endpoints whose lane is remembered.
MAX_GONE = 10_000
#: Endpoints named in a line that tells who is left out.
MAX_NAMED = 8

_log = get_logger()


class Snapshot:
    """The undeleted endpoints. Bounded by what the verbs allow. ``names``: the type names filters may use."""

    def __init__(self, names: Names | None = None) -> None:
        self.names = names or dialects.vocabulary({})
        self._says = {name: _says(dialect, self.names) for name in dialects.names() if (dialect := dialects.get(name))}
        self._picky: dict[str, set[int]] = {}  # by tenant: lanes whose dialect looks at the data too
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

    def match(self, tenant: str, event_type: str, data: bytes | None = None) -> tuple[int, ...]:
        """The lanes of every undeleted endpoint that matches, ascending, whatever its status.

        Without ``data`` it is left open whether a dialect that looks at the data can say it.
        """
        lanes = self._match(tenant, event_type)
        picky = self._picky.get(tenant)
        if picky is None or data is None or picky.isdisjoint(lanes):
            return lanes
        return tuple([lane for lane in lanes if lane not in picky or self._says_data(lane, event_type, data)])

    def unsaid(self, endpoint: Endpoint, event: Event) -> str | None:
        """Why this endpoint's dialect can't say the event, in words; None if it can."""
        dialect = dialects.get(endpoint.dialect)
        if dialect is None:
            return f"there is no dialect {endpoint.dialect}"
        word = self.names.own(dialect.name, event.type)
        if not dialect.expresses(word):
            return f"the dialect {dialect.name} can't express the type {event.type}"
        if dialect.expresses_data and not dialect.expresses_data(word, event.data, endpoint.options):
            return f"the dialect {dialect.name} can't express this event: {dialect.wants}"
        return None

    def _match(self, tenant: str, event_type: str) -> tuple[int, ...]:
        if len(self._changed) > max(MIN_CHANGED, len(self._by_lane) // CHANGED_SHARE):
            self._matcher = self._matching(self._by_lane.values())
            self._changed.clear()
            self._late = None
        lanes = self._matcher.match(tenant, event_type)
        if self._matcher.unsaid:
            self._tell_unsaid(self._matcher)
        if not self._changed:
            return lanes
        if self._late is None:
            self._late = self._matching(self._by_lane[lane] for lane in self._changed if lane in self._by_lane)
        kept = [lane for lane in lanes if lane not in self._changed]
        lanes = tuple(sorted((*kept, *self._late.match(tenant, event_type))))
        if self._late.unsaid:
            self._tell_unsaid(self._late)
        return lanes

    def _matching(self, endpoints: Iterable[Endpoint]) -> Matcher:
        says = self._says
        routes = (Route(e.lane, e.tenant, e.events, says[e.dialect]) for e in endpoints if e.dialect in says)
        return Matcher(routes, self.names.also)

    def _says_data(self, lane: int, event_type: str, data: bytes) -> bool:
        endpoint = self._by_lane[lane]
        dialect = dialects.get(endpoint.dialect)
        if dialect is None or dialect.expresses_data is None:
            return True
        if dialect.expresses_data(self.names.own(dialect.name, event_type), data, endpoint.options):
            return True
        _log.info("delivery.skipped", endpoint_id=endpoint.id, type=event_type, reason=dialect.wants)
        return False

    def _tell_unsaid(self, matcher: Matcher) -> None:
        """A line the first time a type is met that some who want it can't get."""
        for tenant, event_type, lanes in matcher.unsaid:
            left_out = [endpoint for lane in lanes if (endpoint := self._by_lane.get(lane))]
            _log.info(
                "delivery.skipped",
                tenant=tenant,
                type=event_type,
                reason="the dialect can't express this type",
                dialects=sorted({endpoint.dialect for endpoint in left_out}),
                endpoints=len(left_out),
                endpoint_ids=[endpoint.id for endpoint in left_out[:MAX_NAMED]],
            )
        matcher.unsaid.clear()

    def install(self, endpoint: Endpoint) -> None:
        """Put in a new endpoint, or in place of what it was."""
        old = self._by_lane.get(endpoint.lane)
        self._by_lane[endpoint.lane] = endpoint
        if old is None:
            self._lanes[endpoint.id] = endpoint.lane
            insort(self._ids, endpoint.id)
            self._per_tenant[endpoint.tenant] += 1
            dialect = dialects.get(endpoint.dialect)
            if dialect is not None and dialect.expresses_data:
                self._picky.setdefault(endpoint.tenant, set()).add(endpoint.lane)
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
        self._picky.get(endpoint.tenant, set()).discard(endpoint.lane)
        self._mark(endpoint.lane)

    def _mark(self, lane: int) -> None:
        self._changed.add(lane)
        self._late = None


def _says(dialect: Dialect, names: Names) -> Callable[[str], bool]:
    """Whether it can say a type, told as the producer calls it. One function a dialect: matching groups by it."""
    return lambda type_: dialect.expresses(names.own(dialect.name, type_))
