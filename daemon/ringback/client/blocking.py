"""The blocking producer.

Rules: one connection; calls from several threads take turns, each a whole call; a process that was forked makes a
connection of its own. While lines are written, answers are read: neither side can block the other for good.
"""

import contextlib
import os
import random
import select
import socket
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from types import TracebackType
from typing import Any, Self

from ringback.client.errors import Rejected, Unavailable
from ringback.client.lines import Ack, Conversation, Outcome, Sent, prepare, wait_s

DEFAULT_PATH = "/run/ringback/events.sock"
TIMEOUT_S = 60.0
#: Events on their way at once: well below what the daemon takes from one connection.
WINDOW = 256
#: Lines given to the kernel in one go.
WRITE_BYTES = 65_536
READ_BYTES = 65_536

#: This process's producers, for a fork.
_producers: "weakref.WeakSet[Producer]" = weakref.WeakSet()


class Producer:
    """Sends events and waits until they are on disk. A context manager; safe for threads, which take turns.

    ``timeout_s``: how long a call may go without any progress, the daemon's restarts included, before it raises
    ``Unavailable``. ``window``: events on their way at once in ``send_many``.
    """

    def __init__(self, path: str = DEFAULT_PATH, *, timeout_s: float = TIMEOUT_S, window: int = WINDOW) -> None:
        if window < 1:
            raise ValueError("window must be at least 1")
        self._path = path
        self._timeout_s = timeout_s
        self._window = window
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._closed = False
        _producers.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, once the calls of other threads are through. Safe to call twice."""
        with self._lock:
            self._closed = True
            self._disconnect()

    def send(
        self,
        type: str,  # noqa: A002 - the event's member
        data: Mapping[str, Any],
        *,
        tenant: str | None = None,
        id: str | None = None,  # noqa: A002 - the event's member
        **members: Any,
    ) -> Ack:
        """Send one event; returns once it and its deliveries are on disk.

        Args:
            type: dotted, e.g. ``stt.jobs.completed``.
            data: the payload, an object JSON can express.
            tenant: ``default`` if None.
            id: your own, so that the same thing told twice is one event; made here if None.
            members: ``created_at``, ``deliver_after``, ``expires_at``, ... as in docs/protocol.md.

        Raises:
            Rejected: the daemon refused it for good.
            Unavailable: no answer in time; it may or may not be stored. ``unanswered[0]`` has its id.
            TypeError, ValueError: it can't be written as JSON.
        """
        (outcome,) = self._exchange([prepare({"type": type, "data": data, "tenant": tenant, "id": id, **members})])
        if isinstance(outcome, Rejected):
            raise outcome
        return outcome

    def send_many(self, events: Iterable[Mapping[str, Any]]) -> list[Ack | Rejected]:
        """Send many, without waiting for each; one outcome for each, in order. A refused one doesn't stop the others.

        Each event is a mapping of docs/protocol.md's members. For more than fits in memory use ``stream``.

        Raises:
            Unavailable: with ``outcomes`` so far and the ``unanswered`` events, ids filled in.
            TypeError, ValueError: one can't be written as JSON; nothing was sent.
        """
        return self._exchange([prepare(event) for event in events])

    def stream(self, events: Iterable[Mapping[str, Any]]) -> Iterator[Ack | Rejected]:
        """As ``send_many``, for any number: ``events`` is read, sent and answered a window at a time.

        Raises: as ``send_many``, of the window under way; what comes after it in ``events`` has not been read.
        """
        rest = iter(events)
        while part := list(islice(rest, self._window)):
            yield from self.send_many(part)

    def _exchange(self, batch: list[Sent]) -> list[Outcome]:
        deadline = time.monotonic() + self._timeout_s
        if not self._lock.acquire(timeout=self._timeout_s):
            events = [sent.event for sent in batch]
            raise Unavailable("other threads kept the producer busy", events, [None] * len(batch))
        try:
            if self._closed:
                raise RuntimeError("the producer is closed")
            return _Exchange(self, batch, deadline).run()
        finally:
            self._lock.release()

    def _forked(self) -> None:
        """In a child: the lock may be held by a thread that isn't there, and the connection is the parent's."""
        self._lock = threading.Lock()
        self._disconnect()

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        """The connection, made if there is none. Raises OSError."""
        if self._socket is None:
            fresh = socket.socket(socket.AF_UNIX)
            try:
                fresh.setblocking(False)
                fresh.connect(self._path)
            except OSError:
                fresh.close()
                raise
            self._socket = fresh
        return self._socket


class _Exchange:
    """One call: a batch goes out, its outcomes come in, over as many connections as that takes."""

    def __init__(self, producer: Producer, batch: list[Sent], deadline: float) -> None:
        self._producer = producer
        self._batch = batch
        self._rest = iter(batch)
        self._talk = Conversation()
        self._deadline = deadline
        self._tries = 0
        self._last = "no answer"

    def run(self) -> list[Outcome]:
        """Until every event has its outcome."""
        try:
            while self._fill():
                if self._talk.stalled:
                    self._pause(self._talk.code or "")
                    self._talk.again()
                try:
                    self._talk_over(self._producer._connect())  # noqa: SLF001 - one class in two
                except OSError as error:
                    self._talk.lost()
                    self._producer._disconnect()  # noqa: SLF001 - as above
                    self._pause(f"{error.strerror or error}")
        except BaseException:
            if self._talk.open:
                self._producer._disconnect()  # noqa: SLF001 - answers to come must not meet the next call
            raise
        return [sent.outcome for sent in self._batch if sent.outcome is not None]

    def _fill(self) -> int:
        """Keep a window open; how many events are."""
        room = self._producer._window - self._talk.open  # noqa: SLF001 - as above
        self._talk.unsent.extend(islice(self._rest, max(0, room)))
        return self._talk.open

    def _talk_over(self, connection: socket.socket) -> None:
        """Write and read until nothing is asked any more, or all that is left has to wait."""
        out = memoryview(b"")
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        while self._talk.asked or self._talk.unsent or out:
            if not out:
                out = memoryview(self._talk.take(WRITE_BYTES))
            poll.modify(connection, select.POLLIN | (select.POLLOUT if out else 0))
            ready = dict(poll.poll(self._left_s() * 1000))
            if not ready:
                self._give_up()
            happened = ready[connection.fileno()]
            if happened & ~select.POLLOUT:
                self._hear(connection)
            if out and happened & select.POLLOUT:
                with contextlib.suppress(BlockingIOError):
                    out = out[connection.send(out) :]

    def _hear(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionResetError("the daemon closed the connection")
        if self._talk.hear(data):
            self._deadline = time.monotonic() + self._producer._timeout_s  # noqa: SLF001 - as above
            self._tries = 0
            self._fill()

    def _left_s(self) -> float:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            self._give_up()
        return left_s

    def _pause(self, why: str) -> None:
        self._last = why
        self._tries += 1
        time.sleep(min(wait_s(self._tries, random.random()), self._left_s()))  # noqa: S311 - jitter

    def _give_up(self) -> None:
        code = self._talk.code
        unanswered = [sent.event for sent in self._batch if sent.outcome is None]
        raise Unavailable(
            f"no answer from {self._producer._path} in time: {code or self._last}",  # noqa: SLF001 - as above
            unanswered,
            [sent.outcome for sent in self._batch],
            code,
        )


def _forked() -> None:
    for producer in list(_producers):
        producer._forked()  # noqa: SLF001 - its own module


os.register_at_fork(after_in_child=_forked)
