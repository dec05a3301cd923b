"""Retention: what is older than it should be goes, in small steps.

Role: background tasks that the janitor submits again while they say ``more``.
Rules:
- Events go by the time they were accepted, in order of their numbers, with everything that hangs on them; one that is
  still owed stays, its id remembered, and is looked at again later (``leftovers``).
- Attempts of an event are stripped once, when the event was accepted before the cutoff: earlier attempts go, of the
  last one the outcome stays. An attempt made after that stays as long as its event.
- Finished events can be pruned by name, before their time (``prune_finished``); one that is owed again by then stays.
- Entries of pruned events in the history index are swept lane by lane, many at once: 20 times cheaper than one by one.
- A step is bounded in rows it looks at and rows it deletes. Numbers of pruned events are never used again.
Must not know: settings, the clock.
"""

import json
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from ringback.store import marks
from ringback.store.ops import Task

#: Deliveries that one step looks at or deletes, for each event of its limit.
ROWS_AN_EVENT = 8

#: Pruned event numbers that may linger in the history index before it is swept.
SWEEP_EVERY_EVENTS = 50_000

_WINDOW = "SELECT seq, accepted_ms FROM event WHERE seq > ? ORDER BY seq LIMIT ?"
_LEFT_OVER = "SELECT seq, accepted_ms FROM event WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
_LATEST = "SELECT coalesce(max(accepted_ms), 0) FROM event WHERE seq IN (SELECT value FROM json_each(?))"
_DELIVERIES = "SELECT count(*), coalesce(sum(state = 0), 0) FROM delivery WHERE event = ?"
_OF_EVENTS = " WHERE {column} IN (SELECT value FROM json_each(?))"
# The lane of an origin goes with the last event that names it.
_CALLBACK_LANES = (
    "DELETE FROM callback_lane WHERE lane IN (SELECT c.lane FROM callback c"
    " WHERE c.event IN (SELECT value FROM json_each(?1))) AND NOT EXISTS (SELECT 1 FROM callback c"
    " WHERE c.lane = callback_lane.lane AND c.event NOT IN (SELECT value FROM json_each(?1)))"
)
_DELETES = tuple(
    f"DELETE FROM {table}" + _OF_EVENTS.format(column=column)  # noqa: S608 - names of our own schema
    for table, column in (
        ("callback", "event"),
        ("attempt", "event"),
        ("response_body", "event"),
        ("delivery", "event"),
        ("payload", "event"),
        ("event", "seq"),
    )
)
_HISTORY_OF_LANE = "SELECT event FROM lane_history WHERE lane = ? AND event > ? AND event <= ? ORDER BY event LIMIT ?"
_SWEEP = (
    "DELETE FROM lane_history WHERE lane = ?1 AND event > ?2 AND event <= ?3 AND NOT EXISTS"
    " (SELECT 1 FROM delivery d WHERE d.event = lane_history.event AND d.lane = ?1)"
)
_NEXT_LANE = "SELECT lane FROM lane_history WHERE lane > ? ORDER BY lane LIMIT 1"
_STRIP_EARLIER = "DELETE FROM attempt WHERE event > ? AND event <= ? AND started_ms < ?"
_STRIP_BODIES = (
    "DELETE FROM response_body WHERE event > ?1 AND event <= ?2 AND NOT EXISTS (SELECT 1 FROM attempt a"
    " WHERE a.event = response_body.event AND a.lane = response_body.lane AND a.n = response_body.n)"
    " AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.event = response_body.event AND d.lane = response_body.lane"
    " AND d.attempts = response_body.n AND d.started_ms >= ?3)"
)
_STRIP_LAST = "UPDATE delivery SET info = NULL WHERE event > ? AND event <= ? AND started_ms < ? AND info IS NOT NULL"


class Pruned(NamedTuple):
    """What one step did: events or attempts pruned, and whether there is more to do now."""

    pruned: int
    more: bool


class Trimmed(NamedTuple):
    """What one step did: events pruned, the last one looked at, and when the latest of the pruned was accepted."""

    pruned: int
    last: int
    latest_ms: int


def prune_events(cutoff_ms: int, limit: int) -> Task[Pruned]:
    """Delete up to ``limit`` events accepted before ``cutoff_ms`` that nobody is owed."""

    def run(db: sqlite3.Connection) -> Pruned:
        for look in (_prune_next, _prune_left_over):
            pruned, moved = look(db, cutoff_ms, limit)
            if pruned or moved:
                return Pruned(pruned, more=True)
        return Pruned(0, more=_sweep(db, limit * ROWS_AN_EVENT))

    return Task("prune_events", run, background=True, rows=limit)


def prune_finished(seqs: Sequence[int], limit: int) -> Task[Trimmed]:
    """Delete those of these events (ascending, at least one) that nobody is owed, as far as a step's rows reach."""

    def run(db: sqlite3.Connection) -> Trimmed:
        doomed, last = _choose(db, seqs, limit)
        latest_ms = db.execute(_LATEST, (json.dumps(doomed),)).fetchone()[0]
        _delete(db, doomed)
        return Trimmed(len(doomed), last, latest_ms)

    return Task("prune_finished", run, background=True, rows=limit)


def prune_attempts(cutoff_ms: int, limit: int) -> Task[Pruned]:
    """Strip the attempts made before ``cutoff_ms`` of the next ``limit`` events accepted before it."""

    def run(db: sqlite3.Connection) -> Pruned:
        start = marks.get(db, "attempts")
        window = db.execute(_WINDOW, (start, limit)).fetchall()
        old = [seq for seq, accepted_ms in window if accepted_ms < cutoff_ms]
        if not old:
            return Pruned(0, more=False)
        end = old[-1]
        stripped = db.execute(_STRIP_EARLIER, (start, end, cutoff_ms)).rowcount
        db.execute(_STRIP_BODIES, (start, end, cutoff_ms))
        stripped += db.execute(_STRIP_LAST, (start, end, cutoff_ms)).rowcount
        marks.put(db, "attempts", end)
        return Pruned(stripped, more=end == window[-1][0])

    return Task("prune_attempts", run, background=True, rows=limit)


def _prune_next(db: sqlite3.Connection, cutoff_ms: int, limit: int) -> tuple[int, bool]:
    """The next events never looked at. An event from a clock that was ahead is passed over, not waited for."""
    window = db.execute(_WINDOW, (marks.get(db, "events"), limit)).fetchall()
    old = [seq for seq, accepted_ms in window if accepted_ms < cutoff_ms]
    if not old:
        return 0, False
    doomed, last = _choose(db, old, limit)
    marks.put(db, "events", last)
    _delete(db, doomed)
    return len(doomed), True


def _prune_left_over(db: sqlite3.Connection, cutoff_ms: int, limit: int) -> tuple[int, bool]:
    """A second look, round and round, at those that were still owed: one window a call, unless it finds some."""
    start = marks.get(db, "leftovers")
    window = db.execute(_LEFT_OVER, (start, marks.get(db, "events"), limit)).fetchall()
    old = [seq for seq, accepted_ms in window if accepted_ms < cutoff_ms]
    doomed, last = _choose(db, old, limit)
    cut_short = bool(old) and last != old[-1]
    around = 0 if len(window) < limit else window[-1][0]
    marks.put(db, "leftovers", last if cut_short else around)
    _delete(db, doomed)
    return len(doomed), False


def _choose(db: sqlite3.Connection, old: Sequence[int], limit: int) -> tuple[list[int], int]:
    """Which of these may go, as far as the step's budget of rows reaches; and the last one looked at (0: none)."""
    doomed, last, rows = [], 0, 0
    for seq in old:
        deliveries, pending = db.execute(_DELIVERIES, (seq,)).fetchone()
        last = seq
        rows += deliveries
        if not pending:
            doomed.append(seq)
        if rows >= limit * ROWS_AN_EVENT:
            break
    return doomed, last


def _delete(db: sqlite3.Connection, doomed: list[int]) -> None:
    if not doomed:
        return
    for name in ("seq", "pruned"):
        marks.put(db, name, max(marks.get(db, name), doomed[-1]))
    seqs = json.dumps(doomed)
    for statement in (_CALLBACK_LANES, *_DELETES):
        db.execute(statement, (seqs,))


def _sweep(db: sqlite3.Connection, rows: int) -> bool:
    """A step of the sweep through the history index, if one is due; True while it goes on."""
    pruned, swept = marks.get(db, "pruned"), marks.get(db, "swept")
    lane, event = marks.get(db, "sweep_lane"), marks.get(db, "sweep_event")
    if not lane and pruned - swept < SWEEP_EVERY_EVENTS:
        return False
    # Only what is indexed can be stale; what a chunk indexes later was there when it was indexed.
    end = min(pruned, marks.get(db, "history"))
    while rows > 0:
        found = db.execute(_HISTORY_OF_LANE, (lane, event, end, rows)).fetchall()
        if found:
            db.execute(_SWEEP, (lane, event, found[-1][0]))
        if len(found) == rows:
            event = found[-1][0]
            break
        rows -= len(found) + 1
        following = db.execute(_NEXT_LANE, (lane,)).fetchone()
        if following is None:
            lane = event = 0
            marks.put(db, "swept", pruned)
            break
        lane, event = following[0], 0
    marks.put(db, "sweep_lane", lane)
    marks.put(db, "sweep_event", event)
    return bool(lane)
