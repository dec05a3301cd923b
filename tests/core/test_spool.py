"""What a spool file's bytes mean."""

import json
import re

import pytest

from ringback.core import spool
from ringback.core.events import EventLimits
from ringback.core.spool import BadLine, FileIdentity, derive_id, failed_name, is_lines, judge_lines, judge_object

FILE = FileIdentity(b"report.json", 42, 1_795_257_600_123_456_789)
LIMITS = EventLimits()
NOW_MS = 1_795_257_700_000


def line(**members):
    """An event's line."""
    return json.dumps({"type": "a.b", "data": {}} | members).encode() + b"\n"


def judged(*lines, limits=LIMITS):
    """A file of these lines, judged."""
    return judge_lines(FILE, lines, limits, NOW_MS)


def test_a_derived_id_says_which_file_and_line():
    """The same file read again brings the same id; another name, inode, time, line or content another one."""
    first = derive_id(FILE, 1, b"x")
    assert first == derive_id(FILE, 1, b"x")
    others = {
        derive_id(FILE, 2, b"x"),
        derive_id(FILE, 1, b"y"),
        derive_id(FileIdentity(b"other.json", FILE.inode, FILE.mtime_ns), 1, b"x"),
        derive_id(FileIdentity(FILE.name, 43, FILE.mtime_ns), 1, b"x"),
        derive_id(FileIdentity(FILE.name, FILE.inode, FILE.mtime_ns + 1), 1, b"x"),
    }
    assert len(others | {first}) == 6


def test_a_derived_id_is_a_uuid_that_sorts_by_time():
    """Version 8, RFC 9562's variant, the file's milliseconds first, whatever they are."""
    for mtime_ns in (0, -5, FILE.mtime_ns, 2**63 - 1):
        made = derive_id(FileIdentity(b"x", 1, mtime_ns), 1, b"x")
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", made)
    assert int(derive_id(FILE, 1, b"x").replace("-", "")[:12], 16) == FILE.mtime_ns // 1_000_000


def test_lines_are_events_under_their_own_or_derived_ids():
    """Blank lines don't count as events but keep their numbers, CRLF is fine, the last line needs no end."""
    found = judged(line(id="mine"), b"\n", b"  \r\n", line().replace(b"\n", b"\r\n"), line().rstrip())
    assert found.bad == []
    assert [number for number, _ in found.events] == [1, 4, 5]
    first, second, third = (event for _, event in found.events)
    assert (first.id, first.id_given) == ("mine", True)
    assert second.id == derive_id(FILE, 4, line().rstrip())
    assert (second.id_given, third.id_given) == (False, False)
    assert second.id != third.id


def test_one_bad_line_spoils_the_file_and_each_is_named():
    """None of it is an event any more, and every bad line has its number, code and field."""
    found = judged(line(), b"nope\n", line(type="a b"), line(), line(colour=1))
    assert found.events == []
    assert [(bad.line, bad.code, bad.field) for bad in found.bad] == [
        (2, "invalid_json", None),
        (3, "invalid_event", "type"),
        (5, "unknown_field", "colour"),
    ]


def test_a_line_that_is_too_long_is_bad_even_cut_short():
    """It is enough to see that it is longer than allowed."""
    found = judged(b"x" * 70, limits=EventLimits(max_event_bytes=64))
    assert [bad.code for bad in found.bad] == ["too_large"]


@pytest.mark.parametrize("lines", [[], [b""], [b"\n", b" \t\r\n"]])
def test_a_file_without_events_is_bad(lines):
    """It is what a power cut leaves of a file that was renamed before it was synced."""
    assert [(bad.line, bad.code) for bad in judged(*lines).bad] == [(None, "empty")]


def test_zeros_are_bad():
    """The other thing a power cut leaves."""
    assert [bad.code for bad in judged(b"\0" * 100).bad] == ["invalid_json"]
    assert [bad.code for bad in judge_object(FILE, b"\0" * 100, LIMITS, NOW_MS).bad] == ["invalid_json"]


def test_the_same_id_with_other_content_in_one_file_is_a_conflict():
    """The first would stand; with the same content it is a duplicate, which is accepted; tenants don't share ids."""
    found = judged(line(id="a", data={"n": 1}), line(id="a", data={"n": 2}))
    assert [(bad.line, bad.code) for bad in found.bad] == [(2, "conflict")]
    assert len(judged(line(id="a"), line(id="a")).events) == 2
    assert len(judged(line(id="a"), line(id="a", tenant="t", data={"n": 2})).events) == 2


def test_the_number_of_events_is_bounded(monkeypatch):
    """A file of too many events is bad as a whole, however many of them are bad themselves."""
    monkeypatch.setattr(spool, "MAX_FILE_EVENTS", 3)
    assert len(judged(*[line()] * 3, b"\n").events) == 3
    assert judged(*[line()] * 4).bad == [BadLine(None, "too_large", "a file may hold 3 events")]
    assert [bad.line for bad in judged(*[b"x\n"] * 9).bad] == [1, 2, 3, None]


def test_the_number_of_lines_is_bounded(monkeypatch):
    """Blank ones cost time too: a file of nothing else is given up on."""
    monkeypatch.setattr(spool, "MAX_FILE_LINES", 3)
    assert len(judged(b"\n", b"\n", line()).events) == 1
    endless = iter(lambda: b"\n", None)
    found = spool.judge_lines(FILE, endless, LIMITS, NOW_MS)
    assert found.bad == [BadLine(None, "too_large", "a file may have 3 lines")]


def test_lines_under_an_object_s_name_are_told_how_to_be_called():
    """The commonest slip is named for what it is; a single broken object isn't."""
    (bad,) = judge_object(FILE, line() * 2, LIMITS, NOW_MS).bad
    assert bad.message.endswith("must end in .ndjson or .jsonl")
    (bad,) = judge_object(FILE, b'{\n"type": oops\n}', LIMITS, NOW_MS).bad
    assert ".ndjson" not in bad.message


def test_a_byte_order_mark_is_named():
    """What some editors and shells put before the first character is refused in words that say so."""
    marked = b"\xef\xbb\xbf" + line()
    for found in (judged(marked), judge_object(FILE, marked, LIMITS, NOW_MS)):
        assert [(bad.code, bad.line) for bad in found.bad] == [("invalid_json", 1)]
        assert "byte order mark" in found.bad[0].message


def test_an_object_may_be_laid_out():
    """One JSON object over several lines, white space around it, its data as it was written."""
    found = judge_object(FILE, b'\n {\n "type": "a",\n "data": {\n  "x": 1\n }\n}\n\n', LIMITS, NOW_MS)
    ((number, event),) = found.events
    assert (number, event.type, event.data) == (1, "a", b'{\n  "x": 1\n }')


@pytest.mark.parametrize(
    ("content", "code"), [(b"", "empty"), (b" \n", "empty"), (line() * 2, "invalid_json"), (b"[]", "invalid_event")]
)
def test_an_object_is_exactly_one(content, code):
    """Nothing, two, or something else is bad."""
    assert [bad.code for bad in judge_object(FILE, content, LIMITS, NOW_MS).bad] == [code]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (b"a.ndjson", True),
        (b"a.jsonl", True),
        (b"a.json", False),
        (b"a", False),
        (b"a.ndjson.json", False),
        (b"\xff.jsonl", True),
    ],
)
def test_the_name_says_whether_it_is_lines(name, lines):
    """Only .ndjson and .jsonl are."""
    assert is_lines(name) is lines


def test_names_in_failed_always_fit():
    """With the reason's suffix a name has at most 255 bytes, and two long names don't become one."""
    assert failed_name(b"a.json", 0) == b"a.json"
    assert failed_name(b"a.json", 3) == b"a.json.3"
    assert failed_name(b"a.ndjson", 3) == b"a.3.ndjson", "moved back it must still be a file of lines"
    assert failed_name(b"x" * 248 + b".ndjson", 3).endswith(b".3.ndjson")
    long = [failed_name(b"x" * 254 + end, 0) for end in (b"a", b"b")]
    assert long[0] != long[1]
    assert all(len(name) + len(spool.REASON_SUFFIX) <= 255 for name in [*long, failed_name(b"x" * 255, 999)])


def test_the_reason_is_json_whatever_the_name():
    """It names the file, its owner, when, and each bad line."""
    text = spool.reason_document(b"\xff\n", 12, 33, "2026-11-21T10:00:00.000Z", [BadLine(2, "c", "m", "f")], 0)
    assert json.loads(text) == {
        "file": "\\xff\n",
        "bytes": 12,
        "owner_uid": 33,
        "failed_at": "2026-11-21T10:00:00.000Z",
        "accepted": 0,
        "bad_lines": 1,
        "lines": [{"line": 2, "code": "c", "message": "m", "field": "f"}],
    }
