"""The keyring: keys made, found, destroyed and rewrapped; what it refuses; what lies in its file."""

import base64
import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest
from tests.store.kit import MASTERS, NOW_MS

from ringback.core.envelope import Key, Tampered, place
from ringback.store import keyring as module
from ringback.store.errors import KeyringLost, MasterKeyWrong, StateCorrupt
from ringback.store.keyring import KEYRING_NAME, Keyring, KeyState, Masters, copy_keyring

OTHER = bytes(range(32, 64))
HERE = place(b"payload", 1)
NONCE = bytes(24)


@pytest.fixture
def path(tmp_path):
    """Where the keyring lies."""
    return tmp_path / KEYRING_NAME


@contextlib.contextmanager
def ring(path: Path, masters: Masters = MASTERS):
    """An opened keyring."""
    with contextlib.closing(Keyring(path, masters, lambda: NOW_MS)) as found:
        yield found


def same(one: Key, other: Key) -> bool:
    """Whether two keys are one: what the one seals the other opens."""
    return one.number == other.number and other.open(HERE, one.seal(HERE, b"x", NONCE)) == b"x"


def raw_keys(path: Path, master: bytes = MASTERS.key) -> list[bytes]:
    """The data keys themselves, unwrapped by hand."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT no, wrapped FROM tenant_key WHERE wrapped IS NOT NULL").fetchall()
    return [Key(master, 0).open(place(b"tenant key", no), wrapped) for no, wrapped in found]


def everything(path: Path) -> bytes:
    """Every byte of the file and of what SQLite may have left beside it."""
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_a_key_is_made_once_and_found_again(path):
    """The same key for the same tenant, in this life and the next; each tenant has its own."""
    with ring(path) as first:
        made = first.make(["acme", "beta"])
        assert same(made["acme"], first.make(["acme"])["acme"])
        assert made["acme"].number != made["beta"].number
        assert made["acme"].digest(b"x") != made["beta"].digest(b"x")
    with ring(path) as again:
        found = again.find(made["beta"].number)
        assert found.tenant == "beta"
        assert same(made["beta"], found.key)
        assert same(made["acme"], again.make(["acme"])["acme"])
        assert again.find(99) is None
        assert again.states([1, 2, 99]) == {1: ("acme", False), 2: ("beta", False)}


def test_a_rotated_key_seals_and_the_older_one_still_opens(path):
    """New rows take the new key; both are there, in the next life too."""
    with ring(path) as first:
        old = first.make(["acme"])["acme"]
        first.rotate("acme")
        new = first.make(["acme"])["acme"]
        assert new.number > old.number
        assert new.digest(b"x") != old.digest(b"x")
    with ring(path) as again:
        assert same(old, again.find(old.number).key)
        assert same(new, again.make(["acme"])["acme"])


def test_a_destroyed_key_is_gone_and_known_as_such(path):
    """All of the tenant's, none of another's; the wrapped bytes are overwritten; the next key is another."""
    with ring(path) as first:
        first.make(["acme", "beta"])
        first.rotate("acme")
        wrapped = [value for (value,) in first._db.execute("SELECT wrapped FROM tenant_key WHERE tenant = 'acme'")]
        assert all(value in everything(path) for value in wrapped)
        assert first.destroy("acme") == 2
        assert first.destroy("acme") == 0
        assert first.destroy("nobody") == 0
        assert first.find(1) == KeyState("acme", None)
        assert first.states([1, 2, 3]) == {1: ("acme", True), 2: ("beta", False), 3: ("acme", True)}
    left = everything(path)
    assert not [value for value in wrapped if value[29:61] in left], "not even the sealed key's text is left"
    with ring(path) as again:
        assert again.find(3) == KeyState("acme", None)
        assert again.make(["acme"])["acme"].number == 4
        assert again.find(2).key is not None


def test_a_number_is_never_used_again(path):
    """Over destroying, rotating and reopening they only grow: what a backup's rows name can be nobody else's."""
    used = []
    for n in range(5):
        with ring(path) as one:
            one.rotate(f"tenant{n}")
            used.append(one.make([f"tenant{n}"])[f"tenant{n}"].number)
            one.destroy(f"tenant{n}")
    with contextlib.closing(sqlite3.connect(path)) as db:  # even if somebody tidies the table by hand
        db.execute("DELETE FROM tenant_key")
        db.commit()
    with ring(path) as one:
        used.append(one.make(["tenant0"])["tenant0"].number)
    assert used == sorted(set(used))


def test_another_master_key_is_refused_and_nothing_is_touched(path):
    """Neither it nor a wrong old one opens; the file stays to the byte."""
    with ring(path) as first:
        first.make(["acme"])
    before = path.read_bytes()
    with pytest.raises(MasterKeyWrong, match="another master key") as alone, ring(path, Masters(OTHER)):
        pass
    with pytest.raises(MasterKeyWrong, match="Nor does the old one"), ring(path, Masters(OTHER, bytes(32))):
        pass
    assert "Nor" not in str(alone.value)
    assert path.read_bytes() == before


def test_the_old_master_key_beside_the_new_one_rewraps(path):
    """Then the new one alone opens every key that is left, and the old one alone is refused."""
    with ring(path) as first:
        assert not first.rewrapped
        made = first.make(["acme", "beta", "gone"])
        first.destroy("gone")
    with ring(path, Masters(OTHER, MASTERS.key)) as changed:
        assert changed.rewrapped
        assert same(made["acme"], changed.find(made["acme"].number).key)
    with pytest.raises(MasterKeyWrong), ring(path):
        pass
    with ring(path, Masters(OTHER)) as new:
        assert not new.rewrapped
        assert all(same(made[name], new.make([name])[name]) for name in ("acme", "beta"))
        assert new.find(made["gone"].number) == KeyState("gone", None)
    with ring(path, Masters(OTHER, MASTERS.key)) as left_in_place:
        assert not left_in_place.rewrapped, "the old key beside it does nothing any more"


def test_a_rewrapping_that_breaks_off_leaves_the_old_key_in_force(path, monkeypatch):
    """All keys change hands in one transaction, or none does."""
    with ring(path) as first:
        made = first.make(["a", "b", "c"])
    nonces = [bytes(24), bytes(24)]
    with monkeypatch.context() as patched:
        patched.setattr(module.os, "urandom", lambda _: nonces.pop())
        with pytest.raises(IndexError), ring(path, Masters(OTHER, MASTERS.key)):
            pass
    with ring(path) as still:
        assert same(made["c"], still.find(made["c"].number).key)
    with pytest.raises(MasterKeyWrong), ring(path, Masters(OTHER)):
        pass


def test_without_a_master_key_it_destroys_and_remembers(path):
    """An erasure needs no key; it seals nothing and says that it was sealed before."""
    with ring(path, Masters()) as empty:
        assert (empty.sealing, empty.sealed) == (False, False)
    with ring(path) as sealed:
        assert (sealed.sealing, sealed.sealed) == (True, True)
        identity = sealed.id
        sealed.make(["acme"])
    with ring(path, Masters()) as locked:
        assert (locked.sealing, locked.sealed, locked.id) == (False, True, identity)
        locked.remember("acme", "e1")
        assert locked.destroy("acme") == 1
    with ring(path) as sealed:
        assert sealed.find(1) == KeyState("acme", None)
        assert [one[:2] for one in sealed.erased(("", ""), 9)] == [("acme", "e1")]


def test_erased_events_come_in_pages(path):
    """Each once, by tenant and id, beyond the last one seen; over a reopening."""
    ids = [("acme", f"e{n}") for n in range(7)] + [("beta", "e0"), ("beta", "e9")]
    with ring(path, Masters()) as first:
        for one in (*reversed(ids), *ids):
            first.remember(*one)
    found, after = [], ("", "")
    with ring(path, Masters()) as again:
        while page := again.erased(after, 4):
            found += [one[:2] for one in page]
            after = page[-1][:2]
    assert found == ids


def test_a_foreign_or_damaged_file_is_refused_untouched(tmp_path):
    """Another program's database, a newer release's, noise, a keyring with a broken page."""
    foreign = tmp_path / "foreign.db"
    with contextlib.closing(sqlite3.connect(foreign)) as db:
        db.execute("CREATE TABLE things (a)")
    newer = tmp_path / "newer.db"
    with ring(newer):
        pass
    with contextlib.closing(sqlite3.connect(newer)) as db:
        db.execute("PRAGMA user_version = 2")
    noise = tmp_path / "noise.db"
    noise.write_bytes(bytes(range(256)) * 64)
    broken = tmp_path / "broken.db"
    with ring(broken):
        pass
    broken.write_bytes(broken.read_bytes()[:4096] + b"\xff" * 4096 * 8)
    for path, words in (
        (foreign, "no keyring"),
        (newer, "newer release"),
        (noise, "can't be used"),
        (broken, "can.t be used"),
    ):
        before = path.read_bytes()
        with pytest.raises(StateCorrupt, match=words), ring(path):
            pass
        assert path.read_bytes() == before, path


def test_a_wrapped_key_that_was_changed_or_exchanged_does_not_unwrap(path):
    """Two tenants' keys under each other's numbers, a flipped bit: Tampered, never the wrong key."""
    with ring(path) as first:
        first.make(["acme", "beta"])
    with contextlib.closing(sqlite3.connect(path)) as db:
        wrapped = dict(db.execute("SELECT no, wrapped FROM tenant_key"))
        flipped = wrapped[1][:-1] + bytes([wrapped[1][-1] ^ 1])
        for values in ((wrapped[2], wrapped[1]), (flipped, wrapped[2])):
            db.executemany("UPDATE tenant_key SET wrapped = ? WHERE no = ?", [(values[0], 1), (values[1], 2)])
            db.commit()
            with ring(path) as changed, pytest.raises(Tampered, match=r"key 1 in keyring\.db was changed"):
                changed.find(1)
            with pytest.raises(StateCorrupt, match="was changed"), ring(path, Masters(OTHER, MASTERS.key)):
                pass


def test_neither_the_master_key_nor_a_data_key_lies_in_the_file(path):
    """In no form, through every way of writing it; a change of the master key leaves no old wrapping either."""
    with ring(path) as one:
        one.make([f"tenant{n}" for n in range(40)])
        one.rotate("tenant1")
        secrets = raw_keys(path)
        old = [value for (value,) in one._db.execute("SELECT wrapped FROM tenant_key")]
    assert len(set(secrets)) == 41
    with ring(path, Masters(OTHER, MASTERS.key)):
        pass
    assert sorted(raw_keys(path, OTHER)) == sorted(secrets), "the test looks for the right ones"
    lies = everything(path)
    for secret in (*secrets, MASTERS.key, OTHER):
        for form in (secret, secret.hex().encode(), base64.b64encode(secret)):
            assert form not in lies
    assert not [value for value in old if value[29:61] in lies]
    assert path.stat().st_mode & 0o777 == 0o600


def test_threads_that_ask_at_once_get_one_key(path):
    """Each tenant's first key is made once, whoever comes first; nobody meets a locked file."""
    names = [f"tenant{n}" for n in range(20)]
    got: list[dict[str, Key]] = []
    start = threading.Barrier(4)
    with ring(path) as one:

        def ask() -> None:
            start.wait(60)
            got.append({name: one.make([name])[name] for name in names})
            one.remember("acme", f"e{threading.get_ident()}")
            assert one.find(1) is not None

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
        assert len(got) == 4
        for name in names:
            assert len({found[name].number for found in got}) == 1
        assert len(raw_keys(path)) == len(names)


def test_a_key_that_could_not_be_written_is_not_given_out(path):
    """While somebody else holds the file nothing is made; afterwards it is."""
    with ring(path) as one, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        one._db.execute("PRAGMA busy_timeout = 0")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            one.make(["acme"])
        other.execute("ROLLBACK")
        assert one.make(["acme"])["acme"].number == 1


def test_a_copy_opens_as_it_was(tmp_path, path):
    """Taken from the opened one or beside it; what is destroyed later is still in it, which is why it is kept apart."""
    with ring(path) as one:
        made = one.make(["acme"])["acme"]
        copies = [one.copy(), copy_keyring(path.parent)]
        one.destroy("acme")
        identity = one.id
    for n, copied in enumerate(copies):
        file = tmp_path / f"copy{n}"
        file.write_bytes(copied)
        with ring(file) as opened:
            assert opened.id == identity
            assert same(made, opened.find(made.number).key)
        with pytest.raises(MasterKeyWrong), ring(file, Masters(OTHER)):
            pass
    with pytest.raises(KeyringLost, match="there is no"):
        copy_keyring(tmp_path / "nowhere")
