"""Hourly tallies in the table, and how much is owed: what the statistics are read from.

Must not know: when tallies are written, how they are shown.
"""

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ringback.core.tally import Tally
from ringback.store.ops import Task
from ringback.store.reader import Fetches

#: Tallies of one write.
MAX_ROWS = 256
#: Timed rows of a lane that are looked through for the oldest.
MAX_TIMED = 1000

_HAVE = (
    "SELECT h.hour, h.lane, h.tally FROM json_each(?) AS v CROSS JOIN lane_hour h"
    " ON h.hour = v.value->>0 AND h.lane = v.value->>1"
)
_PUT = "INSERT INTO lane_hour (hour, lane, tally) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET tally = excluded.tally"
_PRUNE = (
    "DELETE FROM lane_hour WHERE (hour, lane) IN (SELECT hour, lane FROM lane_hour WHERE hour < ?"
    " ORDER BY hour, lane LIMIT ?)"
)
_HOURS = (
    "SELECT h.hour, h.tally FROM json_each(?) AS v CROSS JOIN lane_hour h ON h.hour = v.value AND h.lane = ?"
    " ORDER BY h.hour"
)
_OWED = (
    "SELECT o.n, e.accepted_ms FROM (SELECT count(*) AS n, min(event) AS first FROM"
    " (SELECT event FROM owed WHERE lane = ? LIMIT ?)) AS o LEFT JOIN event e ON e.seq = o.first"
)
_OWED_IN_ALL = (
    "WITH RECURSIVE l (lane) AS (SELECT min(lane) FROM owed UNION ALL"
    " SELECT (SELECT o.lane FROM owed o WHERE o.lane > l.lane ORDER BY o.lane LIMIT 1)"
    " FROM l WHERE l.lane IS NOT NULL),"
    " fresh (event) AS (SELECT (SELECT o.event FROM owed o WHERE o.lane = l.lane AND o.phase = 0"
    " ORDER BY o.due_ms, o.event LIMIT 1) FROM l WHERE l.lane IS NOT NULL),"
    " timed (event) AS (SELECT (SELECT min(event) FROM (SELECT o.event FROM owed o"
    " WHERE o.lane = l.lane AND o.phase > 0 LIMIT ?2)) FROM l WHERE l.lane IS NOT NULL)"
    " SELECT (SELECT count(*) FROM (SELECT 1 FROM owed LIMIT ?1)), (SELECT accepted_ms FROM event WHERE seq ="
    " (SELECT min(event) FROM (SELECT event FROM fresh UNION ALL SELECT event FROM timed)))"
)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Tally).decode
_json = msgspec.json.Encoder()


class Row(NamedTuple):
    """One lane's hour."""

    hour: int
    lane: int
    tally: Tally


class Owing(NamedTuple):
    """How much is owed, counted up to a cap, and when the oldest of it was accepted (None: nothing is)."""

    rows: int
    oldest_ms: int | None


def add(rows: Sequence[Row]) -> Task[None]:
    """Add these tallies to what the table has; at most ``MAX_ROWS``, no lane's hour twice."""
    keys = _json.encode([(row.hour, row.lane) for row in rows]).decode()

    def run(db: sqlite3.Connection) -> None:
        have = {(hour, lane): _decode(tally) for hour, lane, tally in db.execute(_HAVE, (keys,))}
        for row in rows:
            tally = have.get((row.hour, row.lane), Tally())
            tally.add(row.tally)
            db.execute(_PUT, (row.hour, row.lane, _encode(tally)))

    return Task("add_tallies", run, background=True, rows=len(rows))


def prune(before_hour: int) -> Task[int]:
    """Remove tallies of earlier hours, at most ``MAX_ROWS``; answers how many."""

    def run(db: sqlite3.Connection) -> int:
        return db.execute(_PRUNE, (before_hour, MAX_ROWS)).rowcount

    return Task("prune_tallies", run, background=True, rows=MAX_ROWS)


class StatsReads:
    """What is read. Any of them may raise QueryTimeout."""

    def __init__(self, reader: Fetches) -> None:
        self._reader = reader

    async def hours(self, lane: int, hours: range) -> dict[int, Tally]:
        """A lane's tallies of these hours, those that there are."""
        rows = await self._reader.fetch(_HOURS, (_json.encode(list(hours)).decode(), lane))
        return {hour: _decode(tally) for hour, tally in rows}

    async def owing(self, lane: int, cap: int) -> Owing:
        """What a lane owes; of more than ``cap`` rows the oldest is that of those counted."""
        return Owing(*(await self._reader.fetch(_OWED, (lane, cap)))[0])

    async def owing_in_all(self, cap: int) -> Owing:
        """What all lanes owe; of a lane's retries only the first ``MAX_TIMED`` are looked at for the oldest."""
        return Owing(*(await self._reader.fetch(_OWED_IN_ALL, (cap, MAX_TIMED)))[0])
