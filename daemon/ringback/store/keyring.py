"""The keyring: every tenant's data keys, wrapped by the master key, in a file of their own beside the database.

Role: makes, finds, destroys and rewraps data keys; remembers what was erased.
Rules:
- No backup of the database holds a key: who destroys a tenant's key here destroys what every backup says of it. A copy
  of this file is a thing of its own, of which only the newest is to be kept.
- Numbers are never used again; of a destroyed key its number and its tenant stay, so that rows restored from a backup
  are known as erased, not as damaged. For the same end the ids of erased events are kept, with or without encryption.
- A key is on disk before the first row it seals. Wrapped keys are useless without the master key, which is never
  written anywhere.
Must not know: what is sealed, the database's tables.
"""

import os
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

from ringback.core.envelope import KEY_BYTES, NONCE_BYTES, Key, Tampered, place
from ringback.store.errors import KeyringLost, MasterKeyWrong, StateCorrupt
from ringback.store.statedir import file_identity

T = TypeVar("T")

KEYRING_NAME = "keyring.db"
APPLICATION_ID = 0x524B4559  # "RKEY"
SCHEMA = 1
# Of a file of SQLite's: its first bytes, and where its application id lies.
_SQLITE, _APPLICATION_AT = b"SQLite format 3\0", slice(68, 72)
BUSY_TIMEOUT_MS = 5000

_WRAPPED, _CHECK, _CHECKED = b"tenant key", b"keyring", b"ringback"
# check_value: something known, sealed by the master key; NULL until there is one.
_RING = "CREATE TABLE ring (one INTEGER PRIMARY KEY CHECK (one = 1), id INTEGER NOT NULL, check_value BLOB) STRICT"
# wrapped NULL: destroyed. The highest live number of a tenant is what its new rows are sealed with.
_TENANT_KEY = (
    "CREATE TABLE tenant_key (no INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, wrapped BLOB,"
    " created_ms INTEGER NOT NULL, destroyed_ms INTEGER,"
    " CHECK ((wrapped IS NULL) = (destroyed_ms IS NOT NULL))) STRICT"
)
_BY_TENANT = "CREATE INDEX tenant_key_by_tenant ON tenant_key (tenant, no)"
_ERASED_EVENT = (
    "CREATE TABLE erased_event (tenant TEXT NOT NULL, id TEXT NOT NULL, erased_ms INTEGER NOT NULL,"
    " PRIMARY KEY (tenant, id)) WITHOUT ROWID, STRICT"
)
_ERASED_TENANT = (
    "CREATE TABLE erased_tenant (tenant TEXT NOT NULL PRIMARY KEY, erased_ms INTEGER NOT NULL) WITHOUT ROWID, STRICT"
)
_CURRENT = "SELECT no, wrapped FROM tenant_key WHERE tenant = ? AND wrapped IS NOT NULL ORDER BY no DESC LIMIT 1"
_MAKE = "INSERT INTO tenant_key (tenant, wrapped, created_ms) VALUES (?, x'', ?) RETURNING no"
_REMEMBER = (
    "INSERT INTO erased_event (tenant, id, erased_ms) VALUES (?, ?, ?) ON CONFLICT (tenant, id) DO UPDATE"
    " SET erased_ms = max(erased_ms, excluded.erased_ms)"
)
_FORGET = (
    "INSERT INTO erased_tenant (tenant, erased_ms) VALUES (?, ?) ON CONFLICT (tenant) DO UPDATE"
    " SET erased_ms = excluded.erased_ms"
)
_DESTROY = "UPDATE tenant_key SET wrapped = NULL, destroyed_ms = ? WHERE tenant = ? AND wrapped IS NOT NULL AND no < ?"
_BEYOND_ALL = 1 << 62


class Masters(NamedTuple):
    """The master key, and the one before it while the keyring is to be rewrapped; 32 bytes each, None for none."""

    key: bytes | None = None
    old: bytes | None = None

    def __repr__(self) -> str:
        return "Masters(…)"


class KeyState(NamedTuple):
    """A key of that number: whose it is; ``key`` None: it was destroyed."""

    tenant: str
    key: Key | None


class Keyring:
    """The opened file. Any thread may call; calls wait for each other, and touch the disk."""

    def __init__(self, path: Path, masters: Masters, now_ms: Callable[[], int]) -> None:
        """Open the file, making it if there is none.

        Without a master key a sealed one can still be told what to destroy and what was erased.

        Raises:
            MasterKeyWrong: neither the master key nor the old one opens it.
            StateCorrupt: it is damaged or not ours.
            sqlite3.OperationalError: it can't be opened or written, for want of room or of permission.
        """
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._master = Key(masters.key, 0) if masters.key is not None else None
        self.rewrapped = False  #: the old master key opened it: the new one does now
        try:
            self._db = _connect(path)
            try:
                self._path, self._opened = path, file_identity(path)
                self._begin(path, masters)
            except BaseException:
                self._db.close()
                raise
        except sqlite3.OperationalError:
            raise  # the disk's fault, not the file's
        except (sqlite3.DatabaseError, Tampered) as error:
            raise StateCorrupt(f"{path} can't be used ({error}): put a copy of it back") from error

    @property
    def sealing(self) -> bool:
        """Whether there is a master key."""
        return self._master is not None

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._db.close()

    # Keys.

    def make(self, tenants: Iterable[str]) -> dict[str, Key]:
        """The tenants' current keys; whoever has none gets one. On disk when this returns.

        Raises:
            sqlite3.Error: it can't be written.
            KeyringLost: it is not in its place any more.
        """
        found: dict[str, Key] = {}
        with self._lock:
            missing = []
            for tenant in tenants:
                row = self._db.execute(_CURRENT, (tenant,)).fetchone()
                if row is None:
                    missing.append(tenant)
                else:
                    found[tenant] = self._unwrap(*row)
            if missing:
                found |= self._written(lambda: {tenant: self._make(tenant) for tenant in missing})
        return found

    def rotate(self, tenant: str) -> int:
        """A new key, with which the tenant's rows are sealed from now on; older rows keep theirs. Its number."""
        with self._lock:
            return self._written(lambda: self._make(tenant)).number

    def find(self, number: int) -> KeyState | None:
        """The key of that number; None if there never was one here. Raises Tampered if it doesn't unwrap."""
        with self._lock:
            row = self._db.execute("SELECT tenant, wrapped FROM tenant_key WHERE no = ?", (number,)).fetchone()
            if row is None:
                return None
            tenant, wrapped = row
            return KeyState(tenant, None if wrapped is None else self._unwrap(number, wrapped))

    def states(self, numbers: Iterable[int]) -> dict[int, tuple[str, bool]]:
        """Of these keys that there are: whose, and whether they are destroyed."""
        found = {}
        with self._lock:
            for number in numbers:
                row = self._db.execute(
                    "SELECT tenant, wrapped IS NULL FROM tenant_key WHERE no = ?", (number,)
                ).fetchone()
                if row is not None:
                    found[number] = (row[0], bool(row[1]))
        return found

    def destroy(self, tenant: str, below: int = 0) -> int:
        """Destroy a tenant's keys; how many. What they sealed can't be read any more, wherever it lies.

        ``below``: only those of a lower number, 0 for all.

        That it was erased is noted, too: without encryption that alone keeps a restored backup from bringing it back.
        """

        def work() -> int:
            now_ms = self._now_ms()
            self._db.execute(_FORGET, (tenant, now_ms))
            return self._db.execute(_DESTROY, (now_ms, tenant, below or _BEYOND_ALL)).rowcount

        with self._lock:
            return self._written(work)

    # What was erased.

    def remember(self, tenant: str, event_id: str, accepted_ms: int = 0) -> None:
        """Note that an event was erased, so that a restored backup can be rid of it again.

        ``accepted_ms``: when it was accepted; by a clock that was put back since, it is not erased before that.
        """
        erased_ms = max(accepted_ms, self._now_ms())
        with self._lock:
            self._written(lambda: self._db.execute(_REMEMBER, (tenant, event_id, erased_ms)))

    def erased(self, after: tuple[str, str], limit: int) -> list[tuple[str, str, int]]:
        """Erased events (tenant, id, when last) beyond ``after``, by tenant and id."""
        with self._lock:
            return self._db.execute(
                "SELECT tenant, id, erased_ms FROM erased_event WHERE (tenant, id) > (?, ?)"
                " ORDER BY tenant, id LIMIT ?",
                (*after, limit),
            ).fetchall()

    def erased_tenants(self, since_ms: int) -> list[str]:
        """Tenants that were erased then or later, wall clock."""
        with self._lock:
            found = self._db.execute(
                "SELECT tenant FROM erased_tenant WHERE erased_ms >= ? ORDER BY tenant", (since_ms,)
            )
            return [tenant for (tenant,) in found]

    def copy(self) -> bytes:
        """The file's bytes as of now."""
        with self._lock:
            return self._db.serialize()

    # Inside.

    def _begin(self, path: Path, masters: Masters) -> None:
        if not self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            self._written(self._create)
        if self._db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise StateCorrupt(f"{path} is no keyring of ringback's; it was left untouched")
        if (version := self._db.execute("PRAGMA user_version").fetchone()[0]) != SCHEMA:
            raise StateCorrupt(
                f"{path} has schema {version}, this release knows {SCHEMA}: install the newer release again"
            )
        self.id, check = self._db.execute("SELECT id, check_value FROM ring").fetchone()
        self.sealed = check is not None  #: whether it was ever opened with a master key
        if self._master is None:
            return
        if not self.sealed:
            self._written(self._put_check)
            self.sealed = True
        elif not _opens(self._master, self.id, check):
            old = Key(masters.old, 0) if masters.old is not None else None
            if old is None or not _opens(old, self.id, check):
                raise MasterKeyWrong(path, tried_old=old is not None)
            self._written(lambda: self._rewrap(old))
            self.rewrapped = True

    def _create(self) -> None:
        for statement in (_RING, _TENANT_KEY, _BY_TENANT, _ERASED_EVENT, _ERASED_TENANT):
            self._db.execute(statement)
        self._db.execute("INSERT INTO ring (one, id) VALUES (1, ?)", (secrets.randbits(62) + 1,))
        self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version = {SCHEMA}")

    def _put_check(self) -> None:
        value = self._wrapping.seal(place(_CHECK, self.id), _CHECKED, os.urandom(NONCE_BYTES))
        self._db.execute("UPDATE ring SET check_value = ?", (value,))

    def _rewrap(self, old: Key) -> None:
        for number, wrapped in self._db.execute(
            "SELECT no, wrapped FROM tenant_key WHERE wrapped IS NOT NULL"
        ).fetchall():
            self._wrap(number, old.open(place(_WRAPPED, number), wrapped))
        self._put_check()

    def _make(self, tenant: str) -> Key:
        raw = secrets.token_bytes(KEY_BYTES)
        number: int = self._db.execute(_MAKE, (tenant, self._now_ms())).fetchone()[0]
        self._wrap(number, raw)
        return Key(raw, number)

    def _wrap(self, number: int, raw: bytes) -> None:
        value = self._wrapping.seal(place(_WRAPPED, number), raw, os.urandom(NONCE_BYTES))
        self._db.execute("UPDATE tenant_key SET wrapped = ? WHERE no = ?", (value, number))

    def _unwrap(self, number: int, wrapped: bytes) -> Key:
        try:
            return Key(self._wrapping.open(place(_WRAPPED, number), wrapped), number)
        except Tampered:
            raise Tampered(f"key {number} in {KEYRING_NAME} was changed: put a copy of the keyring back") from None

    @property
    def _wrapping(self) -> Key:
        assert self._master is not None, "callers look at ``sealing`` first"
        return self._master

    def _written(self, work: Callable[[], T]) -> T:
        """Do it in one transaction, in the file that the next start opens.

        Raises:
            KeyringLost: it isn't that any more. What rows are sealed with now is in the opened file alone.
        """
        if file_identity(self._path) != self._opened:
            raise KeyringLost(
                f"{self._path} was deleted or replaced while it is in use: no key is made. Save it before any restart,"
                " with `ringback db backup-keys FILE`, and put that in its place"
            )
        self._db.execute("BEGIN IMMEDIATE")
        try:
            done = work()
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return done


def copy_keyring(directory: Path) -> bytes:
    """A copy of a state directory's keyring, whoever uses it. Raises KeyringLost if there is none."""
    path = directory / KEYRING_NAME
    if not path.exists():
        raise KeyringLost(f"there is no {path}")
    db = _connect(path)
    try:
        return db.serialize()
    finally:
        db.close()


def is_keyring(path: Path) -> bool:
    """Whether a file is a keyring, by its first bytes alone. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(_APPLICATION_AT.stop)
    return head.startswith(_SQLITE) and int.from_bytes(head[_APPLICATION_AT], "big") == APPLICATION_ID


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        path.chmod(0o600)
        db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        # EXTRA syncs the directory too: a key must not come back with a journal that a power cut left.
        db.execute("PRAGMA synchronous = EXTRA")
        db.execute("PRAGMA secure_delete = ON")
        # The journal's file stays, empty: where none can be made (no inode left) a new key would end the process.
        db.execute("PRAGMA journal_mode = TRUNCATE")
    except BaseException:
        db.close()
        raise
    return db


def _opens(master: Key, ring: int, check: bytes) -> bool:
    try:
        return master.open(place(_CHECK, ring), check) == _CHECKED
    except Tampered:
        return False
