"""Opening the state directory: lock, marker, schema, and what every connection is told.

Role: ``open_state`` turns a directory into a ``Database`` that this process alone owns, or a named ``StateError``.
Rules: a database is made only where none ever was; a file that is damaged, foreign or newer is refused and left
untouched; migrations are numbered, forward only, each in a transaction of its own. Loss is said aloud: ``lost_events``.
Must not know: what the tables mean.
"""

import errno
import os
import sqlite3
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from ringback.kit.ways_out import in_words
from ringback.store import faults
from ringback.store.errors import (
    KeyringLost,
    StateCorrupt,
    StateError,
    StateFull,
    StateLocked,
    StateLost,
    StateNewer,
    StateUnusable,
)
from ringback.store.keyring import KEYRING_NAME, Keyring, Masters
from ringback.store.keys import Connection, Keys, attach, destroyed, needed, without_master
from ringback.store.rows import CACHED_STATEMENTS
from ringback.store.statedir import DIRECTORY_MODE, Ballast, Lock, Mark, Marker, file_identity

__all__ = [
    "Database",
    "StateCorrupt",
    "StateError",
    "StateLocked",
    "StateLost",
    "StateNewer",
    "StateUnusable",
    "open_state",
]

DATABASE_NAME = "ringback.db"
APPLICATION_ID = 0x52494E47  # "RING"
OLDEST_SQLITE = (3, 38, 0)  # STRICT tables, UPDATE … FROM, ->>

WRITER_CACHE_KIB = 64 * 1024
READER_CACHE_KIB = 8 * 1024
BUSY_TIMEOUT_MS = 5000

#: The log file shrinks to this when it starts anew.
WAL_KEEP_BYTES = 64 * 1024 * 1024

_PRIMARY = 0xFF
_MIGRATION_SUFFIX = ".sql"

T = TypeVar("T")


class Database:
    """An opened state directory. Owns the lock and the writer's connection until ``close``."""

    def __init__(self, directory: Path, lock: Lock, db: sqlite3.Connection, mark: Mark, ballast: Ballast) -> None:
        self.directory = directory
        self.path = directory / DATABASE_NAME
        self.writer = db
        self.ballast = ballast
        self._ring: Keyring | None = None
        self._take(without_master(db))
        self._lock = lock
        self._marker = Marker(directory)
        self._created_at_ms = mark.created_at_ms
        self.marked_seq = mark.high_seq  #: what the marker says
        self._files = [
            (path, found) for path in (self.path, self.wal_path) if (found := file_identity(path)) is not None
        ]
        stored = db.execute(
            "SELECT max(coalesce((SELECT max(seq) FROM event), 0), (SELECT value FROM meta WHERE name = 'seq'))"
        ).fetchone()[0]
        #: How many events at most the marker knows of that the database doesn't hold. Anything but 0 is a loss.
        self.lost_events = max(0, mark.high_seq - stored)
        #: Numbers up to here are used up, also those of lost events: their ids are out there.
        self.high_seq = max(mark.high_seq, stored)
        if self.lost_events:
            db.execute("UPDATE meta SET value = ? WHERE name = 'seq'", (self.high_seq,))

    def unlock(self, masters: Masters, now_ms: Callable[[], int]) -> Keyring:
        """Open the keyring, so that what is sealed can be read and, with a master key, what is written gets sealed.

        Raises:
            MasterKeyMissing: something is sealed and there is no master key.
            MasterKeyWrong: the master key doesn't fit.
            KeyringLost: keys that rows are sealed with are not there.
            StateCorrupt: the keyring is damaged.
            StateFull: the disk is full.
            StateUnusable: the keyring can't be opened.
        """
        path = self.directory / KEYRING_NAME
        try:
            ring = self._open_ring(masters, now_ms)
            keys = with_room(self.ballast, path, lambda: attach(self.writer, ring, path))
            self._take(keys)
        except BaseException:
            self.close()
            raise
        return ring

    def unlock_without_master(self, now_ms: Callable[[], int]) -> None:
        """Open the keyring for what needs no master key: to destroy keys, to note what was erased."""
        self._take(without_master(self.writer, self._open_ring(Masters(), now_ms)))

    def erased_tenants(self) -> list[str]:
        """Tenants whose keys are destroyed and whose rows are still here: of an erasure that broke off, or a backup."""
        return destroyed(self.writer, self._ring) if self._ring is not None else []

    def keyring_copy(self) -> bytes:
        """The bytes of the keyring in use, though its file may be gone meanwhile. Raises KeyringLost if none is."""
        if self._ring is None:
            raise KeyringLost("no keyring is in use")
        return self._ring.copy()

    def _open_ring(self, masters: Masters, now_ms: Callable[[], int]) -> Keyring:
        path = self.directory / KEYRING_NAME
        if not path.exists() and needed(self.writer).ring:
            raise KeyringLost(f"the database is encrypted and {path} is not there: put it, or its newest copy, back")
        self._ring = ring = with_room(self.ballast, path, lambda: Keyring(path, masters, now_ms))
        return ring

    def _take(self, keys: Keys) -> None:
        self.keys = keys
        self.writer.keys = keys  # type: ignore[attr-defined]  # the factory's own attribute

    @property
    def wal_path(self) -> Path:
        """The write-ahead log. To be stat'ed only, never opened."""
        return self.path.with_name(DATABASE_NAME + "-wal")

    def displaced(self) -> str | None:
        """Which file was deleted or replaced under us: SQLite would go on, and a restart would find nothing of it."""
        for path, opened in self._files:
            if file_identity(path) != opened:
                return f"{path} was deleted or replaced while it was in use"
        return None

    def mark(self, high_seq: int) -> None:
        """Note in the marker how far the database has come. Raises OSError if it can't be written."""
        self._marker.write(Mark(self._created_at_ms, high_seq))
        self.marked_seq = high_seq

    def connect(self) -> sqlite3.Connection:
        """A second connection that may write; for checkpoints."""
        return _connect(self.path, sqlite3.Connection)

    @property
    def read_uri(self) -> str:
        """Where readers connect."""
        return f"file:{quote(str(self.path))}?mode=ro"

    def close(self) -> None:
        """Close the writer's connection and give the directory up; safe to call twice."""
        self.writer.close()
        if self._ring is not None:
            self._ring.close()
        self._lock.release()


def open_state(directory: Path, now_ms: int, factory: type[sqlite3.Connection] = Connection) -> Database:
    """Take a state directory, making it if it doesn't exist. ``factory`` is the writer's connection class.

    Raises:
        StateLocked: another daemon owns it.
        StateLost: a marker says there was a database, but there is none.
        StateCorrupt: the file is damaged or not ours.
        StateNewer: a newer release wrote it.
        StateFull: the disk is full. If a ballast lies there, it is let go first.
        StateUnusable: the directory or SQLite can't do what is needed.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StateUnusable(f"SQLite {sqlite3.sqlite_version} is too old: 3.38 or newer is needed")
    try:
        directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise StateUnusable(f"cannot make {directory}: {in_words(error)}") from error
    lock = Lock(directory)
    try:
        return _open_locked(directory, lock, now_ms, factory)
    except BaseException:
        lock.release()
        raise


def _open_locked(directory: Path, lock: Lock, now_ms: int, factory: type[sqlite3.Connection]) -> Database:
    path, ballast = directory / DATABASE_NAME, Ballast(directory)
    mark = Marker(directory).read()
    _refuse_empty(path, mark)

    def opened() -> Database:
        db = _connect(path, factory)
        try:
            _check_ours(db, path)
            _migrate(db, path)
            made = Database(directory, lock, db, mark or Mark(now_ms), ballast)
            _mark_anew(made, mark)
        except BaseException:
            db.close()
            raise
        return made

    return with_room(ballast, path, opened)


def with_room(ballast: Ballast, path: Path, work: Callable[[], T]) -> T:
    """Open what lies at ``path``; on a full disk once more without the ballast.

    Raises StateFull, StateCorrupt or StateUnusable for what SQLite and the system say.
    """
    while True:
        try:
            return work()
        except (sqlite3.DatabaseError, OSError) as error:
            no_room = ballast.denied(faults.FULL_BELOW_BYTES)
            if not faults.says_full(error, ballast.free_bytes(), no_room=no_room):
                raise _named(path, error) from error
            if not ballast.release():
                raise StateFull(path) from error
            ballast.spent_at_start = True


def _mark_anew(database: Database, mark: Mark | None) -> None:
    """Let the marker say what the database holds. On a full disk an older one does: it only notices less."""
    if mark is not None and mark.high_seq == database.high_seq:
        return
    try:
        database.mark(database.high_seq)
    except OSError as error:
        if mark is None or not faults.says_full(error, 0):
            raise


def _refuse_empty(path: Path, mark: Mark | None) -> None:
    size = path.stat().st_size if path.exists() else 0
    if size:
        return
    wal = path.with_name(path.name + "-wal")
    if mark is not None or (wal.exists() and wal.stat().st_size):
        seen = f"up to event {mark.high_seq}" if mark is not None else "its log is still here"
        raise StateLost(
            f"{path} is missing or empty although there was a database here ({seen}). Put the file or a backup back; "
            f"to begin anew and lose what was in it, move everything out of {path.parent} first"
        )


def _connect(path: Path, factory: type[sqlite3.Connection]) -> sqlite3.Connection:
    db = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=CACHED_STATEMENTS, factory=factory
    )
    try:
        path.chmod(0o600)
        db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        db.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute("PRAGMA secure_delete = ON")  # erased means gone, whatever the build's default is
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute(f"PRAGMA journal_size_limit = {WAL_KEEP_BYTES}")
    except BaseException:
        db.close()
        raise
    return db


def _check_ours(db: sqlite3.Connection, path: Path) -> None:
    tables = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    ours = db.execute("PRAGMA application_id").fetchone()[0]
    if tables and ours != APPLICATION_ID:
        raise StateCorrupt(f"{path} is a database of another program; it was left untouched")
    if not tables:
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def migrations() -> list[tuple[int, str]]:
    """The numbered migrations, in order: (number, SQL)."""
    folder = resources.files("ringback.store") / "migrations"
    files = [file for file in folder.iterdir() if file.name.endswith(_MIGRATION_SUFFIX)]
    return sorted((int(file.name.split("_", 1)[0]), file.read_text(encoding="utf-8")) for file in files)


def migrate_copy(path: Path) -> sqlite3.Connection:
    """Open a sound copy that nobody uses yet and bring it to this release's schema.

    Raises StateNewer, StateUnusable, or sqlite3.Error.
    """
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous = FULL")
        _run_migrations(db, _version(db, path))
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    version = _version(db, path)
    mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StateUnusable(f"{path.parent} is on a file system that can't do write-ahead logging (got {mode})")
    _run_migrations(db, version)


def _version(db: sqlite3.Connection, path: Path) -> int:
    numbers = [number for number, _ in migrations()]
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise StateUnusable(f"this installation's migrations are {numbers}, not 1 and on: install it again")
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    tables = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if version < 0 or (tables and not version):
        raise StateUnusable(f"{path} has tables under schema number {version}, which no release made: restore a backup")
    newest = numbers[-1]
    if version > newest:
        raise StateNewer(f"{path} has schema {version}, this release knows {newest}: install the newer release again")
    return version


def _run_migrations(db: sqlite3.Connection, version: int) -> None:
    for number, text in migrations():
        if number > version:
            _run_migration(db, number, text)


def _run_migration(db: sqlite3.Connection, number: int, text: str) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        for statement in _statements(text):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {number}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _statements(text: str) -> list[str]:
    """The single statements of a script: executescript would commit on its own."""
    found, current = [], ""
    for line in text.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            found.append(current)
            current = ""
    return found


def _named(path: Path, error: sqlite3.DatabaseError | OSError) -> StateError:
    if isinstance(error, OSError):
        return StateUnusable(f"cannot write in {path.parent}: {in_words(error)}")
    primary = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StateCorrupt(
            f"{path} is damaged ({error}); it was left untouched. Put a backup in its place, or move it away with "
            f"everything else in {os.fspath(path.parent)} to begin anew"
        )
    for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        if file.exists() and not os.access(file, os.R_OK | os.W_OK):  # SQLite only says that it can't open it
            denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return StateUnusable(f"cannot open {file}: {in_words(denied)}")
    return StateUnusable(f"cannot open {path}: {error}")
