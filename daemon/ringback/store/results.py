"""Applying transitions: what an attempt, an expiry, a cancellation or a retry by hand does to the rows.

Role: the SQL of ``Finish`` for a whole batch; runs inside the writer's transaction.
Rules: the rows are read first, so a late or doubled report is answered False and changes nothing; then each statement
must change exactly the rows it names, else the transaction is rolled back. An owed row exists if and only if its
delivery is pending. The last attempt is folded into the delivery; the one before it moves to the attempt table.
Must not know: why a transition was chosen; threads, commits, the loop.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from ringback.core.envelope import Key, place
from ringback.core.model import AttemptRecord, DeliveryState, Phase
from ringback.store.keys import BODY, INFO, keys_of, sealed
from ringback.store.ops import Finish
from ringback.store.rows import Statement

#: Full response bodies kept of each lane.
FULL_BODIES_A_LANE = 20

# One row of JSON instead of many rows: one step, one hand-over of the interpreter's lock.
_STATES = (
    "SELECT json_group_array(json_array(d.event, d.lane, d.state, d.phase, d.due_ms, d.attempts,"
    " d.started_ms IS NOT NULL{whose}))"
    " FROM json_each(?) AS v CROSS JOIN delivery d ON d.event = v.value->>0 AND d.lane = v.value->>1"
)
# With encryption: for whom what an attempt left is sealed.
_WHOSE = ", (SELECT t.name FROM event e CROSS JOIN tenant t ON t.no = e.tenant WHERE e.seq = d.event)"
_STATES_WHOSE, _STATES = _STATES.format(whose=_WHOSE), _STATES.format(whose="")
# Of an erased event nothing can be owed again.
_ERASED = "SELECT e.seq FROM json_each(?) AS v CROSS JOIN event e ON e.seq = v.value WHERE length(e.digest) = 0"
_KEEP_EARLIER = Statement(
    "event, lane",
    "INSERT INTO attempt (event, lane, n, run, started_ms, elapsed_ms, status, outcome, error, info)"
    " SELECT d.event, d.lane, d.attempts, d.run, d.started_ms, d.elapsed_ms, d.status, d.outcome, d.error, d.info"
    " FROM v CROSS JOIN delivery d ON d.event = v.event AND d.lane = v.lane",
)
_RECORD = Statement(
    "event, lane, state, phase, due_ms, n, started_ms, elapsed_ms, status, outcome, error, info",
    "UPDATE delivery SET state = v.state, phase = v.phase, due_ms = v.due_ms, attempts = v.n,"
    " started_ms = v.started_ms, elapsed_ms = v.elapsed_ms, status = v.status, outcome = v.outcome,"
    " error = v.error, info = v.info"
    " FROM v WHERE delivery.event = v.event AND delivery.lane = v.lane AND delivery.state = 0",
)
_MOVE = Statement(
    "event, lane, state, phase, due_ms",
    "UPDATE delivery SET state = v.state, phase = v.phase, due_ms = v.due_ms"
    " FROM v WHERE delivery.event = v.event AND delivery.lane = v.lane AND delivery.state = 0",
)
_REOPEN = Statement(
    "event, lane",
    "UPDATE delivery SET state = 0, run = run + 1, phase = 0, due_ms = 0, started_ms = NULL, elapsed_ms = NULL,"
    " status = NULL, outcome = NULL, error = NULL, info = NULL"
    " FROM v WHERE delivery.event = v.event AND delivery.lane = v.lane AND delivery.state <> 0",
)
# 45: core.envelope.OVERHEAD_BYTES, by which sealed data is longer.
_OWE_AGAIN = Statement(
    "event, lane",
    "INSERT INTO owed (lane, phase, due_ms, event, attempts, size, expires_ms)"
    " SELECT v.lane, 0, 0, v.event, 0, length(p.data) - 45 * (p.key_no > 0), NULL"
    " FROM v CROSS JOIN payload p ON p.event = v.event",
)
_SETTLE = Statement(
    "lane, phase, due_ms, event",
    "DELETE FROM owed WHERE (lane, phase, due_ms, event) IN (SELECT lane, phase, due_ms, event FROM v)",
)
_POSTPONE = Statement(
    "lane, phase, due_ms, event, next_ms, counted",
    "UPDATE owed SET phase = 1, due_ms = v.next_ms, attempts = attempts + v.counted FROM v"
    " WHERE owed.lane = v.lane AND owed.phase = v.phase AND owed.due_ms = v.due_ms AND owed.event = v.event",
)
_BODY = Statement(
    "lane, k, event, n, key_no, body",
    "INSERT INTO response_body (lane, stamp, event, n, key_no, body) SELECT v.lane,"
    " v.k + coalesce((SELECT max(b.stamp) FROM response_body b WHERE b.lane = v.lane), 0), v.event, v.n,"
    " v.key_no, v.body FROM v"
    " WHERE v.lane IS NOT NULL",
)
# The stamps of a lane have gaps, so the ones to keep are counted.
_OLD_BODIES = (
    "DELETE FROM response_body WHERE (lane, stamp) IN (SELECT b.lane, b.stamp FROM json_each(?1) AS v"
    " CROSS JOIN response_body b ON b.lane = v.value AND b.stamp <= (SELECT m.stamp FROM response_body m"
    " WHERE m.lane = v.value ORDER BY m.stamp DESC LIMIT 1 OFFSET ?2))"
)

_json = msgspec.json.Encoder()

_Body = tuple[int, int, int, int, bytes]  # lane, event, n, number of the key, body


class _Row(NamedTuple):
    """A delivery as it stands before the transition."""

    event: int
    lane: int
    state: int
    phase: int | None
    due_ms: int | None
    attempts: int
    folded: int
    tenant: str = ""


_states_decoder = msgspec.json.Decoder(list[_Row])


class _Plan:
    """The rows of each statement, gathered from one round of transitions. ``sealing``: tenants' keys, if any."""

    def __init__(self, sealing: Mapping[str, Key]) -> None:
        self._sealing = sealing
        self.keep_earlier: list[tuple[int, int]] = []
        self.record: list[tuple[object, ...]] = []
        self.move: list[tuple[object, ...]] = []
        self.reopen: list[tuple[int, int]] = []
        self.settle: list[tuple[int, int, int, int]] = []
        self.postpone: list[tuple[int, ...]] = []
        self.bodies: list[_Body] = []

    def add(self, op: Finish, row: _Row) -> bool:
        """Take up one transition; False if the delivery has moved on."""
        if op.transition.reopen:
            return self._reopen(op, row)
        if row.state != DeliveryState.PENDING:
            return False
        state, phase, due_ms = self._owed(op, row)
        if op.attempt is not None:
            self._record(op, row, op.attempt, (state, phase, due_ms))
        elif (state, phase, due_ms) != (row.state, row.phase, row.due_ms):
            self.move.append((op.event, op.lane, state, phase, due_ms))
        return True

    def _owed(self, op: Finish, row: _Row) -> tuple[int, int | None, int | None]:
        """Change the owed row as the transition says; returns the delivery's next state, phase and due time."""
        assert row.phase is not None, "a pending delivery has its owed row's key; the schema checks it"
        assert row.due_ms is not None, "the same"
        to, due_ms = int(op.transition.to), op.transition.due_at_ms
        if to != DeliveryState.PENDING:
            self.settle.append((op.lane, row.phase, row.due_ms, op.event))
            return to, None, None
        if due_ms is None:
            return to, row.phase, row.due_ms
        self.postpone.append((op.lane, row.phase, row.due_ms, op.event, due_ms, int(op.transition.counted)))
        return to, int(Phase.TIMED), due_ms

    def _record(self, op: Finish, row: _Row, attempt: AttemptRecord, owed: tuple[int, int | None, int | None]) -> None:
        n = row.attempts + 1
        if row.folded:
            self.keep_earlier.append((op.event, op.lane))
        info, body, key_no = attempt.info, attempt.full_body, 0
        if self._sealing:
            key = self._sealing[row.tenant]
            key_no = key.number
            info = sealed(key, place(INFO, op.event, op.lane, n), info)
            body = None if body is None else sealed(key, place(BODY, op.event, op.lane, n), body)
        if body is not None:
            self.bodies.append((op.lane, op.event, n, key_no, body))
        log = (attempt.started_at_ms, attempt.elapsed_ms, attempt.status, attempt.outcome, attempt.error, info)
        self.record.append((op.event, op.lane, *owed, n, *log))

    def _reopen(self, op: Finish, row: _Row) -> bool:
        if row.state == DeliveryState.PENDING:
            return False
        if row.folded:
            self.keep_earlier.append((op.event, op.lane))
        self.reopen.append((op.event, op.lane))
        return True

    def carry_out(self, db: sqlite3.Connection) -> None:
        """Run the statements; each must change exactly its rows."""
        _KEEP_EARLIER.run_all(db, self.keep_earlier)
        _RECORD.run_all(db, self.record)
        _MOVE.run_all(db, self.move)
        _REOPEN.run_all(db, self.reopen)
        _SETTLE.run_all(db, sorted(self.settle))
        _POSTPONE.run_all(db, self.postpone)
        _OWE_AGAIN.run_all(db, self.reopen)
        if self.bodies:
            _keep_bodies(db, self.bodies)


def finish(db: sqlite3.Connection, ops: Sequence[Finish]) -> list[bool]:
    """Apply a batch of transitions in order; for each, whether it applied."""
    answers: list[bool] = []
    while len(answers) < len(ops):
        answers += _round(db, _distinct(ops, len(answers)))
    return answers


def _distinct(ops: Sequence[Finish], start: int) -> Sequence[Finish]:
    """The longest run from ``start`` in which no delivery occurs twice: each reads the row its forerunner left."""
    seen: set[tuple[int, int]] = set()
    for index in range(start, len(ops)):
        key = (ops[index].event, ops[index].lane)
        if key in seen:
            return ops[start:index]
        seen.add(key)
    return ops[start:] if start else ops


def _round(db: sqlite3.Connection, ops: Sequence[Finish]) -> list[bool]:
    keys = _json.encode([(op.event, op.lane) for op in ops]).decode()
    sealing = keys_of(db).sealing
    states = _states_decoder.decode(db.execute(_STATES_WHOSE if sealing else _STATES, (keys,)).fetchone()[0])
    rows = {(row.event, row.lane): row for row in states}
    plan = _Plan(keys_of(db).ensure(db, {row.tenant for row in states}) if sealing else {})
    gone = _erased(db, [op.event for op in ops if op.transition.reopen])
    answers = []
    for op in ops:
        row = None if op.event in gone else rows.get((op.event, op.lane))
        answers.append(row is not None and plan.add(op, row))
    plan.carry_out(db)
    return answers


def _erased(db: sqlite3.Connection, reopened: list[int]) -> set[int]:
    """Those of these events that were erased."""
    return {seq for (seq,) in db.execute(_ERASED, (_json.encode(reopened).decode(),))} if reopened else set()


def _keep_bodies(db: sqlite3.Connection, bodies: list[_Body]) -> None:
    """Store full response bodies; only the last of each lane stay."""
    # k only has to grow: a statement reads a lane's highest stamp before it inserts, so the rank must come from here.
    _BODY.run_all(db, [(lane, k, *rest) for k, (lane, *rest) in enumerate(bodies, start=1)])
    lanes = _json.encode(sorted({lane for lane, *_ in bodies})).decode()
    db.execute(_OLD_BODIES, (lanes, FULL_BODIES_A_LANE))
