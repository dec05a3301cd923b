"""What is measured. Each function is one run of real processes: producer, daemon, receiver; values by name."""

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.bench import history
from tests.harness.daemon import Daemon
from tests.harness.producer import quantile
from tests.harness.receiver_client import ROOT, Receiver
from tests.harness.waiting import wait_until

Values = dict[str, float]

DRAIN_TIMEOUT_S = 600
POLL_S = 0.02
WARM_UP = 500
#: One endpoint's cap where it is the only one: the default of 8 would measure the receiver's latency.
CONCURRENCY = 64
LATENCY_RATE = 500
QUIET_RATE = 200
HANGING, BLACK_HOLED = 100, 200


def python(*command: str) -> str:
    """Run a module of this tree; what it prints."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def load(daemon: Daemon, count: int, *options: str) -> dict[str, Any]:
    """A producer process's summary."""
    socket_path = f"--socket={daemon.events_path}"
    answer = json.loads(python("tests.harness.producer", socket_path, f"--count={count}", *options))
    assert not answer["rejected"], answer
    return answer


def drained(daemon: Daemon) -> int:
    """Wait until nothing is owed; when that was, in nanoseconds."""
    wait_until(lambda: not daemon.sql("SELECT 1 FROM owed LIMIT 1"), DRAIN_TIMEOUT_S, daemon.tail, POLL_S)
    return time.time_ns()


@contextlib.contextmanager
def running(receiver: Receiver, settings: dict[str, dict[str, Any]] | None = None) -> Iterator[Daemon]:
    """A daemon and a receiver that has forgotten everything."""
    receiver.reset()
    with Daemon(settings) as daemon:
        yield daemon.start()


def warmed(daemon: Daemon, receiver: Receiver) -> None:
    """Bring windows, connections and caches to temperature; the receiver forgets it."""
    load(daemon, WARM_UP, "--prefix=warm")
    drained(daemon)
    receiver.reset()


def bare(receiver: Receiver, count: int) -> Values:
    """Signed POSTs a second by the same client in a bare loop."""
    return {"per_s": float(python("tests.bench.bare", f"--url={receiver.url('/ok/bare')}", f"--count={count}"))}


def accept_only(receiver: Receiver, count: int) -> Values:
    """Events accepted a second while their one endpoint is paused."""
    with running(receiver) as daemon:
        endpoint = daemon.endpoint(receiver.url("/ok/paused"))
        daemon.api("POST", f"/api/v1/endpoints/{endpoint['id']}/pause")
        load(daemon, WARM_UP, "--prefix=warm")
        done = load(daemon, count)
        return {"per_s": count / (done["end_ns"] - done["start_ns"]) * 1e9, "ack_p99_ms": done["ack_p99_ms"]}


def closed(receiver: Receiver, count: int, fan_out: int, settings: dict[str, dict[str, Any]] | None = None) -> Values:
    """Deliveries a second from the first event sent to the last result on disk; the producer waits for answers."""
    with running(receiver, settings) as daemon:
        for n in range(fan_out):
            daemon.endpoint(receiver.url(f"/ok/{n}"), concurrency=max(8, CONCURRENCY // fan_out))
        warmed(daemon, receiver)
        cpu_s = daemon.cpu_s()
        done = load(daemon, count)
        end_ns = drained(daemon)
        cpu_s = daemon.cpu_s() - cpu_s
        stats = receiver.stats()
        assert stats["requests"] == count * fan_out, "every delivery once"
        assert stats["bad"] == 0
        return {
            "per_s": count * fan_out / (end_ns - done["start_ns"]) * 1e9,
            "accepted_per_s": count / (done["end_ns"] - done["start_ns"]) * 1e9,
            "cpu_us": cpu_s / (count * fan_out) * 1e6,
            "rss_mib": daemon.rss_bytes() / 2**20,
        }


def sealed(receiver: Receiver, count: int) -> Values:
    """The closed loop with encryption at rest and without, in turns, so that both see the same machine."""
    with tempfile.NamedTemporaryFile(prefix="rb-key-") as key:
        key.write(os.urandom(32).hex().encode())
        key.flush()
        settings = {"encryption": {"key_file": key.name}}
        rounds = [[closed(receiver, count, 1, given) for given in (settings, None)] for _ in range(2)]
    with_key, plain = (
        {name: statistics.mean(values[name] for values in found) for name in ("per_s", "cpu_us")}
        for found in zip(*rounds, strict=True)
    )
    return {
        "per_s": with_key["per_s"],
        "of_plain": with_key["per_s"] / plain["per_s"],
        "cpu_us": with_key["cpu_us"],
        "plain_cpu_us": plain["cpu_us"],
        "cpu_of_plain": with_key["cpu_us"] / plain["cpu_us"],
    }


def overload(receiver: Receiver, taken_per_s: float, seconds: float) -> Values:
    """Offered twice what it takes, whatever the answers: deliveries a second meanwhile, and until all are made."""
    count = int(2 * taken_per_s * seconds)
    with running(receiver) as daemon:
        daemon.endpoint(receiver.url("/ok/0"), concurrency=CONCURRENCY)
        warmed(daemon, receiver)
        with ThreadPoolExecutor(1) as pool:
            offered = pool.submit(load, daemon, count, f"--rate={2 * taken_per_s}")
            receiver.wait_for("/ok/0", ids=1)
            time.sleep(seconds * 0.2)
            before, start = receiver.path("/ok/0")["requests"], time.time()
            time.sleep(seconds * 0.7)
            during = (receiver.path("/ok/0")["requests"] - before) / (time.time() - start)
            done = offered.result()
        end_ns = drained(daemon)
        assert receiver.path("/ok/0")["ids"] == count
        return {
            "offered_per_s": 2 * taken_per_s,
            "accepted_per_s": count / (done["end_ns"] - done["start_ns"]) * 1e9,
            "during_per_s": during,
            "per_s": count / (end_ns - done["start_ns"]) * 1e9,
            "rss_mib": daemon.rss_bytes() / 2**20,
        }


def _latencies(daemon: Daemon, receiver: Receiver, rate: float, seconds: float, *options: str) -> Values:
    """From sent, and from acknowledged, to arrival, at a steady rate; milliseconds."""
    log = daemon.root / "sent.json"
    done = load(daemon, int(rate * seconds), f"--rate={rate}", f"--log={log}", *options)
    rows: list[tuple[str, int, int]] = json.loads(log.read_bytes())
    wanted = {key for key, _, _ in rows}
    arrived: dict[str, int] = {}

    def all_there() -> bool:
        arrived.update(receiver.arrivals())
        return wanted <= arrived.keys()

    wait_until(all_there, DRAIN_TIMEOUT_S, daemon.tail, 0.2)
    from_sent = sorted((arrived[key] - sent) / 1e6 for key, sent, _ in rows)
    from_ack = sorted(max(0.0, (arrived[key] - acked) / 1e6) for key, _, acked in rows)
    return {
        "p50_ms": quantile(from_sent, 0.5),
        "p99_ms": quantile(from_sent, 0.99),
        "accept_p50_ms": quantile(from_ack, 0.5),
        "accept_p99_ms": quantile(from_ack, 0.99),
        "ack_p50_ms": done["ack_p50_ms"],
        "ack_p99_ms": done["ack_p99_ms"],
        "rss_mib": daemon.rss_bytes() / 2**20,
    }


def latency(receiver: Receiver, seconds: float) -> Values:
    """Latency at a steady rate, one endpoint with every default."""
    with running(receiver) as daemon:
        daemon.endpoint(receiver.url("/ok/0"))
        warmed(daemon, receiver)
        return _latencies(daemon, receiver, LATENCY_RATE, seconds)


def large(receiver: Receiver, endpoints: int, events: int, count: int, seconds: float) -> Values:
    """The same latency and throughput with many endpoints, a long history and random ids, spread over all of them."""
    receiver.reset()
    with Daemon() as daemon:
        daemon.start().term()
        history.fill(daemon, receiver.url("/ok/h"), endpoints, events)
        began = time.monotonic()
        daemon.start()
        started_s = time.monotonic() - began
        spread = (f"--type={history.TYPE}", f"--spread={endpoints}", "--random-ids")
        values = _latencies(daemon, receiver, LATENCY_RATE, seconds, *spread)
        done = load(daemon, count, *spread)
        end_ns = drained(daemon)
        return values | {
            "start_s": started_s,
            "per_s": count / (end_ns - done["start_ns"]) * 1e9,
            "rss_mib": daemon.rss_bytes() / 2**20,
        }


@contextlib.contextmanager
def silent_name_server() -> Iterator[str]:
    """A UDP socket that takes every question and answers none; its address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{sock.getsockname()[1]}"


def isolation(receiver: Receiver, seconds: float) -> Values:
    """A healthy endpoint's latency alone, and beside 100 hanging and 200 black-holed ones that are owed a backlog."""
    with silent_name_server() as server:
        settings = {"delivery": {"nameservers": [server], "timeout_s": 5}}
        with running(receiver, settings) as daemon:
            daemon.endpoint(receiver.url("/ok/0"), events=["stt.**"])
            warmed(daemon, receiver)
            alone = _latencies(daemon, receiver, QUIET_RATE, seconds, "--prefix=alone")
            for n in range(HANGING):
                daemon.endpoint(receiver.url(f"/hang/{n}"), events=["noise"])
            with ThreadPoolExecutor(BLACK_HOLED) as pool:
                holes = [f"https://h{n}.example/" for n in range(BLACK_HOLED)]
                list(pool.map(lambda url: daemon.endpoint(url, events=["noise"]), holes))
            load(daemon, 50, "--type=noise", "--prefix=noise")
            beside = _latencies(daemon, receiver, QUIET_RATE, seconds, "--prefix=beside")
    return {
        "alone_p50_ms": alone["p50_ms"],
        "alone_p99_ms": alone["p99_ms"],
        "p50_ms": beside["p50_ms"],
        "p99_ms": beside["p99_ms"],
    }


def commits(seconds: float, *, sealed: bool = False) -> Values:
    """Commit times with the loop saturated."""
    return json.loads(python("tests.bench.commit", f"--seconds={seconds}", *["--sealed"] * sealed))


def machine() -> str:
    """The machine in a line."""
    info = Path("/proc/cpuinfo").read_text()
    models = [line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")]
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // 2**20
    return f"{len(models)} cores ({models[0] if models else 'unknown'}), {memory} GiB"
