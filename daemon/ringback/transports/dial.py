"""From an origin to an open connection: name, guard, TCP, TLS; or the same through a proxy.

The egress guard sits here, at the socket itself: every address, a literal or an answer of a name server, is judged
with exactly the text that is then connected to, so no spelling and no second DNS answer gets around it.

Through a proxy the same addresses are judged, but the proxy is given the name and resolves it anew: all of them must
be allowed then, and a name without any is judged as such. The proxy's own address is the operator's and not judged.

Rules: one deadline for all stages; an address that doesn't answer gets its share of it, so that the next one has a
chance; every failure is a ``DialError`` with its kind and words an operator can act on. Nothing was sent then.
Must not know: HTTP, requests, retries, why an address is forbidden.
"""

import asyncio
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable

import msgspec

from ringback.core.model import OutcomeKind
from ringback.core.proxy import Proxy
from ringback.kit.limits import OUR_LACK, lacking
from ringback.transports.connection import HttpConnection
from ringback.transports.resolver import Resolver
from ringback.transports.tunnel import TunnelError, open_tunnel

MAX_HEAD_BYTES = 65536
#: Before a request goes through a proxy its name is looked up for the guard alone; networks with a proxy often have no
#: name server that answers, so no longer than this, in seconds and as a part of the time to connect.
GUARD_LOOKUP_S = 1.0
GUARD_LOOKUP_SHARE = 0.25
TLS_SHUTDOWN_TIMEOUT_S = 1.0  #: how long a peer may take to answer our good-bye

JudgeAddress = Callable[[str, str], str | None]  #: (address, scheme) -> None if allowed, else the reason
JudgeName = JudgeAddress  #: the same of a name that has no address here, to be left to a proxy


def leave_none(_host: str, _scheme: str) -> str | None:
    """Leave no name to a proxy."""
    return "such names are not left to the proxy"


class Origin(msgspec.Struct, frozen=True):
    """Whom a connection is open to; connections are kept and found by it. ``host`` is ASCII, without brackets.

    ``via``: the proxy it goes through.
    """

    scheme: str
    host: str
    port: int
    tls_verify: bool
    via: Proxy | None = None


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
    """Opens connections. ``judge_address`` is asked for each address right before its socket is made.

    ``judge_name``: whether a name without an address may be left to a proxy. ``max_head_bytes``: of a proxy's answer.
    """

    def __init__(
        self,
        *,
        resolver: Resolver,
        judge_address: JudgeAddress,
        judge_name: JudgeName = leave_none,
        max_head_bytes: int = MAX_HEAD_BYTES,
    ) -> None:
        self._resolver = resolver
        self.judge = judge_address
        self._judge_name = judge_name
        self._max_head_bytes = max_head_bytes
        self._contexts: dict[bool, ssl.SSLContext] = {}

    async def dial(self, origin: Origin, timeout_s: float, make: Callable[[], HttpConnection]) -> HttpConnection:
        """Connect within ``timeout_s``. Raises DialError; cancelling it leaves no socket behind."""
        progress = Progress()
        try:
            async with asyncio.timeout(timeout_s):
                if origin.via is not None:
                    sock = await self._through(origin.via, origin, timeout_s, progress)
                else:
                    addresses = await self._addresses(origin.host)
                    sock = await self._connect(addresses, origin.port, origin.scheme, timeout_s, progress)
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

    async def _through(self, proxy: Proxy, origin: Origin, timeout_s: float, progress: Progress) -> socket.socket:
        """A socket that leads to the proxy, for https through it to the receiver."""
        await self._judge_target(origin, timeout_s)
        progress.stage = "resolving the proxy's name"
        try:
            addresses = await self._addresses(proxy.host)
            sock = await self._connect(addresses, proxy.port, None, timeout_s, progress)
        except DialError as error:
            if error.kind is OutcomeKind.NO_RESOURCES:
                raise
            raise DialError(error.kind, f"the proxy can't be reached: {error.text}") from None
        if origin.scheme == "http":
            return sock
        progress.stage = "waiting for the proxy's answer"
        place = f"[{origin.host}]:{origin.port}" if ":" in origin.host else f"{origin.host}:{origin.port}"
        try:
            await open_tunnel(sock, proxy, place, self._max_head_bytes)
        except TunnelError as error:
            sock.close()
            raise DialError(OutcomeKind.CONNECT_FAILED, str(error)) from None
        except OSError as error:
            sock.close()
            raise DialError(OutcomeKind.CONNECT_FAILED, f"the connection to the proxy broke: {words(error)}") from None
        except BaseException:
            sock.close()
            raise
        return sock

    async def _judge_target(self, origin: Origin, timeout_s: float) -> None:
        """Raises DialError unless the guard allows the target, as far as we can know where it lies."""
        addresses, unknown = await self._known_addresses(origin.host, timeout_s)
        for address in addresses:
            reason = self.judge(address, origin.scheme)
            if reason is not None:
                raise DialError(OutcomeKind.EGRESS_DENIED, f"{address}: {reason}")
        reason = None if addresses else self._judge_name(origin.host, origin.scheme)
        if reason is not None:  # retried: a name server may know it again
            raise DialError(OutcomeKind.DNS_FAILED, f"cannot resolve {origin.host}: {unknown}; {reason}")

    async def _known_addresses(self, host: str, timeout_s: float) -> tuple[tuple[str, ...], str]:
        """What a name resolves to here, or why it doesn't, within a part of the time; an address is known."""
        if is_literal(host):
            return (host,), ""
        try:
            async with asyncio.timeout(min(GUARD_LOOKUP_S, GUARD_LOOKUP_SHARE * timeout_s)):
                resolution = await self._resolver.resolve(host)
        except TimeoutError:
            return (), "the name servers do not answer"
        if resolution.lack is not None:
            raise _ours(resolution.lack)
        return resolution.addresses, resolution.error or ""

    async def _connect(
        self, addresses: tuple[str, ...], port: int, scheme: str | None, timeout_s: float, progress: Progress
    ) -> socket.socket:
        """Connect to the first that answers. ``scheme`` None: they are the proxy's, which nobody has to allow."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        for position, address in enumerate(addresses):
            reason = None if scheme is None else self.judge(address, scheme)
            if reason is not None:
                progress.denied = progress.denied or f"{address}: {reason}"
                continue
            progress.stage = f"connecting to {address}" if scheme else f"connecting to the proxy at {address}"
            left = len(addresses) - position
            share_s = (deadline - loop.time()) / left if left > 1 else None  # the last one has all that is left
            try:
                async with asyncio.timeout(share_s):
                    return await open_socket(address, port)
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
        connection = make()
        try:
            if origin.scheme == "http":
                await loop.create_connection(lambda: connection, sock=sock)
                return connection
            progress.stage = "in the TLS handshake"
            context = self._contexts.get(origin.tls_verify)
            if context is None:  # reads the system's certificates: 20 ms that the loop must not lose
                context = await asyncio.to_thread(_tls_context, verify=origin.tls_verify)
                self._contexts[origin.tls_verify] = context
            await loop.create_connection(
                lambda: connection,
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
            connection.forget()
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
    if verify:  # the certificates' file by name: the default way is silent when it can't be opened, and trusts nobody
        paths = ssl.get_default_verify_paths()
        context = ssl.create_default_context(cafile=paths.cafile, capath=paths.capath)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context
