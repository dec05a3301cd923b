"""The daemon without a free descriptor: nobody's delivery pays for it."""

import resource

import pytest
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import Receiver

pytestmark = pytest.mark.whole


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
        line = daemon.wait_log("daemon.out_of_files")[0]
        assert "too many open files" in line["error"]
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
    for n in range(20):
        delivery = daemon.wait_status(f"e{n}", "succeeded")
        assert [attempt["outcome"] for attempt in delivery["attempts"]] == ["delivered"]
    assert len(daemon.log_lines("daemon.out_of_files")) < 5, "one in ten seconds, not one for each request"
    assert not daemon.log_lines("delivery.retrying")
