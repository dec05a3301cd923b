"""The spool's service over real files and the real store: whole files in, or none of them."""

import asyncio
import errno
import os
import shutil

import pytest
from tests.harness.waiting import wait_until
from tests.service.spool_world import Life

from ringback.core.events import EventLimits
from ringback.core.model import Rejection
from ringback.service import spool, spool_commit
from ringback.service.spool import HOLD_S, LINK_GRACE_S, RETRY_S, SWEEP_S, SWEEP_UNWATCHED_S, Spool
from ringback.store.errors import QueryTimeout
from ringback.transports.spool import SpoolFolder


@pytest.fixture
async def life(tmp_path):
    """A running spool."""
    made = await Life(tmp_path).start()
    yield made
    await made.stop()


@pytest.fixture
def log(monkeypatch):
    """What the spool told, as (name, keys)."""
    told = []

    class Log:
        def __getattr__(self, _level):
            return lambda name, **keys: told.append((name, keys))

    monkeypatch.setattr(spool, "_log", Log())
    return told


def told_of(log, name):
    """The keys of each line of one name."""
    return [keys for event, keys in log if event == name]


async def test_files_become_events_and_go(life, monkeypatch):
    """Objects and lines, small and large, in as many slices as it takes; each event is told to the dispatcher once."""
    monkeypatch.setattr(spool_commit, "SLICE_EVENTS", 10)
    monkeypatch.setattr(spool, "BATCH_EVENTS", 40)
    life.put("one.json", {"id": "one"})
    life.put("many.ndjson", *[{"data": {"n": n}} for n in range(95)])
    for n in range(30):
        life.put(f"small{n}", {})
    assert await life.turn() == SWEEP_S
    assert life.stored() == 126
    assert len(set(life.accepted_seqs)) == 126
    assert [life.lies(where) for where in ("new", "failed", ".taken", "tmp")] == [[], [], [], []]


async def test_a_bad_line_keeps_the_whole_file_out(life, log):
    """None of it is stored; the reason names the line; the log says which file of whom."""
    life.put("bad.ndjson", {}, b"nope\n", {})
    life.put("good.ndjson", {})
    await life.turn()
    assert life.stored() == 1
    assert life.lies("failed") == ["bad.ndjson", "bad.ndjson.reason.json"]
    assert [line["line"] for line in life.reason("bad.ndjson")["lines"]] == [2]
    (keys,) = told_of(log, "spool.failed")
    assert (keys["file"], keys["code"], keys["line"], keys["uid"]) == ("bad.ndjson", "invalid_json", 2, os.getuid())


async def test_a_callback_that_may_not_be_called_keeps_the_whole_file_out(life):
    """Judged before anything is stored, like any other fault of a line; one that may be called goes in."""
    bad = {"callback": {"url": "https://10.0.0.1/"}}
    life.put("bad.ndjson", {"id": "one"}, bad, {"id": "two"})
    life.put("good.json", {"callback": {"url": "https://h.example/"}})
    await life.turn()
    (line,) = life.reason("bad.ndjson")["lines"]
    assert (line["line"], line["code"], line["field"]) == (2, "forbidden", "callback.url")
    assert life.stored() == 1
    assert life.sql("SELECT count(*) FROM callback") == [(1,)]


async def test_a_conflict_keeps_the_whole_file_out(life):
    """An id that is stored with other content is a bad line, known before anything of the file is committed."""
    life.put("first.json", {"id": "mine", "data": {"n": 1}})
    await life.turn()
    life.put("second.ndjson", {"id": "new"}, {"id": "mine", "data": {"n": 2}})
    await life.turn()
    assert life.stored() == 1
    reason = life.reason("second.ndjson")
    assert reason["accepted"] == 0
    assert [(line["line"], line["code"]) for line in reason["lines"]] == [(2, "conflict")]


async def test_a_conflict_that_comes_in_between_is_told_with_what_was_accepted(life):
    """The insert has the last word; the reason says how many lines stand."""
    life.refuse["late"] = Rejection("conflict", "taken", "id")
    life.put("a.ndjson", {}, {"id": "late"}, {})
    await life.turn()
    assert life.stored() == 2
    reason = life.reason("a.ndjson")
    assert (reason["accepted"], [line["line"] for line in reason["lines"]]) == (2, [2])


async def test_bad_lines_are_counted_once(life):
    """By their code, when their file has gone to failed/: found on reading, in the table, or on the way into it."""
    life.put("read.ndjson", b"nope\n", {}, {"type": 7})
    life.put("known.json", {"id": "mine"})
    await life.turn()
    life.put("known-too.json", {"id": "mine", "data": {"n": 2}})
    life.put("forbidden.json", {"callback": {"url": "https://10.0.0.1/"}})
    life.put("twice.ndjson", {"id": "two", "data": {"n": 1}}, {"id": "two", "data": {"n": 2}})
    for _ in range(3):
        await life.turn()
    counts = {code: count for code, count in life.intake._metrics.events_rejected.counts.items() if count}
    assert counts == {"invalid_json": 1, "invalid_event": 1, "forbidden": 1, "conflict": 2}


async def test_what_is_wrong_with_a_whole_file_is_no_event(life):
    """An empty file is refused, and nothing is counted as an event."""
    life.put("empty.json")
    await life.turn()
    assert life.lies("failed")
    assert not sum(life.intake._metrics.events_rejected.counts.values())


async def test_the_same_id_again_is_accepted(life):
    """A duplicate is no error: the file goes, nothing new is stored."""
    for name in ("a.json", "b.json"):
        life.put(name, {"id": "mine"})
        await life.turn()
    assert life.stored() == 1
    assert life.lies("new") == life.lies("failed") == []


async def test_a_crash_between_commit_and_removal_makes_no_double(life, monkeypatch):
    """The file read again brings the same derived ids."""
    life.put("a.ndjson", {"data": {"n": 1}}, {"data": {"n": 1}})
    monkeypatch.setattr(SpoolFolder, "remove", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
    with pytest.raises(RuntimeError, match="killed"):
        await life.turn()
    monkeypatch.undo()
    assert life.lies("new") == ["a.ndjson"]
    await life.turn()
    assert life.stored() == 2
    assert life.lies("new") == []


async def test_the_same_file_each_day_is_new_each_day(life):
    """A job that leaves report.json with the same content every day must not lose day 2."""
    for day in range(3):
        os.utime(life.put("report.json", {}), ns=(day, day))  # the inode may be the same, the time isn't
        await life.turn()
    assert life.stored() == 3


async def test_a_full_disk_leaves_the_files(life, log):
    """They stay in new/, nothing goes to failed/, it is told once, and they are taken when there is room."""
    life.refuse["b"] = Rejection("storage_full", "full")
    life.put("1.ndjson", {"id": "a"}, {"id": "b"})
    life.put("2.ndjson", {"id": "c"})
    for _ in range(3):
        assert await life.turn() == RETRY_S
    assert "1.ndjson" in life.lies("new")
    assert life.lies("failed") == []
    assert [keys["code"] for keys in told_of(log, "spool.waiting")] == ["storage_full"]
    life.refuse.clear()
    assert await life.turn() == SWEEP_S
    assert life.lies("new") == []
    assert life.stored() == 3
    assert len(told_of(log, "spool.resumed")) == 1


async def test_a_slow_table_leaves_the_files(life, log, monkeypatch):
    """A look-up that takes too long is waited out."""

    async def slow(_events):
        raise QueryTimeout("slow")

    life.put("a.json", {"id": "a"})
    with monkeypatch.context() as patched:
        patched.setattr(life.known, "conflicts", slow)
        assert await life.turn() == RETRY_S
    assert (life.stored(), life.lies("new")) == (0, ["a.json"])
    await life.turn()
    assert (life.stored(), life.lies("new")) == (1, [])
    assert len(told_of(log, "spool.waiting")) == 1


async def test_a_file_that_cannot_be_removed_is_held_without_a_loop(life, log, monkeypatch):
    """Its events are stored once, it is told once, only the removal is tried again, and others go on."""
    reads = []
    read, remove = SpoolFolder.read, SpoolFolder.remove
    monkeypatch.setattr(
        SpoolFolder, "read", lambda self, found, *a, **k: reads.append(found.name) or read(self, found, *a, **k)
    )

    def stuck(self, found):
        if found.name == b"stuck.json":
            raise OSError(errno.EACCES, "Permission denied")
        return remove(self, found)

    monkeypatch.setattr(SpoolFolder, "remove", stuck)
    life.put("stuck.json", {})
    for n in range(4):
        life.put(f"other{n}.json", {})
        assert await life.turn() == SWEEP_S
        if n == 2:
            life.clock.advance(HOLD_S)
    assert reads.count(b"stuck.json") == 1
    assert life.stored() == 5
    (keys,) = told_of(log, "spool.paused")
    assert keys["file"] == "stuck.json"
    monkeypatch.setattr(SpoolFolder, "remove", remove)
    life.clock.advance(HOLD_S)
    await life.turn()
    assert life.lies("new") == []
    assert life.stored() == 5


async def test_a_bad_file_that_cannot_be_moved_is_held(life, log, monkeypatch):
    """No loop, one line, and it goes once it can."""
    fail = SpoolFolder.fail
    monkeypatch.setattr(SpoolFolder, "fail", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space")))
    life.put("bad.json", b"nope")
    for _ in range(3):
        await life.turn()
        life.clock.advance(HOLD_S)
    assert len(told_of(log, "spool.paused")) == 1
    assert life.lies("new") == ["bad.json"]
    monkeypatch.setattr(SpoolFolder, "fail", fail)
    await life.turn()
    assert life.lies("failed") == ["bad.json", "bad.json.reason.json"]


async def test_a_refusal_that_no_later_try_betters_holds_the_file(life, log):
    """A bug in the store (internal_error) doesn't make the file a bad one, nor a loop."""
    life.refuse["x"] = Rejection("internal_error", "a bug")
    life.put("a.json", {"id": "x"})
    for _ in range(3):
        await life.turn()
    assert life.lies("new") == ["a.json"]
    assert len(told_of(log, "spool.paused")) == 1


async def test_a_held_file_that_goes_away_is_forgotten(life, log):
    """What was held takes no memory once it is gone; a new file of that name is a new file."""
    life.refuse["x"] = Rejection("internal_error", "a bug")
    path = life.put("a.json", {"id": "x"})
    await life.turn()
    path.unlink()
    life.clock.advance(HOLD_S)
    await life.turn()
    assert life.spool._held == {}


async def test_too_many_held_files_stop_the_spool(life, log, monkeypatch):
    """When nothing can be dealt with it waits, and says so once."""
    monkeypatch.setattr(spool, "MAX_HELD", 3)
    for n in range(3):
        life.refuse[f"x{n}"] = Rejection("internal_error", "a bug")
        life.put(f"{n}.json", {"id": f"x{n}"})
    await life.turn()
    life.put("good.json", {})
    for _ in range(2):
        assert await life.turn() == RETRY_S
    assert life.stored() == 0
    assert [keys["code"] for keys in told_of(log, "spool.waiting")] == ["too_many_held"]
    life.refuse.clear()
    life.clock.advance(HOLD_S)
    await life.turn()
    assert life.stored() == 4


async def test_a_second_link_is_waited_for_then_refused(life, log):
    """As between maildir's link and unlink; nothing is told of a wait that short."""
    path = life.put("a.json", {})
    os.link(path, life.directory / "other")
    assert await life.turn() == LINK_GRACE_S
    assert life.lies("new") == ["a.json"]
    life.clock.advance(LINK_GRACE_S)
    await life.turn()
    assert life.lies("failed") == ["a.json", "a.json.reason.json"]
    assert told_of(log, "spool.paused") == []


@pytest.mark.parametrize("which", ["new", "failed", ".taken", "tmp"])
async def test_a_lost_directory_is_told_once_and_opened_again(life, log, which):
    """Removed under us it is made anew; the daemon goes on, with good files and bad."""
    for n in range(2):
        shutil.rmtree(life.directory / "spool" / which)
        assert await life.turn() == RETRY_S
        assert await life.turn() == SWEEP_S
        life.put(f"{n}.json", {})
        life.put(f"bad{n}.json", b"nope")
        await life.turn()
        assert f"bad{n}.json.reason.json" in life.lies("failed")
    assert life.stored() == 2
    assert life.lies("new") == life.lies(".taken") == []
    assert len(told_of(log, "spool.unavailable")) == len(told_of(log, "spool.back")) == 2


async def test_a_directory_that_stays_away_is_told_once(life, log):
    """However often it is tried."""
    root = life.directory / "spool"
    root.rename(life.directory / "elsewhere")
    root.write_text("in the way")
    (life.directory / "elsewhere" / "new").rmdir()
    for _ in range(3):
        assert await life.turn() == RETRY_S
    assert len(told_of(log, "spool.unavailable")) == 1


async def test_without_inotify_the_sweep_suffices(life, log, monkeypatch):
    """No watch is told once; files are found all the same, sooner than beside a watch."""
    monkeypatch.setattr(
        spool.SpoolWatch, "start", lambda *_: (_ for _ in ()).throw(OSError(errno.EMFILE, "Too many open files"))
    )
    for n in range(2):
        life.put(f"{n}.json", {})
        assert await life.turn() == SWEEP_UNWATCHED_S
    assert life.stored() == 2
    assert len(told_of(log, "spool.unwatched")) == 1


async def test_pressure_holds_the_next_slice_back(life, monkeypatch):
    """While intake is pressed nothing more is handed in; relief lets it go on."""
    monkeypatch.setattr(spool_commit, "SLICE_EVENTS", 5)
    handed = []
    take = life.intake.take

    def counted(event, peer, done):
        handed.append(event.id)
        if len(handed) == 5:
            for callback in life.intake._on_pressure:
                callback(True)
        take(event, peer, done)

    life.intake.take = counted
    life.put("a.ndjson", *[{}] * 12)
    turning = asyncio.ensure_future(life.turn())
    await asyncio.to_thread(wait_until, lambda: life.stored() == 5, 60, lambda: "the first slice isn't stored")
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(handed) == 5
    for callback in life.intake._on_pressure:
        callback(False)
    await turning
    assert life.stored() == 12


async def test_a_stop_settles_the_slice_and_leaves_the_rest(life, monkeypatch):
    """Nothing new is begun, the file stays, and the next life takes it without doubles."""
    monkeypatch.setattr(spool_commit, "SLICE_EVENTS", 5)
    life.put("a.ndjson", *[{}] * 12)
    take, stops = life.intake.take, []

    def stopping(event, peer, done):
        if not stops:
            stops.append(asyncio.ensure_future(life.spool.stop()))
        take(event, peer, done)

    life.intake.take = stopping
    turning = asyncio.ensure_future(life.turn())
    await turning
    await stops[0]
    assert await life.turn() is None
    assert 0 < life.stored() < 12
    assert life.lies("new") == ["a.ndjson"]
    life.folder = SpoolFolder(life.folder.path)
    life.folder.open()
    life.spool = Spool(folder=life.folder, intake=life.intake, known=life.known, limits=EventLimits(), clock=life.clock)
    await life.turn()
    assert (life.stored(), life.lies("new")) == (12, [])


async def test_events_say_who_wrote_the_file(life):
    """The owner of the file is the event's peer, by way of the spool."""
    life.put("a.json", {})
    await life.turn()
    (row,) = life.sql("SELECT opts FROM event")
    assert b"spool" in row[0]


async def test_many_files_are_taken_in_several_looks(life, monkeypatch):
    """More than one look brings asks for the next at once."""
    monkeypatch.setattr(spool, "MAX_SCAN", 4)
    for n in range(10):
        life.put(f"{n}.json", {})
    delays = [await life.turn() for _ in range(3)]
    assert delays == [0.0, 0.0, SWEEP_S]
    assert life.stored() == 10
