"""A database with a budget, in the real daemon: it stays within it, refuses by name, and loses nothing."""

import subprocess
import sys

import pytest
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import ROOT, Receiver
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.whole

MIB = 1024 * 1024
BUDGET = 64 * MIB
DATA = {"text": "x" * (MIB - 1000)}


def cli(daemon: Daemon, *words: str) -> str:
    """What a person reads."""
    command = [sys.executable, "-m", "ringback", *words, "--socket", str(daemon.control_path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout


def fill(daemon: Daemon) -> tuple[list[str], dict[str, str]]:
    """Emit megabytes until one is refused: the ids acknowledged, and the refusal."""
    acked: list[str] = []
    with daemon.events() as producer:
        while len(acked) < 600:
            answer = producer.ask({"type": "owed.large", "data": DATA})
            if not answer["ok"]:
                return acked, answer["error"]
            acked.append(answer["id"])
    raise AssertionError("a budget must refuse at last")


def test_a_database_within_its_budget(daemon: Daemon, receiver: Receiver) -> None:
    """Finished events go early, what is owed fills the rest, then events are refused; deliveries open it again."""
    daemon.configure({"retention": {"max_database_bytes": BUDGET}})
    daemon.start()
    endpoint = daemon.endpoint(receiver.url("/ok/crm"), events=["owed.*"], name="crm")
    assert daemon.api("POST", f"/api/v1/endpoints/{endpoint['id']}/pause")[0] == 202
    finished = [daemon.emit(type="finished", data=DATA)["id"] for _ in range(8)]
    acked, error = fill(daemon)
    assert error["code"] == "storage_full"
    assert "budget of 64 MiB" in error["message"]
    wait_until(
        lambda: "by what is owed" in (daemon.get("/api/v1/status")["disk"]["full_because"] or ""), 30, daemon.tail
    )
    assert {daemon.api("GET", f"/api/v1/events/{name}")[0] for name in finished} == {404}
    assert daemon.api("POST", "/api/v1/events", {"type": "owed.small", "data": {}})[0] == 507
    assert daemon.api("GET", "/readyz")[0] == 503
    shown = cli(daemon, "status")
    assert "FULL" in shown
    assert "of the budget of 64 MiB" in shown

    cli(daemon, "endpoint", "resume", "crm")
    wait_until(lambda: daemon.api("GET", "/readyz")[0] == 200, 60, daemon.tail)
    last = daemon.emit(type="owed.small")["id"]
    wait_until(lambda: set(receiver.seen("/ok/crm")) == {*acked, last}, 60, daemon.tail)
    assert all(one.good for one in receiver.seen("/ok/crm").values())
    daemon.wait_log("store.recovered")
    assert [line["event"] for line in daemon.log_lines() if line["event"] in {"store.full", "store.recovered"}] == [
        "store.full",
        "store.recovered",
    ]
    assert daemon.wait_log("retention.budget")[0]["budget_bytes"] == BUDGET
