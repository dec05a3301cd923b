"""One batch, one transaction: the synchronous heart of the writer.

Role: ``commit(ops)`` runs a batch on the writer's connection and says what became of each operation.
Rules: one transaction a batch; operations keep their order (between two tasks, events and results commute, so they are
grouped). If the batch fails for another reason than storage it is halved until only the guilty operation fails. What
couldn't be written but must not be lost is answered ``KEPT``: the caller tries it again. After a fatal error nothing is
written any more.
Must not know: threads, the loop, time.
"""

import sqlite3
from collections.abc import Callable, Sequence

from ringback.store.faults import Consequence, describe, is_write_error, judge
from ringback.store.intake import Numbers, accept
from ringback.store.keys import keys_of
from ringback.store.ops import (
    DISK_FULL,
    INTERNAL_ERROR,
    STORAGE_FULL,
    UNKNOWN_OUTCOME,
    AcceptEvent,
    Failed,
    Finish,
    Op,
    Result,
)
from ringback.store.results import finish


class Kept:
    """The answer for an operation that waits for a better moment."""


KEPT = Kept()


class Engine:
    """The writer's connection and what it remembers between batches. Used by one thread at a time."""

    def __init__(self, db: sqlite3.Connection, high_seq: int, no_room: Callable[[], bool] = lambda: False) -> None:
        """``no_room``: asks the kernel whether a write failed for a quota."""
        self._db = db
        self._no_room = no_room
        self._keys = keys_of(db)
        self._numbers = Numbers(high_seq)
        self.broken: str | None = None  #: why nothing can be written any more
        self.full: str | None = None  #: the last batch met a full disk
        self.busy: str | None = None  #: the last batch met another writer

    @property
    def high_seq(self) -> int:
        """The highest event number ever committed."""
        return self._numbers.high_seq

    def commit(self, ops: Sequence[Op]) -> list[Result]:
        """Write the batch; one answer for each operation, in order: its result, ``Failed`` or ``KEPT``."""
        self.full = self.busy = None
        return self._commit(ops)

    def _commit(self, ops: Sequence[Op]) -> list[Result]:
        if self.broken is not None:
            return self._fail(ops, UNKNOWN_OUTCOME, self.broken)
        at_commit = False
        try:
            self._db.execute("BEGIN IMMEDIATE")
            results = self._apply(ops)
            at_commit = True
            self._db.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is judged, answered and never swallowed
            return self._recover(ops, error, at_commit=at_commit)
        self._numbers.committed()
        self._keys.committed()
        return results

    def _apply(self, ops: Sequence[Op]) -> list[Result]:
        """Run the operations inside the open transaction."""
        results: list[Result] = [None] * len(ops)
        accepts: list[int] = []
        finishes: list[int] = []
        for index, op in enumerate(ops):
            if isinstance(op, AcceptEvent):
                accepts.append(index)
            elif isinstance(op, Finish):
                finishes.append(index)
            else:
                self._hot(ops, results, accepts, finishes)
                accepts, finishes = [], []
                results[index] = op.run(self._db)
        self._hot(ops, results, accepts, finishes)
        return results

    def _hot(self, ops: Sequence[Op], results: list[Result], accepts: list[int], finishes: list[int]) -> None:
        if accepts:
            events = [op for i in accepts if isinstance(op := ops[i], AcceptEvent)]
            for i, answer in zip(accepts, accept(self._db, self._numbers, events), strict=True):
                results[i] = answer
        if finishes:
            ends = [op for i in finishes if isinstance(op := ops[i], Finish)]
            for i, applied in zip(finishes, finish(self._db, ends), strict=True):
                results[i] = applied

    def _recover(self, ops: Sequence[Op], error: Exception, *, at_commit: bool) -> list[Result]:
        still_open = self._db.in_transaction
        self._numbers.rolled_back()
        self._keys.rolled_back()
        self._rollback()
        no_room = is_write_error(error) and self._no_room()
        consequence = judge(error, at_commit=at_commit, still_open=still_open, no_room=no_room)
        words = describe(error)
        if consequence is Consequence.FATAL or self.broken is not None:
            self.broken = self.broken or words
            return self._fail(ops, UNKNOWN_OUTCOME, words)
        if consequence is Consequence.FULL:
            self.full = f"{words}: a quota is used up" if no_room else words
            return [Failed(STORAGE_FULL, DISK_FULL) if isinstance(op, AcceptEvent) else KEPT for op in ops]
        if consequence is Consequence.BUSY:
            self.busy = words
            return [KEPT] * len(ops)
        if len(ops) == 1:
            return self._fail(ops, INTERNAL_ERROR, words)
        middle = len(ops) // 2
        return self._commit(ops[:middle]) + self._commit(ops[middle:])

    def _rollback(self) -> None:
        if not self._db.in_transaction:
            return
        try:
            self._db.execute("ROLLBACK")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self.broken = f"ROLLBACK failed: {describe(error)}"

    @staticmethod
    def _fail(ops: Sequence[Op], code: str, message: str) -> list[Result]:
        return [Failed(code, message)] * len(ops)
