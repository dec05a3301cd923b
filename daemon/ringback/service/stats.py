"""Statistics: attempts are counted in memory as their results are committed, and folded into the table now and then.

Role: one tally for each lane's hour that had an attempt since the last fold; the table's and these together for whoever
asks.
Rules: counting costs the hot path a microsecond and no row. A crash loses the counts of the last ``FOLD_EVERY_S``
seconds, never a delivery; a stop folds them first, if that can be done now. What can't be written stays and is tried
again. Whoever asks gets each attempt once, though it is folded just then.
Must not know: SQL, how it is shown.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from ringback.core.model import DeliveryState, Verdict
from ringback.core.tally import HOUR_MS, Tally
from ringback.kit.log import get_logger
from ringback.service.attempt import Ended
from ringback.store import stats as table
from ringback.store.errors import StoreError
from ringback.store.writer import Writer

FOLD_EVERY_S = 10.0
#: Hours that are kept.
KEPT_HOURS = 7 * 24
#: Who asks waits so long for a fold under way to end: on a full disk it doesn't, and then the table hasn't got it.
FOLD_WAIT_S = 2.0
#: A stop waits so long for the last fold: one that waits for room on a full disk doesn't end.
LAST_FOLD_S = 2.0
#: How often the table is read, at most, until no fold began meanwhile.
LOOKS = 3

_DEAD = DeliveryState.DEAD

_log = get_logger()
_Key = tuple[int, int]  # hour, lane


class Stats:
    """Counts, and folds in its turns. At most one tally for each endpoint and hour is in memory."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._open: dict[_Key, Tally] = {}
        self._folding: dict[_Key, Tally] = {}
        self._folds = 0  # begun so far
        self._still = asyncio.Event()  # none is under way
        self._still.set()
        self._pruned_hour = 0

    def note(self, lane: int, ended: Ended) -> None:
        """An attempt's result was committed."""
        record = ended.record
        if record is None or ended.verdict is Verdict.UNCOUNTED:
            return
        key = (record.started_at_ms // HOUR_MS, lane)
        tally = self._open.get(key)
        if tally is None:
            tally = self._open[key] = Tally()
        tally.note(record.outcome, record.elapsed_ms, dead=ended.transition.to is _DEAD)

    async def of_lane(
        self, lane: int, hours: range, folded: Callable[[int, range], Awaitable[dict[int, Tally]]]
    ) -> dict[int, Tally]:
        """A lane's tallies of these hours, those there are. ``folded(lane, hours)``: what the table has of them."""
        for _ in range(LOOKS):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FOLD_WAIT_S):
                    await self._still.wait()
            began = self._folds
            found = await folded(lane, hours)
            if self._folds == began:
                break
        for hour, tally in self._unfolded(lane, hours).items():
            found.setdefault(hour, Tally()).add(tally)
        return found

    def _unfolded(self, lane: int, hours: range) -> dict[int, Tally]:
        """What the table doesn't have yet."""
        found: dict[int, Tally] = {}
        for tallies in (self._open, self._folding):
            for (hour, number), tally in tallies.items():
                if number == lane and hour in hours:
                    found.setdefault(hour, Tally()).add(tally)
        return found

    async def turn(self, now_ms: int) -> float | None:
        """Fold what was counted, prune what is too old; seconds until the next time."""
        try:
            await self.fold()
            await self._prune(now_ms // HOUR_MS - KEPT_HOURS)
        except StoreError as problem:
            _log.warning("stats.postponed", code=problem.code)
        return FOLD_EVERY_S

    async def close(self) -> None:
        """The last fold, before the writer stops. It waits for no room on a full disk."""
        try:
            async with asyncio.timeout(LAST_FOLD_S):
                await self.fold()
        except StoreError as problem:
            _log.warning("stats.lost", code=problem.code)
        except TimeoutError:  # what was submitted is written with the writer's last commit, if there is room by then
            _log.warning("stats.lost", code="timeout")

    async def fold(self) -> None:
        """Write everything counted so far. Raises StoreError; then it is still counted."""
        while self._open:
            keys = sorted(self._open)[: table.MAX_ROWS]
            self._folding = {key: self._open.pop(key) for key in keys}
            rows = [table.Row(hour, lane, tally) for (hour, lane), tally in self._folding.items()]
            self._folds += 1
            self._still.clear()
            try:
                await self._writer.run(table.add(rows))
            except StoreError:
                for key, tally in self._folding.items():
                    self._open.setdefault(key, Tally()).add(tally)
                raise
            finally:
                self._folding = {}
                self._still.set()

    async def _prune(self, before_hour: int) -> None:
        """Once an hour."""
        if before_hour == self._pruned_hour:
            return
        while await self._writer.run(table.prune(before_hour)) >= table.MAX_ROWS:
            pass
        self._pruned_hour = before_hour
