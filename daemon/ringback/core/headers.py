"""The extra headers an operator gives an endpoint: which are sound, and which hold secrets.

Role: refuse at configuration what would break or forge a request later; name the headers to mask when shown.
Rules: names are RFC 9110 tokens; values are visible ASCII with spaces and tabs inside; the framing, the connection and
all that we or a dialect say ourselves can't be overridden. Values are never repeated in a problem's text.
Must not know: any dialect, how headers are sent.
"""

import re

MAX_HEADERS = 32
#: Names and values together, with the four bytes each line costs on the wire.
MAX_HEADER_BYTES = 8192
_LINE_OVERHEAD_BYTES = 4

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"(?:[!-~](?:[ \t!-~]*[!-~])?)?")
#: Of a name that can't be one, at most this much is repeated.
_NAME_SHOWN_CHARS = 64

_URL = "it comes from the url"
_FRAMING = "it says where the body ends"
_CONNECTION = "it belongs to the connection"
_BODY = "the dialect says what the body is"
_ANSWER = "answers are read as they are, without compression or ranges"
_OURS = "the daemon or the dialect sets it"

#: Why a name can't be given, lower case.
DENIED = {
    "host": _URL,
    "content-length": _FRAMING,
    "transfer-encoding": _FRAMING,
    "trailer": _FRAMING,
    "te": _FRAMING,
    "connection": _CONNECTION,
    "keep-alive": _CONNECTION,
    "upgrade": _CONNECTION,
    "http2-settings": _CONNECTION,
    "expect": "the body is sent at once",
    "content-type": _BODY,
    "content-encoding": _BODY,
    "content-range": _BODY,
    "accept-encoding": _ANSWER,
    "range": _ANSWER,
    "cookie": "deliveries carry no cookies",
    "cookie2": "deliveries carry no cookies",
    "set-cookie": "deliveries carry no cookies",
    "user-agent": _OURS,
}
#: The same by the beginning of a name.
DENIED_PREFIXES = {
    "proxy-": _CONNECTION,
    "webhook-": _OURS,
    "x-ringback-": _OURS,
}

#: Names whose values are masked when shown, lower case; besides them, names that hold one of ``SECRET_WORDS``.
SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"})
SECRET_WORDS = ("auth", "credential", "key", "password", "secret", "session", "signature", "token")


def check_headers(headers: dict[str, str]) -> list[str]:
    """Every problem, in words; none: an empty list."""
    problems = []
    if len(headers) > MAX_HEADERS:
        problems.append(f"at most {MAX_HEADERS} headers, not {len(headers)}")
    size = sum(len(name) + len(value) + _LINE_OVERHEAD_BYTES for name, value in headers.items())
    if size > MAX_HEADER_BYTES:
        problems.append(f"headers may have {MAX_HEADER_BYTES} bytes together, not {size}")
    seen: set[str] = set()
    for name, value in list(headers.items())[:MAX_HEADERS]:
        problem = _check_name(name, seen) or _check_value(value)
        if problem:
            problems.append(f"header {name[:_NAME_SHOWN_CHARS]!r}: {problem}")
        seen.add(name.lower())
    return problems


def _check_name(name: str, seen: set[str]) -> str | None:
    if not _NAME.fullmatch(name):
        return "a name has letters, digits and !#$%&'*+-.^_`|~ only"
    lower = name.lower()
    prefix = next((prefix for prefix in DENIED_PREFIXES if lower.startswith(prefix)), "")
    reason = DENIED.get(lower) or DENIED_PREFIXES.get(prefix)
    if reason:
        return f"can't be set: {reason}"
    return "given twice, in different case" if lower in seen else None


def _check_value(value: str) -> str | None:
    if _VALUE.fullmatch(value):
        return None
    return "a value has visible ASCII characters, spaces and tabs only inside"


def is_secret_header(name: str) -> bool:
    """Whether this header's value must be masked when shown. Rather one too many."""
    lower = name.lower()
    return lower in SECRET_HEADERS or any(word in lower for word in SECRET_WORDS)
