"""``GET /api/v1/why/{id}``: the timeline of a delivery, an event or an endpoint in plain words, and what it waits for.

Rules: an id is looked for among the endpoints, then the deliveries, then the tenant's events; what is another tenant's
is not there. Bounded: deliveries and endpoints looked at, attempts shown.
Must not know: the words (service/why).
"""

from collections import Counter
from itertools import islice
from typing import Any

from aiohttp import web

from ringback.api import delivery_view
from ringback.api.access import access_of, narrowed
from ringback.api.deps import Deps, deps_of
from ringback.api.events import ONE
from ringback.api.problems import answer, problem
from ringback.api.reading import query
from ringback.api.stats import OWED_CAP
from ringback.core.handshake import Phase
from ringback.core.ids import delivery_id, parse_delivery_id
from ringback.core.matching import Matcher, Route
from ringback.core.model import DEFAULT_TENANT, Endpoint, EndpointStatus
from ringback.core.names import Names
from ringback.core.times import rfc3339
from ringback.service import why as words
from ringback.service.lane_facts import NOTHING_KNOWN, LaneFacts
from ringback.service.proofs import Trying
from ringback.service.why import AHEAD_CAP, DeliveryFacts, Line
from ringback.store.views import DeliveryFilter, DeliveryRow, DeliveryView, EventView

#: Of one event: deliveries told, and other endpoints of its tenant judged.
MAX_DELIVERIES = 100
MAX_JUDGED = 200
#: Of one endpoint: the deliveries tried last that are told.
LATEST = 5

FILTERS = ONE


async def why(request: web.Request) -> web.Response:
    """Whatever has this id."""
    given = query(request, FILTERS)
    deps, text, access = deps_of(request), request.match_info["id"], access_of(request)
    tenant = narrowed(request, given.get("tenant", access.tenant)) or DEFAULT_TENANT
    endpoint = deps.endpoints.get(text)
    if endpoint is not None and access.allows(endpoint.tenant):
        return answer(await _of_endpoint(deps, endpoint))
    parts = parse_delivery_id(text)
    found = await delivery_view.look(deps, parts[1], parts[2]) if parts else None
    if found and parts and found[0].row.accepted_at_ms == parts[0] and access.allows(found[0].row.tenant):
        return answer(await _of_delivery(deps, *found))
    event = await deps.reads.get_event(tenant, text)
    if event is None:
        return problem("not_found", f"there is no endpoint, delivery or event of tenant {tenant} with the id {text}")
    return answer(await _of_event(deps, event))


# ---- a delivery


async def _of_delivery(deps: Deps, found: DeliveryView, status: str) -> dict[str, Any]:
    row = found.row
    facts = await _facts(deps, found, status)
    step = words.next_step(facts)
    owed = row.due_at_ms is not None and facts.status != "cancelled"
    return {
        "kind": "delivery",
        "id": delivery_id(row.accepted_at_ms, row.event, row.lane),
        "event_id": row.event_id,
        "endpoint_id": facts.endpoint.id if facts.endpoint else None,
        "status": facts.status,
        "summary": words.delivery_summary(facts),
        "timeline": _lines(words.delivery_timeline(facts)),
        "waits_for": words.waits(facts) if owed else [],
        "next": None
        if step is None
        else {"at": None if step.at_ms is None else rfc3339(step.at_ms), "rule": step.rule},
        "expires_at": None if facts.expires_at_ms is None else rfc3339(facts.expires_at_ms),
    }


async def _facts(deps: Deps, found: DeliveryView, status: str, *, count: bool = True) -> DeliveryFacts:
    """All there is to know; ``count`` False leaves out how many are ahead."""
    row, opts = found.row, found.opts
    endpoint = deps.endpoints.by_lane(row.lane)
    return DeliveryFacts(
        row=row,
        attempts=found.attempts,
        status=status,
        to=await _receiver(deps, row.lane, endpoint),
        now_ms=deps.clock.now_ms(),
        endpoint=endpoint,
        policy=deps.endpoints.effective(endpoint).retry if endpoint else None,
        lane=deps.lane_facts(row.lane),
        ahead=await deps.reads.ahead(row.event, row.lane, AHEAD_CAP) if count and row.due_at_ms is not None else 0,
        peer=opts.peer,
        deliver_after_ms=opts.deliver_after_ms,
        expires_at_ms=opts.expires_at_ms,
        erased_at_ms=opts.erased_at_ms,
        trying=deps.verify.trying(row.lane),
    )


async def _receiver(deps: Deps, lane: int, endpoint: Endpoint | None) -> str:
    if endpoint is not None:
        return f"endpoint {words.name_of(endpoint)}"
    gone = await deps.revisions.by_lane(lane)
    return "the event's own callback" if gone is None else f"endpoint {words.name_of(gone)}, deleted since"


# ---- an event


async def _of_event(deps: Deps, event: EventView) -> dict[str, Any]:
    stored = event.stored
    wanted = DeliveryFilter(tenant=stored.event.tenant, event_seq=stored.seq)
    page = await deps.reads.list_deliveries(wanted, limit=MAX_DELIVERIES)
    matched = [await _matched(deps, row, event) for row in page.items]
    by_status = Counter(one["status"] for one in matched)
    counted = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in by_status.most_common())
    total = sum(event.deliveries.values())
    first = Line(
        stored.accepted_at_ms,
        f"{words.accepted(stored.opts.peer)}, as {stored.event.type} of tenant {stored.event.tenant}",
    )
    erased = words.erased(stored.erased_at_ms)
    summary = words.event_summary(total, counted)
    return {
        "kind": "event",
        "id": stored.event.id,
        "tenant": stored.event.tenant,
        "type": stored.event.type,
        "summary": f"{erased[0].text}; {summary}" if erased else summary,
        "timeline": _lines([first, *erased]),
        "matched": matched,
        "more_matched": max(0, total - len(matched)),
        **_not_matched(deps, event, {row.lane for row in page.items}),
    }


async def _matched(deps: Deps, row: DeliveryRow, event: EventView) -> dict[str, Any]:
    """One delivery of the event; its attempts are not read, so a failed one's schedule is told in general terms."""
    found = DeliveryView(row, [], event.stored.opts)
    facts = await _facts(deps, found, delivery_view.status_of(deps, row), count=False)
    owed = row.due_at_ms is not None
    last = f"; attempt {row.attempts}, the last, ended with {words.ended_with(row)}" if row.attempts else ""
    return {
        "delivery_id": delivery_id(row.accepted_at_ms, row.event, row.lane),
        "endpoint_id": facts.endpoint.id if facts.endpoint else None,
        "to": facts.to,
        "status": facts.status,
        "text": (words.waits(facts)[0] if owed and facts.status != "cancelled" else facts.status) + last,
    }


def _not_matched(deps: Deps, event: EventView, lanes: set[int]) -> dict[str, Any]:
    """The tenant's other endpoints, newest first, and why they didn't get it."""
    stored = event.stored.event
    others = (e for e in deps.endpoints.newest_first() if e.tenant == stored.tenant and e.lane not in lanes)
    judged = list(islice(others, MAX_JUDGED + 1))
    shown = judged[:MAX_JUDGED]
    wanting = _wanting(shown, stored.type, deps.endpoints.names)
    return {
        "not_matched": [
            {
                "endpoint_id": endpoint.id,
                "name": endpoint.name,
                "reason": words.not_matched(
                    endpoint,
                    type_=stored.type,
                    accepted_at_ms=event.stored.accepted_at_ms,
                    wanted=endpoint.lane in wanting,
                    unsaid=None if event.stored.erased_at_ms else deps.endpoints.unsaid(endpoint, stored),
                ),
            }
            for endpoint in shown
        ],
        "more_not_matched": len(judged) > MAX_JUDGED,
    }


def _wanting(endpoints: list[Endpoint], type_: str, names: Names) -> set[int]:
    """The lanes whose filter lets the type through, whatever their dialect."""
    routes = [Route(e.lane, e.tenant, e.events, _anything) for e in endpoints]
    return {
        lane for tenant in {e.tenant for e in endpoints} for lane in Matcher(routes, names.also).match(tenant, type_)
    }


def _anything(_type: str) -> bool:
    return True


# ---- an endpoint


async def _of_endpoint(deps: Deps, endpoint: Endpoint) -> dict[str, Any]:
    owing = await deps.stats_reads.owing(endpoint.lane, OWED_CAP)
    latest = await deps.reads.latest_tried(endpoint.lane, LATEST)
    # As it is by now, for what was tried may have changed it; one that was deleted meanwhile as it was.
    endpoint = deps.endpoints.get(endpoint.id) or endpoint
    lane, now_ms = deps.lane_facts(endpoint.lane), deps.clock.now_ms()
    active = endpoint.status is EndpointStatus.ACTIVE
    trying = deps.verify.trying(endpoint.lane)
    standing = words.lane_waits(lane, now_ms) if active else [f"it {words.stopped(endpoint, trying)}"]
    return {
        "kind": "endpoint",
        "id": endpoint.id,
        "name": endpoint.name,
        "tenant": endpoint.tenant,
        "status": endpoint.status,
        "summary": words.endpoint_summary(endpoint, owing.rows, capped=owing.rows >= OWED_CAP),
        "timeline": _lines(words.endpoint_timeline(endpoint, latest, trying)),
        "waits_for": standing if owing.rows or not active else [],
        "next": _next(lane if active and owing.rows else NOTHING_KNOWN, trying, now_ms),
    }


def _next(lane: LaneFacts, trying: Trying | None, now_ms: int) -> dict[str, str] | None:
    """When an endpoint is called again: with what it is owed, or to prove itself."""
    if lane.waiting:
        at_ms = now_ms + round(lane.rate_wait_s * 1000)
        return {
            "at": rfc3339(at_ms),
            "rule": "some of its deliveries are due, and go as its lane lets them",
        }
    if lane.next_due_ms is not None:
        return {"at": rfc3339(max(lane.next_due_ms, now_ms)), "rule": "the earliest due time among its deliveries"}
    if trying is not None and trying.phase is Phase.READY and trying.next_at_ms is not None:
        return {"at": rfc3339(max(trying.next_at_ms, now_ms)), "rule": "it is asked again to prove itself"}
    return None


def _lines(lines: list[Line]) -> list[dict[str, str]]:
    return [{"at": rfc3339(line.at_ms), "text": line.text} for line in lines]
