"""Lane health over restarts: which endpoints had fallen ill, so that a new start doesn't try them all as if well.

Role: remembers, and writes down, that a lane's latest attempts failed or that it got well; says when an endpoint is to
be disabled by policy.
Rules: a single failure isn't worth a row; saying the same twice writes nothing; nobody misses what can't be written,
for the next attempts tell again.
Must not know: why an attempt failed, SQL, how an endpoint is disabled.
"""

from collections.abc import Mapping

from ringback import dialects
from ringback.core.lane import Lane
from ringback.core.model import DeliveryState, Endpoint, Verdict
from ringback.core.window import Window
from ringback.kit.clock import Clock
from ringback.service.attempt import Ended
from ringback.store import endpoints as table
from ringback.store.writer import Writer

#: Failures in a row after which a lane is remembered as unwell over a restart.
UNWELL_AFTER = 3
#: Why an endpoint is disabled: it answered 410, or its format gives it up after so many lost deliveries in a row.
GONE, LOST = "gone", "lost_in_a_row"


class Health:
    """What is known of each lane: failing or not; nothing of one never heard from."""

    def __init__(self, writer: Writer, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock
        self._failing: dict[int, bool] = {}
        self._lost: dict[int, int] = {}  # deliveries given up in a row, of formats that count them

    def reason_to_disable(self, endpoint: Endpoint, ended: Ended) -> str | None:
        """What an ended attempt says against its endpoint as a whole; None: nothing. Counts anew after a restart."""
        if ended.verdict is Verdict.DISABLE:
            return GONE
        dialect = dialects.get(endpoint.dialect)
        if dialect is None or not dialect.fail_after_lost:
            return None
        if ended.transition.to is DeliveryState.SUCCEEDED:
            self._lost.pop(endpoint.lane, None)
        elif ended.transition.to is DeliveryState.DEAD:
            lost = self._lost.pop(endpoint.lane, 0) + 1
            if lost >= dialect.fail_after_lost:
                return LOST
            self._lost[endpoint.lane] = lost
        return None

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
