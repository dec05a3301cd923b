"""Bytes to Event: one line of NDJSON becomes an Event or a named Rejection; and the answer lines.

Role: the one parser and the one judge of what producers send (CONTRACT, Producing; SEMANTICS, Events).
Rules: the checks run in SEMANTICS' order; ``data`` stays the exact slice the producer wrote; no line, however hostile,
costs a Python step per byte or per member; no refusal repeats more than a few characters of what was sent.
Must not know: sockets, files, endpoints, the clock, where ids come from.
"""

import hashlib
import re
from codecs import BOM_UTF8
from functools import lru_cache

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ringback.core.callbacks import parse_callback
from ringback.core.model import DEFAULT_TENANT, OWN_TYPE_PREFIX, Callback, Event, Rejection
from ringback.core.nesting import nests_deeper
from ringback.core.times import parse_rfc3339

MAX_TYPE_CHARS = 255
MAX_ID_CHARS = 128
MAX_TENANT_CHARS = 64
#: Of a member's name that nobody knows, at most this much is repeated in the refusal.
MAX_NAME_SHOWN_CHARS = 64

_TYPE = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_ID_CHARS}}}")
_TENANT = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_TENANT_CHARS}}}")
#: Types and tenants come again and again: their judged text is remembered by how it was written.
_WORDS_REMEMBERED = 4096

_WANTED = {
    "type": f"1 to {MAX_TYPE_CHARS} characters: segments of A-Z a-z 0-9 _ - joined by dots",
    "id": f"1 to {MAX_ID_CHARS} characters of A-Z a-z 0-9 _ -",
    "tenant": f"1 to {MAX_TENANT_CHARS} characters of A-Z a-z 0-9 _ -",
    "data": "a JSON object",
}
_WANTED_TIME = "an RFC 3339 time with an offset, such as 2026-11-21T10:00:00.000Z"


class EventLimits(msgspec.Struct, frozen=True):
    """What a line may cost. ``max_event_bytes`` counts the line without LF; ``data`` itself is nesting level 1."""

    max_event_bytes: int = 1_048_576
    max_depth: int = 64


class _Members(msgspec.Struct, gc=False):
    """The envelope's members as the producer wrote them; UNSET is absent, which ``null`` is not."""

    type: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    id: Raw | UnsetType = UNSET
    tenant: Raw | UnsetType = UNSET
    created_at: Raw | UnsetType = UNSET
    deliver_after: Raw | UnsetType = UNSET
    expires_at: Raw | UnsetType = UNSET
    order_key: Raw | UnsetType = UNSET
    callback: Raw | UnsetType = UNSET


_NAMES = _Members.__struct_fields__
_NOT_BUILT = ("order_key",)
#: What the digest covers besides type and data, in this order.
_DIGESTED = ("created_at", "order_key", "deliver_after", "expires_at", "callback")

_members_decoder = msgspec.json.Decoder(_Members)
_every_member_decoder = msgspec.json.Decoder(dict[str, Raw])
_anything_decoder = msgspec.json.Decoder(Raw)
_text_decoder = msgspec.json.Decoder(str)


class _Refused(Exception):  # noqa: N818 - no error: it carries a value out of nested checks, never past parse_line
    """Carries a Rejection from the check that found it to ``parse_line``."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.rejection = Rejection(code, message, field)


def parse_line(
    line: bytes, limits: EventLimits, now_ms: int, fresh_id: str, own_tenant: str | None = None
) -> Event | Rejection:
    """Judge one line (no LF, no trailing CR). Never raises on input, whatever it holds.

    ``now_ms`` (wall clock) is the event's time and ``fresh_id`` its id where the producer gave none. ``own_tenant``:
    the only one this producer may speak for, and its event's where it names none.
    """
    try:
        _check_bytes(line, limits)
        given = _members(line)
        return _event(given, now_ms, fresh_id, own_tenant)
    except _Refused as refused:
        return refused.rejection


def _check_bytes(line: bytes, limits: EventLimits) -> None:
    """Size, then UTF-8, then nesting: all that can be judged before a parser runs."""
    if len(line) > limits.max_event_bytes:
        raise _Refused("too_large", f"an event may have {limits.max_event_bytes} bytes")
    if not line.isascii():
        try:
            line.decode()
        except UnicodeDecodeError as error:
            raise _Refused("invalid_json", f"not valid UTF-8 at byte {error.start}") from None
        if line.startswith(BOM_UTF8):
            raise _Refused("invalid_json", "it begins with a byte order mark: write UTF-8 without one")
    if nests_deeper(line, limits.max_depth + 1):
        raise _Refused("invalid_json", f"data nests deeper than {limits.max_depth} levels")


def _members(line: bytes) -> dict[str, bytes]:
    """The envelope's members, each as its raw slice: every name known, none twice."""
    try:
        members = _members_decoder.decode(line)
        raws = {name: bytes(raw) for name in _NAMES if (raw := getattr(members, name)) is not UNSET}
        # A member nobody knows and a member given twice each bring a colon that no kept slice accounts for.
        if line.count(b":") != len(raws) + sum([raw.count(b":") for raw in raws.values()]):
            raise _stray_member(line)
    except msgspec.ValidationError:
        raise _not_an_object(line) from None
    except msgspec.DecodeError as error:
        raise _malformed(error) from None
    except RecursionError:  # only if limits.max_depth was set beyond what the interpreter bears
        raise _Refused("invalid_json", "data nests too deep") from None
    return raws


def _malformed(error: msgspec.DecodeError) -> _Refused:
    reason = str(error).removeprefix("JSON is malformed: ").lower()
    return _Refused("invalid_json", f"not valid JSON: {reason}")


def _not_an_object(line: bytes) -> _Refused:
    try:
        _anything_decoder.decode(line)
    except msgspec.DecodeError as error:
        return _malformed(error)
    return _Refused("invalid_event", "an event must be a JSON object")


def _stray_member(line: bytes) -> _Refused:
    """Tell a member given twice from an unknown one; the first is the graver."""
    by_name = raws = _every_member_decoder.decode(line)
    if b"\\u003" in line:  # a name like "a\u003a" has no colon as written but one when decoded: make it have none
        line = line.replace(b"\\\\", b"\\u005c").replace(b"\\u003a", b"\\ue000").replace(b"\\u003A", b"\\ue000")
        raws = _every_member_decoder.decode(line)
    kept = len(raws) + "".join(raws).count(":") + b"".join(raws.values()).count(b":")
    if line.count(b":") != kept or len(raws) != len(by_name):
        return _Refused("invalid_json", "a member of the event is given twice")
    name = next(name for name in by_name if name not in _NAMES)
    shown = name if len(name) <= MAX_NAME_SHOWN_CHARS else name[:MAX_NAME_SHOWN_CHARS] + "…"
    return _Refused("unknown_field", f"an event has no field {shown!r}", shown)


def _event(raws: dict[str, bytes], now_ms: int, fresh_id: str, own_tenant: str | None) -> Event:
    """The field rules of CONTRACT's table."""
    for name in _NOT_BUILT:
        if name in raws:
            raise _Refused("not_supported", f"{name} is not supported yet", name)
    type_, data = _type(_required(raws, "type")), _data(_required(raws, "data"))
    event_id = _word("id", _ID, raws["id"]) if "id" in raws else fresh_id
    tenant = _tenant(raws["tenant"]) if "tenant" in raws else own_tenant or DEFAULT_TENANT
    if own_tenant is not None and tenant != own_tenant:
        raise _Refused("forbidden", f"this producer may emit for tenant {own_tenant} only", "tenant")
    created = _time(raws, "created_at") if "created_at" in raws else now_ms
    after = _time(raws, "deliver_after") if "deliver_after" in raws else None
    expires = _time(raws, "expires_at") if "expires_at" in raws else None
    if after is not None and expires is not None and expires <= after:
        raise _Refused("invalid_event", "expires_at must be later than deliver_after", "expires_at")
    callback = _callback(raws["callback"]) if "callback" in raws else None
    digest = _digest(type_, data, raws)
    return Event(event_id, tenant, type_, data, created, digest, "id" in raws, after, expires, callback)


def _callback(raw: bytes) -> Callback:
    judged = parse_callback(raw)
    if isinstance(judged, Rejection):
        raise _Refused(judged.code, judged.message, judged.field)
    return judged


def _invalid(field: str, wanted: str) -> _Refused:
    return _Refused("invalid_event", f"{field} must be {wanted}", field)


def _required(raws: dict[str, bytes], field: str) -> bytes:
    if field not in raws:
        raise _Refused("invalid_event", f"{field} is required", field)
    return raws[field]


def _text(raw: bytes, field: str, wanted: str) -> str:
    """A JSON string's characters, escapes undone."""
    if raw[:1] != b'"':
        raise _invalid(field, wanted)
    return _text_decoder.decode(raw) if b"\\" in raw else raw[1:-1].decode()


@lru_cache(maxsize=_WORDS_REMEMBERED)
def _type(raw: bytes) -> str:
    text = _text(raw, "type", _WANTED["type"])
    if len(text) > MAX_TYPE_CHARS or not _TYPE.fullmatch(text):
        raise _invalid("type", _WANTED["type"])
    if text.startswith(OWN_TYPE_PREFIX):
        raise _Refused("invalid_event", f"types under {OWN_TYPE_PREFIX} are the daemon's own", "type")
    return text


@lru_cache(maxsize=_WORDS_REMEMBERED)
def _tenant(raw: bytes) -> str:
    return _word("tenant", _TENANT, raw)


def _data(raw: bytes) -> bytes:
    if raw[:1] != b"{":
        raise _invalid("data", _WANTED["data"])
    return raw


def _word(field: str, form: re.Pattern[str], raw: bytes) -> str:
    text = _text(raw, field, _WANTED[field])
    if not form.fullmatch(text):
        raise _invalid(field, _WANTED[field])
    return text


def _time(raws: dict[str, bytes], field: str) -> int:
    ms = parse_rfc3339(_text(raws[field], field, _WANTED_TIME))
    if ms is None:
        raise _invalid(field, _WANTED_TIME)
    return ms


def _digest(type_: str, data: bytes, raws: dict[str, bytes]) -> bytes:
    """SHA-256 over the members as given. Name and length stand before each, so no two sets share their text."""
    text = b"type %d:%bdata %d:%b" % (len(type_), type_.encode(), len(data), data)
    for name in _DIGESTED:
        if name in raws:
            text += b"%b %d:%b" % (name.encode(), len(raws[name]), raws[name])
    return hashlib.sha256(text, usedforsecurity=False).digest()


def own_event(event_id: str, tenant: str, type_: str, data: bytes, now_ms: int) -> Event:
    """An event of the daemon's own; ``data`` is a JSON object."""
    return Event(event_id, tenant, type_, data, now_ms, _digest(type_, data, {}), id_given=False)


def encode_ok(event_id: str, deliveries: int, duplicate: bool) -> bytes:  # noqa: FBT001 - the answer's own member
    """The answer line, LF included, for an event that is durable. Ids need no escaping: their form was checked."""
    tail = b',"duplicate":true}\n' if duplicate else b"}\n"
    return b'{"ok":true,"id":"%b","deliveries":%d%b' % (event_id.encode(), deliveries, tail)


def encode_error(rejection: Rejection) -> bytes:
    """The answer line, LF included, for an event that was refused."""
    error = {"code": rejection.code, "message": rejection.message}
    if rejection.field is not None:
        error["field"] = rejection.field
    return msgspec.json.encode({"ok": False, "error": error}) + b"\n"
