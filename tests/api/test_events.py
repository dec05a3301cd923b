"""Handing events in, and looking at them."""

import asyncio
import json
import os
import socket
from typing import Any

import pytest
from tests.api.parts import MAX_EVENT_BYTES, TIMEOUT_S, Parts
from tests.harness.unix_http import UnixConnection

from ringback.api.submit import LINES_A_TURN

PATH = "/api/v1/events"


def post(parts: Parts, body: bytes | Any, content_type: str) -> tuple[int, bytes]:
    """A POST of bytes, or of chunks, under a media type."""
    connection = UnixConnection(parts.control, TIMEOUT_S)
    try:
        connection.request("POST", PATH, body, {"Content-Type": content_type})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def ndjson(parts: Parts, body: bytes | Any) -> list[Any]:
    """The answer lines of an NDJSON body."""
    status, answers = post(parts, body, "application/x-ndjson")
    assert status == 200
    return [json.loads(line) for line in answers.splitlines()]


def test_one_event_is_answered_as_on_the_socket(parts: Parts) -> None:
    """ok, the id, the number of deliveries; the same id again is a duplicate."""
    parts.endpoint()
    told = parts.event(id="e1")
    assert told == {"ok": True, "id": "e1", "deliveries": 1}
    assert parts.event(id="e1") == {"ok": True, "id": "e1", "deliveries": 1, "duplicate": True}
    assert len(parts.flights.owed) == 1


@pytest.mark.parametrize(
    ("body", "status", "code", "place"),
    [
        (b"{", 400, "invalid_json", None),
        (b"", 400, "invalid_json", None),
        (b'{"type":"a b","data":{}}', 422, "invalid_event", ["type"]),
        (b'{"type":"a"}', 422, "invalid_event", ["data"]),
        (b'{"type":"ringback.test","data":{}}', 422, "invalid_event", ["type"]),
        (b'{"type":"a","data":{},"colour":1}', 422, "unknown_field", ["colour"]),
        (b'{"type":"a","data":{},"order_key":"k"}', 422, "not_supported", ["order_key"]),
        (b'{"type":"a","data":{},"callback":{}}', 422, "invalid_event", ["callback.url"]),
        (b'{"type":"a","data":{},"callback":{"url":"https://10.1.1.1/"}}', 403, "forbidden", ["callback.url"]),
        (b'{"type":"a","data":{"x":"' + b"x" * MAX_EVENT_BYTES + b'"}}', 413, "too_large", None),
        (b'{"type":"a","data":{"x":"' + b"x" * 4 * MAX_EVENT_BYTES + b'"}}', 413, "too_large", None),
    ],
    ids=str,
)
def test_refusals_have_their_status(parts: Parts, body: bytes, status: int, code: str, place: object) -> None:
    """Each of the intake's codes is a problem with its status and the member at fault; nothing is stored."""
    answered, raw = post(parts, body, "application/json")
    told = json.loads(raw)
    assert (answered, told["code"]) == (status, code)
    assert [error["loc"] for error in told.get("errors", [])] == ([place] if place else [])
    assert parts.call("GET", PATH)[1]["data"] == []


def test_a_conflict_is_409(parts: Parts) -> None:
    """The same id with other content is refused; the first stands."""
    parts.event(id="e1")
    status, told = parts.call("POST", PATH, {"type": "a.b", "data": {"n": 2}, "id": "e1"})
    assert (status, told["code"]) == (409, "conflict")


def test_after_the_intake_closed_it_is_503(parts: Parts) -> None:
    """A stopping daemon says so, by name."""
    parts.intake.close()
    status, told = parts.call("POST", PATH, {"type": "a.b", "data": {}})
    assert (status, told["code"]) == (503, "shutting_down")


def test_a_pretty_printed_event_is_one_event(parts: Parts) -> None:
    """Line ends inside one JSON body are only blanks; data is kept byte for byte."""
    body = b'\n{\n  "type": "a.b",\n  "id": "e1",\n  "data": {\n    "big": 18446744073709551616\n  }\n}\n'
    assert post(parts, body, "application/json")[0] == 200
    assert parts.call("GET", f"{PATH}/e1")[1]["data"] == {"big": 18446744073709551616}


def test_other_media_types_are_415(parts: Parts) -> None:
    """A form or a text is no event."""
    status, raw = post(parts, b"type=a", "application/x-www-form-urlencoded")
    assert (status, json.loads(raw)["code"]) == (415, "unsupported_media_type")


def test_ndjson_answers_line_for_line(parts: Parts) -> None:
    """One answer a line in order, blank lines left out, a bad line harms no other, the last needs no line end."""
    lines = (
        b'{"type":"a","data":{},"id":"1"}\n\n{bad\r\n{"type":"a","data":{},"id":"2"}\r\n{"type":"a","data":{},"id":"3"}'
    )
    told = ndjson(parts, lines)
    assert [one.get("id") or one["error"]["code"] for one in told] == ["1", "invalid_json", "2", "3"]


@pytest.mark.parametrize("cut", [1, 7, 1000, 65_536])
def test_ndjson_is_the_same_however_it_is_cut(parts: Parts, cut: int) -> None:
    """A too long line is one too_large and its tail is never an event, wherever the chunks end."""
    long = b'{"type":"a","data":{"x":"' + b"x" * MAX_EVENT_BYTES + b'"}}{"type":"a","data":{},"id":"smuggled"}'
    exact = b'{"type":"a","id":"fits","data":{"x":"%b"}}'
    exact %= b"x" * (MAX_EVENT_BYTES - len(exact) + 2)
    assert len(exact) == MAX_EVENT_BYTES
    lines = (
        b'{"type":"a","data":{},"id":"1"}\n' + long + b"\n" + exact + b'\r\n{"type":"a","data":{},"id":"2"}\n' + long
    )
    if cut == 1:
        lines = lines.replace(b"x" * MAX_EVENT_BYTES, b"x" * MAX_EVENT_BYTES)[:300]
    told = ndjson(parts, (lines[at : at + cut] for at in range(0, len(lines), cut)))
    found = [one.get("id") or one["error"]["code"] for one in told]
    assert found == (["1", "invalid_json"] if cut == 1 else ["1", "too_large", "fits", "2", "too_large"])


def test_many_lines_in_one_body(parts: Parts) -> None:
    """More lines than may wait at once: all are answered, in order."""
    parts.endpoint()
    count = 5000
    told = ndjson(parts, b"".join(b'{"type":"a","data":{},"id":"e%d"}\n' % n for n in range(count)))
    assert [one["id"] for one in told] == [f"e{n}" for n in range(count)]
    assert len(parts.flights.owed) == count


class Turns:
    """The most events refused within one turn of the parts' loop, looked at in every turn until it is over."""

    def __init__(self, parts: Parts) -> None:
        self.most = 0
        self._refused = parts.metrics.events_rejected
        self._over = False

    async def watch(self) -> None:
        """Begin."""
        self._look(0)

    async def end(self) -> None:
        """Look no more."""
        self._over = True

    def _look(self, before: int) -> None:
        now = sum(self._refused.counts.values())
        self.most = max(self.most, now - before)
        if not self._over:
            asyncio.get_running_loop().call_soon(self._look, now)


@pytest.mark.parametrize("blanks", [0, 2 * LINES_A_TURN])
def test_a_body_of_refusals_lets_everybody_else_have_a_turn(parts: Parts, blanks: int) -> None:
    """Lines that nothing is waited for, bad ones and blank ones, are looked at a few a turn of the loop."""
    count = 40 * LINES_A_TURN // (blanks + 1) + 1
    turns = Turns(parts)
    parts.run(turns.watch())
    told = ndjson(parts, (b"\n" * blanks + b"x\n") * count)
    parts.run(turns.end())
    assert [one["error"]["code"] for one in told] == ["invalid_json"] * count
    assert 1 <= turns.most <= max(1, LINES_A_TURN // (blanks + 1))


@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip", "unheard-of"])
def test_a_compressed_body_is_refused_by_name(parts: Parts, content_type: str, encoding: str) -> None:
    """What isn't sent as it is is 415, never unpacked and never read as if it were plain."""
    event = b'{"type":"a","data":{},"id":"packed"}'
    headers = {"Content-Type": content_type, "Content-Encoding": encoding}
    connection = UnixConnection(parts.control, TIMEOUT_S)
    connection.request("POST", PATH, event, headers)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (415, "unsupported_media_type")
    connection.close()
    connection = UnixConnection(parts.control, TIMEOUT_S)
    connection.request("POST", PATH, event, headers | {"Content-Encoding": "Identity"})
    assert connection.getresponse().status == 200
    connection.close()


def test_an_empty_ndjson_body_is_fine(parts: Parts) -> None:
    """No lines, no answers."""
    assert ndjson(parts, b"") == []


def test_an_event_is_shown_with_its_source_and_counts(parts: Parts) -> None:
    """The envelope, the data as written, who handed it in by the kernel's word, and how its deliveries stand."""
    parts.endpoint()
    parts.endpoint()
    parts.event(id="e1", created_at="2026-01-02T03:04:05.678+01:00", expires_at="2030-01-01T00:00:00Z")
    (seq, lane), _ = parts.flights.owed
    parts.attempt(seq, lane)
    status, shown = parts.call("GET", f"{PATH}/e1")
    assert status == 200
    assert shown["created_at"] == "2026-01-02T02:04:05.678Z"
    assert shown["expires_at"] == "2030-01-01T00:00:00.000Z"
    assert shown["deliver_after"] is None
    assert shown["data"] == {"n": 1}
    assert shown["deliveries"] == {"pending": 1, "succeeded": 1}
    assert shown["source"] == {"via": "api", "uid": os.getuid(), "gid": os.getgid(), "pid": os.getpid()}


def test_an_event_is_looked_up_in_its_tenant(parts: Parts) -> None:
    """Ids are unique in a tenant; without one it is the default."""
    parts.event(id="e1", tenant="acme")
    assert parts.call("GET", f"{PATH}/e1")[0] == 404
    assert parts.call("GET", f"{PATH}/e1?tenant=acme")[1]["tenant"] == "acme"
    assert parts.call("GET", f"{PATH}/no")[1]["code"] == "not_found"


def test_events_list_pages_and_filters(parts: Parts) -> None:
    """Newest first, each once; since is inclusive, until exclusive, on created_at."""
    for n in range(6):
        parts.event("even" if n % 2 == 0 else "odd", id=f"e{n}", created_at=f"2026-01-0{n + 1}T00:00:00Z")
    seen, cursor = [], ""
    while True:
        page = parts.call("GET", f"{PATH}?limit=4{cursor}")[1]
        seen += [one["id"] for one in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == ["e5", "e4", "e3", "e2", "e1", "e0"]
    for query, wanted in [
        ("type=odd", ["e5", "e3", "e1"]),
        ("since=2026-01-03T00:00:00Z&until=2026-01-05T00:00:00Z", ["e3", "e2"]),
        ("since=2026-01-06T01:00:00%2B01:00", ["e5"]),
        ("since=2026-01-06T01:00:00+01:00", ["e5"]),
        ("tenant=nobody", []),
    ]:
        assert [one["id"] for one in parts.call("GET", f"{PATH}?{query}")[1]["data"]] == wanted, query


@pytest.mark.parametrize("query", ["since=yesterday", "until=2026-01-01", "status=dead", "limit=1000", "cursor=eA"])
def test_bad_queries(parts: Parts, query: str) -> None:
    """What can't be read is told."""
    assert parts.call("GET", f"{PATH}?{query}")[0] == 422


@pytest.mark.parametrize("path", [PATH, "/api/v1/deliveries"])
def test_a_span_that_ends_before_it_begins_is_refused(parts: Parts, path: str) -> None:
    """It would find nothing, always: both ends are named. One that is empty is a span."""
    early, late = "2026-01-02T00:00:00.000Z", "2026-01-02T00:00:00.001Z"
    status, told = parts.call("GET", f"{path}?since={late}&until={early}")
    assert (status, told["code"]) == (422, "invalid_query")
    assert told["detail"] == f"since: {late} is later than until, {early}"
    assert [problem["loc"] for problem in told["errors"]] == [["query", "since"], ["query", "until"]]
    assert parts.call("GET", f"{path}?since={early}&until={early}")[0] == 200


def test_control_and_events_sockets_speak_to_the_same_daemon(parts: Parts) -> None:
    """An event from the socket is seen through the API."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(parts.events_path)
        sock.sendall(b'{"type":"a","data":{},"id":"s1"}\n')
        assert json.loads(sock.makefile("rb").readline())["ok"]
    assert parts.call("GET", f"{PATH}/s1")[1]["source"]["via"] == "socket"
