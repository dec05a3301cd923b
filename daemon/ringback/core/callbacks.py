"""An event's ``callback``: the member read and judged, the ``key:value`` text, and which hosts a pattern means.

Role: the form of what a producer asks for (CONTRACT, Producing), and the pure half of who may be called.
Rules: bounded before anything is parsed; values of ``extra`` stay the exact slices the producer wrote; no refusal
repeats what was sent, for a URL or a secret may be in it.
Must not know: the egress policy, dialects' rules, lanes, who is asked.
"""

import json
from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Raw

from ringback.core.model import Callback, Rejection
from ringback.core.target import Target, parse_url

#: The member as the producer wrote it. Events keep it beside their data, so it is small.
MAX_CALLBACK_BYTES = 32_768
#: Pairs in ``extra``.
MAX_EXTRAS = 64
METHODS = ("POST", "GET")
#: Of a member's name that nobody knows, at most this much is repeated in the refusal.
MAX_NAME_SHOWN_CHARS = 64

_MEMBERS = ("url", "dialect", "method", "secret", "extra")
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


def parse_callback(raw: bytes) -> Callback | Rejection:
    """Judge the member's JSON, which is known to be valid. ``url`` comes back as it will be sent."""
    if raw[:1] != b"{" or len(raw) > MAX_CALLBACK_BYTES:
        return _invalid("callback", f"must be an object with url, of at most {MAX_CALLBACK_BYTES} bytes")
    given = _object(raw)
    if given is None:
        return Rejection("invalid_json", "a member of callback is given twice", "callback")
    unknown = next((name for name in given if name not in _MEMBERS), None)
    if unknown is not None:
        shown = unknown if len(unknown) <= MAX_NAME_SHOWN_CHARS else unknown[:MAX_NAME_SHOWN_CHARS] + "…"
        return Rejection("unknown_field", f"callback has no field {shown!r}", f"callback.{shown}")
    if "url" not in given:
        return _invalid("callback.url", "is required")
    texts = {name: _decode_text(raw) for name, value in given.items() if (raw := bytes(value))[:1] == b'"'}
    untold = next((name for name in given if name not in texts and name != "extra"), None)
    return _judged(given, texts) if untold is None else _invalid(f"callback.{untold}", "must be a text")


def _judged(given: Mapping[str, Raw], texts: Mapping[str, str]) -> Callback | Rejection:
    """The rules of each member."""
    target = parse_url(texts["url"])
    if isinstance(target, Rejection):
        return _invalid("callback.url", target.message.removeprefix("url").removeprefix(":").strip())
    method = texts.get("method")
    if method is not None and method not in METHODS:
        return _invalid("callback.method", f"must be one of: {', '.join(METHODS)}")
    extra = b""
    if "extra" in given:
        judged = _extra_text(texts["extra"]) if "extra" in texts else _extra_object(bytes(given["extra"]))
        if isinstance(judged, str):
            return _invalid("callback.extra", judged)
        extra = judged
    return Callback(target.url, texts.get("dialect", "pulse"), method, texts.get("secret", ""), extra)


def _extra_text(text: str) -> bytes | str:
    """The pairs as a JSON object; a text is what is wrong."""
    found = parse_extra(text)
    if found is None:
        return f"must be key:value,key:value, each key once, at most {MAX_EXTRAS}"
    return msgspec.json.encode(found)


def _extra_object(raw: bytes) -> bytes | str:
    if raw[:1] != b"{":
        return "must be an object, or the text key:value,key:value"
    found = _object(raw)
    if found is None:
        return "has a member twice"
    return raw if len(found) <= MAX_EXTRAS else f"may have {MAX_EXTRAS} members"


def _object(raw: bytes) -> dict[str, Raw] | None:
    """An object's members, each as its raw slice; None if one is given twice."""
    counts: list[int] = []
    # The outermost object ends last. Numbers stay text: one of 5,000 digits is valid JSON and no int to Python.
    json.loads(raw, object_pairs_hook=lambda pairs: counts.append(len(pairs)), parse_int=str, parse_float=str)
    members = _decode_members(raw)
    return members if counts[-1] == len(members) else None


def _invalid(field: str, wanted: str) -> Rejection:
    return Rejection("invalid_event", f"{field} {wanted}", field)


def parse_extra(text: str) -> dict[str, str] | None:
    """``key:value,key:value`` as an object: split at commas, then at the first colon; None if an item has no colon.

    Also None with an empty key, a key given twice, or more than ``MAX_EXTRAS`` items. The empty text is no extras.
    """
    items = [item.partition(":") for item in text.split(",")] if text else []
    found = {key: value for key, colon, value in items if colon and key}
    return found if len(found) == len(items) <= MAX_EXTRAS else None


def extras_of(callback: Callback) -> dict[str, Raw]:
    """The extras, each value the slice that goes out."""
    return _decode_members(callback.extra) if callback.extra else {}


def origin_of(target: Target) -> str:
    """Scheme, host and port: what has a lane of its own."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    return f"{target.scheme}://{host}:{target.port}"


def check_host_pattern(pattern: str) -> str | None:
    """What is wrong with a pattern, in words. ``*`` is every host, ``*.example.com`` each below it, else one host."""
    host = pattern.removeprefix("*.")
    if pattern == "*":
        return None
    if "*" in host or isinstance(_host_of(host), Rejection):
        return "must be *, *.example.com, a host name or an address"
    return None


def host_allowed(patterns: Iterable[str], host: str) -> bool:
    """Whether one of these patterns, all of them sound, means this host (as ``Target`` has it)."""
    for pattern in patterns:
        wanted = _host_of(pattern.removeprefix("*."))
        if pattern == "*" or (isinstance(wanted, Target) and _means(pattern, wanted.host, host)):
            return True
    return False


def _means(pattern: str, wanted: str, host: str) -> bool:
    return host.endswith(f".{wanted}") if pattern.startswith("*.") else host == wanted


def _host_of(text: str) -> Target | Rejection:
    """Read a host as a URL's is read, so that both are spelled the same."""
    if not text or set(text) & set("/?#@"):
        return Rejection("invalid_url", "no host")
    bare = text.count(":") > 1 and not text.startswith("[")
    read = parse_url(f"https://[{text}]/" if bare else f"https://{text}/")
    if isinstance(read, Target) and text.rpartition("]")[2].count(":") and not bare:
        return Rejection("invalid_url", "a port is no part of a host")
    return read
