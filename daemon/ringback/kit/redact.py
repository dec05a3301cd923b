"""What a log line must not show: secrets by their key, a URL's query and user info, tokens wherever they stand.

Role: pure functions from what a caller logs to what may be written.
Rules: judged by the key's name, remembered per name; a number about a secret (``token_count``) is no secret; when in
doubt the value goes.
Must not know: how a line is written.
"""

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from itertools import islice

REDACTED = "[redacted]"

#: Shown in place of what lies deeper than MAX_DEPTH, and after the first MAX_MEMBERS of a collection.
ELIDED = "[…]"
MAX_DEPTH = 6
MAX_MEMBERS = 100

#: Key names remembered; names are constants in the code, so this is only a fence against keys made of data.
MAX_REMEMBERED_KEYS = 1024

#: A key that holds one of these words is secret,
_SECRET = frozenset(
    {"secret", "token", "authorization", "password", "passwd", "passphrase", "signature", "credential", "cookie"}
)
_SECRET_PHRASES = ("api key", "apikey", "private key", "signing key")
#: and one that ends in one of these is somebody's payload,
_PAYLOAD = frozenset({"body", "data", "payload"})
#: unless its last word says that the value is about the thing and not the thing.
_ABOUT = frozenset({"id", "ids", "bytes", "count", "size", "length", "ms", "s", "at", "name", "kind", "status"})

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_URL_PARTS = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]*:)?//)?([^/\\]*)(.*)", re.DOTALL)
_TOKENS = re.compile(rb"(whsec_|whsk_|rbt_|[Bb]earer )[A-Za-z0-9+/=._~-]{8,}")


class Kind(Enum):
    """What a key's name says of its value."""

    PLAIN = 0
    SECRET = 1
    URL = 2


_kinds: dict[str, Kind] = {}


def kind_of(key: str) -> Kind:
    """Judge a key by its name; cheap for a name seen before."""
    kind = _kinds.get(key)
    if kind is None:
        kind = _judge(key)
        if len(_kinds) < MAX_REMEMBERED_KEYS:
            _kinds[key] = kind
    return kind


def redact_value(kind: Kind, value: object, depth: int = 0) -> object:
    """What may be shown of a value under a key of that kind, its own members included. None stays None."""
    if kind is Kind.SECRET:
        return None if value is None else REDACTED
    if isinstance(value, str):
        return redact_url(value) if kind is Kind.URL else value
    if isinstance(value, Mapping):
        return _mapping(value.items(), depth + 1) if depth < MAX_DEPTH else ELIDED
    if isinstance(value, (list, tuple, set, frozenset)):
        return _sequence(kind, value, depth + 1) if depth < MAX_DEPTH else ELIDED
    return value


def redact_url(url: str) -> str:
    """Return the URL without its query, fragment and user info. Any text will do; it need not be a good URL.

    >>> redact_url("https://joe:pw@example.com/hook?token=1")
    'https://example.com/hook'
    """
    parts = _URL_PARTS.match(url.partition("#")[0].partition("?")[0])
    if parts is None:  # the pattern matches any text; said for the type checker
        return REDACTED
    scheme, authority, path = parts[1] or "", parts[2], parts[3]
    if "@" in authority:
        authority = authority.rpartition("@")[2]
    elif "@" in path and not _has_good_port(authority):
        authority, path = "", path.rpartition("@")[2]  # user:pass/word@host: a slash in the user info
    return scheme + authority + path


def redact_line(line: bytes) -> bytes:
    """Mask signing secrets and bearer tokens anywhere in an encoded line: the last fence."""
    if b"whs" in line or b"rbt_" in line or b"earer " in line:
        return _TOKENS.sub(rb"\1" + REDACTED.encode(), line)
    return line


def _judge(key: str) -> Kind:
    words = [word.lower() for word in _WORDS.findall(key)]
    if not words or words[-1] in _ABOUT:
        return Kind.PLAIN
    singular = {word.removesuffix("s") for word in words} | set(words)
    phrase = " ".join(words)
    if singular & _SECRET or words[-1] in _PAYLOAD or any(part in phrase for part in _SECRET_PHRASES):
        return Kind.SECRET
    return Kind.URL if words[-1].removesuffix("s") in {"url", "uri"} else Kind.PLAIN


def _has_good_port(authority: str) -> bool:
    name, colon, port = authority.rpartition("]")[2].partition(":")
    del name
    return not colon or port.isdecimal()


def _mapping(items: Iterable[tuple[object, object]], depth: int) -> dict[str, object]:
    shown: dict[str, object] = {}
    for key, value in islice(items, MAX_MEMBERS):
        name = key.decode("latin-1") if isinstance(key, bytes) else str(key)
        shown[name] = redact_value(kind_of(name), value, depth)
    return shown


def _sequence(kind: Kind, values: Iterable[object], depth: int) -> list[object]:
    return [_element(kind, value, depth) for value in islice(values, MAX_MEMBERS)]


def _element(kind: Kind, value: object, depth: int) -> object:
    """A member of a list; a pair that begins with text may be a header."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], (str, bytes)):
        return [pair for item in _mapping([value], depth).items() for pair in item]
    return redact_value(kind, value, depth)
