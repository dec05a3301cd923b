"""Ids that are computed from what they stand for instead of stored.

Role: fold (accepted_at_ms, event number, lane) into a delivery's id, a well-formed UUIDv7, and take it apart again;
make the UUIDs that formats want of ids that are none.
Rules: one to one; ids sort as the triple does; the layout is for ever, since customers keep these ids.
Must not know: the database, nor whether such a delivery exists.

Layout of the 128 bits: 48 milliseconds, version 7, 12 bits, variant 10, 62 bits. The 12 and the 62 hold the event's
number (42 bits) and then the lane (32 bits).
"""

import re
from functools import lru_cache
from uuid import UUID, uuid5

MAX_TIME_BITS = 48
MAX_SEQ_BITS = 42
MAX_LANE_BITS = 32

#: Under which ids that aren't UUIDs become some; for ever, since receivers keep them.
_NAMESPACE = UUID("5d0f6f3e-6c1b-5d0a-9f43-0d7c5a5e2b11")
_TENANTS_REMEMBERED = 1024

_LOW_BITS = 62
_VERSION = 7 << 76
_VARIANT = 0b10 << _LOW_BITS
_FIXED = _VERSION | _VARIANT
_FIXED_MASK = 0xF << 76 | 0b11 << _LOW_BITS
_FORM = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def delivery_id(accepted_at_ms: int, seq: int, lane: int) -> str:
    """The id of event number ``seq``, accepted at that wall-clock time, going to ``lane``.

    ValueError if one of them has more bits than its place: 48, 42 and 32.
    """
    if accepted_at_ms >> MAX_TIME_BITS or seq >> MAX_SEQ_BITS or lane >> MAX_LANE_BITS:
        raise ValueError(f"out of range for a delivery id: {accepted_at_ms}, {seq}, {lane}")
    free = seq << MAX_LANE_BITS | lane
    low = free & (1 << _LOW_BITS) - 1
    text = f"{accepted_at_ms << 80 | free >> _LOW_BITS << 64 | _FIXED | low:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def parse_delivery_id(text: str) -> tuple[int, int, int] | None:
    """(accepted_at_ms, seq, lane), or None if no delivery can have this id."""
    if not is_uuid(text):
        return None
    number = int(text.replace("-", ""), 16)
    if number & _FIXED_MASK != _FIXED:
        return None
    free = (number >> 64 & 0xFFF) << _LOW_BITS | number & (1 << _LOW_BITS) - 1
    return number >> 80, free >> MAX_LANE_BITS, free & (1 << MAX_LANE_BITS) - 1


def is_uuid(text: str) -> bool:
    """Whether it is a UUID of any version in its usual form, in either case."""
    return _FORM.fullmatch(text) is not None


@lru_cache(maxsize=_TENANTS_REMEMBERED)
def _namespace(tenant: str) -> UUID:
    return uuid5(_NAMESPACE, tenant)


def uuid_of(tenant: str, event_id: str) -> str:
    """An event's id where a format wants a UUID: itself if it is one, else UUIDv5 of tenant and id."""
    return event_id if is_uuid(event_id) else str(uuid5(_namespace(tenant), event_id))


def derived(delivery: str, purpose: str) -> str:
    """A second UUID for a delivery, the same on every attempt: UUIDv5 of its id and a word."""
    return str(uuid5(UUID(delivery), purpose))
