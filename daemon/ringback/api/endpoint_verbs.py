"""More calls on one endpoint: ping, test, retry, rotate-secret.

Must not know: what is sent, how a secret is made.
"""

from aiohttp import web

from ringback.api import endpoints
from ringback.api.access import own_endpoint
from ringback.api.deps import deps_of
from ringback.api.problems import answer, problem, refused
from ringback.api.reading import cursor_of, make_cursor, no_body, query, read_optional
from ringback.api.submit import peer_of
from ringback.core.model import EndpointStatus, Rejection
from ringback.kit.log import get_logger
from ringback.service import probes, why
from ringback.service.endpoint_fields import Refusal
from ringback.service.log_keys import named
from ringback.store.queue import HastenedUpTo, hasten_owed

#: Waiting deliveries that one call looks at: the commit that moves them is what everybody else's waits for.
RETRY_ROWS = 1024

_CURSOR = "retry"
RETRY_QUERY = {"cursor": cursor_of(_CURSOR, len(HastenedUpTo._fields))}

_log = get_logger()


async def ping(request: web.Request) -> web.Response:
    """202 with the delivery's id."""
    return await _probe(request, probes.PING)


async def test(request: web.Request) -> web.Response:
    """202 with the delivery's id."""
    return await _probe(request, probes.TEST)


async def _probe(request: web.Request, kind: str) -> web.Response:
    query(request, {})
    await no_body(request)
    deps, endpoint = deps_of(request), own_endpoint(request)
    sent = await probes.send(deps.intake, endpoint, kind, peer_of(request), clock=deps.clock, chance=deps.chance)
    if isinstance(sent, Rejection):
        return problem(sent.code, sent.message)
    told = {"id": sent.delivery_id, "delivery_id": sent.delivery_id, "event_id": sent.event_id}
    return answer(told | {"endpoint_id": endpoint.id}, 202)


async def retry(request: web.Request) -> web.Response:
    """202 with how many waiting retries this call made due now; the caller goes on with the cursor while there is one.

    Calls that go on from each other make a delivery due once at most, however soon it fails again.
    """
    given = query(request, RETRY_QUERY)
    await no_body(request)
    deps, endpoint = deps_of(request), own_endpoint(request)
    if endpoint.status is not EndpointStatus.ACTIVE:
        return problem("conflict", f"the endpoint {why.stopped(endpoint, deps.verify.trying(endpoint.lane))}")
    before = HastenedUpTo(*given["cursor"]) if "cursor" in given else None
    done = await deps.writer.run(hasten_owed(endpoint.lane, deps.clock.now_ms(), RETRY_ROWS, before))
    if done.moved:
        deps.dispatch.kick(endpoint.lane)
        _log.info("endpoint.retried", **named(endpoint), deliveries=done.moved)
    cursor = make_cursor(_CURSOR, *done.next) if done.next else None
    told = {"id": endpoint.id, "deliveries": done.moved, "more": cursor is not None, "next_cursor": cursor}
    return answer(told, 202)


async def rotate_secret(request: web.Request) -> web.Response:
    """202 with the endpoint, its new secret in full."""
    query(request, {})
    deps = deps_of(request)
    body = await read_optional(request)
    done = await deps.rotation.rotate(own_endpoint(request).id, body)
    return refused(done) if isinstance(done, Refusal) else answer(endpoints.changed(deps, done), 202)
