"""A producer: a blocking connection for tests, and a paced, pipelining load process for the benchmarks.

``python -m tests.harness.producer --socket PATH --count N [--rate R] [--window W] …`` sends N events and prints a JSON
summary; ``--log FILE`` writes each event's id, when it was sent and when its answer came (nanoseconds, wall clock).
"""

import argparse
import asyncio
import json
import random
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import orjson
import uvloop
from tests.harness.unix_http import connect_unix

ANSWER_TIMEOUT_S = 60
#: Lines on their way at once unless told otherwise: below the daemon's own limit on unanswered lines.
WINDOW = 512
PACE_S = 0.002


def line_of(event: dict[str, Any]) -> bytes:
    """An event as its line."""
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


class Producer:
    """One blocking connection to the events socket; a context manager."""

    def __init__(self, path: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self.socket = connect_unix(path, timeout_s)
        self._answers = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._answers.close()
        self.socket.close()

    def write(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.socket.sendall(data)

    def answer(self) -> dict[str, Any]:
        """The next answer; ConnectionError if there is none any more."""
        line = self._answers.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the daemon closed the connection")
        return json.loads(line)

    def ask(self, event: dict[str, Any]) -> dict[str, Any]:
        """Send one event and wait for its answer."""
        self.write(line_of(event))
        return self.answer()

    def pipeline(self, events: Iterable[dict[str, Any]], window: int = WINDOW) -> Iterator[dict[str, Any]]:
        """Send events with at most ``window`` unanswered; yields the answers, in order."""
        waiting = 0
        for event in events:
            if waiting == window:
                yield self.answer()
                waiting -= 1
            self.write(line_of(event))
            waiting += 1
        for _ in range(waiting):
            yield self.answer()


class Load(asyncio.Protocol):
    """Sends ``count`` events: as fast as answers come within the window, or paced at ``rate`` a second.

    Paced is an open loop: an event's time is when it was due, whether or not the connection took it then.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        self.count, self.rate, self.window = given.count, given.rate, given.window
        self.head, self.tail = template(given.tenant, given.bytes).split(b"@")
        self.type, self.spread = given.type.encode(), given.spread
        self.random_ids, self.prefix = given.random_ids, given.prefix
        self.ids: list[str] = []
        self.sent_ns: list[int] = []
        self.acked_ns: list[int] = []
        self.rejected: dict[str, int] = {}
        self.duplicates = 0
        self.rest = b""
        self.writable = True
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.start_ns = time.time_ns()
        if self.rate:
            self._pace()
        else:
            self._send(min(self.window, self.count))

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("closed"))

    def data_received(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        now = time.time_ns()
        for line in lines:
            answer = orjson.loads(line)
            self.acked_ns.append(now)
            if not answer["ok"]:
                code = answer["error"]["code"]
                self.rejected[code] = self.rejected.get(code, 0) + 1
            elif "duplicate" in answer:
                self.duplicates += 1
        if len(self.acked_ns) >= self.count:
            if not self.done.done():
                self.done.set_result(None)
        elif not self.rate:
            room = self.window - (len(self.ids) - len(self.acked_ns))
            self._send(min(room, self.count - len(self.ids)))

    def _pace(self) -> None:
        due = int((time.time_ns() - self.start_ns) / 1e9 * self.rate) + 1
        room = min(due, self.count) - len(self.ids)
        if room > 0 and self.writable:
            self._send(room)
        if len(self.ids) < self.count:
            asyncio.get_running_loop().call_later(PACE_S, self._pace)

    def _send(self, number: int) -> None:
        if number <= 0:
            return
        now = time.time_ns()
        parts = []
        for _ in range(number):
            n = len(self.ids)
            key = uuid.UUID(int=random.getrandbits(128)).hex if self.random_ids else f"{self.prefix}{n}"
            self.ids.append(key)
            self.sent_ns.append(now)
            kind = b"%b.%d" % (self.type, random.randrange(self.spread)) if self.spread else self.type
            parts.append(b'%b"id":"%b","type":"%b"%b' % (self.head, key.encode(), kind, self.tail))
        self.transport.write(b"".join(parts))

    def summary(self) -> dict[str, Any]:
        """What happened; times in seconds, quantiles in milliseconds from sent to answered."""
        took = sorted((b - a) / 1e6 for a, b in zip(self.sent_ns, self.acked_ns, strict=False))
        return {
            "sent": len(self.ids),
            "answered": len(self.acked_ns),
            "rejected": self.rejected,
            "duplicates": self.duplicates,
            "start_ns": self.start_ns,
            "end_ns": self.acked_ns[-1] if self.acked_ns else time.time_ns(),
            "ack_p50_ms": quantile(took, 0.5),
            "ack_p99_ms": quantile(took, 0.99),
        }


def quantile(ordered: list[float], q: float) -> float:
    """The value below which a fraction ``q`` of an ordered list lies; 0 of an empty one."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))] if ordered else 0.0


def template(tenant: str, size: int) -> bytes:
    """An event's line with ``@`` for its id and type, and about ``size`` bytes of data."""
    data = {"job_id": "8c35", "text": "x" * (size - 30)} if size > 30 else {}
    return line_of({"tenant": tenant, "@": 0, "data": data}).replace(b'"@":0', b"@")


async def load(given: argparse.Namespace) -> Load:
    """Run one load to its end."""
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_unix_connection(lambda: Load(given), given.socket)
    await asyncio.wait_for(protocol.done, given.timeout_s)
    return protocol


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser(description="a load of events")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--rate", type=float, default=0, help="events a second; 0: as fast as answers come")
    parser.add_argument("--window", type=int, default=WINDOW)
    parser.add_argument("--bytes", type=int, default=1024)
    parser.add_argument("--type", default="stt.jobs.completed")
    parser.add_argument("--spread", type=int, default=0, help="append a random number below this to the type")
    parser.add_argument("--tenant", default="default")
    parser.add_argument("--prefix", default="e")
    parser.add_argument("--random-ids", action="store_true")
    parser.add_argument("--log", default="")
    parser.add_argument("--timeout-s", type=float, default=600)
    given = parser.parse_args()
    done = uvloop.run(load(given))
    if given.log:
        rows = zip(done.ids, done.sent_ns, done.acked_ns, strict=True)
        Path(given.log).write_bytes(orjson.dumps(list(rows)))
    sys.stdout.write(json.dumps(done.summary()) + "\n")


if __name__ == "__main__":
    main()
