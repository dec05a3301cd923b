"""Accepting events: event, payload, deliveries and owed rows in a handful of statements.

Role: the SQL of ``AcceptEvent`` for a whole batch; runs inside the writer's transaction.
Rules: an id already stored, or met earlier in the same batch, is a duplicate (same digest) or a conflict; all that is
stored for an event is stored in one transaction. Tenants and sequence numbers come from ``Numbers``, whose changes
count only once the transaction is committed.
Must not know: threads, commits, the loop.
"""

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ringback.core.envelope import Key, place
from ringback.core.model import Phase
from ringback.store import callbacks, codec
from ringback.store.keys import PAYLOAD, Keys, keys_of, sealed
from ringback.store.ops import Accepted, AcceptEvent, Conflict
from ringback.store.rows import Statement

#: Tenant numbers kept in memory; beyond it the cache starts anew (a producer may name any tenant).
MAX_TENANTS_CACHED = 10_000

_EVENT = Statement(
    "seq, tenant, id, type, created_ms, accepted_ms, digest, opts",
    "INSERT INTO event (seq, tenant, id, type, created_ms, accepted_ms, digest, opts)"
    " SELECT * FROM v WHERE v.seq IS NOT NULL ON CONFLICT (tenant, id) DO NOTHING",
)
_PAYLOAD = Statement(
    "event, key_no, crc, data",
    "INSERT INTO payload (event, key_no, crc, data) SELECT * FROM v WHERE v.event IS NOT NULL",
)
# The lanes of an event come as one JSON array: a fan-out expands inside SQLite, not in the interpreter.
_DELIVERY = Statement(
    "event, phase, due_ms, lanes",
    "INSERT INTO delivery (event, lane, phase, due_ms)"
    " SELECT v.event, l.value, v.phase, v.due_ms FROM v CROSS JOIN json_each(v.lanes) AS l",
)
# Sorted by the key, so that neighbours are written together.
_OWED = Statement(
    "event, phase, due_ms, size, expires_ms, lanes",
    "INSERT INTO owed (lane, phase, due_ms, event, attempts, size, expires_ms)"
    " SELECT l.value, v.phase, v.due_ms, v.event, 0, v.size, v.expires_ms"
    " FROM v CROSS JOIN json_each(v.lanes) AS l ORDER BY l.value",
)
# One row of JSON instead of many rows: one step, one hand-over of the interpreter's lock.
_EXISTING = (
    "SELECT json_group_array(json_array(e.tenant, e.id, e.seq, hex(e.digest),"
    " coalesce((SELECT p.key_no FROM payload p WHERE p.event = e.seq), 0),"
    " (SELECT count(*) FROM delivery d WHERE d.event = e.seq)))"
    " FROM json_each(?) AS v CROSS JOIN event e ON e.tenant = v.value->>0 AND e.id = v.value->>1"
)
_NEW_TENANTS = "INSERT INTO tenant (name) SELECT value FROM json_each(?) WHERE true ON CONFLICT (name) DO NOTHING"
_TENANTS = "SELECT json_group_object(t.name, t.no) FROM json_each(?) AS v CROSS JOIN tenant t ON t.name = v.value"

_json = msgspec.json.Encoder()
_existing_decoder = msgspec.json.Decoder(list[tuple[int, str, int, str, int, int]])
_tenants_decoder = msgspec.json.Decoder(dict[str, int])

_Key = tuple[int, str]  # tenant number, event id


class _Stored(NamedTuple):
    """An event that was there before. ``key_no``: under which key its digest lies, 0 bare."""

    seq: int
    digest: bytes
    key_no: int
    deliveries: int


class Numbers:
    """Sequence and tenant numbers, as the open transaction sees them."""

    def __init__(self, high_seq: int) -> None:
        self.high_seq = high_seq  #: highest sequence number of any committed event, ever
        self._next = high_seq + 1
        self._top = high_seq
        self._tenants: dict[str, int] = {}
        self._fresh: dict[str, int] = {}

    def take(self, count: int) -> int:
        """Reserve that many consecutive sequence numbers; returns the first."""
        first = self._next
        self._next += count
        return first

    def used(self, seq: int) -> None:
        """This number went to an event; what duplicates had reserved above it is free again."""
        self._top = max(self._top, seq)

    def tenants(self, db: sqlite3.Connection, ops: Sequence[AcceptEvent]) -> dict[str, int]:
        """The number of each event's tenant, new tenants inserted."""
        known, fresh = self._tenants, self._fresh
        unknown = {name for op in ops if (name := op.event.tenant) not in known and name not in fresh}
        if unknown:
            names = _json.encode(sorted(unknown)).decode()
            db.execute(_NEW_TENANTS, (names,))
            fresh.update(_tenants_decoder.decode(db.execute(_TENANTS, (names,)).fetchone()[0]))
        return {**known, **fresh} if fresh else known

    def committed(self) -> None:
        """The transaction is on disk: what it took counts."""
        self.high_seq = self._top
        self._next = self._top + 1
        if self._fresh:
            if len(self._tenants) + len(self._fresh) > MAX_TENANTS_CACHED:
                self._tenants = {}
            self._tenants = {**self._tenants, **self._fresh} if len(self._fresh) <= MAX_TENANTS_CACHED else {}
            self._fresh = {}

    def rolled_back(self) -> None:
        """The transaction is undone: what it took is free again (nobody was told)."""
        self._top = self.high_seq
        self._next = self._top + 1
        self._fresh = {}


def accept(db: sqlite3.Connection, numbers: Numbers, ops: Sequence[AcceptEvent]) -> list[Accepted | Conflict]:
    """Store a batch of events; one answer for each, in order."""
    tenants = numbers.tenants(db, ops)
    sealing = keys_of(db).ensure(db, (op.event.tenant for op in ops))
    keys = [(tenants[op.event.tenant], op.event.id) for op in ops]
    firsts: dict[_Key, AcceptEvent] = {}
    for key, op in zip(keys, ops, strict=True):
        firsts.setdefault(key, op)
    first_seq = numbers.take(len(firsts))
    seqs = {key: first_seq + offset for offset, key in enumerate(firsts)}
    stored: dict[_Key, _Stored] = {}
    if _insert_events(db, firsts, seqs, sealing) != len(firsts):
        stored = _find_stored(db, seqs)
    fresh = [(seqs[key], op) for key, op in firsts.items() if key not in stored]
    called: dict[int, int] = {}
    if fresh:
        numbers.used(fresh[-1][0])
        called = callbacks.store(db, tenants, fresh, sealing)
        _insert_rest(db, fresh, called, sealing)
    return [
        _judge(op, stored[key], keys_of(db)) if key in stored else _answer(op, firsts[key], seqs[key], called)
        for key, op in zip(keys, ops, strict=True)
    ]


def _insert_events(
    db: sqlite3.Connection, firsts: dict[_Key, AcceptEvent], seqs: dict[_Key, int], sealing: dict[str, Key]
) -> int:
    rows = []
    for key, op in firsts.items():
        event = op.event
        opts = codec.encode_opts(event, op.peer)
        digest = sealing[event.tenant].digest(event.digest) if sealing else event.digest
        row = (seqs[key], key[0], key[1], event.type, event.created_at_ms, op.accepted_at_ms, digest, opts)
        rows.append(row)
    return _EVENT.run(db, rows)


def _find_stored(db: sqlite3.Connection, seqs: dict[_Key, int]) -> dict[_Key, _Stored]:
    """Which of these ids were there before: those that lie under another number than the one just tried."""
    text = db.execute(_EXISTING, (_json.encode(list(seqs)).decode(),)).fetchone()[0]
    return {
        (tenant, event_id): _Stored(seq, bytes.fromhex(digest), key_no, deliveries)
        for tenant, event_id, seq, digest, key_no, deliveries in _existing_decoder.decode(text)
        if seq != seqs[tenant, event_id]
    }


def _insert_rest(
    db: sqlite3.Connection, fresh: list[tuple[int, AcceptEvent]], called: dict[int, int], sealing: dict[str, Key]
) -> None:
    """``called``: the callback's lane, by the number of its event."""
    payloads, deliveries, owed = [], [], []
    for seq, op in fresh:
        event = op.event
        key = sealing[event.tenant] if sealing else None
        data = event.data if key is None else sealed(key, place(PAYLOAD, seq), event.data)
        payloads.append((seq, 0 if key is None else key.number, codec.checksum(data), data))
        numbers = (*op.lanes, called[seq]) if seq in called else op.lanes
        if not numbers:
            continue
        lanes = _json.encode(numbers).decode()
        # A fresh row has no due time at all, so that a stepped clock can't stall it.
        phase, due_ms = (
            (int(Phase.FRESH), 0) if event.deliver_after_ms is None else (int(Phase.TIMED), event.deliver_after_ms)
        )
        deliveries.append((seq, phase, due_ms, lanes))
        owed.append((seq, phase, due_ms, len(event.data), event.expires_at_ms, lanes))
    _PAYLOAD.run(db, payloads)
    _DELIVERY.run(db, deliveries)
    _OWED.run(db, owed)


def _judge(op: AcceptEvent, stored: _Stored, keys: Keys) -> Accepted | Conflict:
    """The answer for an id that was there before this batch."""
    if not keys.same_digest(op.event.digest, stored.digest, stored.key_no):
        return Conflict()
    return Accepted(stored.seq, stored.deliveries, duplicate=True)


def _answer(op: AcceptEvent, first: AcceptEvent, seq: int, called: dict[int, int]) -> Accepted | Conflict:
    """The answer for an id that is new with this batch, where ``first`` brought it."""
    if op is first:
        return Accepted(seq, op.deliveries, callback_lane=called.get(seq) if called else None)
    if op.event.digest != first.event.digest:
        return Conflict()
    return Accepted(seq, first.deliveries, duplicate=True)
