"""The calls under ``/api/v1/tokens``: the operator's, on the control socket.

Rules: a token's text is in the answer to its making and nowhere else.
Must not know: what a token is good for.
"""

from typing import Any

from aiohttp import web

from ringback.api.deps import deps_of
from ringback.api.problems import answer, refused
from ringback.api.reading import DEFAULT_LIMIT, id_cursor, make_cursor, no_body, paging, query, read_optional
from ringback.core.times import rfc3339
from ringback.core.tokens import Token
from ringback.service.endpoint_fields import Refusal

_CURSOR = "token"
FILTERS = paging(id_cursor(_CURSOR))


async def create(request: web.Request) -> web.Response:
    """201 with the token, this once."""
    query(request, {})
    made = await deps_of(request).tokens.add(await read_optional(request))
    if isinstance(made, Refusal):
        return refused(made)
    token, text = made
    return answer({**_view(token), "token": text}, 201)


async def index(request: web.Request) -> web.Response:
    """A page, newest first, without the tokens themselves."""
    given = query(request, FILTERS)
    limit = given.get("limit", DEFAULT_LIMIT)
    found = deps_of(request).tokens.newest_first(given.get("cursor"))
    cursor = make_cursor(_CURSOR, found[limit - 1].id) if len(found) > limit else None
    return answer({"data": [_view(token) for token in found[:limit]], "next_cursor": cursor})


async def delete(request: web.Request) -> web.Response:
    """204; its bearer is refused from now on."""
    query(request, {})
    await no_body(request)
    done = await deps_of(request).tokens.remove(request.match_info["id"])
    return refused(done) if isinstance(done, Refusal) else web.Response(status=204)


def _view(token: Token) -> dict[str, Any]:
    return {"id": token.id, "tenant": token.tenant, "created_at": rfc3339(token.created_at_ms)}
