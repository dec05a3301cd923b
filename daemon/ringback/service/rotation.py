"""A new signing secret beside the old one, and the old one's end.

Role: judges what a rotation asks for, puts the new secret first, and drops old ones when their time is over.
Rules: while both live every request is signed with both, newest first, so a receiver may change at its leisure; signing
itself leaves out what has expired, so dropping late harms nobody. The new secret is shown once, to whoever asked.
Where the handshake is made with the secret, the new one is proved before it signs an event.
Must not know: signatures, HTTP, SQL.
"""

import heapq
from collections.abc import Iterable, Mapping

import msgspec

from ringback import dialects
from ringback.core import endpoint_state
from ringback.core.endpoint_state import EndpointEvent
from ringback.core.model import Endpoint, Secret
from ringback.dialects import Dialect
from ringback.kit.clock import Chance, Clock
from ringback.kit.log import get_logger
from ringback.kit.wake import WakeUp
from ringback.service.endpoint_fields import Problem, Refusal, refusal
from ringback.service.endpoint_parts import voids
from ringback.service.endpoints import Changed, Endpoints
from ringback.service.log_keys import named

DEFAULT_GRACE_S = 86_400.0
MAX_GRACE_S = 30 * 86_400.0
#: Secrets of one endpoint that may be live at once: each is a signature in every request.
MAX_LIVE = 4

_log = get_logger()


class Asked(msgspec.Struct, frozen=True):
    """A rotation that makes sense: how long the old ones live on, and the new one if it was given."""

    grace_ms: int
    secret: str | None


class Rotation:
    """The verb and its clock. ``changed`` is to be told of every change, ``fill`` of what there is at start."""

    def __init__(self, endpoints: Endpoints, clock: Clock, chance: Chance) -> None:
        self.wake = WakeUp()
        self._endpoints = endpoints
        self._clock = clock
        self._chance = chance
        self._ends: list[tuple[int, int]] = []  # (when a secret expires, lane); a few for each rotation under way

    def fill(self, endpoints: Iterable[Endpoint]) -> None:
        """Learn whose secrets expire."""
        for endpoint in endpoints:
            self.changed(endpoint.lane)

    def changed(self, lane: int) -> None:
        """An endpoint changed: it may have a secret that expires."""
        endpoint = self._endpoints.by_lane(lane)
        ends = [s.expires_at_ms for s in endpoint.secrets if s.expires_at_ms is not None] if endpoint else []
        if ends and (min(ends), lane) not in self._ends:
            heapq.heappush(self._ends, (min(ends), lane))
            self.wake.wake()

    async def rotate(self, endpoint_id: str, body: object) -> Changed | Refusal:
        """Give an endpoint a new secret: ``{"grace_s", "secret"}``, both optional. Raises StoreError."""
        asked = read(body)
        if isinstance(asked, Refusal):
            return asked
        done = await self._endpoints.change(endpoint_id, lambda old: self._rotated(old, asked))
        if isinstance(done, Refusal):
            return done
        new = done.endpoint
        _log.info("endpoint.secret_rotated", **named(new), revision=new.revision)
        return Changed(new, new_secret=True)

    async def turn(self, now_ms: int) -> float | None:
        """Drop what has expired; seconds until the next does."""
        while self._ends and self._ends[0][0] <= now_ms:
            lane = heapq.heappop(self._ends)[1]
            endpoint = self._endpoints.by_lane(lane)
            if endpoint is not None:
                await self._endpoints.change(endpoint.id, lambda old: _dropped(old, now_ms))
                self.changed(lane)
        return (self._ends[0][0] - now_ms) / 1000 if self._ends else None

    def _rotated(self, old: Endpoint, asked: Asked) -> Endpoint | Refusal:
        dialect = dialects.get(old.dialect)
        if old.declared:
            return Refusal("conflict", f"endpoint {old.name} is declared in the configuration: change it there")
        if dialect is None:
            return Refusal("conflict", f"there is no dialect {old.dialect}")
        fresh = self._fresh(asked, dialect, old)
        if isinstance(fresh, Refusal):
            return fresh
        now_ms = self._clock.now_ms()
        kept = still(old.secrets, now_ms, now_ms + asked.grace_ms)
        if len(kept) >= MAX_LIVE:
            return Refusal("conflict", f"{len(kept)} secrets are live already: wait, or drop them with grace_s 0")
        secrets = (Secret(fresh, now_ms), *kept)
        new = msgspec.structs.replace(old, secrets=secrets, revision=old.revision + 1, updated_at_ms=now_ms)
        return _unproved(new, now_ms) if voids(old, new) else new

    def _fresh(self, asked: Asked, dialect: Dialect, old: Endpoint) -> str | Refusal:
        if asked.secret is None:
            if not dialect.signs:
                problem = Problem(("secret",), f"{dialect.name} makes no secrets: give one")
                return refusal([problem])
            return dialect.new_secret(self._chance.token(dialect.secret_bytes))
        said = dialect.check_secret(asked.secret, old.options)
        if said is not None:
            return refusal([Problem(("secret",), said)])
        if any(asked.secret == secret.value for secret in old.secrets):
            return refusal([Problem(("secret",), "is a secret of this endpoint already")])
        return asked.secret


def _unproved(endpoint: Endpoint, now_ms: int) -> Endpoint | Refusal:
    moved = endpoint_state.apply(endpoint, EndpointEvent.PROOF_VOID, now_ms=now_ms)
    if isinstance(moved, endpoint_state.Refused):
        return Refusal(moved.code, moved.message)
    return msgspec.structs.replace(moved, proof=None)


def still(secrets: tuple[Secret, ...], now_ms: int, until_ms: int) -> tuple[Secret, ...]:
    """The secrets that live on, none of them beyond ``until_ms``; those that are over already are left out."""
    ends = [(secret, until_ms if secret.expires_at_ms is None else secret.expires_at_ms) for secret in secrets]
    return tuple(
        msgspec.structs.replace(secret, expires_at_ms=min(end, until_ms))
        for secret, end in ends
        if min(end, until_ms) > now_ms
    )


def _dropped(old: Endpoint, now_ms: int) -> Endpoint:
    """Without its expired secrets. What is sent stays the same, so the revision does too."""
    kept = tuple(s for s in old.secrets if s.expires_at_ms is None or s.expires_at_ms > now_ms)
    return old if kept == old.secrets else msgspec.structs.replace(old, secrets=kept)


def read(body: object) -> Asked | Refusal:
    """Judge the body of a rotation."""
    if not isinstance(body, Mapping):
        return refusal([Problem((), "the body must be a JSON object")])
    problems = [Problem((str(name),), "unknown field") for name in body if name not in ("grace_s", "secret")]
    grace_s, secret = body.get("grace_s"), body.get("secret")
    if grace_s is None:
        grace_s = DEFAULT_GRACE_S
    if isinstance(grace_s, bool) or not isinstance(grace_s, int | float) or not 0 <= grace_s <= MAX_GRACE_S:
        problems.append(Problem(("grace_s",), f"must be 0 to {MAX_GRACE_S:.0f} seconds"))
    if secret is not None and (not isinstance(secret, str) or not secret):
        problems.append(Problem(("secret",), "must be a text that isn't empty"))
    return refusal(problems) if problems else Asked(round(grace_s * 1000), secret)
