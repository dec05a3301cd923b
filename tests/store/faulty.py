"""A connection that fails on command: at the n-th statement, before or after it did its work."""

import sqlite3
from collections.abc import Callable
from typing import Any


def io_error(code: int = sqlite3.SQLITE_IOERR_WRITE) -> sqlite3.OperationalError:
    """What the sqlite3 module raises for an I/O error."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    error.sqlite_errorname = "SQLITE_IOERR"
    return error


def full_error() -> sqlite3.OperationalError:
    """What the sqlite3 module raises for a full disk."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    error.sqlite_errorname = "SQLITE_FULL"
    return error


class FaultyConnection(sqlite3.Connection):
    """Counts its statements while ``armed``; raises at the ``at``-th, ``times`` times from there.

    ``only``: statements that begin with this word count, others pass. ``after``: the statement is carried out, then the
    error is raised. ``as_sqlite`` rolls back on the error, as SQLite does by itself for I/O errors and a full disk.
    """

    at = 0
    times = 1
    only = ""
    after = False
    rolls_back = False
    make: Callable[[], Exception] = io_error
    count = 0
    unsynced = False

    def arm(self, at: int, make: Callable[[], Exception] = io_error, **how: Any) -> None:
        """Fail at the ``at``-th statement from now."""
        self.count, self.at, self.make, self.times = 0, at, make, 1
        self.only, self.after, self.rolls_back = "", False, False
        for name, value in how.items():
            setattr(self, name, value)

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        """As any connection's, but for the faults."""
        if self.unsynced and sql == "PRAGMA synchronous = FULL":
            sql = "PRAGMA synchronous = OFF"
        if not self.at or not sql.startswith(self.only) or sql == "ROLLBACK":
            return super().execute(sql, *parameters)
        self.count += 1
        if not self.at <= self.count < self.at + self.times:
            return super().execute(sql, *parameters)
        if self.after:
            super().execute(sql, *parameters)
        if self.rolls_back and self.in_transaction:
            super().execute("ROLLBACK")
        raise self.make()


class UnsyncedConnection(FaultyConnection):
    """The same without fsync: for tests of what is in the tables, not of what survives a power cut."""

    unsynced = True
