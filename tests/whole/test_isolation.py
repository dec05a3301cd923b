"""No endpoint harms another: counting tests, none of which looks at a clock."""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import ROOT, Receiver
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.whole

SLOTS = 64
HANGING, NAMELESS, DEAD = 100, 200, 20
EVENTS = 500
#: While everything waits for hanging requests, the process may be busy for this part of the time.
WATCH_S, MAX_BUSY = 2.0, 0.2
#: Fills what is meant to be filled: SQLite's page caches, the cache of bodies.
WARM_UP, WARM_UP_BYTES = 40_000, 1024
#: What a backlog may add to a process whose caches are full: the allocator rounds up.
MAX_GROWTH_BYTES = 24 * 1024 * 1024
BACKLOG, BACKLOG_LONG = 60_000, 1_000_000


@contextlib.contextmanager
def silent_name_server() -> Iterator[str]:
    """A UDP socket that takes every question and answers none; its address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{sock.getsockname()[1]}"


def emit(daemon: Daemon, kind: str, count: int, *options: str) -> dict[str, object]:
    """Emit many events of one type from a process of its own; its summary."""
    command = [sys.executable, "-m", "tests.harness.producer", f"--socket={daemon.events_path}", f"--count={count}"]
    done = subprocess.run(
        [*command, f"--type={kind}", f"--prefix={kind}-", *options], cwd=ROOT, check=True, capture_output=True
    )
    summary = json.loads(done.stdout)
    assert summary["rejected"] == {}
    return summary


def in_flight(daemon: Daemon) -> int:
    """How many deliveries are in flight now."""
    return len(daemon.deliveries(status="in_flight"))


def all_recorded(daemon: Daemon, endpoint_id: str) -> bool:
    """Whether every delivery of an endpoint has succeeded, on record."""
    return {delivery["status"] for delivery in daemon.deliveries(endpoint=endpoint_id)} == {"succeeded"}


def test_hanging_silent_and_dead_endpoints_leave_a_healthy_one_its_share(daemon: Daemon, receiver: Receiver) -> None:
    """While 320 endpoints hang, don't resolve or refuse, a healthy one gets everything; they never own all slots."""
    with silent_name_server() as server:
        daemon.configure(
            {
                "delivery": {
                    "concurrency": SLOTS, "timeout_s": 600, "connect_timeout_s": 60, "nameservers": [server],
                },
            }
        )  # fmt: skip
        daemon.start()
        healthy = daemon.endpoint(receiver.url("/ok/healthy"), events=["healthy"])
        daemon.emit(type="healthy", id="first")
        daemon.wait_status("first", "succeeded")
        for n in range(HANGING):
            daemon.endpoint(receiver.url(f"/hang/{n}"), events=["noise"])
        for n in range(DEAD):
            daemon.endpoint(f"http://127.0.0.1:1/{n}", events=["noise"])
        with ThreadPoolExecutor(NAMELESS) as pool:  # each creation asks for the name, in vain
            list(pool.map(lambda n: daemon.endpoint(f"https://h{n}.example/", events=["noise"]), range(NAMELESS)))
        assert daemon.emit(type="noise")["deliveries"] == HANGING + DEAD + NAMELESS
        wait_until(lambda: in_flight(daemon) >= SLOTS // 4, 60, daemon.tail)
        emit(daemon, "healthy", EVENTS)
        receiver.wait_for("/ok/healthy", ids=EVENTS + 1)
        wait_until(lambda: all_recorded(daemon, healthy["id"]), 60, daemon.tail)
        assert in_flight(daemon) <= SLOTS * 3 // 4, "unproved and failing endpoints hold at most three quarters"
        before = daemon.cpu_s()
        time.sleep(WATCH_S)
        used = daemon.cpu_s() - before
        assert used <= WATCH_S * MAX_BUSY, f"{used:.2f} s of processor in {WATCH_S} s of waiting"
        paths = receiver.stats()["paths"]
        assert sum(log["open"] for path, log in paths.items() if path.startswith("/hang")) <= SLOTS * 3 // 4
        daemon.kill()


def test_a_backlog_at_a_dead_endpoint_neither_grows_the_process_nor_slows_others(
    daemon: Daemon, receiver: Receiver, long: bool
) -> None:
    """Owed rows stay in the table, be they many and tiny: memory hardly grows, a healthy endpoint gets everything."""
    backlog = BACKLOG_LONG if long else BACKLOG
    daemon.start()
    daemon.endpoint("http://127.0.0.1:1/dead", events=["backlog"], retry={"delays_s": [600], "jitter": 0})
    daemon.endpoint(receiver.url("/ok/healthy"), events=["healthy"])
    emit(daemon, "healthy", 2000)
    emit(daemon, "backlog", WARM_UP, "--prefix=warm", f"--bytes={WARM_UP_BYTES}")
    receiver.wait_for("/ok/healthy", ids=2000)
    before = daemon.rss_bytes()
    emit(daemon, "backlog", backlog, "--bytes=0")
    emit(daemon, "healthy", 2000, "--prefix=more")
    receiver.wait_for("/ok/healthy", ids=4000)
    grown = daemon.rss_bytes() - before
    assert grown <= MAX_GROWTH_BYTES, f"{grown / 2**20:.1f} MiB more"
    ((owed,),) = daemon.sql("SELECT count(*) FROM owed")
    assert owed >= backlog, "the backlog was there all along"
