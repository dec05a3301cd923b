"""Erasing: what an event held is overwritten, and a tombstone says that there was one.

Role: tasks that erase one event, or all that a tenant has in steps.
Rules:
- Of an event its id, type and times stay, and its deliveries' and attempts' states and times. An empty digest is the
  mark. What was still owed is cancelled first, so no result that comes late finds anything to write to.
- Of a tenant its endpoints go in the transaction that begins it. Their rows stay, for a lane is never used twice, but
  hold nothing. What comes behind it is sealed with a new key. Its events follow in bounded steps, up to the one that
  was the last at the beginning; ``erasure`` holds how far they have come, so that a start goes on. Hourly statistics go
  last.
- What is freed is zeroed (``secure_delete``, which every writing connection has); ``wipe_log`` empties the log, which
  holds older pages. The keyring remembers what was erased: a backup that is restored is rid of it again.
Must not know: how keys are kept, who asked, what waits in memory.
"""

import contextlib
import json
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from ringback.core.envelope import is_sealed, key_number
from ringback.core.model import Callback, DeliveryState, Endpoint, EndpointStatus
from ringback.store import codec
from ringback.store.callbacks import ERASED_ORIGIN
from ringback.store.database import BUSY_TIMEOUT_MS, Database
from ringback.store.errors import InvariantError
from ringback.store.keys import keys_of
from ringback.store.ops import Task
from ringback.store.rows import Statement

#: Deliveries that one step touches, for each event of its limit.
ROWS_AN_EVENT = 8
#: Hours of statistics that one step looks through.
HOURS_A_STEP = 24
#: How long emptying the log waits for readers, and so keeps the writer waiting.
WIPE_WAIT_MS = 100

#: What is left of what a callback asked for: its row names the lane, which retention cleans up by it.
BLANK_CALLBACK = codec.encode_callback(Callback(""))

FIND = (
    "SELECT e.seq, length(e.digest) = 0, e.opts, e.accepted_ms FROM event e JOIN tenant t ON t.no = e.tenant"
    " WHERE t.name = ? AND e.id = ?"
)
_OF_EVENTS = "event IN (SELECT value FROM json_each(?1))"
_PENDING = f"state = {int(DeliveryState.PENDING)} AND {_OF_EVENTS}"
_KEY = "lane, phase, due_ms, event"
_SETTLE = f"DELETE FROM owed WHERE ({_KEY}) IN (SELECT {_KEY} FROM delivery WHERE {_PENDING})"  # noqa: S608 - constants
_CANCEL = f"UPDATE delivery SET state = {int(DeliveryState.CANCELLED)}, phase = NULL, due_ms = NULL WHERE {_PENDING}"  # noqa: S608 - constants
_HOLD_NOTHING = tuple(
    f"{statement} WHERE {_OF_EVENTS}{unless}"
    for statement, unless in (
        ("UPDATE delivery SET info = NULL, error = NULL", " AND (info IS NOT NULL OR error IS NOT NULL)"),
        ("UPDATE attempt SET info = NULL, error = NULL", " AND (info IS NOT NULL OR error IS NOT NULL)"),
        ("DELETE FROM response_body", ""),
        ("UPDATE payload SET key_no = -1, crc = 0, data = x''", ""),
    )
)
_BLANK_CALLBACKS = f"UPDATE callback SET spec = ?2 WHERE {_OF_EVENTS} RETURNING lane"  # noqa: S608 - constants
# An origin goes with the last event that told it.
_BLANK_LANES = (
    f"UPDATE callback_lane SET origin = '{ERASED_ORIGIN}' || lane WHERE lane IN (SELECT value FROM json_each(?1))"  # noqa: S608 - a constant
    " AND origin <> '' AND NOT EXISTS (SELECT 1 FROM callback c WHERE c.lane = callback_lane.lane AND c.spec <> ?2)"
)
_OPTS = "SELECT seq, opts FROM event WHERE seq IN (SELECT value FROM json_each(?))"
_TOMBSTONES = Statement(
    "seq, opts", "UPDATE event SET digest = x'', opts = v.opts FROM v WHERE event.seq = v.seq AND v.seq IS NOT NULL"
)

_TENANT = "SELECT no FROM tenant WHERE name = ?"
_ENDPOINTS = "SELECT lane, id, status, deleted_ms FROM endpoint WHERE tenant = ?"
_BLANK_ENDPOINT = "UPDATE endpoint SET name = NULL, deleted_ms = ?, spec = ? WHERE lane = ?"
# Endpoints that were made since have other lanes, and are not touched.
_ITS_LANES = (
    "lane IN (SELECT e.lane FROM endpoint e WHERE e.tenant = ?1"
    " AND e.deleted_ms <= (SELECT x.asked_ms FROM erasure x WHERE x.tenant = ?1))"
)
_LANES_HOLD_NOTHING = tuple(
    f"DELETE FROM {table} WHERE {_ITS_LANES}"  # noqa: S608 - names of our own schema
    for table in ("endpoint_revision", "lane_health", "restored_lane")
)
_BLANK_ORIGINS = f"UPDATE callback_lane SET origin = '{ERASED_ORIGIN}' || lane WHERE tenant = ?"  # noqa: S608 - a constant
_BEGIN = (
    "INSERT INTO erasure (tenant, up_to, keys_below, asked_ms) SELECT ?1, coalesce(max(seq), 0), ?3, ?2 FROM event"
    " WHERE tenant = ?1 ON CONFLICT (tenant) DO UPDATE SET up_to = excluded.up_to, done = 0,"
    " keys_below = coalesce(excluded.keys_below, keys_below), asked_ms = excluded.asked_ms RETURNING up_to"
)
_LAST = "SELECT coalesce(max(seq), 0) FROM event WHERE tenant = ?"
_KEYS_BEYOND = (
    "SELECT DISTINCT p.key_no FROM event e INDEXED BY event_by_tenant JOIN payload p ON p.event = e.seq"
    " WHERE e.tenant = ? AND e.seq > ? AND p.key_no > 0"
)
_SPECS = (
    "SELECT spec FROM endpoint WHERE tenant = ?1"
    " UNION ALL SELECT spec FROM endpoint_revision WHERE lane IN (SELECT lane FROM endpoint WHERE tenant = ?1)"
)
_STAND = "SELECT up_to, done, keys_below FROM erasure WHERE tenant = ?"
_COUNT = "SELECT count(*) FROM event INDEXED BY event_by_tenant WHERE tenant = ? AND seq > ? AND seq <= ?"
_WINDOW = (
    "SELECT e.seq, length(e.digest) > 0, (SELECT count(*) FROM delivery d WHERE d.event = e.seq)"
    " FROM event e INDEXED BY event_by_tenant WHERE e.tenant = ? AND e.seq > ? AND e.seq <= ? ORDER BY e.seq LIMIT ?"
)
_NEXT_HOUR = "SELECT min(hour) FROM lane_hour WHERE hour > ?"
_ERASE_HOUR = f"DELETE FROM lane_hour WHERE hour = ?2 AND {_ITS_LANES}"  # noqa: S608 - constants


class ErasedEvent(NamedTuple):
    """A tombstone: ``cancelled`` deliveries of it were still owed. ``already``: it was one before."""

    seq: int
    erased_at_ms: int
    cancelled: int = 0
    already: bool = False


class Begun(NamedTuple):
    """A tenant's erasure is written down: ``events`` to look at, up to ``up_to``; ``endpoints`` deleted by it."""

    events: int
    endpoints: int
    up_to: int


class Step(NamedTuple):
    """What one step did. ``hour``: for the next one. Without ``more`` the tenant is erased.

    ``keys_first``: nothing; the erasure was asked for again, and there are keys to be destroyed before it goes on.
    """

    events: int
    cancelled: int
    more: bool
    hour: int = -1
    keys_first: bool = False


def erase_event(tenant: str, event_id: str, now_ms: int) -> Task[ErasedEvent | None]:
    """Make a tombstone of an event; None if there is none of that id. Twice is once."""

    def run(db: sqlite3.Connection) -> ErasedEvent | None:
        found = db.execute(FIND, (tenant, event_id)).fetchone()
        if found is None:
            return None
        seq, already, opts, accepted_ms = found
        keys_of(db).remember_erased(tenant, event_id, accepted_ms)
        if already:
            return ErasedEvent(seq, codec.decode_opts(opts).erased_at_ms or 0, already=True)
        return ErasedEvent(seq, now_ms, _erase(db, [seq], now_ms))

    return Task("erase_event", run, rows=ROWS_AN_EVENT)


def erase_again(remembered: Sequence[tuple[str, str, int]], now_ms: int) -> Task[int]:
    """Make tombstones of what a backup brought back of erased events (tenant, id, when last); of how many.

    Not of one accepted after that time, for then another event has the id by now.
    """

    def run(db: sqlite3.Connection) -> int:
        found = [
            (db.execute(FIND, (tenant, event_id)).fetchone(), erased_ms) for tenant, event_id, erased_ms in remembered
        ]
        seqs = [row[0] for row, erased_ms in found if row is not None and not row[1] and row[3] <= erased_ms]
        _erase(db, seqs, now_ms)
        return len(seqs)

    return Task("erase_again", run, rows=ROWS_AN_EVENT * len(remembered))


def begin_erasure(tenant: str, now_ms: int) -> Task[Begun | None]:
    """Delete a tenant's endpoints and tokens, and write down that its events go; None if nobody knows the tenant."""

    def run(db: sqlite3.Connection) -> Begun | None:
        no = _number(db, tenant)
        if no is None:
            return None
        return _begin(db, tenant, no, now_ms, keys_of(db).rotate(tenant))

    return Task("begin_erasure", run, rows=256)


def begin_again(tenant: str, now_ms: int) -> Task[None]:
    """The same for what a backup brought back of a tenant that was erased since.

    No key is destroyed by it: those that were to be are, and the ones that the tenant got since seal what newer backups
    hold. Not if an erasure is under way that reaches all that is to go: what the tenant sent behind it stays.
    """

    def run(db: sqlite3.Connection) -> None:
        no = _number(db, tenant)
        stand = db.execute(_STAND, (no,)).fetchone()
        if no is not None and (stand is None or _gone_beyond(db, tenant, no, stand[0])):
            _begin(db, tenant, no, now_ms, None)

    return Task("begin_again", run, rows=256)


def destroy_keys(tenant: str) -> Task[int]:
    """Nobody can open any more what was sealed for the tenant before its erasure began.

    Answers the last event that goes. Where no new key could be made for what came since, its events up to now go:
    nobody can open those either.
    """

    def run(db: sqlite3.Connection) -> int:
        no = _number(db, tenant)
        found = db.execute(_STAND, (no,)).fetchone()
        if no is None or found is None:
            return 0
        up_to, _, keys_below = found
        keys = keys_of(db)
        if keys_below is not None:
            if not keys_below and not keys.plain:
                up_to = max(up_to, db.execute(_LAST, (no,)).fetchone()[0])
            db.execute("UPDATE erasure SET up_to = ?, keys_below = NULL WHERE tenant = ?", (up_to, no))
            keys.destroy(tenant, keys_below)
        return int(up_to)

    return Task("destroy_keys", run)


def erase_next(tenant: str, limit: int, now_ms: int, hour: int = -1) -> Task[Step]:
    """The next step of a tenant's erasure: up to ``limit`` events, or hours of statistics beyond ``hour``."""

    def run(db: sqlite3.Connection) -> Step:
        no = _number(db, tenant)
        stand = db.execute(_STAND, (no,)).fetchone()
        if no is None or stand is None:
            return Step(0, 0, more=False)
        up_to, done, keys_below = stand
        if keys_below is not None:
            return Step(0, 0, more=True, keys_first=True)
        window = db.execute(_WINDOW, (no, done, up_to, limit)).fetchall()
        if not window:
            return _erase_hours(db, tenant, no, hour)
        seqs, last = _choose(window, limit)
        stopped = _erase(db, seqs, now_ms)
        db.execute("UPDATE erasure SET done = ? WHERE tenant = ?", (last, no))
        return Step(len(seqs), stopped, more=True)

    return Task("erase_next", run, background=True, rows=limit)


def wipe_log(database: Database) -> bool:
    """Bring everything into the database and empty the log; False if somebody was in the way.

    On a connection of its own, so for a thread beside the writer's, which waits meanwhile.
    """
    with contextlib.closing(database.connect()) as db:
        db.execute(f"PRAGMA busy_timeout = {WIPE_WAIT_MS}")
        try:
            busy: int = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.OperationalError:
            return False
        finally:
            db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    return not busy


def _number(db: sqlite3.Connection, tenant: str) -> int | None:
    """The tenant's number; of one that has nothing but a token it is made."""
    found = db.execute(_TENANT, (tenant,)).fetchone()
    if found is None and db.execute("SELECT 1 FROM token WHERE tenant = ? LIMIT 1", (tenant,)).fetchone():
        found = db.execute("INSERT INTO tenant (name) VALUES (?) RETURNING no", (tenant,)).fetchall()[0]
    return None if found is None else int(found[0])


def _begin(db: sqlite3.Connection, tenant: str, no: int, now_ms: int, keys_below: int | None) -> Begun:
    """The first transaction of an erasure. ``keys_below`` as in its row; None: no keys but those it had to destroy."""
    rows = db.execute(_ENDPOINTS, (no,)).fetchall()
    for lane, endpoint_id, status, deleted_ms in rows:
        gone_ms = now_ms if deleted_ms is None else min(deleted_ms, now_ms)
        blank = _blank(lane, endpoint_id, tenant, status, gone_ms)
        db.execute(_BLANK_ENDPOINT, (blank.deleted_at_ms, codec.encode_spec(blank), lane))
    up_to = db.execute(_BEGIN, (no, now_ms, keys_below)).fetchall()[0][0]
    for statement in (*_LANES_HOLD_NOTHING, _BLANK_ORIGINS):
        db.execute(statement, (no,))
    db.execute("DELETE FROM token WHERE tenant = ?", (tenant,))
    events = db.execute(_COUNT, (no, 0, up_to)).fetchone()[0]
    return Begun(events, sum(deleted_ms is None for *_, deleted_ms in rows), up_to)


def _gone_beyond(db: sqlite3.Connection, tenant: str, no: int, up_to: int) -> bool:
    """Whether rows that an erasure up to there doesn't reach are sealed with keys that are gone."""
    gone = set(keys_of(db).gone(db, tenant))
    beyond = {number for (number,) in db.execute(_KEYS_BEYOND, (no, up_to))}
    specs = {key_number(spec) for (spec,) in db.execute(_SPECS, (no,)) if is_sealed(spec)}
    return not gone.isdisjoint(beyond | specs)


def _blank(lane: int, endpoint_id: str, tenant: str, status: str, deleted_ms: int) -> Endpoint:
    """What an endpoint's row says when it says nothing any more."""
    return Endpoint(
        lane=lane,
        id=endpoint_id,
        tenant=tenant,
        url="",
        dialect="standard",
        created_at_ms=0,
        updated_at_ms=deleted_ms,
        status=EndpointStatus(status),
        deleted_at_ms=deleted_ms,
    )


def _choose(window: Sequence[tuple[int, int, int]], limit: int) -> tuple[list[int], int]:
    """Which of these events still hold something, as far as the step's budget of rows reaches; and the last seen."""
    seqs, last, rows = [], 0, 0
    for seq, whole, deliveries in window:
        last = seq
        if whole:
            seqs.append(seq)
            rows += deliveries
        if rows >= limit * ROWS_AN_EVENT:
            break
    return seqs, last


def _erase(db: sqlite3.Connection, seqs: Sequence[int], now_ms: int) -> int:
    """Make tombstones of these events; answers how many deliveries were cancelled."""
    if not seqs:
        return 0
    which = json.dumps(list(seqs))
    settled = db.execute(_SETTLE, (which,)).rowcount
    stopped = db.execute(_CANCEL, (which,)).rowcount
    if settled != stopped:
        raise InvariantError(f"{stopped} pending deliveries had {settled} rows in the queue")
    for statement in _HOLD_NOTHING:
        db.execute(statement, (which,))
    lanes = {lane for (lane,) in db.execute(_BLANK_CALLBACKS, (which, BLANK_CALLBACK)).fetchall()}
    if lanes:
        db.execute(_BLANK_LANES, (json.dumps(sorted(lanes)), BLANK_CALLBACK))
    opts = [(seq, codec.erased_opts(old, now_ms)) for seq, old in db.execute(_OPTS, (which,)).fetchall()]
    _TOMBSTONES.run_all(db, opts)
    return stopped


def _erase_hours(db: sqlite3.Connection, tenant: str, no: int, hour: int) -> Step:
    """The last steps: hourly statistics, then the erasure's own row."""
    for _ in range(HOURS_A_STEP):
        following = db.execute(_NEXT_HOUR, (hour,)).fetchone()[0]
        if following is None:
            for statement in _LANES_HOLD_NOTHING:  # an attempt that ended late may have written some
                db.execute(statement, (no,))
            db.execute("DELETE FROM erasure WHERE tenant = ?", (no,))
            keys_of(db).drop_gone(db, tenant)
            return Step(0, 0, more=False)
        hour = following
        db.execute(_ERASE_HOUR, (no, hour))
    return Step(0, 0, more=True, hour=hour)
