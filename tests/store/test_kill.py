"""Kill -9: a process that writes is killed in the middle; what it said was stored is stored."""

import os
import signal
import subprocess
import sys
import time

import pytest
from tests.store.kit import check_invariants, opened, rows

WRITER = """
import asyncio, hashlib, sys
from pathlib import Path
from ringback.core.lifecycle import retry_at, succeeded
from ringback.core.model import AttemptRecord, Event
from ringback.kit.clock import SystemClock
from ringback.store.database import open_state
from ringback.store.ops import AcceptEvent, Finish
from ringback.store.writer import Writer

async def main(directory, prefix):
    database = open_state(Path(directory), 1)
    writer = Writer(database, SystemClock(), on_fatal=print)
    await writer.start()
    record = AttemptRecord(1, 2, "delivered", 200, None, b"info")
    async def producer(worker):
        for number in range(10**9):
            data = b'{"n":%d}' % number
            name = f"{prefix}-{worker}-{number}"
            event = Event(name, "acme", "a.b", data, 1, hashlib.sha256(data).digest())
            answer = await writer.run(AcceptEvent(event, (1, 2, 3), 1))
            sys.stdout.write(name + "\\n")
            sys.stdout.flush()
            await writer.run(Finish(1, answer.seq, succeeded(), record))
            await writer.run(Finish(2, answer.seq, retry_at(5), record))
    await asyncio.gather(*[producer(worker) for worker in range(20)])

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


def _life(directory, prefix: str, seconds: float) -> list[str]:
    """Write until killed; the names that were acknowledged."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(directory), prefix], stdout=subprocess.PIPE)
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    said = first + process.stdout.read()
    process.wait()
    process.stdout.close()
    return [line.decode() for line in said.split(b"\n")[:-1]]


@pytest.mark.parametrize("kills", [4, pytest.param(40, marks=pytest.mark.long)])
async def test_every_acknowledged_event_survives_a_kill(tmp_path, kills):
    """Over several lives on one directory: each name that was printed is in the table, with all its deliveries."""
    acknowledged: list[str] = []
    for life in range(kills):
        acknowledged += _life(tmp_path / "s", f"life{life}", 0.02 + 0.07 * (life % 5))
    async with opened(tmp_path / "s") as store:
        assert store.database.lost_events == 0
        stored = dict(
            rows(
                store.database.path,
                "SELECT e.id, count(d.event) FROM event e JOIN delivery d ON d.event = e.seq GROUP BY 1",
            )
        )
        check_invariants(store.database.path)
    assert len(acknowledged) > kills
    assert {name: stored.get(name) for name in acknowledged} == dict.fromkeys(acknowledged, 3)
