"""``/healthz`` and ``/readyz``.

Rules: healthz is 200 while the loop turns; readyz is 503 while starting, draining or unwritable, and says which.
"""

from aiohttp import web

from ringback.api.deps import deps_of
from ringback.api.problems import answer
from ringback.api.reading import query


async def healthz(request: web.Request) -> web.Response:
    """Answering at all is the answer."""
    query(request, {})
    return answer({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Whether events are taken now."""
    query(request, {})
    state = deps_of(request).ready()
    return answer({"status": state}, status=200 if state == "ready" else 503)
