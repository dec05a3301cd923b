"""Which keys a database gets: what it refuses to open, what it does without the master key, what it remembers."""

import contextlib
import shutil
import sqlite3

import pytest
from tests.store.kit import MASTERS, NOW_MS, accept, check_invariants, opened, rows

from ringback.core.envelope import Tampered, place
from ringback.store import keys as module
from ringback.store.database import open_state
from ringback.store.erase import erase_event
from ringback.store.errors import KeyProblem, KeyringLost, MasterKeyMissing, MasterKeyWrong, StateCorrupt, StoreError
from ringback.store.keyring import KEYRING_NAME, Keyring, Masters
from ringback.store.keys import PLAIN, Erased, Keys, Locked, keys_of
from ringback.store.ops import Accepted, Task
from ringback.store.sealing import rotate_key

OTHER = Masters(bytes(range(32, 64)))
HERE = place(b"payload", 1)


@pytest.fixture
async def state(tmp_path):
    """A sealed state directory with an event of each of two tenants, closed."""
    async with opened(tmp_path / "state", masters=MASTERS) as store:
        await store.run(accept("a", 1, tenant="acme"))
        await store.run(accept("b", 1, tenant="beta"))
    return tmp_path / "state"


def refused(directory, masters, error: type[KeyProblem] | type[StateCorrupt], words: str) -> None:
    """Unlocking fails by name, gives the directory up, and leaves database and keyring to the byte as they were."""
    before = {path.name: path.read_bytes() for path in directory.iterdir() if path.suffix == ".db"}
    database = open_state(directory, NOW_MS)
    with pytest.raises(error, match=words):
        database.unlock(masters, lambda: NOW_MS)
    assert {path.name: path.read_bytes() for path in directory.iterdir() if path.suffix == ".db"} == before
    open_state(directory, NOW_MS).close()


async def readable(directory) -> list[bytes]:
    """What the events hold, opened with the right key."""
    async with opened(directory, masters=MASTERS) as store:
        return [stored.event.data for stored in await store.queue.load([1, 2]) if not stored.corrupt]


async def test_without_its_master_key_or_with_another_it_is_refused(state):
    """By name, untouched; with the right one it goes on as if nothing had been."""
    refused(state, Masters(), MasterKeyMissing, "there is no master key")
    refused(state, OTHER, MasterKeyWrong, "another master key")
    refused(state, Masters(OTHER.key, bytes(32)), MasterKeyWrong, "Nor does the old one")
    assert await readable(state) == [b'{"a":1}'] * 2


async def test_without_its_keyring_it_is_refused(state):
    """None is made in its place: the rows would be lost behind an empty one."""
    kept = (state / KEYRING_NAME).read_bytes()
    (state / KEYRING_NAME).unlink()
    refused(state, MASTERS, KeyringLost, "is not there")
    refused(state, Masters(), KeyringLost, "is not there")
    assert not (state / KEYRING_NAME).exists()
    (state / KEYRING_NAME).write_bytes(kept)
    assert len(await readable(state)) == 2


async def test_another_databases_keyring_is_refused(state, tmp_path):
    """Though the same master key opens it, and though it has keys of these numbers."""
    async with opened(tmp_path / "other", masters=MASTERS) as other:
        await other.run(accept("a", 1, tenant="acme"))
        await other.run(accept("b", 1, tenant="beta"))
    shutil.copy(tmp_path / "other" / KEYRING_NAME, state / KEYRING_NAME)
    refused(state, MASTERS, KeyringLost, "belongs to another database")


async def test_a_keyring_that_lacks_keys_is_refused_and_says_whose(state):
    """An older copy, from before some tenants were new; the newest one brings all back."""
    old = (state / KEYRING_NAME).read_bytes()
    async with opened(state, masters=MASTERS) as store:
        for n in range(5):
            await store.run(accept("x", tenant=f"new{n}"))
    newest = (state / KEYRING_NAME).read_bytes()
    (state / KEYRING_NAME).write_bytes(old)
    refused(state, MASTERS, KeyringLost, "lacks keys of tenants new0, new1, new2, new3, new4: put")
    (state / KEYRING_NAME).write_bytes(newest)
    assert len(await readable(state)) == 2


async def test_a_damaged_keyring_is_refused_beside_a_sound_database(state):
    """The database isn't touched, and a copy of the keyring mends it."""
    kept = (state / KEYRING_NAME).read_bytes()
    (state / KEYRING_NAME).write_bytes(b"\xff" * len(kept))
    refused(state, MASTERS, StateCorrupt, "put a copy of it back")
    (state / KEYRING_NAME).write_bytes(kept)
    assert len(await readable(state)) == 2


async def test_without_any_key_nothing_is_sealed_and_nothing_asked_for(tmp_path):
    """Its keyring remembers what is erased; a start with a key later begins to seal, one without goes on."""
    for _ in range(2):
        async with opened(tmp_path / "s", masters=Masters()) as store:
            assert not store.database.keys.sealing
            await store.run(accept("a", 1))
    assert (tmp_path / "s" / KEYRING_NAME).exists()
    assert rows(tmp_path / "s" / "ringback.db", "SELECT data, key_no FROM payload") == [(b'{"a":1}', 0)]
    assert rows(tmp_path / "s" / "ringback.db", "SELECT value FROM meta WHERE name = 'ring'") == [(0,)]


async def test_a_plain_backup_in_a_sealed_directory_is_sealed_anew(tmp_path, state):
    """The keyring stays, the older database in the clear takes it up."""
    async with opened(tmp_path / "plain") as store:
        await store.run(accept("c", 1, tenant="gamma"))
    for name in ("ringback.db", "state.json"):
        shutil.copy(tmp_path / "plain" / name, state / name)
    async with opened(state, masters=MASTERS) as store:
        await store.run(accept("d", tenant="gamma"))
        marks = dict(rows(store.database.path, "SELECT name, value FROM meta WHERE name LIKE 'seal%'"))
        assert (marks["seal_from"], marks["seal_to"]) == (0, 1)
        (number,) = rows(store.database.path, "SELECT key_no FROM payload WHERE event = 2")[0]
        assert number == 3, "acme's and beta's numbers stay theirs"


async def test_locked_it_reads_what_is_plain_and_writes_nothing(tmp_path):
    """Opened without its keys: the sealed row is told apart, an event is refused, a task that seals nothing runs."""
    async with opened(tmp_path / "s") as store:
        await store.run(accept("plain", 1))
    async with opened(tmp_path / "s", masters=MASTERS) as store:
        await store.run(accept("sealed", 1))
    async with opened(tmp_path / "s") as store:
        assert not store.database.keys.sealing
        assert [stored.event.data for stored in await store.queue.load([1])] == [b'{"a":1}']
        with pytest.raises(Locked):
            await store.queue.load([2])
        with pytest.raises(StoreError, match="sealed and there is no master key"):
            await store.run(accept("third", 1))
        assert await store.run(Task("count", lambda db: db.execute("SELECT count(*) FROM event").fetchone()[0])) == 2
        # The digest of the sealed one can't be compared, that of the plain one needn't be.
        with pytest.raises(StoreError):
            await store.run(accept("sealed", 1))
    check_invariants(tmp_path / "s" / "ringback.db")


async def test_a_rotated_key_is_noted_with_its_first_row(tmp_path):
    """Older rows open, newer ones lie under the new number, and both numbers are known to be needed."""
    async with opened(tmp_path / "s", masters=MASTERS) as store:
        await store.run(accept("a", 1))
        assert await store.run(rotate_key("acme")) is True
        assert await store.run(rotate_key("nobody")) is False
        assert rows(store.database.path, "SELECT no FROM sealed_key") == [(1,)]
        await store.run(accept("b", 1))
        assert rows(store.database.path, "SELECT event, key_no FROM payload") == [(1, 1), (2, 2)]
        assert rows(store.database.path, "SELECT no, tenant FROM sealed_key") == [(1, "acme"), (2, "acme")]
        assert [stored.event.data for stored in await store.queue.load([1, 2])] == [b'{"a":1}'] * 2
        assert (await store.run(accept("a", 1))).duplicate
    assert len(await readable(tmp_path / "s")) == 2


async def test_more_tenants_than_are_kept_in_memory(tmp_path, monkeypatch):
    """Keys beyond the cache are found anew, in one batch and over many: nobody gets two, none is lost."""
    monkeypatch.setattr(module, "MAX_KEYS_CACHED", 3)
    async with opened(tmp_path / "s", masters=MASTERS) as store:
        for turn in range(3):
            answers = await store.all(*[accept(f"e{turn}", 1, tenant=f"t{n}") for n in range(8)])
            assert [type(answer) for answer in answers] == [Accepted] * 8
        await store.run(accept("last", 1, tenant="t0"))
        stored = await store.queue.load(range(1, 26))
        assert [one.event.data for one in stored if not one.corrupt] == [b'{"a":1}'] * 25
        numbers = rows(store.database.path, "SELECT count(*), count(DISTINCT tenant) FROM sealed_key")
        assert numbers == [(8, 8)]
        check_invariants(store.database.path)


def test_each_state_of_a_value_has_its_name(tmp_path):
    """Plain, sealed, destroyed, of a key that never was, and without a master key."""
    with contextlib.closing(Keyring(tmp_path / "k", MASTERS, lambda: NOW_MS)) as ring:
        keys = Keys(ring)
        key = ring.make(["acme"])["acme"]
        value = module.sealed(key, HERE, b"x")
        assert (keys.open(HERE, b"{}"), keys.open(HERE, value), keys.open(HERE, b"")) == (b"{}", b"x", b"")
        with pytest.raises(Locked):
            Keys(ring=None, locked=True).open(HERE, value)
        with pytest.raises(Locked):
            PLAIN.unseal(HERE, value)
        with pytest.raises(Tampered, match="key 9 is not in the keyring"):
            keys.unseal(HERE, value[:4] + b"\x09" + value[5:])
        with pytest.raises(Tampered, match="no sealed value"):
            keys.unseal(HERE, b"{}")
        keys.destroy("acme")
        with pytest.raises(Erased):
            keys.open(HERE, value)
        assert keys.same_digest(b"a", b"b", key.number), "nobody can say any more that it differs"
        assert keys.same_digest(b"a", b"", 0), "a tombstone's"
        assert not keys.same_digest(b"a", b"b", 0)


def test_a_connection_that_brings_no_keys_is_plain(tmp_path):
    """A copy, a check, a test's own."""
    with contextlib.closing(sqlite3.connect(tmp_path / "x")) as db:
        assert keys_of(db) is PLAIN
        assert PLAIN.ensure(db, ["acme"]) == {}


@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_no_key_is_made_in_a_keyring_that_is_not_in_its_place(tmp_path, how):
    """Whoever has a key goes on, others are refused: a copy from the running daemon brings back what was accepted."""
    state = tmp_path / "s"
    async with opened(state, masters=MASTERS) as store:
        await store.run(accept("e1", tenant="acme"))
        (state / KEYRING_NAME).unlink()
        if how == "replaced":
            Keyring(state / KEYRING_NAME, MASTERS, lambda: 1).close()
        answers = await store.all(accept("e2", tenant="acme"), accept("e1", tenant="beta"), accept("e3", tenant="acme"))
        assert [isinstance(one, Accepted) for one in answers] == [True, False, True]
        assert "was deleted or replaced" in answers[1].message
        with pytest.raises(StoreError, match="backup-keys"):
            await store.run(erase_event("acme", "e1", NOW_MS))
        saved = store.database.keyring_copy()
        assert store.fatal == []
    (state / KEYRING_NAME).write_bytes(saved)
    async with opened(state, masters=MASTERS) as store:
        loaded = await store.queue.load([1, 2, 3, 4])
        assert [one.event.id for one in loaded if not one.corrupt] == ["e1", "e2", "e3"]
