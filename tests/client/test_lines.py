"""The producer library's protocol: lines, answers, and what is sent again."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from ringback.client.errors import Rejected
from ringback.client.lines import (
    LONGEST_WAIT_S,
    MAX_ANSWER_BYTES,
    Ack,
    Conversation,
    ProtocolError,
    new_id,
    prepare,
    wait_s,
)


def ok(key):
    """The daemon's ok for an id."""
    return json.dumps({"ok": True, "id": key, "deliveries": 1}).encode() + b"\n"


def error(code):
    """The daemon's refusal."""
    return json.dumps({"ok": False, "error": {"code": code, "message": "m", "field": "f"}}).encode() + b"\n"


def talk_of(*keys):
    """A conversation with these events, not yet written."""
    talk = Conversation()
    talk.unsent.extend(prepare({"id": key, "type": "a", "data": {}}) for key in keys)
    return talk


def test_importing_ringback_imports_nothing_of_the_daemon():
    """A producer's process loads the client and the standard library, nothing else."""
    code = (
        "import sys; before = set(sys.modules); from ringback import Producer, AsyncProducer;"
        "print(*(m for m in set(sys.modules) - before if m.split('.')[0] not in sys.stdlib_module_names))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "ringback.client" in loaded
    assert [name for name in loaded if not re.match(r"ringback(\.client(\..*)?)?$", name)] == []


def test_ids_are_uuids_of_version_seven_in_order():
    """An id made here is a UUIDv7, unique, and sorts with time."""
    made = [new_id() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(
        re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", one) for one in made
    )
    assert [one[:13] for one in made] == sorted(one[:13] for one in made)


def test_an_event_is_one_line_with_an_id():
    """None is left out, an id is made where none is, text stays readable, times may be datetimes."""
    at = datetime(2026, 11, 21, 10, tzinfo=UTC)
    sent = prepare({"type": "a", "data": {"t": "ü\n"}, "tenant": None, "deliver_after": at})
    assert sent.line.count(b"\n") == 1
    assert sent.line.endswith(b"\n")
    assert json.loads(sent.line) == {
        "type": "a",
        "data": {"t": "ü\n"},
        "deliver_after": "2026-11-21T10:00:00+00:00",
        "id": sent.id,
    }


@pytest.mark.parametrize("data", [{"x": float("nan")}, {"x": object()}, {"x": "\ud800"}])
def test_what_json_cannot_say_is_refused_before_it_is_sent(data):
    """NaN, foreign objects and lone surrogates raise where the mistake was made."""
    with pytest.raises((TypeError, ValueError)):
        prepare({"type": "a", "data": data})


def test_a_time_without_a_zone_is_refused():
    """A naive datetime would mean another time on another machine."""
    with pytest.raises(ValueError, match="time zone"):
        prepare({"type": "a", "data": {}, "expires_at": datetime(2026, 1, 1)})  # noqa: DTZ001 - that is the point


def test_answers_in_any_pieces_settle_events_in_order():
    """However the answers are cut, each event gets its own."""
    talk = talk_of("a", "b", "c")
    assert talk.take(1 << 20).count(b"\n") == 3
    settled = []
    for byte in ok("a") + error("invalid_event") + ok("c"):
        settled += talk.hear(bytes([byte]))
    assert [sent.id for sent in settled] == ["a", "b", "c"]
    assert settled[0].outcome == Ack("a", 1)
    refused = settled[1].outcome
    assert isinstance(refused, Rejected)
    assert (refused.code, refused.message, refused.field, refused.id) == ("invalid_event", "m", "f", "b")
    assert talk.open == 0


def test_what_has_no_answer_is_sent_again_in_order():
    """After a lost connection the unanswered come first, and half an answer counts for nothing."""
    talk = talk_of("a", "b", "c", "d")
    talk.take(len(talk.unsent[0].line) * 3)
    talk.hear(ok("a") + ok("b")[:-5])
    talk.lost()
    assert [sent.id for sent in talk.unsent] == ["b", "c", "d"]
    talk.take(1 << 20)
    assert [sent.id for sent in talk.hear(ok("b") + ok("c") + ok("d"))] == ["b", "c", "d"]


@pytest.mark.parametrize("code", ["overloaded", "storage_full", "shutting_down", "unknown_outcome"])
def test_not_now_is_no_outcome(code):
    """An event refused for a while stays open and is sent again when told."""
    talk = talk_of("a", "b")
    talk.take(1 << 20)
    assert [sent.id for sent in talk.hear(error(code) + ok("b"))] == ["b"]
    assert talk.stalled
    assert talk.code == code
    talk.again()
    assert talk.take(1 << 20).startswith(b'{"id":"a"')


def test_a_word_to_the_connection_is_nobodys_answer():
    """``overloaded`` before any line was written settles nothing."""
    talk = talk_of("a")
    assert talk.hear(error("overloaded")) == []
    assert talk.open == 1


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n", ok("x") * 2, b"x" * (MAX_ANSWER_BYTES + 1), b"[]\n"])
def test_another_protocol_is_noticed(data):
    """What is no answer, or an answer to nothing, breaks the connection instead of being believed."""
    talk = talk_of("a")
    talk.take(1 << 20)
    with pytest.raises(ProtocolError):
        talk.hear(data)


def test_an_abandoned_event_is_not_sent_again_but_keeps_its_place():
    """The answer to an event nobody waits for any more is not taken for the next one's."""
    talk = talk_of("a", "b")
    first = talk.unsent[0]
    talk.take(1 << 20)
    talk.abandon(first)
    assert [sent.id for sent in talk.hear(ok("a"))] == ["a"]
    talk.lost()
    assert [sent.id for sent in talk.unsent] == ["b"]


def test_waits_grow_to_a_limit():
    """Doubling from the first to the longest, never longer, never nothing."""
    waits = [wait_s(tries, 0.5) for tries in range(1, 2000)]
    assert waits == sorted(waits)
    assert 0 < waits[0] < 0.1
    assert wait_s(10**6, 0.999) <= LONGEST_WAIT_S
