"""The service manager's view of this daemon: the watchdog's food and the status line.

Role: says ``WATCHDOG=1`` while the loop turns and no single commit takes longer than half of what the manager allows,
and tells in a few words what the daemon does, whenever that has changed.
Rules: a full disk and idleness are healthy; a starved watchdog is logged before the manager kills us; without a manager
that asks for it nothing runs.
Must not know: how commits, lanes or endpoints work.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from ringback.kit.clock import Clock
from ringback.kit.log import get_logger

#: A watchdog is fed this many times in the time it allows.
FEEDS = 4
#: No single commit may take longer than this part of it.
COMMIT_SHARE = 0.5
#: Seconds between two looks at the status.
STATUS_EVERY_S = 2.0
#: A manager that allows less than this asks for something else: no commit could be judged in it.
MIN_WATCHDOG_S = 0.1

_log = get_logger()

Notify = Callable[[str], object]


class Commits(Protocol):
    """What is asked of the writer."""

    @property
    def commit_started(self) -> float | None:
        """Monotonic seconds when the commit that runs began, None between commits."""
        ...


def watchdog_s(env: Mapping[str, str], pid: int) -> float | None:
    """Seconds the manager waits for a sign of life (``$WATCHDOG_USEC``); None: it doesn't, or means another pid."""
    text = env.get("WATCHDOG_USEC", "")
    meant = env.get("WATCHDOG_PID", "") in ("", str(pid))
    if not meant or not (text.isascii() and text.isdecimal()):
        return None
    seconds = int(text) / 1e6
    return seconds if seconds >= MIN_WATCHDOG_S else None


class Watchdog:
    """Fed by its own turns: a loop that hangs feeds nothing."""

    def __init__(self, allowed_s: float, commits: Commits, clock: Clock, notify: Notify) -> None:
        self._allowed_s = allowed_s
        self._commits = commits
        self._clock = clock
        self._notify = notify
        self._starving = False

    async def turn(self, _now_ms: int) -> float | None:
        """Feed, or don't; seconds until the next time."""
        began_s = self._commits.commit_started
        running_s = 0.0 if began_s is None else self._clock.monotonic() - began_s
        starving = running_s > self._allowed_s * COMMIT_SHARE
        if starving and not self._starving:
            _log.error("watchdog.starved", commit_s=round(running_s, 1), allowed_s=self._allowed_s)
        self._starving = starving
        if not starving:
            self._notify("WATCHDOG=1")
        return self._allowed_s / FEEDS


class StatusLine:
    """``STATUS=`` for ``systemctl status``, sent when it has changed. ``describe()`` is cheap and one line."""

    def __init__(self, describe: Callable[[], str], notify: Notify) -> None:
        self._describe = describe
        self._notify = notify
        self._said = ""
        #: Goes before the description, e.g. what a reload refused; empty when there is nothing.
        self.note = ""

    async def turn(self, _now_ms: int) -> float | None:
        """Say it, if it is new; seconds until the next look."""
        self.say()
        return STATUS_EVERY_S

    def say(self) -> None:
        """Say it now, if it is new."""
        text = self.line()
        if text != self._said:
            self._said = text
            self._notify(f"STATUS={text}")

    def line(self) -> str:
        """What it says."""
        return f"{self.note}; {self._describe()}" if self.note else self._describe()
