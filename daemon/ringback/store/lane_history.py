"""The history index, built behind: which events each lane has had, in sorted chunks.

Role: the writer's own background work. An index kept up to date with every event would double an event's cost.
Rules: ``meta.history`` says up to which event the index is complete; readers read the short tail behind it from the
deliveries themselves. Entries of pruned events linger until they are swept, so readers join ``delivery``.
"""

import sqlite3
from typing import NamedTuple

from ringback.store.ops import Task

#: Deliveries of one chunk, about: an event's deliveries stay together.
HISTORY_CHUNK_ROWS = 2048

#: The same while the writer has little to do: nobody should wait long behind it.
SMALL_CHUNK_ROWS = 256

#: The tail that may stay unindexed while the writer has better things to do.
HISTORY_LAG_ROWS = 16_384

_CHUNK_END = "SELECT event FROM delivery WHERE event > ? ORDER BY event LIMIT 1 OFFSET ?"
_INDEX = (
    "INSERT OR IGNORE INTO lane_history (lane, event)"
    " SELECT lane, event FROM delivery WHERE event > ? AND event <= ? ORDER BY lane, event"
)


class Indexed(NamedTuple):
    """What one step did: rows indexed, and whether more wait."""

    rows: int
    more: bool


def index_history(rows: int = HISTORY_CHUNK_ROWS) -> Task[Indexed]:
    """Index the next chunk of about ``rows`` deliveries."""

    def run(db: sqlite3.Connection) -> Indexed:
        done = db.execute("SELECT value FROM meta WHERE name = 'history'").fetchone()[0]
        found = db.execute(_CHUNK_END, (done, rows)).fetchone()
        end = found[0] if found else (db.execute("SELECT max(event) FROM delivery").fetchone()[0] or 0)
        if end <= done:
            return Indexed(0, more=False)
        indexed = db.execute(_INDEX, (done, end)).rowcount
        db.execute("UPDATE meta SET value = ? WHERE name = 'history'", (end,))
        return Indexed(indexed, more=found is not None)

    return Task("index_history", run, background=True, rows=rows)
