"""Cuts the power of a file system with a daemon's state and its spool on it, and looks what is left.

``unshare -m python -m tests.harness.power_cut_spool --fs ext4|xfs --dir DIR [--cuts N] [--no-fsync]`` prints one JSON
object for each cut. ``--no-fsync``: the daemon's fsync does nothing, so a file can be gone and its events with it.
"""

import argparse
import contextlib
import hashlib
import json
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path

from tests.harness.daemon import Daemon
from tests.harness.power_cut import AFTER_CUT_S, CUT_AFTER_S, LEAST_BEFORE_CUT, TIME_LIMIT_S, Disk, run
from tests.harness.spool_load import SpoolLoad
from tests.harness.waiting import wait_until

FILES_PER_S = 150
DRAIN_S = 120


def stored(path: Path) -> Counter[str]:
    """How often each payload is in the database, by SHA-256; nothing if it can't be read."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return Counter(
                hashlib.sha256(data).hexdigest() for (data,) in connection.execute("SELECT data FROM payload")
            )
    except sqlite3.Error:
        return Counter()


def cuts(given: argparse.Namespace, daemon: Daemon, disk: Disk) -> None:
    """Cut as often as asked, checking everything left in the spool so far after each."""
    chance = random.Random(given.seed)
    left: set[str] = set()
    spool = daemon.state_dir / "spool"
    daemon.start()
    for life in range(given.cuts):
        load = SpoolLoad(spool, f"life{life}", FILES_PER_S)
        load.start()
        time.sleep(chance.uniform(*CUT_AFTER_S))
        wait_until(lambda left=load.left: len(left) >= LEAST_BEFORE_CUT, TIME_LIMIT_S, daemon.tail)
        load.cutting = True
        disk.cut()
        time.sleep(AFTER_CUT_S)
        daemon.kill()
        load.stop()
        disk.unmount()
        disk.mount()
        left |= load.left
        waiting = len(list((spool / "new").glob("*.ndjson"))) if (spool / "new").is_dir() else 0
        if not given.no_fsync:
            daemon.start()
            wait_until(lambda: not list((spool / "new").iterdir()), DRAIN_S, daemon.tail)
        there = stored(daemon.state_dir / "ringback.db")
        result = {
            "left": len(load.left),
            "in_new_after_cut": waiting,
            "missing": [digest for digest in left if digest not in there],
            "doubled": [digest for digest, number in there.items() if number > 1],
            "failed": sorted(path.name for path in (spool / "failed").glob("*")) if spool.is_dir() else [],
        }
        print(json.dumps(result), flush=True)


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser(description="a power cut under a spool")
    parser.add_argument("--fs", choices=("ext4", "xfs"), required=True)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--cuts", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-fsync", action="store_true")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    run("mount", "--make-rprivate", "/")
    disk = Disk(given.fs, given.dir)
    disk.mount()
    env = {"LD_PRELOAD": "libeatmydata.so"} if given.no_fsync else {}
    try:
        with Daemon(state_dir=disk.mount_point / "state", env=env) as daemon:
            cuts(given, daemon, disk)
    finally:
        disk.unmount()


if __name__ == "__main__":
    main()
