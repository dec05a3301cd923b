"""What a TCP client may cost: connections, time for a request's head and body, time to take its answer.

Role: stands between the listener and the HTTP server and cuts off who takes too long; one guard a listener.
Rules: a clock runs from the connection's beginning, and from the end of each answer, until a whole head is there; then
one for the body; and one while the client doesn't read what it asked for. An idle kept-alive connection goes by the
first of them, but in good order and without a word: nobody was slow. One connection too many gets 503 and is closed.
Must not know: HTTP, beyond that answer; tokens.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from aiohttp import web

from ringback.api.problems import Handler
from ringback.kit.log import get_logger

#: Connections at once.
MAX_CONNECTIONS = 256
#: From the connection, or the answer before, to the end of a request's head.
HEAD_TIMEOUT_S = 15.0
#: From the head to the end of the body; a body of 64 MiB takes that long at 220 kB/s.
BODY_TIMEOUT_S = 300.0
#: How long a client may leave its answer unread.
WRITE_TIMEOUT_S = 60.0

_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nConnection: close\r\n"
    b"Retry-After: 1\r\nContent-Length: %d\r\n\r\n%b"
)
_TOO_MANY_BODY = (
    b'{"type":"about:blank","title":"Service Unavailable","status":503,"code":"overloaded",'
    b'"detail":"too many connections"}'
)

_log = get_logger()


class Guard:
    """The connections of one listener."""

    def __init__(
        self,
        *,
        max_connections: int = MAX_CONNECTIONS,
        head_timeout_s: float = HEAD_TIMEOUT_S,
        body_timeout_s: float = BODY_TIMEOUT_S,
        write_timeout_s: float = WRITE_TIMEOUT_S,
    ) -> None:
        #: the HTTP server's protocol for a new connection; the listener sets it
        self.make: Callable[[], asyncio.Protocol] = asyncio.Protocol
        self.max_connections = max_connections
        self.head_timeout_s = head_timeout_s
        self.body_timeout_s = body_timeout_s
        self.write_timeout_s = write_timeout_s
        self.open = 0
        self.by_server: dict[asyncio.Protocol, _Guarded] = {}

    def __call__(self) -> "_Guarded":
        """A protocol for a new connection."""
        return _Guarded(self)


GUARD = web.AppKey("guard", Guard)


@web.middleware
async def guard_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell the connection that a head is there, and that an answer was given."""
    guarded = request.app[GUARD].by_server.get(cast("asyncio.Protocol", request.protocol))
    if guarded is None:
        return await handler(request)
    guarded.head_came(request)
    try:
        return await handler(request)
    finally:
        guarded.answered()


class _Guarded(asyncio.Protocol):
    """One connection: hands everything on, and watches the time."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._idle = False  # it got an answer and has asked for nothing since

    # -- what the middleware tells

    def head_came(self, request: web.Request) -> None:
        """A request's head is complete: now its body has its time."""
        self._stop()
        self._timer = self._loop.call_later(self._guard.body_timeout_s, self._body_late, request)

    def answered(self) -> None:
        """A handler ended: the next head has its time."""
        self._idle = True
        self._await_head()

    # -- what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse."""
        self._transport = cast("asyncio.Transport", transport)
        guard = self._guard
        if guard.open >= guard.max_connections:
            self._transport.write(_TOO_MANY % (len(_TOO_MANY_BODY), _TOO_MANY_BODY))
            self._transport.close()
            _log.warning("api.overloaded", connections=guard.open)
            return
        guard.open += 1
        self._server = guard.make()
        guard.by_server[self._server] = self
        self._await_head()
        self._server.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Hand on."""
        self._idle = False
        if self._server is not None:
            self._server.data_received(data)

    def eof_received(self) -> bool | None:
        """Hand on."""
        return None if self._server is None else self._server.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on and forget."""
        self._stop()
        self._read_again()
        server, self._server = self._server, None
        if server is not None:
            self._guard.open -= 1
            del self._guard.by_server[server]
            server.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client doesn't read."""
        self._unread = self._loop.call_later(self._guard.write_timeout_s, self._late, "answer")
        if self._server is not None:
            self._server.pause_writing()

    def resume_writing(self) -> None:
        """It reads again."""
        self._read_again()
        if self._server is not None:
            self._server.resume_writing()

    # -- time

    def _read_again(self) -> None:
        """Nothing waits to be read any more."""
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _await_head(self) -> None:
        self._stop()
        self._timer = self._loop.call_later(self._guard.head_timeout_s, self._head_late)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_late(self) -> None:
        if self._idle and self._transport is not None and not self._transport.get_write_buffer_size():
            self._transport.close()
        else:
            self._late("head")

    def _body_late(self, request: web.Request) -> None:
        if not request.content.is_eof():
            self._late("body")

    def _late(self, what: str) -> None:
        if self._transport is not None:
            _log.info("api.cut_off", waited_for=what)
            self._transport.abort()
