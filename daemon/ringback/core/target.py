"""What a URL's text says: the strict reader in front of the egress guard.

Role: one URL in, one Target out, or a named Rejection of its form.
Rules: it reads as strictly as the pickiest client would read generously: whatever some resolver takes for a number is
never passed on as a name, and what two clients would read differently is refused. What is sent is the text made here.
Must not know: which addresses are allowed (``core.egress``), DNS.
"""

import re
from ipaddress import IPv4Address, IPv6Address

import idna
import msgspec

from ringback.core.model import Rejection

MAX_URL = 2048  #: characters, as given and as sent
MAX_HOST_CHARS = 253
DEFAULT_PORTS = {"http": 80, "https": 443}

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.DOTALL)
_AUTHORITY = re.compile(r"(?:\[(?P<bracketed>[^\[\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>.*))?", re.DOTALL)
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_REST = re.compile(r"(?:[!$&'()*+,\-./0-9:;=?@A-Z_a-z~\[\]]|%[0-9A-Fa-f]{2})*")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class Target(msgspec.Struct, frozen=True):
    """Where a URL points. ``host`` is lower-case ASCII without brackets or a trailing dot; ``url`` is what is sent.

    ``literal`` is the address the host spells out, or None for a name, which every dial must judge anew.
    """

    scheme: str
    host: str
    port: int
    literal: IPv4Address | IPv6Address | None
    url: str


class _InvalidUrlError(Exception):
    """Carries the message out of the reader; never leaves this module."""


def parse_url(url: str) -> Target | Rejection:
    """Read a URL.

    Returns:
        A Target, or a Rejection ``invalid_url`` of the field ``url`` whose message says what to write instead. Messages
        never repeat the URL: it may hold a secret.
    """
    try:
        return _parse(url)
    except _InvalidUrlError as error:
        return Rejection("invalid_url", str(error), "url")


def _parse(url: str) -> Target:
    if not url:
        raise _InvalidUrlError("url must be a text such as https://example.com/hook")
    if len(url) > MAX_URL:
        raise _InvalidUrlError(f"url must have at most {MAX_URL} characters, not {len(url)}")
    match = _URL.fullmatch(url)
    if match is None:
        raise _InvalidUrlError("url must be absolute, such as https://example.com/hook")
    scheme = match["scheme"].lower()
    if scheme not in DEFAULT_PORTS:
        raise _InvalidUrlError("url must begin with https:// or http://")
    host, literal, port = _parse_authority(match["authority"], DEFAULT_PORTS[scheme])
    rest = _parse_rest(match["rest"])
    shown = f"[{host}]" if isinstance(literal, IPv6Address) else host
    suffix = "" if port == DEFAULT_PORTS[scheme] else f":{port}"
    text = f"{scheme}://{shown}{suffix}{rest}"
    if len(text) > MAX_URL:
        raise _InvalidUrlError(f"url must have at most {MAX_URL} characters once its host is encoded")
    return Target(scheme, host, port, literal, text)


def _parse_rest(rest: str) -> str:
    """Path and query as they will be sent: untouched but for the first slash, which is added if absent."""
    if "#" in rest:
        raise _InvalidUrlError("url must have no fragment (#): it is never sent")
    if not _REST.fullmatch(rest):
        raise _InvalidUrlError("url: path and query must be printable ASCII, all else as %XX (RFC 3986)")
    return rest if rest.startswith("/") else f"/{rest}"


def _parse_authority(authority: str, default_port: int) -> tuple[str, IPv4Address | IPv6Address | None, int]:
    """(host, address if it is one, port)."""
    if "@" in authority:
        raise _InvalidUrlError("url must have no user name or password; use the endpoint's headers")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise _InvalidUrlError("url: host and port can't be read; IPv6 addresses stand in brackets")
    port = default_port if match["port"] is None else _parse_port(match["port"])
    if match["bracketed"] is not None:
        literal = _parse_bracketed(match["bracketed"])
        return str(literal), literal, port
    host = _parse_name(match["name"])
    return host, _literal_of(host), port


def _parse_port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise _InvalidUrlError("url: the port must be a number from 1 to 65535, without leading zeros")
    return int(text)


def _parse_bracketed(text: str) -> IPv6Address:
    try:
        address = IPv6Address(text)
    except ValueError:
        address = None
    if address is None or address.scope_id is not None:
        raise _InvalidUrlError("url: in brackets stands an IPv6 address without a zone")
    return address


def _parse_name(text: str) -> str:
    """The host in the one spelling that is sent: IDNA-encoded, lower-case, the root's dot dropped.

    The dot goes because ``example.com.`` and ``example.com`` are one host to the DNS but two to virtual hosts, to
    certificates and to careless filters.
    """
    if not text:
        raise _InvalidUrlError("url must name a host")
    if not text.isascii():
        text = _idna(text)
    host = text.lower().removesuffix(".")
    if len(host) > MAX_HOST_CHARS or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise _InvalidUrlError("url: the host is not a valid name")
    return host


def _idna(text: str) -> str:
    """The ASCII form of an international name (UTS 46, then IDNA 2008), as browsers and clients compute it."""
    if len(text) > MAX_HOST_CHARS:
        raise _InvalidUrlError("url: the host is not a valid name")
    try:
        return idna.encode(text, uts46=True).decode("ascii")
    except UnicodeError:  # IDNAError is one
        raise _InvalidUrlError("url: the host is not a valid international name") from None


def _literal_of(host: str) -> IPv4Address | None:
    """The IPv4 address a host spells, None for a name.

    A last label that is a number (decimal, octal, hexadecimal) makes an address to some resolver or other, in one to
    four parts. No top-level domain is a number, so only the one canonical spelling passes and nothing is lost.
    """
    if not _NUMBER.fullmatch(host.rpartition(".")[2]):
        return None
    try:
        return IPv4Address(host)
    except ValueError:
        raise _InvalidUrlError(
            "url: an IPv4 address must be written as four decimal numbers without leading zeros"
        ) from None
