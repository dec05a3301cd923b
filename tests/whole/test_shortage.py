"""The daemon without a free descriptor: nobody's delivery pays for it."""

import resource
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import Receiver
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.whole


def told(daemon: Daemon, about: str) -> list[dict[str, Any]]:
    """The lines that tell of it; ``about``: the requests (postponed) or who connects (connections)."""
    return [line for line in daemon.log_lines("daemon.out_of_files") if about in line]


def test_that_nobody_can_connect_is_told(daemon: Daemon) -> None:
    """Without a request to make, too: producers are cut off or wait, and the log says why; later they are taken."""
    daemon.start()
    limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (0, limits[1]))
    wait_until(lambda: told(daemon, "connections"), 60, daemon.tail)
    assert "too many open files" in told(daemon, "connections")[0]["error"]
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
    assert daemon.emit()["ok"]


def test_no_descriptor_costs_no_attempt(daemon: Daemon, receiver: Receiver) -> None:
    """Requests that can't be made wait uncounted, the log says so now and then, and with files again they are made."""
    daemon.start()
    daemon.endpoint(receiver.url("/ok/a"), retry={"delays_s": [], "jitter": 0})
    with daemon.events() as producer:
        assert producer.ask({"type": "a.b", "data": {}, "tenant": "other"})["ok"], "the connection is accepted by now"
        limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (0, limits[1]))
        for n in range(20):
            assert producer.ask({"type": "a.b", "data": {}, "id": f"e{n}"})["ok"]
        wait_until(lambda: told(daemon, "postponed"), 60, daemon.tail)
        assert "too many open files" in told(daemon, "postponed")[0]["error"]
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
    for n in range(20):
        delivery = daemon.wait_status(f"e{n}", "succeeded")
        assert [attempt["outcome"] for attempt in delivery["attempts"]] == ["delivered"]
    at = [datetime.fromisoformat(line["timestamp"]) for line in told(daemon, "postponed")]
    assert all(later - earlier >= timedelta(seconds=9) for earlier, later in pairwise(at)), "one in ten seconds"
    assert not daemon.log_lines("delivery.retrying")
