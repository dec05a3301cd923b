"""Backups of the running daemon: made under load, restored elsewhere, and nothing sent before somebody says so."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

import pytest
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import ROOT, Receiver
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.whole

REFUSED = 5
#: Between two batches of the load: a few thousand events a second, which leaves the commands their half of the machine.
PAUSE_S = 0.02


def ringback(daemon: Daemon, *args: str, code: int = 0) -> str:
    """A command against this daemon's configuration; what it printed, errors too."""
    command = [sys.executable, "-m", "ringback", *args, "--config", str(daemon.config_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, (args, done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


class Emitting:
    """Emits events one after another from a thread; ``acked`` has the ids that were answered ok, in order."""

    def __init__(self, daemon: Daemon) -> None:
        self.acked: list[str] = []
        self._daemon = daemon
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        with self._daemon.events() as producer:
            while not self._stop.wait(PAUSE_S):
                batch = [
                    {"id": f"e{number + n}", "type": "a.b", "data": {"n": number + n, "pad": "x" * 500}}
                    for n in range(64)
                ]
                answers = list(producer.pipeline(batch))
                assert all(answer["ok"] for answer in answers), answers
                self.acked += [answer["id"] for answer in answers]
                number += len(batch)


def test_a_backup_under_load_is_complete_up_to_its_start(daemon: Daemon, receiver: Receiver, tmp_path: Path) -> None:
    """Everything acknowledged before it began is in it, whole; the daemon goes on; the copy restores and holds."""
    daemon.start()
    daemon.endpoint(receiver.url("/ok/a"), name="a")
    daemon.endpoint(receiver.url("/ok/b"), name="b")
    daemon.api("POST", f"/api/v1/endpoints/{_id(daemon, 'b')}/pause")
    with Emitting(daemon) as load:
        wait_until(lambda: len(load.acked) > 2000, 60, daemon.tail)
        for n in range(2):
            before = list(load.acked)
            told = json.loads(ringback(daemon, "db", "backup", str(tmp_path / f"backup{n}"), "--json"))
            after = len(load.acked)
            assert len(before) <= told["counts"]["events"]
        assert json.loads(ringback(daemon, "db", "check", "--json"))["ok"]
        wait_until(lambda: len(load.acked) > after, 60, daemon.tail)
    assert ringback(daemon, "db", "check", str(tmp_path / "backup1")).startswith("sound")
    assert (tmp_path / "backup1").stat().st_mode & 0o777 == 0o600
    assert not list(daemon.state_dir.glob("*.part"))
    daemon.kill()
    receiver.reset()
    with Daemon() as other:
        restored = json.loads(ringback(other, "db", "restore", str(tmp_path / "backup1"), "--json"))
        assert {one["name"] for one in restored["owed_to"]} >= {"b"}
        other.start()
        known = {key for (key,) in other.sql("SELECT id FROM event")}
        assert known >= set(before)
        assert ringback(other, "db", "check").startswith("sound")
        _nothing_moves_before_it_is_said(other, receiver, restored)


def _nothing_moves_before_it_is_said(other: Daemon, receiver: Receiver, restored: dict[str, Any]) -> None:
    """Endpoint ``a`` was active, ``b`` was paused by hand: the one goes on at the word, the other stays."""
    assert other.wait_log("restore.held")[0]["endpoints"] == 1
    assert other.get("/api/v1/status")["restored_at"]
    assert "what would be sent is held" in ringback(other, "status")
    held = json.loads(ringback(other, "db", "held", "--json"))
    waiting = sum(one["owed"] for one in restored["owed_to"] if one["name"] == "a")
    assert held["owed"] == waiting
    other.emit(type="a.b", id="new")
    assert other.restart().delivery_of("new", endpoint=_id(other, "a"))["status"] == "held"
    assert receiver.stats()["paths"] == {}
    assert "endpoints resumed: 1" in ringback(other, "endpoint", "resume", "--all")
    receiver.wait_for("/ok/a", ids=waiting + 1)
    assert receiver.path("/ok/b")["requests"] == 0
    assert "Nothing is held" in ringback(other, "db", "held")
    assert other.get("/api/v1/status")["restored_at"] is None


def _id(daemon: Daemon, name: str) -> str:
    return next(one["id"] for one in daemon.get("/api/v1/endpoints")["data"] if one["name"] == name)


def test_the_commands_work_without_a_daemon(daemon: Daemon, tmp_path: Path) -> None:
    """Under the directory's lock; a restore refuses what is in use or was, and a backup what is there."""
    file = str(tmp_path / "backup")
    daemon.start()
    daemon.emit(id="e1")
    assert "stop it first" in ringback(daemon, "db", "restore", file, code=REFUSED)
    daemon.kill()
    assert "1 event, 0 owed" in ringback(daemon, "db", "backup", file)
    assert "there already" in ringback(daemon, "db", "backup", file, code=REFUSED)
    ringback(daemon, "db", "backup", file, "--force")
    assert ringback(daemon, "db", "check").startswith("sound")
    assert "where there is no database" in ringback(daemon, "db", "restore", file, code=REFUSED)
    assert "pruned: 1 event," in ringback(daemon, "db", "prune", "--events-days", "0")
    assert ringback(daemon, "db", "check", file).startswith("sound: ")
    Path(file).write_bytes(b"\xff" * 5000)
    assert "can't be read" in ringback(daemon, "db", "check", file, code=1)
    assert {path.name for path in tmp_path.iterdir()} == {"backup"}


def test_pruning_by_hand_leaves_what_is_owed(daemon: Daemon, receiver: Receiver) -> None:
    """Delivered events go, whatever the retention says; one that waits for its endpoint stays."""
    daemon.start()
    daemon.endpoint(receiver.url("/ok/a"), name="a")
    for n in range(5):
        daemon.wait_status(daemon.emit(id=f"e{n}")["id"], "succeeded")
    daemon.api("POST", f"/api/v1/endpoints/{_id(daemon, 'a')}/pause")
    daemon.emit(id="owed")
    assert "pruned: 5 events" in ringback(daemon, "db", "prune", "--events-days", "0")
    assert [one["id"] for one in daemon.get("/api/v1/events")["data"]] == ["owed"]


def test_callbacks_wait_for_the_word_too(daemon: Daemon, receiver: Receiver, tmp_path: Path) -> None:
    """Those in the backup and those that come after the restore; over a restart; then all of them go out."""
    daemon.start()
    callback = {"url": receiver.url("/status/503"), "dialect": "pulse"}
    daemon.emit(type="a.b", id="e1", callback=callback)
    ringback(daemon, "db", "backup", str(tmp_path / "backup"))
    daemon.kill()
    receiver.reset()
    with Daemon() as other:
        assert "callbacks" in ringback(other, "db", "restore", str(tmp_path / "backup"))
        other.start()
        other.emit(type="a.b", id="e2", callback=callback | {"url": receiver.url("/ok/late")})
        other.restart()
        assert json.loads(ringback(other, "db", "held", "--json"))["owed"] == 2
        assert {one["event_id"] for one in other.deliveries(status="held")} == {"e1", "e2"}
        assert receiver.stats()["paths"] == {}
        ringback(other, "endpoint", "resume", "--all")
        other.wait_status("e2", "succeeded")
