"""Multi-row statements: many rows, few steps.

Role: turns a list of rows into a handful of statements over VALUES lists.
Why: the interpreter's lock is dropped at each step of a statement, and a busy event loop takes a whole switch interval
to give it back, so a batch must take few steps, not one a row. Row counts are rounded up to a few sizes, so that the
statement cache hits; the rows that fill up are NULL throughout, and each statement must pass over them.
"""

import sqlite3
from bisect import bisect_left
from collections.abc import Sequence
from itertools import chain
from typing import Any

from ringback.store.errors import InvariantError

#: The row counts that are prepared: at most a third is filled up. 256 rows of 13 columns stay far below SQLite's
#: default of 32,766 variables.
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
MAX_ROWS_A_STATEMENT = SIZES[-1]

#: Prepared statements kept: kinds (about 20) × sizes (16), with room.
CACHED_STATEMENTS = 384


class Statement:
    """One statement over rows ``v``: ``WITH v (columns) AS (VALUES …)`` and a body that passes over rows of NULLs."""

    __slots__ = ("_texts", "_width")

    def __init__(self, columns: str, body: str) -> None:
        self._width = columns.count(",") + 1
        row = "(" + ",".join("?" * self._width) + ")"
        self._texts = {size: f"WITH v ({columns}) AS (VALUES {','.join([row] * size)}) {body}" for size in SIZES}

    def text(self, size: int) -> str:
        """The SQL for that many rows, one of ``SIZES``."""
        return self._texts[size]

    def run(self, db: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Execute over all rows; returns how many rows of tables changed."""
        changed = db.total_changes
        for start in range(0, len(rows), MAX_ROWS_A_STATEMENT):
            part = rows[start : start + MAX_ROWS_A_STATEMENT]
            size = SIZES[bisect_left(SIZES, len(part))]
            values = [*chain.from_iterable(part), *(None,) * (self._width * (size - len(part)))]
            db.execute(self._texts[size], values)
        return db.total_changes - changed

    def run_all(self, db: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Execute over all rows, each of which must change exactly one row.

        Raises:
            InvariantError: another number changed; the caller's transaction must be rolled back.
        """
        changed = self.run(db, rows)
        if changed != len(rows):
            raise InvariantError(f"{changed} rows changed, {len(rows)} expected: {self._texts[1][:80]}…")
