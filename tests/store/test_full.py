"""A full disk: what is refused, what waits, what the ballast is for, when it is over; and a start on one."""

import asyncio
import errno
import os
import sqlite3
from types import SimpleNamespace

import pytest
from tests.store.faulty import FaultyConnection, full_error, io_error
from tests.store.kit import MASTERS, NOW_MS, Store, accept, attempt, check_invariants, opened

from ringback.core.lifecycle import succeeded
from ringback.store import worker
from ringback.store.database import open_state, with_room
from ringback.store.errors import StateFull, StateUnusable, StoreError
from ringback.store.keyring import Keyring
from ringback.store.ops import Accepted, Failed, Finish, Task
from ringback.store.statedir import Ballast, Marker


class Disk(Ballast):
    """A ballast on a disk whose free space the test decides."""

    free = True

    def free_bytes(self) -> int:
        """As the test says: more than anybody asks for, or nothing."""
        return 1 << 40 if self.free else 0


@pytest.fixture
def _impatient(monkeypatch):
    """What couldn't be written is tried again soon."""
    monkeypatch.setattr(worker, "RETRY_PAUSE_S", 0.05)


async def _recovered(store) -> None:
    async with asyncio.timeout(60):
        while "store.recovered" not in store.troubles:  # noqa: ASYNC110 - the writer's thread has no event to wait for
            await asyncio.sleep(0.01)


async def _fill(store) -> int:
    """Accept until the page limit refuses; how many were taken."""
    for number in range(10_000):
        (answer,) = await store.all(accept(f"fill{number}", 1, data=b"x" * 4000))
        if isinstance(answer, Failed):
            assert answer.code == "storage_full"
            return number
    raise AssertionError("the limit never came")


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("ballast", [True, False])
async def test_a_full_disk_refuses_events_keeps_results_and_recovers(tmp_path, ballast):
    """Events are refused at once; results wait and are applied when there is room; no restart is needed."""
    async with opened(tmp_path / "s", FaultyConnection) as store:
        disk = store.database.ballast = Disk(tmp_path, 4096)
        disk.free = ballast
        assert disk.hold() is ballast
        disk.free = False
        writer = store.database.writer
        writer.execute("PRAGMA max_page_count = 120")
        assert await _fill(store) > 10
        assert (store.writer.full, disk.held) == (True, False)
        writer.arm(1, full_error, only="BEGIN", times=10**9, rolls_back=True)
        result = asyncio.ensure_future(store.run(Finish(1, 1, succeeded(), attempt())))
        task = asyncio.ensure_future(store.run(Task("t", lambda _: 42)))
        await asyncio.sleep(0)  # they go first
        (refused,) = await store.all(accept("no", 1))
        assert refused == Failed("storage_full", "the disk is full")
        assert store.writer.stuck, "what is asked for now waits"
        assert not result.done()
        assert not task.done()
        assert store.writer.backlog_rows == 2
        writer.arm(0)
        writer.execute("PRAGMA max_page_count = 1000000")
        disk.free = True
        assert isinstance(await store.run(accept("yes", 1)), Accepted)
        assert await asyncio.wait_for(asyncio.gather(result, task), 60) == [True, 42]
        await _recovered(store)
        assert store.troubles == ["store.full", "store.recovered"]
        assert store.writer.backlog_rows == 0
        assert disk.held is ballast, "the ballast is laid down again"
    check_invariants(tmp_path / "s" / "ringback.db")


@pytest.fixture
def quota(monkeypatch):
    """A quota that is used up while ``quota.up``: the kernel denies what the file system says is free."""
    given = SimpleNamespace(up=False)
    allocate = os.posix_fallocate

    def within(fd, offset, size):
        if given.up:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        allocate(fd, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", within)
    return given


@pytest.mark.usefixtures("_impatient")
async def test_a_quota_that_is_used_up_is_a_full_disk(tmp_path, quota):
    """SQLite calls it an error of the device: events are refused, results kept, and nothing is fatal; it recovers."""
    async with opened(tmp_path / "s", FaultyConnection) as store:
        disk = store.database.ballast = Disk(tmp_path, 4096)
        assert disk.hold()
        await store.run(accept("a", 1))
        quota.up = True
        store.database.writer.arm(1, io_error, only="COMMIT", times=10**9, rolls_back=True)
        (refused,) = await store.all(accept("no", 1))
        assert refused == Failed("storage_full", "the disk is full")
        result = asyncio.ensure_future(store.run(Finish(1, 1, succeeded(), attempt())))
        store.database.writer.arm(0)  # there is the ballast's room now, and it is not for events
        assert await result
        (refused,) = await store.all(accept("nor now", 1))
        assert refused == Failed("storage_full", "the disk is full")
        assert store.troubles == ["store.full"]
        quota.up = False
        await _recovered(store)
        assert isinstance(await store.run(accept("yes", 1)), Accepted)
        assert disk.held
        assert not (tmp_path / "ballast.probe").exists()


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CANTOPEN])
def test_a_start_without_quota_is_a_start_on_a_full_disk(tmp_path, quota, code):
    """However much the file system says is free."""
    quota.up = True

    def fails() -> None:
        raise io_error(code)

    with pytest.raises(StateFull):
        with_room(Disk(tmp_path, 4096), tmp_path / "x.db", fails)


@pytest.mark.usefixtures("_impatient")
async def test_what_is_asked_by_hand_waits_for_no_room(tmp_path):
    """The call that meets the full disk is refused and not done later; a ballast still serves it; others wait."""
    ran, over = [], asyncio.Event()
    async with opened(tmp_path / "s", FaultyConnection) as store:
        disk = store.database.ballast = Disk(tmp_path, 4096)
        assert disk.hold()
        disk.free = False
        await store.run(accept("a", 1))
        writer = store.database.writer
        writer.arm(1, full_error, only="BEGIN", rolls_back=True)
        with store.writer.by_hand():
            assert await store.run(Task("served", lambda _: ran.append("served"))) is None
            writer.arm(1, full_error, only="BEGIN", times=10**9, rolls_back=True)
            kept = asyncio.ensure_future(_later(store, over, lambda: ran.append("later")))
            with pytest.raises(StoreError, match="nothing was changed") as refused:
                await store.run(Task("asked", lambda _: ran.append("asked")))
        assert refused.value.code == "storage_full"
        result = asyncio.ensure_future(store.run(Finish(1, 1, succeeded(), attempt())))
        over.set()
        async with asyncio.timeout(60):
            while store.writer.backlog_rows < 2:  # noqa: ASYNC110 - the writer has no event for it
                await asyncio.sleep(0)
        writer.arm(0)
        assert await asyncio.wait_for(asyncio.gather(result, kept), 60) == [True, None]
    assert ran == ["served", "later"]


async def _later(store, over, function) -> None:
    """A task begun by a call, that writes when that call is over."""
    await over.wait()
    await store.run(Task("later", lambda _: function()))


@pytest.mark.usefixtures("_impatient")
async def test_room_is_noticed_though_nobody_tries(tmp_path):
    """Without a ballast, too: who asks whether events are taken, before sending one, hears yes again."""
    async with opened(tmp_path / "s", FaultyConnection) as store:
        disk = store.database.ballast = Disk(tmp_path, 4096)
        disk.free = False
        store.database.writer.arm(1, full_error, only="BEGIN", rolls_back=True)
        assert (await store.all(accept("a", 1)))[0].code == "storage_full"
        assert (store.writer.full, store.writer.stuck) == (True, True)
        disk.free = True
        await _recovered(store)
        assert (store.writer.stuck, store.troubles) == (False, ["store.full", "store.recovered"])


async def test_small_events_that_still_fit_are_no_recovery(tmp_path, monkeypatch):
    """Large ones refused and small ones taken in turn make one line, not one for each turn."""
    monkeypatch.setattr(worker, "RETRY_PAUSE_S", 600)  # all of them come within it
    async with opened(tmp_path / "s", FaultyConnection) as store:
        disk = store.database.ballast = Disk(tmp_path, 4096)
        disk.free = False
        for number in range(10):
            store.database.writer.arm(1, full_error, only="BEGIN", rolls_back=True)
            assert (await store.all(accept(f"large{number}", 1)))[0].code == "storage_full"
            assert isinstance(await store.run(accept(f"small{number}", 1)), Accepted)
        assert store.troubles == ["store.full"]


@pytest.mark.usefixtures("_impatient")
async def test_a_ballast_spent_to_start_is_for_results(tmp_path):
    """Where only its room let the directory be opened, events are refused from the start, until it can be laid down."""
    database = open_state(tmp_path / "s", NOW_MS)
    disk = database.ballast = Disk(tmp_path, 4096)
    disk.free, disk.spent_at_start = False, True
    store = Store(database)
    await store.writer.start()
    assert (await store.all(accept("a", 1)))[0] == Failed("storage_full", "the disk is full")
    assert await store.run(Task("t", lambda _: 42)) == 42
    assert (store.writer.full, store.writer.stuck) == (True, False)
    disk.free = True
    await _recovered(store)
    assert disk.held
    await store.writer.stop()
    database.close()
    assert store.troubles == ["store.full", "store.recovered"]


@pytest.mark.usefixtures("_impatient")
async def test_the_ballast_makes_room_for_results(tmp_path):
    """What frees space needs space first: the ballast is let go, results go on at once, events don't use it up."""
    async with opened(tmp_path / "s", FaultyConnection) as store:
        disk = store.database.ballast = Disk(tmp_path, 4096)
        await store.run(accept("a", 1, 2))
        assert disk.hold()
        disk.free = False
        store.database.writer.arm(1, full_error, only="BEGIN", rolls_back=True)
        assert await asyncio.wait_for(store.run(Finish(1, 1, succeeded(), attempt())), 60) is True
        assert not (tmp_path / "ballast").exists()
        (refused,) = await store.all(accept("b", 1))
        assert refused.code == "storage_full"
        assert await asyncio.wait_for(store.run(Finish(2, 1, succeeded(), attempt())), 60) is True
        disk.free = True
        while isinstance((await store.all(accept("b", 1)))[0], Failed):
            pass
        await _recovered(store)
        assert disk.held


def test_a_ballast_of_an_earlier_process_is_known(tmp_path):
    """What a former process laid down can be let go by this one, even on a full disk."""
    assert Disk(tmp_path, 4096).hold()
    again = Disk(tmp_path, 4096)
    again.free = False
    assert (again.held, again.release(), again.release()) == (True, True, False)


async def test_what_is_kept_at_the_end_is_answered(tmp_path):
    """Stopping with a full disk tries once more, then says what wasn't stored."""
    async with opened(tmp_path / "s", FaultyConnection) as store:
        await store.run(accept("a", 1))
        store.database.writer.arm(1, full_error, only="BEGIN", times=10**9, rolls_back=True)
        result = store.all(Finish(1, 1, succeeded(), attempt()))
        waiting = asyncio.ensure_future(result)
        await asyncio.sleep(0)
        await store.writer.stop()
        (answer,) = await asyncio.wait_for(waiting, 60)
        assert answer.code == "storage_full"
    check_invariants(tmp_path / "s" / "ringback.db")


NO_ROOM = OSError(errno.ENOSPC, "No space left on device")
WORDS_FOR_FULL = [full_error(), io_error(sqlite3.SQLITE_IOERR_SHMSIZE), io_error(sqlite3.SQLITE_CANTOPEN), NO_ROOM]


@pytest.mark.parametrize("error", WORDS_FOR_FULL)
def test_a_full_disk_at_the_start_takes_the_ballast(tmp_path, error):
    """However SQLite or the system calls it: the ballast goes once, then the start is refused by name."""
    disk = Disk(tmp_path, 4096)
    assert disk.hold()
    disk.free = False
    held = []

    def fails(times: int) -> str:
        held.append(disk.held)
        if len(held) <= times:
            raise error
        return "opened"

    assert with_room(disk, tmp_path / "x.db", lambda: fails(1)) == "opened"
    assert (held, disk.spent_at_start) == ([True, False], True)
    with pytest.raises(StateFull, match="disk is full: free some space"):
        with_room(disk, tmp_path / "x.db", lambda: fails(99))


def test_what_is_no_full_disk_takes_no_ballast(tmp_path):
    """The same words on a disk that has room mean something else."""
    disk = Disk(tmp_path, 4096)
    assert disk.hold()

    def fails() -> None:
        raise io_error(sqlite3.SQLITE_CANTOPEN)

    with pytest.raises(StateUnusable, match="cannot open"):
        with_room(disk, tmp_path / "x.db", fails)
    assert disk.held


def test_a_database_that_the_account_may_not_write_is_told_by_its_rights(tmp_path, monkeypatch):
    """SQLite only says that it can't open it; usually root ran a command there, and the -wal is root's now."""
    theirs = tmp_path / "x.db-wal"
    theirs.touch()
    monkeypatch.setattr(os, "access", lambda path, _: path != theirs)

    def fails() -> None:
        raise io_error(sqlite3.SQLITE_CANTOPEN)

    with pytest.raises(StateUnusable, match=r"cannot open .*/x\.db-wal: Permission denied \(the daemon's account, uid"):
        with_room(Disk(tmp_path, 4096), tmp_path / "x.db", fails)


async def test_an_older_marker_will_do_on_a_full_disk(tmp_path, monkeypatch):
    """The start needs no room for it; a directory that has none yet is refused, with the disk named."""

    def no_room(_self, _mark):
        raise NO_ROOM

    async with opened(tmp_path / "s") as store:
        await store.run(accept("a"))
    (tmp_path / "s" / "state.json").write_text('{"created_at_ms": 1, "high_seq": 0}')
    monkeypatch.setattr(Marker, "write", no_room)
    opened_again = open_state(tmp_path / "s", NOW_MS)
    assert (opened_again.high_seq, opened_again.marked_seq) == (1, 0)
    opened_again.close()
    with pytest.raises(StateFull):
        open_state(tmp_path / "new", NOW_MS)


def test_a_keyring_without_room_is_not_called_damaged(tmp_path, monkeypatch):
    """Nobody is sent for a copy of a file that is sound."""

    def full(_self):
        raise full_error()

    monkeypatch.setattr(Keyring, "_create", full)
    opened_once = open_state(tmp_path, NOW_MS)
    with pytest.raises(StateFull, match=r"keyring\.db"):
        opened_once.unlock(MASTERS, lambda: NOW_MS)
    open_state(tmp_path, NOW_MS).close()


async def test_a_new_tenants_key_without_room_costs_that_event_alone(tmp_path, monkeypatch):
    """Refused by name like any other on a full disk; the tenants that have keys go on, and so does this one later."""

    def full(_self, _tenant):
        raise full_error()

    async with opened(tmp_path, masters=MASTERS) as store:
        assert isinstance(await store.run(accept("a")), Accepted)
        with monkeypatch.context() as patched:
            patched.setattr(Keyring, "_make", full)
            assert (await store.all(accept("b", tenant="new")))[0] == Failed("storage_full", "the disk is full")
            assert isinstance(await store.run(accept("c")), Accepted)
        assert isinstance(await store.run(accept("b", tenant="new")), Accepted)
        assert store.fatal == []
    check_invariants(tmp_path / "ringback.db")


def test_a_new_key_needs_no_new_file(tmp_path):
    """The keyring's journal stays, empty: where no file can be made any more a key still can."""
    opened_once = open_state(tmp_path, NOW_MS)
    ring = opened_once.unlock(MASTERS, lambda: NOW_MS)
    before = {path.name for path in tmp_path.iterdir()}
    ring.make(["acme"])
    ring.make(["other"])
    assert {path.name for path in tmp_path.iterdir()} == before
    assert (tmp_path / "keyring.db-journal").read_bytes() == b""
    opened_once.close()
