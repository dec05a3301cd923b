"""The routes: what is built, and what is refused by name until it is.

Must not know: what any call does.
"""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from ringback.api import deliveries, endpoints, events, health, submit
from ringback.api.deps import DEPS, Deps
from ringback.api.problems import Handler, problem, problems_middleware

#: Named in CONTRACT, not built: 501 rather than 404, so that a caller knows it isn't a typo.
UNBUILT = (
    ("POST", "/api/v1/endpoints/{id}/challenge"),
    ("POST", "/api/v1/endpoints/{id}/ping"),
    ("POST", "/api/v1/endpoints/{id}/test"),
    ("POST", "/api/v1/endpoints/{id}/rotate-secret"),
    ("POST", "/api/v1/endpoints/{id}/replay"),
    ("GET", "/api/v1/endpoints/{id}/stats"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
)
#: Of the head of a request.
MAX_LINE_BYTES = 8190
MAX_FIELD_BYTES = 8190
KEEP_ALIVE_S = 30.0
STOP_GRACE_S = 2.0


def make_app(deps: Deps) -> web.Application:
    """The management API over these collaborators."""
    app = web.Application(middlewares=[problems_middleware])
    app[DEPS] = deps
    app.add_routes(
        [
            web.get("/healthz", health.healthz),
            web.get("/readyz", health.readyz),
            web.post("/api/v1/endpoints", endpoints.create),
            web.get("/api/v1/endpoints", endpoints.index),
            web.get("/api/v1/endpoints/{id}", endpoints.show),
            web.patch("/api/v1/endpoints/{id}", endpoints.patch),
            web.delete("/api/v1/endpoints/{id}", endpoints.delete),
            web.post("/api/v1/endpoints/{id}/pause", endpoints.pause),
            web.post("/api/v1/endpoints/{id}/resume", endpoints.resume),
            web.post("/api/v1/events", submit.submit),
            web.get("/api/v1/events", events.index),
            web.get("/api/v1/events/{id}", events.show),
            web.get("/api/v1/deliveries", deliveries.index),
            web.get("/api/v1/deliveries/{id}", deliveries.show),
            web.post("/api/v1/deliveries/{id}/retry", deliveries.retry),
            web.post("/api/v1/deliveries/{id}/cancel", deliveries.cancel),
        ]
    )
    for method, path in UNBUILT:
        app.router.add_route(method, path, _unbuilt(method, path))
    return app


def _unbuilt(method: str, path: str) -> Handler:
    async def answer_unbuilt(_request: web.Request) -> web.Response:
        return problem("not_supported", f"{method} {path} is not supported yet", status=501)

    return answer_unbuilt


@asynccontextmanager
async def serve(deps: Deps, sock: socket.socket, *, grace_s: float = STOP_GRACE_S) -> AsyncIterator[None]:
    """Answer on a listening socket that somebody else bound and will unlink, until the block ends.

    At the end it stops accepting, gives requests in progress ``grace_s``, and closes every connection.
    """
    runner = web.AppRunner(
        make_app(deps),
        access_log=None,
        handle_signals=False,
        keepalive_timeout=KEEP_ALIVE_S,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_FIELD_BYTES,
        shutdown_timeout=grace_s,
    )
    await runner.setup()
    try:
        await web.SockSite(runner, sock).start()
        yield
    finally:
        await runner.cleanup()
