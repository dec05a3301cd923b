"""The calls under ``/api/v1/endpoints``.

Must not know: what makes a good endpoint; the service judges.
"""

from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

import msgspec
from aiohttp import web

from ringback import dialects
from ringback.api.access import narrowed, own_endpoint, with_tenant
from ringback.api.deps import Deps, deps_of
from ringback.api.problems import answer, refused
from ringback.api.reading import flag, id_cursor, make_cursor, no_body, one_of, paging, query, read_json, text
from ringback.core.headers import is_secret_header
from ringback.core.model import Endpoint, EndpointStatus, Secret
from ringback.core.signing import mask_secret
from ringback.core.times import rfc3339
from ringback.service.endpoint_fields import Refusal
from ringback.service.endpoints import Changed
from ringback.service.proofs import Trying

PATH = "/api/v1/endpoints"
MASKED = "…"
_CURSOR = "endpoint"
FILTERS = {
    "tenant": text,
    "status": one_of(*EndpointStatus),
    "dialect": text,
    "name": text,
    "reveal": flag,
    **paging(id_cursor(_CURSOR)),
}
ONE = {"reveal": flag}


async def create(request: web.Request) -> web.Response:
    """201 with the endpoint, its secret in full this once."""
    query(request, {})
    deps = deps_of(request)
    done = await deps.endpoints.create(with_tenant(request, await read_json(request)))
    if isinstance(done, Refusal):
        return refused(done)
    return answer(changed(deps, done), 201, {"Location": f"{PATH}/{done.endpoint.id}"})


async def index(request: web.Request) -> web.Response:
    """A page, newest first."""
    given = query(request, FILTERS)
    tenant = narrowed(request, given.pop("tenant", None))
    if tenant is not None:
        given["tenant"] = tenant
    limit, reveal = given.pop("limit", 50), given.pop("reveal", False)
    deps = deps_of(request)
    found = deps.endpoints.newest_first(given.pop("cursor", None))
    wanted = (e for e in found if all(getattr(e, name) == value for name, value in given.items()))
    page = list(islice(wanted, limit + 1))
    more = len(page) > limit
    return answer(
        {
            "data": [view(deps, endpoint, reveal=reveal) for endpoint in page[:limit]],
            "next_cursor": make_cursor(_CURSOR, page[limit - 1].id) if more else None,
        }
    )


async def show(request: web.Request) -> web.Response:
    """One endpoint."""
    given = query(request, ONE)
    return answer(view(deps_of(request), own_endpoint(request), reveal=given.get("reveal", False)))


async def patch(request: web.Request) -> web.Response:
    """200 with the endpoint; a secret set by the patch in full."""
    query(request, {})
    deps = deps_of(request)
    patch = await read_json(request)
    done = await deps.endpoints.patch(own_endpoint(request).id, patch)
    return refused(done) if isinstance(done, Refusal) else answer(changed(deps, done))


async def delete(request: web.Request) -> web.Response:
    """204."""
    query(request, {})
    await no_body(request)
    done = await deps_of(request).endpoints.delete(own_endpoint(request).id)
    return refused(done) if isinstance(done, Refusal) else web.Response(status=204)


async def pause(request: web.Request) -> web.Response:
    """202 with the endpoint."""
    return await _verb(request, deps_of(request).endpoints.pause)


async def challenge(request: web.Request) -> web.Response:
    """202 with the endpoint; the handshake runs beside it."""
    return await _verb(request, deps_of(request).verify.challenge)


async def resume(request: web.Request) -> web.Response:
    """202 with the endpoint."""
    return await _verb(request, deps_of(request).endpoints.resume)


async def _verb(request: web.Request, verb: Callable[[str], Awaitable[Changed | Refusal]]) -> web.Response:
    query(request, {})
    await no_body(request)
    done = await verb(own_endpoint(request).id)
    return refused(done) if isinstance(done, Refusal) else answer(view(deps_of(request), done.endpoint), 202)


def changed(deps: Deps, done: Changed) -> dict[str, Any]:
    """An endpoint after a verb: a secret made or set just now in full, this once."""
    shown = view(deps, done.endpoint)
    if done.new_secret:
        shown["secret"] = done.endpoint.secrets[0].value
    if done.warnings:
        shown["warnings"] = list(done.warnings)
    return shown


def view(deps: Deps, endpoint: Endpoint, *, reveal: bool = False) -> dict[str, Any]:
    """An endpoint as it is shown. What it leaves to defaults is null; ``effective`` has what counts."""
    effective = deps.endpoints.effective(endpoint)
    secret = endpoint.secrets[0].value if endpoint.secrets else ""
    return {
        "id": endpoint.id,
        "tenant": endpoint.tenant,
        "name": endpoint.name,
        "description": endpoint.description,
        "url": endpoint.url,
        "dialect": endpoint.dialect,
        "events": endpoint.events,
        "secret": secret if reveal else mask_secret(secret),
        "previous_secrets": [_previous(old, reveal=reveal) for old in endpoint.secrets[1:]],
        "status": endpoint.status,
        "status_reason": endpoint.status_reason,
        "concurrency": endpoint.concurrency,
        "rate_limit": msgspec.structs.asdict(endpoint.rate_limit) if endpoint.rate_limit else None,
        "ordering": "none",
        "timeout_s": endpoint.timeout_s,
        "retry": _retry(endpoint.retry),
        "handshake": endpoint.handshake,
        "proof": _proof(endpoint),
        "challenge": _challenge(deps.verify.trying(endpoint.lane)),
        "tls_verify": endpoint.tls_verify,
        "headers": endpoint.headers if reveal else _masked(endpoint, endpoint.headers),
        "options": endpoint.options if reveal else _masked_options(endpoint),
        "metadata": endpoint.metadata,
        "declared": endpoint.declared,
        "revision": endpoint.revision,
        "created_at": rfc3339(endpoint.created_at_ms),
        "updated_at": rfc3339(endpoint.updated_at_ms),
        "effective": {
            "concurrency": effective.concurrency,
            "timeout_s": effective.timeout_s,
            "retry": _retry(effective.retry),
        },
    }


def _proof(endpoint: Endpoint) -> dict[str, Any] | None:
    """What its handshake left; null if it was never proved by one."""
    proof = endpoint.proof
    if proof is None:
        return None
    times = {"proved_at": proof.proved_at_ms, "renew_at": proof.renew_at_ms, "consent_until": proof.consent_until_ms}
    shown: dict[str, Any] = {name: None if at_ms is None else rfc3339(at_ms) for name, at_ms in times.items()}
    return shown | {"allowed_per_min": proof.per_min}


def _challenge(trying: Trying | None) -> dict[str, Any] | None:
    """Its handshake under way; null if none is."""
    if trying is None:
        return None
    times = {"asked_at": trying.asked_at_ms, "next_at": trying.next_at_ms}
    shown: dict[str, Any] = {name: None if at_ms is None else rfc3339(at_ms) for name, at_ms in times.items()}
    return {"tries": trying.tries, "failure": trying.failure} | shown


def _previous(secret: Secret, *, reveal: bool) -> dict[str, Any]:
    """One that still signs, beside the newest, until its time is over."""
    expires_at = None if secret.expires_at_ms is None else rfc3339(secret.expires_at_ms)
    return {"secret": secret.value if reveal else mask_secret(secret.value), "expires_at": expires_at}


def _retry(policy: Any) -> dict[str, Any] | None:
    """A policy in the form it is in: gaps, or the exponential one."""
    if policy is None:
        return None
    members = msgspec.structs.asdict(policy)
    if policy.delays_s is not None:
        return {"delays_s": policy.delays_s, "jitter": policy.jitter}
    del members["delays_s"]
    return members


def _masked(endpoint: Endpoint, values: dict[str, str]) -> dict[str, str]:
    dialect = dialects.get(endpoint.dialect)
    secret = dialect.secret_headers if dialect else frozenset()
    return {
        name: MASKED if is_secret_header(name) or name.lower() in secret else value for name, value in values.items()
    }


def _masked_options(endpoint: Endpoint) -> dict[str, str]:
    """Options have names of the dialect's own: it says what is secret in them."""
    dialect = dialects.get(endpoint.dialect)
    return dialect.options_shown(endpoint.options) if dialect else dict.fromkeys(endpoint.options, MASKED)
