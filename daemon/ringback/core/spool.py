"""A spool file's content judged: its events, or each line that spoils it; and the ids it gives.

Role: what a file's bytes mean (CONTRACT, Producing: the spool directory; SEMANTICS, Spool). Pure.
Rules: a file counts as a whole, one bad line and none of it is accepted; every line is judged by the socket's own
parser; an id not given is derived from what the file and the line are, so that the same file read again brings the same
ids, and a new file of the same name and content brings others.
Must not know: directories, descriptors, the database.
"""

import hashlib
from collections.abc import Iterable

import msgspec

from ringback.core.events import EventLimits, parse_line
from ringback.core.model import Event, Rejection

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_FILE_EVENTS = 50_000
#: Blank ones among them: 64 MiB of line ends would keep the reader busy for a minute.
MAX_FILE_LINES = 4 * MAX_FILE_EVENTS
MAX_NAME_BYTES = 255
#: A name whose file holds an event a line; any other file is one JSON object.
LINE_SUFFIXES = (b".ndjson", b".jsonl")
#: Told of a file that would be good under another name.
LINES_HINT = "; for one event a line the file's name must end in .ndjson or .jsonl"
REASON_SUFFIX = ".reason.json"
#: Of a too long name this much is kept in ``failed/``, before a digest that keeps it apart from others.
KEPT_NAME_BYTES = 200

_TIME_BITS, _LOW_BITS = 48, 62
#: Version 8 (RFC 9562: the maker's own layout) and the variant.
_FIXED = 8 << 76 | 0b10 << _LOW_BITS


class FileIdentity(msgspec.Struct, frozen=True, gc=False):
    """Which file it is: a later one of the same name has another inode or another time."""

    name: bytes
    inode: int
    mtime_ns: int


class BadLine(msgspec.Struct, frozen=True, gc=False):
    """One line that spoils its file. ``line`` counts from 1; None: the file as a whole."""

    line: int | None
    code: str
    message: str
    field: str | None = None


class Judged(msgspec.Struct, frozen=True, gc=False):
    """What a file holds: (line number, event) in order, or what is wrong with it; never both."""

    events: list[tuple[int, Event]]
    bad: list[BadLine]


def is_lines(name: bytes) -> bool:
    """Whether a file of this name holds an event a line."""
    return name.endswith(LINE_SUFFIXES)


def derive_id(file: FileIdentity, line: int, content: bytes) -> str:
    """The id of a line that has none: a UUIDv8 that sorts by the file's time.

    48 bits of the file's modification time in milliseconds, then 74 bits of a SHA-256 over the name, inode, time to the
    nanosecond, line number and the line's own SHA-256.
    """
    own = hashlib.sha256(content, usedforsecurity=False).digest()
    text = b"%d:%b %d %d %d %b" % (len(file.name), file.name, file.inode, file.mtime_ns, line, own)
    digest = int.from_bytes(hashlib.sha256(text, usedforsecurity=False).digest()[:10])
    time = max(0, file.mtime_ns // 1_000_000) & (1 << _TIME_BITS) - 1
    high, low = digest >> 68, digest & (1 << _LOW_BITS) - 1
    number = f"{time << 80 | high << 64 | _FIXED | low:032x}"
    return f"{number[:8]}-{number[8:12]}-{number[12:16]}-{number[16:20]}-{number[20:]}"


def judge_lines(file: FileIdentity, lines: Iterable[bytes], limits: EventLimits, now_ms: int) -> Judged:
    """Judge a file of lines. ``lines`` may keep their line ends; one longer than the limit may come cut short.

    A last line without a line end counts: a file under its name is complete.
    """
    events: list[tuple[int, Event]] = []
    bad: list[BadLine] = []
    seen = 0
    for number, raw in enumerate(lines, 1):
        if number > MAX_FILE_LINES:
            return Judged([], [*bad, _whole("too_large", f"a file may have {MAX_FILE_LINES} lines")])
        line = raw.removesuffix(b"\n").removesuffix(b"\r")
        if not line or line.isspace():
            continue
        seen += 1
        if seen > MAX_FILE_EVENTS:
            return Judged([], [*bad, _whole("too_large", f"a file may hold {MAX_FILE_EVENTS} events")])
        event = parse_line(line, limits, now_ms, derive_id(file, number, line))
        if isinstance(event, Rejection):
            bad.append(BadLine(number, event.code, event.message, event.field))
            events.clear()
        elif not bad:
            events.append((number, event))
    return _judged(events, bad)


def judge_object(file: FileIdentity, content: bytes, limits: EventLimits, now_ms: int) -> Judged:
    """Judge a file that is one JSON object, white space around it allowed. It counts as line 1."""
    line = content.strip(b" \t\r\n")
    if not line:
        return _judged([], [])
    event = parse_line(line, limits, now_ms, derive_id(file, 1, line))
    if isinstance(event, Rejection):
        hint = LINES_HINT if event.code == "invalid_json" and _seems_lines(line) else ""
        return Judged([], [BadLine(1, event.code, event.message + hint, event.field)])
    return Judged([(1, event)], [])


def _seems_lines(content: bytes) -> bool:
    """Whether a file that is no JSON object begins with a line that is one."""
    first, *more = content.split(b"\n", 1)
    try:
        return bool(more) and isinstance(msgspec.json.decode(first), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _judged(events: list[tuple[int, Event]], bad: list[BadLine]) -> Judged:
    if bad:
        return Judged([], bad)
    if not events:
        # What a power cut leaves of a file that was renamed before it was synced.
        return Judged([], [_whole("empty", "the file holds no event; was it renamed before it was synced?")])
    return _contradictions(events)


def _contradictions(events: list[tuple[int, Event]]) -> Judged:
    """Two lines of one id and different content: the first would stand, so the second is bad."""
    firsts: dict[tuple[str, str], tuple[int, Event]] = {}
    bad = []
    for number, event in events:
        first_number, first = firsts.setdefault((event.tenant, event.id), (number, event))
        if first.digest != event.digest:
            message = f"line {first_number} has this id with other content"
            bad.append(BadLine(number, "conflict", message, "id"))
    return Judged([], bad) if bad else Judged(events, [])


def _whole(code: str, message: str) -> BadLine:
    return BadLine(None, code, message)


def failed_name(name: bytes, attempt: int) -> bytes:
    """Under what name a bad file lies in ``failed/``: its own, or that with a number where it is taken.

    An ending that means lines stays the ending: moved back into ``new/`` the file is what it was.
    """
    ending = next((suffix for suffix in LINE_SUFFIXES if name.endswith(suffix)), b"")
    number = b"" if attempt == 0 else b".%d" % attempt
    stem = name.removesuffix(ending)
    if len(name) + len(number) + len(REASON_SUFFIX) > MAX_NAME_BYTES:
        stem = stem[:KEPT_NAME_BYTES] + b"~" + hashlib.sha256(name).hexdigest()[:16].encode()
    return stem + number + ending


def shown_name(name: bytes) -> str:
    """The name as valid text, for logs and reasons."""
    return name.decode("utf-8", "backslashreplace")


def reason_document(name: bytes, size: int, uid: int, failed_at: str, bad: list[BadLine], accepted: int) -> bytes:
    """``NAME.reason.json``: why a file lies in ``failed/``. ``accepted``: lines committed before a conflict was met."""
    document = {
        "file": shown_name(name),
        "bytes": size,
        "owner_uid": uid,
        "failed_at": failed_at,
        "accepted": accepted,
        "bad_lines": len([line for line in bad if line.line is not None]),
        "lines": [{"line": line.line, "code": line.code, "message": line.message, "field": line.field} for line in bad],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
