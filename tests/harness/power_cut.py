"""Cuts the power of a file system with a daemon's state on it, and looks what is left.

``unshare -m python -m tests.harness.power_cut --fs ext4|xfs --dir DIR [--cuts N] [--no-fsync]`` prints one JSON
object for each cut. Runs in a mount namespace of its own, as root. The shutdown ioctl drops what isn't on disk yet, as
a power cut does; only the mounted image is hurt. Acks are kept here, outside that file system.

A paced load matters: at full speed the cut tends to land on a sync and would prove nothing.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.harness.daemon import Daemon
from tests.harness.producer import line_of
from tests.harness.receiver_client import Receiver
from tests.harness.waiting import wait_until

RATE_PER_S = 300
CUT_AFTER_S = (0.5, 3.0)
#: What a life must have shown for before its cut, however slow the machine is: a cut with less proves nothing.
LEAST_BEFORE_CUT = 51
#: How long events keep coming after the cut: an ok to one of those would be a lie.
AFTER_CUT_S = 0.3
IMAGE_BYTES = 400 * 1024 * 1024
TIME_LIMIT_S = 60
#: For what was acknowledged to arrive in the end.
DELIVERY_S = 120


def run(*command: str) -> None:
    """Run a tool; its output goes into the error if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIME_LIMIT_S)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")


class Disk:
    """An image with a file system, mounted in this namespace."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.image, self.mount_point = folder / "disk.img", folder / "mnt"
        with self.image.open("wb") as image:
            image.truncate(IMAGE_BYTES)
        run(f"mkfs.{kind}", "-q", *(["-F"] if kind == "ext4" else ["-f"]), str(self.image))
        self.mount_point.mkdir()

    def mount(self) -> None:
        """Mount it (and let the file system replay its own journal)."""
        run("mount", "-o", "loop", str(self.image), str(self.mount_point))

    def unmount(self) -> None:
        """Unmount it."""
        run("umount", str(self.mount_point))

    def cut(self) -> None:
        """From now on nothing reaches the disk; what was only in memory is gone at the next mount."""
        run("xfs_io", "-x", "-c", "shutdown", str(self.mount_point))


class Paced(threading.Thread):
    """Emits events at a steady rate and keeps what was acknowledged: id → (SHA-256 of data, deliveries).

    ``late`` are those acknowledged once the cut had begun. Power that is really cut leaves nobody to send an answer;
    the ioctl leaves a moment in which an fdatasync under way returns 0 for what it has just given up: a bare loop of
    append and fdatasync loses its last "durable" record in one cut of ten on ext4, one of forty on XFS.
    """

    def __init__(self, daemon: Daemon, life: int) -> None:
        super().__init__(daemon=True)
        self.acked: dict[str, tuple[str, int]] = {}
        self.late: set[str] = set()
        self.cutting = False
        self.refused: list[str] = []
        self._producer = daemon.events()
        self._life = life
        self._sent: dict[str, str] = {}
        self._stopping = threading.Event()
        self._reading = threading.Thread(target=self._read, daemon=True)

    def run(self) -> None:
        self._reading.start()
        start = time.monotonic()
        number = 0
        with contextlib.suppress(OSError):
            while not self._stopping.is_set():
                key = f"life{self._life}-{number}"
                data = {"id": key, "pad": os.urandom(200).hex()}
                self._sent[key] = hashlib.sha256(json.dumps(data, separators=(",", ":")).encode()).hexdigest()
                self._producer.write(line_of({"id": key, "type": "stt.jobs.completed", "data": data}))
                number += 1
                self._stopping.wait(max(0.0, start + number / RATE_PER_S - time.monotonic()))

    def sent(self) -> set[str]:
        """The ids of what was sent by now, or is being sent."""
        return set(self._sent.copy())

    def stop(self) -> None:
        """Send no more; call after the daemon's end, so that every answer has come."""
        self._stopping.set()
        self.join(TIME_LIMIT_S)
        self._reading.join(TIME_LIMIT_S)
        self._producer.close()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                answer = self._producer.answer()
                if answer["ok"]:
                    if self.cutting:
                        self.late.add(answer["id"])
                    self.acked[answer["id"]] = (self._sent[answer["id"]], answer["deliveries"])
                else:
                    self.refused.append(answer["error"]["code"])


def stored(path: Path) -> dict[str, tuple[str, int]]:
    """What the database holds: id → (SHA-256 of data, deliveries); nothing if it can't be read."""
    query = (
        "SELECT e.id, p.data, (SELECT count(*) FROM delivery d WHERE d.event = e.seq)"
        " FROM event e JOIN payload p ON p.event = e.seq"
    )
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return {key: (hashlib.sha256(data).hexdigest(), number) for key, data, number in connection.execute(query)}
    except sqlite3.Error:
        return {}


def one_cut(daemon: Daemon, disk: Disk, life: int, chance: random.Random) -> tuple[Paced, dict[str, Any]]:
    """A life under load, ended by a power cut; the disk is mounted again afterwards."""
    load = Paced(daemon, life)
    load.start()
    time.sleep(chance.uniform(*CUT_AFTER_S))
    wait_until(lambda: len(load.acked) >= LEAST_BEFORE_CUT, TIME_LIMIT_S, daemon.tail)
    load.cutting = True
    disk.cut()
    late, before = len(load.late), load.sent()
    time.sleep(AFTER_CUT_S)
    noticed = daemon.poll()
    daemon.kill()
    load.stop()
    disk.unmount()
    disk.mount()
    return load, {
        "acked": len(load.acked) - len(load.late),
        "acked_during_cut": late,
        "sent_after_cut_and_acked": len(load.late - before),
        "refused": load.refused,
        "exit": noticed,
    }


def cuts(given: argparse.Namespace, daemon: Daemon, receiver: Receiver, disk: Disk) -> None:
    """Cut as often as asked on one file system, checking everything acknowledged so far after each."""
    chance = random.Random(given.seed)
    acked: dict[str, tuple[str, int]] = {}
    late: set[str] = set()
    daemon.start()
    daemon.endpoint(receiver.url("/ok/a"))
    daemon.endpoint("http://127.0.0.1:1/dead")
    for life in range(given.cuts):
        load, result = one_cut(daemon, disk, life, chance)
        acked |= load.acked
        late |= load.late
        began = time.monotonic()
        if not given.no_fsync:
            daemon.start()
        result["start_s"] = round(time.monotonic() - began, 3)
        there = stored(daemon.state_dir / "ringback.db")
        result["missing"] = [key for key in acked if key not in there and key not in late]
        result["missing_late"] = [key for key in late if key not in there]
        result["torn"] = [key for key, what in acked.items() if key in there and there[key] != what]
        print(json.dumps(result), flush=True)
    if not given.no_fsync:
        owed = acked.keys() - late
        with contextlib.suppress(
            AssertionError
        ):  # what is missing is told, by name; counting would count late ones too
            wait_until(lambda: owed <= receiver.seen("/ok/a").keys(), DELIVERY_S, daemon.tail, poll_s=0.2)
        undelivered = sorted(owed - receiver.seen("/ok/a").keys())
        print(json.dumps({"delivered": len(acked) - len(undelivered), "undelivered": undelivered}), flush=True)


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser(description="a power cut under a daemon")
    parser.add_argument("--fs", choices=("ext4", "xfs"), required=True)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--cuts", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-fsync", action="store_true", help="the control: fsync does nothing, so acks must be lost")
    parser.add_argument("--probe", action="store_true", help="only see whether an image can be mounted and cut")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    run("mount", "--make-rprivate", "/")
    disk = Disk(given.fs, given.dir)
    disk.mount()
    try:
        if given.probe:
            disk.cut()
            return
        env = {"LD_PRELOAD": "libeatmydata.so"} if given.no_fsync else {}
        with Receiver() as receiver, Daemon(state_dir=disk.mount_point / "state", env=env) as daemon:
            cuts(given, daemon, receiver, disk)
    finally:
        disk.unmount()


if __name__ == "__main__":
    main()
