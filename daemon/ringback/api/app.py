"""The application: the table of calls made into a router, and the listeners it answers on.

Rules: one application a listener, so that each knows by which door its callers come.
Must not know: what any call does.
"""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import HttpVersion11, web

from ringback.api.access import DOOR, RULES, Door, Rule, access_middleware
from ringback.api.deps import DEPS, Deps
from ringback.api.guard import GUARD, Guard, guard_middleware
from ringback.api.malformed import SERVER_NAME, Protocol, server_logger
from ringback.api.openapi import DOCUMENT, Document
from ringback.api.problems import Handler, problem, problems_middleware
from ringback.api.room import WRITES, room_middleware
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


async def _our_name(_request: web.Request, response: web.StreamResponse) -> None:
    """Nobody needs to know which versions of what answer him."""
    response.headers["Server"] = SERVER_NAME


def make_app(deps: Deps, door: Door = Door.CONTROL) -> web.Application:
    """The management API over these collaborators, for callers who come by that door."""
    app = web.Application(middlewares=[guard_middleware, problems_middleware, access_middleware, room_middleware])
    app.on_response_prepare.append(_our_name)
    app[DEPS], app[DOOR] = deps, door
    rules = {}
    for route in ROUTES:
        app.router.add_route(route.method, route.path, route.handler, expect_handler=_expect)
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, route.handler, expect_handler=_expect)
        rules[route.method, route.path] = route.rule
    for method, path in UNBUILT:
        app.router.add_route(method, path, _unbuilt(method, path), expect_handler=_expect)
        rules[method, path] = Rule.TENANT
    app[RULES] = rules
    app[WRITES] = frozenset((route.method, route.path) for route in ROUTES if route.needs_room)
    app[DOCUMENT] = Document(ROUTES)
    return app


async def _expect(request: web.Request) -> web.StreamResponse | None:
    """Tell a client that waits for it to go on; refuse whatever else it expects, with a problem."""
    if request.version < HttpVersion11:
        return None  # it knows no Expect
    if request.headers.get("Expect", "").lower() != "100-continue":
        return problem("invalid_request", "of Expect, only 100-continue is known", status=417)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer itself is not begun: an error may still be told
    return None


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
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=grace_s)
    await runner.setup()
    try:
        await _Site(runner, sock, guard if door is Door.TCP else None).start()
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


class _Site(web.SockSite):
    """As its parent, with the protocol of ours, and the guard between listener and server if there is one."""

    def __init__(self, runner: web.AppRunner, sock: socket.socket, guard: Guard | None) -> None:
        super().__init__(runner, sock)
        self._guard = guard

    async def start(self) -> None:
        """Listen."""
        await web.BaseSite.start(self)
        server, loop = self._runner.server, asyncio.get_running_loop()
        assert server is not None, "the runner was set up"
        logger = server_logger()

        def make() -> asyncio.Protocol:
            return Protocol(
                server,
                loop=loop,
                access_log=None,  # type: ignore[arg-type]  # None is what turns it off
                logger=logger,
                keepalive_timeout=KEEP_ALIVE_S,
                max_line_size=MAX_LINE_BYTES,
                max_field_size=MAX_FIELD_BYTES,
                max_headers=MAX_HEADERS,
                lingering_time=LINGER_S,
                auto_decompress=False,  # few bytes would be many, before anybody has asked who sends them
            )

        if self._guard is not None:
            self._guard.make = make
        self._server = await loop.create_server(self._guard or make, sock=self._sock)
