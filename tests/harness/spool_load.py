"""A producer that leaves files in a spool, as docs/producers.md says, and remembers which are its no longer.

A file counts from the moment its directory is synced: from then on its event may not be lost, nor doubled.
"""

import contextlib
import hashlib
import json
import os
import threading
import time
from pathlib import Path


def event_line(key: str, *, given: bool) -> tuple[bytes, str]:
    """An event's line and the SHA-256 of its data; with an id of its own or without."""
    data = {"key": key, "pad": os.urandom(100).hex()}
    event = {"type": "stt.jobs.completed", "data": data} | ({"id": key} if given else {})
    raw = json.dumps(data, separators=(",", ":")).encode()
    return json.dumps(event, separators=(",", ":")).encode() + b"\n", hashlib.sha256(raw).hexdigest()


def leave(spool: Path, name: str, content: bytes) -> None:
    """Write into tmp/, sync, rename into new/, sync: after that the daemon answers for it."""
    path = spool / "tmp" / name
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    path.rename(spool / "new" / name)
    folder = os.open(spool / "new", os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class SpoolLoad(threading.Thread):
    """Leaves files at a steady rate; every other one of several lines, every other event with an id of its own."""

    def __init__(self, spool: Path, name: str, rate_per_s: float) -> None:
        super().__init__(daemon=True)
        #: SHA-256 of the data of each event left for good, and of those whose sync returned once ``cutting`` was set.
        self.left: set[str] = set()
        self.late: set[str] = set()
        self.cutting = False
        self._spool, self._name, self._rate = spool, name, rate_per_s
        self._stopping = threading.Event()

    def run(self) -> None:
        start = time.monotonic()
        number = 0
        with contextlib.suppress(OSError):
            while not self._stopping.is_set():
                lines = [
                    event_line(f"{self._name}-{number}-{n}", given=bool(number % 4 < 2))
                    for n in range(5 if number % 2 else 1)
                ]
                leave(self._spool, f"{self._name}-{number}.ndjson", b"".join(line for line, _ in lines))
                (self.late if self.cutting else self.left).update(digest for _, digest in lines)
                number += 1
                self._stopping.wait(max(0.0, start + number / self._rate - time.monotonic()))

    def stop(self) -> None:
        """Leave no more."""
        self._stopping.set()
        self.join(30)
