"""The calls under ``/api/v1/deliveries``.

Rules: ids are computed (core/ids), so a well-formed id that no delivery has is 404. A retry or cancel of one in flight
is 409, as is a retry of one that isn't final: the attempt that runs decides first. Nothing is left to send of an event
that was erased: 409 ``erased``.
Must not know: how deliveries are stored, how a status is derived.
"""

from aiohttp import web

from ringback.api import delivery_pages, delivery_view
from ringback.api.access import access_of, narrowed
from ringback.api.deps import Deps, deps_of
from ringback.api.problems import Invalid, answer, problem
from ringback.api.reading import no_body, query
from ringback.core.ids import parse_delivery_id
from ringback.core.lifecycle import cancelled, reopened
from ringback.core.model import DeliveryState, Transition
from ringback.store.callbacks import CallbackLane
from ringback.store.ops import Finish
from ringback.store.views import DeliveryRow, DeliveryView


async def index(request: web.Request) -> web.Response:
    """A page, newest first."""
    given = query(request, delivery_pages.FILTERS)
    tenant = narrowed(request, given.get("tenant"))
    given = given if tenant is None else given | {"tenant": tenant}
    return answer(await delivery_pages.page(deps_of(request), access_of(request), given))


async def show(request: web.Request) -> web.Response:
    """One delivery with its attempts."""
    query(request, {})
    deps = deps_of(request)
    found = await _find(deps, request)
    return answer(await delivery_view.whole(deps, found))


async def retry(request: web.Request) -> web.Response:
    """202: from any final state, due now, with a fresh schedule."""
    return await _move(request, reopened(deps_of(request).clock.now_ms()), "pending")


async def cancel(request: web.Request) -> web.Response:
    """202: what is still owed, and not in flight, is called off."""
    return await _move(request, cancelled(), "cancelled")


async def _move(request: web.Request, transition: Transition, status: str) -> web.Response:
    query(request, {})
    await no_body(request)
    deps = deps_of(request)
    found = (await _find(deps, request)).row
    event, lane = found.event, found.lane
    if deps.dispatch.is_in_flight(event, lane):
        return problem("conflict", "an attempt is in flight now; wait for its end")
    if transition.reopen and (why := await _unsendable(deps, found)):
        return problem(*why)
    if not transition.reopen and found.state is not DeliveryState.PENDING:
        return problem("conflict", f"the delivery is {found.state.name.lower()} already")
    deps.dispatch.withhold(event, lane)  # else what waits in memory would be sent although it is cancelled
    try:
        applied = await deps.writer.run(Finish(lane, event, transition))
    finally:
        deps.dispatch.give_back(event, lane)
    if applied and not transition.reopen:
        deps.metrics.ended(transition.to)
    if not applied:
        return problem("conflict", "the delivery changed meanwhile; look at it again")
    return answer({"id": request.match_info["id"], "status": status}, 202)


async def _unsendable(deps: Deps, row: DeliveryRow) -> tuple[str, str] | None:
    """Why a delivery can't be sent again by hand, as a code and in words; None if it can."""
    if await deps.erasure.is_gone(row.tenant, row.event_id, row.event):
        return "erased", "its event was erased: there is nothing left to send"
    if row.state is DeliveryState.PENDING:
        return "conflict", "the delivery is still owed: it will be tried anyway"
    why = _unreachable(deps, row)
    return None if why is None else ("conflict", why)


def _unreachable(deps: Deps, row: DeliveryRow) -> str | None:
    """Why a delivery can't be owed again, in words; None if it can."""
    if row.callback_origin is not None:
        taken = deps.callbacks.adopt(CallbackLane(row.lane, row.tenant, row.callback_origin))
        return None if taken else "too many callbacks' receivers are owed something; try again later"
    return "its endpoint was deleted" if deps.endpoints.by_lane(row.lane) is None else None


async def _find(deps: Deps, request: web.Request) -> DeliveryView:
    text = request.match_info["id"]
    parts = parse_delivery_id(text)
    found = await deps.reads.get_delivery(parts[1], parts[2]) if parts else None
    strange = parts is None or found is None or found.row.accepted_at_ms != parts[0]
    if strange or found is None or not access_of(request).allows(found.row.tenant):
        raise Invalid("not_found", f"there is no delivery {text}")
    return found
