"""The kernel's hint that a file came into the spool.

Role: inotify on one directory, as a callback in the event loop.
Rules: a hint is only a hint: what the kernel says about the file is thrown away, the sweep looks for itself; where no
watch can be had (their number is limited for each user) the sweep alone does the work.
Must not know: what happens on a hint.
"""

import asyncio
import os
from collections.abc import Callable

from asyncinotify import Inotify, Mask

#: Taken from the kernel in one go; what is left brings the next call.
READ_BYTES = 65_536

#: Renamed into it, or written there and closed.
_ARRIVALS = Mask.MOVED_TO | Mask.CLOSE_WRITE | Mask.ONLYDIR


class SpoolWatch:
    """A watch on a directory, from ``start`` to ``stop``; belongs to the loop's thread."""

    def __init__(self, on_hint: Callable[[], None]) -> None:
        self._on_hint = on_hint
        self._inotify: Inotify | None = None

    @property
    def running(self) -> bool:
        """Whether hints come."""
        return self._inotify is not None

    def start(self, path: str) -> None:
        """Watch ``path``.

        Raises:
            OSError: the kernel gives no watch.
        """
        inotify = Inotify()
        try:
            inotify.add_watch(path, _ARRIVALS)
        except OSError:
            inotify.close()
            raise
        asyncio.get_running_loop().add_reader(inotify.fd, self._hinted, inotify.fd)
        self._inotify = inotify

    def stop(self) -> None:
        """Watch no longer; safe to call twice."""
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fd)
            self._inotify.close()
            self._inotify = None

    def _hinted(self, fd: int) -> None:
        try:
            os.read(fd, READ_BYTES)
        except BlockingIOError:
            return
        self._on_hint()
