"""Multi-row statements: many rows, few steps.

Role: turns a list of rows into a handful of statements over VALUES lists.
Why: the interpreter's lock is dropped at each step of a statement, and a busy event loop takes a whole switch interval
to give it back, so a batch must take few steps, not one a row. Row counts are powers of two, so that the statement
cache hits.
"""

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any

from ringback.store.errors import InvariantError

#: The most rows in one statement. 256 rows of 13 columns stay far below SQLite's default of 32,766 variables.
MAX_ROWS_A_STATEMENT = 256

#: Prepared statements kept: kinds (about 20) × sizes (9), with room.
CACHED_STATEMENTS = 384


class Statement:
    """One statement, ``before`` + a VALUES list of ``width`` columns + ``after``."""

    __slots__ = ("_texts",)

    def __init__(self, before: str, width: int, after: str = "") -> None:
        row = "(" + ",".join("?" * width) + ")"
        sizes = (1 << k for k in range(MAX_ROWS_A_STATEMENT.bit_length()))
        self._texts = {size: before + ",".join([row] * size) + after for size in sizes}

    def run(self, db: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Execute over all rows; returns how many rows of tables changed."""
        changed = db.total_changes
        start, left, size = 0, len(rows), MAX_ROWS_A_STATEMENT
        while left:
            while size > left:
                size >>= 1
            db.execute(self._texts[size], tuple(chain.from_iterable(rows[start : start + size])))
            start += size
            left -= size
        return db.total_changes - changed

    def run_all(self, db: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Execute over all rows, each of which must change exactly one row.

        Raises:
            InvariantError: another number changed; the caller's transaction must be rolled back.
        """
        changed = self.run(db, rows)
        if changed != len(rows):
            raise InvariantError(f"{changed} rows changed, {len(rows)} expected: {self._texts[1][:60]}…")
