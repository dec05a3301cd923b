"""The application: the table of calls made into a router, and the listeners it answers on.

Rules: one application a listener, so that each knows by which door its callers come.
Must not know: what any call does.
"""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

from aiohttp import web

from ringback.api.access import DOOR, RULES, Door, Rule, access_middleware
from ringback.api.deps import DEPS, Deps
from ringback.api.guard import GUARD, Guard, guard_middleware
from ringback.api.malformed import server_logger
from ringback.api.openapi import DOCUMENT, Document
from ringback.api.problems import Handler, problem, problems_middleware
from ringback.api.routes import ROUTES, UNBUILT
from ringback.kit.log import get_logger
from ringback.transports.bind import bind_tcp, shown

#: Of the head of a request.
MAX_LINE_BYTES = 8190
MAX_FIELD_BYTES = 8190
MAX_HEADERS = 64
KEEP_ALIVE_S = 30.0
STOP_GRACE_S = 2.0
#: How long the rest of a refused body is read, so that the client gets to read why.
LINGER_S = 2.0

_log = get_logger()


def make_app(deps: Deps, door: Door = Door.CONTROL) -> web.Application:
    """The management API over these collaborators, for callers who come by that door."""
    app = web.Application(middlewares=[guard_middleware, problems_middleware, access_middleware])
    app[DEPS], app[DOOR] = deps, door
    rules = {}
    for route in ROUTES:
        app.router.add_route(route.method, route.path, route.handler)
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, route.handler)
        rules[route.method, route.path] = route.rule
    for method, path in UNBUILT:
        app.router.add_route(method, path, _unbuilt(method, path))
        rules[method, path] = Rule.TENANT
    app[RULES] = rules
    app[DOCUMENT] = Document(ROUTES)
    return app


def _unbuilt(method: str, path: str) -> Handler:
    async def answer_unbuilt(_request: web.Request) -> web.Response:
        return problem("not_supported", f"{method} {path} is not supported yet", status=501)

    return answer_unbuilt


@asynccontextmanager
async def serve(
    deps: Deps,
    sock: socket.socket,
    *,
    door: Door = Door.CONTROL,
    grace_s: float = STOP_GRACE_S,
    guard: Guard | None = None,
) -> AsyncIterator[None]:
    """Answer on a listening socket that somebody else bound and will unlink, until the block ends.

    At the end it stops accepting, gives requests in progress ``grace_s``, and closes every connection. Callers who come
    by TCP are watched by ``guard``; on the control socket they are trusted to take their time.
    """
    app = make_app(deps, door)
    app[GUARD] = guard = guard or Guard()
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=server_logger(),
        handle_signals=False,
        keepalive_timeout=KEEP_ALIVE_S,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_FIELD_BYTES,
        max_headers=MAX_HEADERS,
        lingering_time=LINGER_S,
        shutdown_timeout=grace_s,
    )
    await runner.setup()
    try:
        site = web.SockSite(runner, sock) if door is Door.CONTROL else _GuardedSite(runner, sock, guard)
        await site.start()
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def serve_tcp(deps: Deps, where: tuple[str, int] | None) -> AsyncIterator[None]:
    """As ``serve`` on an IP address and port of our own, until the block ends; without one there is nothing to do.

    Raises AddressInUse or OSError if it can't listen there.
    """
    if where is None:
        yield
        return
    sock = bind_tcp(*where)
    listening = shown(*sock.getsockname()[:2])
    if not ipaddress.ip_address(where[0]).is_loopback:
        _log.warning("api.in_clear", listen=listening, reason="tokens cross the network unencrypted: put TLS before it")
    _log.info("api.listening", listen=listening)
    async with serve(deps, sock, door=Door.TCP):
        yield


class _GuardedSite(web.SockSite):
    """As its parent, with the guard between listener and server."""

    def __init__(self, runner: web.AppRunner, sock: socket.socket, guard: Guard) -> None:
        super().__init__(runner, sock)
        self._guard = guard

    async def start(self) -> None:
        """Listen."""
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None, "the runner was set up"
        self._guard.make = cast("Callable[[], asyncio.Protocol]", server)
        self._server = await asyncio.get_running_loop().create_server(self._guard, sock=self._sock)
