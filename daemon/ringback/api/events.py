"""``GET /api/v1/events`` and one event.

Rules: ``data`` is shown as the very bytes the producer wrote; of an erased event nothing it held is.
Must not know: how events are stored.
"""

from typing import Any

import msgspec
from aiohttp import web

from ringback.api.access import access_of, narrowed
from ringback.api.deps import deps_of
from ringback.api.problems import answer, problem
from ringback.api.reading import DEFAULT_LIMIT, cursor_of, make_cursor, paging, query, text, time_ms
from ringback.core.masks import mask_members, mask_query
from ringback.core.model import DEFAULT_TENANT, Callback, Event
from ringback.core.signing import mask_secret
from ringback.core.times import rfc3339
from ringback.store.codec import EventOpts
from ringback.store.views import EventRow

_CURSOR = "event"
FILTERS = {"tenant": text, "type": text, "since": time_ms, "until": time_ms, **paging(cursor_of(_CURSOR, 1))}
ONE = {"tenant": text}


async def index(request: web.Request) -> web.Response:
    """A page, newest first, without data."""
    given = query(request, FILTERS)
    limit = given.get("limit", DEFAULT_LIMIT)
    page = await deps_of(request).reads.list_events(
        tenant=narrowed(request, given.get("tenant")),
        type=given.get("type"),
        since_ms=given.get("since"),
        until_ms=given.get("until"),
        limit=limit,
        before_seq=given["cursor"][0] if "cursor" in given else None,
    )
    shown = [_view(row, row.accepted_at_ms, row.opts) | {"size": row.size} for row in page.items]
    return answer({"data": shown, "next_cursor": make_cursor(_CURSOR, page.next[0]) if page.next else None})


async def show(request: web.Request) -> web.Response:
    """One event with its data and how many of its deliveries stand how."""
    given = query(request, ONE)
    tenant = narrowed(request, given.get("tenant", access_of(request).tenant)) or DEFAULT_TENANT
    event_id = request.match_info["id"]
    found = await deps_of(request).reads.get_event(tenant, event_id)
    if found is None:
        return problem("not_found", f"tenant {tenant} has no event {event_id}")
    stored = found.stored
    shown = _view(stored.event, stored.accepted_at_ms, stored.opts)
    shown["size"] = len(stored.event.data)
    gone = stored.erased_at_ms is not None
    shown["corrupt"] = stored.corrupt and not gone
    shown["callback"] = None if gone or stored.event.callback is None else _callback(stored.event.callback)
    shown["data"] = None if gone or stored.corrupt else msgspec.Raw(stored.event.data)
    shown["deliveries"] = {state.name.lower(): count for state, count in found.deliveries.items()}
    return answer(shown)


def _view(event: Event | EventRow, accepted_at_ms: int, opts: EventOpts) -> dict[str, Any]:
    return {
        "id": event.id,
        "tenant": event.tenant,
        "type": event.type,
        "created_at": rfc3339(event.created_at_ms),
        "accepted_at": rfc3339(accepted_at_ms),
        "deliver_after": _time(opts.deliver_after_ms),
        "expires_at": _time(opts.expires_at_ms),
        "source": opts.peer,
        "erased_at": _time(opts.erased_at_ms),
    }


def _callback(callback: Callback) -> dict[str, Any]:
    """As it was given, what is secret masked."""
    return {
        "url": mask_query(callback.url),
        "dialect": callback.dialect,
        "method": callback.method,
        "secret": mask_secret(callback.secret) if callback.secret else None,
        "extra": msgspec.Raw(mask_members(callback.extra or b"{}")),
    }


def _time(ms: int | None) -> str | None:
    return None if ms is None else rfc3339(ms)
