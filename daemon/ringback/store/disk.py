"""How much room the state takes and has.

Rules: the database's files are stat'ed only, never opened.
"""

import os
from pathlib import Path
from typing import NamedTuple

from ringback.store.database import DATABASE_NAME


class Disk(NamedTuple):
    """Bytes: the database, its log, what is free to us on its file system.

    ``budget_bytes``: what the database may use (0: as much as there is room). ``used_bytes``: what counts against that,
    as of the last look; None without a budget.
    """

    database_bytes: int
    log_bytes: int
    free_bytes: int
    used_bytes: int | None = None
    budget_bytes: int = 0


def usage(directory: Path) -> Disk:
    """Look now; a file that isn't there takes nothing."""
    room = os.statvfs(directory)
    database = directory / DATABASE_NAME
    return Disk(_size(database), _size(database.with_name(DATABASE_NAME + "-wal")), room.f_bavail * room.f_frsize)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
