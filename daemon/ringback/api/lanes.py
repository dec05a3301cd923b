"""``GET /api/v1/lanes``: the busiest lanes now, from memory alone; what ``ringback top`` shows.

Rules: the operator's; one look at the schedule, no look at the table.
Must not know: how turns are decided.
"""

from typing import Any

from aiohttp import web

from ringback.api.deps import Deps, deps_of
from ringback.api.problems import answer
from ringback.api.reading import DEFAULT_LIMIT, MAX_LIMIT, query, whole_number
from ringback.core.times import rfc3339
from ringback.service.lane_facts import LaneFacts

FILTERS = {"limit": whole_number(1, MAX_LIMIT)}


async def index(request: web.Request) -> web.Response:
    """Most requests in flight first, then most ids waiting; the totals of attempts beside them, for rates."""
    given = query(request, FILTERS)
    deps = deps_of(request)
    lanes = [_shown(deps, number, facts) for number, facts in deps.busiest(given.get("limit", DEFAULT_LIMIT))]
    attempts = {outcome: count for outcome, count in deps.metrics.attempts.counts.items() if count}
    return answer({"data": lanes, "attempts": attempts, "events_accepted": deps.metrics.events_accepted})


def _shown(deps: Deps, number: int, facts: LaneFacts) -> dict[str, Any]:
    endpoint = deps.endpoints.by_lane(number)
    return {
        "endpoint_id": endpoint.id if endpoint else None,
        "name": endpoint.name if endpoint else None,
        "tenant": endpoint.tenant if endpoint else None,
        "status": endpoint.status if endpoint else None,
        "in_flight": facts.in_flight,
        "window": facts.allowed,
        "concurrency": facts.cap,
        "waiting": facts.waiting,
        "failures": facts.failures,
        "failing": facts.failing,
        "rate_wait_s": round(facts.rate_wait_s, 3),
        "next_due_at": rfc3339(facts.next_due_ms) if facts.next_due_ms else None,
    }
