"""Faults: after the n-th statement, for every n; a full disk; a failed fsync; a poisoned batch; another writer."""

import asyncio
import contextlib
import shutil
import sqlite3
from functools import partial

import pytest
from tests.store.faulty import FaultyConnection, UnsyncedConnection, full_error, io_error
from tests.store.kit import MASTERS, NOW_MS, accept, attempt, check_invariants, opened, rows

from ringback.core.lifecycle import interrupted, reopened, retry_at, succeeded
from ringback.store import faults
from ringback.store.database import open_state
from ringback.store.engine import KEPT, Engine
from ringback.store.errors import StoreError
from ringback.store.faults import Consequence
from ringback.store.keyring import Masters
from ringback.store.ops import UNKNOWN_OUTCOME, Accepted, Failed, Finish, Task
from ringback.store.queue import Ask

SYNC_FAILED = partial(io_error, sqlite3.SQLITE_IOERR_FSYNC)


def _script():
    """Batches that use every statement of the hot path."""
    yield [accept(f"e{i}", 1, 2, 3, expires_at_ms=NOW_MS + 99) for i in range(3)]
    yield [
        Finish(1, 1, retry_at(NOW_MS + 5), attempt()),
        Finish(2, 1, succeeded(), attempt("delivered", 200, full_body=b"x")),
        Finish(3, 1, interrupted(), attempt()),
        accept("e0", 1),
        accept("new", 7),
    ]
    yield [Finish(1, 1, retry_at(NOW_MS + 6), attempt()), Finish(2, 1, reopened(NOW_MS)), Finish(1, 2, succeeded())]
    yield [Finish(1, 1, succeeded(), attempt()), Finish(2, 1, succeeded(), attempt()), accept("last", 1, 2)]


def _open(directory, masters: Masters | None):
    """A database whose statements can fail, sealed if there is a master key."""
    database = open_state(directory, NOW_MS, UnsyncedConnection)
    if masters is not None:
        database.unlock(masters, lambda: NOW_MS)
    return database


def _statements(directory, masters: Masters | None) -> int:
    """How many statements the script takes."""
    database = _open(directory, masters)
    database.writer.arm(10**9)
    engine = Engine(database.writer, 0)
    for batch in _script():
        engine.commit(batch)
    database.close()
    return database.writer.count


KINDS = {
    "io": (io_error, {"rolls_back": True}),
    "io, still open": (io_error, {}),
    "io afterwards": (io_error, {"after": True}),
    "fsync": (SYNC_FAILED, {"after": True}),
    "generic": (lambda: RuntimeError("injected"), {}),
    "generic afterwards": (lambda: RuntimeError("injected"), {"after": True}),
    "full": (full_error, {"rolls_back": True}),
}


@pytest.mark.parametrize("masters", [None, MASTERS], ids=["plain", "sealed"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_at_every_statement_breaks_no_promise(tmp_path, kind, masters):
    """Whatever statement fails and however: what was acknowledged is there after a reopening, all of it or nothing."""
    make, how = KINDS[kind]
    with contextlib.closing(_open(tmp_path / "empty", masters)) as database:
        if masters is not None:
            database.keys._ring.make(["acme"])  # each life has only to note it: no sync of the keyring
    total = _statements(tmp_path / "count", masters)
    assert total > 30
    for n in range(1, total + 1):
        directory = tmp_path / str(n)
        shutil.copytree(tmp_path / "empty", directory)
        database = _open(directory, masters)
        database.writer.arm(n, make, **how)
        engine = Engine(database.writer, 0)
        acknowledged, refused = _play(engine)
        database.close()
        _check(directory, masters, engine, acknowledged, refused)
        shutil.rmtree(directory)


def _play(engine: Engine):
    acknowledged: dict[str, Accepted] = {}
    refused: dict[str, str] = {}
    for batch in _script():
        for op, answer in zip(batch, engine.commit(batch), strict=True):
            if isinstance(answer, Accepted):
                acknowledged[op.event.id] = answer
            elif isinstance(answer, Failed) and not isinstance(op, Finish):
                refused[op.event.id] = answer.code
    return acknowledged, refused


def _check(directory, masters: Masters | None, engine: Engine, acknowledged, refused) -> None:
    path = directory / "ringback.db"
    check_invariants(path)
    stored = dict(
        rows(path, "SELECT e.id, count(d.event) FROM event e LEFT JOIN delivery d ON d.event = e.seq GROUP BY 1")
    )
    for name, answer in acknowledged.items():
        assert stored[name] == answer.deliveries, name
    for name, code in refused.items():
        if code != "unknown_outcome" and name not in acknowledged:
            assert name not in stored, f"{name} was refused as {code} and is there"
    assert ("unknown_outcome" in refused.values()) <= (engine.broken is not None)
    with_reopened = _open(directory, masters)
    again = Engine(with_reopened.writer, with_reopened.high_seq)
    assert all(isinstance(answer, Accepted) for answer in again.commit([accept("after", 1)]))
    with_reopened.close()


def test_a_transient_fault_costs_nothing_but_the_guilty_item(tmp_path):
    """One generic error in a batch of many: the second try, in halves, stores all of them."""
    database = open_state(tmp_path / "s", NOW_MS, FaultyConnection)
    engine = Engine(database.writer, 0)
    database.writer.arm(3, lambda: RuntimeError("once"))
    answers = engine.commit([accept(f"e{i}", 1) for i in range(16)])
    assert [type(answer) for answer in answers] == [Accepted] * 16
    assert len({answer.seq for answer in answers}) == 16
    database.close()
    check_invariants(tmp_path / "s" / "ringback.db")


def test_a_task_that_raises_fails_alone_and_leaves_no_trace(engine, tmp_path):
    """What a task wrote before it raised is undone; its neighbours are stored."""

    def half(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO tenant (name) VALUES ('half')")
        raise ZeroDivisionError("a bug")

    answers = engine.commit([accept("a", 1), Task("half", half), accept("b", 1), Task("fine", lambda _: 42)])
    assert [type(answer) for answer in answers] == [Accepted, Failed, Accepted, int]
    assert (answers[1].code, answers[1].message) == ("internal_error", "ZeroDivisionError: a bug")
    assert rows(tmp_path / "state" / "ringback.db", "SELECT 1 FROM tenant WHERE name = 'half'") == []


def test_a_poisoned_result_fails_alone(engine, tmp_path):
    """A response that can't be bound must not cost the other results of its batch."""
    engine.commit([accept(f"e{i}", 1) for i in range(9)])
    ops = [Finish(1, i + 1, succeeded(), attempt(error="\ud800" if i == 4 else None)) for i in range(9)]
    answers = engine.commit(ops)
    assert [answer is True for answer in answers] == [i != 4 for i in range(9)]
    assert "UnicodeEncodeError" in answers[4].message
    check_invariants(tmp_path / "state" / "ringback.db")


async def test_a_failed_fsync_is_unknown_and_the_end(tmp_path):
    """The batch's outcome is unknown, the process is asked to exit, nothing is written any more."""
    async with opened(tmp_path / "s", FaultyConnection) as store:
        assert isinstance(await store.run(accept("before", 1)), Accepted)
        store.database.writer.arm(1, SYNC_FAILED, only="COMMIT", after=True)
        answers = await store.all(accept("a", 1), Finish(1, 1, succeeded(), attempt()))
        assert {answer.code for answer in answers} == {"unknown_outcome"}
        later = await store.all(accept("b", 1), Task("t", lambda _: 1))
        assert {answer.code for answer in later} == {"unknown_outcome"}
        assert (len(store.fatal), "SQLITE_IOERR" in store.fatal[0]) == (1, True)
        assert store.writer.fatal is not None
    ids = [name for (name,) in rows(tmp_path / "s" / "ringback.db", "SELECT id FROM event ORDER BY seq")]
    assert ids == ["before", "a"], "this time it was stored; nobody could know"


async def test_a_bug_of_the_writer_hangs_nobody(tmp_path):
    """An exception where none is foreseen: everybody is answered, then and later, and the process is asked to exit."""
    async with opened(tmp_path / "s") as store:
        store.writer._worker._engine.commit = lambda ops: ops[999]
        answers = await asyncio.wait_for(store.all(accept("a", 1), accept("b", 1)), 60)
        assert {answer.code for answer in answers} == {"unknown_outcome"}
        (later,) = await asyncio.wait_for(store.all(accept("c", 1)), 60)
        assert later.code == "unknown_outcome"
        assert "IndexError" in store.fatal[0]


def test_a_full_disk_keeps_results_and_refuses_events(engine):
    """The engine's word on it, without threads: Failed for events, KEPT for everything else."""
    engine.commit([accept("a", 1)])
    engine._db.execute("PRAGMA max_page_count = 1")
    big = accept("big", 1, data=b"x" * 500_000)
    answers = engine.commit([big, Finish(1, 1, succeeded(), attempt()), Task("t", lambda _: 1)])
    assert isinstance(answers[0], Failed)
    assert (answers[0].code, answers[1], answers[2]) == ("storage_full", KEPT, KEPT)
    assert (engine.full is not None, engine.broken) == (True, None)


async def test_another_writer_only_delays(tmp_path):
    """Somebody with the sqlite3 shell holding the write lock costs time, no event and no answer."""
    async with opened(tmp_path / "s") as store:
        store.database.writer.execute("PRAGMA busy_timeout = 10")
        other = store.database.connect()
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(store.all(accept("a", 1), accept("a", 1)))
        while "store.busy" not in store.troubles:  # noqa: ASYNC110 - a real other process has no event to wait for
            await asyncio.sleep(0.01)
        assert not waiting.done()
        other.execute("ROLLBACK")
        other.close()
        assert await asyncio.wait_for(waiting, 60) == [Accepted(1, 1), Accepted(1, 1, duplicate=True)]


CASES = [
    (io_error(), True, True, Consequence.FATAL),
    (io_error(), False, False, Consequence.ITEM),
    (io_error(sqlite3.SQLITE_IOERR_READ), False, True, Consequence.ITEM),
    (SYNC_FAILED(), False, True, Consequence.FATAL),
    (io_error(sqlite3.SQLITE_CORRUPT), False, True, Consequence.FATAL),
    (io_error(sqlite3.SQLITE_READONLY), False, True, Consequence.FATAL),
    (io_error(sqlite3.SQLITE_BUSY_SNAPSHOT), False, True, Consequence.BUSY),
    (full_error(), True, False, Consequence.FULL),
    (ValueError("x"), True, False, Consequence.FATAL),
    (ValueError("x"), True, True, Consequence.ITEM),
    (MemoryError(), False, True, Consequence.ITEM),
]


@pytest.mark.parametrize(("error", "at_commit", "still_open", "consequence"), CASES)
def test_each_error_has_its_consequence(error, at_commit, still_open, consequence):
    """The table in the docstring is what the function says."""
    assert faults.judge(error, at_commit=at_commit, still_open=still_open) is consequence


async def test_refill_works_while_the_disk_is_full(tmp_path):
    """Reading needs no space: deliveries go on."""
    async with opened(tmp_path / "s", FaultyConnection) as store:
        await store.run(accept("a", 1))
        store.database.writer.arm(1, full_error, only="BEGIN", times=10**9, rolls_back=True)
        await store.all(accept("b", 1))
        (refill,) = await store.queue.refill([Ask(1, 5, 5)], NOW_MS)
        assert [owed.event for owed in refill.items] == [1]


@pytest.mark.parametrize("name", ["ringback.db", "ringback.db-wal"])
async def test_a_file_deleted_under_the_daemon_ends_it_before_an_event_is_acknowledged(tmp_path, name):
    """Events written into a file without a name would be gone with the process: none is accepted any more."""
    async with opened(tmp_path) as store:
        await store.writer.run(accept("kept"))
        (tmp_path / name).unlink()
        with pytest.raises(StoreError) as failed:
            await store.writer.run(accept("late"))
        assert failed.value.code == UNKNOWN_OUTCOME
        await store.writer.stop()
        assert name in store.fatal[0]
