"""The yardstick: signed POSTs by the daemon's own HTTP client in a bare loop, no socket, no store, no schedule.

``python -m tests.bench.bare --url URL --count N [--concurrency C]`` prints POSTs a second. Every throughput of the
benchmark is shown as a ratio to this, measured in the same run against the same receiver.
"""

import argparse
import asyncio
import hashlib
import time

import uvloop
from tests.harness.receiver_client import SECRET

from ringback.core.model import Event, Request
from ringback.dialects import standard
from ringback.kit.clock import SystemClock
from ringback.transports.http import HttpSender

BODY_BYTES = 1024


async def post(sender: HttpSender, url: str, numbers: "list[int]", data: bytes) -> None:
    """Make requests until the numbers are used up."""
    while numbers:
        key = f"bare-{numbers.pop()}"
        now_ms = time.time_ns() // 1_000_000
        event = Event(key, "default", "stt.jobs.completed", data, now_ms, hashlib.sha256(data).digest())
        body = standard.encode(event)
        headers = standard.headers(event, body, (SECRET,), now_ms)
        outcome = await sender.send(Request("POST", url, headers, body), 30)
        assert outcome.status == 200, outcome


async def run(url: str, count: int, concurrency: int) -> float:
    """POSTs a second."""
    sender = HttpSender(clock=SystemClock(), judge_address=lambda _address, _scheme: None)
    await sender.start()
    data = b'{"job_id":"8c35","text":"%b"}' % (b"x" * (BODY_BYTES - 30))
    await post(sender, url, list(range(100)), data)
    numbers = list(range(count))
    start = time.perf_counter()
    await asyncio.gather(*(post(sender, url, numbers, data) for _ in range(concurrency)))
    took = time.perf_counter() - start
    await sender.stop()
    return count / took


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser(description="a bare loop of signed POSTs")
    parser.add_argument("--url", required=True)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=64)
    given = parser.parse_args()
    print(uvloop.run(run(given.url, given.count, given.concurrency)))


if __name__ == "__main__":
    main()
