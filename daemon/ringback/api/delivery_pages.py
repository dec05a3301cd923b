"""Pages of deliveries: the filters of a caller made into what the table can be asked.

Rules: ``pending``, ``held`` and ``in_flight`` are one state in the table, told apart by the endpoints' statuses
and the dispatcher's flights, asked before and checked again row by row. Looks are bounded: a page may be short and
still have a cursor.
Must not know: how a row is shown.
"""

from typing import Any

import msgspec

from ringback.api import delivery_view
from ringback.api.deps import Deps
from ringback.api.problems import Invalid
from ringback.api.reading import DEFAULT_LIMIT, cursor_of, make_cursor, one_of, paging, text, time_ms
from ringback.core.endpoint_state import delivers
from ringback.core.model import DEFAULT_TENANT, DeliveryState
from ringback.core.tokens import Access
from ringback.service.endpoint_fields import Problem
from ringback.service.views import HELD, IN_FLIGHT, PENDING, STATUSES
from ringback.store.views import DeliveryFilter

#: How often the table is asked for one page.
MAX_LOOKS = 8

_CURSOR = "delivery"
FILTERS = {
    "endpoint": text,
    "event": text,
    "status": one_of(*STATUSES),
    "type": text,
    "tenant": text,
    "since": time_ms,
    "until": time_ms,
    **paging(cursor_of(_CURSOR, 2)),
}

Key = tuple[int, int]


async def page(deps: Deps, access: Access, given: dict[str, Any]) -> dict[str, Any]:
    """A page for these parameters. Raises Invalid if the endpoint is unknown, or not there for this caller."""
    wanted = await _wanted(deps, access, given)
    status, limit, before = given.get("status"), given.get("limit", DEFAULT_LIMIT), given.get("cursor")
    if wanted is None:
        found: list[delivery_view.Told] = []
        following: Key | None = None
    elif status == IN_FLIGHT:
        found, following = await _flying(deps, wanted, limit, before)
    else:
        found, following = await _stored(deps, wanted, status, limit, before)
    cursor = make_cursor(_CURSOR, *following) if following else None
    return {"data": await delivery_view.rows(deps, found), "next_cursor": cursor}


async def _wanted(deps: Deps, access: Access, given: dict[str, Any]) -> DeliveryFilter | None:
    """What the table is asked; None if nothing can match."""
    lane = await _lane(deps, access, given["endpoint"]) if "endpoint" in given else None
    seq = None
    if "event" in given:
        event = await deps.reads.get_event(given.get("tenant", DEFAULT_TENANT), given["event"])
        if event is None:
            return None
        seq = event.stored.seq
    wanted = DeliveryFilter(
        tenant=given.get("tenant"),
        lane=lane,
        event_seq=seq,
        type=given.get("type"),
        since_ms=given.get("since"),
        until_ms=given.get("until"),
    )
    return _with_status(deps, wanted, given.get("status"))


def _with_status(deps: Deps, wanted: DeliveryFilter, status: str | None) -> DeliveryFilter | None:
    if status is None:
        return wanted
    if status not in (PENDING, HELD, IN_FLIGHT):
        return msgspec.structs.replace(wanted, states=(DeliveryState[status.upper()],))
    wanted = msgspec.structs.replace(wanted, states=(DeliveryState.PENDING,))
    if status == IN_FLIGHT:
        return wanted
    if wanted.lane is not None:
        endpoint = deps.endpoints.by_lane(wanted.lane)
        return wanted if endpoint and delivers(endpoint.status) == (status == PENDING) else None
    held = tuple(endpoint.lane for endpoint in deps.endpoints if not delivers(endpoint.status))
    if deps.callbacks.held:
        held += tuple(deps.callbacks.lanes)
    if status == PENDING:
        return msgspec.structs.replace(wanted, lanes_not_in=held or None)
    return msgspec.structs.replace(wanted, lanes_in=held) if held else None


async def _lane(deps: Deps, access: Access, endpoint_id: str) -> int:
    """Also of an endpoint that was deleted: its history stays."""
    endpoint = deps.endpoints.get(endpoint_id) or await deps.revisions.by_id(endpoint_id)
    if endpoint is None or not access.allows(endpoint.tenant):
        problem = Problem(("query", "endpoint"), f"there is no endpoint {endpoint_id}")
        raise Invalid("invalid_query", problem.msg, [problem])
    return endpoint.lane


async def _stored(
    deps: Deps, wanted: DeliveryFilter, status: str | None, limit: int, before: Key | None
) -> tuple[list[delivery_view.Told], Key | None]:
    found: list[delivery_view.Told] = []
    for _ in range(MAX_LOOKS):
        looked = await deps.reads.list_deliveries(wanted, limit=limit - len(found), before=before)
        told = [(row, delivery_view.status_of(deps, row)) for row in looked.items]
        found += [one for one in told if status in (None, one[1])]
        before = looked.next
        if before is None or len(found) >= limit:
            break
    return found, before


async def _flying(
    deps: Deps, wanted: DeliveryFilter, limit: int, before: Key | None
) -> tuple[list[delivery_view.Told], Key | None]:
    """Those in flight, each looked up by its key: there are never more than the settings' ``delivery.concurrency``."""
    found: list[delivery_view.Told] = []
    last = None
    for event, lane in sorted(deps.dispatch.in_flight(), reverse=True):
        if (before is not None and (event, lane) >= before) or wanted.lane not in (None, lane):
            continue
        if wanted.event_seq not in (None, event):
            continue
        if len(found) == limit:
            return found, last
        one = msgspec.structs.replace(wanted, event_seq=event, lane=lane)
        rows = (await deps.reads.list_deliveries(one, limit=1)).items
        found += [(row, IN_FLIGHT) for row in rows if delivery_view.status_of(deps, row) == IN_FLIGHT]
        last = (event, lane)
    return found, None
