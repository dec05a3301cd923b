"""From an origin to an open connection: name, guard, TCP, TLS.

The egress guard sits here, at the socket itself: every address, a literal or an answer of a name server, is judged
with exactly the text that is then connected to, so no spelling and no second DNS answer gets around it.

Rules: one deadline for all stages; an address that doesn't answer gets its share of it, so that the next one has a
chance; every failure is a ``DialError`` with its kind and words an operator can act on. Nothing was sent then.
Must not know: HTTP, requests, retries, why an address is forbidden.
"""

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable

import msgspec

from ringback.core.model import OutcomeKind
from ringback.kit.limits import OUR_LACK, lacking
from ringback.transports.connection import HttpConnection
from ringback.transports.resolver import Resolver

TLS_SHUTDOWN_TIMEOUT_S = 1.0  #: how long a peer may take to answer our good-bye

JudgeAddress = Callable[[str, str], str | None]  #: (address, scheme) -> None if allowed, else the reason


class Origin(msgspec.Struct, frozen=True):
    """Whom a connection is open to; connections are kept and found by it. ``host`` is ASCII, without brackets."""

    scheme: str
    host: str
    port: int
    tls_verify: bool


class DialError(Exception):
    """No connection came about. ``kind`` and ``text`` become the outcome's.

    ``verify_code``: OpenSSL's number for what is wrong with the certificate, 0 if that isn't it.
    """

    def __init__(self, kind: OutcomeKind, text: str, *, verify_code: int = 0) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.verify_code = verify_code


class Progress:
    """How far one dial has come, for the words of a timeout."""

    __slots__ = ("denied", "failed", "stage")

    def __init__(self) -> None:
        self.stage = "resolving the name"
        self.denied: str | None = None
        self.failed: str | None = None


class Dialer:
    """Opens connections. ``judge_address`` is asked for each address right before its socket is made."""

    def __init__(self, *, resolver: Resolver, judge_address: JudgeAddress) -> None:
        self._resolver = resolver
        self.judge = judge_address
        self._contexts: dict[bool, ssl.SSLContext] = {}

    async def dial(self, origin: Origin, timeout_s: float, make: Callable[[], HttpConnection]) -> HttpConnection:
        """Connect within ``timeout_s``. Raises DialError; cancelling it leaves no socket behind."""
        progress = Progress()
        try:
            async with asyncio.timeout(timeout_s):
                addresses = await self._addresses(origin.host)
                sock = await self._connect(origin, addresses, timeout_s, progress)
                return await self.wrap(origin, sock, timeout_s, make, progress)
        except TimeoutError:
            if progress.denied is not None:
                raise DialError(OutcomeKind.EGRESS_DENIED, progress.denied) from None
            text = f"no connection within {timeout_s:g} s, stopped while {progress.stage}"
            raise DialError(OutcomeKind.CONNECT_TIMEOUT, text) from None

    async def _addresses(self, host: str) -> tuple[str, ...]:
        if is_literal(host):
            return (host,)
        resolution = await self._resolver.resolve(host)
        if resolution.lack is not None:
            raise _ours(resolution.lack)
        if resolution.error is not None:
            raise DialError(OutcomeKind.DNS_FAILED, f"cannot resolve {host}: {resolution.error}")
        return resolution.addresses

    async def _connect(
        self, origin: Origin, addresses: tuple[str, ...], timeout_s: float, progress: Progress
    ) -> socket.socket:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        for position, address in enumerate(addresses):
            reason = self.judge(address, origin.scheme)
            if reason is not None:
                progress.denied = progress.denied or f"{address}: {reason}"
                continue
            progress.stage = f"connecting to {address}"
            left = len(addresses) - position
            share_s = (deadline - loop.time()) / left if left > 1 else None  # the last one has all that is left
            try:
                async with asyncio.timeout(share_s):
                    return await open_socket(address, origin.port)
            except OSError as error:  # TimeoutError is one
                if error.errno in OUR_LACK:
                    raise _ours(words(error)) from None
                progress.failed = f"{address}: {words(error)}"
        if progress.denied is not None:
            raise DialError(OutcomeKind.EGRESS_DENIED, progress.denied)
        if progress.failed is not None and len(addresses) == 1:
            raise DialError(OutcomeKind.CONNECT_FAILED, f"cannot connect to {progress.failed}")
        text = f"cannot connect to any of {len(addresses)} addresses, the last: {progress.failed}"
        raise DialError(OutcomeKind.CONNECT_FAILED, text)

    async def wrap(
        self,
        origin: Origin,
        sock: socket.socket,
        timeout_s: float,
        make: Callable[[], HttpConnection],
        progress: Progress,
    ) -> HttpConnection:
        """Make a connected socket a connection, encrypted if the origin says so. Raises DialError; owns the socket."""
        loop = asyncio.get_running_loop()
        try:
            if origin.scheme == "http":
                return (await loop.create_connection(make, sock=sock))[1]
            progress.stage = "in the TLS handshake"
            context = self._contexts.get(origin.tls_verify)
            if context is None:  # reads the system's certificates: 20 ms that the loop must not lose
                context = await asyncio.to_thread(_tls_context, verify=origin.tls_verify)
                self._contexts[origin.tls_verify] = context
            _, connection = await loop.create_connection(
                make,
                sock=sock,
                ssl=context,
                server_hostname=origin.host.rstrip("."),
                ssl_handshake_timeout=timeout_s,
                ssl_shutdown_timeout=TLS_SHUTDOWN_TIMEOUT_S,
            )
        except OSError as error:
            sock.close()
            if error.errno in OUR_LACK and not isinstance(error, ssl.SSLError):
                raise _ours(words(error)) from None
            if origin.scheme == "http":
                raise DialError(OutcomeKind.CONNECT_FAILED, f"cannot connect: {words(error)}") from None
            if (lack := lacking()) is not None:  # OpenSSL opens a certificate's file when it needs it
                raise _ours(lack) from None
            code = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else 0
            text = f"TLS handshake failed: {words(error)}"
            raise DialError(OutcomeKind.TLS_FAILED, text, verify_code=code) from None
        except BaseException:
            sock.close()
            raise
        return connection


def _ours(lack: str) -> DialError:
    """Nobody was asked: this daemon, or its machine, has no socket left."""
    return DialError(OutcomeKind.NO_RESOURCES, f"this daemon cannot open another socket or file: {lack}")


async def open_socket(address: str, port: int) -> socket.socket:
    """Connect to an address. Raises OSError; cancelling it leaves no socket behind."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def words(error: BaseException) -> str:
    """Say what an operating system's or OpenSSL's error means, in words that hold no URL and no header."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message or "the certificate does not verify"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "protocol error").replace("_", " ").lower()
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, ConnectionError):
        return "the peer closed the connection"
    return type(error).__name__


def is_literal(host: str) -> bool:
    """Whether a host is an address, so that no name server is asked for it."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _tls_context(*, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context() if verify else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if lacking() is not None:  # it may have been made without its certificates, and would then trust nobody for ever
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
