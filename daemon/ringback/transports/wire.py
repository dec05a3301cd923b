"""A request as bytes, and a response's headers as text: the pure half of HTTP/1.1's wire format.

Rules: what could break the framing is refused, never repaired; a refusal names the part, never its value. Must not
know: connections, time, outcomes.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from ringback.core.model import Rejection, Request
from ringback.core.proxy import Proxy
from ringback.core.target import parse_url as read_url

MAX_KEPT_HEADERS = 64
MAX_KEPT_HEADER_BYTES = 8192  #: names and values together
MAX_KNOWN_URLS = 4096  #: parsed URLs

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection"})
_BODILESS = frozenset({"GET", "HEAD"})


class RefusedRequestError(ValueError):
    """The request can't be put on the wire as it stands: whoever made it should have checked. Holds no value of it."""


class Address(msgspec.Struct, frozen=True):
    """A URL's parts as the wire wants them: ``host`` without brackets, ``path`` with its query."""

    scheme: str
    host: str
    port: int
    host_header: str
    path: str


@lru_cache(maxsize=MAX_KNOWN_URLS)
def parse_url(url: str) -> Address:
    """Take a URL apart, by the reader that also judged it at creation.

    Raises RefusedRequestError, whose message doesn't repeat the URL.
    """
    target = read_url(url)
    if isinstance(target, Rejection):
        raise RefusedRequestError(target.message)
    authority, _, rest = target.url.removeprefix(f"{target.scheme}://").partition("/")
    return Address(target.scheme, target.host, target.port, authority, f"/{rest}")


def build_head(request: Request, address: Address, via: Proxy | None = None) -> bytes:
    """Write the request line and headers. Raises RefusedRequestError on anything that could break the framing.

    ``via``: a proxy that is to read them, as it does those of plain http alone.
    """
    if not _TOKEN.fullmatch(request.method):
        raise RefusedRequestError("the method is not a token")
    path = address.path if via is None else f"http://{address.host_header}{address.path}"
    lines = [f"{request.method} {path} HTTP/1.1", f"Host: {address.host_header}"]
    if via is not None and via.authorization is not None:
        lines.append(f"Proxy-Authorization: {via.authorization}")
    encoding = "Accept-Encoding: identity"
    for name, value in request.headers:
        lower = name.lower()
        if lower in _OURS or not _TOKEN.fullmatch(name):
            raise RefusedRequestError("a header's name is not a token or not the caller's to set")
        if lower == "accept-encoding":
            encoding = ""
        lines.append(f"{name}: {value}")
    if encoding:
        lines.append(encoding)
    if request.body or request.method not in _BODILESS:
        lines.append(f"Content-Length: {len(request.body)}")
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1 or "\0" in text:
        raise RefusedRequestError("a header's value holds a line break or NUL")
    try:
        return f"{text}\r\n\r\n".encode()
    except UnicodeEncodeError:
        raise RefusedRequestError("a header's value is not valid text") from None


def kept_headers(raw: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """Keep the first headers that fit both limits, as valid text."""
    kept: list[tuple[str, str]] = []
    room = MAX_KEPT_HEADER_BYTES
    for name, value in raw:
        room -= len(name) + len(value)
        if room < 0 or len(kept) == MAX_KEPT_HEADERS:
            break
        kept.append((name.decode("utf-8", "backslashreplace"), value.decode("utf-8", "backslashreplace")))
    return tuple(kept)
