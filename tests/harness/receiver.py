"""A webhook receiver of our own: a process that answers by URL path, checks signatures and remembers what came.

``python -m tests.harness.receiver [--port N] [--secret whsec_…]`` prints its port and serves loopback until its
standard input ends, so it can't outlive who started it. The signature check is written from the specification and
shares no code with the daemon. The first path segment says how to answer; a free name may follow:

    /ok/…            200 at once                     /fail-first/N/…   500 to the first N requests of each id
    /slow/MS/…       200 after MS milliseconds       /flaky/PERCENT/…  500 by chance
    /status/CODE/…   that status                     /gone/…           410
    /hang/…          no answer until ``/_release``   /close/…          closes without an answer
    /gate/…          200, or what ``/_gate`` set     /retry-after/S/…  503 with Retry-After once per id, then 200
    /mirror/CODE/…   that status, the body backwards

Control: ``/_stats``, ``/_seen?path``, ``/_arrivals``, ``/_reset``, ``/_release``, ``/_gate?status``; answers are JSON.
It is lean (one parse of the head, no task per request) so that a benchmark measures the daemon, not this.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import orjson
import uvloop

#: How far a webhook-timestamp may be from this machine's clock (the specification's five minutes).
TOLERANCE_S = 300
MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024

REASONS = {200: b"OK", 410: b"Gone", 500: b"Internal Server Error", 503: b"Service Unavailable"}

Headers = dict[bytes, bytes]


def response(status: int, body: bytes = b"ok", extra: bytes = b"") -> bytes:
    """One HTTP/1.1 answer; ``extra`` is header lines with their CRLF."""
    reason = REASONS.get(status, b"Status")
    return b"HTTP/1.1 %d %b\r\nContent-Length: %d\r\n%b\r\n%b" % (status, reason, len(body), extra, body)


OK = response(200)


@dataclass(slots=True)
class Seen:
    """What came for one id at one path; times are ``time.time_ns``."""

    count: int
    good: int
    sha256: str
    first_ns: int
    last_ns: int


@dataclass(slots=True)
class PathLog:
    """What came at one path."""

    requests: int = 0
    good: int = 0
    open: int = 0
    peak: int = 0
    ids: dict[str, Seen] = field(default_factory=dict)


def signature_holds(keys: list[bytes], headers: Headers, body: bytes) -> bool:
    """Whether one of the v1 signatures was made with one of the keys, and not long ago."""
    message_id, stamp, given = (headers.get(b"webhook-" + name, b"") for name in (b"id", b"timestamp", b"signature"))
    if not stamp.isdigit() or abs(int(stamp) - time.time()) > TOLERANCE_S:
        return False
    text = b"%b.%b.%b" % (message_id, stamp, body)
    offered = [item.removeprefix(b"v1,") for item in given.split(b" ") if item.startswith(b"v1,")]
    wanted = [base64.b64encode(hmac.digest(key, text, "sha256")) for key in keys]
    return any(hmac.compare_digest(one, other) for one in offered for other in wanted)


class Receiver:
    """Everything that came, and how to answer."""

    def __init__(self, secrets: list[str], *, hash_bodies: bool, seed: int) -> None:
        self.keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets]
        self.hash_bodies = hash_bodies
        self.chance = random.Random(seed)
        self.paths: dict[str, PathLog] = {}
        self.connections = 0
        self.first_ns = 0
        self.last_ns = 0
        self.gate = 200
        self.held: list[tuple[Connection, PathLog]] = []

    def arrived(self, path: str, headers: Headers, body: bytes) -> tuple[PathLog, Seen]:
        """Write one delivery down."""
        now = time.time_ns()
        self.first_ns = self.first_ns or now
        self.last_ns = now
        log = self.paths.get(path)
        if log is None:
            log = self.paths[path] = PathLog()
        log.requests += 1
        log.open += 1
        log.peak = max(log.peak, log.open)
        good = signature_holds(self.keys, headers, body)
        log.good += good
        key = headers.get(b"webhook-id", b"").decode("latin-1")
        seen = log.ids.get(key)
        if seen is None:
            seen = log.ids[key] = Seen(0, 0, hashlib.sha256(body).hexdigest() if self.hash_bodies else "", now, now)
        seen.count += 1
        seen.good += good
        seen.last_ns = now
        return log, seen

    def control(self, name: str, argument: str) -> Any:
        """Answer one control request; an unknown one is an error text."""
        answers: dict[str, Callable[[str], Any]] = {
            "_stats": self._stats,
            "_seen": self._seen,
            "_arrivals": self._arrivals,
            "_reset": self._reset,
            "_gate": self._gate,
            "_release": self._release,
        }
        answer = answers.get(name)
        return {"error": f"no such control: {name}"} if answer is None else answer(argument)

    def _seen(self, path: str) -> Any:
        log = self.paths.get(path, PathLog())
        return {key: [s.count, s.good, s.sha256, s.first_ns, s.last_ns] for key, s in log.ids.items()}

    def _arrivals(self, _: str) -> Any:
        return {key: s.first_ns for log in self.paths.values() for key, s in log.ids.items()}

    def _reset(self, _: str) -> Any:
        self.paths.clear()
        self.first_ns = self.last_ns = 0
        return {}

    def _gate(self, status: str) -> Any:
        self.gate = int(status)
        return {}

    def _release(self, _: str) -> Any:
        released, self.held = self.held, []
        for connection, log in released:
            connection.answer(OK, log)
        return {"released": len(released)}

    def _stats(self, _: str) -> dict[str, Any]:
        paths = {
            path: {
                "requests": log.requests,
                "ids": len(log.ids),
                "doubles": log.requests - len(log.ids),
                "bad": log.requests - log.good,
                "open": log.open,
                "peak": log.peak,
            }
            for path, log in self.paths.items()
        }
        return {
            "requests": sum(log.requests for log in self.paths.values()),
            "bad": sum(log.requests - log.good for log in self.paths.values()),
            "connections": self.connections,
            "first_ns": self.first_ns,
            "last_ns": self.last_ns,
            "paths": paths,
        }


class Connection(asyncio.Protocol):
    """One keep-alive connection: requests are read and answered one after another."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.buffer = b""
        self.busy = False
        self.timer: asyncio.TimerHandle | None = None
        self.waiting: PathLog | None = None
        self.body = b""  # of the delivery that waits

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.receiver.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.receiver.connections -= 1
        if self.timer is not None:
            self.timer.cancel()
        if self.waiting is not None:
            self.waiting.open -= 1
            self.receiver.held = [held for held in self.receiver.held if held[0] is not self]

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        if not self.busy:
            self._serve()

    def answer(self, data: bytes, log: PathLog) -> None:
        """Answer the delivery that waits, then go on with what has come meanwhile."""
        log.open -= 1
        self.waiting = None
        self.busy = False
        if not self.transport.is_closing():
            self.transport.write(data)
            if self.buffer:
                self._serve()

    def _serve(self) -> None:
        while not self.busy and (request := self._next()) is not None:
            target, headers, body = request
            if target.startswith(b"/_"):
                self._control(target)
            else:
                self._deliver(target.decode("latin-1"), headers, body)

    def _next(self) -> tuple[bytes, Headers, bytes] | None:
        """The next complete request, or None; what isn't HTTP with a Content-Length is closed."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > MAX_HEAD_BYTES:
                self.transport.close()
            return None
        first, *lines = self.buffer[:end].split(b"\r\n")
        headers: Headers = {}
        for line in lines:
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        length = int(headers.get(b"content-length", b"0"))
        if length > MAX_BODY_BYTES:
            self.transport.close()
            return None
        start, stop = end + 4, end + 4 + length
        if len(self.buffer) < stop:
            return None
        body = self.buffer[start:stop]
        self.buffer = self.buffer[stop:]
        return first.split(b" ")[1], headers, body

    def _control(self, target: bytes) -> None:
        name, _, argument = target[1:].decode("latin-1").partition("?")
        answer = orjson.dumps(self.receiver.control(name, unquote(argument)))
        self.transport.write(response(200, answer, b"Content-Type: application/json\r\n"))

    def _deliver(self, path: str, headers: Headers, body: bytes) -> None:
        log, seen = self.receiver.arrived(path, headers, body)
        if path.startswith("/ok"):
            log.open -= 1
            self.transport.write(OK)
            return
        _, kind, *rest = path.split("/")
        behaviour = BEHAVIOURS.get(kind)
        self.busy = True
        self.waiting = log
        self.body = body
        if behaviour is None:
            self.answer(response(404, b"no such behaviour"), log)
        else:
            behaviour(self, log, seen, rest)


def _slow(on: Connection, log: PathLog, _seen: Seen, rest: list[str]) -> None:
    on.timer = asyncio.get_running_loop().call_later(int(rest[0]) / 1000, on.answer, OK, log)


def _status(on: Connection, log: PathLog, _seen: Seen, rest: list[str]) -> None:
    on.answer(response(int(rest[0]), b"as asked"), log)


def _hang(on: Connection, log: PathLog, _seen: Seen, _rest: list[str]) -> None:
    on.receiver.held.append((on, log))


def _fail_first(on: Connection, log: PathLog, seen: Seen, rest: list[str]) -> None:
    on.answer(OK if seen.count > int(rest[0]) else response(500, b"not yet"), log)


def _flaky(on: Connection, log: PathLog, _seen: Seen, rest: list[str]) -> None:
    fails = on.receiver.chance.random() * 100 < int(rest[0])
    on.answer(response(500, b"by chance") if fails else OK, log)


def _gone(on: Connection, log: PathLog, _seen: Seen, _rest: list[str]) -> None:
    on.answer(response(410, b"gone"), log)


def _close(on: Connection, log: PathLog, _seen: Seen, _rest: list[str]) -> None:
    log.open -= 1
    on.waiting = None
    on.transport.close()


def _gate(on: Connection, log: PathLog, _seen: Seen, _rest: list[str]) -> None:
    on.answer(response(on.receiver.gate), log)


def _mirror(on: Connection, log: PathLog, _seen: Seen, rest: list[str]) -> None:
    on.answer(response(int(rest[0]), on.body[::-1]), log)


def _retry_after(on: Connection, log: PathLog, seen: Seen, rest: list[str]) -> None:
    later = response(503, b"later", b"Retry-After: %b\r\n" % rest[0].encode())
    on.answer(OK if seen.count > 1 else later, log)


BEHAVIOURS: dict[str, Callable[[Connection, PathLog, Seen, list[str]], None]] = {
    "slow": _slow,
    "status": _status,
    "hang": _hang,
    "fail-first": _fail_first,
    "flaky": _flaky,
    "gone": _gone,
    "close": _close,
    "gate": _gate,
    "retry-after": _retry_after,
    "mirror": _mirror,
}


async def serve(receiver: Receiver, port: int) -> None:
    """Listen on loopback, print the port, serve until standard input ends."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    server = await loop.create_server(lambda: Connection(receiver), "127.0.0.1", port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop.add_reader(sys.stdin.fileno(), lambda: ended.set() if not os.read(sys.stdin.fileno(), 4096) else None)
    await ended.wait()
    server.close()


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser(description="a webhook receiver for tests")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--secret", action="append", default=[])
    parser.add_argument("--no-hash", action="store_true", help="don't hash bodies (benchmarks)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    uvloop.run(serve(Receiver(given.secret, hash_bodies=not given.no_hash, seed=given.seed), given.port))


if __name__ == "__main__":
    main()
