"""The verbs that change endpoints.

Role: create, patch, delete, pause, resume, disable. Each is judged first, then written, then it replaces a frozen value
in the snapshot and the listeners are told its lane.
Rules: verbs run one after another, and one that has begun to write finishes although its caller went away, so that
snapshot and table can't part.
Must not know: SQL, HTTP, how a lane is run.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import msgspec

from ringback.core import egress, endpoint_state
from ringback.core.endpoint_state import EndpointEvent
from ringback.core.model import DEFAULT_TENANT, Endpoint, Secret
from ringback.core.names import Names
from ringback.dialects import Dialect
from ringback.kit.clock import Chance, Clock
from ringback.kit.log import get_logger
from ringback.kit.redact import redact_url
from ringback.service.effective import Effective, EndpointDefaults, effective
from ringback.service.endpoint_fields import (
    Judged,
    Problem,
    Refusal,
    read_create,
    read_patch,
    refusal,
)
from ringback.service.endpoint_parts import members_of, sent_of, unaskable, voids
from ringback.service.endpoint_snapshot import Snapshot
from ringback.service.log_keys import named
from ringback.store import endpoints as table
from ringback.store.writer import Writer

#: Also the most deliveries one event can make.
MAX_ENDPOINTS_PER_TENANT = 10_000
RESOLVE_TIMEOUT_S = 2.0

#: Why an endpoint that no file names any more is disabled.
UNDECLARED = endpoint_state.UNDECLARED

Resolve = Callable[[str], Awaitable[Sequence[str]]]
T = TypeVar("T")
P = ParamSpec("P")

_log = get_logger()


class Changed(msgspec.Struct, frozen=True):
    """A verb that was done. ``new_secret``: the secret was made or set just now and may be shown in full this once."""

    endpoint: Endpoint
    warnings: tuple[str, ...] = ()
    new_secret: bool = False


class Endpoints(Snapshot):
    """The snapshot and its verbs.

    ``resolve(host)`` answers the addresses of a name, none if it has none; it is given ``RESOLVE_TIMEOUT_S``.
    """

    def __init__(
        self,
        *,
        writer: Writer,
        policy: egress.EgressPolicy,
        defaults: EndpointDefaults,
        resolve: Resolve,
        clock: Clock,
        chance: Chance,
        names: Names | None = None,
    ) -> None:
        super().__init__(names)
        self._writer = writer
        self._policy = policy
        self._defaults = defaults
        self._resolve = resolve
        self._clock = clock
        self._chance = chance
        self._listeners: list[Callable[[int], None]] = []
        self._turn = asyncio.Lock()
        self._writing: set[asyncio.Task[Any]] = set()

    def on_change(self, listener: Callable[[int], None]) -> None:
        """Have ``listener(lane)`` called after each change; ``by_lane`` is None if it was deleted."""
        self._listeners.append(listener)

    def effective(self, endpoint: Endpoint) -> Effective:
        """What counts for it: its own, else the settings', else its dialect's."""
        return effective(endpoint, self._defaults)

    # ---- the verbs

    async def create(self, body: object, *, declared: bool = False) -> Changed | Refusal:
        """Make an endpoint from an API body (CONTRACT, Managing). Raises StoreError if it can't be written.

        One that is ``declared`` by a file isn't looked up: a start must not wait for DNS, and connect judges anyway.
        """
        read = read_create(body, self._defaults.dialect, self._policy)
        if isinstance(read, Refusal):
            return read
        judged, dialect = read
        warning = () if declared else await self._judge_name(judged.target)
        if isinstance(warning, Refusal):
            return warning
        return await self._in_turn(self._create, judged, dialect, warning, declared=declared)

    async def patch(self, endpoint_id: str, patch: object, *, declared: bool = False) -> Changed | Refusal:
        """Merge a JSON patch (SEMANTICS, Endpoints). Raises StoreError if it can't be written.

        ``declared``: a file says so, and owns the endpoint from now on.
        """
        endpoint = self.get(endpoint_id)
        if endpoint is None:
            return _not_found(endpoint_id)
        if endpoint.declared and not declared:
            return _owned(endpoint)
        read = read_patch(patch, endpoint, self._policy)
        if isinstance(read, Refusal):
            return read
        warning = () if declared else await self._judge_name(read[0].target)
        if isinstance(warning, Refusal):
            return warning
        return await self._in_turn(self._patch, endpoint_id, patch, warning, declared=declared)

    async def delete(self, endpoint_id: str) -> Changed | Refusal:
        """Delete softly: it matches no more, what it is owed becomes cancelled, its history stays."""
        endpoint = self.get(endpoint_id)
        if endpoint is not None and endpoint.declared:
            return _owned(endpoint)
        return await self._in_turn(self._delete, endpoint_id)

    async def pause(self, endpoint_id: str) -> Changed | Refusal:
        """Hold what is owed until ``resume``; attempts in flight finish and count."""
        return await self._in_turn(self._move, endpoint_id, EndpointEvent.PAUSE, None)

    async def resume(self, endpoint_id: str) -> Changed | Refusal:
        """Go back to the status before a pause, or leave ``disabled``."""
        return await self._in_turn(self._move, endpoint_id, EndpointEvent.RESUME, None)

    async def disable(self, lane: int, reason: str, url: str | None = None) -> Changed | Refusal:
        """Stop by policy; ``reason`` is shown as ``status_reason``. What is owed is held.

        ``url``: what answered so. One that has another by then is left as it is, for that one has answered nothing.
        """
        endpoint = self._by_lane.get(lane)
        if endpoint is None:
            return Refusal("not_found", f"there is no endpoint on lane {lane}")
        return await self._in_turn(self._move, endpoint.id, EndpointEvent.DISABLE, reason, url)

    async def undeclare(self, endpoint_id: str) -> Changed | Refusal:
        """No file names it any more: disabled, what it is owed is held, and the API may change it again."""
        return await self._in_turn(self._move, endpoint_id, EndpointEvent.DISABLE, UNDECLARED)

    def reconfigure(self, policy: egress.EgressPolicy, defaults: EndpointDefaults) -> None:
        """Judge by this policy and fill in these defaults from here on; every lane is told."""
        self._policy = policy
        if defaults != self._defaults:
            self._defaults = defaults
            for endpoint in list(self):
                self._tell(endpoint.lane)

    async def change(self, endpoint_id: str, make: Callable[[Endpoint], Endpoint | Refusal]) -> Changed | Refusal:
        """Put what ``make`` makes of an endpoint in its place; the very same object changes nothing."""
        return await self._in_turn(self._change, endpoint_id, make)

    async def erase(self, tenant: str, write: Callable[[], Awaitable[T]]) -> T | Refusal:
        """Delete all that a tenant has by one ``write``, which blanks them in the table. Answers what that answers.

        Refused where a file declares one of them: it would come back.
        """
        return await self._in_turn(self._erase, tenant, write)

    # ---- inside: each of these runs under the lock, in a task of its own

    async def _in_turn(self, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a change to its end although the caller may be cancelled meanwhile."""

        async def turn() -> T:
            async with self._turn:
                return await work(*args, **kwargs)

        task = asyncio.create_task(turn())
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return await asyncio.shield(task)

    async def _create(
        self, judged: Judged, dialect: Dialect, warnings: tuple[str, ...], *, declared: bool
    ) -> Changed | Refusal:
        given = judged.given
        tenant = given.tenant or DEFAULT_TENANT
        if self.count(tenant) >= MAX_ENDPOINTS_PER_TENANT:
            text = f"tenant {tenant} has {MAX_ENDPOINTS_PER_TENANT} endpoints already, which is the limit"
            return Refusal("too_many_endpoints", text)
        if judged.target is None:
            raise AssertionError("a create without a url passed its judgement")
        now_ms = self._clock.now_ms()
        handshake = given.handshake or dialect.handshake
        blank = Endpoint(
            lane=0,
            id=self._chance.new_id(),
            tenant=tenant,
            url=judged.target.url,
            dialect=dialect.name,
            created_at_ms=now_ms,
            updated_at_ms=now_ms,
            status=endpoint_state.starting_status(handshake),
            secrets=self._secrets(given.secret, dialect, now_ms),
        )
        members = members_of(given, judged) | {"handshake": handshake, "declared": declared}
        wanted = msgspec.structs.replace(blank, **members)
        problem = unaskable(wanted)
        if problem is not None:
            return problem
        made = await self._writer.run(table.insert(wanted))
        if isinstance(made, table.NameTaken):
            return _name_taken(tenant, given.name)
        self.install(made)
        self._say("endpoint.created", made, dialect=made.dialect, url=redact_url(made.url), signed=bool(made.secrets))
        self._tell(made.lane)
        return Changed(made, warnings, new_secret=bool(made.secrets))

    async def _patch(
        self, endpoint_id: str, patch: object, warnings: tuple[str, ...], *, declared: bool
    ) -> Changed | Refusal:
        old = self.get(endpoint_id)
        if old is None:
            return _not_found(endpoint_id)
        read = read_patch(patch, old, self._policy)  # again: the endpoint may have changed while a name was resolved
        if isinstance(read, Refusal):
            return read
        judged, dialect = read
        now_ms = self._clock.now_ms()
        members = members_of(judged.given, judged) | {"declared": declared}
        secret_set = "secret" in judged.given.model_fields_set
        if secret_set:
            members["secrets"] = self._secrets(judged.given.secret, dialect, now_ms)
        if members.get("handshake", "") is None:
            members["handshake"] = dialect.handshake
        new = msgspec.structs.replace(old, **members)
        moved_there = judged.target is not None and not (declared and new.url == old.url)
        if moved_there or voids(old, new):
            moved = endpoint_state.apply(new, EndpointEvent.PROOF_VOID, now_ms=now_ms)
            new = msgspec.structs.replace(new if isinstance(moved, endpoint_state.Refused) else moved, proof=None)
        problem = unaskable(new)
        if problem is not None:
            return problem
        if new == old:
            return Changed(old, warnings)
        revision = old.revision + (sent_of(new) != sent_of(old))
        new = msgspec.structs.replace(new, revision=revision, updated_at_ms=now_ms)
        taken = await self._replace(new)
        if taken is not None:
            return taken
        self._say("endpoint.changed", new, fields=_differing(old, new), revision=new.revision)
        return Changed(new, warnings, new_secret=secret_set and bool(new.secrets))

    async def _change(self, endpoint_id: str, make: Callable[[Endpoint], Endpoint | Refusal]) -> Changed | Refusal:
        old = self.get(endpoint_id)
        new = _not_found(endpoint_id) if old is None else make(old)
        if isinstance(new, Refusal):
            return new
        taken = None if new is old else await self._replace(new)
        return taken or Changed(new)

    async def _delete(self, endpoint_id: str) -> Changed | Refusal:
        old = self.get(endpoint_id)
        if old is None:
            return _not_found(endpoint_id)
        now_ms = self._clock.now_ms()
        gone = msgspec.structs.replace(old, deleted_at_ms=now_ms, updated_at_ms=now_ms)
        await self._writer.run(table.update(gone))
        self.remove(gone)
        self._say("endpoint.deleted", gone)
        self._tell(gone.lane)
        return Changed(gone)

    async def _erase(self, tenant: str, write: Callable[[], Awaitable[T]]) -> T | Refusal:
        gone = [endpoint for endpoint in self if endpoint.tenant == tenant]
        if declared := next((endpoint for endpoint in gone if endpoint.declared), None):
            return Refusal("conflict", f"{_owned(declared).message}; from there it would come back")
        done = await write()
        for endpoint in gone:
            self.remove(endpoint)
            self._say("endpoint.deleted", endpoint)
            self._tell(endpoint.lane)
        return done

    async def _move(
        self, endpoint_id: str, event: EndpointEvent, reason: str | None, url: str | None = None
    ) -> Changed | Refusal:
        old = self.get(endpoint_id)
        if old is None:
            return _not_found(endpoint_id)
        if url not in (None, old.url):
            return Changed(old)
        new = endpoint_state.apply(old, event, now_ms=self._clock.now_ms(), reason=reason)
        if isinstance(new, endpoint_state.Refused):
            return Refusal(new.code, new.message)
        if reason == UNDECLARED and old.declared:
            new = msgspec.structs.replace(new, declared=False)
        if new is old:
            return Changed(old)
        taken = await self._replace(new)
        if taken is not None:
            return taken
        name = "endpoint.activated" if new.status == "active" else f"endpoint.{new.status}"
        self._say(name, new, reason=new.status_reason)
        return Changed(new)

    async def _replace(self, new: Endpoint) -> Refusal | None:
        """Write a changed endpoint, put it into the snapshot, tell the listeners."""
        answer = await self._writer.run(table.update(new))
        if isinstance(answer, table.NameTaken):
            return _name_taken(new.tenant, new.name)
        self.install(new)
        self._tell(new.lane)
        return None

    async def _judge_name(self, target: egress.Target | None) -> tuple[str, ...] | Refusal:
        """Resolve a new url's name: refused if an address is forbidden, a warning if it has none within the time."""
        if target is None or target.literal is not None:
            return ()
        addresses: Sequence[str] = ()
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_S):
                addresses = await self._resolve(target.host)
        except (TimeoutError, OSError):
            pass  # the same as no address: the warning says it
        if not addresses:
            return (
                f"{target.host} does not resolve here now; deliveries wait and retry until it does, here or at a proxy",
            )
        for address in addresses:
            reason = egress.judge_address(self._policy, address, target.scheme)
            if reason is not None:
                return refusal([Problem(("url",), f"{target.host} resolves to {address}: {reason}", "forbidden")])
        return ()

    def _secrets(self, given: str | None, dialect: Dialect, now_ms: int) -> tuple[Secret, ...]:
        """None is the default: a new one if the dialect signs. The empty text is none."""
        if given is None:
            given = dialect.new_secret(self._chance.token(dialect.secret_bytes)) if dialect.signs else ""
        return (Secret(given, now_ms),) if given else ()

    def _tell(self, lane: int) -> None:
        for listener in self._listeners:
            listener(lane)

    def _say(self, name: str, endpoint: Endpoint, **facts: object) -> None:
        _log.info(name, **named(endpoint), **facts)


def _differing(old: Endpoint, new: Endpoint) -> list[str]:
    """The names of what a change changed, for the log."""
    names = (name for name in Endpoint.__struct_fields__ if name not in ("revision", "updated_at_ms"))
    return [name for name in names if getattr(old, name) != getattr(new, name)]


def _owned(endpoint: Endpoint) -> Refusal:
    return Refusal("conflict", f"endpoint {endpoint.name} is declared in the configuration: change it there and reload")


def _not_found(endpoint_id: str) -> Refusal:
    return Refusal("not_found", f"there is no endpoint {endpoint_id}")


def _name_taken(tenant: str, name: str | None) -> Refusal:
    problem = Problem(("name",), f"tenant {tenant} has an endpoint named {name} already", "conflict")
    return Refusal("conflict", problem.msg, (problem,))
