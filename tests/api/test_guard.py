"""What a TCP client may cost: slow heads, slow bodies, unread answers, too many connections."""

import contextlib
import socket
from typing import Any

import pytest
import structlog
from tests.api.parts import Parts
from tests.harness.waiting import wait_until

TIMEOUT_S = 60


def connect(parts: Parts) -> socket.socket:
    """A connection to the TCP listener."""
    return socket.create_connection(("127.0.0.1", parts.port), timeout=TIMEOUT_S)


def cut_off(lines: list[Any]) -> list[str]:
    """What cut-off connections were waited for."""
    return [line["waited_for"] for line in lines if line["event"] == "api.cut_off"]


def gone(sock: socket.socket) -> bool:
    """Wait for the other side to end the connection."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_never_ends_is_cut_off(parts: Parts, sent: bytes) -> None:
    """Silence and half a head hold a connection for the time of a head, no longer."""
    parts.guard.head_timeout_s = 0.05
    with structlog.testing.capture_logs() as lines, connect(parts) as sock:
        with contextlib.suppress(ConnectionError):  # on a busy machine its time may be over before it is sent
            sock.sendall(sent)
        assert gone(sock)
    assert cut_off(lines) == ["head"]


def test_a_body_that_never_ends_is_cut_off(parts: Parts) -> None:
    """A promise of a body is kept within the time of a body."""
    token = parts.token("acme")
    parts.guard.body_timeout_s = 0.05
    head = f"POST /api/v1/endpoints HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    with structlog.testing.capture_logs() as lines, connect(parts) as sock:
        sock.sendall(f"{head}Content-Length: 99\r\n\r\n{{".encode())
        assert gone(sock)
    assert cut_off(lines) == ["body"]


def test_the_clock_starts_anew_after_each_answer(parts: Parts) -> None:
    """A kept-alive connection that has become idle is closed after the time of a head, and nobody is called slow."""
    with structlog.testing.capture_logs() as lines, connect(parts) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200")
        parts.guard.head_timeout_s = 1.0  # counts from the next answer on
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200")
        assert sock.recv(1) == b""
    assert cut_off(lines) == []


def test_half_a_head_after_an_answer_is_cut_off(parts: Parts) -> None:
    """A second request has no more time than the first, and its slowness is told in the log."""
    told: list[str] = []
    for head_timeout_s in (0.1, 1.0, 10.0):  # more, if this machine took longer to send the half than there was time
        parts.guard.head_timeout_s = TIMEOUT_S
        with structlog.testing.capture_logs() as lines, connect(parts) as sock, contextlib.suppress(ConnectionError):
            for counts_from_here_s in (TIMEOUT_S, head_timeout_s):
                parts.guard.head_timeout_s = counts_from_here_s
                sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert sock.recv(65_536).startswith(b"HTTP/1.1 200")
            sock.sendall(b"GET /healthz HTTP/1.1\r\n")
            assert gone(sock)
        told = cut_off(lines)
        if told:
            break
    assert told == ["head"]


def test_one_connection_too_many_is_told_so(parts: Parts) -> None:
    """503 at once; when another leaves there is room again."""
    parts.guard.max_connections = 1
    with connect(parts) as first:
        first.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert first.recv(65_536).startswith(b"HTTP/1.1 200")
        with connect(parts) as second:
            assert b"overloaded" in second.recv(65_536)
            assert gone(second)
        first.shutdown(socket.SHUT_WR)
        assert gone(first)
    assert parts.tcp("GET", "/healthz")[0] == 200


def test_an_unread_answer_is_given_up(parts: Parts) -> None:
    """A client that asks and doesn't read holds its connection for the time of an answer."""
    token = parts.token()
    for n in range(40):
        parts.event(id=f"e{n}", data={"text": "x" * 60_000})
    parts.guard.write_timeout_s = 0.05
    request = "".join(
        f"GET /api/v1/events/e{n} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n" for n in range(40)
    )
    with structlog.testing.capture_logs() as lines, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(TIMEOUT_S)
        sock.connect(("127.0.0.1", parts.port))
        sock.sendall(request.encode() * 4)
        wait_until(lambda: cut_off(lines), TIMEOUT_S, lambda: str(lines))
        wait_until(lambda: not parts.guard.open, TIMEOUT_S, lambda: "the connection is still counted")
    assert cut_off(lines) == ["answer"]


def test_a_head_too_large_is_refused(parts: Parts) -> None:
    """Neither a long line nor many of them: 400, as a client error."""
    for extra in ("X-Long: " + "x" * 10_000, "\r\n".join(f"X-{n}: y" for n in range(100))):
        with connect(parts) as sock:
            sock.sendall(f"GET /healthz HTTP/1.1\r\nHost: x\r\n{extra}\r\n\r\n".encode())
            assert b" 400 Bad Request" in sock.recv(65_536)


def test_a_refused_body_is_not_read(parts: Parts) -> None:
    """Without a token a large body costs nothing: the answer comes before it was sent, and the connection ends."""
    with connect(parts) as sock:
        sock.sendall(b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n")
        assert sock.recv(65_536).startswith(b"HTTP/1.1 401")
        assert gone(sock)
