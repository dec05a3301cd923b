"""Answers: JSON, and problems as RFC 9457 has them.

Role: the one place that turns refusals and failures into HTTP. A foreign exception becomes a 500 without its text: the
log has the trace, the caller gets a name.
Must not know: what any call does.
"""

import http
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from ringback.kit.log import get_logger
from ringback.service.endpoint_fields import MAX_TOLD, Problem, Refusal
from ringback.store.errors import QueryTimeout, StoreError

PROBLEM_TYPE = "application/problem+json"

#: The status of a code; what isn't here is 422: understood, and not acceptable.
STATUS = {
    "invalid_json": 400,
    "unauthorized": 401,
    "invalid_endpoint": 422,
    "not_supported": 422,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "erased": 409,
    "too_many_endpoints": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "unknown_outcome": 500,
    "internal_error": 500,
    "query_timeout": 503,
    "overloaded": 503,
    "shutting_down": 503,
    "storage_full": 507,
}

#: Of a body whose chunks can't be told apart.
BROKEN_BODY = "the body breaks off: its chunks are not as HTTP/1.1 has them"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_encode = msgspec.json.Encoder().encode
_log = get_logger()


class Invalid(Exception):  # noqa: N818 - a refusal of one request, raised while it is read, answered by the middleware
    """The request can't be understood. ``problems``: every one that was found."""

    def __init__(self, code: str, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.refusal = Refusal(code, message, tuple(problems))


def answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """JSON; ``msgspec.Raw`` members go out as they stand."""
    return web.Response(body=_encode(value), status=status, content_type="application/json", headers=headers)


def problem(code: str, detail: str, problems: Sequence[Problem] = (), *, status: int | None = None) -> web.Response:
    """RFC 9457, with ``code`` and, if given, the first ``MAX_TOLD`` ``errors`` as extension members."""
    status = status or STATUS.get(code, 422)
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    if problems:
        body["errors"] = [{"loc": list(p.loc), "msg": p.msg} for p in problems[:MAX_TOLD]]
    return web.Response(body=_encode(body), status=status, content_type=PROBLEM_TYPE)


def refused(refusal: Refusal) -> web.Response:
    """The problem a service's refusal is. A url the egress rules forbid is 422: nobody lacks a permission."""
    status = 422 if refusal.code == "forbidden" else None
    return problem(refusal.code, refusal.message, refusal.problems, status=status)


@web.middleware
async def problems_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every failure its problem document."""
    try:
        return await handler(request)
    except Exception as failure:  # noqa: BLE001 - told apart and answered below; the listener goes on
        return _failed(request, failure)


def _failed(request: web.Request, failure: Exception) -> web.Response:
    match failure:
        case Invalid():
            known = failure.refusal
            return problem(known.code, known.message, known.problems)
        case web.HTTPException():
            return _routed(failure, request)
        case StoreError():
            return problem(failure.code, failure.message)
        case QueryTimeout():
            return problem("query_timeout", "reading this took too long: ask for less")
        case HttpProcessingError() | web.RequestPayloadError() | ConnectionError():
            return _incomplete(failure)
    _log.exception("api.bug", method=request.method, path=request.path, exc_info=failure)
    return problem("internal_error", "internal error; the log has it")


def _incomplete(failure: Exception) -> web.Response:
    """The head was good, and the rest never came."""
    why = BROKEN_BODY if isinstance(failure, HttpProcessingError) else "the connection ended before the request did"
    told = problem("invalid_request", why, status=400)
    told.force_close()
    return told


def _routed(known: web.HTTPException, request: web.Request) -> web.Response:
    """What the router or the server itself refuses."""
    code = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(known.status, "invalid_request")
    detail = {
        404: f"there is no {request.path}; GET /openapi.json lists every call",
        405: f"{request.path} does not take {request.method}",
    }.get(known.status, known.reason)
    answered = problem(code, detail, status=known.status)
    if "Allow" in known.headers:
        answered.headers["Allow"] = known.headers["Allow"]
    return answered
