"""What the misbehaving receiver can do, by name; ``hostile_server`` serves them."""

import asyncio
import gzip
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
EMPTY = b"Content-Length: 0\r\n\r\n"
OK = HEAD + b"Content-Length: 2\r\n\r\nok"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
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


@script("bodied")
async def _bodied(talk: Talk) -> bool:
    await talk.say(b"HTTP/1.1 %s Whatever\r\nContent-Length: 4\r\n\r\nbody" % talk.argument.encode())
    return True


@script("bodied-chunks")
async def _bodied_chunks(talk: Talk) -> bool:
    head = b"HTTP/1.1 %s Whatever\r\nTransfer-Encoding: chunked\r\n\r\n" % talk.argument.encode()
    await talk.say(head + b"4\r\nbody\r\n0\r\n\r\n")
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
