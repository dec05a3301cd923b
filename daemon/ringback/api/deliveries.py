"""The calls under ``/api/v1/deliveries``.

Rules: ids are computed (core/ids), so a well-formed id that no delivery has is 404. A retry or cancel of one in flight
is 409: the attempt that runs decides first. So is a retry that would change nothing or break a rule: of one that is
held, is due already, or whose event says ``deliver_after``. Nothing is left to send of an event that was erased: 409
``erased``.
Must not know: how deliveries are stored, how a status is derived.
"""

from aiohttp import web

from ringback.api import delivery_pages, delivery_view
from ringback.api.access import access_of, narrowed
from ringback.api.deps import Deps, deps_of
from ringback.api.problems import Invalid, answer, problem
from ringback.api.reading import no_body, query
from ringback.core.ids import parse_delivery_id
from ringback.core.lifecycle import cancelled, hastened, reopened
from ringback.core.model import DeliveryState, Transition
from ringback.core.times import rfc3339
from ringback.service import delivery_log, why
from ringback.service.views import CANCELLED, HELD
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
    found, status = await _find(deps, request)
    return answer(await delivery_view.whole(deps, found, status))


async def retry(request: web.Request) -> web.Response:
    """202: due now. From a final state with a fresh schedule; one that waits for its next try keeps the one it has.

    One that was finished is ``held`` by it while its endpoint isn't active, and goes once that is.
    """
    deps, row = await _asked(request)
    if not deps.dispatch.is_in_flight(row) and (refused := await _unsendable(deps, row)):
        return problem(*refused)
    waiting = row.state is DeliveryState.PENDING
    return await _move(request, row, hastened() if waiting else reopened(deps.clock.now_ms()))


async def cancel(request: web.Request) -> web.Response:
    """202: what is still owed, and not in flight, is called off."""
    _, row = await _asked(request)
    if row.state is not DeliveryState.PENDING:
        return problem("conflict", f"the delivery is {row.state.name.lower()} already")
    return await _move(request, row, cancelled())


async def _asked(request: web.Request) -> tuple[Deps, DeliveryRow]:
    """The delivery that a verb is about."""
    query(request, {})
    await no_body(request)
    deps = deps_of(request)
    return deps, (await _find(deps, request))[0].row


async def _move(request: web.Request, row: DeliveryRow, transition: Transition) -> web.Response:
    deps, event, lane = deps_of(request), row.event, row.lane
    if deps.dispatch.is_in_flight(row):
        return problem("conflict", "an attempt is in flight now; wait for its end")
    deps.dispatch.withhold(event, lane)  # else what waits in memory would be sent although it is cancelled
    try:
        applied = await deps.writer.run(Finish(lane, event, transition))
    finally:
        deps.dispatch.give_back(event, lane)
    if not applied:
        return problem("conflict", "the delivery changed meanwhile; look at it again")
    if transition.to is not DeliveryState.PENDING:
        deps.metrics.ended(transition.to)
    delivery_log.by_hand(row, deps.endpoints.by_lane(lane), transition)
    owed = transition.to is DeliveryState.PENDING
    status = delivery_view.owed_status(deps, row) if owed else transition.to.name.lower()
    if owed and status == CANCELLED:
        return problem("conflict", "its endpoint was deleted meanwhile, and the delivery is cancelled by that")
    return answer({"id": request.match_info["id"], "status": status}, 202)


async def _unsendable(deps: Deps, row: DeliveryRow) -> tuple[str, str] | None:
    """Why a delivery can't be sent by hand now, as a code and in words; None if it can."""
    if await deps.erasure.is_gone(row.tenant, row.event_id, row.event):
        return "erased", "its event was erased: there is nothing left to send"
    reason = _unreachable(deps, row)
    if reason is None and row.state is DeliveryState.PENDING:
        reason = await _not_to_be_hastened(deps, row)
    return None if reason is None else ("conflict", reason)


async def _not_to_be_hastened(deps: Deps, row: DeliveryRow) -> str | None:
    """Why one that is still owed can't be made due now, in words; None if it waits for its next try."""
    endpoint, now_ms = deps.endpoints.by_lane(row.lane), deps.clock.now_ms()
    if delivery_view.status_of(deps, row) == HELD:
        if endpoint is None:
            return "callbacks are held since a restore: ringback endpoint resume --all lets them go"
        return f"the delivery is held: {why.held(endpoint, deps.verify.trying(row.lane))}"
    if row.due_at_ms is None or row.due_at_ms <= now_ms:
        return "the delivery is due already: ringback why says what it waits for"
    event = await deps.reads.get_event(row.tenant, row.event_id)
    not_before_ms = event.stored.opts.deliver_after_ms if event else None
    if not_before_ms is not None and not_before_ms > now_ms:
        return f"its event says deliver_after {rfc3339(not_before_ms)}: it is not sent before"
    return None


def _unreachable(deps: Deps, row: DeliveryRow) -> str | None:
    """Why a delivery can't be owed again, in words; None if it can."""
    if row.callback_origin is not None:
        taken = deps.callbacks.adopt(CallbackLane(row.lane, row.tenant, row.callback_origin))
        return None if taken else "too many callbacks' receivers are owed something; try again later"
    return "its endpoint was deleted" if deps.endpoints.by_lane(row.lane) is None else None


async def _find(deps: Deps, request: web.Request) -> tuple[DeliveryView, str]:
    """The delivery that the path names, and its status. Raises Invalid ``not_found``."""
    text = request.match_info["id"]
    parts = parse_delivery_id(text)
    found = await delivery_view.look(deps, parts[1], parts[2]) if parts else None
    row = found[0].row if found else None
    strange = parts is None or row is None or row.accepted_at_ms != parts[0]
    if strange or found is None or row is None or not access_of(request).allows(row.tenant):
        raise Invalid("not_found", f"there is no delivery {text}")
    return found
