"""A copy of the database beside its running writer: one step, one file, complete up to its start.

Role: make the copy, say what is in it, give it its name only when it is whole and on disk.
Rules:
- The copy is made by one ``VACUUM INTO`` on a connection of its own: one read transaction, so it holds exactly what was
  committed when it began, however long it takes, and a page-wise copy's restarts beside a busy writer can't happen
  (4,926 of them, and no end). Rows are copied, not pages: what was deleted isn't in the copy.
- While it runs the writer goes on, but the log can't start anew: it grows by what is written meanwhile.
- The copy is for its owner alone (mode 0600): it holds secrets.
Must not know: where copies are kept, who asked.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import quote

from ringback.store.database import BUSY_TIMEOUT_MS, DATABASE_NAME, READER_CACHE_KIB
from ringback.store.errors import StateError, StateUnusable
from ringback.store.statedir import Lock

#: Added to a file's name until it is whole.
PART_SUFFIX = ".part"
FILE_MODE = 0o600

_COUNTS = {
    "events": "SELECT count(*) FROM event",
    "payloads": "SELECT count(*) FROM payload",
    "deliveries": "SELECT count(*) FROM delivery",
    "owed": "SELECT count(*) FROM owed",
    "attempts": "SELECT coalesce(sum(attempts), 0) FROM delivery",
    "endpoints": "SELECT count(*) FROM endpoint WHERE deleted_ms IS NULL",
    "tenants": "SELECT count(*) FROM tenant",
}


class Cancelled(StateError):  # noqa: N818 - a state of affairs, named as such
    """The work was called off before its end; nothing was left behind."""


class Contents(NamedTuple):
    """What a backup holds. ``taken_at_ms``: when it was begun, 0 if it doesn't say; ``counts``: rows by name."""

    size: int
    taken_at_ms: int
    counts: dict[str, int]


class Aside:
    """A read-only connection of its own for one long look at a database; ``cancel`` may be called from any thread.

    ``still``: nobody writes to the file while it is looked at.
    """

    def __init__(self, database: Path, *, still: bool = False) -> None:
        uri = f"file:{quote(str(database))}?mode=ro{'&immutable=1' if still else ''}"
        self.db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        self.db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        self.db.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
        self.cancelled = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.db.close()

    def cancel(self) -> None:
        """End the statement that runs, and let no other begin."""
        self.cancelled = True
        with contextlib.suppress(sqlite3.ProgrammingError):  # closed: it has just ended
            self.db.interrupt()

    def go_on(self) -> None:
        """Raises Cancelled if it was called off."""
        if self.cancelled:
            raise Cancelled("called off")


def copy(source: Aside, part: Path, now_ms: int) -> Contents:
    """Copy what is committed now into ``part``, which must not exist, and sync it.

    Raises:
        Cancelled: ``source.cancel`` was called; ``part`` is gone.
        StateUnusable: it can't be read or written; ``part`` is gone.
    """
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    except OSError as error:
        raise StateUnusable(f"cannot make {part}: {error.strerror}") from error
    try:
        source.go_on()
        source.db.execute("VACUUM INTO ?", (str(part),))
        _stamp(part, now_ms)
        sync(part)
        source.go_on()
        return look(part)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, sqlite3.Error | OSError):
            source.go_on()
            raise StateUnusable(f"cannot copy the database: {error}") from error
        raise


def copy_alone(directory: Path, part: Path, now_ms: int) -> Contents:
    """The same while no daemon runs, under the directory's lock; the database is neither migrated nor changed.

    Raises:
        StateLocked: a daemon owns it.
        StateUnusable: there is no database, or it can't be read or written.
    """
    with owned(directory), Aside(directory / DATABASE_NAME) as source:
        return copy(source, part, now_ms)


@contextlib.contextmanager
def owned(directory: Path) -> Iterator[None]:
    """The directory's lock, for a look at its database."""
    path = directory / DATABASE_NAME
    if not path.is_file():
        raise StateUnusable(f"there is no database in {directory}")
    if (owner := path.stat().st_uid) != os.geteuid():
        raise StateUnusable(f"{path} belongs to uid {owner}: run this command as that user")
    lock = Lock(directory)
    try:
        yield
    finally:
        lock.release()


def look(path: Path) -> Contents:
    """What a backup holds. Raises StateUnusable if it is none."""
    try:
        with Aside(path, still=True) as source:
            found = source.db.execute("SELECT value FROM meta WHERE name = 'backup_ms'").fetchone()
            return Contents(path.stat().st_size, found[0] if found else 0, count(source))
    except sqlite3.Error as error:
        raise StateUnusable(f"{path} can't be read: {error}") from error


def count(source: Aside) -> dict[str, int]:
    """How many rows of each kind there are."""
    return {name: source.db.execute(sql).fetchone()[0] for name, sql in _COUNTS.items()}


def publish(part: Path, target: Path) -> None:
    """Give a whole copy its name, in one step, and make that last. Raises OSError."""
    sync(part)
    part.replace(target)
    sync(target.parent)


def sync(path: Path) -> None:
    """What is written to a file, or renamed in a directory, is on disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _stamp(part: Path, now_ms: int) -> None:
    """Write into the copy when it was begun: a restore says it."""
    db = sqlite3.connect(part, isolation_level=None)
    try:
        db.execute("UPDATE meta SET value = ? WHERE name = 'backup_ms'", (now_ms,))
    finally:
        db.close()
