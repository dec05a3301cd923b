"""The way of a request, stage by stage: name, egress rules, TCP, TLS. For people who ask why nothing arrives.

Role: what ``dial`` does for a delivery, with the same resolver, the same guard and the same sockets, but telling of
each stage what was found instead of going on to the next. What comes after the handshake is ``send``'s.
Rules: every address is judged right before its socket is made; nothing is sent but the TLS handshake; each stage has a
deadline; facts are values, never exceptions. All text that comes from a certificate is bounded and printable.
Must not know: words for people, whether a fact is good or bad.
"""

import asyncio
import datetime as dt
from functools import partial
from ipaddress import IPv4Address, IPv6Address

import msgspec
from cryptography import x509
from cryptography.x509.oid import NameOID

from ringback.kit.clock import Clock
from ringback.transports.connection import HttpConnection, Pool
from ringback.transports.dial import Dialer, DialError, Origin, Progress, is_literal, open_socket, words
from ringback.transports.resolver import Resolver

MAX_NAMES = 100  #: of a certificate
MAX_NAME_CHARS = 255


class Lookup(msgspec.Struct, frozen=True):
    """A name's addresses in the order they are tried, or none and the ``error``.

    ``asked``: False if nobody had to be, for an address or a name in memory.
    """

    addresses: tuple[str, ...]
    error: str | None
    elapsed_ms: int
    asked: bool


class Knock(msgspec.Struct, frozen=True):
    """One address: ``refused`` by the egress rules, or its ``error``, each in words; open if both are None."""

    address: str
    refused: str | None
    error: str | None
    elapsed_ms: int

    @property
    def open(self) -> bool:
        """Whether a connection came about."""
        return self.refused is None and self.error is None


class Certificate(msgspec.Struct, frozen=True):
    """What a certificate says of itself. Times are wall clock; ``names`` are the hosts and addresses it is for."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before_ms: int
    not_after_ms: int
    self_issued: bool


class Shake(msgspec.Struct, frozen=True):
    """A TLS handshake: ``version`` and ``cipher``, or the ``error``. ``certificate`` None: it was never seen.

    ``verify_code``: OpenSSL's number for what is wrong with the certificate, 0 if nothing is or it wasn't verified.
    """

    error: str | None
    elapsed_ms: int
    version: str = ""
    cipher: str = ""
    certificate: Certificate | None = None
    verify_code: int = 0


class Prober:
    """Looks at the stages. Every method is safe to cancel and raises nothing else."""

    def __init__(self, *, clock: Clock, resolver: Resolver, dialer: Dialer, pool: Pool) -> None:
        self._clock = clock
        self._resolver = resolver
        self._dialer = dialer
        self._pool = pool

    async def look_up(self, host: str, timeout_s: float) -> Lookup:
        """Resolve a name as a delivery would, or read an address."""
        if is_literal(host):
            return Lookup((host,), None, 0, asked=False)
        started, asked = self._clock.monotonic(), not self._resolver.remembers(host)
        try:
            async with asyncio.timeout(timeout_s):
                found = await self._resolver.resolve(host)
        except TimeoutError:
            return Lookup((), f"no name server answered within {timeout_s:g} s", self._since(started), asked)
        return Lookup(found.addresses, found.error, self._since(started), asked)

    async def knock(self, origin: Origin, addresses: tuple[str, ...], timeout_s: float) -> tuple[Knock, ...]:
        """Connect to each address that may be called, all at once, and hang up."""
        return tuple(await asyncio.gather(*(self._knock(origin, address, timeout_s) for address in addresses)))

    async def _knock(self, origin: Origin, address: str, timeout_s: float) -> Knock:
        reason = self._dialer.judge(address, origin.scheme)
        if reason is not None:
            return Knock(address, reason, None, 0)
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                sock = await open_socket(address, origin.port)
        except TimeoutError:
            return Knock(address, None, f"no answer within {timeout_s:g} s", self._since(started))
        except OSError as error:
            return Knock(address, None, words(error), self._since(started))
        sock.close()
        return Knock(address, None, None, self._since(started))

    async def shake(self, origin: Origin, address: str, timeout_s: float) -> Shake:
        """Make a TLS handshake with an address and hang up; what doesn't verify is looked at again unverified."""
        shaken = await self._shake(origin, address, timeout_s)
        if not shaken.verify_code:
            return shaken
        bare = await self._shake(msgspec.structs.replace(origin, tls_verify=False), address, timeout_s)
        return msgspec.structs.replace(shaken, version=bare.version, cipher=bare.cipher, certificate=bare.certificate)

    async def _shake(self, origin: Origin, address: str, timeout_s: float) -> Shake:
        reason = self._dialer.judge(address, origin.scheme)
        if reason is not None:
            return Shake(reason, 0)
        started = self._clock.monotonic()
        make = partial(HttpConnection, asyncio.get_running_loop(), origin, self._pool, self._pool.epoch)
        try:
            async with asyncio.timeout(timeout_s):
                sock = await open_socket(address, origin.port)
                connection = await self._dialer.wrap(origin, sock, timeout_s, make, Progress())
        except TimeoutError:
            return Shake(f"no complete handshake within {timeout_s:g} s", self._since(started))
        except DialError as error:
            return Shake(error.text, self._since(started), verify_code=error.verify_code)
        except OSError as error:
            return Shake(words(error), self._since(started))
        try:
            return self._seen(connection, self._since(started))
        finally:
            connection.abort()

    def _seen(self, connection: HttpConnection, elapsed_ms: int) -> Shake:
        transport = connection.transport
        tls = transport.get_extra_info("ssl_object") if transport is not None else None
        if tls is None:
            return Shake("the peer closed the connection right after the handshake", elapsed_ms)
        raw = tls.getpeercert(binary_form=True)
        cipher = tls.cipher()
        return Shake(None, elapsed_ms, tls.version() or "", cipher[0] if cipher else "", read_certificate(raw))

    def _since(self, started: float) -> int:
        return round((self._clock.monotonic() - started) * 1000)


def read_certificate(raw: bytes | None) -> Certificate | None:
    """What a certificate in DER says; None if there is none or it can't be read."""
    if raw is None:
        return None
    try:
        read = x509.load_der_x509_certificate(raw)
        return Certificate(
            subject=_named(read.subject),
            issuer=_named(read.issuer),
            names=_names(read),
            not_before_ms=_ms(read.not_valid_before_utc),
            not_after_ms=_ms(read.not_valid_after_utc),
            self_issued=read.subject == read.issuer,
        )
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None


def _named(name: x509.Name) -> str:
    """Its common name, else its organisation, else all of it."""
    for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        found = name.get_attributes_for_oid(oid)
        if found:
            return _text(str(found[0].value))
    return _text(name.rfc4514_string())


def _names(read: x509.Certificate) -> tuple[str, ...]:
    try:
        found = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    hosts = found.get_values_for_type(x509.DNSName)
    addresses: list[IPv4Address | IPv6Address] = [
        address
        for address in found.get_values_for_type(x509.IPAddress)
        if isinstance(address, IPv4Address | IPv6Address)
    ]
    return tuple(_text(str(one)) for one in [*hosts, *addresses][:MAX_NAMES])


def _text(text: str) -> str:
    shown = "".join(char if char.isprintable() else "�" for char in text[:MAX_NAME_CHARS])
    return shown.encode("utf-8", "backslashreplace").decode()


def _ms(moment: dt.datetime) -> int:
    return round(moment.timestamp() * 1000)
