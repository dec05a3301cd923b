"""Commit times while the event loop is saturated: the writer's thread has to get the interpreter's lock from it.

``python -m tests.bench.commit [--seconds S] [--idle] [--sealed]`` prints JSON. An idle loop hides what this shows:
with the default switch interval one transaction took seconds (docs/adr).
"""

import argparse
import asyncio
import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from tests.harness.producer import quantile

from ringback.core.lifecycle import succeeded
from ringback.core.model import AttemptRecord, Endpoint, Event
from ringback.kit.clock import SystemClock
from ringback.runtime import SWITCH_INTERVAL_S
from ringback.store import endpoints
from ringback.store.database import open_state
from ringback.store.keyring import Masters
from ringback.store.ops import Accepted, AcceptEvent, Finish
from ringback.store.worker import CommitStats
from ringback.store.writer import Writer

#: Deliveries on their way through the writer at once.
WINDOW = 512
DATA = b'{"text":"%b"}' % (b"x" * 1000)
INFO = b"i" * 150


class Pump:
    """Keeps the writer busy: each event accepted is finished, each finished one makes room for another."""

    def __init__(self, writer: Writer, lane: int) -> None:
        self.writer, self.lane = writer, lane
        self.finished = 0
        self.number = 0
        self.running = True

    def accept(self) -> None:
        """Accept one more event."""
        if not self.running:
            return
        self.number += 1
        now_ms = time.time_ns() // 1_000_000
        digest = hashlib.sha256(DATA).digest()
        event = Event(f"e{self.number}", "default", "t", DATA, now_ms, digest, id_given=True)
        self.writer.submit(AcceptEvent(event, (self.lane,), now_ms), self._accepted)

    def _accepted(self, result: object) -> None:
        if not self.running:
            return
        assert isinstance(result, Accepted), result
        record = AttemptRecord(time.time_ns() // 1_000_000, 3, "delivered", 200, info=INFO)
        self.writer.submit(Finish(self.lane, result.seq, succeeded(), record), self._finished)

    def _finished(self, result: object) -> None:
        if not self.running:
            return
        assert result is True, result
        self.finished += 1
        self.accept()


async def saturate(until: float) -> None:
    """Leave the loop no idle moment."""
    while time.perf_counter() < until:
        for _ in range(50):
            hashlib.sha256(b"x").hexdigest()
        await asyncio.sleep(0)


async def run(folder: Path, seconds: float, *, idle: bool, sealed: bool) -> dict[str, float]:
    """Commit times in milliseconds, deliveries a second."""
    commits: list[CommitStats] = []
    fatal: list[str] = []
    database = open_state(folder / "state", time.time_ns() // 1_000_000)
    if sealed:
        database.unlock(Masters(os.urandom(32)), SystemClock().now_ms)
    writer = Writer(database, SystemClock(), on_fatal=fatal.append, on_commit=commits.append)
    await writer.start()
    made = await writer.run(endpoints.insert(Endpoint(0, "x", "default", "http://127.0.0.1/", "standard", 0, 0)))
    pump = Pump(writer, made.lane)
    start = time.perf_counter()
    for _ in range(WINDOW):
        pump.accept()
    await (asyncio.sleep(seconds) if idle else saturate(start + seconds))
    took = time.perf_counter() - start
    done, pump.running = pump.finished, False
    await writer.stop()
    database.close()
    assert not fatal
    times = sorted(commit.seconds * 1000 for commit in commits)
    rows = sum(commit.rows for commit in commits) / len(commits)
    return {
        "p50_ms": quantile(times, 0.5),
        "p99_ms": quantile(times, 0.99),
        "rows": rows,
        "deliveries_per_s": done / took,
    }


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser(description="commit times under a busy loop")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--idle", action="store_true")
    parser.add_argument("--sealed", action="store_true", help="with encryption at rest")
    given = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        print(json.dumps(uvloop.run(run(Path(folder), given.seconds, idle=given.idle, sealed=given.sealed))))


if __name__ == "__main__":
    main()
