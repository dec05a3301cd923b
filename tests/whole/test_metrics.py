"""The metrics of a running daemon agree with what it did."""

import http.client

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import Receiver
from tests.harness.unix_http import UnixConnection

pytestmark = pytest.mark.whole


def scrape(daemon: Daemon) -> dict[tuple[str, str], float]:
    """(name, label's value or "") to the value."""
    connection: http.client.HTTPConnection = UnixConnection(str(daemon.control_path), 60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return {
        (sample.name.removeprefix("ringback_"), next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_counters_agree_with_the_work(daemon: Daemon, receiver: Receiver) -> None:
    """Deliveries, attempts by outcome, refusals, commits and the backlog are what was done."""
    daemon.start()
    daemon.endpoint(receiver.url("/ok/a"))
    daemon.endpoint(receiver.url("/status/500/a"), retry={"delays_s": [0.02], "jitter": 0})
    daemon.endpoint(receiver.url("/ok/late"), name="late")
    daemon.api("POST", f"/api/v1/endpoints/{daemon.get('/api/v1/endpoints?name=late')['data'][0]['id']}/pause")
    for n in range(10):
        assert daemon.emit(id=f"e{n}")["ok"]
    assert daemon.emit(id="e0")["duplicate"]
    daemon.wait_log("delivery.dead", lines=10)
    receiver.wait_for("/ok/a", ids=10)
    daemon.wait_log("delivery.succeeded", lines=10)
    found = scrape(daemon)
    assert found["events_accepted_total", ""] == 10
    assert found["deliveries_total", "succeeded"] == 10
    assert found["deliveries_total", "dead"] == 10
    assert found["attempts_total", "delivered"] == 10
    assert found["attempts_total", "bad_status"] == 20
    assert found["attempt_seconds_count", ""] == 30
    assert found["accept_to_attempt_seconds_count", ""] == 20
    assert found["pending", ""] == 10, "what the paused endpoint is owed"
    assert found["oldest_pending_seconds", ""] >= 0
    assert found["endpoints", "paused"] == 1
    assert found["endpoints_failing", ""] == 1, "the one that answers 500"
    assert found["commit_seconds_count", ""] > 0
    assert found["database_bytes", ""] > 0
    assert found["log_dropped_total", ""] == 0
