"""Ports of loopback that misbehave before any request: refusing, never accepting, silent, speaking first."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator


@contextlib.contextmanager
def refusing_port(port: int = 0) -> Iterator[int]:
    """A port of 127.0.0.1 that refuses: bound, so that nobody else gets it, but not listening."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        yield sock.getsockname()[1]


@contextlib.contextmanager
def accepting_silence() -> Iterator[int]:
    """A port whose connections are established by the kernel and never spoken to: a stalled TLS handshake."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as sock:
        yield sock.getsockname()[1]


@contextlib.contextmanager
def unaccepting_port(port: int = 0) -> Iterator[int]:
    """A port of 127.0.0.1 whose queue is full: connecting to it hangs."""
    with socket.create_server(("127.0.0.1", port), backlog=0) as sock, contextlib.ExitStack() as stack:
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        yield sock.getsockname()[1]


@contextlib.asynccontextmanager
async def greeting_port(greeting: bytes) -> AsyncIterator[int]:
    """A port that says something as soon as it is connected to, whatever the client wants, then closes."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
