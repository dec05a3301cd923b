"""The janitor: everything that has to happen because time passed, in small steps.

Role: expire what nobody will start any more, cancel what deleted endpoints were owed, prune what is older than the
retention, keep the database within its budget, bring due times back that a stepped clock pushed out of reach.
Rules: each step is bounded and goes through the one writer behind everything else; a full step asks for the next turn
at once, a short one waits.
Must not know: SQL, why an endpoint was deleted, what an event holds.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from ringback.core import clock_steps, retry
from ringback.core.lifecycle import expired
from ringback.core.model import DeliveryState, Endpoint, Owed
from ringback.core.schedule import Board
from ringback.kit.clock import Clock
from ringback.kit.log import get_logger
from ringback.kit.wake import WakeUp
from ringback.service import delivery_log
from ringback.service.attempt import Policy
from ringback.service.budget import Budget
from ringback.service.metrics import Metrics
from ringback.store import queue, retention
from ringback.store.errors import QueryTimeout, StoreError
from ringback.store.ops import Finish
from ringback.store.writer import Writer

#: Seconds between looks when there was nothing to do.
EVERY_S = 1.0
#: Seconds between looks for what is older than the retention.
PRUNE_EVERY_S = 60.0
#: Rows a step takes.
STEP_ROWS = 256
#: What a deleted endpoint was owed is cancelled in larger steps: under load a step has its turn only now and then.
#: Measured: 3,072 rows take 15 to 30 ms, which is what everybody else's commit waits for at most.
CANCEL_ROWS = 3072
#: Deleted endpoints cleaned up after in one step.
LANES_A_STEP = 8
#: A due time this far beyond the policy's largest gap is believed to come from a wrong clock.
SLACK_MS = 60_000
#: A lane whose far due times were all meant so is looked at again after this long: the look walks through all of them.
UNSTICK_EVERY_S = 60.0
DAY_MS = 86_400_000

_log = get_logger()


class ExpiringReads(Protocol):
    """What the janitor asks of the table."""

    async def expiring(self, now_ms: int, limit: int) -> Sequence[Owed]:
        """Owed rows whose time is over, oldest first."""
        ...

    async def names(self, seqs: Sequence[int]) -> dict[int, tuple[str, int]]:
        """Id of each event, and when it was accepted."""
        ...


class KnowsEndpoints(Protocol):
    """The endpoints as they are now."""

    def by_lane(self, lane: int) -> Endpoint | None:
        """None once it is deleted."""
        ...

    def effective(self, endpoint: Endpoint) -> Policy:
        """Its retry policy, defaults filled in."""
        ...


class Keep(msgspec.Struct, frozen=True):
    """The retention: milliseconds an event and an attempt are kept."""

    events_ms: int
    attempts_ms: int


class Janitor:
    """One turn a second, more when there is a backlog."""

    def __init__(
        self,
        *,
        board: Board,
        endpoints: KnowsEndpoints,
        reads: ExpiringReads,
        writer: Writer,
        clock: Clock,
        keep: Keep,
        in_flight: Callable[[], frozenset[tuple[int, int]]],
        kick: Callable[[int], None],
        deleted: Iterable[int] = (),
        newest_ms: int | None = None,
        stand_in: Callable[[int], Endpoint | None] = lambda _lane: None,
        metrics: Metrics | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.wake = WakeUp()
        self._budget = budget
        self._board = board
        self._endpoints = endpoints
        self._reads = reads
        self._writer = writer
        self._clock = clock
        self._keep = keep
        self._in_flight = in_flight
        self._kick = kick
        self._stand_in = stand_in
        self._deleted = set(deleted)
        self._metrics = metrics or Metrics()
        self._prune_at_s = 0.0
        self._trust = clock_steps.begin(clock.now_ms(), clock.monotonic(), newest_ms)
        self._unstick_at_s: dict[int, float] = {}  # only lanes of the board, by monotonic seconds

    @property
    def keep(self) -> Keep:
        """The retention in force."""
        return self._keep

    def reconfigure(self, keep: Keep) -> None:
        """Prune by this retention from here on."""
        self._keep = keep

    def changed(self, lane: int) -> None:
        """An endpoint changed; a deleted one is cleaned up after at once: what it was owed is told as cancelled."""
        if self._endpoints.by_lane(lane) is None:
            self._deleted.add(lane)
            self.wake.wake()

    async def turn(self, now_ms: int) -> float | None:
        """One step of each chore; seconds until the next."""
        now_s = self._clock.monotonic()
        self._trust, stepped_ms = clock_steps.look(self._trust, now_ms, now_s)
        if stepped_ms:
            _log.warning("clock.stepped", by_ms=stepped_ms)
        try:
            busy = await self._expire(now_ms) | await self._cancel()
            if now_s < self._trust.reach_until_s:
                busy |= await self._unstick(now_ms)
            if now_s >= max(self._prune_at_s, self._trust.prune_from_s):
                if await self._prune(now_ms):
                    busy = True
                else:
                    self._prune_at_s = self._clock.monotonic() + PRUNE_EVERY_S
            if self._budget is not None:
                busy |= await self._budget.turn()
        except QueryTimeout:
            _log.warning("store.slow", what="janitor")
            return EVERY_S
        except StoreError as problem:
            _log.warning("janitor.postponed", code=problem.code)
            return EVERY_S
        return 0.0 if busy else EVERY_S

    async def _expire(self, now_ms: int) -> bool:
        """Deliveries nobody started in time, those of held endpoints among them."""
        found = await self._reads.expiring(now_ms, STEP_ROWS)
        under_way = self._in_flight()
        rows = [row for row in found if (row.event, row.lane) not in under_way]
        # Together, for one commit: one by one a backlog of a paused endpoint would take hours to expire.
        applied = await asyncio.gather(*[self._writer.run(Finish(row.lane, row.event, expired())) for row in rows])
        names = await self._reads.names([row.event for row in rows]) if rows else {}
        for row, done in zip(rows, applied, strict=True):
            if done:
                self._metrics.ended(DeliveryState.EXPIRED)
                endpoint = self._endpoints.by_lane(row.lane) or self._stand_in(row.lane)
                event_id, accepted_ms = names.get(row.event, ("", 0))
                delivery_log.expired_unsent(row, event_id, accepted_ms, endpoint)
        return len(rows) >= STEP_ROWS

    async def _cancel(self) -> bool:
        """What deleted endpoints were owed. Their attempts in flight end first, then count."""
        busy = False
        for lane in list(self._deleted)[:LANES_A_STEP]:
            keep = {event for event, number in self._in_flight() if number == lane}
            cancelled = await self._writer.run(queue.cancel_owed(lane, CANCEL_ROWS, keep))
            self._metrics.ended(DeliveryState.CANCELLED, cancelled)
            if not cancelled and not keep:
                self._deleted.discard(lane)
            busy |= cancelled > 0
        return busy

    async def _unstick(self, now_ms: int) -> bool:
        """After the clock was set back: retries due further off than their policy could ever say become due."""
        lanes, now_s = self._board.lanes, self._clock.monotonic()
        self._unstick_at_s = {n: at_s for n, at_s in self._unstick_at_s.items() if at_s > now_s and n in lanes}
        for lane in [lane for lane in lanes.values() if lane.next_timed_ms is not None]:
            if lane.number in self._unstick_at_s:
                continue
            endpoint = self._endpoints.by_lane(lane.number) or self._stand_in(lane.number)
            if endpoint is None or lane.next_timed_ms is None:
                continue
            policy = self._endpoints.effective(endpoint).retry
            horizon_ms = retry.clamp_due_ms(policy, lane.next_timed_ms, now_ms)
            if lane.next_timed_ms <= horizon_ms + SLACK_MS:
                continue
            moved = await self._writer.run(queue.clamp_timed(lane.number, horizon_ms + SLACK_MS, horizon_ms, STEP_ROWS))
            if moved:
                _log.warning("delivery.due_again", lane=lane.number, rows=moved)
                self._kick(lane.number)
                return True
            self._unstick_at_s[lane.number] = now_s + UNSTICK_EVERY_S
        return False

    async def _prune(self, now_ms: int) -> bool:
        """What is older than the retention; True if there is more."""
        events = await self._writer.run(retention.prune_events(now_ms - self._keep.events_ms, STEP_ROWS))
        attempts = await self._writer.run(retention.prune_attempts(now_ms - self._keep.attempts_ms, STEP_ROWS))
        if events.pruned:
            _log.info("retention.pruned", events=events.pruned)
        return bool(events.more or attempts.more)
