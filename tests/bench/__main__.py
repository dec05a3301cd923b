"""``make bench``: one table of what the daemon does, as numbers and as ratios to a bare loop of its own HTTP client.

``python -m tests.bench [--quick] [--rounds N] [--json FILE]``. Producer, daemon and receiver are processes of their own
on one machine, results are counted when they are on disk, and every value is the median of the rounds. The yardstick is
measured three times in each round, between the throughputs it is the measure of: absolute numbers say more about the
machine and about what else it was doing.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench import measures
from tests.bench.measures import Values
from tests.harness.receiver_client import Receiver


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    bare: int = 20_000
    accept: int = 60_000
    closed: int = 40_000
    fan_out_events: int = 5_000
    overload_s: float = 15
    latency_s: float = 15
    endpoints: int = 10_000
    history: int = 1_000_000
    large: int = 15_000
    commit_s: float = 8


QUICK = Size(5_000, 10_000, 6_000, 800, 4, 4, 1_000, 50_000, 3_000, 3)


@dataclass(frozen=True)
class Row:
    """A line of the table: which value of which measure, and whether a ratio to the bare loop makes sense."""

    what: str
    measure: str
    value: str
    unit: str
    ratio: bool = False


ROWS = (
    Row("bare signed-POST loop (the yardstick)", "bare", "per_s", "POST/s", ratio=True),
    Row("events accepted, one paused endpoint", "accept", "per_s", "events/s", ratio=True),
    Row("deliveries, fan-out 1, closed loop", "closed_1", "per_s", "deliveries/s", ratio=True),
    Row("  accepted meanwhile", "closed_1", "accepted_per_s", "events/s", ratio=True),
    Row("  resident memory", "closed_1", "rss_mib", "MiB"),
    Row("deliveries, fan-out 10, closed loop", "closed_10", "per_s", "deliveries/s", ratio=True),
    Row("sealed: deliveries, fan-out 1, closed loop", "sealed", "per_s", "deliveries/s", ratio=True),
    Row("  of the same in the clear, in turns", "sealed", "of_plain", ""),
    Row("  processor time a delivery", "sealed", "cpu_us", "µs"),
    Row("  the same in the clear", "sealed", "plain_cpu_us", "µs"),
    Row("past saturation: offered, open loop", "overload", "offered_per_s", "events/s", ratio=True),
    Row("  accepted", "overload", "accepted_per_s", "events/s", ratio=True),
    Row("  deliveries during the offer", "overload", "during_per_s", "deliveries/s", ratio=True),
    Row("  deliveries until all were made", "overload", "per_s", "deliveries/s", ratio=True),
    Row("  resident memory", "overload", "rss_mib", "MiB"),
    Row("commit, loop saturated, p50", "commits", "p50_ms", "ms"),
    Row("commit, loop saturated, p99", "commits", "p99_ms", "ms"),
    Row("  accepted and finished meanwhile", "commits", "deliveries_per_s", "deliveries/s", ratio=True),
    Row("sealed: commit, loop saturated, p50", "commits_sealed", "p50_ms", "ms"),
    Row("  accepted and finished meanwhile", "commits_sealed", "deliveries_per_s", "deliveries/s", ratio=True),
    Row("500/s: sent to arrival, p50", "latency", "p50_ms", "ms"),
    Row("500/s: sent to arrival, p99", "latency", "p99_ms", "ms"),
    Row("500/s: accepted to arrival, p50", "latency", "accept_p50_ms", "ms"),
    Row("500/s: accepted to arrival, p99", "latency", "accept_p99_ms", "ms"),
    Row("500/s: sent to durable answer, p99", "latency", "ack_p99_ms", "ms"),
    Row("large state: sent to arrival, p50", "large", "p50_ms", "ms"),
    Row("large state: sent to arrival, p99", "large", "p99_ms", "ms"),
    Row("large state: accepted to arrival, p99", "large", "accept_p99_ms", "ms"),
    Row("large state: deliveries, closed loop", "large", "per_s", "deliveries/s", ratio=True),
    Row("large state: start until ready", "large", "start_s", "s"),
    Row("large state: resident memory", "large", "rss_mib", "MiB"),
    Row("200/s alone: sent to arrival, p50", "isolation", "alone_p50_ms", "ms"),
    Row("200/s alone: sent to arrival, p99", "isolation", "alone_p99_ms", "ms"),
    Row("beside 100 hanging, 200 black-holed, p50", "isolation", "p50_ms", "ms"),
    Row("beside 100 hanging, 200 black-holed, p99", "isolation", "p99_ms", "ms"),
)


def one_round(size: Size, only: set[str]) -> dict[str, Values]:
    """Every measure once."""
    found: dict[str, Values] = {}

    def measure(name: str, work: Callable[[], Values]) -> None:
        if not only or name in only:
            began = time.monotonic()
            found[name] = work()
            shown = " ".join(f"{key}={value:.4g}" for key, value in found[name].items())
            print(f"  {name} ({time.monotonic() - began:.0f} s): {shown}", file=sys.stderr)

    with Receiver(hash_bodies=False) as receiver:
        yardsticks = [measures.bare(receiver, size.bare)]
        measure("closed_1", lambda: measures.closed(receiver, size.closed, 1))
        measure("closed_10", lambda: measures.closed(receiver, size.fan_out_events, 10))
        measure("sealed", lambda: measures.sealed(receiver, size.closed // 2))
        yardsticks.append(measures.bare(receiver, size.bare))
        taken = found.get("closed_1", {"per_s": 3000.0})["per_s"]
        measure("overload", lambda: measures.overload(receiver, taken, size.overload_s))
        measure("accept", lambda: measures.accept_only(receiver, size.accept))
        yardsticks.append(measures.bare(receiver, size.bare))
        found["bare"] = {"per_s": statistics.median(values["per_s"] for values in yardsticks)}
        print(f"  bare: {[round(values['per_s']) for values in yardsticks]}", file=sys.stderr)
        measure("commits", lambda: measures.commits(size.commit_s))
        measure("commits_sealed", lambda: measures.commits(size.commit_s, sealed=True))
        measure("latency", lambda: measures.latency(receiver, size.latency_s))
        measure("isolation", lambda: measures.isolation(receiver, size.latency_s))
        measure("large", lambda: measures.large(receiver, size.endpoints, size.history, size.large, size.latency_s))
    return found


def table(rounds: list[dict[str, Values]]) -> str:
    """Medians, as Markdown."""
    lines = ["| | median | of bare |", "|---|---:|---:|"]
    for row in ROWS:
        values = [found[row.measure][row.value] for found in rounds if row.measure in found]
        if not values:
            continue
        ratios = [found[row.measure][row.value] / found["bare"]["per_s"] for found in rounds if "bare" in found]
        ratio = f"{statistics.median(ratios):.2f}" if row.ratio and ratios else ""
        lines.append(f"| {row.what} | {number(statistics.median(values))} {row.unit} | {ratio} |")
    return "\n".join(lines)


def number(value: float) -> str:
    """A number as people read it."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="measure the daemon")
    parser.add_argument("--quick", action="store_true", help="a smaller round, to see that it works")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", default=[], help="a measure's name; may be given again")
    parser.add_argument("--json", type=Path, help="write every round's values there")
    given = parser.parse_args()
    rounds = []
    for n in range(given.rounds):
        print(f"round {n + 1} of {given.rounds}", file=sys.stderr)
        rounds.append(one_round(QUICK if given.quick else Size(), set(given.only)))
    if given.json:
        given.json.write_text(json.dumps(rounds, indent=1))
    print(f"{measures.machine()}, Python {sys.version.split()[0]}, medians of {given.rounds}\n")
    print(table(rounds))


if __name__ == "__main__":
    main()
