"""What producers may send, what they are answered, and that their bytes pass unchanged."""

import hashlib
import json
import os
import socket

import pytest
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import Receiver

pytestmark = pytest.mark.whole

#: A line and the code it is answered with.
BAD_LINES = [
    (b"garbage", "invalid_json"),
    (b"\x00\xff\xfe\x80", "invalid_json"),
    (b'{"type":"a","data":{}', "invalid_json"),
    (b'{"type":"a","data":{"t":"\xff"}}', "invalid_json"),
    (b'{"type":"a","data":{"t":"\\ud800"}}', "invalid_json"),
    (b'{"type":"a","type":"b","data":{}}', "invalid_json"),
    (b'{"type":"a","data":{"n":NaN}}', "invalid_json"),
    (b'{"type":"a","data":' + b'{"a":' * 64 + b"{}" + b"}" * 64 + b"}", "invalid_json"),
    (b"[]", "invalid_event"),
    (b'{"type":"a"}', "invalid_event"),
    (b'{"type":"a","data":[]}', "invalid_event"),
    (b'{"type":"a..b","data":{}}', "invalid_event"),
    (b'{"type":"ringback.test","data":{}}', "invalid_event"),
    (b'{"type":"a","data":{},"id":"no blanks"}', "invalid_event"),
    (b'{"type":"a","data":{},"expires_at":"soon"}', "invalid_event"),
    (b'{"type":"a","data":{},"colour":"red"}', "unknown_field"),
    (b'{"type":"a","data":{},"order_key":"k"}', "not_supported"),
    (b'{"type":"a","data":{},"callback":{"url":"https://10.0.0.1/"}}', "forbidden"),
    (b'{"type":"a","data":{"t":"' + b"x" * 70_000 + b'"}}', "too_large"),
]

#: Data that a careless pass through a JSON library would change or refuse.
ODD_DATA = [
    b'{"big":18446744073709551616,"huge":1e400,"exact":1.0000000000000000001,"e":1E2}',
    b'{ "spaced" : [ 1 , 2 ] , "dup":1,"dup":2 }',
    '{"text":"Grüße 世界 \U0001f600 \u2028","escaped":"\\u00e9\\/\\ud83d\\ude00"}'.encode(),
    b'{"a":' * 63 + b"{}" + b"}" * 63,
    b"{}",
]


def test_garbage_is_answered_by_name_and_never_ends_the_connection(daemon: Daemon) -> None:
    """Every malformed line gets its code, in order; good lines between them are accepted; the socket stays open."""
    daemon.configure({"ingest": {"max_event_bytes": 65536}})
    daemon.start()
    with daemon.events() as producer:
        for line, code in BAD_LINES:
            producer.write(line + b"\n")
            answer = producer.answer()
            assert (answer["ok"], answer["error"]["code"]) == (False, code), (line[:80], answer)
            assert producer.ask({"type": "good", "data": {}})["ok"]
        producer.write(b"\n\r\n  \n".replace(b"  ", b"") + b'{"type":"crlf","data":{}}\r\n')
        assert producer.answer()["ok"]
    assert daemon.sql("SELECT count(*) FROM event") == [(len(BAD_LINES) + 1,)]
    daemon.wait_log("event.rejected")


def test_the_tail_of_a_too_long_line_is_never_an_event(daemon: Daemon) -> None:
    """An event hidden behind an oversized line's beginning is discarded with it."""
    daemon.configure({"ingest": {"max_event_bytes": 1024}})
    daemon.start()
    with daemon.events() as producer:
        for filler in (1000, 1023, 1024, 1025, 2000, 70_000):
            producer.write(b"x" * filler + b'{"id":"EVIL","type":"evil","data":{"pad":"' + b"y" * 1000 + b'"}}\n')
            assert producer.answer()["error"]["code"] == "too_large"
        producer.write(b'{"id":"unterminated","type":"t","data":{}}')
        producer.socket.shutdown(socket.SHUT_WR)
        assert producer.socket.recv(100) == b"", "an unterminated last line gets no answer"
    assert daemon.sql("SELECT count(*) FROM event") == [(0,)]


def test_data_passes_unchanged(daemon: Daemon, receiver: Receiver) -> None:
    """The receiver gets exactly the producer's bytes of data, whatever numbers, blanks and depths they hold."""
    daemon.start()
    daemon.endpoint(receiver.url("/ok/a"))
    stamp = "2026-11-21T08:30:00.000Z"
    with daemon.events() as producer:
        for n, data in enumerate(ODD_DATA):
            producer.write(b'{"id":"e%d","type":"odd","created_at":"%b","data":%b}\n' % (n, stamp.encode(), data))
            assert producer.answer()["ok"]
    receiver.wait_for("/ok/a", ids=len(ODD_DATA))
    seen = receiver.seen("/ok/a")
    for n, data in enumerate(ODD_DATA):
        body = b'{"type":"odd","timestamp":"%b","data":%b}' % (stamp.encode(), data)
        assert seen[f"e{n}"].sha256 == hashlib.sha256(body).hexdigest(), data
        assert seen[f"e{n}"].good == 1


def test_duplicates_and_conflicts_are_told_apart_over_a_crash(daemon: Daemon, receiver: Receiver) -> None:
    """The same event again changes nothing; the same id with other content is refused; kill -9 forgets neither."""
    daemon.start()
    daemon.endpoint(receiver.url("/ok/a"))
    event = {"id": "e", "type": "t", "data": {"n": 1}}
    for life in range(2):
        with daemon.events() as producer:
            first = producer.ask(event)
            assert first["deliveries"] == 1
            assert first.get("duplicate", False) == (life == 1)
            assert producer.ask(event)["duplicate"]
            assert producer.ask(event | {"data": {"n": 2}})["error"]["code"] == "conflict"
            assert not producer.ask(event | {"tenant": f"other{life}"}).get("duplicate")
        daemon.restart()
    daemon.wait_status("e", "succeeded", tenant="default")
    assert receiver.path("/ok/a")["ids"] == 1


def test_who_sent_an_event_is_on_record(daemon: Daemon) -> None:
    """The kernel's word for the producer's user, group and process is kept with the event."""
    daemon.start()
    daemon.emit(id="e")
    shown = daemon.get("/api/v1/events/e")
    found = json.dumps(shown)
    assert f'"uid": {os.getuid()}' in found
    assert f'"pid": {os.getpid()}' in found


def test_events_come_in_over_the_control_socket_too(daemon: Daemon, receiver: Receiver) -> None:
    """One event as JSON, many as NDJSON, each answered as on the events socket, durable as there."""
    daemon.start()
    daemon.endpoint(receiver.url("/ok/a"))
    status, answer = daemon.api("POST", "/api/v1/events", {"id": "one", "type": "t", "data": {}})
    assert status in (200, 201, 202)
    assert answer["deliveries"] == 1
    status, problem = daemon.api("POST", "/api/v1/events", {"type": "t"})
    assert (status, problem["status"]) == (422, 422)
    receiver.wait_for("/ok/a", ids=1)


def test_a_producer_that_never_reads_its_answers_stops_only_itself(daemon: Daemon, receiver: Receiver) -> None:
    """Back-pressure is by not reading: the flooding producer blocks, another one is served meanwhile."""
    daemon.start()
    daemon.endpoint(receiver.url("/ok/a"), events=["good"])
    flood = daemon.events()
    flood.socket.settimeout(2)
    line = b'{"type":"flood","data":{"pad":"' + b"x" * 2000 + b'"}}\n'
    with flood:
        with pytest.raises(TimeoutError):
            flood.write(line * 50_000)
        assert daemon.emit(id="good", type="good")["ok"]
        receiver.wait_for("/ok/a", ids=1)
