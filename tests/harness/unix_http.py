"""HTTP over a Unix socket and JSON, for talking to the daemon's control socket from a test; standard library only."""

import http.client
import json
import socket
import struct
from typing import Any


def connect_unix(path: str, timeout_s: float) -> socket.socket:
    """A connected socket whose every wait is bounded, also the one for room in the listener's queue.

    A socket with Python's own timeout doesn't wait for that room: connect fails at once with EAGAIN.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(timeout_s), 0))
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    sock.settimeout(timeout_s)
    return sock


class UnixConnection(http.client.HTTPConnection):
    """``http.client`` on a Unix socket's path."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the path instead of a host."""
        self.sock = connect_unix(self._path, self.timeout)


def request_json(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """One request; the answer's status and its JSON (None if it has no body). Closes the connection.

    ``body``: bytes are sent as they are, anything else as JSON.
    """
    headers = {} if body is None else {"Content-Type": "application/json"}
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    try:
        connection.request(method, path, body=data, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None
    finally:
        connection.close()
