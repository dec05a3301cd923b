"""The store alone: ``python -m tests.bench.bench_store [--quick]``. Two noisy cores: ratios count.

Rows: deliveries a second (accept + finish of each) at fan-out 1 and 10, with the loop idle and saturated; the same
sealed, as a ratio to the clear in turns; the latency of a batch of one; a refill from a lane that owes a million; how
long the log gets.
"""

import argparse
import asyncio
import hashlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

import uvloop

from ringback.core.lifecycle import succeeded
from ringback.core.model import AttemptRecord, Event, Peer
from ringback.kit.clock import SystemClock
from ringback.store.checkpoint import WAL_LIMIT_BYTES
from ringback.store.database import open_state
from ringback.store.keyring import Masters
from ringback.store.ops import AcceptEvent, Finish
from ringback.store.queue import Ask, QueueReads
from ringback.store.reader import Reader
from ringback.store.writer import Writer

NOW_MS = 1_800_000_000_000
SEALED = Masters(os.urandom(32))
LANES = 10_000
DATA = b'{"text":"' + os.urandom(507).hex().encode() + b'"}'
DIGEST = hashlib.sha256(DATA).digest()
PEER = Peer("socket", 1000, 1000, 4242)
INFO = os.urandom(200)
RECORD = AttemptRecord(NOW_MS, 5, "delivered", 200, None, INFO)


class Bench:
    """One store in a directory of its own."""

    def __init__(self, masters: Masters | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="rb-bench-"))
        self.database = open_state(self.directory / "state", NOW_MS)
        if masters is not None:
            self.database.unlock(masters, lambda: NOW_MS)
        self.commits: list[float] = []
        self.rows: list[int] = []
        self.wal_max = 0
        self.writer = Writer(self.database, SystemClock(), on_fatal=print, on_trouble=print, on_commit=self._committed)
        self.reader = Reader(self.database)
        self.queue = QueueReads(self.reader)

    def _committed(self, stats) -> None:
        self.commits.append(stats.seconds)
        self.rows.append(stats.rows)
        if len(self.commits) % 16 == 0:
            self.wal_max = max(self.wal_max, self.database.wal_path.stat().st_size)

    async def __aenter__(self) -> Self:
        await self.writer.start()
        await self.reader.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.reader.close()
        await self.writer.stop()
        self.database.close()
        shutil.rmtree(self.directory)

    async def pump(self, events: int, fan_out: int, window: int) -> float:
        """Accept and finish that many events, ``window`` deliveries under way; deliveries a second."""
        finished = asyncio.get_running_loop().create_future()
        total = events * fan_out
        counts = {"sent": 0, "done": 0, "open": 0}
        digest, submit = DIGEST, self.writer.submit

        def one_done(applied: bool) -> None:
            assert applied is True
            counts["done"] += 1
            counts["open"] -= 1
            if counts["done"] == total:
                finished.set_result(None)
            elif counts["open"] <= window - fan_out:
                feed()

        def feed() -> None:
            while counts["sent"] < events and counts["open"] <= window - fan_out:
                number = counts["sent"] = counts["sent"] + 1
                counts["open"] += fan_out
                first = number * 7919
                lanes = tuple(sorted((first + k * 997) % LANES + 1 for k in range(fan_out)))
                event = Event(f"019a{number:032x}", "acme", "stt.jobs.completed", DATA, NOW_MS, digest)

                def accepted(result, lanes=lanes) -> None:
                    for lane in lanes:
                        submit(Finish(lane, result.seq, _SUCCEEDED, RECORD), one_done)

                submit(AcceptEvent(event, lanes, NOW_MS, PEER), accepted)

        began = time.perf_counter()
        feed()
        await finished
        return total / (time.perf_counter() - began)


_SUCCEEDED = succeeded()


async def saturate(stop: asyncio.Event) -> None:
    """Pure Python, all the time, giving way to the loop every few hundred microseconds."""
    x = 0
    while not stop.is_set():
        for i in range(5000):
            x += i * i
        await asyncio.sleep(0)


async def throughput(events: int, fan_out: int, window: int, *, saturated: bool) -> None:
    """Closed loop: a window of deliveries under way."""
    async with Bench() as bench:
        stop = asyncio.Event()
        task = asyncio.ensure_future(saturate(stop)) if saturated else None
        rate = await bench.pump(events, fan_out, window)
        stop.set()
        if task:
            await task
        ms = sorted(1000 * s for s in bench.commits)
        loop = "saturated" if saturated else "idle"
        commit = f"p50 {statistics.median(ms):6.2f} p99 {ms[int(len(ms) * 0.99)]:7.2f} max {ms[-1]:7.2f} ms"
        print(
            f"fan-out {fan_out:3} window {window:5} loop {loop:9} {rate:9.0f} dlv/s   commit {commit}"
            f"   rows/commit {statistics.mean(bench.rows):6.0f}   log max {bench.wal_max / 2**20:5.0f} MiB",
            flush=True,
        )


async def sealed_beside_plain(events: int, fan_out: int) -> None:
    """What encryption costs the store: in turns, so that both see the same machine; processor time is the steadier."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    costs: dict[bool, list[float]] = {False: [], True: []}
    for sealed in (False, True) * 3:
        async with Bench(SEALED if sealed else None) as bench:
            began = time.process_time()
            rates[sealed].append(await bench.pump(events, fan_out, 512 * fan_out))
            costs[sealed].append((time.process_time() - began) / events * 1e6)
    rate, cost = ({kind: statistics.median(of) for kind, of in found.items()} for found in (rates, costs))
    print(
        f"fan-out {fan_out:3} sealed {rate[True]:9.0f} dlv/s, {rate[True] / rate[False]:.2f} of the clear;"
        f" {cost[True]:.0f} µs of processor an event, in the clear {cost[False]:.0f} µs",
        flush=True,
    )


async def single(count: int, masters: Masters | None = None) -> None:
    """One event at a time: what a lone producer waits."""
    async with Bench(masters) as bench:
        times = []
        for number in range(count):
            event = Event(f"e{number}", "acme", "a.b", DATA, NOW_MS, DIGEST)
            began = time.perf_counter()
            accepted = await bench.writer.run(AcceptEvent(event, (1,), NOW_MS))
            times.append(time.perf_counter() - began)
            await bench.writer.run(Finish(1, accepted.seq, _SUCCEEDED, RECORD))
        times.sort()
        p50, p99 = 1000 * statistics.median(times), 1000 * times[int(count * 0.99)]
        print(f"batch of one{', sealed' if masters else ''}: p50 {p50:.2f} p99 {p99:.2f} ms")


async def deep_lane(count: int) -> None:
    """Refills from a lane that owes very much."""
    async with Bench() as bench:
        db = bench.database.connect()
        db.execute("BEGIN")
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO owed SELECT 1, i % 2, CASE i % 2 WHEN 1 THEN ? + i ELSE 0 END, i, 0, 1024, NULL FROM n",
            (count, NOW_MS),
        )
        db.execute("COMMIT")
        db.close()
        times = []
        for turn in range(100):
            began = time.perf_counter()
            (refill,) = await bench.queue.refill([Ask(1, 64, 64)], NOW_MS + turn * 1000)
            times.append(time.perf_counter() - began)
            assert len(refill.items) >= 64
        figures = f"p50 {1000 * statistics.median(times):.2f} max {1000 * max(times):.2f} ms"
        print(f"refill of 64 + 64 from a lane of {count}: {figures}")
        began = time.perf_counter()
        await bench.queue.refill([Ask(1, 64, 64)] * 64, NOW_MS)
        print(f"the same for 64 lanes in one statement: {1000 * (time.perf_counter() - began):.2f} ms")


async def many_lanes() -> None:
    """What a start reads; what attempts load."""
    async with Bench() as bench:
        for number in range(20):
            event = Event(f"e{number}", "acme", "a.b", DATA, NOW_MS, DIGEST)
            await bench.writer.run(AcceptEvent(event, tuple(range(1, LANES + 1)), NOW_MS))
        began = time.perf_counter()
        heads = await bench.queue.heads()
        print(f"heads of {len(heads)} lanes: {1000 * (time.perf_counter() - began):.1f} ms")
        began = time.perf_counter()
        for _ in range(100):
            await bench.queue.load(range(1, 21))
        print(f"load of 20 events of 1 KiB: {10 * (time.perf_counter() - began):.2f} ms")


async def main(*, quick: bool) -> None:
    """The table."""
    scale = 5 if quick else 1
    await single(2000 // scale)
    await single(2000 // scale, SEALED)
    for saturated in (False, True):
        for fan_out, window in ((1, 128), (1, 512), (1, 2048), (10, 1280), (10, 5120)):
            await throughput(50_000 // scale // (fan_out // 2 or 1), fan_out, window, saturated=saturated)
    for fan_out in (1, 10):
        await sealed_beside_plain(20_000 // scale // (fan_out // 2 or 1), fan_out)
    await deep_lane(1_000_000 // scale)
    await many_lanes()
    print(f"(the log is cut at {WAL_LIMIT_BYTES // 2**20} MiB)")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--quick", action="store_true")
    sys.setswitchinterval(0.0001)
    uvloop.run(main(quick=arguments.parse_args().quick))
