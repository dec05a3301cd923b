"""The producer library against the running daemon, killed and started again in mid-stream."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import ROOT
from tests.harness.waiting import wait_until

from ringback import AsyncProducer, Producer, Rejected

pytestmark = pytest.mark.whole

KILLS, KILLS_LONG = 4, 40
#: Events with an id of their own that each stream gets through between two kills: a few windows, and one is cut off.
LIFE_EVENTS = 300

#: Streams until the file named stop exists; prints every id that was acknowledged. Every other event has its own id.
STREAM = """
import asyncio, json, os, sys
from ringback import AsyncProducer, Producer
kind, path, stop = sys.argv[1:]
def events():
    n = 0
    while not os.path.exists(stop):
        yield {"type": "a.b", "data": {"kind": kind, "n": n}} | ({"id": f"{kind}-{n}"} if n % 2 else {})
        n += 1
async def asynchronous():
    async with AsyncProducer(path, window=64) as producer:
        return [ack.id async for ack in producer.stream(events())]
def blocking():
    with Producer(path, window=64) as producer:
        return [ack.id for ack in producer.stream(events())]
print(json.dumps(blocking() if kind == "blocking" else asyncio.run(asynchronous())))
"""


def stored(daemon: Daemon, kind: str) -> int:
    """How many events of one stream are in the table, of those that have an id of their own."""
    ((count,),) = daemon.sql("SELECT count(*) FROM event WHERE id GLOB ?", f"{kind}-*")
    return count


def test_producers_notice_no_kill(daemon: Daemon, tmp_path: Path, long: bool) -> None:
    """Streams over kill -9 and restarts: nothing raised, every event acknowledged and stored, and stored once."""
    stop = tmp_path / "stop"
    running = {
        kind: subprocess.Popen(
            [sys.executable, "-c", STREAM, kind, str(daemon.events_path), str(stop)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for kind in ("blocking", "asyncio")
    }
    try:
        for _ in range(KILLS_LONG if long else KILLS):
            daemon.start()
            known = {kind: stored(daemon, kind) for kind in running}
            for kind, before in known.items():
                wait_until(lambda k=kind, b=before: stored(daemon, k) >= b + LIFE_EVENTS, 120, daemon.tail)
            daemon.kill()
        stop.touch()
        daemon.start()
        acked = {kind: json.loads(process.communicate(timeout=120)[0]) for kind, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
            process.communicate()
    rows = daemon.sql("SELECT e.id, p.data FROM event e JOIN payload p ON p.event = e.seq")
    assert all(len(keys) > 64 for keys in acked.values()), "too few events to prove anything"
    assert sorted(key for key, _ in rows) == sorted(key for keys in acked.values() for key in keys)
    assert len({data for _, data in rows}) == len(rows)


async def test_both_speak_to_the_daemon(daemon: Daemon) -> None:
    """Acknowledgements, duplicates and refusals are what the daemon says."""
    daemon.start()
    with Producer(str(daemon.events_path)) as producer:
        ack = producer.send("stt.jobs.completed", {"job_id": "ü"}, tenant="acme", id="one")
        assert (ack.id, ack.deliveries, ack.duplicate) == ("one", 0, False)
    async with AsyncProducer(str(daemon.events_path)) as other:
        assert (await other.send("stt.jobs.completed", {"job_id": "ü"}, tenant="acme", id="one")).duplicate
        with pytest.raises(Rejected) as caught:
            await other.send("stt.jobs.completed", {"job_id": "else"}, tenant="acme", id="one")
        assert (caught.value.code, caught.value.field) == ("conflict", "id")
        outcomes = await other.send_many([{"type": "a", "data": {}}, {"type": "no blanks", "data": {}}])
        assert [getattr(outcome, "code", "ok") for outcome in outcomes] == ["ok", "invalid_event"]
