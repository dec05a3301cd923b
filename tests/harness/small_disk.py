"""A small file system of its own that a test can fill up: a tmpfs, mounted at a folder and gone with the test.

Needs root and the right to mount; ``unmountable`` says why there is none here.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Self

TIME_LIMIT_S = 120
TOOLS = ("mount", "umount")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class SmallDisk:
    """A mounted tmpfs of ``size`` bytes; a context manager. Whoever uses it must have ended by then."""

    def __init__(self, folder: Path, size: int) -> None:
        self.path = folder
        self._size = size
        self._filler = folder / "filler"

    def __enter__(self) -> Self:
        self.path.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={self._size}", "ringback-test", str(self.path))
        return self

    def __exit__(self, *_: object) -> None:
        run("umount", "--lazy", str(self.path))  # lazy: a failed test may leave somebody in it for a moment

    @property
    def free_bytes(self) -> int:
        """How much room there is."""
        stat = os.statvfs(self.path)
        return stat.f_bavail * stat.f_frsize

    def fill(self, *, leave: int = 0) -> None:
        """Take up what is free but for that many bytes."""
        taken = self._filler.stat().st_size if self._filler.exists() else 0
        with self._filler.open("ab") as file:
            more = self.free_bytes - leave
            if more > 0:
                os.posix_fallocate(file.fileno(), taken, more)

    def empty(self) -> None:
        """Give all of that back."""
        self._filler.unlink()


def run(*command: str) -> None:
    """Run a tool; its output goes into the error if it fails."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIME_LIMIT_S,
        env=os.environ | {"PATH": PATH, "LC_ALL": "C"},
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")


def missing_tools() -> list[str]:
    """Which tools there aren't."""
    return [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]


def unmountable(folder: Path) -> str | None:
    """Why nothing can be mounted here; None if it can."""
    try:
        with SmallDisk(folder, 1024 * 1024):
            return None
    except RuntimeError as error:
        return str(error)
