"""Sealing and opening what the rows hold: which key, for whom, and whether at all.

Role: what the statements of the store ask before they write a payload, a spec, a callback, a response, and after they
read one. One ``Keys`` for a database: plain, sealed, or locked.
Rules:
- Plain: nothing is sealed, and nothing was. Sealed: everything written is. Locked: there is something sealed and no
  key; plain rows can be read, nothing that would have to be sealed can be written.
- The numbers of the keys that rows are sealed with stand in ``sealed_key``, from the transaction of the first such row
  on: so a database says which keys it needs, and an erasure that broke off is found.
- Data keys are held in memory, a bounded number of them.
Must not know: where the master key comes from, what the values mean.
"""

import os
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ringback.core.envelope import NONCE_BYTES, Key, Tampered, is_sealed, key_number
from ringback.store.errors import KeyringLost, MasterKeyMissing
from ringback.store.keyring import Keyring

#: Keys kept in memory; beyond it they are found anew.
MAX_KEYS_CACHED = 10_000
#: Tenants that a refusal names.
TENANTS_NAMED = 10

#: Kinds of sealed values, the first part of their place.
PAYLOAD, SPEC, CALLBACK, INFO, BODY = b"payload", b"spec", b"callback", b"info", b"body"

_NEEDED = "SELECT no, tenant FROM sealed_key"
_NOTE = "INSERT INTO sealed_key (no, tenant) VALUES (?, ?) ON CONFLICT DO NOTHING"


class Erased(Exception):  # noqa: N818 - a state of affairs, named as such
    """The key was destroyed: what it sealed is gone for good."""


class Locked(Exception):  # noqa: N818 - as above
    """Something is sealed, or would have to be, and there is no key."""


class Needed(NamedTuple):
    """The keys that a database's rows are sealed with: by number, whose. ``ring``: of which keyring, 0 if of none."""

    ring: int
    keys: dict[int, str]


class Keys:
    """The keys of one database. ``seal`` belongs to the writer's thread, reading to any."""

    def __init__(self, ring: Keyring | None = None, noted: Iterable[int] = (), *, locked: bool = False) -> None:
        """``noted``: the numbers that stand in ``sealed_key``."""
        self._file = ring
        self._ring = ring if ring is not None and ring.sealing else None
        self._locked = locked
        self._current: dict[str, Key] = {}
        self._found: dict[int, Key | None] = {}  # by number; None: destroyed
        self._noted = set(noted)
        self._fresh: set[int] = set()  # noted by the open transaction

    @property
    def sealing(self) -> bool:
        """Whether what is written is sealed."""
        return self._ring is not None

    @property
    def plain(self) -> bool:
        """Whether nothing is sealed, nor was."""
        return self._ring is None and not self._locked

    # Writing, inside a transaction.

    def ensure(self, db: sqlite3.Connection, tenants: Iterable[str]) -> dict[str, Key]:
        """The key of each tenant, for this transaction's rows; empty if nothing is sealed.

        Raises:
            Locked: there is no master key.
            sqlite3.Error: a new key can't be written.
        """
        if self._ring is None:
            if self._locked:
                raise Locked("the database is sealed and there is no master key")
            return {}
        wanted = set(tenants)
        missing = wanted - self._current.keys()
        if missing:
            if len(self._current) + len(missing) > MAX_KEYS_CACHED:
                self._current, missing = {}, wanted
            self._current.update(self._ring.make(missing))
        keys = {tenant: self._current[tenant] for tenant in wanted}
        for tenant, key in keys.items():
            if key.number not in self._noted and key.number not in self._fresh:
                db.execute(_NOTE, (key.number, tenant))
                self._fresh.add(key.number)
        return keys

    def seal(self, db: sqlite3.Connection, tenant: str, where: bytes, plain: bytes) -> bytes:
        """The value as it is to be stored; raises as ``ensure``."""
        key = self.ensure(db, (tenant,)).get(tenant)
        return plain if key is None else sealed(key, where, plain)

    def committed(self) -> None:
        """The transaction is on disk."""
        if self._fresh:
            if len(self._noted) + len(self._fresh) > MAX_KEYS_CACHED:
                self._noted = set()
            self._noted |= self._fresh
            self._fresh = set()

    def rolled_back(self) -> None:
        """The transaction is undone."""
        self._fresh = set()

    # Reading, from any thread.

    def open(self, where: bytes, value: bytes) -> bytes:
        """What a column holds that may be sealed: a plain value is answered as it is.

        Raises:
            Tampered: it was changed, moved, or its key is not in the keyring.
            Erased: its key was destroyed.
            Locked: there is no master key.
        """
        return self.unseal(where, value) if is_sealed(value) else value

    def unseal(self, where: bytes, value: bytes) -> bytes:
        """A value that is known to be sealed; raises as ``open``."""
        return self._key(key_number(value)).open(where, value)

    def same_digest(self, given: bytes, stored: bytes, number: int) -> bool:
        """Whether an event's digest is the stored one, which was keyed by the key of that number (0: bare).

        One that was erased is the same as any; so is one whose key was destroyed.
        """
        if not stored:
            return True
        try:
            return (given if number <= 0 else self._key(number).digest(given)) == stored
        except Erased:
            return True

    # What only the writer's thread may do, so that no row of an open batch is sealed by a key that is gone.

    def destroy(self, tenant: str, below: int = 0) -> None:
        """Destroy the tenant's keys, at once and for good: all, or those of a number ``below`` that."""
        if self._file is not None:
            self._file.destroy(tenant, below)
            self._forget(tenant)

    def rotate(self, tenant: str) -> int:
        """Seal the tenant's coming rows with a new key; its number, 0 if none can be made."""
        if self._ring is None:
            return 0
        number = self._ring.rotate(tenant)
        self._forget(tenant)
        return number

    def gone(self, db: sqlite3.Connection, tenant: str) -> list[int]:
        """The tenant's keys that rows were sealed with and that nobody has any more: destroyed, or lost."""
        if self._file is None:
            return []
        numbers = [number for number, whose in needed(db).keys.items() if whose == tenant]
        states = self._file.states(numbers)
        return [number for number in numbers if states.get(number, (tenant, True)) != (tenant, False)]

    def drop_gone(self, db: sqlite3.Connection, tenant: str) -> None:
        """The tenant's rows sealed with keys that are gone are so, too: nothing needs those keys any more."""
        for number in self.gone(db, tenant):
            db.execute("DELETE FROM sealed_key WHERE no = ?", (number,))

    def remember_erased(self, tenant: str, event_id: str, accepted_ms: int) -> None:
        """Note in the keyring that an event was erased: a backup that is restored is rid of it again."""
        if self._file is not None:
            self._file.remember(tenant, event_id, accepted_ms)

    def _forget(self, tenant: str) -> None:
        self._current = {name: key for name, key in self._current.items() if name != tenant}
        self._found = {}

    # Inside.

    def _key(self, number: int) -> Key:
        found = self._found
        if number not in found:
            if self._ring is None:
                raise Locked("a value is sealed and there is no master key")
            state = self._ring.find(number)
            if state is None:
                raise Tampered(f"its key {number} is not in the keyring")
            if len(found) >= MAX_KEYS_CACHED:
                self._found = found = {}
            found[number] = state.key
        key = found[number]
        if key is None:
            raise Erased(f"key {number} was destroyed")
        return key


#: Nothing is sealed.
PLAIN = Keys()


class Connection(sqlite3.Connection):
    """A connection that writes: it brings the keys with it, so that no statement can forget them."""

    keys: Keys = PLAIN


def keys_of(db: sqlite3.Connection) -> Keys:
    """The keys that a connection brings; none is plain (a copy, a test's)."""
    found: Keys = getattr(db, "keys", PLAIN)
    return found


def sealed(key: Key, where: bytes, plain: bytes) -> bytes:
    """A value under a key, with a nonce from the system: never from a chance that can be repeated."""
    return key.seal(where, plain, os.urandom(NONCE_BYTES))


def needed(db: sqlite3.Connection) -> Needed:
    """Which keys a database needs."""
    ring = db.execute("SELECT value FROM meta WHERE name = 'ring'").fetchone()[0]
    return Needed(ring, dict(db.execute(_NEEDED).fetchall()))


def without_master(db: sqlite3.Connection, ring: Keyring | None = None) -> Keys:
    """The keys of a database that is opened without the master key: nothing sealed can be read."""
    locked = bool(needed(db).keys) or (ring is not None and ring.sealed)
    return Keys(ring, locked=True) if locked else Keys(ring)


def attach(db: sqlite3.Connection, ring: Keyring, where: object) -> Keys:
    """The keys of a database with its keyring, ``where`` it lies.

    Raises:
        MasterKeyMissing: the keyring or rows are sealed and there is no master key.
        KeyringLost: it is another keyring, or it lacks keys that rows are sealed with.
    """
    need = fits(db, ring, where)
    if (need.keys or ring.sealed) and not ring.sealing:
        raise MasterKeyMissing(where)
    if ring.sealing and not need.ring:
        _begin_sealing(db, ring.id)
    return Keys(ring, need.keys)


def fits(db: sqlite3.Connection, ring: Keyring, where: object) -> Needed:
    """What the database needs, all of which the keyring has. Raises KeyringLost."""
    need, tenants = lacking(db, ring, where)
    if tenants:
        raise KeyringLost(
            f"{words_for(tenants, where)}: put its newest copy back; to give up what they sealed, say `ringback tenant"
            " erase NAME` for each"
        )
    return need


def lacking(db: sqlite3.Connection, ring: Keyring, where: object) -> tuple[Needed, list[str]]:
    """What the database needs, and the tenants of which the keyring lacks keys. Raises KeyringLost for another's."""
    need = needed(db)
    if need.ring and need.ring != ring.id:
        raise KeyringLost(f"{where} belongs to another database: put the keyring of this one (its newest copy) back")
    states = ring.states(need.keys)
    # Of another tenant: an older copy of the keyring was put back, and gave the number anew.
    return need, sorted({whose for number, whose in need.keys.items() if states.get(number, ("",))[0] != whose})


def words_for(tenants: Sequence[str], where: object) -> str:
    """Which tenants' keys a keyring lacks; the first of them by name."""
    named = ", ".join(tenants[:TENANTS_NAMED])
    more = f" and {len(tenants) - TENANTS_NAMED} more" if len(tenants) > TENANTS_NAMED else ""
    return f"{where} lacks keys of tenant{'s' * (len(tenants) > 1)} {named}{more}"


def destroyed(db: sqlite3.Connection, ring: Keyring) -> list[str]:
    """Tenants whose keys were destroyed while rows sealed with them are still there: erase those."""
    states = ring.states(needed(db).keys)
    return sorted({tenant for tenant, gone in states.values() if gone})


def _begin_sealing(db: sqlite3.Connection, ring: int) -> None:
    """What is there already lies in the clear: it is to be sealed up to here."""
    for name, value in (
        ("seal_to", "(SELECT coalesce(max(seq), 0) FROM event)"),
        ("seal_lanes", "(SELECT coalesce(max(lane), 0) FROM endpoint)"),
        ("ring", str(ring)),  # last: it says that the others are set
    ):
        db.execute(f"UPDATE meta SET value = {value} WHERE name = '{name}'")  # noqa: S608 - a number and our own names
