"""Lane health over restarts: which endpoints had fallen ill, so that a new start doesn't try them all as if well.

Role: remembers, and writes down, that a lane's latest attempts failed or that it got well.
Rules: a single failure isn't worth a row; saying the same twice writes nothing; nobody misses what can't be written,
for the next attempts tell again.
Must not know: why an attempt failed, SQL.
"""

from collections.abc import Mapping

from ringback.core.lane import Lane
from ringback.core.window import Window
from ringback.kit.clock import Clock
from ringback.store import endpoints as table
from ringback.store.writer import Writer

#: Failures in a row after which a lane is remembered as unwell over a restart.
UNWELL_AFTER = 3


class Health:
    """What is known of each lane: failing or not; nothing of one never heard from."""

    def __init__(self, writer: Writer, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock
        self._failing: dict[int, bool] = {}

    def recover(self, failing: Mapping[int, bool]) -> None:
        """Take what the table knows, at start."""
        self._failing = dict(failing)

    def window(self, number: int) -> Window | None:
        """What a lane begins with; None if nothing is known of it."""
        failing = self._failing.get(number)
        return None if failing is None else Window(failures=UNWELL_AFTER if failing else 0, proved=True)

    def note(self, lane: Lane) -> None:
        """An attempt has ended: write down what changed by it."""
        window = lane.window
        if window.failures >= UNWELL_AFTER:
            failing = True
        elif window.proved and not window.failures:
            failing = False
        else:
            return
        if self._failing.get(lane.number) is not failing:
            self._failing[lane.number] = failing
            self._writer.submit(table.set_health(lane.number, failing, self._clock.now_ms()), lambda _: None)
