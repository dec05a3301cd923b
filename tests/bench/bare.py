"""The yardstick: signed POSTs by the daemon's own HTTP client in a bare loop, no socket, no store, no schedule.

``python -m tests.bench.bare --url URL --count N [--concurrency C]`` prints POSTs a second. Every throughput of the
benchmark is shown as a ratio to this, measured in the same run against the same receiver.
"""

import argparse
import asyncio
import base64
import hmac
import time

import uvloop
from tests.harness.receiver_client import SECRET

from ringback.core.model import Request
from ringback.kit.clock import SystemClock
from ringback.transports.http import HttpSender

BODY_BYTES = 1000
KEY = base64.b64decode(SECRET.removeprefix("whsec_"))


def signed(key: str, body: bytes) -> tuple[tuple[str, str], ...]:
    """The headers that a delivery has."""
    now = int(time.time())
    signature = base64.b64encode(hmac.digest(KEY, b"%b.%d.%b" % (key.encode(), now, body), "sha256")).decode()
    return (
        ("content-type", "application/json"),
        ("user-agent", "bare"),
        ("webhook-id", key),
        ("webhook-timestamp", str(now)),
        ("webhook-signature", f"v1,{signature}"),
    )


async def post(sender: HttpSender, url: str, numbers: "list[int]", body: bytes) -> None:
    """Make requests until the numbers are used up."""
    while numbers:
        key = f"bare-{numbers.pop()}"
        outcome = await sender.send(Request("POST", url, signed(key, body), body), 30)
        assert outcome.status == 200, outcome


async def run(url: str, count: int, concurrency: int) -> float:
    """POSTs a second."""
    sender = HttpSender(clock=SystemClock(), judge_address=lambda _address, _scheme: None)
    await sender.start()
    body = b'{"type":"bare","timestamp":"2026-11-21T00:00:00.000Z","data":{"text":"%b"}}' % (b"x" * BODY_BYTES)
    await post(sender, url, list(range(100)), body)
    numbers = list(range(count))
    start = time.perf_counter()
    await asyncio.gather(*(post(sender, url, numbers, body) for _ in range(concurrency)))
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
