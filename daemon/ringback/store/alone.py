"""Changing the state while no daemon runs: one task in one transaction, under the directory's lock.

Rules: as for the daemon: one owner, migrations first, fsynced before it answers. It never makes the files of somebody
else's directory its own: a root's WAL file would keep the daemon's account out.
Must not know: what the task does.
"""

import os
from pathlib import Path
from typing import TypeVar

from ringback.store.database import open_state
from ringback.store.errors import StateUnusable
from ringback.store.ops import Task

T = TypeVar("T")


def run_alone(directory: Path, task: Task[T], now_ms: int) -> T:
    """Take the lock, run the task, give the lock back.

    Raises:
        StateLocked: a daemon owns the directory.
        StateError: it can't be used; the message says why.
    """
    if directory.exists() and (owner := directory.stat().st_uid) != os.geteuid():
        raise StateUnusable(f"{directory} belongs to uid {owner}: run this command as that user")
    database = open_state(directory, now_ms)
    try:
        database.unlock_without_master(lambda: now_ms)
        db = database.writer
        db.execute("BEGIN IMMEDIATE")
        try:
            answer = task.run(db)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return answer
    finally:
        database.close()
