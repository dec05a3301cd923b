"""How a delivery is shown: its row in a list, and in full with every attempt.

Rules: what is shown of all attempts together is bounded; the newest have their requests, older ones may go without.
A status is derived once, right after its row was read: what is waited for later changes none of it.
Must not know: how a request is rebuilt (service/views), how anything is stored.
"""

from typing import Any

from ringback import dialects
from ringback.api.deps import Deps
from ringback.core.ids import delivery_id
from ringback.core.model import DeliveryState, Endpoint, Event
from ringback.core.times import rfc3339
from ringback.kit.redact import redact_url
from ringback.service.callbacks import receiver
from ringback.service.rendering import shot_of
from ringback.service.views import HELD, IN_FLIGHT, PENDING, read_info, request_shown, response_shown, status_of_owed
from ringback.store.views import AttemptView, DeliveryRow, DeliveryView, StoredEvent

#: Bytes of rebuilt request bodies in one answer; attempts before that show no request.
MAX_REQUEST_BYTES = 8_388_608
#: How often one delivery is read, at most, until no attempt ended meanwhile.
LOOKS = 3

#: A row and its status.
Told = tuple[DeliveryRow, str]


def status_of(deps: Deps, row: DeliveryRow) -> str:
    """The derived status."""
    if row.state is not DeliveryState.PENDING:
        return row.state.name.lower()
    return IN_FLIGHT if deps.dispatch.is_in_flight(row) else owed_status(deps, row)


def owed_status(deps: Deps, row: DeliveryRow) -> str:
    """The same of one that is owed, and not in flight."""
    if row.callback_origin is not None:
        return HELD if deps.callbacks.held else PENDING
    return status_of_owed(deps.endpoints.by_lane(row.lane))


async def look(deps: Deps, event: int, lane: int) -> tuple[DeliveryView, str] | None:
    """One delivery and its status; None if there is none.

    Read again if an attempt ended just then: what was in flight is not told as if nobody had tried it yet.
    """
    for _ in range(LOOKS):
        flew = (event, lane) in deps.dispatch.in_flight()
        found = await deps.reads.get_delivery(event, lane)
        if found is None:
            return None
        told = found, status_of(deps, found.row)
        landed = flew and told[1] != IN_FLIGHT and found.row.state is DeliveryState.PENDING
        if not landed:
            break
    return told


async def rows(deps: Deps, found: list[Told]) -> list[dict[str, Any]]:
    """A page's rows."""
    ids: dict[int, str | None] = {}
    for row, _ in found:
        if row.lane not in ids:
            ids[row.lane] = await _endpoint_id(deps, row.lane)
    return [_row(deps, row, status, ids[row.lane]) for row, status in found]


async def whole(deps: Deps, found: DeliveryView, status: str) -> dict[str, Any]:
    """One delivery with its attempts, oldest first."""
    shown = (await rows(deps, [(found.row, status)]))[0]
    event = await deps.reads.get_event(found.row.tenant, found.row.event_id)
    attempts = await _Attempts(deps, found.row, event.stored if event else None).show(found.attempts)
    callback = _callback(event.stored.event if event else None, found.row)
    erased_at_ms = found.opts.erased_at_ms
    erased_at = None if erased_at_ms is None else rfc3339(erased_at_ms)
    return shown | {"callback": callback, "erased_at": erased_at, "attempts": attempts}


def _callback(event: Event | None, row: DeliveryRow) -> dict[str, Any] | None:
    """Where a callback's delivery goes; null for an endpoint's. Its URL without the query: that may be its key."""
    asked = event.callback if event is not None and row.callback_origin is not None else None
    if asked is None or not asked.url:
        return None
    return {"url": redact_url(asked.url), "dialect": asked.dialect, "method": asked.method}


def _row(deps: Deps, row: DeliveryRow, status: str, endpoint_id: str | None) -> dict[str, Any]:
    endpoint = deps.endpoints.by_lane(row.lane)
    return {
        "id": delivery_id(row.accepted_at_ms, row.event, row.lane),
        "event_id": row.event_id,
        "endpoint_id": endpoint_id,
        "endpoint_name": endpoint.name if endpoint else None,
        "callback_origin": row.callback_origin,
        "tenant": row.tenant,
        "type": row.type,
        "status": status,
        "attempt_count": row.attempts,
        "created_at": rfc3339(row.created_at_ms),
        "accepted_at": rfc3339(row.accepted_at_ms),
        "next_attempt_at": rfc3339(row.due_at_ms) if row.due_at_ms else None,
        "last_attempt_at": None if row.started_at_ms is None else rfc3339(row.started_at_ms),
        "last_outcome": row.outcome,
        "last_status": row.status,
        "last_error": row.error,
    }


async def _endpoint_id(deps: Deps, lane: int) -> str | None:
    """Also of one that was deleted: its row stays."""
    endpoint = deps.endpoints.by_lane(lane) or await deps.revisions.by_lane(lane)
    return endpoint.id if endpoint else None


class _Attempts:
    """Shows the attempts of one delivery, the newest first, while the budget lasts."""

    def __init__(self, deps: Deps, row: DeliveryRow, stored: StoredEvent | None) -> None:
        self._deps = deps
        self._row = row
        self._stored = stored
        self._left = MAX_REQUEST_BYTES
        self._revisions: dict[int, Endpoint | None] = {}
        self._encoded: dict[str, bytes] = {}

    async def show(self, attempts: list[AttemptView]) -> list[dict[str, Any]]:
        """All of them, oldest first."""
        return [await self._attempt(attempt) for attempt in reversed(attempts)][::-1]

    async def _attempt(self, attempt: AttemptView) -> dict[str, Any]:
        info = read_info(attempt.info or b"")
        request = await self._request(attempt)
        max_body = self._deps.max_response_bytes
        return {
            "n": attempt.n,
            "run": attempt.run,
            "started_at": rfc3339(attempt.started_at_ms),
            "elapsed_ms": attempt.elapsed_ms,
            "outcome": attempt.outcome,
            "error": attempt.error,
            "request": request,
            "response": response_shown(attempt.status, info, attempt.full_body, max_body),
        }

    async def _request(self, attempt: AttemptView) -> dict[str, Any] | None:
        info, stored = read_info(attempt.info or b""), self._stored
        if info is None or stored is None or stored.corrupt or self._left < len(stored.event.data):
            return None
        self._left -= len(stored.event.data)
        endpoint = await self._receiver(info.revision, stored.event)
        dialect = dialects.get(endpoint.dialect) if endpoint else None
        if endpoint is None or dialect is None:
            return None
        names, row = self._deps.endpoints.names, self._row
        shot = shot_of(names, dialect, endpoint, stored.event, row.accepted_at_ms, row.event)
        return request_shown(dialect, endpoint, shot, info, self._deps.divert_to, self._encoded)

    async def _receiver(self, revision: int, event: Event) -> Endpoint | None:
        """Who it was sent to, as it was then; a callback's receiver never changes."""
        row = self._row
        if row.callback_origin is not None:
            return receiver(row.lane, row.tenant, event, event.callback) if event.callback else None
        if revision not in self._revisions:
            self._revisions[revision] = await self._deps.revisions.revision(row.lane, revision)
        return self._revisions[revision]
