"""A receiver that misbehaves on command: the URL's first path segment names what it does.

Runs inside a test (``async with HostileServer() as server``) or as a process of its own
(``python -m tests.harness.hostile_server [--port N] [--seconds N]`` prints its base URL and serves). Everything is on
loopback. What comes before a request (refusing, never accepting, stalling TLS) has helpers of its own at the end.
"""

import argparse
import asyncio
import contextlib
import gzip
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
EMPTY = b"Content-Length: 0\r\n\r\n"
OK = HEAD + b"Content-Length: 2\r\n\r\nok"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
MAX_REQUEST_BYTES = 64 * 1024 * 1024
TRICKLE_PAUSE_S = 0.02
FLOOD_BYTES = 64 * 1024


@dataclass
class Seen:
    """One request as it came: ``connection`` and ``turn`` count from 1."""

    method: str
    path: str
    query: dict[str, str]
    headers: list[tuple[str, str]]
    body: bytes
    head: bytes
    connection: int
    turn: int


@dataclass
class Talk:
    """One request's side of the conversation."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    seen: Seen
    argument: str = ""

    async def say(self, data: bytes) -> None:
        """Write and let it go out."""
        self.writer.write(data)
        await self.writer.drain()

    async def for_ever(self, data: bytes, pause_s: float = 0.0) -> None:
        """Repeat until the client has had enough."""
        while True:
            await self.say(data)
            await asyncio.sleep(pause_s)

    def reset(self) -> None:
        """End the connection with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def wait_for_end(self) -> None:
        """Stay silent until the client goes."""
        while await self.reader.read(65536):
            pass


Script = Callable[[Talk], Awaitable[bool | None]]  #: True keeps the connection for a next request
SCRIPTS: dict[str, Script] = {}
#: what is done as soon as the request's head is there, before its body is read
EARLY: dict[str, Script] = {}


def script(name: str) -> Callable[[Script], Script]:
    """Register what a path does."""

    def register(function: Script) -> Script:
        SCRIPTS[name] = function
        return function

    return register


def constant(name: str, data: bytes, *, keep: bool = False) -> None:
    """Register a path that answers the same bytes, then closes or waits for a next request."""

    async def answer(talk: Talk) -> bool:
        await talk.say(data)
        return keep

    SCRIPTS[name] = answer


def endless(name: str, data: bytes, *, first: bytes = b"", pause_s: float = 0.0) -> None:
    """Register a path that begins with ``first`` and never stops repeating ``data``."""

    async def answer(talk: Talk) -> None:
        await talk.say(first)
        await talk.for_ever(data, pause_s)

    SCRIPTS[name] = answer


constant("ok", OK, keep=True)
constant("until-eof", HEAD + b"\r\nno length, just an end")
constant("interim", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK, keep=True)
constant("half-a-head", b"HTTP/1.1 200 OK\r\nContent-")
constant("half-a-body", HEAD + b"Content-Length: 100\r\n\r\nonly this")
constant("half-a-chunk", CHUNKED + b"20\r\nonly this")
constant("garbage", bytes(range(256)) * 4)
constant("http09", b"<html>hello</html>")
constant("tls-bytes", b"\x15\x03\x03\x00\x02\x02\x28" * 3)
constant("two-lengths", HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nokk")
constant("length-and-chunked", HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
constant("nul-in-header", HEAD + b"X: a\0b\r\nContent-Length: 2\r\n\r\nok")
constant("raw-header", HEAD + b"X: \xff\xfe\r\nY: \xc3\xa4\r\nContent-Length: 4\r\n\r\n\xff\x00\xfe\x80")
constant("overflowing-length", HEAD + b"Content-Length: 99999999999999999999\r\n\r\nok")
constant("cookies", HEAD + b"".join(b"Set-Cookie: c%d=v; Path=/\r\n" % n for n in range(120)) + EMPTY)
constant("many-headers", HEAD + b"".join(b"H%d: v\r\n" % n for n in range(500)) + EMPTY)
constant("long-headers", HEAD + b"".join(b"H%d: %s\r\n" % (n, b"v" * 1000) for n in range(20)) + EMPTY)
constant("switching", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw bytes")
constant("unasked", OK + b"HTTP/1.1 500 Smuggled\r\nContent-Length: 0\r\n\r\n", keep=True)
endless("endless-100", b"HTTP/1.1 100 Continue\r\n\r\n" * (FLOOD_BYTES // 25))
endless("endless-103", b"HTTP/1.1 103 Early Hints\r\n\r\n" * (FLOOD_BYTES // 28))
endless("endless-header", b"v" * FLOOD_BYTES, first=HEAD + b"X: ")
endless("endless-reason", b"v" * FLOOD_BYTES, first=b"HTTP/1.1 200 ")
endless("header-flood", b"A: b\r\n" * (FLOOD_BYTES // 6), first=HEAD)
endless("wide-head", b"W: %s\r\n" % (b"v" * 8000), first=HEAD)
endless("endless-extension", b"e" * FLOOD_BYTES, first=CHUNKED + b"2;")
endless("late-extension", b"e" * FLOOD_BYTES, first=CHUNKED + b"2\r\nok\r\n2;")
endless("endless-trailers", b"T: v\r\n" * (FLOOD_BYTES // 6), first=CHUNKED + b"2\r\nok\r\n0\r\n")
endless("endless-body", b"b" * FLOOD_BYTES, first=HEAD + b"\r\n")
endless("endless-promise", b"p" * FLOOD_BYTES, first=HEAD + b"Content-Length: 9999999999999\r\n\r\n")
endless("trickle-head", b"h", first=HEAD + b"X: ", pause_s=TRICKLE_PAUSE_S)
endless("trickle-body", b"b", first=HEAD + b"Content-Length: 100000\r\n\r\n", pause_s=TRICKLE_PAUSE_S)
endless("trickle-interim", b"HTTP/1.1 100 Continue\r\n\r\n", pause_s=TRICKLE_PAUSE_S)


@script("status")
async def _status(talk: Talk) -> bool:
    status = talk.argument.encode()
    body = b"" if status in {b"204", b"304"} else b"Content-Length: 4\r\n\r\nbody"
    await talk.say(b"HTTP/1.1 %s Whatever\r\n%s" % (status, body or b"\r\n"))
    return True


@script("bad-chunk")
async def _bad_chunk(talk: Talk) -> None:
    await talk.say(CHUNKED + b"4\r\nokay\r\n")
    await asyncio.sleep(0.02)
    await talk.say(b"zz\r\n")


@script("interims")
async def _interims(talk: Talk) -> bool:
    await talk.say(b"HTTP/1.1 103 Early Hints\r\n\r\n" * int(talk.argument) + OK)
    return True


@script("echo")
async def _echo(talk: Talk) -> bool:
    seen = talk.seen
    body = json.dumps({"method": seen.method, "path": seen.path, "headers": seen.headers, "turn": seen.turn}).encode()
    await talk.say(HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), b"" if seen.method == "HEAD" else body))
    return True


@script("silent")
async def _silent(talk: Talk) -> None:
    await talk.wait_for_end()


@script("hang-after-head")
async def _hang_after_head(talk: Talk) -> None:
    await talk.say(HEAD + b"Content-Length: 10\r\n\r\n")
    await talk.wait_for_end()


@script("hang-first")
async def _hang_first(talk: Talk) -> bool:
    if talk.seen.turn > 1:
        await talk.wait_for_end()
        return False
    await talk.say(OK)
    return True


@script("close")
async def _close(_talk: Talk) -> None:
    return


@script("reset")
async def _reset(talk: Talk) -> None:
    talk.reset()


@script("reset-mid-head")
async def _reset_mid_head(talk: Talk) -> None:
    await talk.say(b"HTTP/1.1 200 OK\r\nX: y")
    await asyncio.sleep(0.02)
    talk.reset()


@script("reset-mid-body")
async def _reset_mid_body(talk: Talk) -> None:
    await talk.say(HEAD + b"Content-Length: 100\r\n\r\nonly this")
    await asyncio.sleep(0.02)
    talk.reset()


@script("big-body")
async def _big_body(talk: Talk) -> bool:
    size = int(talk.argument or 1024 * 1024)
    await talk.say(HEAD + b"Content-Length: %d\r\n\r\n" % size + b"b" * size)
    return True


@script("tiny-chunks")
async def _tiny_chunks(talk: Talk) -> bool:
    await talk.say(CHUNKED + b"1\r\nt\r\n" * int(talk.argument or 3000) + b"0\r\n\r\n")
    return True


@script("gzip-bomb")
async def _gzip_bomb(talk: Talk) -> bool:
    bomb = gzip.compress(bytes(32 * 1024 * 1024), 9)
    await talk.say(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)
    return True


@script("redirect")
async def _redirect(talk: Talk) -> bool:
    to = talk.seen.query["to"].encode()
    await talk.say(b"HTTP/1.1 307 Elsewhere\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % to)
    return True


@script("stale")
async def _stale(talk: Talk) -> bool:
    """Answer, then close at the very moment the next request arrives, unread."""
    if talk.seen.turn > 1:
        return False
    await talk.say(OK)
    return True


@script("stale-reset")
async def _stale_reset(talk: Talk) -> bool:
    if talk.seen.turn > 1:
        talk.reset()
        return False
    await talk.say(OK)
    return True


@script("stale-half-head")
async def _stale_half_head(talk: Talk) -> bool:
    """Close a reused connection after the first bytes of a response."""
    if talk.seen.turn > 1:
        await talk.say(b"HTTP/1.1 2")
        return False
    await talk.say(OK)
    return True


@script("linger")
async def _linger(talk: Talk) -> bool:
    """Answer, and close the idle connection some milliseconds later."""
    await talk.say(OK)
    asyncio.get_running_loop().call_later(float(talk.argument or 5) / 1000, talk.writer.close)
    return True


@script("late-unasked")
async def _late_unasked(talk: Talk) -> bool:
    """Answer, and a little later answer again without having been asked."""
    if talk.seen.turn == 1:
        await talk.say(OK)
        await asyncio.sleep(0.03)
        await talk.say(b"HTTP/1.1 500 Smuggled\r\nContent-Length: 0\r\n\r\n")
    else:
        await talk.say(OK)
    return True


async def _early_answer(talk: Talk) -> bool:
    """Refuse a body unread, on a connection that claims to be fit for more."""
    await talk.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    await asyncio.sleep(0.5)
    return False


EARLY["early-answer"] = _early_answer


@dataclass
class HostileServer:
    """The server; ``requests`` and ``connections`` tell what reached it."""

    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    port: int = 0
    requests: list[Seen] = field(default_factory=list)
    connections: int = 0

    async def __aenter__(self) -> Self:
        """Listen."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, self.host, self.port, ssl=self.tls, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the listener and every connection."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, path: str, host: str = "") -> str:
        """The URL that makes it do ``path``."""
        shown = host or (f"[{self.host}]" if ":" in self.host else self.host)
        return f"{'https' if self.tls else 'http'}://{shown}:{self.port}/{path}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer, self.connections))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        turn = 0
        try:
            keep: bool | None = True
            while keep:
                turn += 1
                keep = await self._one(reader, writer, connection, turn)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client went away, as it may
        finally:
            writer.close()

    async def _one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int, turn: int
    ) -> bool | None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen = _parse(head, connection, turn)
        _, name, argument, *_ = [*seen.path.split("/"), "", ""]
        talk = Talk(reader, writer, seen, argument)
        if name in EARLY:
            self.requests.append(seen)
            return await EARLY[name](talk)
        length = int({name.lower(): value for name, value in seen.headers}.get("content-length", 0))
        seen.body = await reader.readexactly(min(length, MAX_REQUEST_BYTES))
        self.requests.append(seen)
        return await SCRIPTS[name](talk)


def _parse(head: bytes, connection: int, turn: int) -> Seen:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    parts = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Seen(method, parts.path, query, headers, b"", head, connection, turn)


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


async def _main(port: int, seconds: float | None) -> None:
    async with HostileServer(port=port) as server:
        print(server.url(""), flush=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=None)
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(arguments.port, arguments.seconds))
