"""The spool directory's files: which are found, read, removed, moved away."""

import asyncio
import errno
import json
import os
import socket
import stat
from pathlib import Path

import pytest
from tests.harness.waiting import wait_until

from ringback.core import spool as core_spool
from ringback.core.events import EventLimits
from ringback.core.spool import Judged
from ringback.transports import spool
from ringback.transports.spool import SpoolFolder, SpoolGone, SpoolInUse, Unready
from ringback.transports.spool_watch import SpoolWatch

LIMITS = EventLimits(max_event_bytes=1024)
EVENT = b'{"type":"a","data":{}}\n'


@pytest.fixture
def folder(tmp_path):
    """An open spool."""
    made = SpoolFolder(str(tmp_path / "spool"))
    made.open()
    yield made
    made.close()


def put(folder, name, content=EVENT):
    """A file that has arrived."""
    path = Path(folder.path) / "new" / os.fsdecode(name)
    path.write_bytes(content)
    return path


def scan(folder, limit=100):
    """Everything that lies there."""
    return folder.scan(limit, lambda _: False)


def read(folder, found, *, patient=True):
    """One file, judged."""
    return folder.read(found, LIMITS, 0, patient=patient)


def names(folder, where):
    """What lies in one of its directories."""
    return sorted(path.name for path in (Path(folder.path) / where).iterdir())


def codes(judged):
    """The codes of what is wrong."""
    assert isinstance(judged, Judged), judged
    return [bad.code for bad in judged.bad]


def test_what_is_missing_is_made_for_the_group(tmp_path):
    """The folders are group-writable and setgid whatever the umask, .taken is private; what is there is left alone."""
    root = tmp_path / "a" / "b" / "spool"
    (tmp_path / "a").mkdir()
    before = os.umask(0o077)
    try:
        made = SpoolFolder(str(root))
        made.open()
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((root / name).stat().st_mode) for name in (".", "tmp", "new", "failed", ".taken")}
    assert modes == {".": 0o2770, "tmp": 0o2770, "new": 0o2770, "failed": 0o2770, ".taken": 0o700}
    (root / "new").chmod(0o750)
    made.close()
    made.open()
    assert stat.S_IMODE((root / "new").stat().st_mode) == 0o750
    made.close()


def test_one_daemon_at_a_time(folder):
    """A second is refused; after the first let go it may."""
    second = SpoolFolder(folder.path)
    with pytest.raises(SpoolInUse):
        second.open()
    folder.close()
    second.open()
    second.close()


@pytest.mark.parametrize("where", ["new", "failed", ".taken"])
def test_a_link_in_place_of_a_folder_is_refused(tmp_path, where):
    """Nobody can point the daemon elsewhere."""
    root = tmp_path / "spool"
    root.mkdir()
    (root / where).symlink_to(tmp_path)
    with pytest.raises(OSError, match="Not a directory"):
        SpoolFolder(str(root)).open()


def test_files_are_found_the_oldest_first(folder):
    """Dot files are not; the limit holds; what is to be skipped is passed by."""
    for age, name in enumerate([b"c", b"a", b"b"]):
        path = put(folder, name)
        os.utime(path, ns=(age, age))
    put(folder, b".hidden")
    assert [found.name for found in scan(folder)] == [b"c", b"a", b"b"]
    assert len(scan(folder, 2)) == 2
    assert [found.name for found in folder.scan(9, lambda file: file.name == b"a")] == [b"c", b"b"]


def test_a_directory_that_was_removed_is_noticed(folder):
    """And can be made anew."""
    (Path(folder.path) / "new").rmdir()
    with pytest.raises(SpoolGone):
        scan(folder)
    folder.close()
    folder.open()
    assert scan(folder) == []


@pytest.mark.parametrize("which", ["", "new", "failed", ".taken", "tmp"])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_was_moved_away_is_noticed(folder, tmp_path, which, replaced):
    """Files would go by the old descriptor where nobody looks; opened anew, what is missing is there again."""
    path = Path(folder.path) / which
    path.rename(tmp_path / "aside")
    if replaced and which != "tmp":  # another tmp/ is as good: the daemon never looks into it
        path.mkdir()
    elif replaced:
        path.write_text("in the way")
    with pytest.raises(SpoolGone):
        scan(folder)
    if replaced and which == "tmp":
        path.unlink()
    folder.close()
    folder.open()
    put(folder, b"a", b"bad")
    (found,) = scan(folder)
    assert folder.fail(found, b"{}") == "a"
    assert path.is_dir()


def test_lines_are_read_in_bounded_pieces(folder):
    """A line of any length is one bad line, its tail is never an event, and the lines around it are judged."""
    for tail in (b"", b"x", b"x" * 200_000):
        too_long = b"x" * 1024 + tail
        path = put(folder, b"a.ndjson", EVENT + too_long + EVENT + b"\n" + EVENT)
        (found,) = scan(folder)
        judged = read(folder, found)
        assert [(bad.line, bad.code) for bad in judged.bad] == [(2, "too_large")]
        path.unlink()


def test_an_unterminated_last_line_counts(folder):
    """A file under its name is complete."""
    put(folder, b"a.jsonl", EVENT + EVENT.rstrip())
    (found,) = scan(folder)
    assert len(read(folder, found).events) == 2


def test_only_regular_files_are_opened(folder, tmp_path):
    """Links, pipes, sockets and folders are refused without a look inside; a pipe doesn't stall the reader."""
    new = Path(folder.path) / "new"
    (tmp_path / "secret").write_bytes(EVENT)
    (new / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(new / "pipe")
    (new / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(new / "sock"))
    found = scan(folder)
    assert [codes(read(folder, one)) for one in found] == [["not_regular"]] * 4
    for one in found:
        assert folder.fail(one, b"{}")
    assert names(folder, "new") == []
    assert (tmp_path / "secret").read_bytes() == EVENT


def test_a_file_swapped_for_something_else_is_not_followed(folder, tmp_path):
    """Between the listing and the opening a link or a pipe may take the name: neither is read nor waited for."""
    path = put(folder, b"a")
    (found,) = scan(folder)
    path.unlink()
    path.symlink_to(tmp_path)
    assert codes(read(folder, found)) == ["not_regular"]
    path.unlink()
    os.mkfifo(path)
    assert read(folder, found) is None
    path.unlink()
    assert read(folder, found) is None


def test_a_second_link_is_waited_for_then_refused(folder, tmp_path):
    """Maildir's link and unlink pass through it; a link that stays could be written to by its other name."""
    path = put(folder, b"a")
    os.link(path, tmp_path / "other")
    (found,) = scan(folder)
    assert read(folder, found).linked
    assert codes(read(folder, found, patient=False)) == ["linked"]
    (tmp_path / "other").unlink()
    assert len(read(folder, found).events) == 1


def test_a_file_that_is_too_large_is_not_read(folder, monkeypatch):
    """Its size alone refuses it."""
    monkeypatch.setattr(spool, "MAX_FILE_BYTES", 1000)
    path = put(folder, b"a.ndjson", b"\n" * 1001)
    (found,) = scan(folder)
    assert codes(read(folder, found)) == ["too_large"]
    path.write_bytes(EVENT * 40)
    (found,) = scan(folder)
    assert len(read(folder, found).events) == 40


def test_a_file_that_grows_is_left_for_later(folder, monkeypatch):
    """Who writes into new/ directly isn't read half."""
    path = put(folder, b"a.ndjson", EVENT)
    (found,) = scan(folder)
    judge = spool.judge_lines

    def slow(*args):
        with path.open("ab") as file:
            file.write(EVENT)
        return judge(*args)

    monkeypatch.setattr(spool, "judge_lines", slow)
    assert isinstance(read(folder, found), Unready)


def test_a_file_we_may_not_read_is_refused(folder):
    """It is moved away with its reason instead of being tried for ever."""
    put(folder, b"a").chmod(0)
    (found,) = scan(folder)
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)  # root may read everything
    try:
        assert codes(read(folder, found)) == ["unreadable"]
    finally:
        os.seteuid(user)


def test_a_file_is_removed(folder):
    """And leaves nothing behind."""
    put(folder, b"\xff odd \n name")
    (found,) = scan(folder)
    assert len(read(folder, found).events) == 1
    assert folder.remove(found) is True
    assert [names(folder, where) for where in ("new", ".taken", "failed")] == [[], [], []]


@pytest.mark.parametrize("ending", ["remove", "fail"])
def test_a_newer_file_of_the_same_name_is_never_removed_unread(folder, ending):
    """What was renamed over the file since it was read is kept and found next, under its own name and identity."""
    put(folder, b"report.json")
    (found,) = scan(folder)
    fresh = Path(folder.path) / "tmp" / "report.json"
    fresh.write_bytes(b'{"type":"newer","data":{}}')
    inode = fresh.stat().st_ino
    fresh.rename(Path(folder.path) / "new" / "report.json")
    assert not (folder.remove(found) if ending == "remove" else folder.fail(found, b"{}"))
    assert names(folder, "failed") == []
    (again,) = scan(folder)
    assert (again.name, again.inode, again.taken) == (b"report.json", inode, True)
    assert read(folder, again).events[0][1].type == "newer"
    assert folder.remove(again) is True
    assert scan(folder) == []


def test_a_crash_on_the_way_out_leaves_a_file_that_is_found(folder):
    """What lies in .taken is read before a newer one of its name, and has the same identity as before."""
    path = put(folder, b"a")
    (found,) = scan(folder)
    path.rename(Path(folder.path) / ".taken" / "a")
    put(folder, b"a")
    folder.close()
    folder.open()
    (left,) = scan(folder)
    assert left.taken
    assert left.identity == found.identity
    folder.remove(left)
    assert [one.taken for one in scan(folder)] == [False]


def test_a_bad_file_lies_in_failed_beside_its_reason(folder, request):
    """Under its own name, or a numbered one where that is taken; nothing is overwritten; the group may read why."""
    before = os.umask(0o077)  # as in the unit
    request.addfinalizer(lambda: os.umask(before))
    for content in (b"one", b"two", b"three"):
        put(folder, b"a.json", content)
        (found,) = scan(folder)
        assert folder.fail(found, b'{"why":1}\n')
    assert names(folder, "failed") == sorted(
        name + end for name in ("a.json", "a.json.1", "a.json.2") for end in ("", ".reason.json")
    )
    assert (Path(folder.path) / "failed" / "a.json.1").read_bytes() == b"two"
    reason = Path(folder.path) / "failed" / "a.json.1.reason.json"
    assert json.loads(reason.read_text()) == {"why": 1}
    assert stat.S_IMODE(reason.stat().st_mode) == 0o640


def test_a_file_whose_name_is_a_reason_harms_no_reason(folder):
    """A producer can't plant or replace another file's reason."""
    for name in (b"a", b"a.reason.json"):
        put(folder, name, b"bad")
        found = next(one for one in scan(folder))
        assert folder.fail(found, b"{}")
    assert names(folder, "failed") == ["a", "a.reason.json", "a.reason.json.1", "a.reason.json.1.reason.json"]


def test_a_name_of_any_length_can_fail(folder):
    """255 bytes and a suffix would be too long for the file system."""
    put(folder, b"x" * 255, b"bad")
    (found,) = scan(folder)
    assert folder.fail(found, b"{}")
    assert len(names(folder, "failed")) == 2


def test_a_full_failed_folder_moves_nothing(folder, monkeypatch):
    """The file stays in new/, the caller is told, no reason is left behind."""
    monkeypatch.setattr(spool, "MAX_FAILED_TWINS", 1)
    for _ in range(2):
        put(folder, b"a", b"bad")
        (found,) = scan(folder)
        if names(folder, "failed"):
            with pytest.raises(OSError, match="failed/ holds"):
                folder.fail(found, b"{}")
        else:
            folder.fail(found, b"{}")
    assert names(folder, "new") == ["a"]
    assert names(folder, "failed") == ["a", "a.reason.json"]


def test_a_failed_folder_on_another_file_system_gathers_no_reasons(folder, monkeypatch):
    """However often the move is tried in vain; the file waits in .taken/ and goes once it can."""
    path = put(folder, b"a", b"bad")
    rename = os.rename

    def crossing(source, target, **fds):
        if fds["src_dir_fd"] == folder._taken:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target, **fds)

    monkeypatch.setattr(os, "rename", crossing)
    for _ in range(2):
        (found,) = scan(folder)
        with pytest.raises(OSError, match="cross-device"):
            folder.fail(found, b"{}")
        assert (path.exists(), names(folder, ".taken"), names(folder, "failed")) == (False, ["a"], [])
    monkeypatch.undo()
    assert folder.fail(scan(folder)[0], b"{}") == "a"


def test_limits_of_one_place():
    """The documented numbers."""
    assert (core_spool.MAX_FILE_BYTES, core_spool.MAX_FILE_EVENTS) == (64 * 1024 * 1024, 50_000)


async def test_the_kernel_hints_at_a_rename(folder):
    """A file renamed into new/ wakes the watcher; after stop nothing does."""
    hints = []
    watch = SpoolWatch(lambda: hints.append(1))
    watch.start(folder.watched)
    await asyncio.sleep(0)
    (Path(folder.path) / "tmp" / "a").write_bytes(EVENT)
    (Path(folder.path) / "tmp" / "a").rename(Path(folder.path) / "new" / "a")
    await asyncio.to_thread(wait_until, lambda: hints, 60, lambda: "no hint")
    assert watch.running
    watch.stop()
    watch.stop()
    hints.clear()
    put(folder, b"b")
    await asyncio.sleep(0.02)
    assert hints == []
    with pytest.raises(OSError, match="No such file"):
        watch.start(folder.watched + "/nowhere")
    assert not watch.running
