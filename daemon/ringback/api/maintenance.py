"""The calls under ``/api/v1/db``: a backup, a check, pruning by hand, and what a restore holds. The operator's.

Rules: they are answered on the control socket only. A backup goes out as bytes, so that it lies where the caller wants
it, with the caller's rights: the daemon writes nowhere but in its own folders.
Must not know: SQL, how a copy is made.
"""

import asyncio
from typing import Any

from aiohttp import web

from ringback.api.deps import deps_of
from ringback.api.problems import answer, refused
from ringback.api.reading import no_body, query, read_optional
from ringback.core.times import rfc3339
from ringback.service.endpoint_fields import Refusal
from ringback.store.restore import OwedTo

CHUNK_BYTES = 1024 * 1024
CONTENT_TYPE = "application/vnd.sqlite3"
#: Receivers named in the answer about a restore; the rest are counted.
MAX_OWED_SHOWN = 1000


async def backup(request: web.Request) -> web.StreamResponse:
    """200 with a copy of the database: everything committed when the call came."""
    query(request, {})
    await no_body(request)
    async with deps_of(request).maintenance.backup() as made:
        if isinstance(made, Refusal):
            return refused(made)
        file, contents = made
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE, "Content-Length": str(contents.size)})
        await response.prepare(request)
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            await response.write(chunk)  # as fast as it is taken
        await response.write_eof()
        return response


async def keyring(request: web.Request) -> web.Response:
    """200 with a copy of the keyring."""
    query(request, {})
    await no_body(request)
    return web.Response(body=await deps_of(request).maintenance.keyring(), content_type=CONTENT_TYPE)


async def check(request: web.Request) -> web.Response:
    """200 with what was found, sound or not."""
    query(request, {})
    await no_body(request)
    found = await deps_of(request).maintenance.check()
    return refused(found) if isinstance(found, Refusal) else answer({"ok": not found.problems, **found._asdict()})


async def prune(request: web.Request) -> web.Response:
    """200 with what went in this call; the caller asks again while there is more."""
    query(request, {})
    done = await deps_of(request).maintenance.prune(await read_optional(request))
    return refused(done) if isinstance(done, Refusal) else answer(done)


async def restored(request: web.Request) -> web.Response:
    """200 with what a restore holds, and whom it would be sent to."""
    query(request, {})
    held = deps_of(request).restored
    waiting = await held.owed()
    return answer(
        {
            "restored_at": _time(held.restored_at_ms),
            "taken_at": _time(held.taken_at_ms) if held.restored_at_ms else None,
            "endpoints": held.endpoints,
            "owed": sum(one.owed for one in waiting),
            "owed_to": [view(one) for one in waiting[:MAX_OWED_SHOWN]],
        }
    )


async def resume(request: web.Request) -> web.Response:
    """202: what a restore holds goes out."""
    query(request, {})
    await no_body(request)
    return answer({"resumed": await deps_of(request).restored.resume_all()}, 202)


def view(one: OwedTo) -> dict[str, Any]:
    """Whom how much would be sent to; without an id it is callbacks to one origin."""
    return {"endpoint_id": one.endpoint_id, "tenant": one.tenant, "name": one.name, "owed": one.owed}


def _time(ms: int) -> str | None:
    return rfc3339(ms) if ms else None
