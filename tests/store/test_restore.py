"""A backup becomes a state directory in which nothing moves by itself."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from tests.store.kit import NOW_MS, Store, accept, check_invariants, opened

from ringback.core.model import Endpoint, EndpointStatus
from ringback.store import endpoints, restore
from ringback.store.backup import copy_alone
from ringback.store.database import DATABASE_NAME
from ringback.store.errors import StateLocked, StateUnusable
from ringback.store.keyring import KEYRING_NAME

LATER_MS = NOW_MS + 60_000


def endpoint(name: str, status: EndpointStatus = EndpointStatus.ACTIVE, **members: Any) -> Endpoint:
    """An endpoint of acme."""
    return Endpoint(
        0,
        f"id-{name}",
        "acme",
        "https://a.example.com/",
        "standard",
        NOW_MS,
        NOW_MS,
        status=status,
        name=name,
        **members,
    )


@pytest.fixture
async def backup(tmp_path: Path) -> Path:
    """Five endpoints in five states, and what the first, the second and a lane without endpoint are owed."""
    async with opened(tmp_path / "old") as store:
        for one in (
            endpoint("one"),
            endpoint("two", EndpointStatus.PAUSED, below=EndpointStatus.ACTIVE),
            endpoint("three", EndpointStatus.PENDING, handshake="zoom"),
            endpoint("four", EndpointStatus.DISABLED, below=EndpointStatus.ACTIVE, status_reason="gone"),
            endpoint("five", EndpointStatus.DISABLED, below=EndpointStatus.ACTIVE, status_reason="undeclared"),
        ):
            await store.run(endpoints.insert(one))
        await store.all(accept("e1", 1, 2), accept("e2", 1), accept("e3", 99))
    copy_alone(tmp_path / "old", tmp_path / "backup", NOW_MS)
    return tmp_path / "backup"


@asynccontextmanager
async def started(directory: Path) -> AsyncIterator[Store]:
    """The store as a start leaves it: the first one after a restore has paused what would send."""
    async with opened(directory) as store:
        await store.run(restore.hold_endpoints(LATER_MS))
        yield store


async def by_name(store: Store) -> dict[str | None, Endpoint]:
    """The endpoints as they are in the table."""
    return {one.name: one for one in await store.endpoints.load_all()}


async def test_a_restore_pauses_what_would_send_and_says_what_is_owed(backup: Path, tmp_path: Path) -> None:
    """What was stopped by hand stays as it was; the lanes with most owed come first."""
    done = restore.restore(backup, tmp_path / "new", LATER_MS)
    assert (done.taken_at_ms, done.paused, done.counts["events"]) == (NOW_MS, 2, 3)
    assert [(one.lane, one.owed, one.name) for one in done.owed] == [(1, 2, "one"), (2, 1, "two"), (99, 1, None)]
    async with started(tmp_path / "new") as store:
        found = await by_name(store)
        stopped = {name: (one.status.value, one.below and one.below.value) for name, one in found.items()}
        assert stopped == {
            "one": ("paused", "active"),
            "two": ("paused", "active"),
            "three": ("paused", "pending"),
            "four": ("disabled", "active"),
            "five": ("paused", "active"),
        }
        assert (found["five"].declared, found["five"].status_reason) == (True, None)
        assert store.database.lost_events == 0
        held = await restore.held(store.reader)
        assert held == restore.Held(LATER_MS, NOW_MS, frozenset({1, 3, 5}), callbacks=True)
        assert await restore.owed_now(store.reader) == done.owed
    check_invariants(tmp_path / "new" / DATABASE_NAME)


async def test_what_is_held_is_let_go_one_by_one_or_at_once(backup: Path, tmp_path: Path) -> None:
    """And a restart remembers how far it had come."""
    restore.restore(backup, tmp_path / "new", LATER_MS)
    async with started(tmp_path / "new") as store:
        await store.run(restore.let_go(1))
        assert (await restore.held(store.reader)).lanes == {3, 5}
    async with started(tmp_path / "new") as store:
        assert (await restore.held(store.reader)).lanes == {3, 5}
        await store.run(restore.let_all_go())
        assert await restore.held(store.reader) == restore.Held(0, NOW_MS, frozenset(), callbacks=False)


async def test_a_restored_backup_of_a_restored_database_holds_anew(backup: Path, tmp_path: Path) -> None:
    """What an earlier restore paused and nobody has moved since is still a restore's, not somebody's."""
    restore.restore(backup, tmp_path / "new", LATER_MS)
    async with started(tmp_path / "new"):
        pass
    copy_alone(tmp_path / "new", tmp_path / "again", LATER_MS)
    done = restore.restore(tmp_path / "again", tmp_path / "newer", LATER_MS + 1)
    assert (done.paused, done.taken_at_ms) == (3, LATER_MS)


async def test_numbers_go_on_after_those_of_the_backup(backup: Path, tmp_path: Path) -> None:
    """A new event gets a number, and so an id of its delivery, that none in the backup has."""
    restore.restore(backup, tmp_path / "new", LATER_MS)
    async with started(tmp_path / "new") as store:
        (told,) = await store.all(accept("e4", 1))
        assert told.seq == 4


@pytest.mark.parametrize("name", [DATABASE_NAME, DATABASE_NAME + "-wal", "state.json"])
def test_only_an_empty_directory_is_restored_into(backup: Path, tmp_path: Path, name: str) -> None:
    """Whatever says that there is or was a database is refused, and stays as it is."""
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / name).write_text("{}")
    with pytest.raises(restore.NotEmpty, match=name):
        restore.restore(backup, tmp_path / "new", LATER_MS)
    assert (tmp_path / "new" / name).read_text() == "{}"
    assert {path.name for path in (tmp_path / "new").iterdir()} == {name, "lock"}


def test_a_refusal_names_all_that_is_in_the_way_and_spares_the_keyring(backup: Path, tmp_path: Path) -> None:
    """Every file to move is named at once; a keyring that is there is not among them, with a copy of one or without."""
    (tmp_path / "new").mkdir()
    for name in (DATABASE_NAME, "state.json", KEYRING_NAME):
        (tmp_path / "new" / name).touch()
    with pytest.raises(restore.NotEmpty, match=f"has {DATABASE_NAME}, state.json: .* but leave {KEYRING_NAME}$"):
        restore.restore(backup, tmp_path / "new", LATER_MS)
    for name in (DATABASE_NAME, "state.json"):
        (tmp_path / "new" / name).unlink()
    with pytest.raises(restore.NotEmpty, match="leave --keys out"):
        restore.restore(backup, tmp_path / "new", LATER_MS, tmp_path / "copy")


async def test_a_running_daemon_is_not_restored_under(backup: Path, tmp_path: Path) -> None:
    """Its lock stands in the way."""
    async with opened(tmp_path / "new"):
        with pytest.raises(StateLocked):
            restore.restore(backup, tmp_path / "new", LATER_MS)


def test_an_unsound_backup_is_refused_and_leaves_nothing(backup: Path, tmp_path: Path) -> None:
    """A damaged payload, a cut-off file, no file: nothing that a daemon could start with."""
    with closing(sqlite3.connect(backup, isolation_level=None)) as db:
        db.execute("UPDATE payload SET crc = crc + 1 WHERE event IN (1, 2)")
    with pytest.raises(restore.Unsound, match=r"event 1 is damaged.*1 more"):
        restore.restore(backup, tmp_path / "new", LATER_MS)
    backup.write_bytes(backup.read_bytes()[:8192])
    with pytest.raises((restore.Unsound, StateUnusable)):
        restore.restore(backup, tmp_path / "new", LATER_MS)
    with pytest.raises(FileNotFoundError):
        restore.restore(tmp_path / "nothing", tmp_path / "new", LATER_MS)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"lock"}


async def test_a_backup_of_an_older_release_is_brought_to_this_one(backup: Path, tmp_path: Path) -> None:
    """Its schema is migrated, and as it doesn't say when it was taken, nor does the restore."""
    with closing(sqlite3.connect(backup, isolation_level=None)) as db:
        db.executescript(
            "DROP TABLE restored_lane; DROP TABLE erasure; DROP TABLE sealed_key;"
            " ALTER TABLE response_body DROP COLUMN key_no;"
            " DELETE FROM meta WHERE name IN ('backup_ms', 'restored_ms', 'hold_callbacks', 'ring', 'seal_from',"
            " 'seal_to', 'seal_lane', 'seal_lanes', 'hold_endpoints'); PRAGMA user_version = 4"
        )
    done = restore.restore(backup, tmp_path / "new", LATER_MS)
    assert (done.taken_at_ms, done.paused) == (0, 2)
    async with started(tmp_path / "new") as store:
        assert (await restore.held(store.reader)).restored_at_ms == LATER_MS


def test_the_database_in_use_is_no_backup(tmp_path: Path, backup: Path) -> None:
    """Its main file alone lacks what lies in the log."""
    backup.with_name("backup-wal").write_bytes(b"x" * 4096)
    with pytest.raises(StateUnusable, match="log beside it"):
        restore.restore(backup, tmp_path / "new", LATER_MS)
