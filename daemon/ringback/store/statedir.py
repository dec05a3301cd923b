"""The state directory's own files: the lock, the marker, the ballast.

Role: who owns the directory, whether a database was ever here and how far it had come, and a reserve of disk space.
Rules: the marker is written after the commits it speaks of, so it never claims more than the database holds. None of
the database's own files is ever opened here: closing one would drop SQLite's locks.
Must not know: the schema.
"""

import contextlib
import fcntl
import json
import os
from pathlib import Path

import msgspec

from ringback.kit.ways_out import in_words
from ringback.store.errors import StateLocked, StateUnusable
from ringback.store.faults import NO_ROOM

DIRECTORY_MODE = 0o700
LOCK_NAME = "lock"
MARKER_NAME = "state.json"
BALLAST_NAME = "ballast"
BALLAST_BYTES = 16 * 1024 * 1024

#: The ballast is laid down only where this many times its size is free.
BALLAST_ROOM = 4

_PID_DIGITS = 32


def file_identity(path: Path) -> tuple[int, int] | None:
    """Which file lies there now; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


class Lock:
    """An exclusive lock on the directory, held until ``release`` or the process's end."""

    def __init__(self, directory: Path) -> None:
        """Take the lock.

        Raises:
            StateLocked: somebody else holds it.
            StateUnusable: the lock file can't be made.
        """
        path = directory / LOCK_NAME
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateUnusable(f"cannot open {path}: {in_words(error)}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._fd, _PID_DIGITS, 0).strip()
            os.close(self._fd)
            raise StateLocked(str(directory), int(owner) if owner.isdigit() else None) from error
        with contextlib.suppress(OSError):  # on a full disk nobody learns the owner's pid: the lock holds without it
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the directory up; safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Mark(msgspec.Struct, frozen=True):
    """What the marker says: when the database was made, and the highest event number it had held."""

    created_at_ms: int
    high_seq: int = 0


class Marker:
    """The file that says there is a database here."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / MARKER_NAME

    def read(self) -> Mark | None:
        """What it says; None if there is none.

        Raises:
            StateUnusable: it can't be read or makes no sense.
        """
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Mark)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise StateUnusable(f"{self._path} can't be read ({error}); remove it if the database is sound") from error

    def write(self, mark: Mark) -> None:
        """Replace it in one step. Its bytes are synced first, else a power cut may leave the new name on an empty file.

        The renaming isn't synced: an older marker only notices less.

        Raises:
            OSError: the directory can't be written.
        """
        text = json.dumps({"created_at_ms": mark.created_at_ms, "high_seq": mark.high_seq})
        fresh = self._path.with_suffix(".tmp")
        with fresh.open("w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)


class Ballast:
    """A file that holds disk space, to be let go when the disk is full: deleting, too, needs space to log."""

    def __init__(self, directory: Path, size: int = BALLAST_BYTES) -> None:
        self._path = directory / BALLAST_NAME
        self._size = size
        #: Whether the space is held; an earlier process may have left it so.
        self.held = self._path.exists() and self._path.stat().st_size >= size
        #: Whether it had to be let go for the directory to be opened at all.
        self.spent_at_start = False
        self._denied = False  # a quota refuses what the file system says is free

    def free_bytes(self) -> int:
        """What is free on its file system; 0 if nobody knows."""
        try:
            stat = os.statvfs(self._path.parent)
        except OSError:
            return 0
        return stat.f_bavail * stat.f_frsize

    def room(self) -> bool:
        """Whether so much is free that the ballast can be laid down; a quota counts as of the latest ``look``."""
        return not self._denied and self.free_bytes() >= BALLAST_ROOM * self._size

    def look(self) -> None:
        """Ask the kernel whether a quota denies what the file system says is free."""
        size = BALLAST_ROOM * self._size
        self._denied = self.free_bytes() >= size and self.denied(size)

    def denied(self, size: int) -> bool:
        """Whether the kernel has no room for a file of ``size`` bytes; other troubles aren't of room."""
        probe = self._path.with_suffix(".probe")
        try:
            fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                probe.unlink()  # before it grows: nothing is left behind, whatever ends this process
                os.posix_fallocate(fd, 0, size)
            finally:
                os.close(fd)
        except OSError as error:
            return error.errno in NO_ROOM
        return False

    def hold(self) -> bool:
        """Lay it down if there is room; True if it is held."""
        if not self.held and self.room():
            try:
                self._allocate()
                self.held = True
            except OSError:
                self._path.unlink(missing_ok=True)
        return self.held

    def release(self) -> bool:
        """Let it go; True if it was held."""
        was, self.held = self.held, False
        if was:
            self._path.unlink(missing_ok=True)
        return was

    def _allocate(self) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, self._size)
        finally:
            os.close(fd)
