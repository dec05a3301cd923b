"""What an error of SQLite means for a batch.

Role: the one table from error to consequence.

| error                                         | where         | consequence                                          |
|-----------------------------------------------|---------------|------------------------------------------------------|
| FULL (no space, or the page limit)            | anywhere      | FULL: rolled back; events are refused, results kept  |
| IOERR_WRITE, and a quota is used up           | anywhere      | FULL                                                 |
| BUSY, LOCKED (somebody else writes)           | before COMMIT | BUSY: rolled back; the whole batch is kept           |
| IOERR_FSYNC, IOERR_DIR_FSYNC, IOERR_TRUNCATE  | anywhere      | FATAL: the outcome is unknown, the process must exit |
| IOERR, any                                    | at COMMIT     | FATAL                                                |
| CORRUPT, NOTADB, READONLY, CANTOPEN           | anywhere      | FATAL: nothing can be written here                   |
| anything, the transaction being gone after it | at COMMIT     | FATAL: it may have been committed                    |
| anything else (also IOERR)                    | before COMMIT | ITEM: rolled back, then tried in halves              |

ENOSPC in a write is FULL; ENOSPC in an fsync is IOERR_FSYNC and so FATAL. EDQUOT in a write is IOERR_WRITE, as an error
of the device is: whoever judges asks the kernel whether it would give some more (``Ballast.denied``). SQLite may have
rolled back by itself (``in_transaction`` False); a ROLLBACK is then not sent, because it would raise.
"""

import errno
import sqlite3
from enum import Enum, auto


class Consequence(Enum):
    """What follows from an error; see the module's table."""

    FULL = auto()
    BUSY = auto()
    FATAL = auto()
    ITEM = auto()


#: With less than this free an error of a file that is to be made or to grow is put down to the disk.
FULL_BELOW_BYTES = 256 * 1024

_PRIMARY = 0xFF
_SYNC_FAILED = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE})
_BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})
_FOR_WANT_OF_ROOM = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


def code_of(error: BaseException) -> int:
    """The extended result code of an SQLite error; 0 if it carries none."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code if isinstance(code, int) else 0


def is_write_error(error: BaseException) -> bool:
    """Whether a write failed: the device's error, or a quota's."""
    return code_of(error) == sqlite3.SQLITE_IOERR_WRITE


def judge(error: BaseException, *, at_commit: bool, still_open: bool, no_room: bool = False) -> Consequence:
    """What to do after ``error``.

    ``still_open``: the transaction was still open when it was raised. ``no_room``: the kernel gives no more now.
    """
    code = code_of(error)
    primary = code & _PRIMARY
    if primary == sqlite3.SQLITE_FULL or (no_room and is_write_error(error)):
        return Consequence.FULL
    if code in _SYNC_FAILED or primary in _BROKEN:
        return Consequence.FATAL
    if at_commit and (primary == sqlite3.SQLITE_IOERR or not still_open):
        return Consequence.FATAL
    if primary in _BUSY:
        return Consequence.BUSY
    return Consequence.ITEM


def says_full(error: BaseException, free_bytes: int, *, no_room: bool = False) -> bool:
    """Whether it comes of a full disk: SQLite has other names for that where files are made.

    An index of the log that can't grow is IOERR_SHMSIZE, a journal that can't be made CANTOPEN. ``free_bytes``: what is
    free on it; ``no_room``: the kernel gives no more now.
    """
    if isinstance(error, OSError):
        return error.errno in NO_ROOM
    primary = code_of(error) & _PRIMARY
    return primary == sqlite3.SQLITE_FULL or (
        primary in _FOR_WANT_OF_ROOM and (no_room or free_bytes < FULL_BELOW_BYTES)
    )


def describe(error: BaseException) -> str:
    """The error in words, its class first."""
    name = getattr(error, "sqlite_errorname", None)
    return f"{type(error).__name__}: {error}" + (f" ({name})" if name else "")
