"""The one writer: everything that changes the database passes here.

Role: gathers operations from the loop, commits them in batches on a thread of its own, answers in the loop.
Rules:
- Group commit without a timer: while one commit runs the next batch gathers; idle means commit at once.
- ``done`` is called in the loop, in order of submission, only after the commit. Results go back in one hop a batch.
- A full disk refuses events at once; results and tasks are kept and tried again, so no restart is needed. What is asked
  ``by_hand`` is refused instead, and not done later. ``shut`` refuses events alike, for a reason of the caller's (a
  budget used up), while all else is written.
- After a failed fsync (or any error that leaves the outcome unknown) nothing is written any more: every operation is
  answered ``unknown_outcome`` and ``on_fatal`` asks for the process's end.
- It is never cancelled midway: who stops waiting for an answer doesn't stop the write.
Must not know: what the operations mean.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar, overload

from ringback.kit.clock import Clock
from ringback.store.database import Database
from ringback.store.errors import StoreError
from ringback.store.inbox import Entry, Inbox
from ringback.store.ops import (
    DISK_FULL,
    SHUTTING_DOWN,
    Accepted,
    AcceptEvent,
    Conflict,
    Done,
    Failed,
    Finish,
    Op,
    Result,
    Task,
    bytes_of,
    rows_of,
)
from ringback.store.worker import Answer, CommitStats, Worker

T = TypeVar("T")


class _Hand:
    """Somebody who asked for something by hand, and whether he still waits for it."""

    __slots__ = ("waits",)

    def __init__(self) -> None:
        self.waits = True


# A variable of the context rather than an argument through all the services between a call and its write. Tasks begun
# meanwhile have it too: that the asker waits no more makes them patient.
_HAND: ContextVar[_Hand | None] = ContextVar("ringback.store.writer.hand", default=None)


class Writer:
    """``submit``, ``run``, ``start``, ``stop`` and the attributes belong to the loop's thread."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        on_fatal: Callable[[str], None],
        on_trouble: Callable[[str, str], None] | None = None,
        on_commit: Callable[[CommitStats], None] | None = None,
    ) -> None:
        """All callbacks are called in the loop. ``on_trouble(name, message)``: a constant dotted name for the log."""
        self._callbacks = (on_fatal, on_trouble, on_commit)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[None] | None = None
        self._inbox = Inbox()
        self._closed = False
        self.backlog_rows = 0  #: gathered and not yet answered
        self.backlog_bytes = 0  #: the same, in bytes
        self.fatal: str | None = None  #: why nothing is written any more
        self._worker = Worker(self, database, clock, self._inbox)

    @property
    def commit_started(self) -> float | None:
        """Monotonic seconds when the commit that runs began, None between commits: for the watchdog."""
        return self._worker.commit_started

    @property
    def full(self) -> bool:
        """Whether events are refused because the disk is full or the database may not grow."""
        return self.full_because is not None

    @property
    def full_because(self) -> str | None:
        """Why events are refused, in words; None while they are taken."""
        return DISK_FULL if self._worker.full else self._worker.shut

    @property
    def stuck(self) -> bool:
        """Whether whatever is submitted now has to wait: the disk is full, and there is no ballast or it is used up."""
        return self._worker.stuck

    def shut(self, because: str) -> None:
        """Refuse events from here on, with these words; everything else is still written. Said once."""
        if self._worker.shut is None:
            self.trouble("store.full", because)
        self._worker.shut = because

    def reopen(self) -> None:
        """Take events again, unless the disk is full."""
        if self._worker.shut is not None:
            self._worker.shut = None
            if not self._worker.full:  # else the worker says so when the disk has room
                self.trouble("store.recovered", "events are taken again")

    async def start(self) -> None:
        """Begin to write."""
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        threading.Thread(target=self._worker.main, name="ringback-writer", daemon=True).start()

    async def stop(self) -> None:
        """Commit everything gathered, empty the log, close the connection. Later operations are refused."""
        if not self._closed:
            self._closed = True
            self._inbox.close()
        if self._ended is not None:
            await asyncio.shield(self._ended)

    @contextlib.contextmanager
    def by_hand(self) -> Iterator[None]:
        """What is ``run`` in here doesn't wait for room: ``StoreError``, ``storage_full``, and it isn't done later."""
        hand = _Hand()
        token = _HAND.set(hand)
        try:
            yield
        finally:
            hand.waits = False
            _HAND.reset(token)

    def submit(self, op: Op, done: Done, *, patient: bool = True) -> None:
        """Queue an operation; ``done(result)`` is called once, in the loop. Callers keep the backlog bounded.

        ``patient``: on a full disk it waits for room, unless it is an event.
        """
        if self._closed or self._loop is None:
            asyncio.get_running_loop().call_soon(done, Failed(SHUTTING_DOWN, "the writer has stopped"))
            return
        entry = Entry(op, done, rows_of(op), bytes_of(op), patient)
        self.backlog_rows += entry.rows
        self.backlog_bytes += entry.size
        self._inbox.put(entry, background=isinstance(op, Task) and op.background)

    @overload
    async def run(self, op: AcceptEvent) -> Accepted | Conflict: ...
    @overload
    async def run(self, op: Finish) -> bool: ...
    @overload
    async def run(self, op: Task[T], heard: Callable[[T], None] | None = None) -> T: ...
    async def run(self, op: AcceptEvent | Finish | Task[Any], heard: Callable[[Any], None] | None = None) -> Any:
        """Queue an operation and wait for its answer. Cancelling the wait never cancels the write.

        ``heard(answer)`` is called if it didn't fail, also when nobody waits any more, and before anybody hears of what
        was submitted later: for what memory keeps of the table, which must change in the order of the commits. Who
        waits goes on some turns of the loop after that.

        Raises:
            StoreError: it failed; the code is that of ``Failed``.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def done(result: Result) -> None:
            try:
                if heard is not None and not isinstance(result, Failed):
                    heard(result)
            finally:
                if not answer.done():
                    answer.set_result(result)

        hand = _HAND.get()
        self.submit(op, done, patient=hand is None or not hand.waits)
        result = await answer
        if isinstance(result, Failed):
            raise StoreError(result.code, result.message)
        return result

    # What the worker's thread hands to the loop.

    def post(self, function: Callable[..., None], *args: Any) -> None:
        """From the worker's thread: call this in the loop."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody is left to hear it
            self._loop.call_soon_threadsafe(function, *args)

    def deliver(self, answers: Sequence[Answer], stats: CommitStats) -> None:
        """In the loop: hand out the answers of one commit."""
        for done, result, rows, size in answers:
            self.backlog_rows -= rows
            self.backlog_bytes -= size
            try:
                done(result)
            except Exception as error:  # noqa: BLE001 - one listener's bug must not cost the others their answers
                self._report({"message": "a listener of the writer failed", "exception": error})
        if self._callbacks[2] is not None and stats.rows:
            self._callbacks[2](stats)

    def _report(self, context: dict[str, Any]) -> None:
        assert self._loop is not None
        self._loop.call_exception_handler(context)

    def die(self, reason: str) -> None:
        """In the loop: nothing can be written any more; said once."""
        if self.fatal is None:
            self.fatal = reason
            self._callbacks[0](reason)

    def trouble(self, name: str, message: str) -> None:
        """In the loop: something the operator should read."""
        if self._callbacks[1] is not None:
            self._callbacks[1](name, message)

    def ended(self) -> None:
        """In the loop: the worker's thread has nothing left to do."""
        assert self._ended is not None
        if not self._ended.done():
            self._ended.set_result(None)
