"""``why`` at a running daemon: what really happened, told."""

import pytest
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import Receiver

pytestmark = pytest.mark.whole


def test_a_failing_endpoint_is_explained(daemon: Daemon, receiver: Receiver) -> None:
    """The producer's pid, each attempt's answer, and the next attempt by the schedule."""
    daemon.start()
    daemon.endpoint(receiver.url("/status/503/a"), name="crm", retry={"delays_s": [0.02, 600], "jitter": 0})
    daemon.emit(id="e1")
    daemon.wait_log("delivery.retrying", lines=2)
    (row,) = daemon.deliveries(event="e1")
    told = daemon.get(f"/api/v1/why/{row['id']}")
    assert "over the events socket, from uid " in told["timeline"][0]["text"]
    assert [line["text"].split(" after ")[0] for line in told["timeline"][1:]] == [
        f"attempt {n}: the receiver answered 503" for n in (1, 2)
    ]
    assert told["next"]["rule"] == "attempt 3 of 3: the schedule says 10 min after failure 2"
    assert daemon.get("/api/v1/why/e1")["matched"][0]["delivery_id"] == row["id"]
    assert "it is owed 1 delivery" in daemon.get(f"/api/v1/why/{row['endpoint_id']}")["summary"]
