"""Calls that would have to wait for the disk are refused instead.

Role: while the disk is full and nothing can be written, what somebody asks for by hand gets ``storage_full`` at once
rather than a long silence and an effect behind his back; so does the call that finds it full first.
Rules: events are none of this, the writer tries them and answers by itself; nor is what a receiver tells us by a call
of its own (a consent), for it won't come twice: that waits. Where a ballast was let go there is room, and calls work.
Must not know: what any call does.
"""

from aiohttp import web

from ringback.api.deps import deps_of
from ringback.api.problems import Handler
from ringback.store.errors import StoreError
from ringback.store.ops import NO_ROOM, STORAGE_FULL

#: (method, path) of the calls that write.
WRITES = web.AppKey("writes", frozenset[tuple[str, str]])


@web.middleware
async def room_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what would have to wait. Raises StoreError."""
    resource = request.match_info.route.resource
    if resource is None or (request.method, resource.canonical) not in request.app[WRITES]:
        return await handler(request)
    writer = deps_of(request).writer
    if writer.stuck:
        raise StoreError(STORAGE_FULL, NO_ROOM)
    with writer.by_hand():
        return await handler(request)
