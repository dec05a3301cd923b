"""What holds for every call: routing, health, problems, limits."""

import asyncio
import json
import re
import socket
from collections.abc import Callable

import pytest
import structlog
from tests.api.parts import Parts
from tests.harness.waiting import wait_until

from ringback.api.app import UNBUILT
from ringback.store.errors import QueryTimeout, StoreError

ID = "019a9c1e-7d0f-7c52-a4b6-0b7f1f0c3d21"


@pytest.mark.parametrize(("method", "path"), UNBUILT)
def test_what_is_not_built_says_so(parts: Parts, method: str, path: str) -> None:
    """A call of CONTRACT's that isn't there answers 501 not_supported, not 404."""
    status, told = parts.call(method, path.replace("{id}", ID), b"{}" if method == "POST" else None)
    assert (status, told["code"]) == (501, "not_supported")


@pytest.mark.parametrize("path", ["/", "/api", "/api/v1", "/api/v1/nothing", "/api/v1/endpoints/", "/api/v2/endpoints"])
def test_unknown_paths_are_404_problems(parts: Parts, path: str) -> None:
    """Not found, as a problem document."""
    status, told = parts.call("GET", path)
    assert (status, told["code"], told["type"]) == (404, "not_found", "about:blank")


def test_a_wrong_method_is_405_with_allow(parts: Parts) -> None:
    """The caller is told which would do."""
    status, told = parts.call("PUT", "/api/v1/endpoints", {})
    assert (status, told["code"]) == (405, "method_not_allowed")


def test_problems_have_their_media_type(parts: Parts) -> None:
    """RFC 9457's own type, so that clients can tell."""
    head = raw(parts, b"GET /api/v1/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"application/problem+json" in head


@pytest.mark.parametrize("asked", [b"GET /healthz HTTP/1.1", b"GET /nothing HTTP/1.1", b"no request at all"])
def test_no_answer_tells_versions(parts: Parts, asked: bytes) -> None:
    """Which releases of what answer is nobody's business."""
    head = raw(parts, asked + b"\r\nHost: x\r\nConnection: close\r\n\r\n").partition(b"\r\n\r\n")[0]
    assert b"Server: ringback\r\n" in head + b"\r\n"
    assert b"Python" not in head
    assert b"aiohttp" not in head


def raw(parts: Parts, request: bytes) -> bytes:
    """Bytes to the control socket, all that comes back."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(parts.control)
        sock.sendall(request)
        answer = b""
        while chunk := sock.recv(65_536):
            answer += chunk
        return answer


def test_health_and_readiness(parts: Parts) -> None:
    """Healthz is 200 while anything answers; readyz says whether events are taken."""
    assert parts.call("GET", "/healthz") == (200, {"status": "ok"})
    for state, status in [("ready", 200), ("starting", 503), ("draining", 503), ("unwritable", 503)]:
        parts.state = state
        assert parts.call("GET", "/readyz") == (status, {"status": state})
        assert parts.call("GET", "/healthz")[0] == 200


def test_a_bug_answers_500_without_its_text_and_the_next_call_works(parts: Parts) -> None:
    """No trace and no message of an exception ever leaves; the listener goes on."""
    keep = parts.deps.endpoints._by_lane
    parts.deps.endpoints._lanes["x"] = 999
    status, told = parts.call("GET", "/api/v1/endpoints/x")
    assert (status, told["code"]) == (500, "internal_error")
    assert "999" not in str(told)
    assert keep == {}
    assert parts.call("GET", "/api/v1/endpoints")[0] == 200


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (StoreError("storage_full", "the disk is full"), 507, "storage_full"),
        (StoreError("unknown_outcome", "it may be stored"), 500, "unknown_outcome"),
        (StoreError("shutting_down", "stopping"), 503, "shutting_down"),
        (QueryTimeout("too long"), 503, "query_timeout"),
    ],
)
def test_failures_of_the_store_have_their_status(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, failure: Exception, status: int, code: str
) -> None:
    """What the store says by name reaches the caller by name."""

    async def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(parts.writer, "run", fail)
    answered, told = parts.call("POST", "/api/v1/endpoints", {"url": "https://a.example.com/"})
    assert (answered, told["code"]) == (status, code)


def test_a_client_that_leaves_midway_harms_nobody(parts: Parts) -> None:
    """Half a body, then gone: the next caller is served."""
    for head in (b"POST /api/v1/endpoints", b"POST /api/v1/events"):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(parts.control)
            sock.sendall(
                head + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
            )
    assert parts.call("GET", "/healthz")[0] == 200


def test_verbs_take_no_body(parts: Parts) -> None:
    """A body that would be ignored is refused; an empty object is nothing."""
    made = parts.endpoint()
    path = f"/api/v1/endpoints/{made['id']}/pause"
    assert parts.call("POST", path, {"grace_s": 5})[0] == 422
    assert parts.call("POST", path, {})[0] == 202


def test_the_end_of_serving_closes_idle_connections(parts: Parts) -> None:
    """A kept-alive client must not hold the daemon's stop."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(parts.control)
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200")
        parts.run(asyncio.wait_for(parts._stack.aclose(), 60))
        assert sock.recv(65_536) == b""


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nAuthorization\x00: Bearer private-words\r\n\r\n",
        b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nprivate-words\r\n",
    ],
)
def test_a_malformed_request_leaves_nothing_of_itself_in_the_log(
    parts: Parts, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is refused, and neither its header nor its body is logged with the parser's complaint."""
    with structlog.testing.capture_logs() as told:
        assert b" 400 " in raw(parts, request_bytes).splitlines()[0]
    assert [line["event"] for line in told] == ["api.malformed"]
    assert "private-words" not in str(told)
    assert "private-words" not in caplog.text


CHUNKED = b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: "


def broken_off(
    parts: Parts, head: bytes, begun: bytes, read: Callable[[], object] = lambda: True
) -> tuple[list[bytes], list[str]]:
    """A head and a good chunk; when the daemon has the head, and ``read()`` the chunk, a broken one.

    The answers, and the names of the log's lines.
    """
    with structlog.testing.capture_logs() as told, socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(parts.control)
        # Expect tells when the head was taken: from then on the body's end is waited for
        sock.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
        answer = sock.recv(65_536)
        sock.sendall(b"%x\r\n%b\r\n" % (len(begun), begun))
        wait_until(read, 60, lambda: "the good chunk was not read")
        sock.sendall(b"private-words\r\n")
        while chunk := sock.recv(65_536):
            answer += chunk
    assert b"private-words" not in answer
    assert "private-words" not in str(told)
    went_on, *answers = re.split(rb"HTTP/1.1 (?=[0-9])", answer)[1:]
    assert went_on.startswith(b"100 ")
    return answers, [line["event"] for line in told]


@pytest.mark.parametrize("path", [b"endpoints", b"events"])
def test_a_body_that_breaks_off_midway_is_answered_and_closed(parts: Parts, path: bytes) -> None:
    """A broken chunk after the head: one 400, one line of the log, and nobody waits for the body's end."""
    answers, told = broken_off(parts, b"POST /api/v1/" + path + CHUNKED + b"application/json", b'{"type":')
    assert len(answers) == 1
    assert answers[0].startswith(b"400 ")
    assert b'"code":"invalid_request"' in answers[0]
    assert b"chunks" in answers[0]
    assert told == ["api.malformed"]


def test_lines_before_a_broken_chunk_are_answered(parts: Parts) -> None:
    """NDJSON that breaks off: a line that was taken stands, what was begun is no event, the last answer says why."""
    begun = b'{"type":"a","data":{},"id":"whole"}\n{"type":"a","data":{},"id":"begun"}'

    def taken() -> bool:
        return parts.call("GET", "/api/v1/events/whole")[0] == 200

    answers, told = broken_off(parts, b"POST /api/v1/events" + CHUNKED + b"application/x-ndjson", begun, taken)
    assert [word in answers[0] for word in (b'"id":"whole"', b'"code":"invalid_json"', b"chunks")] == [True] * 3
    assert len(answers) == 1
    assert "api.malformed" in told
    assert parts.call("GET", "/api/v1/events/whole")[0] == 200
    assert parts.call("GET", "/api/v1/events/begun")[0] == 404


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"SSH-2.0-OpenSSH_9.2 private-words\r\n\r\n", 400, "invalid_request"),
        (b"\x16\x03\x01\x02\x00\x01private-words\r\n\r\n", 400, "invalid_request"),
        (b"GET /healthz HTTP/9.9 private-words\r\n\r\n", 400, "invalid_request"),
        (b"GET /healthz HTTP/1.1\r\nprivate-words\r\n\r\n", 400, "invalid_request"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 400, "invalid_request"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 9000 + b"\r\n\r\n", 400, "invalid_request"),
        (b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, "not_found"),
        (b"DELETE /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405, "method_not_allowed"),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, "not_found"),
        (b"GET http://elsewhere/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, "not_found"),
        (
            b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nExpect: more\r\nConnection: close\r\n\r\n",
            417,
            "invalid_request",
        ),
    ],
)
def test_every_refusal_is_a_problem(parts: Parts, request_bytes: bytes, status: int, code: str) -> None:
    """Whatever comes, also what is no request: RFC 9457 with a status and a code, and no byte of a malformed one."""
    head, _, body = raw(parts, request_bytes).partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status
    assert b"Content-Type: application/problem+json" in head
    told = json.loads(body)
    assert (told["status"], told["code"], told["type"]) == (status, code, "about:blank")
    assert b"private-words" not in body


def test_who_asks_before_it_sends_a_body_is_told_to_go_on(parts: Parts) -> None:
    """Curl waits for 100 before a large body; the answer follows."""
    head = b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n"
    told = raw(
        parts, head + b"Content-Type: application/json\r\nContent-Length: 24\r\n\r\n" + b'{"type":"a.b","data":{}}'
    )
    assert told.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 ")
    assert b'"ok":true' in told
