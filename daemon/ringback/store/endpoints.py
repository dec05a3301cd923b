"""Endpoints in the table: made, changed, read at start; their revisions and their health.

Role: tasks that write them, reads that bring them back.
Rules: a row is never removed (a deleted endpoint keeps its lane, so no lane is used twice); a name is unique in its
tenant among those not deleted; each revision is kept, because attempts point to it.
Must not know: what makes an endpoint valid, what its status means.
"""

import sqlite3
from typing import NamedTuple

import msgspec

from ringback.core.envelope import Tampered, place
from ringback.core.model import Endpoint
from ringback.store import codec
from ringback.store.errors import InvariantError, StateCorrupt
from ringback.store.keys import SPEC, Erased, Keys, keys_of
from ringback.store.ops import Task
from ringback.store.reader import Fetches

_TAKEN = (
    "SELECT 1 FROM endpoint WHERE tenant = ? AND name = ? AND deleted_ms IS NULL AND lane <> ?"  # the partial index
)
_INSERT = (
    "INSERT INTO endpoint (lane, id, tenant, name, status, deleted_ms, revision, spec) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_UPDATE = (
    "UPDATE endpoint SET name = ?, status = ?, deleted_ms = ?, revision = ?, spec = ? WHERE lane = ? AND tenant = ?"
)
_REVISION = "INSERT INTO endpoint_revision (lane, revision, spec) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_LIVE = (
    "SELECT lane, revision, spec FROM endpoint e WHERE deleted_ms IS NULL"
    " OR EXISTS (SELECT 1 FROM owed o WHERE o.lane = e.lane) ORDER BY lane"
)
_HEALTH = (
    "INSERT INTO lane_health (lane, failing, since_ms) VALUES (?1, ?2, ?3) ON CONFLICT (lane) DO UPDATE"
    " SET failing = ?2, since_ms = ?3 WHERE failing <> ?2"
)


class NameTaken(msgspec.Struct, frozen=True):
    """Another endpoint of the tenant bears that name; nothing was changed."""

    name: str


class Health(NamedTuple):
    """Whether a lane's latest attempts failed, and since when."""

    failing: bool
    since_ms: int


def insert(endpoint: Endpoint) -> Task[Endpoint | NameTaken]:
    """Store a new endpoint; answers it with its lane (the given one is ignored)."""

    def run(db: sqlite3.Connection) -> Endpoint | NameTaken:
        tenant = _tenant(db, endpoint.tenant)
        if endpoint.name is not None and _taken(db, tenant, endpoint.name, 0):
            return NameTaken(endpoint.name)
        lane = db.execute("UPDATE meta SET value = value + 1 WHERE name = 'lane' RETURNING value").fetchone()[0]
        made = msgspec.structs.replace(endpoint, lane=lane)
        spec = _sealed(db, made)
        row = (lane, made.id, tenant, made.name, made.status.value, made.deleted_at_ms, made.revision, spec)
        db.execute(_INSERT, row)
        db.execute(_REVISION, (lane, made.revision, spec))
        return made

    return Task("insert_endpoint", run, rows=2)


def update(endpoint: Endpoint) -> Task[Endpoint | NameTaken]:
    """Store an endpoint's new state, whole. Its tenant and lane can't change: that would be a bug."""

    def run(db: sqlite3.Connection) -> Endpoint | NameTaken:
        tenant = _tenant(db, endpoint.tenant)
        live = endpoint.deleted_at_ms is None
        if endpoint.name is not None and live and _taken(db, tenant, endpoint.name, endpoint.lane):
            return NameTaken(endpoint.name)
        spec = _sealed(db, endpoint)
        row = (endpoint.name, endpoint.status.value, endpoint.deleted_at_ms, endpoint.revision, spec)
        if db.execute(_UPDATE, (*row, endpoint.lane, tenant)).rowcount != 1:
            raise InvariantError(f"no endpoint in lane {endpoint.lane} of tenant {endpoint.tenant}")
        db.execute(_REVISION, (endpoint.lane, endpoint.revision, spec))
        return endpoint

    return Task("update_endpoint", run, rows=2)


def set_health(lane: int, failing: bool, now_ms: int) -> Task[None]:  # noqa: FBT001 - the state itself
    """Note that a lane began to fail, or to work again; saying it twice changes nothing."""

    def run(db: sqlite3.Connection) -> None:
        db.execute(_HEALTH, (lane, int(failing), now_ms))

    return Task("set_health", run)


class EndpointReads:
    """What is read of endpoints."""

    def __init__(self, reader: Fetches) -> None:
        self._reader = reader

    async def load_all(self) -> list[Endpoint]:
        """All that aren't deleted, and the deleted ones that still owe something (``deleted_at_ms``), by lane."""
        return [self._opened(*row) for row in await self._reader.fetch(_LIVE)]

    async def by_id(self, endpoint_id: str) -> Endpoint | None:
        """The endpoint of that id as it is or was at its end (``deleted_at_ms``); None if there never was one."""
        rows = await self._reader.fetch("SELECT lane, revision, spec FROM endpoint WHERE id = ?", (endpoint_id,))
        return self._opened(*rows[0]) if rows else None

    async def by_lane(self, lane: int) -> Endpoint | None:
        """The same by its lane."""
        rows = await self._reader.fetch("SELECT lane, revision, spec FROM endpoint WHERE lane = ?", (lane,))
        return self._opened(*rows[0]) if rows else None

    async def revision(self, lane: int, revision: int) -> Endpoint | None:
        """An endpoint as it was at that revision; None if there was none."""
        rows = await self._reader.fetch(
            "SELECT spec FROM endpoint_revision WHERE lane = ? AND revision = ?", (lane, revision)
        )
        return self._opened(lane, revision, rows[0][0]) if rows else None

    async def health(self) -> dict[int, Health]:
        """What is known of each lane's health."""
        rows = await self._reader.fetch("SELECT lane, failing, since_ms FROM lane_health")
        return {lane: Health(bool(failing), since_ms) for lane, failing, since_ms in rows}

    def _opened(self, lane: int, revision: int, spec: bytes) -> Endpoint:
        return opened(self._reader.keys, lane, revision, spec)


def opened(keys: Keys, lane: int, revision: int, spec: bytes) -> Endpoint:
    """The endpoint that a row holds. Raises StateCorrupt, which names it."""
    try:
        return codec.decode_spec(keys.open(place(SPEC, lane, revision), spec))
    except (Tampered, Erased, msgspec.DecodeError) as error:
        raise StateCorrupt(
            f"the endpoint in lane {lane} (revision {revision}) can't be read ({error}): put a backup in its place"
        ) from error


def _sealed(db: sqlite3.Connection, endpoint: Endpoint) -> bytes:
    """The spec as it is stored."""
    where = place(SPEC, endpoint.lane, endpoint.revision)
    return keys_of(db).seal(db, endpoint.tenant, where, codec.encode_spec(endpoint))


def _tenant(db: sqlite3.Connection, name: str) -> int:
    db.execute("INSERT INTO tenant (name) VALUES (?) ON CONFLICT (name) DO NOTHING", (name,))
    number: int = db.execute("SELECT no FROM tenant WHERE name = ?", (name,)).fetchone()[0]
    return number


def _taken(db: sqlite3.Connection, tenant: int, name: str, lane: int) -> bool:
    return db.execute(_TAKEN, (tenant, name, lane)).fetchone() is not None
