"""Looking back: lists of events and deliveries, and one of each in full. Reads only.

Role: what the API shows.
Rules: newest first; every page is bounded in rows looked at (``SCAN_ROWS``), so a filter that few rows pass gives short
or even empty pages with a cursor to go on from, never a query without end. A lane is read through the history index
plus the short tail that isn't indexed yet; entries of pruned events are dropped by the join.
Must not know: how it is shown, which statuses are derived from what.
"""

import json
from collections.abc import Sequence
from typing import Any

from ringback.core.envelope import Tampered, place
from ringback.core.model import DeliveryState
from ringback.store import codec
from ringback.store.keys import BODY, INFO, Erased
from ringback.store.queue import QueueReads
from ringback.store.reader import Fetches
from ringback.store.views import (
    AttemptView,
    DeliveryFilter,
    DeliveryRow,
    DeliveryView,
    EventRow,
    EventView,
    Page,
)

#: Rows one page looks at, at most.
SCAN_ROWS = 20_000

#: A first, short look has this many rows for each wanted: enough when most rows pass the filters.
FIRST_LOOK = 4

#: Waiting retries of a lane that are looked through for its latest attempts.
SCAN_RETRIES = 256

#: The latest attempts shown of one delivery.
MAX_ATTEMPTS_SHOWN = 1000

_END = 1 << 62

_EVENT_KEYS = "SELECT seq AS event, 0 AS lane FROM event WHERE seq < :before ORDER BY seq DESC LIMIT :scan"
_EVENT_KEYS_OF_TENANT = (
    "SELECT seq AS event, 0 AS lane FROM event WHERE tenant = (SELECT no FROM tenant WHERE name = :tenant)"
    " AND seq < :before ORDER BY seq DESC LIMIT :scan"
)
_EVENTS = (
    "SELECT e.seq, e.id, t.name, e.type, e.created_ms, e.accepted_ms,"
    " length(p.data) - 45 * (p.key_no > 0), e.opts"  # 45: core.envelope.OVERHEAD_BYTES
    " FROM k CROSS JOIN event e ON e.seq = k.event CROSS JOIN tenant t ON t.no = e.tenant"
    " CROSS JOIN payload p ON p.event = e.seq WHERE {where} ORDER BY k.event DESC LIMIT :limit"
)
_ALL = (
    "SELECT event, lane FROM delivery WHERE (event, lane) < (:event, :lane) ORDER BY event DESC, lane DESC LIMIT :scan"
)
_DEAD = (
    "SELECT event, lane FROM delivery WHERE state = 2 AND (event, lane) < (:event, :lane)"
    " ORDER BY event DESC, lane DESC LIMIT :scan"
)
_OF_TENANT = (
    "SELECT d.event, d.lane FROM event e CROSS JOIN delivery d ON d.event = e.seq"
    " WHERE e.tenant = (SELECT no FROM tenant WHERE name = :tenant) AND e.seq <= :event"
    " AND (d.event, d.lane) < (:event, :lane) ORDER BY e.seq DESC, d.lane DESC LIMIT :scan"
)
_OF_EVENT = (
    "SELECT event, lane FROM delivery WHERE event = :of_event AND (event, lane) < (:event, :lane)"
    " ORDER BY lane DESC LIMIT :scan"
)
_DEAD_OF_LANE = (
    "SELECT event, lane FROM delivery WHERE lane = :of_lane AND state = 2 AND event < :event"
    " ORDER BY event DESC LIMIT :scan"
)
_OF_LANE = (
    "SELECT event, lane FROM ("
    "SELECT event, lane FROM (SELECT event, lane FROM delivery WHERE"
    " event > (SELECT value FROM meta WHERE name = 'history') AND event < :event AND lane = :of_lane"
    " ORDER BY event DESC LIMIT :scan)"
    " UNION ALL SELECT event, lane FROM (SELECT event, lane FROM lane_history WHERE lane = :of_lane AND"
    " event < :event AND event <= (SELECT value FROM meta WHERE name = 'history') ORDER BY event DESC LIMIT :scan)"
    ") ORDER BY event DESC LIMIT :scan"
)
_DELIVERY_COLUMNS = (
    "SELECT d.event, d.lane, d.state, d.run, d.attempts, d.due_ms, d.started_ms, d.elapsed_ms, d.status, d.outcome,"
    " d.error, e.id, t.name, e.type, e.created_ms, e.accepted_ms,"
    " (SELECT l.origin FROM callback_lane l WHERE l.lane = d.lane)"
)
#: How many they are; where an attempt begins that stands beside them, behind the event's options.
_WIDTH = 17
_ATTEMPT = _WIDTH + 1
_DELIVERIES = (
    _DELIVERY_COLUMNS + " FROM k CROSS JOIN delivery d ON d.event = k.event AND d.lane = k.lane"
    " CROSS JOIN event e ON e.seq = k.event CROSS JOIN tenant t ON t.no = e.tenant"
    " WHERE {where} ORDER BY k.event DESC, k.lane DESC LIMIT :limit"
)
# The first row that no attempt has finished of yet, as far as a lane goes in order: just before it is what was tried.
_OLDEST_FRESH = "SELECT min(event) FROM owed WHERE lane = ? AND phase = 0 AND due_ms = 0"
# What is due last was, about, tried last.
_RETRIED = (
    _DELIVERY_COLUMNS  # noqa: S608 - constants
    + " FROM (SELECT event FROM (SELECT event, attempts FROM owed WHERE lane = ?1 AND phase = 1"
    " ORDER BY due_ms DESC, event DESC LIMIT ?2) WHERE attempts > 0 LIMIT ?3) AS k"
    " CROSS JOIN delivery d ON d.event = k.event AND d.lane = ?1"
    " CROSS JOIN event e ON e.seq = d.event CROSS JOIN tenant t ON t.no = e.tenant"
)
# One statement: between two an attempt may end or the event be erased, and what was told would be no moment's truth.
_DELIVERY = (
    _DELIVERY_COLUMNS  # noqa: S608 - constants
    + ", e.opts, a.n, a.run, a.started_ms, a.elapsed_ms, a.outcome, a.status, a.error, a.info, b.key_no, b.body"
    " FROM delivery d CROSS JOIN event e ON e.seq = d.event CROSS JOIN tenant t ON t.no = e.tenant LEFT JOIN ("
    "SELECT n, run, started_ms, elapsed_ms, outcome, status, error, info FROM attempt WHERE event = ?1 AND lane = ?2"
    " UNION ALL SELECT attempts, run, started_ms, elapsed_ms, outcome, status, error, info FROM delivery"
    " WHERE event = ?1 AND lane = ?2 AND started_ms IS NOT NULL) AS a"
    " LEFT JOIN response_body b ON b.event = ?1 AND b.lane = ?2 AND b.n = a.n"
    " WHERE d.event = ?1 AND d.lane = ?2 ORDER BY a.n DESC LIMIT ?3"
)
_SEQ = "SELECT e.seq FROM event e JOIN tenant t ON t.no = e.tenant WHERE t.name = ? AND e.id = ?"
# The rows, and beside them the last key that was looked at, if more may follow: in one statement, for between two the
# window moves. The third and fourth column are a row's own first two.
_PAGE = (
    "WITH k AS MATERIALIZED ({keys}), edge AS (SELECT event, lane FROM k LIMIT 1 OFFSET :scan - 1)"
    " SELECT (SELECT event FROM edge), (SELECT lane FROM edge), page.* FROM (SELECT 1) LEFT JOIN ({rows}) AS page"
    " ORDER BY 3 DESC, 4 DESC"
)
_AHEAD = (
    "SELECT count(*) FROM (SELECT 1 FROM delivery d CROSS JOIN owed o ON o.lane = d.lane AND o.phase = d.phase"
    " AND (o.due_ms, o.event) < (d.due_ms, d.event) WHERE d.event = ?1 AND d.lane = ?2 LIMIT ?3)"
)
_STATES = "SELECT state, count(*) FROM delivery WHERE event = ? GROUP BY state"


class HistoryReads:
    """The reads of the API. Any of them may raise QueryTimeout."""

    def __init__(self, reader: Fetches) -> None:
        self._reader = reader
        self._queue = QueueReads(reader)

    async def list_events(
        self,
        *,
        limit: int,
        tenant: str | None = None,
        type: str | None = None,  # noqa: A002 - the member's name
        since_ms: int | None = None,
        until_ms: int | None = None,
        before_seq: int | None = None,
    ) -> Page[EventRow]:
        """Events, newest first; the next page's ``before_seq`` is ``next[0]``."""
        where = {"e.type = :type": type, "e.created_ms >= :since": since_ms, "e.created_ms < :until": until_ms}
        values = {"tenant": tenant, "type": type, "since": since_ms, "until": until_ms}
        values["before"] = _END if before_seq is None else before_seq
        keys = _EVENT_KEYS if tenant is None else _EVENT_KEYS_OF_TENANT
        rows, following = await self._page(keys, _EVENTS, where, values, limit)
        items = [EventRow(*(*row[:7], codec.decode_opts(row[7]))) for row in rows]
        return Page(items, (following[0], 0) if following else None)

    async def get_event(self, tenant: str, event_id: str) -> EventView | None:
        """One event in full; None if there is none (any more)."""
        found = await self._reader.fetch(_SEQ, (tenant, event_id))
        stored = await self._queue.load([found[0][0]]) if found else []
        if not stored:
            return None
        states = await self._reader.fetch(_STATES, (stored[0].seq,))
        if not states and not await self._reader.fetch(_SEQ, (tenant, event_id)):
            return None  # retention took it between the two, and its deliveries: not one without any
        return EventView(stored[0], {DeliveryState(state): count for state, count in states})

    async def list_deliveries(
        self, wanted: DeliveryFilter, *, limit: int, before: tuple[int, int] | None = None
    ) -> Page[DeliveryRow]:
        """Deliveries, newest first by (event, lane); the next page's ``before`` is ``next``."""
        event, lane = before or (_END, _END)
        values: dict[str, Any] = {
            "event": event,
            "lane": lane,
            "of_event": wanted.event_seq,
            "of_lane": wanted.lane,
            "tenant": wanted.tenant,
            "type": wanted.type,
            "since": wanted.since_ms,
            "until": wanted.until_ms,
            "states": _list(wanted.states),
            "lanes_in": _list(wanted.lanes_in),
            "lanes_not_in": _list(wanted.lanes_not_in),
        }
        where = {
            "d.event = :of_event": wanted.event_seq,
            "d.lane = :of_lane": wanted.lane,
            "t.name = :tenant": wanted.tenant,
            "e.type = :type": wanted.type,
            "e.created_ms >= :since": wanted.since_ms,
            "e.created_ms < :until": wanted.until_ms,
            "d.state IN (SELECT value FROM json_each(:states))": wanted.states,
            "d.lane IN (SELECT value FROM json_each(:lanes_in))": wanted.lanes_in,
            "d.lane NOT IN (SELECT value FROM json_each(:lanes_not_in))": wanted.lanes_not_in,
        }
        rows, following = await self._page(_keys(wanted), _DELIVERIES, where, values, limit)
        return Page([_row(row) for row in rows], following)

    async def latest_tried(self, lane: int, limit: int) -> list[DeliveryRow]:
        """The deliveries of a lane that were tried last, the latest first; a backlog of untried ones hides none.

        About: of what was sent long after its turn (a retry by hand, a late ``deliver_after``) some may be missing.
        """
        wanted = DeliveryFilter(lane=lane)
        found = (await self.list_deliveries(wanted, limit=limit)).items
        edge = (await self._reader.fetch(_OLDEST_FRESH, (lane,)))[0][0]
        if edge is not None:
            found = [*found, *(await self.list_deliveries(wanted, limit=limit, before=(edge, lane))).items]
        found = [*found, *map(_row, await self._reader.fetch(_RETRIED, (lane, SCAN_RETRIES, limit)))]
        tried = {row.event: row for row in found if row.started_at_ms is not None}
        return sorted(tried.values(), key=lambda row: (row.started_at_ms or 0, row.event), reverse=True)[:limit]

    async def ahead(self, event: int, lane: int, cap: int) -> int:
        """How many owed rows of its lane stand before this one, counted up to ``cap``; 0 if it isn't owed."""
        count: int = (await self._reader.fetch(_AHEAD, (event, lane, cap)))[0][0]
        return count

    async def get_delivery(self, event: int, lane: int) -> DeliveryView | None:
        """One delivery with its latest attempts, oldest first; None if there is none (any more)."""
        rows = await self._reader.fetch(_DELIVERY, (event, lane, MAX_ATTEMPTS_SHOWN))
        if not rows:
            return None
        attempts = [self._attempt(event, lane, row[_ATTEMPT:]) for row in reversed(rows) if row[_ATTEMPT] is not None]
        return DeliveryView(_row(rows[0][:_WIDTH]), attempts, codec.decode_opts(rows[0][_WIDTH]))

    def _attempt(self, event: int, lane: int, row: Any) -> AttemptView:
        n, run, started_at_ms, elapsed_ms, outcome, status, error, info, key_no, body = row
        info = self._info(event, lane, n, info)
        full_body = None if body is None else self._body(event, lane, n, key_no, body)
        return AttemptView(n, run, started_at_ms, elapsed_ms, outcome, status, error, info, full_body)

    def _info(self, event: int, lane: int, n: int, stored: bytes | None) -> bytes | None:
        """What an attempt left; None if it is gone, or can't be opened."""
        if stored is None:
            return None
        try:
            return self._reader.keys.open(place(INFO, event, lane, n), stored)
        except (Tampered, Erased):
            return None

    def _body(self, event: int, lane: int, n: int, key_no: int, stored: bytes) -> bytes | None:
        if not key_no:
            return stored
        try:
            return self._reader.keys.unseal(place(BODY, event, lane, n), stored)
        except (Tampered, Erased):
            return None

    async def _page(
        self, keys: str, sql: str, where: dict[str, Any], values: dict[str, Any], limit: int
    ) -> tuple[list[Any], Any]:
        """The rows of one page, and the key the next one begins after. A short look first, then as far as allowed."""
        conditions = " AND ".join(text for text, value in where.items() if value is not None) or "true"
        sql = _PAGE.format(keys=keys, rows=sql.format(where=conditions))
        rows: list[Any] = []
        edge: tuple[Any, Any] = (None, None)
        for scan in (min(FIRST_LOOK * limit, SCAN_ROWS), SCAN_ROWS):
            found = await self._reader.fetch(sql, {**values, "scan": scan, "limit": limit + 1})
            edge, rows = found[0][:2], [row[2:] for row in found if row[2] is not None]
            if len(rows) > limit:
                return rows[:limit], tuple(rows[limit - 1][:2])
            if edge[0] is None:
                return rows, None
        return rows, edge


def _keys(wanted: DeliveryFilter) -> str:
    """The shortest walk that meets every delivery wanted, newest first."""
    dead_only = wanted.states == (DeliveryState.DEAD,)
    if wanted.event_seq is not None:
        return _OF_EVENT
    if wanted.lane is not None:
        return _DEAD_OF_LANE if dead_only else _OF_LANE
    if dead_only:
        return _DEAD
    return _ALL if wanted.tenant is None else _OF_TENANT


def _list(values: Sequence[int] | None) -> str | None:
    return None if values is None else json.dumps([int(value) for value in values])


def _row(row: Any) -> DeliveryRow:
    return DeliveryRow(row[0], row[1], DeliveryState(row[2]), *row[3:])
