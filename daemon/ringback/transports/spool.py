"""The spool directory: which files lie there, what one holds, and its removal. Blocking calls, for a worker thread.

Role: everything that touches the spool's files. ``tmp/`` is the producers', ``new/`` holds what is to be taken,
``failed/`` what was refused, ``.taken/`` (nobody else's) a file on its way out.
Rules: a name is never trusted: files are reached through the directory's descriptor, links and anything but regular
files are not followed or opened; a producer may put a new file under the same name at any moment, so nothing is
unlinked under a name that others can write: it is first moved to ``.taken/``, looked at again, and only then removed.
Must not know: what an event is beyond ``core.spool``, the database, the event loop.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ringback.core.events import EventLimits
from ringback.core.spool import (
    MAX_FILE_BYTES,
    MAX_NAME_BYTES,
    REASON_SUFFIX,
    BadLine,
    FileIdentity,
    Judged,
    failed_name,
    is_lines,
    judge_lines,
    judge_object,
    shown_name,
)

#: Group-writable and setgid: producers share the daemon's group, and their files get it.
FOLDER_MODE = 0o2770
TAKEN_MODE = 0o700
REASON_MODE = 0o640

#: Names a bad file may lie under in ``failed/`` before it has to stay where it is.
MAX_FAILED_TWINS = 1000

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_REASON = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_BUFFER_BYTES = 65_536
_WRITING = b".writing"
#: What opening says of things that are no regular files, and of files that are not ours to read.
_NOT_REGULAR = frozenset({errno.ELOOP, errno.ENXIO, errno.ENODEV})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})


class SpoolInUse(Exception):  # noqa: N818 - named for what it says
    """Another daemon takes from this spool directory."""


class SpoolGone(OSError):  # noqa: N818 - named for what it says
    """The directory was removed or replaced under us: open it anew."""


class Found(NamedTuple):
    """A file as it was when the directory was listed."""

    taken: bool  #: lies in ``.taken/``: moved there in an earlier life, or in a swap
    name: bytes
    inode: int
    mtime_ns: int
    size: int
    mode: int
    uid: int
    gid: int

    @property
    def identity(self) -> FileIdentity:
        """What its derived ids are made of."""
        return FileIdentity(self.name, self.inode, self.mtime_ns)


class Unready(NamedTuple):
    """It can't be judged now; ``linked``: because it still has another name, as between maildir's link and unlink."""

    why: str
    linked: bool = False


class SpoolFolder:
    """The directory, held by a lock from ``open`` to ``close``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._root = self._new = self._failed = self._taken = -1

    @property
    def watched(self) -> str:
        """The directory in which files appear."""
        return f"{self.path}/new"

    def open(self) -> None:
        """Make what is missing, lock, open.

        Raises:
            SpoolInUse: another process holds it.
            OSError: it can't be made or opened.
        """
        root = Path(self.path)
        if not root.is_dir():
            root.mkdir(mode=0o755, parents=True)
            _set_mode(root, FOLDER_MODE)
        self._root = os.open(root, _FOLDER & ~os.O_NOFOLLOW)
        try:
            fcntl.flock(self._root, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._make(b"tmp", FOLDER_MODE)
            self._new, self._failed, self._taken = (
                self._make(name, mode)
                for name, mode in ((b"new", FOLDER_MODE), (b"failed", FOLDER_MODE), (b".taken", TAKEN_MODE))
            )
        except BlockingIOError:
            self.close()
            raise SpoolInUse(f"another daemon takes from the spool directory {self.path}") from None
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Let go; safe to call twice. Not while a call is running."""
        for fd in (self._new, self._failed, self._taken, self._root):
            if fd >= 0:
                os.close(fd)
        self._root = self._new = self._failed = self._taken = -1

    def scan(self, limit: int, skip: Callable[[FileIdentity], bool]) -> list[Found]:
        """At most ``limit`` files to take, left-overs first, then the oldest of those met; ``skip`` passes some by.

        Raises:
            SpoolGone: the directory isn't the one that was opened.
        """
        self._check_folders()
        left = self._list(limit, skip, taken=True)
        names = {found.name for found in left}
        fresh = [found for found in self._list(limit, skip, taken=False) if found.name not in names]
        return left + sorted(fresh, key=lambda found: (found.mtime_ns, found.name))

    def read(self, found: Found, limits: EventLimits, now_ms: int, *, patient: bool) -> Judged | Unready | None:
        """Judge a file; None if it is gone. ``patient``: one with a second name is unready and not yet refused."""
        if not stat.S_ISREG(found.mode):
            return _refused("not_regular", "only regular files are read")
        try:
            fd = os.open(found.name, _FILE, dir_fd=self._folder(found))
            with open(fd, "rb", buffering=_BUFFER_BYTES) as file:  # noqa: PTH123 - a descriptor, no path
                return _judge(file, found, limits, now_ms, patient=patient)
        except FileNotFoundError:
            return None
        except OSError as error:
            return _unopened(error)

    def remove(self, found: Found) -> bool:
        """Remove a file whose events are durable; False: another lay under its name by now and will be found.

        Raises:
            OSError: it can't be removed.
        """
        if self._take(found):
            os.unlink(found.name, dir_fd=self._taken)
            return True
        return False

    def fail(self, found: Found, reason: bytes) -> str | None:
        """Move a file to ``failed/`` with its reason beside it.

        Returns: the name there; None: another lay under its name by now and will be found, nothing was moved to failed.

        Raises:
            OSError: it can't be moved, or the reason not written.
        """
        name = self._free_name(found.name)
        note = name + os.fsencode(REASON_SUFFIX)
        self._write(note, reason)
        moved = False
        try:
            if self._take(found):
                os.rename(found.name, name, src_dir_fd=self._taken, dst_dir_fd=self._failed)
                moved = True
        finally:
            if not moved:
                os.unlink(note, dir_fd=self._failed)
        if not moved:
            return None
        os.fsync(self._failed)
        return shown_name(name)

    def _make(self, name: bytes, mode: int) -> int:
        try:
            os.mkdir(name, 0o700, dir_fd=self._root)
            made = True
        except FileExistsError:
            made = False
        fd = os.open(name, _FOLDER, dir_fd=self._root)
        if made:
            _set_mode(fd, mode)
        if name == b"tmp":  # the producers' own: it has to be there, and is never looked into
            os.close(fd)
            return -1
        return fd

    def _check_folders(self) -> None:
        """Raises SpoolGone: a path leads elsewhere by now, and nobody would look where the descriptors lead."""
        inside = ((b"new", self._new), (b"failed", self._failed), (b".taken", self._taken))
        try:
            same = os.path.samestat(Path(self.path).stat(), os.fstat(self._root)) and all(
                os.path.samestat(os.stat(name, dir_fd=self._root, follow_symlinks=False), os.fstat(fd))
                for name, fd in inside
            )
            same = same and stat.S_ISDIR(os.stat(b"tmp", dir_fd=self._root, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            same = False
        if not same:
            raise SpoolGone(errno.ENOENT, "the spool directory or a folder in it was removed or replaced", self.path)

    def _folder(self, found: Found) -> int:
        return self._taken if found.taken else self._new

    def _list(self, limit: int, skip: Callable[[FileIdentity], bool], *, taken: bool) -> list[Found]:
        files: list[Found] = []
        with os.scandir(self._taken if taken else self._new) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                if name.startswith(b".") or len(name) > MAX_NAME_BYTES:
                    continue
                try:
                    now = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                found = _found(now, name, taken=taken)
                if not skip(found.identity):
                    files.append(found)
                    if len(files) >= limit:
                        break
        return files

    def _take(self, found: Found) -> bool:
        """Move the file where only we write, and see whether it is still the one that was read."""
        if found.taken:
            return True
        if _exists(found.name, self._taken):
            raise OSError(errno.EEXIST, "an earlier file of this name could not be removed yet")
        try:
            os.rename(found.name, found.name, src_dir_fd=self._new, dst_dir_fd=self._taken)
        except FileNotFoundError:
            return False
        now = os.stat(found.name, dir_fd=self._taken, follow_symlinks=False)
        return (now.st_ino, now.st_mtime_ns) == (found.inode, found.mtime_ns)

    def _free_name(self, name: bytes) -> bytes:
        for attempt in range(MAX_FAILED_TWINS):
            wanted = failed_name(name, attempt)
            taken = _exists(wanted, self._failed) or _exists(wanted + os.fsencode(REASON_SUFFIX), self._failed)
            if not taken:
                return wanted
        raise OSError(errno.EEXIST, f"failed/ holds {MAX_FAILED_TWINS} files of this name")

    def _write(self, name: bytes, content: bytes) -> None:
        fd = os.open(_WRITING, _REASON, REASON_MODE, dir_fd=self._failed)
        with open(fd, "wb") as file:  # noqa: PTH123 - a descriptor, no path
            os.fchmod(fd, REASON_MODE)  # whatever the umask: the unit's would hide it from the producers' group
            file.write(content)
            file.flush()
            os.fsync(fd)
        os.rename(_WRITING, name, src_dir_fd=self._failed, dst_dir_fd=self._failed)


def _found(now: os.stat_result, name: bytes, *, taken: bool) -> Found:
    return Found(taken, name, now.st_ino, now.st_mtime_ns, now.st_size, now.st_mode, now.st_uid, now.st_gid)


def _judge(file: BinaryIO, found: Found, limits: EventLimits, now_ms: int, *, patient: bool) -> Judged | Unready | None:
    before = os.fstat(file.fileno())
    if (before.st_ino, before.st_mtime_ns) != (found.inode, found.mtime_ns):
        return None  # another file by now (this one was regular): the next look finds it
    if before.st_nlink != 1 and patient:
        return Unready("it has another name (a hard link)", linked=True)
    if before.st_nlink != 1:
        return _refused("linked", "it has another name: only files with one link are read")
    if before.st_size > MAX_FILE_BYTES:
        return _refused("too_large", f"a file may have {MAX_FILE_BYTES} bytes")
    if is_lines(found.name):
        lines = _lines(file, before.st_size, limits.max_event_bytes)
        judged = judge_lines(found.identity, lines, limits, now_ms)
    else:
        judged = judge_object(found.identity, file.read(before.st_size), limits, now_ms)
    after = os.fstat(file.fileno())
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        return Unready("it changed while it was read: write in tmp/, then rename")
    return judged


def _lines(file: BinaryIO, size: int, max_line_bytes: int) -> Iterator[bytes]:
    """The file's lines; of one that is too long only so much that it shows."""
    enough = max_line_bytes + 2  # a line end of two
    while size > 0:
        line = file.readline(min(enough, size))
        if not line:
            return
        size -= len(line)
        yield line
        while size > 0 and len(line) == enough and not line.endswith(b"\n"):
            rest = file.readline(min(_BUFFER_BYTES, size))
            size -= len(rest)
            if not rest or rest.endswith(b"\n"):
                break


def _set_mode(folder: int | Path, mode: int) -> None:
    try:
        os.chmod(folder, mode)  # noqa: PTH101 - a descriptor, too
    except PermissionError:  # a sandbox that forbids setgid (RestrictSUIDSGID=): there tmpfiles makes the folders
        os.chmod(folder, mode & 0o777)  # noqa: PTH101 - as above


def _exists(name: bytes, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _refused(code: str, message: str) -> Judged:
    return Judged([], [BadLine(None, code, message)])


def _unopened(error: OSError) -> Judged | Unready:
    if error.errno in _NOT_REGULAR:
        return _refused("not_regular", "only regular files are read")
    if error.errno in _FORBIDDEN:
        return _refused("unreadable", "the daemon may not read it: mind its mode and group")
    return Unready(error.strerror or str(error))
