"""What an error of SQLite means for a batch.

Role: the one table from error to consequence.

| error                                         | where         | consequence                                          |
|-----------------------------------------------|---------------|------------------------------------------------------|
| FULL (no space, or the page limit)            | anywhere      | FULL: rolled back; events are refused, results kept  |
| BUSY, LOCKED (somebody else writes)           | before COMMIT | BUSY: rolled back; the whole batch is kept           |
| IOERR_FSYNC, IOERR_DIR_FSYNC, IOERR_TRUNCATE  | anywhere      | FATAL: the outcome is unknown, the process must exit |
| IOERR, any                                    | at COMMIT     | FATAL                                                |
| CORRUPT, NOTADB, READONLY, CANTOPEN           | anywhere      | FATAL: nothing can be written here                   |
| anything, the transaction being gone after it | at COMMIT     | FATAL: it may have been committed                    |
| anything else (also IOERR)                    | before COMMIT | ITEM: rolled back, then tried in halves              |

ENOSPC in a write is FULL; ENOSPC in an fsync is IOERR_FSYNC and so FATAL. SQLite may have rolled back by itself
(``in_transaction`` False); a ROLLBACK is then not sent, because it would raise.
"""

import sqlite3
from enum import Enum, auto


class Consequence(Enum):
    """What follows from an error; see the module's table."""

    FULL = auto()
    BUSY = auto()
    FATAL = auto()
    ITEM = auto()


_PRIMARY = 0xFF
_SYNC_FAILED = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE})
_BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


def code_of(error: BaseException) -> int:
    """The extended result code of an SQLite error; 0 if it carries none."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code if isinstance(code, int) else 0


def judge(error: BaseException, *, at_commit: bool, still_open: bool) -> Consequence:
    """What to do after ``error``; ``still_open``: the transaction was still open when it was raised."""
    code = code_of(error)
    primary = code & _PRIMARY
    if primary == sqlite3.SQLITE_FULL:
        return Consequence.FULL
    if code in _SYNC_FAILED or primary in _BROKEN:
        return Consequence.FATAL
    if at_commit and (primary == sqlite3.SQLITE_IOERR or not still_open):
        return Consequence.FATAL
    if primary in _BUSY:
        return Consequence.BUSY
    return Consequence.ITEM


def describe(error: BaseException) -> str:
    """The error in words, its class first."""
    name = getattr(error, "sqlite_errorname", None)
    return f"{type(error).__name__}: {error}" + (f" ({name})" if name else "")
