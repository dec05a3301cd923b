"""Reading requests: query parameters, cursors, bodies, each within its limit.

Role: turns text into values or raises ``Invalid`` with every problem at once.
Rules: unknown and repeated parameters are errors, and so is a span that ends before it begins; a cursor is opaque to
callers and checked when it comes back.
Must not know: what any call does.
"""

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from ringback.api.problems import Invalid
from ringback.core.times import MAX_MS, parse_rfc3339, rfc3339
from ringback.service.endpoint_fields import Problem

DEFAULT_LIMIT = 50
MAX_LIMIT = 250
MAX_TEXT = 256
MAX_CURSOR = 128
#: Of a JSON body other than events: an endpoint with every list full is smaller.
MAX_JSON_BYTES = 262_144

Parse = Callable[[str], object]


def text(value: str) -> str:
    """Any text that isn't empty, within a limit. Raises ValueError."""
    if not 1 <= len(value) <= MAX_TEXT:
        raise ValueError(f"must have 1 to {MAX_TEXT} characters")
    return value


def time_ms(value: str) -> int:
    """RFC 3339 as integer milliseconds. Raises ValueError. A ``+`` of an offset may have become a blank in a URL."""
    found = parse_rfc3339(value.replace(" ", "+"))
    if found is None:
        raise ValueError("must be a time as in RFC 3339, e.g. 2026-11-21T09:30:00Z")
    return found


def flag(value: str) -> bool:
    """Either ``true`` or ``false``. Raises ValueError."""
    if value not in ("true", "false"):
        raise ValueError("must be true or false")
    return value == "true"


def one_of(*choices: str) -> Parse:
    """One of these texts. Raises ValueError."""

    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"must be one of: {', '.join(choices)}")
        return value

    parse.schema = {"type": "string", "enum": list(choices)}  # type: ignore[attr-defined]
    return parse


def whole_number(least: int, most: int) -> Parse:
    """A whole number in this range. Raises ValueError."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value) or not least <= int(value) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(value)

    parse.schema = {"type": "integer", "minimum": least, "maximum": most}  # type: ignore[attr-defined]
    return parse


def schema_of(parse: Parse) -> dict[str, Any]:
    """What a parameter takes, as JSON Schema, for the API's own description."""
    known: dict[Parse, dict[str, Any]] = {
        text: {"type": "string", "minLength": 1, "maxLength": MAX_TEXT},
        time_ms: {"type": "string", "format": "date-time"},
        flag: {"type": "boolean"},
        _limit: {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    }
    of_its_own: dict[str, Any] = getattr(parse, "schema", {"type": "string", "maxLength": MAX_CURSOR})
    return known.get(parse, of_its_own)


def _limit(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", value) or not 1 <= int(value) <= MAX_LIMIT:
        raise ValueError(f"must be a number from 1 to {MAX_LIMIT}")
    return int(value)


def query(request: web.Request, allowed: Mapping[str, Parse]) -> dict[str, Any]:
    """The parameters that were given, parsed. Raises Invalid with every problem."""
    found: dict[str, Any] = {}
    problems = []
    for name, value in request.query.items():
        parse = allowed.get(name)
        if parse is None:
            known = ", ".join(sorted(allowed)) or "none"
            problems.append(Problem(("query", name), f"unknown parameter; this call takes: {known}"))
        elif name in found:
            problems.append(Problem(("query", name), "given more than once"))
        else:
            try:
                found[name] = parse(value)
            except ValueError as wrong:
                problems.append(Problem(("query", name), str(wrong)))
                found[name] = None
    problems = problems or _span_problems(found.get("since", 0), found.get("until", MAX_MS))
    if problems:
        raise Invalid("invalid_query", f"{problems[0].loc[-1]}: {problems[0].msg}", problems)
    return found


def _span_problems(since_ms: int, until_ms: int) -> list[Problem]:
    """Nothing is ever found in a span that ends before it begins: somebody mixed the two up, or a time zone."""
    if since_ms <= until_ms:
        return []
    return [
        Problem(("query", "since"), f"{rfc3339(since_ms)} is later than until, {rfc3339(until_ms)}"),
        Problem(("query", "until"), f"{rfc3339(until_ms)} is earlier than since, {rfc3339(since_ms)}"),
    ]


def paging(cursor: Parse) -> dict[str, Parse]:
    """The two parameters of every list."""
    return {"limit": _limit, "cursor": cursor}


def make_cursor(kind: str, *parts: int | str) -> str:
    """An opaque cursor that says where a page ended."""
    return base64.urlsafe_b64encode(":".join([kind, *map(str, parts)]).encode()).rstrip(b"=").decode()


def cursor_of(kind: str, numbers: int) -> Parse:
    """Parses cursors of one kind holding that many numbers, as a tuple. Raises ValueError on any other text."""

    def parse(value: str) -> tuple[int, ...]:
        kind_found, *parts = _open_cursor(value)
        if kind_found != kind or len(parts) != numbers or not all(re.fullmatch(r"[0-9]{1,18}", p) for p in parts):
            raise ValueError("is no cursor of this list")
        return tuple(int(part) for part in parts)

    return parse


def id_cursor(kind: str) -> Parse:
    """Parses cursors of one kind holding an id. Raises ValueError on any other text."""

    def parse(value: str) -> str:
        parts = _open_cursor(value)
        if parts[0] != kind or len(parts) != 2:
            raise ValueError("is no cursor of this list")
        return parts[1]

    return parse


def _open_cursor(value: str) -> list[str]:
    if len(value) > MAX_CURSOR:
        raise ValueError("is no cursor of this list")
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True).decode().split(":")
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError("is no cursor of this list") from None


def refuse_encoded(request: web.Request) -> None:
    """Raises Invalid ``unsupported_media_type`` if the body is compressed: its limits are those of what is sent."""
    for given in request.headers.getall("Content-Encoding", []):
        if given.strip().lower() not in ("", "identity"):
            raise Invalid("unsupported_media_type", "send the body as it is, without a Content-Encoding")


async def read_bytes(request: web.Request, limit: int) -> bytes:
    """The whole body. Raises Invalid ``too_large`` beyond ``limit`` bytes, without reading on, or if it is encoded."""
    refuse_encoded(request)
    chunks = []
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > limit:
            raise Invalid("too_large", f"the body may have at most {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


async def read_json(request: web.Request) -> object:
    """The body as JSON. Raises Invalid."""
    return _json(await read_bytes(request, MAX_JSON_BYTES))


def _json(raw: bytes) -> object:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as wrong:
        raise Invalid("invalid_json", f"the body is not JSON: {wrong}") from None
    try:  # the parser above takes the last of two members with one name, and says nothing
        json.loads(raw, object_pairs_hook=_refuse_twice, parse_int=str, parse_float=str)
    except RecursionError:
        raise Invalid("invalid_json", "the body is nested too deep") from None
    return found


def _refuse_twice(members: list[tuple[str, object]]) -> None:
    """Of an object's members. Raises Invalid, as an event's envelope is refused: nobody knows which one was meant."""
    if len(members) == len(dict(members)):
        return
    twice = Counter(name for name, _ in members).most_common(1)[0][0]
    raise Invalid("invalid_json", f"the body has a member twice: {twice[:MAX_TEXT]!r}")


async def read_optional(request: web.Request) -> object:
    """As ``read_json``; no body at all is an empty object."""
    raw = await read_bytes(request, MAX_JSON_BYTES)
    return _json(raw) if raw.strip() else {}


async def no_body(request: web.Request) -> None:
    """For calls that take none: an empty body or an empty object. Raises Invalid."""
    raw = (await read_bytes(request, MAX_JSON_BYTES)).strip()
    if raw not in (b"", b"{}"):
        raise Invalid("invalid_request", "this call takes no body", [Problem(("body",), "must be empty")])
