"""A tunnel through an HTTP proxy: CONNECT, and its answer.

Rules: the answer's head is bounded in bytes and in interim responses, its time by the caller's deadline; nothing after
it is read, so that the first byte beyond is the receiver's. What a proxy says is never repeated: it may hold what we
sent it.
Must not know: who is connected to, TLS, the egress rules.
"""

import asyncio
import re
import socket
from http import HTTPStatus

from ringback.core.proxy import Proxy
from ringback.transports.connection import MAX_INTERIM_RESPONSES

RECEIVE_BYTES = 4096

_BEGIN = b"HTTP/1."
_END = b"\r\n\r\n"
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?(?:\r\n|$)")


class TunnelError(Exception):
    """The proxy didn't open the tunnel; the text says why, in our words."""


def refusal(status: int) -> str:
    """What a proxy's refusal is called; its own words are left out."""
    try:
        words = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        words = str(status)
    return f"the proxy refused: {words}"


async def open_tunnel(sock: socket.socket, proxy: Proxy, place: str, max_head_bytes: int) -> None:
    """Ask the proxy at the other end of ``sock`` for a tunnel to ``place`` (``host:port``).

    Raises TunnelError, or OSError if the connection to the proxy broke. The socket stays the caller's.
    """
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, _request(proxy, place))
    status = await _answer(sock, max_head_bytes)
    if not 200 <= status < 300:
        raise TunnelError(refusal(status))


def _request(proxy: Proxy, place: str) -> bytes:
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    return "\r\n".join([*lines, "", ""]).encode()


async def _answer(sock: socket.socket, max_head_bytes: int) -> int:
    """The status of the final response; nothing of what follows it may have come yet."""
    loop, came, room = asyncio.get_running_loop(), bytearray(), max_head_bytes
    for _ in range(MAX_INTERIM_RESPONSES + 1):
        searched = 0
        while (end := came.find(_END, searched)) < 0:
            if not came.startswith(_BEGIN[: len(came)]):
                raise TunnelError("the proxy's answer is not HTTP")
            if room <= 0:
                raise TunnelError(f"the proxy sent more than {max_head_bytes} bytes of head")
            searched = max(0, len(came) - len(_END) + 1)
            data = await loop.sock_recv(sock, min(RECEIVE_BYTES, room))
            if not data:
                raise TunnelError("the proxy closed the connection before it had answered")
            room -= len(data)
            came += data
        status = _status(bytes(came[:end]))
        del came[: end + len(_END)]
        if status >= 200:
            if came and status < 300:
                raise TunnelError("the proxy sent more than its answer")
            return status
    raise TunnelError(f"the proxy sent more than {MAX_INTERIM_RESPONSES} interim responses")


def _status(head: bytes) -> int:
    match = _STATUS_LINE.match(head)
    if match is None:
        raise TunnelError("the proxy's answer is not HTTP")
    return int(match[1])
