"""Copies of the database: whole, private, made beside the writer, and sound."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.harness.waiting import wait_until
from tests.store.kit import NOW_MS, Store, accept, check_invariants, opened, rows

from ringback.store.backup import Aside, Cancelled, copy, copy_alone, look, publish
from ringback.store.check import Report, check, check_directory, check_file
from ringback.store.database import APPLICATION_ID, DATABASE_NAME, migrations, open_state
from ringback.store.errors import StateLocked, StateUnusable


def copied(store: Store, part: Path) -> None:
    """A copy of a running store."""
    with Aside(store.database.path) as source:
        copy(source, part, NOW_MS)


def names_in(folder: Path) -> set[str]:
    """What lies there."""
    return {path.name for path in folder.iterdir()}


async def test_a_copy_holds_what_was_committed_and_says_when_it_was_taken(store: Store, tmp_path: Path) -> None:
    """Also what lies only in the log; the file is its owner's alone and needs no log of its own."""
    await store.all(*[accept(f"e{n}", 1, 2) for n in range(50)])
    with Aside(store.database.path) as source:
        made = copy(source, tmp_path / "copy", NOW_MS)
    assert (made.counts["events"], made.counts["owed"], made.taken_at_ms) == (50, 100, NOW_MS)
    assert look(tmp_path / "copy") == made
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    assert names_in(tmp_path) == {"state", "copy"}
    check_invariants(tmp_path / "copy")


async def test_a_copy_is_whole_while_the_writer_goes_on(store: Store, tmp_path: Path) -> None:
    """Everything acknowledged before it began is there, and whatever else is there is there whole."""
    writing = True

    async def write() -> int:
        number = 0
        while writing:
            await store.all(*[accept(f"w{number + n}", 1) for n in range(20)])
            number += 20
        return number

    await store.all(*[accept(f"e{n}", 1, data=b"x" * 2000) for n in range(500)])
    writer = asyncio.create_task(write())
    for n in range(3):
        before = len(rows(store.database.path, "SELECT 1 FROM event"))
        await asyncio.to_thread(copied, store, tmp_path / f"copy{n}")
        check_invariants(tmp_path / f"copy{n}")
        assert look(tmp_path / f"copy{n}").counts["events"] >= before >= 500
    writing = False
    assert await writer > 0


async def test_what_was_deleted_is_not_in_a_copy(store: Store, tmp_path: Path) -> None:
    """Rows are copied, not pages: a word that only lies in freed pages stays behind."""
    await store.all(accept("e1", 1, data=b'{"word":"sesquipedalian"}'))
    store.database.writer.execute("PRAGMA secure_delete = 0")
    with closing(sqlite3.connect(store.database.path, isolation_level=None)) as db:
        db.execute("DELETE FROM payload")
    copied(store, tmp_path / "copy")
    assert b"sesquipedalian" not in (tmp_path / "copy").read_bytes()


async def test_a_copy_that_is_called_off_leaves_nothing(store: Store, tmp_path: Path) -> None:
    """Neither before it begins nor while it runs."""
    await store.all(*[accept(f"e{n}", 1, data=b"x" * 100_000) for n in range(300)])
    with Aside(store.database.path) as source:
        source.cancel()
        with pytest.raises(Cancelled):
            copy(source, tmp_path / "copy", NOW_MS)
    with Aside(store.database.path) as source:
        job = asyncio.create_task(asyncio.to_thread(copy, source, tmp_path / "copy", NOW_MS))
        await asyncio.to_thread(wait_until, (tmp_path / "copy").exists, 60, lambda: "no copy")
        source.cancel()
        with pytest.raises(Cancelled):
            await job
    assert not (tmp_path / "copy").exists()


async def test_a_copy_never_replaces_anything(store: Store, tmp_path: Path) -> None:
    """A file that is there is refused and stays."""
    (tmp_path / "copy").write_text("mine")
    with pytest.raises(StateUnusable, match="cannot make"):
        copied(store, tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "mine"


async def test_alone_the_lock_is_taken(tmp_path: Path) -> None:
    """A directory in use is refused; a free one is copied, and nothing is there to copy without a database."""
    async with opened(tmp_path / "state") as store:
        await store.all(accept("e1", 1))
        with pytest.raises(StateLocked):
            copy_alone(tmp_path / "state", tmp_path / "copy", NOW_MS)
    assert copy_alone(tmp_path / "state", tmp_path / "copy", NOW_MS).counts["events"] == 1
    with pytest.raises(StateUnusable, match="no database"):
        copy_alone(tmp_path / "elsewhere", tmp_path / "other", NOW_MS)
    assert not (tmp_path / "elsewhere").exists()


def test_a_copy_gets_its_name_in_one_step(tmp_path: Path) -> None:
    """What bore the name before is replaced."""
    (tmp_path / "a.part").write_text("new")
    (tmp_path / "a").write_text("old")
    publish(tmp_path / "a.part", tmp_path / "a")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "new")]


# -- checking ---------------------------------------------------------------------------------------------------------


async def test_a_sound_database_has_no_problems(store: Store, tmp_path: Path) -> None:
    """While it is written to, as a copy, and empty; what is in it is counted."""
    assert _checked(store).problems == []
    await store.all(*[accept(f"e{n}", 1, data=b"x" * 1000) for n in range(100)])
    found = _checked(store)
    assert found.problems == []
    assert (found.counts["events"], found.counts["payloads"], found.high_seq, found.lost_events) == (100, 100, 100, 0)
    copied(store, tmp_path / "copy")
    copy = check_file(tmp_path / "copy")
    assert (copy.problems, copy.size) == ([], (tmp_path / "copy").stat().st_size)
    assert found.size >= copy.size, "what lies in the log counts"


BREAKAGES = {
    "payload of event 2 is damaged": "UPDATE payload SET data = CAST('{\"a\":2}' AS BLOB) WHERE event = 2",
    "event 2 has no payload": "DELETE FROM payload WHERE event = 2",
    "event 2 on lane 7 isn't in the queue": "DELETE FROM owed WHERE event = 2",
    "the queue has event 2 on lane 7": "DELETE FROM delivery WHERE event = 2",
    "the endpoint in lane 7 (revision 1) can't be read": (
        "INSERT INTO endpoint (lane, id, tenant, status, revision, spec) VALUES (7, 'x', 1, 'active', 1, x'7b')"
    ),
    "the payload of event 2 has no event": "DELETE FROM event WHERE seq = 2",
    "an attempt of event 99 on lane 7 has no delivery": (
        "INSERT INTO attempt (event, lane, n, run, started_ms, elapsed_ms, outcome) VALUES (99, 7, 1, 1, 1, 1, 'x')"
    ),
}


@pytest.mark.parametrize(("words", "sql"), BREAKAGES.items(), ids=list(BREAKAGES))
async def test_what_is_broken_is_named(tmp_path: Path, words: str, sql: str) -> None:
    """Each bond between rows, and each checksum."""
    async with opened(tmp_path / "state") as store:
        await store.all(*[accept(f"e{n}", 7) for n in range(1, 4)])
    with closing(sqlite3.connect(tmp_path / "state" / DATABASE_NAME, isolation_level=None)) as db:
        db.execute(sql)
    assert any(words in problem for problem in check_file(tmp_path / "state" / DATABASE_NAME).problems)


async def test_a_damaged_page_is_named(tmp_path: Path) -> None:
    """Bytes that the disk lost are a finding, not a crash."""
    async with opened(tmp_path / "state") as store:
        await store.all(*[accept(f"e{n}", 1, data=b"x" * 3000) for n in range(200)])
    path = tmp_path / "state" / DATABASE_NAME
    raw = bytearray(path.read_bytes())
    for page in range(40, 60):
        raw[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    path.write_bytes(raw)
    found = check_file(path)
    assert found.problems
    assert len(found.problems) <= 102


async def test_a_marker_ahead_of_the_tables_is_a_loss(tmp_path: Path) -> None:
    """A database older than its marker lost events, and the check says so."""
    async with opened(tmp_path / "state") as store:
        await store.all(accept("e1", 1))
        store.database.mark(50)
        found = _checked(store)
    assert found.lost_events == 49
    assert "lost" in found.problems[-1]


def test_a_backup_of_an_older_schema_is_judged_by_what_it_has(tmp_path: Path) -> None:
    """Tables that came since are no loss."""
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(migrations()[0][1])
        db.execute(
            "INSERT INTO endpoint (lane, id, tenant, status, revision, spec) VALUES (1, 'x', 1, 'active', 1, x'7b')"
        )
        db.execute("PRAGMA user_version = 1")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.commit()
    found = check_file(path)
    assert (found.problems, found.schema) == ([], 1)


def test_what_is_no_database_of_ours_is_refused(tmp_path: Path) -> None:
    """Other files, other programs' databases, newer releases', and a live database's main file alone."""
    (tmp_path / "text").write_text("hello " * 1000)
    with closing(sqlite3.connect(tmp_path / "other", isolation_level=None)) as db:
        db.execute("CREATE TABLE t (a)")
    database = open_state(tmp_path / "state", NOW_MS)
    database.writer.execute("PRAGMA user_version = 9999")
    with pytest.raises(StateUnusable, match="log beside it"):
        check_file(database.path)
    database.close()
    for path, words in (
        (tmp_path / "text", "can't be read"),
        (tmp_path / "other", "no database of ringback's"),
        (database.path, "newer release"),
        (tmp_path / "nothing", "no file"),
    ):
        with pytest.raises(StateUnusable, match=words):
            check_file(path)


def _checked(store: Store) -> Report:
    with Aside(store.database.path) as source:
        return check_directory(source, store.database.directory)


async def test_a_check_that_is_called_off_says_so(store: Store) -> None:
    """It isn't taken for a finding."""
    with Aside(store.database.path) as source:
        source.cancel()
        with pytest.raises(Cancelled):
            check(source, store.database.path)
