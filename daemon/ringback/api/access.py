"""Who calls, and what is there for them.

Role: the bearer token of a request becomes an ``Access``; every route has a ``Rule``; what the rule doesn't give is
refused before the handler runs.
Rules: over TCP everything but ``/healthz`` takes a token. On the control socket nobody needs one, and one that is given
narrows. Things of another tenant are not there: 404, never 403. A route without a rule is the operator's. What was
tried in vain is logged, without the token.
Must not know: how tokens are stored, what any call does.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from aiohttp import web

from ringback.api.deps import Deps, deps_of
from ringback.api.problems import Handler, Invalid, problem
from ringback.core.model import Endpoint
from ringback.core.tokens import Access
from ringback.kit.log import get_logger
from ringback.service.endpoint_fields import Problem

#: Of a path in the log.
MAX_PATH_SHOWN = 200
SCHEME = "bearer"

_log = get_logger()


class Door(StrEnum):
    """Which listener a request came in by."""

    CONTROL = "control"
    TCP = "tcp"


class Rule(StrEnum):
    """Whom a route is for."""

    OPEN = "open"  #: anybody, token or not
    TENANT = "tenant"  #: a tenant, for its own things (the handler narrows), and the operator
    OPERATOR = "operator"  #: the operator
    CONTROL = "control"  #: the operator, on the control socket: a token must not make others


DOOR = web.AppKey("door", Door)
RULES: web.AppKey[Mapping[tuple[str, str], Rule]] = web.AppKey("rules", Mapping[tuple[str, str], Rule])
_ACCESS = web.RequestKey("access", Access)
_OPERATOR = Access()


@web.middleware
async def access_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let through whom the route is for."""
    rule = _rule(request)
    door = request.app[DOOR]
    if rule is Rule.OPEN:
        request[_ACCESS] = Access("")  # nobody: no tenant has this name
        return await handler(request)
    given = request.headers.getall("Authorization", [])
    access = _OPERATOR if not given and door is Door.CONTROL else _bearer(deps_of(request), given)
    if access is None:
        return _unknown(request, "not a token of ours" if given else "no token")
    if rule in (Rule.OPERATOR, Rule.CONTROL) and not access.operator:
        return _forbidden(request, access, "this call is the operator's")
    if rule is Rule.CONTROL and door is not Door.CONTROL:
        return _forbidden(request, access, "this call is answered on the control socket only")
    request[_ACCESS] = access
    return await handler(request)


def _rule(request: web.Request) -> Rule:
    """The route's rule. What isn't routed is nobody's secret, but a stranger needn't learn what there is."""
    resource = request.match_info.route.resource
    if resource is None:
        return Rule.TENANT
    method = "GET" if request.method == "HEAD" else request.method
    return request.app[RULES].get((method, resource.canonical), Rule.OPERATOR)


def _bearer(deps: Deps, given: list[str]) -> Access | None:
    if len(given) != 1:
        return None
    scheme, _, text = given[0].partition(" ")
    return deps.tokens.find(text.strip()) if scheme.lower() == SCHEME else None


def _unknown(request: web.Request, reason: str) -> web.Response:
    _denied(request, reason)
    answered = problem("unauthorized", f"{reason}: send Authorization: Bearer TOKEN", status=401)
    answered.headers["WWW-Authenticate"] = 'Bearer realm="ringback"'
    answered.force_close()
    return answered


def _forbidden(request: web.Request, access: Access, reason: str) -> web.Response:
    _denied(request, reason, token_id=access.token_id, tenant=access.tenant)
    return problem("forbidden", reason)


def _denied(request: web.Request, reason: str, **facts: str | None) -> None:
    path = request.path[:MAX_PATH_SHOWN]
    _log.warning("api.denied", reason=reason, method=request.method, path=path, remote=request.remote, **facts)


# ---- what handlers ask


def access_of(request: web.Request) -> Access:
    """What the caller may touch."""
    return request[_ACCESS]


def narrowed(request: web.Request, tenant: str | None) -> str | None:
    """The tenant to filter by where the caller asked for ``tenant``; None is all.

    Raises Invalid ``forbidden`` if that isn't the token's own.
    """
    own = access_of(request).tenant
    if own is None or tenant in (None, own):
        return tenant if own is None else own
    raise Invalid("forbidden", f"this token is tenant {own}'s", [Problem(("query", "tenant"), "is another tenant")])


def with_tenant(request: web.Request, body: Any) -> Any:
    """A JSON body with the token's tenant where it names none. Raises Invalid ``forbidden`` if it names another."""
    own = access_of(request).tenant
    if own is None or not isinstance(body, dict):
        return body
    if body.get("tenant") not in (None, own):
        raise Invalid("forbidden", f"this token is tenant {own}'s", [Problem(("tenant",), "is another tenant")])
    return {**body, "tenant": own}


def own_endpoint(request: web.Request) -> Endpoint:
    """The endpoint that the path names. Raises Invalid ``not_found`` if there is none for this caller."""
    endpoint_id = request.match_info["id"]
    endpoint = deps_of(request).endpoints.get(endpoint_id)
    if endpoint is None or not access_of(request).allows(endpoint.tenant):
        raise Invalid("not_found", f"there is no endpoint {endpoint_id}")
    return endpoint
