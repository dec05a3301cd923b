"""The producer for asyncio.

Rules: one connection for all callers; whatever they have to say meanwhile goes out together, at most ``window`` events
at once, and as many that nobody waits for any more; a lost connection is made anew while anybody waits. Belongs to one
event loop and its thread.
"""

import asyncio
import random
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, cast

from ringback.client.blocking import DEFAULT_PATH, TIMEOUT_S, WINDOW, WRITE_BYTES
from ringback.client.errors import Rejected, Unavailable
from ringback.client.lines import Ack, Conversation, Outcome, ProtocolError, Sent, prepare, wait_s

_Event = Mapping[str, Any]


class AsyncProducer:
    """Sends events and waits until they are on disk. An async context manager.

    ``timeout_s``: how long one event may wait for its answer, the daemon's restarts included, before ``Unavailable``.
    ``window``: events on their way at once, all callers together; more wait their turn.
    """

    def __init__(self, path: str = DEFAULT_PATH, *, timeout_s: float = TIMEOUT_S, window: int = WINDOW) -> None:
        if window < 1:
            raise ValueError("window must be at least 1")
        self._path = path
        self._timeout_s = timeout_s
        self._window = window
        self._room = asyncio.Semaphore(window)
        self._talk = Conversation()
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._planned = False
        self._tries = 0  # connections and refusals since the last outcome
        self._last = "no answer"
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; whoever still waits gets ``Unavailable``. Safe to call twice."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._transport is not None:
            self._transport.abort()
        for sent in self._talk.forget():
            if sent.waiter is not None and not sent.waiter.done():
                sent.waiter.set_exception(Unavailable("the producer was closed", [sent.event], [None]))

    async def send(
        self,
        type: str,  # noqa: A002 - the event's member
        data: Mapping[str, Any],
        *,
        tenant: str | None = None,
        id: str | None = None,  # noqa: A002 - the event's member
        **members: Any,
    ) -> Ack:
        """Send one event; returns once it and its deliveries are on disk. Arguments and errors as ``Producer.send``.

        A call that is cancelled may have stored its event all the same.
        """
        outcome = await self._ask(prepare({"type": type, "data": data, "tenant": tenant, "id": id, **members}))
        if isinstance(outcome, Rejected):
            raise outcome
        return outcome

    async def send_many(self, events: Iterable[Mapping[str, Any]]) -> list[Ack | Rejected]:
        """Send many; one outcome for each, in order. Errors as ``Producer.send_many``."""
        batch = [prepare(event) for event in events]
        tasks = [asyncio.ensure_future(self._ask(sent)) for sent in batch]
        try:
            done = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for task in tasks:
                task.cancel()
        problem = next((one for one in done if isinstance(one, BaseException) and not isinstance(one, Rejected)), None)
        if isinstance(problem, Unavailable):
            left = [sent.event for sent in batch if sent.outcome is None]
            raise Unavailable(problem.message, left, [sent.outcome for sent in batch], problem.code)
        if problem is not None:
            raise problem
        return [sent.outcome for sent in batch if sent.outcome is not None]

    async def stream(
        self, events: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]]
    ) -> AsyncIterator[Ack | Rejected]:
        """As ``send_many``, for any number: ``events`` is read, sent and answered a window at a time.

        Raises: as ``send_many``, of the window under way; what comes after it in ``events`` has not been read.
        """
        part: list[Mapping[str, Any]] = []
        async for event in _each(events):
            part.append(event)
            if len(part) == self._window:
                for outcome in await self.send_many(part):
                    yield outcome
                part = []
        for outcome in await self.send_many(part):
            yield outcome

    async def _ask(self, sent: Sent) -> Outcome:
        try:
            if self._closed:
                raise RuntimeError("the producer is closed")
            async with asyncio.timeout(self._timeout_s), self._room:
                if self._closed:
                    raise Unavailable("the producer was closed", [sent.event], [None])
                sent.waiter = asyncio.get_running_loop().create_future()
                self._talk.unsent.append(sent)
                self._plan()
                outcome: Outcome = await sent.waiter
                return outcome
        except TimeoutError:
            code = self._talk.code
            message = f"no answer from {self._path} in time: {code or self._last}"
            raise Unavailable(message, [sent.event], [None], code) from None
        finally:
            if sent.outcome is None:
                self._talk.abandon(sent)
                if len(self._talk.asked) > 2 * self._window and self._transport is not None:
                    self._transport.abort()  # a daemon that answers nobody: what gathers there must have an end

    def _plan(self) -> None:
        """Write soon what has gathered by then, or connect first."""
        if self._transport is None:
            if self._connecting is None:
                self._connecting = asyncio.create_task(self._connect())
        elif not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        self._planned = False
        while self._transport is not None and self._talk.unsent:
            self._transport.write(self._talk.take(WRITE_BYTES))  # the window bounds what gathers there

    async def _connect(self) -> None:
        try:
            while self._talk.open and self._transport is None:  # one may be lost again before this is told of it
                if self._tries:
                    await asyncio.sleep(wait_s(self._tries, random.random()))  # noqa: S311 - jitter
                self._tries += 1
                try:
                    await asyncio.get_running_loop().create_unix_connection(lambda: _Connection(self), self._path)
                except OSError as error:
                    self._last = error.strerror or str(error)
        finally:
            self._connecting = None

    def _again(self) -> None:
        self._retry = None
        self._talk.again()
        self._plan()

    def connected(self, transport: asyncio.Transport) -> None:
        """For the connection: it stands."""
        self._transport = transport
        self._write()

    def heard(self, data: bytes) -> None:
        """For the connection: answers. Raises ProtocolError."""
        for sent in self._talk.hear(data):
            self._tries = 0
            if sent.waiter is not None and not sent.waiter.done():
                sent.waiter.set_result(sent.outcome)
        if self._talk.refused and self._retry is None:
            self._tries += 1
            delay_s = wait_s(self._tries, random.random())  # noqa: S311 - jitter
            self._retry = asyncio.get_running_loop().call_later(delay_s, self._again)

    def disconnected(self, error: Exception | None) -> None:
        """For the connection: it is gone."""
        self._transport = None
        self._last = str(error or "the daemon closed the connection")
        self._talk.lost()
        self._tries = max(1, self._tries)
        if self._talk.open and not self._closed:
            self._plan()


class _Connection(asyncio.Protocol):
    """One connection; tells its producer."""

    def __init__(self, producer: AsyncProducer) -> None:
        self._producer = producer
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._producer.connected(self._transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._producer.heard(data)
        except ProtocolError:
            assert self._transport is not None, "connected before it hears"
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._producer.disconnected(exc)


async def _each(events: Iterable[_Event] | AsyncIterable[_Event]) -> AsyncIterator[_Event]:
    if isinstance(events, AsyncIterable):
        async for event in events:
            yield event
    else:
        for event in events:
            yield event
