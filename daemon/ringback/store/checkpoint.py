"""Checkpoints: moving the log's pages into the database, off the writer's way.

Role: a thread with a connection of its own that runs PASSIVE checkpoints, and the writer's last mile.
Rules: PASSIVE never waits for anybody, but under constant writing it never reaches the log's end, so the log would
grow for ever: once it is longer than ``WAL_LIMIT_BYTES`` the writer itself copies the rest between two transactions and
the log starts anew. The marker is refreshed here, because here the writer doesn't wait for it.
Must not know: what is in the tables.
"""

import sqlite3
import threading
from collections.abc import Callable

from ringback.store.database import BUSY_TIMEOUT_MS, Database
from ringback.store.faults import Consequence, describe, judge

#: The log grows by about this much between two checkpoints.
CHECKPOINT_BYTES = 4 * 1024 * 1024

#: A longer log is cut by the writer. A reader that pins the log can make it longer still, for as long as it may run.
WAL_LIMIT_BYTES = 64 * 1024 * 1024

#: How long the writer waits for readers when it cuts the log.
LAST_MILE_WAIT_MS = 100


class Checkpointer:
    """``kick`` and ``last_mile`` belong to the writer's thread; the rest happens on a thread of its own."""

    def __init__(
        self, database: Database, on_fatal: Callable[[str], None], on_trouble: Callable[[str, str], None]
    ) -> None:
        """Both are called from whichever thread met the problem: ``on_trouble(name, message)`` for the log."""
        self._database = database
        self._on_fatal = on_fatal
        self._on_trouble = on_trouble
        self._high_seq = 0
        self._marked = database.marked_seq
        self._wake = threading.Event()
        self._stopping = False
        self._turn = threading.Lock()  # one checkpoint at a time
        self._page_bytes = database.writer.execute("PRAGMA page_size").fetchone()[0]
        self._thread = threading.Thread(target=self._main, name="ringback-checkpoint", daemon=True)
        self.wal_bytes = 0  #: the log's length at the latest checkpoint
        self._marking = threading.Lock()
        self._said: set[str] = set()  # troubles that last are said once

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End; waits for the checkpoint that runs."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def kick(self, high_seq: int) -> None:
        """The log has grown; ``high_seq`` is what the marker may claim."""
        self._high_seq = high_seq
        self._wake.set()

    def last_mile(self, db: sqlite3.Connection) -> bool:
        """Between two transactions: cut the log if it is too long. True if it was cut."""
        if self.wal_bytes < WAL_LIMIT_BYTES or not self._turn.acquire(blocking=False):
            return False
        try:
            db.execute(f"PRAGMA busy_timeout = {LAST_MILE_WAIT_MS}")
            busy = self._run(db, "RESTART")
            db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        finally:
            self._turn.release()
        # Either way the next kick measures anew; trying again at once would only wait again.
        self.wal_bytes = 0
        return not busy

    def finish(self, db: sqlite3.Connection, high_seq: int) -> None:
        """At a clean stop: everything into the database, the log emptied, the marker at its true height."""
        self._run(db, "TRUNCATE")
        self.mark(high_seq)

    def _main(self) -> None:
        db = self._database.connect()
        try:
            while True:
                self._wake.wait()
                if self._stopping:
                    return
                self._wake.clear()
                with self._turn:
                    self._run(db, "PASSIVE")
                self.mark(self._high_seq)
        finally:
            db.close()

    def _run(self, db: sqlite3.Connection, mode: str) -> bool:
        """One checkpoint; True if somebody was in the way."""
        try:
            busy, pages, _ = db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.Error as error:
            self._say("store.checkpoint_failed", describe(error))
            if judge(error, at_commit=False, still_open=True) is Consequence.FATAL:
                self._on_fatal(f"checkpoint: {describe(error)}")
            return True
        self._said.discard("store.checkpoint_failed")
        self.wal_bytes = max(0, pages) * self._page_bytes
        return bool(busy)

    def mark(self, high_seq: int) -> None:
        """Let the marker say how far the database has come."""
        with self._marking:
            if high_seq <= self._marked:
                return
            try:
                self._database.mark(high_seq)
            except OSError as error:
                self._say("store.marker_failed", str(error))
                return
            self._marked = high_seq
            self._said.discard("store.marker_failed")

    def _say(self, name: str, message: str) -> None:
        if name not in self._said:
            self._said.add(name)
            self._on_trouble(name, message)
