"""Opening: who may, what is refused, and that nothing is ever overwritten in silence."""

import json
import os
import sqlite3
import stat

import pytest
from tests.store.kit import NOW_MS, accept, opened, rows

from ringback.store import database
from ringback.store.database import migrations, open_state
from ringback.store.errors import StateCorrupt, StateLocked, StateLost, StateNewer, StateUnusable


def _open(directory):
    database = open_state(directory, NOW_MS)
    database.close()
    return database


def test_a_new_directory_is_private(tmp_path):
    """The directory is the owner's alone, and so is the database."""
    _open(tmp_path / "a" / "s")
    assert stat.S_IMODE((tmp_path / "a" / "s").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "s" / "ringback.db").stat().st_mode) == 0o600


def test_the_settings_of_the_connection_keep_the_promise(tmp_path):
    """Write-ahead log, synced at each commit, no checkpoint in the writer's way."""
    database = open_state(tmp_path / "s", NOW_MS)
    found = [
        database.writer.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "wal_autocheckpoint", "user_version")
    ]
    database.close()
    assert found == ["wal", 2, 0, migrations()[-1][0]]


def test_a_second_owner_is_refused_with_the_first_ones_pid(tmp_path):
    """Two daemons on one directory can't be; the message says who owns it."""
    database = open_state(tmp_path / "s", NOW_MS)
    with pytest.raises(StateLocked) as caught:
        open_state(tmp_path / "s", NOW_MS)
    assert caught.value.pid == os.getpid()
    assert str(os.getpid()) in str(caught.value)
    database.close()
    _open(tmp_path / "s")


def test_a_refused_opening_gives_the_lock_back(tmp_path):
    """After a refusal the next try meets the same reason, not a lock."""
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "ringback.db").write_bytes(b"not a database, but long enough to look like one" * 100)
    for _ in range(2):
        with pytest.raises(StateCorrupt):
            open_state(tmp_path / "s", NOW_MS)


def test_a_newer_schema_is_refused(tmp_path):
    """A downgrade is refused by name before anything is touched."""
    _open(tmp_path / "s")
    db = sqlite3.connect(tmp_path / "s" / "ringback.db")
    db.execute("PRAGMA user_version = 999")
    db.close()
    before = (tmp_path / "s" / "ringback.db").read_bytes()
    with pytest.raises(StateNewer, match="999"):
        open_state(tmp_path / "s", NOW_MS)
    assert (tmp_path / "s" / "ringback.db").read_bytes() == before


@pytest.mark.parametrize("how", ["missing", "empty", "empty beside a log"])
async def test_a_lost_database_is_never_made_anew(tmp_path, how):
    """Where a marker says there was a database, a missing or empty file is refused, with words on what to do."""
    async with opened(tmp_path / "s") as store:
        await store.run(accept("a"))
    path = tmp_path / "s" / "ringback.db"
    path.unlink()
    if how != "missing":
        path.touch()
    if how == "empty beside a log":
        path.with_name("ringback.db-wal").write_bytes(b"x" * 5000)
    with pytest.raises(StateLost, match=r"up to event 1.*backup"):
        open_state(tmp_path / "s", NOW_MS)
    assert path.exists() == (how != "missing")


def test_an_empty_file_beside_a_log_is_refused_without_a_marker(tmp_path):
    """SQLite would open it as an empty database; the log says there was more."""
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "ringback.db").touch()
    (tmp_path / "s" / "ringback.db-wal").write_bytes(b"x" * 5000)
    with pytest.raises(StateLost):
        open_state(tmp_path / "s", NOW_MS)


def test_a_foreign_database_is_left_untouched(tmp_path):
    """Another program's file is refused and stays byte for byte as it was."""
    (tmp_path / "s").mkdir()
    path = tmp_path / "s" / "ringback.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (a)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StateCorrupt, match="another program"):
        open_state(tmp_path / "s", NOW_MS)
    assert path.read_bytes() == before


def test_a_damaged_header_is_left_untouched(tmp_path):
    """A file whose first page is gone is refused and not repaired, replaced or renamed."""
    _open(tmp_path / "s")
    path = tmp_path / "s" / "ringback.db"
    damaged = b"\0" * 4096 + path.read_bytes()[4096:]
    path.write_bytes(damaged)
    with pytest.raises(StateCorrupt, match="damaged"):
        open_state(tmp_path / "s", NOW_MS)
    assert path.read_bytes() == damaged


async def test_a_lost_log_is_noticed(tmp_path):
    """SQLite says ok when its log is gone; the marker knows better, says how much, and numbers aren't used twice."""
    async with opened(tmp_path / "s") as store:
        await store.run(accept("a", 1))
    saved = (tmp_path / "s" / "ringback.db").read_bytes()
    async with opened(tmp_path / "s") as store:
        assert store.database.lost_events == 0
        for number in range(5):
            await store.run(accept(f"b{number}", 1))
    (tmp_path / "s" / "ringback.db").write_bytes(saved)
    async with opened(tmp_path / "s") as store:
        assert store.database.lost_events == 5
        assert (await store.run(accept("c", 1))).seq == 7
    async with opened(tmp_path / "s") as store:
        assert store.database.lost_events == 0, "said once"


async def test_the_marker_follows_while_the_writer_rests(tmp_path):
    """A crash without a clean stop leaves a marker that knows of what was committed before the last rest."""
    async with opened(tmp_path / "s") as store:
        await store.run(accept("a"))
        marker = tmp_path / "s" / "state.json"
        await _until(lambda: json.loads(marker.read_text())["high_seq"] == 1)


async def _until(holds) -> None:
    import asyncio  # noqa: PLC0415 - used here alone

    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never held")


def test_a_marker_that_makes_no_sense_is_named(tmp_path):
    """An unreadable marker is neither ignored nor overwritten."""
    _open(tmp_path / "s")
    (tmp_path / "s" / "state.json").write_text("{")
    with pytest.raises(StateUnusable, match=r"state\.json"):
        open_state(tmp_path / "s", NOW_MS)
    assert (tmp_path / "s" / "state.json").read_text() == "{"


def test_a_missing_marker_is_made_again(tmp_path):
    """A sound database without its marker opens, and the marker is back."""
    _open(tmp_path / "s")
    (tmp_path / "s" / "state.json").unlink()
    assert _open(tmp_path / "s").lost_events == 0
    assert (tmp_path / "s" / "state.json").exists()


def test_a_crash_while_the_schema_is_made_leaves_nothing_half(tmp_path):
    """A migration is one transaction: after a fault in it the next opening begins it again."""

    class Breaks(sqlite3.Connection):
        """Fails in the middle of the first migration."""

        def execute(self, sql, *parameters):
            if "CREATE TABLE delivery" in sql:
                raise RuntimeError("power cut")
            return super().execute(sql, *parameters)

    with pytest.raises(RuntimeError):
        open_state(tmp_path / "s", NOW_MS, Breaks)
    assert rows(tmp_path / "s" / "ringback.db", "SELECT count(*) FROM sqlite_schema") == [(0,)]
    _open(tmp_path / "s")


@pytest.mark.parametrize("numbers", [[], [1, 2, 4], [2, 3], [1, 1, 2]])
def test_an_installation_that_lacks_a_migration_is_refused(tmp_path, monkeypatch, numbers):
    """A gap or a double would leave a schema nobody knows: refused by name, before anything is touched."""
    _open(tmp_path / "s")
    before = (tmp_path / "s" / "ringback.db").read_bytes()
    monkeypatch.setattr(database, "migrations", lambda: [(number, "SELECT 1;") for number in numbers])
    with pytest.raises(StateUnusable, match="installation"):
        open_state(tmp_path / "s", NOW_MS)
    assert (tmp_path / "s" / "ringback.db").read_bytes() == before


@pytest.mark.parametrize("version", [0, -1])
def test_a_schema_without_a_number_is_refused(tmp_path, version):
    """Tables of ours under a number no release ever gave: nobody can say what they are, so nothing is touched."""
    _open(tmp_path / "s")
    db = sqlite3.connect(tmp_path / "s" / "ringback.db")
    db.execute(f"PRAGMA user_version = {version}")
    db.close()
    before = (tmp_path / "s" / "ringback.db").read_bytes()
    with pytest.raises(StateUnusable, match=f"schema number {version}"):
        open_state(tmp_path / "s", NOW_MS)
    assert (tmp_path / "s" / "ringback.db").read_bytes() == before


def test_migrations_are_numbered_without_gaps():
    """Forward only, one after the other, from 1."""
    assert [number for number, _ in migrations()] == list(range(1, len(migrations()) + 1))


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    """The message names the directory and the reason."""
    (tmp_path / "file").touch()
    with pytest.raises(StateUnusable, match="file/s"):
        open_state(tmp_path / "file" / "s", NOW_MS)


async def test_readers_cannot_write(store):
    """A reader's connection refuses to change anything."""
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await store.reader.fetch("DELETE FROM event")
