"""What there is to be erased, and how far an erasure has come.

Role: reads for the daemon; the same of a tenant as a task, for a command that works without one.
Rules: nothing is changed. Everything of a tenant is counted from its indexes: for an operator's question.
Must not know: how anything is erased.
"""

import sqlite3
from typing import NamedTuple

from ringback.store import codec
from ringback.store.erase import FIND
from ringback.store.ops import Task
from ringback.store.reader import Fetches

_LANES = "SELECT lane FROM delivery WHERE event = ?"
_EVENTS = "(SELECT count(*) FROM event INDEXED BY event_by_tenant WHERE tenant = t.no{})"
_STANDING = (
    "SELECT t.no IS NOT NULL,"  # noqa: S608 - our own words
    " (SELECT count(*) FROM endpoint WHERE tenant = t.no AND deleted_ms IS NULL),"
    " (SELECT count(*) FROM token WHERE tenant = ?1),"
    f" {_EVENTS.format('')},"
    " (SELECT count(*) FROM owed WHERE lane IN (SELECT lane FROM endpoint WHERE tenant = t.no"
    " UNION ALL SELECT lane FROM callback_lane WHERE tenant = t.no)),"
    f" x.tenant IS NOT NULL, {_EVENTS.format(' AND seq > x.done AND seq <= x.up_to')}"
    " FROM (SELECT 1) LEFT JOIN tenant t ON t.name = ?1 LEFT JOIN erasure x ON x.tenant = t.no"
)
_UNDER_WAY = (
    "SELECT t.name, x.up_to, x.keys_below IS NULL FROM erasure x JOIN tenant t ON t.no = x.tenant ORDER BY x.asked_ms"
)


class Standing(NamedTuple):
    """What is known of a tenant. ``events``: tombstones among them; ``left``: those an erasure has yet to look at."""

    endpoints: int
    tokens: int
    events: int
    owed: int
    erasing: bool
    left: int


class UnderWay(NamedTuple):
    """A tenant's erasure that has not come to its end. ``locked``: what is sealed can't be opened any more."""

    tenant: str
    up_to: int
    locked: bool


class ErasureReads:
    """What is read of erasing."""

    def __init__(self, reader: Fetches) -> None:
        self._reader = reader

    async def find(self, tenant: str, event_id: str) -> tuple[int, int | None, list[int]] | None:
        """An event's number, when it was erased (None: it wasn't) and the lanes of its deliveries; None without one."""
        found = await self._reader.fetch(FIND, (tenant, event_id))
        if not found:
            return None
        seq, gone, opts, _ = found[0]
        lanes = [lane for (lane,) in await self._reader.fetch(_LANES, (seq,))]
        return seq, codec.decode_opts(opts).erased_at_ms if gone else None, lanes

    async def standing(self, tenant: str) -> Standing | None:
        """How much there is of a tenant; None if nobody knows it."""
        return _read((await self._reader.fetch(_STANDING, (tenant,)))[0])

    async def under_way(self) -> list[UnderWay]:
        """Every erasure that has not come to its end, the first asked for first."""
        return [UnderWay(name, up_to, bool(locked)) for name, up_to, locked in await self._reader.fetch(_UNDER_WAY)]


def look(tenant: str) -> Task[Standing | None]:
    """The same as ``ErasureReads.standing``, where nobody reads beside the writer."""

    def run(db: sqlite3.Connection) -> Standing | None:
        return _read(db.execute(_STANDING, (tenant,)).fetchone())

    return Task("look", run)


def _read(row: tuple[int, ...]) -> Standing | None:
    known, endpoints, tokens, events, owed, erasing, left = row
    return Standing(endpoints, tokens, events, owed, bool(erasing), left) if known or tokens else None
