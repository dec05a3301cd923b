"""Sealing what lay in the clear when encryption was turned on.

Role: a background task, submitted again while it answers that there is more, that seals endpoints and then events with
all that hangs on them; how many there are still to do.
Rules: what was in the clear is overwritten with zeros where it is freed. Nothing changes but how values lie. A step is
bounded in rows and in bytes. Copies in pages that were free before are beyond it (a backup holds none), and those in
the log are its caller's, who empties it.
Must not know: keys (``Keys`` seals), who asked.
"""

import sqlite3
from typing import NamedTuple

from ringback.core.envelope import Key, is_sealed, place
from ringback.store import codec, marks
from ringback.store.keys import BODY, CALLBACK, INFO, PAYLOAD, SPEC, keys_of, sealed
from ringback.store.ops import Task
from ringback.store.reader import Fetches

#: Bytes of payloads that one step seals, about; one event is always taken.
STEP_BYTES = 1024 * 1024

_LANES = (
    "SELECT e.lane, e.revision, t.name, e.spec FROM endpoint e JOIN tenant t ON t.no = e.tenant"
    " WHERE e.lane > ? AND e.lane <= ? ORDER BY e.lane LIMIT ?"
)
_EVENTS = (
    "SELECT e.seq, t.name, e.digest, p.key_no, length(p.data) FROM event e JOIN tenant t ON t.no = e.tenant"
    " JOIN payload p ON p.event = e.seq WHERE e.seq > ? AND e.seq <= ? ORDER BY e.seq LIMIT ?"
)
_INFOS = (
    (
        "SELECT lane, attempts, info FROM delivery WHERE event = ? AND info IS NOT NULL",
        "UPDATE delivery SET info = ? WHERE event = ? AND lane = ? AND attempts = ?",
    ),
    (
        "SELECT lane, n, info FROM attempt WHERE event = ? AND info IS NOT NULL",
        "UPDATE attempt SET info = ? WHERE event = ? AND lane = ? AND n = ?",
    ),
)
_BODIES = "SELECT lane, stamp, n, body FROM response_body WHERE event = ? AND key_no = 0"


class Left(NamedTuple):
    """What still lies in the clear, at most."""

    endpoints: int
    events: int


def seal_next(limit: int) -> Task[bool]:
    """Seal up to ``limit`` endpoints or events that lie in the clear. Answers whether there is more to do."""

    def run(db: sqlite3.Connection) -> bool:
        if not keys_of(db).sealing:
            return False
        return _seal_lanes(db, limit) or _seal_events(db, limit)

    return Task("seal_next", run, background=True, rows=limit)


def rotate_key(tenant: str) -> Task[bool]:
    """Seal what a tenant sends from now on with a new key; False if nobody knows the tenant."""

    def run(db: sqlite3.Connection) -> bool:
        if db.execute("SELECT 1 FROM tenant WHERE name = ?", (tenant,)).fetchone() is None:
            return False
        keys_of(db).rotate(tenant)
        return True

    return Task("rotate_key", run)


async def left_in_the_clear(reader: Fetches) -> Left:
    """How much the background has still to seal."""
    rows = await reader.fetch(
        "SELECT name, value FROM meta WHERE name IN ('seal_from', 'seal_to', 'seal_lane', 'seal_lanes')"
    )
    at = dict(rows)
    return Left(max(0, at["seal_lanes"] - at["seal_lane"]), max(0, at["seal_to"] - at["seal_from"]))


def _seal_lanes(db: sqlite3.Connection, limit: int) -> bool:
    """A step over the endpoints; True if there were any."""
    start, end = marks.get(db, "seal_lane"), marks.get(db, "seal_lanes")
    if start >= end:
        return False
    found = db.execute(_LANES, (start, end, limit)).fetchall()
    for lane, revision, tenant, spec in found:
        key = keys_of(db).ensure(db, (tenant,))[tenant]
        if not is_sealed(spec):
            value = sealed(key, place(SPEC, lane, revision), spec)
            db.execute("UPDATE endpoint SET spec = ? WHERE lane = ?", (value, lane))
        for old, spec_then in db.execute(
            "SELECT revision, spec FROM endpoint_revision WHERE lane = ?", (lane,)
        ).fetchall():
            if not is_sealed(spec_then):
                value = sealed(key, place(SPEC, lane, old), spec_then)
                db.execute("UPDATE endpoint_revision SET spec = ? WHERE lane = ? AND revision = ?", (value, lane, old))
    marks.put(db, "seal_lane", found[-1][0] if len(found) == limit else end)
    return True


def _seal_events(db: sqlite3.Connection, limit: int) -> bool:
    """A step over the events; True if there were any."""
    start, end = marks.get(db, "seal_from"), marks.get(db, "seal_to")
    if start >= end:
        return False
    found = db.execute(_EVENTS, (start, end, limit)).fetchall()
    size = 0
    for index, (seq, tenant, digest, key_no, length) in enumerate(found):
        if size >= STEP_BYTES:
            last = found[index - 1][0]
            break
        size += length
        key = keys_of(db).ensure(db, (tenant,))[tenant]
        if key_no == 0:
            _seal_payload(db, key, seq, digest)
        if key_no >= 0:  # else erased
            _seal_rest(db, key, seq)
    else:
        last = end if len(found) < limit else found[-1][0]
    marks.put(db, "seal_from", last)
    return True


def _seal_payload(db: sqlite3.Connection, key: Key, seq: int, digest: bytes) -> None:
    data = db.execute("SELECT data FROM payload WHERE event = ?", (seq,)).fetchone()[0]
    value = sealed(key, place(PAYLOAD, seq), data)
    row = (key.number, codec.checksum(value), value, seq)
    db.execute("UPDATE payload SET key_no = ?, crc = ?, data = ? WHERE event = ?", row)
    db.execute("UPDATE event SET digest = ? WHERE seq = ?", (key.digest(digest), seq))


def _seal_rest(db: sqlite3.Connection, key: Key, seq: int) -> None:
    """What hangs on an event and isn't sealed."""
    for (spec,) in db.execute("SELECT spec FROM callback WHERE event = ?", (seq,)).fetchall():
        if not is_sealed(spec):
            db.execute("UPDATE callback SET spec = ? WHERE event = ?", (sealed(key, place(CALLBACK, seq), spec), seq))
    for look, put in _INFOS:
        for lane, n, info in db.execute(look, (seq,)).fetchall():
            if info and not is_sealed(info):
                db.execute(put, (sealed(key, place(INFO, seq, lane, n), info), seq, lane, n))
    for lane, stamp, n, body in db.execute(_BODIES, (seq,)).fetchall():
        value = sealed(key, place(BODY, seq, lane, n), body)
        db.execute(
            "UPDATE response_body SET key_no = ?, body = ? WHERE lane = ? AND stamp = ?",
            (key.number, value, lane, stamp),
        )
