"""The one seam to the network: ``send(request, timeout_s) -> Outcome``, always a value.

aiohttp gives the response parser and its stream; the request is written here in one piece. So there is no cookie jar,
no redirect, no proxy from the environment, no decompression and no retry of its own to switch off. A proxy is used if
``route`` names one, then for everything.

Rules: foreign exceptions are mapped here, once, to kinds that say whether the request may have been sent. A reused
connection that turns out dead before the first response byte is replaced by a fresh one, once, inside the same
deadline. All that comes back is bounded, and is valid text whatever the peer sent; ``error`` never holds a URL's
query, user info or a request header. A cancelled ``send`` closes its connection and lets the cancellation through.
Must not know: events, deliveries, policies, the store.
"""

import asyncio
import re
import ssl
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import aiohttp
import msgspec
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from ringback.core.model import Outcome, OutcomeKind, Request
from ringback.core.proxy import Proxy
from ringback.kit.clock import Clock
from ringback.transports.connection import HeadOverrunError, HttpConnection, Pool
from ringback.transports.dial import (
    MAX_HEAD_BYTES,
    Dialer,
    DialError,
    JudgeAddress,
    JudgeName,
    Origin,
    leave_none,
    words,
)
from ringback.transports.probe import Prober
from ringback.transports.resolver import Resolver
from ringback.transports.tunnel import refusal
from ringback.transports.wire import RefusedRequestError, build_head, kept_headers, parse_url

OLDEST_AIOHTTP = (3, 14, 4)  #: below: quadratic CPU on hostile responses, sockets left armed in the pool
MAX_IDLE_CONNECTIONS = 512
IDLE_TIMEOUT_S = 4.0  #: below the 5 s many servers keep a connection, so that we close first
ONE_WRITE_BYTES = 65536  #: up to here head and body are joined into one write


class Sender(Protocol):
    """Makes HTTP requests. Every implementation passes the same conformance tests."""

    async def send(self, request: Request, timeout_s: float) -> Outcome:
        """Make one request within ``timeout_s``, from the name's resolution to the body's last byte."""
        ...


class HttpLimits(msgspec.Struct, frozen=True):
    """The sender's bounds; sizes in bytes, times in seconds, ``max_idle`` over all endpoints."""

    max_idle: int = MAX_IDLE_CONNECTIONS
    idle_timeout_s: float = IDLE_TIMEOUT_S
    max_head_bytes: int = MAX_HEAD_BYTES


class HttpSender:
    """The sender on aiohttp's parser.

    ``judge_address(address, scheme)`` is the egress guard: None lets the connection be made, text refuses it.
    ``judge_name`` says the same of a name that only a proxy could resolve.
    ``nameservers``: ``address`` or ``address:port``; None or empty is the system's.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        judge_address: JudgeAddress,
        judge_name: JudgeName = leave_none,
        limits: HttpLimits | None = None,
        nameservers: Sequence[str] | None = None,
    ) -> None:
        self._clock = clock
        self._limits = limits or HttpLimits()
        self._resolver = Resolver(clock=clock, nameservers=nameservers)
        self._dialer = Dialer(
            resolver=self._resolver,
            judge_address=judge_address,
            judge_name=judge_name,
            max_head_bytes=self._limits.max_head_bytes,
        )
        self._via: Proxy | None = None
        self._pool = Pool(max_idle=self._limits.max_idle, idle_timeout_s=self._limits.idle_timeout_s)

    @property
    def prober(self) -> Prober:
        """Who looks at the way of a request stage by stage, on the same rules, names and sockets as ``send``."""
        return Prober(clock=self._clock, resolver=self._resolver, dialer=self._dialer, pool=self._pool)

    @property
    def idle_connections(self) -> int:
        """How many connections wait for a next request."""
        return self._pool.idle

    @property
    def open_connections(self) -> int:
        """How many connections there are, idle or busy."""
        return self._pool.open

    async def start(self) -> None:
        """Get ready to send. Raises RuntimeError if aiohttp is too old, ValueError on unusable name servers."""
        check_aiohttp(aiohttp.__version__)
        await self._resolver.start()

    async def stop(self) -> None:
        """Close the idle connections and the resolver. Requests in flight are the caller's to cancel."""
        self._pool.close_idle()
        await self._resolver.stop()

    def close_idle(self) -> None:
        """Close every idle connection, busy ones after their response: none may outlive a change of policy."""
        self._pool.close_idle()

    def route(self, via: Proxy | None) -> None:
        """Send everything through this proxy from here on, or straight; no connection of before is used again."""
        self._via = via
        self._pool.close_idle()

    def limit_idle(self, max_idle: int) -> None:
        """Keep at most so many idle connections from here on."""
        self._pool.limit(max_idle)

    async def resolve(self, host: str) -> list[str]:
        """Look a name up as a delivery would: its addresses as text, none if it doesn't resolve."""
        return list((await self._resolver.resolve(host)).addresses)

    async def send(self, request: Request, timeout_s: float) -> Outcome:
        """Make one request. Raises nothing but CancelledError."""
        started = self._clock.monotonic()
        exchange = _Exchange(request, self._pool, self._dialer, self._limits.max_head_bytes, self._via)
        try:
            async with asyncio.timeout(timeout_s):
                outcome = await exchange.run()
        except TimeoutError:
            kind = OutcomeKind.TIMEOUT if exchange.written else OutcomeKind.CONNECT_TIMEOUT
            text = f"no complete response within {timeout_s:g} s, stopped while {exchange.stage}"
            outcome = Outcome(kind, error=text, maybe_sent=exchange.written)
        except DialError as error:
            if error.kind is OutcomeKind.NO_RESOURCES:
                self._pool.close_idle()  # the descriptors nobody uses are needed
            outcome = Outcome(error.kind, error=clean(error.text), maybe_sent=exchange.written)
        except RefusedRequestError as error:
            outcome = Outcome(OutcomeKind.INTERNAL_ERROR, error=str(error), maybe_sent=False)
        except _BROKEN as error:
            kind, text = _failure(error)
            outcome = Outcome(kind, error=clean(text), maybe_sent=exchange.written)
        except Exception as error:  # noqa: BLE001 - always a value; the bug goes to the loop's handler with its trace
            outcome = Outcome(OutcomeKind.INTERNAL_ERROR, error=type(error).__name__, maybe_sent=exchange.written)
            context = {"message": "a bug in the HTTP sender", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
        elapsed_ms = int((self._clock.monotonic() - started) * 1000)
        return msgspec.structs.replace(outcome, elapsed_ms=elapsed_ms)


class _Exchange:
    """One request's way over one connection, or two."""

    __slots__ = ("_dialer", "_max_head_bytes", "_pool", "_request", "_via", "stage", "written")

    def __init__(self, request: Request, pool: Pool, dialer: Dialer, max_head_bytes: int, via: Proxy | None) -> None:
        self._request = request
        self._pool = pool
        self._dialer = dialer
        self._max_head_bytes = max_head_bytes
        self._via = via
        self.written = False
        self.stage = "connecting"

    async def run(self) -> Outcome:
        """Make the request; the connection is parked or gone afterwards, whatever happened."""
        request = self._request
        address = parse_url(request.url)
        origin = Origin(address.scheme, address.host, address.port, request.tls_verify, self._via)
        if address.scheme == "https":
            self._via = None  # it sees the tunnel, not the request
        head = build_head(request, address, self._via)
        connection = self._pool.take(origin)
        if connection is not None:
            try:
                return await self._over(connection, head)
            except (OSError, aiohttp.ServerDisconnectedError):
                if connection.wire_bytes:
                    raise
                self.stage = "connecting again"
        make = partial(HttpConnection, asyncio.get_running_loop(), origin, self._pool, self._pool.epoch)
        return await self._over(await self._dialer.dial(origin, request.connect_timeout_s, make), head)

    async def _over(self, connection: HttpConnection, head: bytes) -> Outcome:
        try:
            outcome = await self._converse(connection, head)
        except BaseException:
            connection.abort()
            raise
        if outcome.truncated:
            connection.abort()
        else:
            self._pool.park(connection)
        return outcome

    async def _converse(self, connection: HttpConnection, head: bytes) -> Outcome:
        connection.begin(method=self._request.method, max_head_bytes=self._max_head_bytes)
        self._write(connection, head)
        message, payload = await connection.read()
        while 100 <= message.code < 200 and message.code != 101:
            message, payload = await connection.read()
        if self._via is not None and message.code == 407:  # no receiver's to say
            self.written = False
            raise DialError(OutcomeKind.CONNECT_FAILED, refusal(message.code))
        self.stage = f"reading the body of a {message.code} response"
        body, truncated, error = await _read_body(payload, self._request.max_response_bytes)
        return Outcome(
            OutcomeKind.RESPONSE,
            status=message.code,
            headers=kept_headers(message.raw_headers),
            body=body,
            truncated=truncated,
            error=error,
        )

    def _write(self, connection: HttpConnection, head: bytes) -> None:
        transport = connection.transport
        if transport is None or transport.is_closing():
            raise aiohttp.ServerDisconnectedError
        self.written = True
        self.stage = "waiting for the response"
        body = self._request.body
        if len(body) <= ONE_WRITE_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)


#: what the network, OpenSSL and aiohttp's parser raise; anything else is a bug
_BROKEN = (OSError, aiohttp.ClientError, HttpProcessingError, HeadOverrunError)


def _failure(error: BaseException) -> tuple[OutcomeKind, str]:
    """Map what ended a conversation: (kind, words). Never uses a foreign text that could hold a URL or a header."""
    cause = error.__cause__
    if isinstance(error, HeadOverrunError):
        return OutcomeKind.PROTOCOL_ERROR, str(error)
    for tls in (error, cause):
        if isinstance(tls, ssl.SSLError):
            return OutcomeKind.TLS_FAILED, f"TLS failed: {words(tls)}"
    if isinstance(error, HttpProcessingError):
        return OutcomeKind.PROTOCOL_ERROR, f"not a valid HTTP response: {type(cause or error).__name__}"
    if isinstance(error, aiohttp.ClientPayloadError):
        return OutcomeKind.PROTOCOL_ERROR, "its framing is broken or incomplete"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return OutcomeKind.RESET, "the peer closed the connection before a complete response head"
    return OutcomeKind.RESET, f"the connection broke: {words(error)}"


def clean(text: str) -> str:
    """Make text that encodes as UTF-8, whatever it was made from."""
    return text.encode("utf-8", "backslashreplace").decode()


def check_aiohttp(version: str) -> None:
    """Refuse an aiohttp with known holes. Raises RuntimeError naming both versions."""
    installed = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if installed < OLDEST_AIOHTTP:
        wanted = ".".join(map(str, OLDEST_AIOHTTP))
        raise RuntimeError(f"aiohttp {version} is installed, {wanted} or newer is needed: older ones can be stalled")


async def _read_body(payload: StreamReader, limit: int) -> tuple[bytes, bool, str | None]:
    """Read at most ``limit`` bytes: (body, whether there was or should have been more, what broke it off)."""
    chunks: list[bytes] = []
    size = 0
    error = None
    try:
        while size <= limit and not payload.at_eof():
            chunk = await payload.readany()
            chunks.append(chunk)
            size += len(chunk)
    except HeadOverrunError:
        raise
    except _BROKEN as broken:
        error = clean(f"the body broke off after {size} bytes: {_failure(broken)[1]}")
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    return (body[:limit], True, error) if size > limit else (body, error is not None, error)
