"""What the log says, and what it must never say."""

import json

import pytest
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import SECRET, Receiver

pytestmark = pytest.mark.whole

FAST = {"delays_s": [0.02], "jitter": 0}


def test_no_secret_signature_or_payload_reaches_the_log(daemon: Daemon, receiver: Receiver) -> None:
    """Words planted in payloads, secrets, headers, URLs and bad lines are nowhere in a debug log of everything."""
    daemon.configure({"log": {"level": "debug"}})
    daemon.start()
    for path in ("/ok/a", "/status/500/a", "/gone/a", "/close/a"):
        url = receiver.url(path) + "?token=PLANTEDQUERY"
        daemon.endpoint(url, headers={"Authorization": "Bearer PLANTEDHEADER"}, retry=FAST)
    daemon.endpoint("http://127.0.0.1:1/x?token=PLANTEDQUERY", retry=FAST)
    with daemon.events() as producer:
        for n in range(20):
            assert producer.ask({"id": f"e{n}", "type": "t", "data": {"text": "PLANTEDPAYLOAD"}})["ok"]
        producer.write(b'{"type":"t","data":{"text":"PLANTEDPAYLOAD"},"PLANTEDFIELD":1}\n')
        assert not producer.answer()["ok"]
        producer.write(b'PLANTEDLINE "secret"\n')
        assert not producer.answer()["ok"]
    daemon.api("POST", "/api/v1/endpoints", {"url": "http://u:PLANTEDPASS@127.0.0.1/?q=PLANTEDQUERY", "secret": "x"})
    for path in ("/ok/a", "/status/500/a"):
        receiver.wait_for(path + "?token=PLANTEDQUERY", ids=20)
    for event in ("delivery.succeeded", "delivery.retrying", "delivery.dead"):
        daemon.wait_log(event)
    assert daemon.term() == 0
    text = daemon.log_text()
    for word in ("PLANTEDPAYLOAD", "PLANTEDHEADER", "PLANTEDQUERY", "PLANTEDPASS", "PLANTEDLINE"):
        assert word not in text
    assert SECRET not in text
    assert SECRET.removeprefix("whsec_") not in text
    assert "v1," not in text
    names = {line["event"] for line in daemon.log_lines()}
    assert {"delivery.succeeded", "delivery.retrying", "delivery.dead", "event.rejected", "event.accepted"} <= names


def test_every_line_is_json_with_its_keys(daemon: Daemon, receiver: Receiver) -> None:
    """From start to stop each line is one JSON object; delivery lines carry every id, and the endpoint's name."""
    daemon.start()
    endpoint = daemon.endpoint(receiver.url("/fail-first/1/a"), name="crm", retry=FAST)
    daemon.emit(id="e")
    daemon.wait_status("e", "succeeded")
    assert daemon.term() == 0
    lines = [json.loads(line) for line in daemon.log_text().splitlines()]
    for line in lines:
        assert {"event", "level", "timestamp"} <= line.keys()
    order = [line["event"] for line in lines if line["event"].startswith("daemon.")]
    assert order == ["daemon.started", "daemon.ready", "daemon.stopping", "daemon.stopped"]
    for line in daemon.log_lines():
        if line["event"].startswith("delivery."):
            assert {"event_id", "delivery_id", "endpoint_id", "tenant", "attempt", "elapsed_ms"} <= line.keys()
            assert (line["endpoint_id"], line["endpoint_name"]) == (endpoint["id"], "crm")
    retrying = daemon.log_lines("delivery.retrying")[0]
    assert {"status", "due_at"} <= retrying.keys()


def test_a_log_nobody_reads_stops_nothing(daemon: Daemon, receiver: Receiver) -> None:
    """With the log's pipe full the daemon goes on delivering."""
    daemon.configure({"log": {"level": "debug"}})
    daemon.start_with_unread_log()
    daemon.endpoint(receiver.url("/ok/a"))
    with daemon.events() as producer:
        list(producer.pipeline({"id": f"e{n}", "type": "t", "data": {}} for n in range(3000)))
    receiver.wait_for("/ok/a", ids=3000)
    assert daemon.term() == 0
