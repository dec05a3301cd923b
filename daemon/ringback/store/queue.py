"""The queue as the dispatcher sees it: who owes what, the next rows of a lane, the bodies; and its cold changes.

Role: the reads over ``owed`` and the loading of events; tasks that cancel or move owed rows.
Rules: all limited, all along an index; a refill never returns a row whose time hasn't come; fresh and timed rows are
asked for apart, so that neither starves the other. Answers come as one row of JSON (``reader``). The caller leaves out
what it has in flight.
Must not know: windows, budgets, who is asked first.
"""

import sqlite3
from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec

from ringback.core.envelope import Tampered, is_sealed, place
from ringback.core.lifecycle import hastened, retry_at
from ringback.core.model import Event, Owed, Phase, Transition
from ringback.store import codec
from ringback.store.errors import InvariantError
from ringback.store.keys import CALLBACK, PAYLOAD, Erased, Keys
from ringback.store.ops import Finish, Task
from ringback.store.reader import Fetches
from ringback.store.results import finish
from ringback.store.views import StoredEvent

__all__ = [
    "Ask",
    "Hastened",
    "HastenedUpTo",
    "Head",
    "QueueReads",
    "Refill",
    "StoredEvent",
    "cancel_owed",
    "clamp_timed",
    "hasten_owed",
]

#: Lanes asked for in one statement.
MAX_ASKS_A_STATEMENT = 64

#: Events loaded in one statement; the caller keeps the budget of bytes.
MAX_LOADS_A_STATEMENT = 256

#: A step of a walk runs at most so much later than it was asked for: the writer had more urgent work.
STEP_WAIT_MS = 60_000

#: Beyond every time and every event.
_END = 1 << 62

_HEADS = (
    "WITH RECURSIVE l (lane) AS (SELECT min(lane) FROM owed UNION ALL"
    " SELECT (SELECT o.lane FROM owed o WHERE o.lane > l.lane ORDER BY o.lane LIMIT 1) FROM l WHERE l.lane IS NOT NULL)"
    " SELECT json_group_array(json_array(l.lane,"
    " EXISTS (SELECT 1 FROM owed o WHERE o.lane = l.lane AND o.phase = 0),"
    " (SELECT min(o.due_ms) FROM owed o WHERE o.lane = l.lane AND o.phase = 1)))"
    " FROM l WHERE l.lane IS NOT NULL"
)
_FRESH = (
    "(SELECT json_group_array(json_array(event, attempts, size, expires_ms, 0)) FROM"
    " (SELECT event, attempts, size, expires_ms FROM owed"
    " WHERE lane = ?{lane} AND phase = 0 ORDER BY due_ms, event LIMIT ?{fresh}))"
)
_TIMED = (
    "(SELECT json_group_array(json_array(event, attempts, size, expires_ms, due_ms)) FROM"
    " (SELECT event, attempts, size, expires_ms, due_ms FROM owed"
    " WHERE lane = ?{lane} AND phase = 1 AND due_ms <= ?1 ORDER BY due_ms, event LIMIT ?{timed}))"
)
_NEXT = "(SELECT min(due_ms) FROM owed WHERE lane = ?{lane} AND phase = 1 AND due_ms > ?1)"
# All data in one blob, cut apart by the lengths: one step for the statement, however many events.
_LOAD = (
    "SELECT json_group_array(json_array(e.seq, e.id, t.name, e.type, e.created_ms, e.accepted_ms, hex(e.digest),"
    " hex(e.opts), p.key_no, p.crc, length(p.data),"
    " (SELECT hex(c.spec) FROM callback c WHERE c.event = e.seq))),"
    " CAST(group_concat(CAST(p.data AS TEXT), '') AS BLOB)"
    " FROM json_each(?) AS v CROSS JOIN event e ON e.seq = v.value"
    " CROSS JOIN tenant t ON t.no = e.tenant CROSS JOIN payload p ON p.event = e.seq"
)
_EXPIRING = (
    "SELECT lane, event, phase, due_ms, attempts, size, expires_ms FROM owed"
    " WHERE expires_ms <= ? ORDER BY expires_ms LIMIT ?"
)
_NAMES = "SELECT e.seq, e.id, e.accepted_ms FROM json_each(?) AS v CROSS JOIN event e ON e.seq = v.value"
# A lane's rows in the order of the queue, as one row of JSON: what is cancelled, and the key of its owed row.
_OWED_OF_LANE = (
    "SELECT json_group_array(json_array(phase, due_ms, event)) FROM (SELECT phase, due_ms, event FROM owed"
    " WHERE lane = ?1 AND event NOT IN (SELECT value FROM json_each(?2)) LIMIT ?3)"
)
_CANCEL = (
    "UPDATE delivery SET state = 4, phase = NULL, due_ms = NULL FROM json_each(?2) AS v"
    " WHERE delivery.event = v.value->>2 AND delivery.lane = ?1 AND delivery.state = 0"
)
_OWE_NO_MORE = (
    "DELETE FROM owed WHERE (lane, phase, due_ms, event) IN"
    " (SELECT ?1, value->>0, value->>1, value->>2 FROM json_each(?2))"
)
_RETRIES_AFTER = (
    "SELECT event FROM owed WHERE lane = ? AND phase = 1 AND due_ms > ? AND attempts > 0 ORDER BY due_ms LIMIT ?"
)
# What was tried between ?4 and ?5 is not wanted. An end in the future is one of before: the clock was put back since.
_WAITING = (
    "SELECT o.due_ms, o.event, o.attempts > 0 AND"
    " NOT coalesce(d.started_ms + d.elapsed_ms BETWEEN ?4 AND ?5, 0)"
    " FROM owed o CROSS JOIN delivery d ON d.event = o.event AND d.lane = o.lane"
    " WHERE o.lane = ?1 AND o.phase = 1 AND (o.due_ms, o.event) > (?2, ?3) ORDER BY o.due_ms, o.event LIMIT ?6"
)
_BACKLOG = (
    "SELECT n, (SELECT accepted_ms FROM event WHERE seq = oldest) FROM"
    " (SELECT count(*) AS n, min(event) AS oldest FROM owed)"
)
_COUNT = "SELECT count(*) FROM (SELECT 1 FROM owed WHERE lane = ? LIMIT ?)"


class Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a lane owes: whether it has fresh rows, and when the earliest timed one is due."""

    lane: int
    fresh: bool
    next_timed_ms: int | None


class Ask(msgspec.Struct, frozen=True, gc=False):
    """How many rows of each phase a lane wants at most."""

    lane: int
    fresh: int
    timed: int


class Refill(msgspec.Struct, frozen=True):
    """A lane's next rows: fresh ones by event, then due ones by due time.

    ``next_timed_ms``: when the earliest timed row that wasn't returned is due, None if there is none. ``more_fresh``:
    there are fresh rows beyond those returned.
    """

    lane: int
    items: list[Owed]
    next_timed_ms: int | None
    more_fresh: bool


class HastenedUpTo(NamedTuple):
    """How far a walk that hastens a lane has come: when it began (wall clock), and the last row it looked at."""

    began_ms: int
    due_ms: int
    event: int


class Hastened(NamedTuple):
    """What one step of it did: deliveries moved, and where the next one begins; None: there is nothing behind."""

    moved: int
    next: HastenedUpTo | None


class _Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    event: int
    attempts: int
    size: int
    expires_ms: int | None
    due_ms: int


class _Meta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    seq: int
    id: str
    tenant: str
    type: str
    created_ms: int
    accepted_ms: int
    digest: str
    opts: str
    key_no: int
    crc: int
    length: int
    callback: str | None


_json = msgspec.json.Encoder()
_heads_decoder = msgspec.json.Decoder(list[tuple[int, int, int | None]])
_rows_decoder = msgspec.json.Decoder(list[_Row])
_metas_decoder = msgspec.json.Decoder(list[_Meta])


def refill_sql(asks: int) -> str:
    """The statement for that many asks: ?1 is now, then lane, fresh + 1, timed + 1 of each."""
    columns = []
    for index in range(asks):
        places = {"lane": 3 * index + 2, "fresh": 3 * index + 3, "timed": 3 * index + 4}
        columns += [part.format(**places) for part in (_FRESH, _TIMED, _NEXT)]
    return "SELECT " + ", ".join(columns)


_REFILLS = {size: refill_sql(size) for size in (1, 2, 4, 8, 16, 32, MAX_ASKS_A_STATEMENT)}


class QueueReads:
    """The dispatcher's reads."""

    def __init__(self, reader: Fetches) -> None:
        self._reader = reader

    async def heads(self) -> list[Head]:
        """Every lane that owes something."""
        rows = await self._reader.fetch(_HEADS)
        return [Head(lane, bool(fresh), due_ms) for lane, fresh, due_ms in _heads_decoder.decode(rows[0][0])]

    async def refill(self, asks: Sequence[Ask], now_ms: int) -> list[Refill]:
        """The next rows of each lane asked for, in the order of the asks."""
        found: list[Refill] = []
        for start in range(0, len(asks), MAX_ASKS_A_STATEMENT):
            part = asks[start : start + MAX_ASKS_A_STATEMENT]
            size = next(size for size in _REFILLS if size >= len(part))
            parameters = [now_ms]
            for ask in part:
                # One more than wanted, to learn whether there are more.
                parameters += (ask.lane, ask.fresh + 1, ask.timed + 1)
            parameters += [0] * (3 * (size - len(part)))
            row = (await self._reader.fetch(_REFILLS[size], tuple(parameters)))[0]
            found += [_refill(ask, *row[3 * i : 3 * i + 3]) for i, ask in enumerate(part)]
        return found

    async def load(self, seqs: Sequence[int]) -> list[StoredEvent]:
        """These events with their data; those that are gone are left out."""
        found: list[StoredEvent] = []
        for start in range(0, len(seqs), MAX_LOADS_A_STATEMENT):
            wanted = sorted(set(seqs[start : start + MAX_LOADS_A_STATEMENT]))
            metas, data = (await self._reader.fetch(_LOAD, (_json.encode(wanted).decode(),)))[0]
            found += _cut(_metas_decoder.decode(metas), data or b"", self._reader.keys)
        return found

    async def expiring(self, now_ms: int, limit: int) -> list[Owed]:
        """Owed rows whose time is over, earliest first."""
        return [Owed(*row) for row in await self._reader.fetch(_EXPIRING, (now_ms, limit))]

    async def names(self, seqs: Sequence[int]) -> dict[int, tuple[str, int]]:
        """Of these events: id, and when it was accepted (wall clock); without their data."""
        rows = await self._reader.fetch(_NAMES, (_json.encode(list(seqs)).decode(),))
        return {seq: (event_id, accepted_ms) for seq, event_id, accepted_ms in rows}

    async def newest_ms(self) -> int | None:
        """When the newest event was accepted, wall clock; None if there is none."""
        rows = await self._reader.fetch("SELECT accepted_ms FROM event ORDER BY seq DESC LIMIT 1")
        newest: int | None = rows[0][0] if rows else None
        return newest

    async def backlog(self) -> tuple[int, int | None]:
        """How many rows are owed in all, and when the oldest event among them was accepted. Walks over all of them."""
        count, oldest_at_ms = (await self._reader.fetch(_BACKLOG))[0]
        return count, oldest_at_ms

    async def owed_count(self, lane: int, cap: int) -> int:
        """How many rows the lane owes, counted up to ``cap``."""
        count: int = (await self._reader.fetch(_COUNT, (lane, cap)))[0][0]
        return count


def _refill(ask: Ask, fresh: str, timed: str, next_ms: int | None) -> Refill:
    fresh_rows, timed_rows = _rows_decoder.decode(fresh), _rows_decoder.decode(timed)
    if len(timed_rows) > ask.timed:
        next_ms = timed_rows[ask.timed].due_ms
    items = [_owed(ask.lane, Phase.FRESH, row) for row in fresh_rows[: ask.fresh]]
    items += [_owed(ask.lane, Phase.TIMED, row) for row in timed_rows[: ask.timed]]
    return Refill(ask.lane, items, next_ms, more_fresh=len(fresh_rows) > ask.fresh)


def _owed(lane: int, phase: int, row: _Row) -> Owed:
    return Owed(lane, row.event, int(phase), row.due_ms, row.attempts, row.size, row.expires_ms)


def _cut(metas: list[_Meta], data: bytes, keys: Keys) -> list[StoredEvent]:
    found, start = [], 0
    for meta in metas:
        found.append(_stored_event(meta, data[start : start + meta.length], keys))
        start += meta.length
    return found


def _stored_event(meta: _Meta, stored: bytes, keys: Keys) -> StoredEvent:
    """The event of a row and its data, its checksum checked; without its data if that can't be had any more."""
    opts = codec.decode_opts(bytes.fromhex(meta.opts) or None)
    corrupt = codec.checksum(stored) != meta.crc
    data, callback = stored, None
    try:
        if meta.key_no > 0:
            data = keys.unseal(place(PAYLOAD, meta.seq), stored)
        elif is_sealed(stored):
            raise Tampered("it says that it isn't sealed")  # noqa: TRY301 - one answer to all that can be wrong with it
        if meta.callback:
            spec = keys.open(place(CALLBACK, meta.seq), bytes.fromhex(meta.callback))
            callback = codec.decode_callback(spec)
    except (Tampered, Erased):
        data, corrupt = b"", True
    event = Event(
        id=meta.id,
        tenant=meta.tenant,
        type=meta.type,
        data=data,
        created_at_ms=meta.created_ms,
        digest=bytes.fromhex(meta.digest),
        deliver_after_ms=opts.deliver_after_ms,
        expires_at_ms=opts.expires_at_ms,
        callback=callback,
    )
    return StoredEvent(meta.seq, event, meta.accepted_ms, corrupt=corrupt, opts=opts)


def cancel_owed(lane: int, limit: int, keep: Collection[int] = ()) -> Task[int]:
    """Cancel up to ``limit`` rows of a lane, but for the events in ``keep`` (in flight). Answers how many."""

    def run(db: sqlite3.Connection) -> int:
        left_out = _json.encode(sorted(keep)).decode()
        found: str = db.execute(_OWED_OF_LANE, (lane, left_out, limit)).fetchone()[0]
        changed = [db.execute(statement, (lane, found)).rowcount for statement in (_CANCEL, _OWE_NO_MORE)]
        if changed[0] != changed[1]:
            raise InvariantError(f"{changed[0]} deliveries cancelled, {changed[1]} rows of the queue removed")
        return changed[0]

    return Task("cancel_owed", run, background=True, rows=limit)


def clamp_timed(lane: int, horizon_ms: int, new_due_ms: int, limit: int) -> Task[int]:
    """Retries due beyond the horizon become due at ``new_due_ms``: the clock was ahead when they were written.

    A first attempt's wish is left alone. Answers how many rows moved, at most ``limit``.
    """

    def run(db: sqlite3.Connection) -> int:
        events = _retries_after(db, lane, horizon_ms, limit)
        return _apply(db, lane, events, msgspec.structs.replace(retry_at(new_due_ms), counted=False))

    return Task("clamp_timed", run, background=True, rows=limit)


def hasten_owed(lane: int, now_ms: int, limit: int, before: HastenedUpTo | None = None) -> Task[Hastened]:
    """Retries of a lane that are due later become due at once, the earliest first.

    One step of a walk: it looks at ``limit`` rows, from ``before`` on, where the step before it ended. A walk moves a
    delivery once at most: what was tried since it began, and waits again, is left alone; so is a first attempt's wish.
    """
    began_ms = now_ms if before is None else before.began_ms
    # What the first step finds all waits at its moment, so nothing of it was tried since.
    since = (_END, 0) if before is None else (began_ms, now_ms + STEP_WAIT_MS)
    after = max((now_ms, _END), (before.due_ms, before.event) if before else (0, 0))

    def run(db: sqlite3.Connection) -> Hastened:
        rows = db.execute(_WAITING, (lane, *after, *since, limit)).fetchall()
        moved = _apply(db, lane, [event for _, event, waits in rows if waits], hastened())
        return Hastened(moved, HastenedUpTo(began_ms, *rows[-1][:2]) if len(rows) == limit else None)

    return Task("hasten_owed", run, background=True, rows=limit)


def _retries_after(db: sqlite3.Connection, lane: int, after_ms: int, limit: int) -> list[int]:
    return [event for (event,) in db.execute(_RETRIES_AFTER, (lane, after_ms, limit))]


def _apply(db: sqlite3.Connection, lane: int, events: list[int], transition: Transition) -> int:
    return sum(finish(db, [Finish(lane, event, transition) for event in events]))
