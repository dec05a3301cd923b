"""The disk runs full under the daemon: refused by name, nothing acknowledged lost, deliveries go on, no restart needed.

State and spool lie on a tmpfs that the test fills. On the larger one the ballast fits (it is laid down where four times
its size is free), on the smaller one it doesn't.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import ROOT, Receiver
from tests.harness.small_disk import SmallDisk, missing_tools, unmountable
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.whole

MIB = 1024 * 1024
#: Without room for a ballast, and with.
SIZES = {"small": 24 * MIB, "ballast": 96 * MIB}
KEY = bytes(range(32))
#: Left free before the events that fill it: many of those are taken, and many refused.
LEFT_BYTES = 1 * MIB
EVENTS, EVENT_BYTES = 500, 4000
#: Fits nowhere into what is left when the others have been refused.
LARGE = {"pad": "x" * 16 * EVENT_BYTES}
#: Soon at first, and still there after a minute of a machine that stalls.
AGAIN = {"delays_s": [0.2] * 16 + [1.0] * 48, "jitter": 0}
TIME_LIMIT_S = 60


@pytest.fixture(scope="module", autouse=True)
def _can_mount(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip, saying why, where nothing can be mounted; in CI as root only a refused mount is a reason."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    if missing := missing_tools():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"a small disk needs {', '.join(missing)}")
    if (why := unmountable(tmp_path_factory.mktemp("probe") / "disk")) is not None:
        pytest.skip(f"no tmpfs can be mounted here: {why}")


@pytest.fixture(params=SIZES)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of its own."""
    with SmallDisk(tmp_path / "disk", SIZES[request.param]) as mounted:
        yield mounted


@pytest.fixture(params=["plain", "sealed"])
def daemon(request: pytest.FixtureRequest, disk: SmallDisk) -> Iterator[Daemon]:
    """A daemon on that disk, with and without encryption."""
    with Daemon(state_dir=disk.path / "state") as made:
        if request.param == "sealed":
            key = made.root / "master.key"
            key.write_bytes(base64.b64encode(KEY))
            key.chmod(0o600)
            made.configure({"encryption": {"key_file": str(key)}})
        yield made


def has_ballast(daemon: Daemon) -> bool:
    """Whether the ballast lies there."""
    return (daemon.state_dir / "ballast").exists()


def push(daemon: Daemon, life: str = "e", at_least: int = 20) -> list[str]:
    """Send events until the disk is full and further; the ids of those acknowledged. All others are told why."""
    events = ({"id": f"{life}{n}", "type": "a.b", "data": {"pad": "x" * EVENT_BYTES}} for n in range(EVENTS))
    acked = []
    with daemon.events() as producer:
        for answer in producer.pipeline(events, window=64):
            if answer["ok"]:
                acked.append(answer["id"])
            else:
                assert answer["error"] == {"code": "storage_full", "message": "the disk is full"}
    assert at_least <= len(acked) < EVENTS, "too few to prove anything, or the disk never was full"
    return acked


def refusal(daemon: Daemon, **event: Any) -> str:
    """The code with which one event is refused over the socket."""
    with daemon.events() as producer:
        answer = producer.ask({"type": "a.b", "data": LARGE} | event)
    assert not answer["ok"], answer
    return answer["error"]["code"]


def readiness(daemon: Daemon) -> tuple[int, str]:
    """What readyz says."""
    status, told = daemon.api("GET", "/readyz")
    return status, told["status"]


def wait_recovered(daemon: Daemon) -> None:
    """Wait until events are taken again, without having sent one."""
    wait_until(lambda: readiness(daemon) == (200, "ready"), TIME_LIMIT_S, daemon.tail)


def wait_alive(daemon: Daemon) -> None:
    """Wait until a daemon that may be unable to take events serves."""

    def alive() -> bool:
        assert daemon.poll() is None, daemon.tail()
        try:
            return daemon.api("GET", "/healthz")[0] == 200
        except OSError:
            return False

    wait_until(alive, TIME_LIMIT_S, daemon.tail)


def wait_spooled(daemon: Daemon) -> None:
    """Wait until the spool is empty."""
    wait_until(lambda: not list((daemon.state_dir / "spool" / "new").iterdir()), TIME_LIMIT_S, daemon.tail)


@pytest.mark.parametrize(
    ("disk", "daemon"),
    [
        ("small", "sealed"),
        ("ballast", "plain"),
        pytest.param("small", "plain", marks=pytest.mark.long),
        pytest.param("ballast", "sealed", marks=pytest.mark.long),
    ],
    indirect=True,
)
def test_a_full_disk_is_refused_by_name_and_got_over(daemon: Daemon, disk: SmallDisk, receiver: Receiver) -> None:
    """By every way in; what was acknowledged before is delivered meanwhile; with room again, all goes on by itself."""
    daemon.start()
    ballast = has_ballast(daemon)
    first = daemon.endpoint(receiver.url("/ok/a"), name="a")
    daemon.endpoint(receiver.url("/gate/b"), name="b", retry=AGAIN)
    receiver.gate(503)
    spool = daemon.state_dir / "spool"
    (spool / "tmp" / "f.json").write_text(json.dumps({"id": "spooled", "type": "a.b", "data": LARGE}))

    disk.fill(leave=LEFT_BYTES)
    acked = push(daemon)
    assert readiness(daemon) == (503, "unwritable")
    assert daemon.get("/api/v1/status")["disk"]["full_because"] == "the disk is full"
    (line,) = daemon.wait_log("store.full")
    assert line["level"] == "error"
    assert refusal(daemon, id="of-a-new-tenant", tenant="new") == "storage_full"
    status, told = daemon.api("POST", "/api/v1/events", {"id": "by-api", "type": "a", "data": LARGE})
    assert (status, told["code"]) == (507, "storage_full")
    (spool / "tmp" / "f.json").rename(spool / "new" / "f.json")
    daemon.wait_log("spool.waiting")
    assert (spool / "new" / "f.json").exists()
    assert not has_ballast(daemon)

    receiver.gate(200)
    for path in ("/ok/a", "/gate/b"):
        receiver.wait_for(path, ids=len(acked))
    status, _ = daemon.api("PATCH", f"/api/v1/endpoints/{first['id']}", {"description": "changed"})
    assert status == (200 if ballast else 507), "with a ballast there is room for this; without, nobody waits for it"
    assert readiness(daemon) == (503, "unwritable")

    disk.empty()
    wait_recovered(daemon)
    acked += [daemon.emit(id="after")["id"], daemon.emit(id="of-a-new-tenant", tenant="new")["id"], "spooled"]
    wait_spooled(daemon)
    receiver.wait_for("/ok/a", ids=len(acked) - 1)  # the new tenant has no endpoint
    assert set(receiver.seen("/ok/a")) == set(acked) - {"of-a-new-tenant"}, "lost, or refused and yet delivered"
    assert receiver.path("/ok/a")["doubles"] == 0
    assert [line["level"] for line in daemon.wait_log("store.recovered")] == ["info"]
    assert len(daemon.log_lines("store.full")) == 1
    wait_until(lambda: has_ballast(daemon) is ballast, TIME_LIMIT_S, lambda: "the ballast is not laid down again")


@pytest.mark.parametrize(("disk", "daemon"), [("small", "sealed"), ("ballast", "plain")], indirect=True)
def test_a_kill_on_a_full_disk_loses_nothing(daemon: Daemon, disk: SmallDisk, receiver: Receiver) -> None:
    """The next start does with no byte free: it delivers, refuses events by name, and takes them once there is room."""
    daemon.start()
    daemon.endpoint(receiver.url("/gate/b"), name="b", retry=AGAIN)
    receiver.gate(503)
    disk.fill(leave=LEFT_BYTES)
    acked = push(daemon)
    daemon.kill()
    disk.fill()
    assert disk.free_bytes == 0
    daemon.spawn()
    wait_alive(daemon)
    acked += push(daemon, "more", at_least=0)  # a few: into room that the log had taken before
    assert refusal(daemon, id="while-full") == "storage_full"
    receiver.gate(200)
    receiver.wait_for("/gate/b", ids=len(acked))
    daemon.kill()
    disk.empty()
    daemon.start()
    daemon.emit(id="after")
    receiver.wait_for("/gate/b", ids=len(acked) + 1)
    assert set(receiver.seen("/gate/b")) == {*acked, "after"}


@pytest.mark.parametrize(("disk", "daemon"), [("ballast", "sealed")], indirect=True)
def test_a_start_on_a_full_disk_takes_the_ballast(daemon: Daemon, disk: SmallDisk, receiver: Receiver) -> None:
    """What it needs to open the database it has put by; the rest is for results, until there is room again."""
    daemon.start()
    made = daemon.endpoint(receiver.url("/ok/a"), name="a")
    daemon.api("POST", f"/api/v1/endpoints/{made['id']}/pause")
    daemon.emit(id="before")
    assert daemon.term() == 0
    disk.fill()
    assert has_ballast(daemon)
    daemon.spawn()
    wait_alive(daemon)
    assert not has_ballast(daemon)
    assert readiness(daemon) == (503, "unwritable")
    assert refusal(daemon, id="refused") == "storage_full"
    shown = [sys.executable, "-m", "ringback", "status", "--config", str(daemon.config_path)]
    printed = subprocess.run(shown, cwd=ROOT, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=True).stdout
    assert "events are refused, deliveries go on: the disk is full" in printed
    assert daemon.api("POST", f"/api/v1/endpoints/{made['id']}/resume")[0] == 202
    receiver.wait_for("/ok/a", ids=1)
    daemon.wait_status("before", "succeeded")
    disk.empty()
    wait_recovered(daemon)
    daemon.emit(id="after")
    receiver.wait_for("/ok/a", ids=2)
    wait_until(lambda: has_ballast(daemon), TIME_LIMIT_S, lambda: "the ballast is not laid down again")
    assert set(receiver.seen("/ok/a")) == {"before", "after"}


@pytest.mark.parametrize(("disk", "daemon"), [("small", "plain")], indirect=True)
def test_a_start_that_has_no_room_at_all_says_so(daemon: Daemon, disk: SmallDisk, receiver: Receiver) -> None:
    """Without a ballast: refused with the disk named, nothing touched, and right again with some room."""
    daemon.start()
    daemon.endpoint(receiver.url("/status/500/a"), name="a", retry=AGAIN)
    daemon.emit(id="before")
    assert daemon.term() == 0
    disk.fill()
    daemon.spawn()
    assert daemon.wait() == 1
    (line,) = daemon.wait_log("daemon.failed")
    assert "the disk is full: free some space" in line["error"]
    assert "Traceback" not in daemon.log_text()
    disk.empty()
    known = receiver.path("/status/500/a")["requests"]
    daemon.start()
    receiver.wait_for("/status/500/a", requests=known + 1)
    assert set(receiver.seen("/status/500/a")) == {"before"}


@pytest.mark.parametrize(("disk", "daemon"), [("small", "plain")], indirect=True)
def test_the_call_that_finds_the_disk_full_is_refused(daemon: Daemon, disk: SmallDisk) -> None:
    """Where calls of the API alone fill it, the one that fits no more is answered, and not made up for later."""
    daemon.start()
    disk.fill(leave=LEFT_BYTES)
    answers = []
    while not answers or answers[-1][0] == 201:
        asked = {"url": "https://a.example/", "name": f"n{len(answers)}", "description": "x" * 500}
        answers.append(daemon.api("POST", "/api/v1/endpoints", asked))
        assert len(answers) < 5000, "the disk never was full"
    status, told = answers.pop()
    assert (status, told["code"]) == (507, "storage_full")
    assert "nothing was changed" in told["detail"]
    daemon.wait_log("store.full")
    disk.empty()
    wait_recovered(daemon)
    assert daemon.sql("SELECT count(*) FROM endpoint") == [(len(answers),)]
    assert daemon.api("POST", "/api/v1/endpoints", asked)[0] == 201
