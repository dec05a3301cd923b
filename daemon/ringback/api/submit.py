"""``POST /api/v1/events``: one event, or NDJSON; answers as the events socket does.

Rules: an answer comes after the commit. One event answers 200 or the problem its code is; NDJSON answers 200 and one
line for each line, in order, whatever their codes. Bounded: the body, the lines that wait for their answer, and the
lines looked at before everybody else has a turn: a body of nothing but blanks or refusals waits for nothing by itself.
Must not know: what an event may hold; the intake judges.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from ringback.api.access import access_of
from ringback.api.deps import Deps, deps_of
from ringback.api.problems import BROKEN_BODY, STATUS, Invalid, answer, problem
from ringback.api.reading import query, read_bytes, refuse_encoded
from ringback.core.model import Peer
from ringback.kit.clock import Clock
from ringback.service.endpoint_fields import Problem

NDJSON = "application/x-ndjson"
#: Of one NDJSON body.
MAX_NDJSON_BYTES = 67_108_864
#: Lines of one request that wait for their answer; then it isn't read on.
MAX_UNANSWERED = 1024
#: Lines of one request looked at in one turn of the loop; refusing that many takes some milliseconds.
LINES_A_TURN = 64
#: Blanks around one event that are forgiven.
MARGIN_BYTES = 1024

_PEERCRED = struct.Struct("3i")


async def submit(request: web.Request) -> web.StreamResponse:
    """Take what the body holds."""
    query(request, {})
    deps = deps_of(request)
    refuse_encoded(request)
    if request.content_type == NDJSON:
        return await _many(request, deps)
    if request.content_type not in ("application/json", "application/octet-stream"):  # the latter: none was given
        return problem("unsupported_media_type", f"send application/json or {NDJSON}")
    line = (await read_bytes(request, deps.max_event_bytes + MARGIN_BYTES)).strip(b" \t\r\n")
    return _one(await _handle(deps, line, peer_of(request), access_of(request).tenant))


def _one(line: bytes) -> web.Response:
    told: dict[str, Any] = msgspec.json.decode(line)
    if told["ok"]:
        return answer(told)
    error = told["error"]
    problems = [Problem((error["field"],), error["message"])] if "field" in error else []
    code = error["code"]
    return problem(code, error["message"], problems, status=STATUS.get(code, 422))


async def _many(request: web.Request, deps: Deps) -> web.StreamResponse:
    """One answer line for each line, streamed as they come, so that a large body is never held whole."""
    response = web.StreamResponse(headers={"Content-Type": NDJSON})
    await response.prepare(request)
    peer, tenant = peer_of(request), access_of(request).tenant
    window: list[asyncio.Future[bytes]] = []
    async for line in _lines(request, deps.max_event_bytes, deps.clock):
        await deps.intake.relieved()
        window.append(_refused(deps, line) if isinstance(line, Invalid) else _handle(deps, line, peer, tenant))
        if len(window) >= MAX_UNANSWERED:
            await response.write(b"".join([await one for one in window]))
            window.clear()
    if window:
        await response.write(b"".join([await one for one in window]))
    await response.write_eof()
    return response


async def _lines(request: web.Request, max_line: int, clock: Clock) -> AsyncIterator[bytes | Invalid]:
    """The lines of a body, blank ones left out; an unterminated last line counts, for a body has an end.

    Everybody else has a turn after each ``LINES_A_TURN``, blank ones too.
    A line that is too long is one ``Invalid`` and its tail is never an event. A body that is too long ends with one,
    and so does one whose chunks are broken: what came together with the broken one may be unread, and what was begun of
    a line there is never an event.
    """
    try:
        async for line in _whole_lines(request, max_line, clock):
            yield line
    except HttpProcessingError:
        yield Invalid("invalid_json", f"{BROKEN_BODY}; the rest was not read")


async def _whole_lines(request: web.Request, max_line: int, clock: Clock) -> AsyncIterator[bytes | Invalid]:
    """As above; raises HttpProcessingError at a broken chunk."""
    held = bytearray()
    size = looked_at = 0
    skipping = False
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > MAX_NDJSON_BYTES:
            yield Invalid("too_large", f"a body may have at most {MAX_NDJSON_BYTES} bytes; the rest was not read")
            return
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            held += part
            if not skipping and len(held) > max_line + 1:
                yield _too_long(max_line)
            elif not skipping and (line := bytes(held).removesuffix(b"\r")).strip(b" \t\r"):
                yield line
            held.clear()
            skipping = False
            looked_at += 1
            if looked_at % LINES_A_TURN == 0:
                await clock.sleep(0)
        if not skipping:
            held += rest
        if len(held) > max_line + 1:
            yield _too_long(max_line)
            held.clear()
            skipping = True
    if held.strip(b" \t\r"):
        yield bytes(held).removesuffix(b"\r")


def _too_long(max_line: int) -> Invalid:
    return Invalid("too_large", f"a line may have at most {max_line} bytes")


def _handle(deps: Deps, line: bytes, peer: Peer, tenant: str | None) -> asyncio.Future[bytes]:
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def answer_once(told: bytes) -> None:
        if not answered.done():  # the caller may have gone away meanwhile
            answered.set_result(told)

    deps.intake.handle(line, peer, answer_once, tenant)
    return answered


def _refused(deps: Deps, invalid: Invalid) -> asyncio.Future[bytes]:
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    answered.set_result(deps.intake.refuse(invalid.refusal.code, invalid.refusal.message))
    return answered


def peer_of(request: web.Request) -> Peer:
    """Who sent it: the kernel's word for a Unix socket, nothing more for others."""
    sock = request.transport.get_extra_info("socket") if request.transport else None
    if sock is None or sock.family != socket.AF_UNIX:
        return Peer("api")
    pid, uid, gid = _PEERCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
    return Peer("api", uid=uid, gid=gid, pid=pid)
