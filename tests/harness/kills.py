"""Killing a daemon again and again under load, and the books that must balance afterwards.

Clients send under ids of their own and send again what they got no answer for, as a producer should. After each kill
the receiver's memory and the table are compared, so that a double can be told from what was rightly sent again.
"""

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator

from tests.harness.daemon import Daemon
from tests.harness.receiver_client import Receiver
from tests.harness.waiting import wait_until

#: Lines a client has on their way at once.
WINDOW = 32
#: A client pauses this long after a full window, so that the backlog stays one a test can drain.
PAUSE_S = 0.03
RECONNECT_S = 0.01
KILL_MS = (5, 500)


class Client(threading.Thread):
    """Emits events for as long as it is let, over as many connections as that takes; keeps every ok."""

    def __init__(self, daemon: Daemon, name: str, types: tuple[str, ...]) -> None:
        super().__init__(daemon=True)
        self.client, self.server, self.types = name, daemon, types
        self.acked: dict[str, str] = {}
        self.problems: list[object] = []
        self.reconnects = 0
        self._stop_sending = threading.Event()

    def finish(self) -> None:
        """Send nothing new; end once everything sent has its answer."""
        self._stop_sending.set()

    def run(self) -> None:
        waiting: dict[str, str] = {}
        number = 0
        while waiting or not self._stop_sending.is_set():
            if not self._stop_sending.is_set():
                for _ in range(WINDOW - len(waiting)):
                    waiting[f"{self.client}-{number}"] = self.types[number % len(self.types)]
                    number += 1
            try:
                self._send(waiting)
            except OSError:
                self.reconnects += 1
                time.sleep(RECONNECT_S)

    def _send(self, waiting: dict[str, str]) -> None:
        """Send what waits on a new connection, then windows of new events as long as it lasts."""
        with self.server.events() as producer:
            events = [{"id": key, "type": kind, "data": {"id": key}} for key, kind in waiting.items()]
            for answer in producer.pipeline(events, WINDOW):
                if answer["ok"]:
                    self.acked[answer["id"]] = waiting.pop(answer["id"])
                elif answer["error"]["code"] not in ("unknown_outcome", "shutting_down"):
                    self.problems.append(answer)
        time.sleep(PAUSE_S)


class Doubles:
    """What may arrive twice: an id that had arrived, but was still owed, when the daemon was killed."""

    def __init__(self, daemon: Daemon, receiver: Receiver, lanes: dict[str, int]) -> None:
        self._daemon, self._receiver, self._lanes = daemon, receiver, lanes
        self.allowed: dict[str, Counter[str]] = {path: Counter() for path in lanes}
        #: The most ids of one path that had arrived but were not recorded at one kill.
        self.most = 0

    def note_kill(self) -> None:
        """Call between a kill and the next start."""
        wait_until(lambda: self._receiver.stats()["connections"] == 1, 60, lambda: "connections still open")
        for path, lane in self._lanes.items():
            owed = {row[0] for row in self._daemon.sql(
                "SELECT e.id FROM owed o JOIN event e ON e.seq = o.event WHERE o.lane = ?", lane
            )}  # fmt: skip
            unrecorded = owed & self._receiver.seen(path).keys()
            self.most = max(self.most, len(unrecorded))
            self.allowed[path].update(unrecorded)

    def check(self) -> int:
        """Fail on any double that no kill explains; how many doubles there were."""
        doubles = 0
        for path, allowed in self.allowed.items():
            for key, seen in self._receiver.seen(path).items():
                assert seen.count - 1 <= allowed[key], f"{key} came {seen.count} times to {path}"
                doubles += seen.count - 1
        return doubles


@contextlib.contextmanager
def clients(daemon: Daemon, number: int, types: tuple[str, ...]) -> Iterator[list[Client]]:
    """That many clients, ended and answered when the block ends."""
    running = [Client(daemon, f"c{n}", types) for n in range(number)]
    for client in running:
        client.start()
    try:
        yield running
    finally:
        for client in running:
            client.finish()
        for client in running:
            client.join(120)


def kill_at_random(daemon: Daemon, chance: random.Random) -> None:
    """SIGKILL after a random while of running; one time in four already while it starts."""
    wait_s = chance.uniform(*KILL_MS) / 1000
    if chance.random() < 0.25:
        daemon.spawn()
    else:
        daemon.start()
    time.sleep(wait_s)
    daemon.kill()
