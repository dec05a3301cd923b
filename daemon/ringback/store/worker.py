"""The writer's thread: takes batches, commits them, keeps what must not be lost, does the work that waits for quiet.

Role: the loop around ``Engine``: when to commit what, and what follows from a full disk or a broken one.
Rules: owns the writer's connection while it runs; talks to the loop only through ``Loopside``. While the disk is full,
events are tried (so that recovery needs no restart) unless the ballast has been let go: then they are refused until
there is room to lay it down again, and the space it gave serves the results that were kept. What somebody asked for by
hand (``Entry.patient`` is false) is kept no longer than there is hope: with no ballast left it is refused. While
``shut`` holds words, events are refused with them and everything else goes on.
Must not know: what the operations mean; sockets, dispatch.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from ringback.kit.clock import Clock
from ringback.store.checkpoint import CHECKPOINT_BYTES, Checkpointer
from ringback.store.database import Database
from ringback.store.engine import KEPT, Engine
from ringback.store.faults import FULL_BELOW_BYTES, describe
from ringback.store.inbox import MAX_BATCH_ROWS, Entry, Inbox
from ringback.store.lane_history import HISTORY_CHUNK_ROWS, HISTORY_LAG_ROWS, SMALL_CHUNK_ROWS, Indexed, index_history
from ringback.store.ops import (
    DISK_FULL,
    NO_ROOM,
    STORAGE_FULL,
    UNKNOWN_OUTCOME,
    Accepted,
    AcceptEvent,
    Done,
    Failed,
    Result,
)

#: Nothing submitted for this long: time for the work that waits for quiet.
IDLE_S = 0.05

#: Between two tries of what couldn't be written.
RETRY_PAUSE_S = 1.0

#: With this much free a disk isn't full any more, though no event has tried it: room for a large event and its log.
RECOVERED_BYTES = 2 * 1024 * 1024

#: Log written for a row, in bytes, about: paces the checkpoints, which then measure the log's true length.
LOG_BYTES_A_ROW = 1024


class CommitStats(NamedTuple):
    """One batch: rows and bytes as they weigh, and how long it took."""

    rows: int
    size: int
    seconds: float


class Answer(NamedTuple):
    """What one operation's submitter is told, and the weight it leaves behind."""

    done: Done
    result: Result
    rows: int
    size: int


class Loopside(Protocol):
    """What the worker needs of the loop's side. ``post`` is called from the thread, the others through it."""

    def post(self, function: Callable[..., None], *args: Any) -> None:
        """Call the function in the loop."""
        ...

    def deliver(self, answers: Sequence[Answer], stats: CommitStats) -> None:
        """Hand out answers."""
        ...

    def die(self, reason: str) -> None:
        """Nothing can be written any more."""
        ...

    def trouble(self, name: str, message: str) -> None:
        """Something the operator should read."""
        ...

    def ended(self) -> None:
        """The thread has nothing left to do."""
        ...


class Worker:
    """``main`` is the thread. The attributes may be read from anywhere."""

    def __init__(self, loopside: Loopside, database: Database, clock: Clock, inbox: Inbox) -> None:
        self._loopside = loopside
        self._database = database
        self._clock = clock
        self._inbox = inbox
        self._engine = Engine(database.writer, database.high_seq, lambda: database.ballast.denied(FULL_BELOW_BYTES))
        self._checkpointer = Checkpointer(database, self._die, self._say)
        self._kept: deque[Entry] = deque()
        self._retrying = False  # what was kept is in hand, not gone
        self._in_hand: Sequence[Entry] = ()  # taken and not yet answered: to be told should a bug strike
        self._next_retry = 0.0
        self._full_since = 0.0
        # The ballast is gone: events are refused unless there is room.
        self._refusing = self.full = database.ballast.spent_at_start
        self._unindexed = 1  # deliveries the history index lacks; at start nobody knows
        self._log_bytes = 0  # written since the last checkpoint, about
        self._unmarked = False  # the marker is behind
        self._last_rows = 0  # of the latest batch: how busy it is
        self.commit_started: float | None = None
        self.shut: str | None = None  #: set by the loop: why events are refused although the disk has room

    def main(self) -> None:
        """Serve until the inbox is closed and drained."""
        try:
            self._serve()
        except BaseException as error:  # noqa: BLE001 - a bug here must end the process, not hang it
            self._give_up(describe(error))
            while not self._inbox.drained:
                self._refuse(self._inbox.take(None), Failed(UNKNOWN_OUTCOME, describe(error)))
        finally:
            self._loopside.post(self._loopside.ended)

    def _serve(self) -> None:
        self._checkpointer.start()
        try:
            self._database.ballast.hold()
            if self.full:
                self._say("store.full", DISK_FULL)
            while not self._inbox.drained:
                self._step()
            self._answer_kept()
        finally:
            self._checkpointer.stop()
            if self._engine.broken is None:
                self._checkpointer.finish(self._database.writer, self._engine.high_seq)
            self._database.writer.close()

    # One turn.

    def _step(self) -> None:
        entries = self._inbox.take(self._wait_s())
        if entries and (self._in_need or self.shut is not None):
            self._commit_in_need(entries)
        elif entries:
            self._commit(entries)
        if (self._in_need or self.full) and self._clock.monotonic() >= self._next_retry:
            self._retry()
        if self.stuck:
            self._refuse_the_impatient()
        if self._engine.broken is None:
            self._tidy(idle=not entries)

    @property
    def _in_need(self) -> bool:
        """Something waits for a better moment, or the ballast is gone."""
        return bool(self._kept) or self._refusing

    @property
    def stuck(self) -> bool:
        """Nothing can be written now: the disk is full, and there was no ballast to let go, or it is used up."""
        return self.full and (bool(self._kept) or self._retrying or not self._refusing)

    def _wait_s(self) -> float | None:
        if self._in_need or self.full:
            return max(0.0, min(RETRY_PAUSE_S, self._next_retry - self._clock.monotonic()))
        return IDLE_S if self._unindexed or self._unmarked else None

    def _tidy(self, *, idle: bool) -> None:
        """What keeps the house in order, between two batches."""
        if self._unindexed and (idle or self._unindexed > HISTORY_LAG_ROWS):
            self._index()
        if self._log_bytes >= CHECKPOINT_BYTES:
            self._log_bytes = 0
            self._checkpointer.kick(self._engine.high_seq)
        elif idle and self._unmarked:
            self._unmarked = False
            self._checkpointer.mark(self._engine.high_seq)
        self._checkpointer.last_mile(self._database.writer)

    def _index(self) -> None:
        """One chunk: small while little is to do, so that nobody waits long behind it, else large and so cheaper."""
        rows = min(HISTORY_CHUNK_ROWS, max(SMALL_CHUNK_ROWS, 2 * self._last_rows))
        result = self._engine.commit([index_history(rows)])[0]
        if self._engine.broken is not None:
            self._give_up(self._engine.broken)
        elif isinstance(result, Indexed):
            self._log_bytes += result.rows * LOG_BYTES_A_ROW
            self._unindexed = max(1, self._unindexed - result.rows) if result.more else 0
        else:
            self._unindexed = 0  # the next event asks for it again
            if isinstance(result, Failed):
                self._say("store.history_failed", result.message)

    # Committing.

    def _commit(self, entries: Sequence[Entry]) -> None:
        """Commit a batch; answers go out, what must wait joins the kept ones."""
        self._in_hand = entries
        if self._engine.broken is None:  # what is acknowledged must be in the file that the next start opens
            self._engine.broken = self._database.displaced()
        self.commit_started = started = self._clock.monotonic()
        results = self._engine.commit([entry.op for entry in entries])
        seconds = self._clock.monotonic() - started
        self.commit_started = None
        answers, rows, size = [], 0, 0
        for entry, result in zip(entries, results, strict=True):
            if result is KEPT:
                self._kept.append(entry)
                continue
            answers.append(Answer(entry.done, result, entry.rows, entry.size))
            rows += entry.rows
            size += entry.size
            if isinstance(entry.op, AcceptEvent):
                self._unindexed += len(entry.op.lanes)
        self._log_bytes += size + rows * LOG_BYTES_A_ROW
        self._unmarked = True
        self._last_rows = rows
        self._in_hand = ()
        # Before the answers, so that who hears one can see why.
        if self._engine.full is not None:
            self._on_full(self._engine.full)
        elif self.full and any(isinstance(answer.result, Accepted) for answer in answers):
            self._next_retry = 0.0  # there may be room for what was kept, too
            if self._calm:
                self._recovered()
        if answers:
            self._loopside.post(self._loopside.deliver, answers, CommitStats(rows, size, seconds))
        self._after_commit()

    def _after_commit(self) -> None:
        engine = self._engine
        if engine.broken is not None:
            self._give_up(engine.broken)
        elif engine.busy is not None:
            self._pause()
            self._say("store.busy", engine.busy)

    def _on_full(self, words: str) -> None:
        self._pause()
        self._full_since = self._clock.monotonic()
        if not self.full:
            self.full = True
            self._say("store.full", words)
        if self._database.ballast.release():
            self._refusing = True
            self._next_retry = 0.0  # the space just freed is for what was kept
        self._database.ballast.look()

    def _pause(self) -> None:
        self._next_retry = self._clock.monotonic() + RETRY_PAUSE_S

    # While something is kept, the ballast is gone or events are shut out.

    def _commit_in_need(self, entries: Sequence[Entry]) -> None:
        """Events are tried or refused now; everything else waits its turn behind what is kept."""
        if self._kept and self._engine.busy is not None:
            self._kept.extend(entries)
            return
        events = [entry for entry in entries if isinstance(entry.op, AcceptEvent)]
        others = [entry for entry in entries if not isinstance(entry.op, AcceptEvent)]
        if self._kept:
            self._kept.extend(others)
        elif others:
            self._commit(others)
        if events:
            self._try_events(events)

    def _try_events(self, events: Sequence[Entry]) -> None:
        shut = self.shut  # the loop may change it at any time
        if shut is not None:
            self._refuse(events, Failed(STORAGE_FULL, shut))
            return
        if self._refusing and not self._database.ballast.room():
            self._refuse(events, Failed(STORAGE_FULL, DISK_FULL))
            return
        self._commit(events)

    def _retry(self) -> None:
        """Try what was kept, oldest first; with nothing left, see whether the ballast can be laid down again."""
        waited = self._calm
        self._pause()
        self._retrying = bool(self._kept)
        waiting, self._kept = self._kept, deque()
        while waiting and not self._kept:
            batch, rows = [waiting.popleft()], 0
            while waiting and rows + waiting[0].rows <= MAX_BATCH_ROWS:
                rows += waiting[0].rows
                batch.append(waiting.popleft())
            self._commit(batch)
        self._kept.extend(waiting)
        self._retrying = False
        if self.full and waited and not self._kept and self._has_room():
            self._recovered()

    @property
    def _calm(self) -> bool:
        """For a while nothing was too large: small events that still fit in between are no recovery."""
        return self._clock.monotonic() >= self._full_since + RETRY_PAUSE_S

    def _has_room(self) -> bool:
        ballast = self._database.ballast
        ballast.look()
        if self._refusing:
            return ballast.room()
        return ballast.free_bytes() >= RECOVERED_BYTES and not ballast.denied(RECOVERED_BYTES)

    def _recovered(self) -> None:
        """There is room: events are taken again."""
        if self._refusing:
            self._refusing = not self._database.ballast.hold()
        if self.full and not self._refusing:
            self.full = False
            self._say("store.recovered", self.shut or "events are taken again")

    def _refuse(self, entries: Iterable[Entry], failed: Failed) -> None:
        answers = [Answer(entry.done, failed, entry.rows, entry.size) for entry in entries]
        if answers:
            self._loopside.post(self._loopside.deliver, answers, CommitStats(0, 0, 0.0))

    def _refuse_the_impatient(self) -> None:
        impatient = [entry for entry in self._kept if not entry.patient]
        if impatient:
            self._kept = deque(entry for entry in self._kept if entry.patient)
            self._refuse(impatient, Failed(STORAGE_FULL, NO_ROOM))

    # The end.

    def _answer_kept(self) -> None:
        """The last try of what was kept; after it everything is committed or answered."""
        if self._kept:
            self._retry()
        self._refuse(self._kept, Failed(STORAGE_FULL, "the disk is full and the writer stops"))
        self._kept.clear()

    def _give_up(self, reason: str) -> None:
        """Nothing can be written any more: whoever waits is told, now and later."""
        failed = Failed(UNKNOWN_OUTCOME, reason)
        self._refuse(self._kept, failed)
        self._refuse(self._in_hand, failed)
        self._kept.clear()
        self._in_hand = ()
        self._die(reason)

    def _say(self, name: str, message: str) -> None:
        self._loopside.post(self._loopside.trouble, name, message)

    def _die(self, reason: str) -> None:
        self._engine.broken = self._engine.broken or reason
        self._loopside.post(self._loopside.die, reason)
