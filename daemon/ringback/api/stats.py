"""``GET /api/v1/endpoints/{id}/stats`` and ``GET /api/v1/status``.

Rules: counts of what is owed stop at a cap and say so.
Must not know: how anything is counted.
"""

from collections import Counter
from typing import Any

from aiohttp import web

from ringback import __version__
from ringback.api.access import own_endpoint
from ringback.api.deps import Deps, deps_of
from ringback.api.problems import answer
from ringback.api.reading import query, whole_number
from ringback.core.model import EndpointStatus
from ringback.core.tally import HOUR_MS, Tally, percentile_ms, total
from ringback.core.times import rfc3339
from ringback.service.stats import KEPT_HOURS
from ringback.store.stats import Owing

#: Counting what is owed ends here.
OWED_CAP = 100_000
DEFAULT_HOURS = 24
FILTERS = {"hours": whole_number(1, KEPT_HOURS)}


async def of_endpoint(request: web.Request) -> web.Response:
    """Rates and latencies of the last hours, and how its lane and queue stand now."""
    given = query(request, FILTERS)
    deps, endpoint = deps_of(request), own_endpoint(request)
    now_ms = deps.clock.now_ms()
    this_hour = now_ms // HOUR_MS
    hours = range(this_hour - given.get("hours", DEFAULT_HOURS) + 1, this_hour + 1)
    found = await deps.stats.of_lane(endpoint.lane, hours, deps.stats_reads.hours)
    owing = await deps.stats_reads.owing(endpoint.lane, OWED_CAP)
    endpoint = deps.endpoints.get(endpoint.id) or endpoint  # as it is by now; one that is deleted as it was
    since_ms = max(hours.start * HOUR_MS, min(endpoint.created_at_ms, now_ms))
    shown = {
        "endpoint_id": endpoint.id,
        "status": endpoint.status,
        "since": rfc3339(since_ms),
        **_summary(total(found.values()), (now_ms - since_ms) / 1000),
        "by_hour": [{"hour": rfc3339(hour * HOUR_MS), **_counts(found[hour])} for hour in sorted(found)],
        **_lane(deps, endpoint.lane, deps.endpoints.effective(endpoint).concurrency),
        "queue": _queue(owing),
    }
    return answer(shown)


def _summary(tally: Tally, elapsed_s: float) -> dict[str, Any]:
    attempts = tally.attempts
    return {
        **_counts(tally),
        "outcomes": tally.outcomes,
        "success_rate": round(tally.delivered / attempts, 4) if attempts else None,
        "attempts_per_s": round(attempts / elapsed_s, 4) if elapsed_s > 0 else None,
        "latency_ms": {"p50": percentile_ms(tally.took, 0.5), "p99": percentile_ms(tally.took, 0.99)},
    }


def _counts(tally: Tally) -> dict[str, int]:
    attempts = tally.attempts
    return {
        "attempts": attempts,
        "delivered": tally.delivered,
        "failed": attempts - tally.delivered,
        "dead": tally.dead,
    }


def _lane(deps: Deps, number: int, concurrency: int) -> dict[str, Any]:
    """How it is treated now; a lane nobody has asked anything of yet starts with one request."""
    window, in_flight = deps.dispatch.lane_now(number)
    return {"window": round(min(window, concurrency), 2), "concurrency": concurrency, "in_flight": in_flight}


def _queue(owing: Owing) -> dict[str, Any]:
    oldest = None if owing.oldest_ms is None else rfc3339(owing.oldest_ms)
    return {"owed": owing.rows, "capped": owing.rows >= OWED_CAP, "oldest_accepted_at": oldest}


async def _encryption(deps: Deps) -> dict[str, Any]:
    left = await deps.sealing.left() if deps.sealing.on else None
    return {"on": deps.sealing.on, "in_the_clear": left._asdict() if left is not None else None}


async def status(request: web.Request) -> web.Response:
    """The whole daemon on one screen."""
    query(request, {})
    deps = deps_of(request)
    encryption, queue = await _encryption(deps), _queue(await deps.stats_reads.owing_in_all(OWED_CAP))
    # Nothing is waited for from here on: what memory knows is told as of one moment.
    counts = Counter(endpoint.status for endpoint in deps.endpoints)
    disk = deps.disk()
    return answer(
        {
            "state": deps.ready(),
            "version": __version__,
            "started_at": rfc3339(deps.started_at_ms),
            "restored_at": rfc3339(deps.restored.restored_at_ms) if deps.restored.restored_at_ms else None,
            "encryption": encryption,
            "endpoints": {status.value: counts[status] for status in EndpointStatus},
            "failing": deps.failing(),
            "in_flight": len(deps.dispatch.in_flight()),
            "queue": queue,
            "writing": {"rows": deps.writer.backlog_rows, "bytes": deps.writer.backlog_bytes},
            "disk": {"full": deps.writer.full, "full_because": deps.writer.full_because, **disk._asdict()},
        }
    )
