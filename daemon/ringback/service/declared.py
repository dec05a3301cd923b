"""Declared endpoints: what the files say becomes what there is.

Role: judges declarations as the API would judge a create, and reconciles: what is new is created, what differs is
patched, what no file names any more is disabled with its deliveries held.
Rules: a file is the whole truth about its endpoint, so a field it leaves out has its default; only the secret is kept,
because a generated one must outlive reloads. Identity is (tenant, name). An endpoint of that name made through the API
is taken over.
Must not know: where declarations were read, SQL, HTTP.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ringback.config import Declaration
from ringback.core.egress import EgressPolicy
from ringback.core.model import DEFAULT_TENANT, Endpoint, EndpointStatus
from ringback.kit.clock import Clock
from ringback.kit.log import get_logger
from ringback.service.endpoint_fields import (
    FIXED,
    MERGED,
    EndpointFields,
    RateLimitFields,
    Refusal,
    RetryFields,
    read_create,
    read_patch,
)
from ringback.service.endpoints import UNDECLARED, Endpoints
from ringback.store.errors import StoreError

_log = get_logger()

Problem = tuple[str, str]

#: Declarations judged before the rest of the loop gets its chance.
JUDGED_A_TURN = 32

#: What a declaration without it resets; the secret is kept, and these can't change.
_MUTABLE = tuple(name for name in EndpointFields.model_fields if name not in {*FIXED, "secret"})


class Wanted(msgspec.Struct, frozen=True):
    """One good declaration. ``body``: the API's fields; ``key``: where it stands."""

    key: str
    tenant: str
    name: str
    body: dict[str, Any]


class Reconciled(msgspec.Struct):
    """How many endpoints were created, changed, disabled as undeclared, and refused (the log says why)."""

    created: int = 0
    changed: int = 0
    undeclared: int = 0
    refused: int = 0


def judge(
    declarations: Sequence[Declaration], default_dialect: str, policy: EgressPolicy
) -> tuple[list[Wanted], list[Problem]]:
    """The good declarations, and every problem of the others with its place."""
    wanted: list[Wanted] = []
    problems: list[Problem] = []
    seen: dict[tuple[str, str], str] = {}
    for key, fields, _ in declarations:
        body = dict(fields)
        problems += _name_problems(key, body, seen)
        read = read_create(body, default_dialect, policy)
        if isinstance(read, Refusal):
            problems += _problems(key, read)
        elif body.get("name"):
            if read[0].target is not None:
                body["url"] = read[0].target.url  # as it is stored, so that the same one is known again
            wanted.append(Wanted(key, body.get("tenant") or DEFAULT_TENANT, body["name"], body))
    return wanted, problems


def _name_problems(key: str, body: Mapping[str, Any], seen: dict[tuple[str, str], str]) -> list[Problem]:
    """A name that is missing, or another's; also of a declaration that is wrong in other ways: all is told at once.

    ``seen``: the place of each tenant and name so far; this one is added.
    """
    name, tenant = body.get("name"), body.get("tenant") or DEFAULT_TENANT
    if not name:
        return [(f"{key}.name", "is required: it is how a declared endpoint is known")]
    if not isinstance(name, str) or not isinstance(tenant, str):
        return []  # told as what it is
    first = seen.setdefault((tenant, name), key)
    return [] if first == key else [(f"{key}.name", f"tenant {tenant} has one of this name at {first}")]


def _problems(key: str, refused: Refusal) -> list[Problem]:
    if not refused.problems:
        return [(key, refused.message)]
    return [(".".join([key, *map(str, problem.loc)]), problem.msg) for problem in refused.problems]


class Declared:
    """Brings the endpoints to what was declared."""

    def __init__(self, endpoints: Endpoints, clock: Clock) -> None:
        self._endpoints = endpoints
        self._clock = clock

    async def conflicts(self, wanted: Sequence[Wanted], policy: EgressPolicy) -> list[Problem]:
        """What is good in itself and can't be made of the endpoint of that name there is."""
        known = self._known()
        problems: list[Problem] = []
        for number, one in enumerate(wanted):
            if number % JUDGED_A_TURN == JUDGED_A_TURN - 1:
                await self._clock.sleep(0)
            old = known.get((one.tenant, one.name))
            if old is None:
                continue
            if one.body.get("dialect") not in (None, old.dialect):
                text = f"can't change from {old.dialect}: give the endpoint another name"
                problems.append((f"{one.key}.dialect", text))
            else:
                read = read_patch(_patch(one, old), old, policy)
                problems += _problems(one.key, read) if isinstance(read, Refusal) else []
        return problems

    def kept_dialects(self, wanted: Sequence[Wanted], default: str) -> list[str]:
        """The names of those that have another dialect than ``default``, and name none: one can't change."""
        known = self._known()
        unnamed = [one for one in wanted if one.body.get("dialect") is None]
        found = [known.get((one.tenant, one.name)) for one in unnamed]
        return [old.name for old in found if old is not None and old.name and old.dialect != default]

    async def reconcile(self, wanted: Sequence[Wanted]) -> Reconciled:
        """Create, patch and disable; what can't be done is logged, counted, and tried again at the next reload."""
        done = Reconciled()
        known = self._known()
        for one in wanted:
            old = known.pop((one.tenant, one.name), None)
            try:
                await self._bring(one, old, done)
            except StoreError as problem:
                self._refused(one, Refusal(problem.code, str(problem)), done)
        for gone in [endpoint for endpoint in known.values() if endpoint.declared]:
            try:
                await self._endpoints.undeclare(gone.id)
            except StoreError as problem:
                _log.error("endpoint.declaration_refused", endpoint_id=gone.id, error=str(problem), code=problem.code)
                done.refused += 1
            else:
                done.undeclared += 1
        return done

    async def _bring(self, one: Wanted, old: Endpoint | None, done: Reconciled) -> None:
        if old is None:
            made = await self._endpoints.create(one.body, declared=True)
            done.created += not isinstance(made, Refusal)
        else:
            made = await self._endpoints.patch(old.id, _patch(one, old), declared=True)
            if old.status is EndpointStatus.DISABLED and old.status_reason == UNDECLARED:
                await self._endpoints.resume(old.id)
            done.changed += self._endpoints.get(old.id) != old
        if isinstance(made, Refusal):
            self._refused(one, made, done)

    def _refused(self, one: Wanted, why: Refusal, done: Reconciled) -> None:
        _log.error(
            "endpoint.declaration_refused",
            key=one.key,
            name=one.name,
            tenant=one.tenant,
            code=why.code,
            error=why.message,
        )
        done.refused += 1

    def _known(self) -> dict[tuple[str, str], Endpoint]:
        return {(endpoint.tenant, endpoint.name): endpoint for endpoint in self._endpoints if endpoint.name}


def _patch(one: Wanted, old: Endpoint) -> dict[str, Any]:
    """What makes ``old`` be as declared; members that would prove it again only if they are new."""
    patch: dict[str, Any] = {name: one.body.get(name) for name in _MUTABLE}
    for name in MERGED:
        patch[name] = dict.fromkeys(getattr(old, name)) | (one.body.get(name) or {})
    for name, model in (("retry", RetryFields), ("rate_limit", RateLimitFields)):
        if patch[name] is not None:
            patch[name] = dict.fromkeys(model.model_fields) | patch[name]
    if patch["url"] == old.url:
        del patch["url"]
    secret = one.body.get("secret")
    if secret is not None and secret != (old.secrets[0].value if old.secrets else ""):
        patch["secret"] = secret
    return patch
