"""A small HTTP proxy on loopback: CONNECT and absolute form, with a password if it is given one; or a hostile one.

``async with TestingProxy(...) as proxy`` runs it in the test's loop, ``with TestingProxy(...).in_thread() as proxy`` in
a thread of its own. ``names`` says where names lead that only the proxy knows. A script of ``HOSTILE`` takes the place
of the answer to CONNECT.
"""

import asyncio
import base64
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from tests.harness.listening import Listening

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

PIECE_BYTES = 65536


@dataclass(frozen=True)
class Asked:
    """One request's head as the proxy got it."""

    method: str
    target: str
    headers: dict[str, str]


@dataclass
class TestingProxy(Listening):
    """The proxy; ``requests`` and ``connections`` tell what reached it. ``refuse``: a status for everything."""

    __test__ = False

    credentials: str | None = None
    names: dict[str, int] = field(default_factory=dict)
    refuse: int | None = None
    script: Script | None = None
    requests: list[Asked] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)  #: set by the first request

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[Self]:
        """Run it beside a test that has no loop."""
        ready, ended = threading.Event(), asyncio.Event()
        loop = asyncio.new_event_loop()

        async def serve() -> None:
            async with self:
                ready.set()
                await ended.wait()

        thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
        thread.start()
        try:
            assert ready.wait(60)
            yield self
        finally:
            loop.call_soon_threadsafe(ended.set)
            thread.join()
            loop.close()

    @property
    def targets(self) -> list[str]:
        """What was asked for, in order."""
        return [f"{asked.method} {asked.target}" for asked in self.requests]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._guarded(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # one of the two went away, as they may
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked, rest = await self._head(reader)
        status = self._judge(asked)
        if self.script is not None:
            await self.script(reader, writer)
            return
        if status != 200:
            writer.write(f"HTTP/1.1 {status} {asked.headers.get('proxy-authorization', 'No')}\r\n\r\n".encode())
            await writer.drain()
            return
        tunnel = asked.method == "CONNECT"
        place = asked.target if tunnel else urlsplit(asked.target).netloc
        name, _, port = place.partition(":")
        receiver, sender = await asyncio.open_connection("127.0.0.1", self.names.get(name) or int(port or 80))
        back = asyncio.create_task(_pump(receiver, writer))
        try:
            if tunnel:
                writer.write(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
                await _pump(reader, sender)
            else:
                await self._forward(asked, rest, reader, sender)
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            sender.transport.abort()

    async def _forward(
        self, asked: Asked, rest: bytes, reader: asyncio.StreamReader, sender: asyncio.StreamWriter
    ) -> None:
        """Requests in absolute form, one after the other; answers go back as they come."""
        while True:
            path = asked.target.split("/", 3)[3]
            sender.write(f"{asked.method} /{path} HTTP/1.1\r\n".encode() + rest)
            sender.write(await reader.readexactly(int(asked.headers.get("content-length", 0))))
            asked, rest = await self._head(reader)

    async def _head(self, reader: asyncio.StreamReader) -> tuple[Asked, bytes]:
        """One head, noted; and its headers as they are to be passed on."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        pairs = [line.partition(": ") for line in lines[1:] if line]
        asked = Asked(method, target, {name.lower(): value for name, _, value in pairs})
        self.requests.append(asked)
        self.asked.set()
        passed_on = [line for line in lines[1:-2] if not line.lower().startswith("proxy-")]
        return asked, "\r\n".join([*passed_on, "", ""]).encode("latin-1")

    def _judge(self, asked: Asked) -> int:
        if self.refuse is not None:
            return self.refuse
        if self.credentials is None:
            return 200
        wanted = f"Basic {base64.b64encode(self.credentials.encode()).decode()}"
        return 200 if asked.headers.get("proxy-authorization") == wanted else 407


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(PIECE_BYTES):
        writer.write(data)
        await writer.drain()
    writer.transport.abort()


def _says(data: bytes, *, for_ever: bytes = b"") -> Script:
    """Say this, then the other for ever, in large pieces: each is a system call; without it hang up."""
    piece = for_ever * (PIECE_BYTES // max(1, len(for_ever)))

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        while piece:
            writer.write(piece)
            await writer.drain()

    return script


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Say nothing until the client goes."""
    await reader.read()


async def _reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


#: What a proxy may do instead of opening a tunnel, and what is said of it.
HOSTILE: dict[str, tuple[Script, str]] = {
    "an endless head": (_says(b"HTTP/1.1 200 OK\r\n", for_ever=b"X: " + b"x" * 5000 + b"\r\n"), "65536 bytes of head"),
    "an endless line": (_says(b"HTTP/1.1 200 ", for_ever=b"x" * 5000), "65536 bytes of head"),
    "endless interim answers": (_says(b"", for_ever=b"HTTP/1.1 103 Early Hints\r\n\r\n"), "32 interim responses"),
    "another protocol": (_says(b"SSH-2.0-OpenSSH_9.2\r\n"), "not HTTP"),
    "no status": (_says(b"HTTP/1.1 OK\r\n\r\n"), "not HTTP"),
    "noise": (_says(b"\x00\xff\r\n\r\n"), "not HTTP"),
    "hanging up at once": (_says(b""), "closed the connection"),
    "hanging up midway": (_says(b"HTTP/1.1 200 OK\r\nVia: te"), "closed the connection"),
    "a reset": (_reset, "the connection to the proxy broke"),
    "more than its answer": (_says(b"HTTP/1.1 200 OK\r\n\r\nhello"), "more than its answer"),
}
