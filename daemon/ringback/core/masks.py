"""What is shown of texts that may hold a secret: a URL's query, ``key:value`` pairs, the members of a JSON object.

Role: for what people are shown of an endpoint, a callback or a request. The log has rules of its own (``kit.redact``).
Rules: judged by the member's name, as headers are, rather one too many; what holds nothing secret comes back as it was.
Must not know: whose text it is.
"""

import re
from collections.abc import Callable, Collection

import msgspec

from ringback.core.headers import is_secret_header

MASKED = "…"
#: Names that are secret in a URL's query besides those that are secret as a header's: signed links.
SECRET_PARAMETERS = frozenset({"sig", "code", "pw", "pass"})

_PLACE = re.compile(r"\{[^{}]*\}")
_USER_INFO = re.compile(r"(?<=//)[^/?#]*@")
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def mask_query(url: str) -> str:
    """The URL without user info and with the values of secret parameters masked."""
    return _mask_query(url, lambda name, _: is_secret_header(name) or name.lower() in SECRET_PARAMETERS)


def mask_template(url: str) -> str:
    """The same for a URL with ``{places}``: every value in its query is masked but those that are a place alone."""
    return _mask_query(url, lambda _, value: not _PLACE.fullmatch(value))


def mask_pairs(text: str) -> str:
    """``key:value,key:value`` with the values of secret keys masked."""
    return ",".join(_pair(item) for item in text.split(","))


def mask_members(body: bytes, among: Collection[str] | None = None) -> bytes:
    """A JSON object with its secret members masked, of those ``among`` if that is given; anything else as it is."""
    try:
        members = _members(body)
    except msgspec.MsgspecError:
        return body
    secret = {name for name in members if is_secret_header(name) and (among is None or name in among)}
    if not secret:
        return body
    shown = msgspec.json.encode(MASKED)
    parts = [msgspec.json.encode(name) + b":" + (shown if name in secret else raw) for name, raw in members.items()]
    return b"{%b}" % b",".join(parts)


def _mask_query(url: str, secret: Callable[[str, str], bool]) -> str:
    head, mark, query = _USER_INFO.sub("", url, count=1).partition("?")
    shown = []
    for item in query.split("&"):
        name, equals, value = item.partition("=")
        shown.append(f"{name}={MASKED}" if equals and value and secret(name, value) else item)
    return head + mark + "&".join(shown)


def _pair(item: str) -> str:
    key, found, _ = item.partition(":")
    return f"{key}{found}{MASKED}" if found and is_secret_header(key) else item
