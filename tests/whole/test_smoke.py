"""One event, one endpoint: accepted, signed, delivered, recorded, shown."""

import contextlib
import http.server
import json
import threading
import uuid
from collections.abc import Iterator

import pytest
from standardwebhooks.webhooks import Webhook
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import SECRET, Receiver

pytestmark = pytest.mark.whole

Request = tuple[str, str, dict[str, str], bytes]


@contextlib.contextmanager
def capturing() -> Iterator[tuple[str, list[Request]]]:
    """A server by the standard library that keeps every request as it came."""
    got: list[Request] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(200)
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"thanks")

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_an_event_arrives_signed_and_is_recorded(daemon: Daemon) -> None:
    """The reference library accepts what arrives; the history shows the one attempt with its signature masked."""
    data = {"job_id": "8c35", "text": "Grüße, 世界"}
    with capturing() as (url, got):
        daemon.start()
        endpoint = daemon.endpoint(url + "/hook?key=1", events=["stt.**"], headers={"X-Team": "voice"})
        answer = daemon.emit(type="stt.jobs.completed", data=data, created_at="2026-11-21T09:30:00.5+01:00")
        assert answer["deliveries"] == 1
        delivery = daemon.wait_status(answer["id"], "succeeded")

    ((method, path, headers, body),) = got
    assert (method, path) == ("POST", "/hook?key=1")
    assert Webhook(SECRET).verify(body, headers)["data"] == data
    assert body.startswith(b'{"type":"stt.jobs.completed","timestamp":"2026-11-21T08:30:00.500Z","data":{')
    assert headers["webhook-id"] == answer["id"]
    assert headers["x-team"] == "voice"
    assert headers["content-type"] == "application/json"

    (attempt,) = delivery["attempts"]
    assert (attempt["n"], attempt["outcome"], attempt["response"]["status"]) == (1, "delivered", 200)
    assert attempt["response"]["body"] == "thanks"
    assert attempt["request"]["body"].encode() == body
    assert headers["webhook-signature"] not in json.dumps(delivery)
    assert delivery["endpoint_id"] == endpoint["id"]
    assert uuid.UUID(delivery["id"]).version == 7
    assert daemon.wait_log("delivery.succeeded")[0]["delivery_id"] == delivery["id"]


def test_an_event_fans_out_to_matching_endpoints_of_its_tenant_alone(daemon: Daemon, receiver: Receiver) -> None:
    """The answer counts the deliveries; filters and tenants decide who gets what."""
    daemon.start()
    daemon.endpoint(receiver.url("/ok/all"))
    daemon.endpoint(receiver.url("/ok/jobs"), events=["stt.jobs.*"])
    daemon.endpoint(receiver.url("/ok/other"), events=["tts.**"])
    daemon.endpoint(receiver.url("/ok/acme"), tenant="acme")
    assert daemon.emit(id="a", type="stt.jobs.completed")["deliveries"] == 2
    assert daemon.emit(id="b", type="stt.models.ready")["deliveries"] == 1
    assert daemon.emit(id="c", type="stt.jobs.completed", tenant="acme")["deliveries"] == 1
    assert daemon.emit(id="d", type="x", tenant="nobody")["deliveries"] == 0
    receiver.wait_for("/ok/all", ids=2)
    receiver.wait_for("/ok/jobs", ids=1)
    receiver.wait_for("/ok/acme", ids=1)
    assert set(receiver.seen("/ok/all")) == {"a", "b"}
    assert set(receiver.seen("/ok/jobs")) == {"a"}
    assert set(receiver.seen("/ok/acme")) == {"c"}
    assert receiver.path("/ok/other")["requests"] == 0
    assert receiver.stats()["bad"] == 0
    assert daemon.get("/api/v1/events/d?tenant=nobody")["id"] == "d"


def test_pipelined_events_all_arrive_and_are_answered_in_order(daemon: Daemon, receiver: Receiver) -> None:
    """Answers come in the order of the lines; each event arrives once."""
    daemon.start()
    daemon.endpoint(receiver.url("/ok/a"))
    ids = [f"e{n}" for n in range(3000)]
    with daemon.events() as producer:
        events = ({"id": key, "type": "stt.jobs.completed", "data": {"n": key}} for key in ids)
        answers = list(producer.pipeline(events, window=1500))
    assert [answer["id"] for answer in answers] == ids
    receiver.wait_for("/ok/a", ids=len(ids))
    assert receiver.path("/ok/a") | {"peak": 0} == {
        "requests": 3000, "ids": 3000, "doubles": 0, "bad": 0, "open": 0, "peak": 0,
    }  # fmt: skip
    assert receiver.path("/ok/a")["peak"] <= 8, "the lane's cap is 8"


def test_everything_can_be_diverted(daemon: Daemon, receiver: Receiver) -> None:
    """With divert_to every delivery goes there, its real URL in a header."""
    daemon.configure({"delivery": {"divert_to": receiver.url("/ok/staging")}})
    daemon.start()
    daemon.endpoint(receiver.url("/ok/real"))
    daemon.emit(id="a")
    receiver.wait_for("/ok/staging", ids=1)
    assert receiver.path("/ok/real")["requests"] == 0
