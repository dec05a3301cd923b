"""Dispatch: what is owed gets its turn, is attempted, and its result goes to the writer.

Role: carries out the board's decisions. Newly committed deliveries are handed to their lanes, lanes that ran low are
refilled from the table, attempts run as tasks, results are committed, then logged. The only one who changes the board.
Rules: a result frees its slot at once and its id only after the commit, so nothing is sent twice because the table was
behind; what can't be recorded is tried once more without its details, then left for a restart and named.
Must not know: SQL, HTTP, how turns are decided.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Protocol

from ringback.core.lane import Lane
from ringback.core.lifecycle import expired
from ringback.core.model import Endpoint, EndpointStatus, Event, Owed, Phase, Verdict
from ringback.core.schedule import Board, Limits, Started
from ringback.core.window import Signal, Window
from ringback.kit.clock import Clock
from ringback.kit.log import get_logger
from ringback.kit.wake import WakeUp
from ringback.service import delivery_log
from ringback.service.attempt import Attempts, Ended, corrupt, without_details
from ringback.service.bodies import Bodies, Body, LoadsEvents, missing
from ringback.service.callbacks import Callbacks
from ringback.service.flights import Flights
from ringback.service.health import Health
from ringback.service.metrics import Metrics
from ringback.service.receivers import KnowsEndpoints, Receivers
from ringback.service.refill import Refiller, RefillsLanes
from ringback.service.shortage import Shortage
from ringback.store.errors import QueryTimeout
from ringback.store.ops import INTERNAL_ERROR, Failed, Finish
from ringback.store.queue import Head
from ringback.store.views import DeliveryRow
from ringback.store.writer import Writer

#: Attempts started in one turn before the rest of the loop gets its chance.
STARTS_A_TURN = 256
#: Seconds that a stop leaves to what goes on beside the attempts, once these are over.
HELPERS_GRACE_S = 1.0

_Load = asyncio.Future[dict[int, Body]]
_log = get_logger()


class StopsEndpoints(KnowsEndpoints, Protocol):
    """The endpoints, as they are now and as a verdict changes them."""

    async def disable(self, lane: int, reason: str, url: str) -> object:
        """Stop delivering to it, by policy, unless it has left this url."""
        ...


class QueueReads(RefillsLanes, LoadsEvents, Protocol):
    """What the dispatcher asks of the table."""

    async def heads(self) -> Sequence[Head]:
        """Every lane that owes something."""
        ...


class Dispatch:
    """Owns the board, the attempts and what is in flight."""

    def __init__(
        self,
        *,
        limits: Limits,
        endpoints: StopsEndpoints,
        callbacks: Callbacks,
        reads: QueueReads,
        writer: Writer,
        attempts: Attempts,
        clock: Clock,
        metrics: Metrics | None = None,
        note: Callable[[int, Ended], None] = lambda _lane, _ended: None,
    ) -> None:
        """``note(lane, ended)`` is called for each attempt whose result was committed."""
        self.wake = WakeUp()
        self.board = Board(limits)
        self.refiller = Refiller(self.board, reads, clock, self.wake, self._read_ahead)
        self._endpoints = endpoints
        self._reads = reads
        self._writer = writer
        self._attempts = attempts
        self._clock = clock
        self._note = note
        self.metrics = metrics or Metrics()
        attempts.on_shortage = Shortage(self.board, clock, self.metrics).met
        self.bodies = Bodies(reads)
        self._tasks: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._flights = Flights()
        self._helpers: set[asyncio.Task[object]] = set()
        self._health = Health(writer, clock)
        self._receivers = Receivers(self.board, endpoints, callbacks, self._health)
        self._bug: BaseException | None = None
        self._stopping = False

    # -- what others tell --------------------------------------------------------------------------------------------

    async def recover(self, health: dict[int, bool]) -> None:
        """Find every lane that owes something. ``health``: lanes once heard from, and whether they were failing."""
        self._health.recover(health)
        for head in await self._reads.heads():
            lane = self._receivers.lane_of(head.lane)
            if lane is not None:
                self.board.look_again(lane)
        self._nudge()

    def accepted(self, seq: int, event: Event, lanes: tuple[int, ...], accepted_at_ms: int) -> None:
        """Deliveries of this event are owed now: hand their ids to the lanes that have room."""
        size = len(event.data)
        due_at_ms = event.deliver_after_ms
        if due_at_ms is not None and due_at_ms > accepted_at_ms:
            for number in lanes:
                lane = self._receivers.lane_of(number)
                if lane is not None:
                    self.refiller.note_due(lane, due_at_ms)
            return
        takers = 0
        phase = Phase.FRESH if due_at_ms is None else Phase.TIMED
        for number in lanes:
            lane = self._receivers.lane_of(number)
            if lane is not None:
                item = Owed(number, seq, phase, due_at_ms or 0, 0, size, event.expires_at_ms)
                takers += self.board.hand_off(lane, item)
        if takers:  # what waits in the table must not push out what is about to start
            self.bodies.keep(seq, event, accepted_at_ms, takers)
        self._nudge()

    def changed(self, number: int) -> None:
        """An endpoint was made, changed, paused, resumed or deleted; or callbacks are held, or let go."""
        endpoint = self._receivers.of(number)
        lane = self.board.lanes.get(number)
        if endpoint is None:
            if lane is not None:
                self.board.drop(lane)
            return
        lane = self._receivers.lane(endpoint)
        active = endpoint.status is EndpointStatus.ACTIVE  # only an active endpoint gets anything
        if endpoint.status is EndpointStatus.PENDING:
            lane.window = Window()  # what is known of its health was said of another url or secret
        if lane.open and not active:
            self.board.close(lane)
        elif active and not lane.open:
            # what was held goes out gently: one request first, whatever the endpoint took before
            lane.window = Window(failures=lane.window.failures, proved=lane.window.proved)
            self.board.open(lane)
        self._nudge()

    def kick(self, number: int) -> None:
        """Rows appeared in the table that nobody handed off (a retry by hand)."""
        lane = self._receivers.lane_of(number)
        if lane is not None:
            self.board.look_again(lane)
            self._nudge()

    def withhold(self, event: int, number: int) -> None:
        """Start no attempt of this delivery until ``give_back``: its row will change now."""
        lane = self._receivers.lane_of(number)
        if lane is not None:
            self.board.withhold(lane, event)

    def give_back(self, event: int, number: int) -> None:
        """The row of a withheld delivery has changed, or stays as it was: the table says what is owed."""
        lane = self._receivers.lane_of(number)
        if lane is not None:
            self.board.give_back(lane, event, unsettled=(event, number) in self._flights)
            self._nudge()

    def limit(self, limits: Limits) -> None:
        """Start by these limits from here on; what is in flight beyond them ends by itself."""
        self.board.limits = limits
        self._receivers.defaults_changed()
        self._nudge()

    # -- what others ask ---------------------------------------------------------------------------------------------

    def in_flight(self) -> frozenset[tuple[int, int]]:
        """(event, lane) of every attempt under way or awaiting its commit."""
        return self._flights.keys()

    def is_in_flight(self, row: DeliveryRow) -> bool:
        """Whether an attempt of this delivery was under way, or its result not committed, when its row was read."""
        return self._flights.cover(row)

    def lane_now(self, number: int) -> tuple[float, int]:
        """How many requests a lane may have in flight by its window, and how many it has."""
        lane = self.board.lanes.get(number)
        return (1.0, 0) if lane is None else (lane.window.size, lane.in_flight)

    # -- the loop ----------------------------------------------------------------------------------------------------

    async def turn(self, _now_ms: int) -> float | None:
        """Start what may start; returns seconds until time alone could start more."""
        if self._bug is not None:
            raise self._bug
        if self._stopping:
            return None
        starts: list[tuple[Started, Body | None]] = []
        now_s = self._clock.monotonic()
        self._receivers.sweep(now_s)
        while len(starts) < STARTS_A_TURN and (started := self.board.start(now_s)) is not None:
            starts.append((started, self.bodies.take(started.item.event)))
        missing = [started.item.event for started, body in starts if body is None]
        load = asyncio.ensure_future(self.bodies.load(missing)) if missing else None
        for started, body in starts:
            self._spawn(started, body, load)
        if len(starts) == STARTS_A_TURN:
            self.wake.wake()
        if self.board.thirsty:
            self.refiller.wake.wake()
        return self.board.wake_in_s(now_s)

    async def stop(self, grace_s: float) -> int:
        """Start nothing more, let what is in flight end for ``grace_s`` seconds, cut off the rest; returns how many."""
        self._stopping = True
        await self._let_end(self._tasks.values(), grace_s)
        for task in (cut_off := list(self._tasks.values())):
            task.cancel()
        await asyncio.gather(*cut_off, return_exceptions=True)
        # What an attempt led to may wait for room on a full disk. It goes on until the writer ends, without us.
        await self._let_end(self._helpers, HELPERS_GRACE_S)
        for helper in (left := list(self._helpers)):
            helper.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return len(cut_off)

    async def _let_end(self, tasks: "Collection[asyncio.Task[Any]]", most_s: float) -> None:
        if tasks and most_s > 0:
            timer = asyncio.ensure_future(self._clock.sleep(most_s))
            ended = asyncio.ensure_future(asyncio.wait(list(tasks)))
            await asyncio.wait((timer, ended), return_when=asyncio.FIRST_COMPLETED)
            for waiter in (timer, ended):
                waiter.cancel()

    # -- one delivery ------------------------------------------------------------------------------------------------

    def _spawn(self, started: Started, body: Body | None, load: _Load | None) -> None:
        key = (started.item.event, started.item.lane)
        self._flights.begin(key)
        task = asyncio.ensure_future(self._attempt(started, body, load))
        self._tasks[key] = task
        task.add_done_callback(self._ended_task)

    def _ended_task(self, task: "asyncio.Task[None] | asyncio.Task[object]") -> None:
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._bug = bug
            self.wake.wake()

    async def _attempt(self, started: Started, body: Body | None, load: _Load | None) -> None:
        item = started.item
        endpoint = self._receivers.of(item.lane, body.event if body else None)
        ended: Ended | None = None
        if body is None and load is not None:
            body = await self._loaded(item, load)
            endpoint = self._receivers.of(item.lane, body.event if body else None)
        if endpoint is not None and endpoint.status is not EndpointStatus.ACTIVE:
            endpoint = None  # it changed since its turn was given; nothing unproved or paused gets anything
        if body is not None and endpoint is not None:
            ended = await self._make(item, body, endpoint)
        del self._tasks[item.event, item.lane]
        self.board.ended(started, ended.signal if ended else Signal.NEUTRAL, self._clock.monotonic())
        if ended is None or body is None or endpoint is None:
            self._settle(started)
            self.board.look_again(started.lane)
            self.refiller.wake.wake()
        else:
            if endpoint.id and (reason := self._health.reason_to_disable(endpoint, ended)):
                self._disable(started.lane, endpoint, reason)
            self._record(started, body, endpoint, ended)
            if endpoint.id:
                self._health.note(started.lane)  # of a callback's origin nobody is told after a restart
        self.wake.wake()

    def _disable(self, lane: Lane, endpoint: Endpoint, reason: str) -> None:
        """Nothing more goes there, unless the answer came from a url it no longer has."""
        now = self._endpoints.by_lane(lane.number)
        if now is not None and now.url == endpoint.url:
            self.board.close(lane)
            self._help(self._endpoints.disable(lane.number, reason, endpoint.url))

    async def _loaded(self, item: Owed, load: _Load) -> Body | None:
        """The event from the table; None if it couldn't be read now: the delivery stays owed and comes again."""
        try:
            bodies = await asyncio.shield(load)
        except QueryTimeout:
            _log.warning("store.slow", what="load", lane=item.lane)
            return None
        except asyncio.CancelledError:
            return None  # stopping: nothing was sent
        body = bodies.get(item.event)
        if body is None:
            _log.error("delivery.event_missing", event_seq=item.event, lane=item.lane)
            return missing(item.event)
        return body

    async def _make(self, item: Owed, body: Body, endpoint: Endpoint) -> Ended:
        now_ms = self._clock.now_ms()
        if item.expires_at_ms is not None and item.expires_at_ms <= now_ms:
            return Ended(expired(), None, Signal.NEUTRAL, Verdict.GIVE_UP)
        if body.corrupt or self.bodies.is_erased(item.event):
            return corrupt(now_ms)
        return await self._attempts.make(item, body, endpoint, self._endpoints.effective(endpoint))

    def _record(self, started: Started, body: Body, endpoint: Endpoint, ended: Ended) -> None:
        item = started.item
        op = Finish(item.lane, item.event, ended.transition, ended.record)
        self._flights.ended((item.event, item.lane), ended.transition)

        def recorded(result: object) -> None:
            if isinstance(result, Failed) and result.code == INTERNAL_ERROR:
                bare = without_details(ended)
                if bare != ended:
                    self._record(started, body, endpoint, bare)
                    return
                _log.error("delivery.unrecorded", event_id=body.event.id, endpoint_id=endpoint.id, error=result.message)
                self._tasks.pop((item.event, item.lane), None)
                self.board.uncommitted -= 1  # its id stays known: what can't be recorded must not be sent in a loop
                self.wake.wake()
                return
            self._settle(started)
            if isinstance(result, Failed):
                return  # the process is ending; the writer has said why
            due_at_ms = ended.transition.due_at_ms
            if due_at_ms is not None:
                self.refiller.note_due(started.lane, due_at_ms)
            elif ended.verdict is Verdict.UNCOUNTED:
                self.board.look_again(started.lane)
            if result is True:
                self.metrics.attempted(item, body.accepted_at_ms, ended)
            if endpoint.id:
                self._note(item.lane, ended)
            delivery_log.ended(item, body, endpoint, ended, applied=result is True)
            self._receivers.retire(item.lane)

        self._writer.submit(op, recorded)

    def _read_ahead(self, items: Sequence[Owed]) -> None:
        if not self._stopping:
            self._help(self.bodies.ahead(items))

    def _settle(self, started: Started) -> None:
        self._flights.settle((started.item.event, started.item.lane))
        if self.board.settled(started):
            self.wake.wake()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _help(self, work: Awaitable[object]) -> None:
        """Run something beside the attempts; a bug in it ends the loop like one of theirs."""
        task: asyncio.Task[object] = asyncio.ensure_future(work)
        self._helpers.add(task)
        task.add_done_callback(self._helped)

    def _helped(self, task: "asyncio.Task[object]") -> None:
        self._helpers.discard(task)
        self._ended_task(task)

    def _nudge(self) -> None:
        self.wake.wake()
        if self.board.thirsty:
            self.refiller.wake.wake()
