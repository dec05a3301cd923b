"""The calls that erase: one event, or all that a tenant has; how far that has come; a new key for a tenant.

Rules: an event is erased for its own tenant and the operator, a tenant for the operator alone. Asked twice is once.
Must not know: what erasing does.
"""

from aiohttp import web

from ringback.api.access import access_of, narrowed
from ringback.api.deps import deps_of
from ringback.api.events import ONE
from ringback.api.problems import answer, refused
from ringback.api.reading import no_body, query
from ringback.core.model import DEFAULT_TENANT
from ringback.core.times import rfc3339
from ringback.service.endpoint_fields import Refusal


async def event(request: web.Request) -> web.Response:
    """200 once it is erased."""
    given = query(request, ONE)
    await no_body(request)
    tenant = narrowed(request, given.get("tenant", access_of(request).tenant)) or DEFAULT_TENANT
    event_id = request.match_info["id"]
    done = await deps_of(request).erasure.event(tenant, event_id)
    if isinstance(done, Refusal):
        return refused(done)
    return answer({"id": event_id, "tenant": tenant, "erased_at": rfc3339(done)})


async def tenant(request: web.Request) -> web.Response:
    """202: its endpoints and tokens are gone, its events go from now on."""
    query(request, {})
    await no_body(request)
    name = request.match_info["name"]
    asked = await deps_of(request).erasure.tenant(name)
    if isinstance(asked, Refusal):
        return refused(asked)
    return answer({"tenant": name, "events": asked.events, "endpoints": asked.endpoints, "erasing": True}, 202)


async def rotate_key(request: web.Request) -> web.Response:
    """200 once what the tenant sends is sealed with a new data key."""
    query(request, {})
    await no_body(request)
    name = request.match_info["name"]
    refusal = await deps_of(request).sealing.rotate(name)
    return await _shown(request, name) if refusal is None else refused(refusal)


async def show_tenant(request: web.Request) -> web.Response:
    """How much there is of it, and of its erasure."""
    query(request, {})
    return await _shown(request, request.match_info["name"])


async def _shown(request: web.Request, name: str) -> web.Response:
    found = await deps_of(request).erasure.look(name)
    if isinstance(found, Refusal):
        return refused(found)
    return answer({"tenant": name, **found._asdict()})
