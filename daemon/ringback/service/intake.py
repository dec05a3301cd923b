"""Intake: a line of bytes becomes an event on disk, then an answer, then work for the lanes.

Role: the one way in, whatever the transport. Parse, match, hand to the writer; once the batch is committed answer the
producer first and tell the dispatcher second.
Rules: nothing is acknowledged before its commit; when more waits for the disk than ``BACKLOG_HIGH`` the transports stop
reading, so the producer blocks and nothing is refused.
Must not know: sockets, files, SQL, what a lane does with an event.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from ringback.core.events import EventLimits, encode_error, encode_ok, parse_line
from ringback.core.model import Event, Peer, Rejection
from ringback.kit.clock import Chance, Clock
from ringback.kit.log import get_logger
from ringback.service.callbacks import Callbacks
from ringback.service.metrics import Metrics
from ringback.store.ops import Accepted, AcceptEvent, Conflict, Failed
from ringback.store.writer import Writer

#: Rows and bytes waiting for the disk at which the transports stop reading, and at which they go on.
BACKLOG_HIGH_ROWS, BACKLOG_LOW_ROWS = 16_384, 8_192
BACKLOG_HIGH_BYTES, BACKLOG_LOW_BYTES = 64 * 1024 * 1024, 32 * 1024 * 1024

#: The refusal of an id that is taken.
CONFLICT = Rejection("conflict", "this id was accepted before with other content; the first stands", "id")

_log = get_logger()


class Matches(Protocol):
    """Who wants an event."""

    def match(self, tenant: str, event_type: str, data: bytes) -> tuple[int, ...]:
        """The lanes of every endpoint that matches and whose dialect can say it, ascending."""
        ...


class Accepts(Protocol):
    """Who is told of an event once it is on disk."""

    def accepted(self, seq: int, event: Event, lanes: tuple[int, ...], accepted_at_ms: int) -> None:
        """Deliveries of this event are owed now."""
        ...


class Intake:
    """Takes lines from every transport."""

    def __init__(
        self,
        *,
        matches: Matches,
        writer: Writer,
        dispatch: Accepts,
        callbacks: Callbacks,
        clock: Clock,
        chance: Chance,
        limits: EventLimits,
        metrics: Metrics | None = None,
    ) -> None:
        self._matches = matches
        self._writer = writer
        self._dispatch = dispatch
        self._callbacks = callbacks
        self._clock = clock
        self._chance = chance
        self._limits = limits
        self._metrics = metrics or Metrics()
        self._closed = False
        self._pressed = False
        self._relief = asyncio.Event()
        self._relief.set()
        self._on_pressure: list[Callable[[bool], None]] = []

    @property
    def pressed(self) -> bool:
        """Whether so much waits for the disk that no transport may hand in more."""
        return self._pressed

    async def relieved(self) -> None:
        """Return once a transport that takes one event at a time may hand in the next."""
        await self._relief.wait()

    def on_pressure(self, callback: Callable[[bool], None]) -> None:
        """Have ``callback(True)`` called when transports must stop reading, ``callback(False)`` when they may go on."""
        self._on_pressure.append(callback)

    def close(self) -> None:
        """From now on every line is answered ``shutting_down``; what was taken before is still committed."""
        self._closed = True

    def handle(self, line: bytes, peer: Peer, answer: Callable[[bytes], None], tenant: str | None = None) -> None:
        """Take one line without its end. ``answer`` is called once, on the loop's thread, with one answer line.

        ``tenant``: the only one the producer may speak for; its event's where it names none.
        """
        if self._closed:
            answer(
                self.refuse("shutting_down", "the daemon is stopping: send this event again, with the same id", peer)
            )
            return
        now_ms = self._clock.now_ms()
        event = parse_line(line, self._limits, now_ms, self._chance.new_id(), tenant)
        if isinstance(event, Rejection):
            self._rejected(event, peer)
            answer(encode_error(event))
            return
        lanes = self._matches.match(event.tenant, event.type, event.data)
        op = self._operation(event, lanes, now_ms, peer)
        if isinstance(op, Rejection):
            self._rejected(op, peer, event)
            answer(encode_error(op))
            return
        self._writer.submit(op, lambda result: self._committed(op, result, answer))
        self._feel_pressure()

    def take(self, event: Event, peer: Peer, done: Callable[[Accepted | Rejection], None]) -> None:
        """Take one event that was parsed already. ``done`` is called once, on the loop's thread, after the commit."""
        lanes = self._matches.match(event.tenant, event.type, event.data)
        self.give(event, lanes, self._clock.now_ms(), peer, done)

    def give(
        self,
        event: Event,
        lanes: tuple[int, ...],
        now_ms: int,
        peer: Peer,
        done: Callable[[Accepted | Rejection], None],
    ) -> None:
        """As ``take``, for these lanes alone, whatever they filter; ``now_ms`` is when it counts as accepted."""
        if self._closed:
            done(Rejection("shutting_down", "the daemon is stopping"))
            return
        op = self._operation(event, lanes, now_ms, peer)
        if isinstance(op, Rejection):
            self._rejected(op, peer, event)
            done(op)
            return
        self._writer.submit(op, lambda result: self._settle(op, result, done))
        self._feel_pressure()

    def refusal(self, event: Event) -> Rejection | None:
        """Why an event that was parsed already would be refused for its callback; None if it wouldn't."""
        judged = None if event.callback is None else self._callbacks.judge(event, event.callback)
        return judged if isinstance(judged, Rejection) else None

    def refuse(self, code: str, message: str, peer: Peer | None = None) -> bytes:
        """The answer line of a refusal that a transport makes itself."""
        rejection = Rejection(code, message)
        self._rejected(rejection, peer)
        return encode_error(rejection)

    def _operation(self, event: Event, lanes: tuple[int, ...], now_ms: int, peer: Peer) -> AcceptEvent | Rejection:
        """What the writer is asked; with a callback that may be called, a place in its lane is taken."""
        if event.callback is None:
            return AcceptEvent(event, lanes, now_ms, peer)
        origin = self._callbacks.judge(event, event.callback)
        if isinstance(origin, Rejection):
            return origin
        return AcceptEvent(event, lanes, now_ms, peer, self._callbacks.reserve(event.tenant, origin))

    def _committed(self, op: AcceptEvent, result: object, answer: Callable[[bytes], None]) -> None:
        def told(outcome: Accepted | Rejection) -> None:
            if isinstance(outcome, Rejection):
                answer(encode_error(outcome))
            else:
                answer(encode_ok(op.event.id, outcome.deliveries, outcome.duplicate))

        self._settle(op, result, told)

    def _settle(self, op: AcceptEvent, result: object, done: Callable[[Accepted | Rejection], None]) -> None:
        """The producer is told first, the dispatcher second."""
        if self._pressed:
            self._feel_relief()
        event, lanes = op.event, op.lanes
        if op.callback_origin is not None:
            number = result.callback_lane if isinstance(result, Accepted) else None
            self._callbacks.written(event.tenant, op.callback_origin, number)
            lanes = lanes if number is None else (*lanes, number)
        if isinstance(result, Accepted):
            done(result)
            if not result.duplicate:
                self._metrics.events_accepted += 1
                self._dispatch.accepted(result.seq, event, lanes, op.accepted_at_ms)
                _log.debug(
                    "event.accepted",
                    event_id=event.id,
                    tenant=event.tenant,
                    type=event.type,
                    deliveries=result.deliveries,
                )
            return
        if isinstance(result, Conflict):
            rejection = CONFLICT
        elif isinstance(result, Failed):
            rejection = Rejection(result.code, result.message)
        else:
            raise TypeError(f"the writer answered an event with {type(result).__name__}")
        self._rejected(rejection, op.peer, event)
        done(rejection)

    def count_refused(self, code: str) -> None:
        """Count an event that was refused before it got here: a line of a spool file."""
        self._metrics.rejected(code)

    def _rejected(self, rejection: Rejection, peer: Peer | None, event: Event | None = None) -> None:
        """One line a refusal; a wrong producer is found by its uid and pid."""
        self._metrics.rejected(rejection.code)
        _log.info(
            "event.rejected",
            code=rejection.code,
            field=rejection.field,
            message=rejection.message,
            event_id=event.id if event else None,
            tenant=event.tenant if event else None,
            uid=peer.uid if peer else None,
            pid=peer.pid if peer else None,
        )

    def _feel_pressure(self) -> None:
        if self._pressed:
            return
        writer = self._writer
        if writer.backlog_rows >= BACKLOG_HIGH_ROWS or writer.backlog_bytes >= BACKLOG_HIGH_BYTES:
            self._pressed = True
            self._relief.clear()
            self._tell_pressure()

    def _feel_relief(self) -> None:
        writer = self._writer
        if writer.backlog_rows <= BACKLOG_LOW_ROWS and writer.backlog_bytes <= BACKLOG_LOW_BYTES:
            self._pressed = False
            self._relief.set()
            self._tell_pressure()

    def _tell_pressure(self) -> None:
        for callback in self._on_pressure:
            callback(self._pressed)
