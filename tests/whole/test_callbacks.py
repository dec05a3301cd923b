"""Per-event callbacks through the real daemon: both forms, extras back, retries, final answers, hosts, many origins."""

import json
from collections.abc import Iterator

import pytest
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import Receiver
from tests.harness.vendors_client import VendorsProcess
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.whole

WAIT_S = 60


@pytest.fixture
def teller() -> Iterator[VendorsProcess]:
    """A receiver process that answers 200 and tells every request."""
    with VendorsProcess() as running:
        yield running


def test_both_forms_with_the_extras_back(daemon: Daemon, teller: VendorsProcess) -> None:
    """POST and GET bring the data, the event's id and the extras, unsigned; the history shows it, of no endpoint."""
    daemon.start()
    posted = {"url": f"{teller.origin}/pulse/a", "extra": {"case": 42, "ids": ["x", 18446744073709551616]}}
    assert daemon.emit(id="e1", data={"text": "Grüße"}, callback=posted)["deliveries"] == 1
    told = teller.next()
    assert (told["method"], told["path"], told["verified"]) == ("POST", "/pulse/a", True)
    assert json.loads(told["body"]) == {
        "status": "success", "text": "Grüße", "request_id": "e1", "case": 42, "ids": ["x", 18446744073709551616],
    }  # fmt: skip
    gotten = {"url": f"{teller.origin}/pulse/b?k=1", "method": "GET", "extra": "case:4 2,url:http://x/?y"}
    daemon.emit(id="e2", type="stt.jobs.failed", data={"error": "no audio"}, callback=gotten)
    told = teller.next()
    assert (told["method"], told["path"], told["body"]) == ("GET", "/pulse/b", "")
    assert told["query"] == {
        "k": "1", "status": "failed", "error": "no audio", "request_id": "e2", "case": "4 2", "url": "http://x/?y",
    }  # fmt: skip
    shown = daemon.wait_status("e1", "succeeded")
    assert shown["endpoint_id"] is None
    (attempt,) = shown["attempts"]
    assert attempt["request"]["rebuilt"] is True
    assert attempt["request"]["url"] == f"{teller.origin}/pulse/a"
    assert daemon.wait_status("e2", "succeeded")["attempts"][0]["request"]["method"] == "GET"
    assert daemon.wait_log("delivery.succeeded", 2)[0]["endpoint_id"] is None
    assert daemon.get("/api/v1/events/e1")["callback"]["extra"] == posted["extra"]


def test_retries_final_answers_and_a_hand(daemon: Daemon, receiver: Receiver) -> None:
    """503 comes again by itself, also over a kill; 4xx is final, and a hand brings it back."""
    daemon.start()
    receiver.gate(503)
    daemon.emit(id="e1", callback={"url": receiver.url("/gate/a")})
    daemon.wait_log("delivery.retrying")
    daemon.restart()
    assert daemon.delivery_of("e1")["status"] in ("pending", "in_flight")
    receiver.gate(200)
    assert daemon.wait_status("e1", "succeeded")["attempt_count"] >= 2
    receiver.gate(404)
    daemon.emit(id="e2", callback={"url": receiver.url("/gate/b"), "secret": "s3cret-text"})
    dead = daemon.wait_status("e2", "dead")
    assert dead["attempt_count"] == 1
    receiver.gate(200)
    assert daemon.api("POST", f"/api/v1/deliveries/{dead['id']}/retry")[0] == 202
    again = daemon.wait_status("e2", "succeeded")
    assert again["attempts"][1]["request"]["headers"]["x-signature"] == "…"
    assert "s3cret" not in json.dumps(daemon.get("/api/v1/events/e2")) + json.dumps(again) + daemon.log_text()


def test_the_operator_decides_who_is_called(daemon: Daemon, receiver: Receiver) -> None:
    """Hosts by pattern, a tenant's own rules, egress, and the refusal's code and member; a reload changes them."""
    daemon.configure(
        {
            "callbacks": {"hosts": ["*.allowed.example", "127.0.0.1"]},
            "tenant.off.callbacks": {"enabled": False},
            "tenant.open.callbacks": {"hosts": ["*"]},
        }
    )
    daemon.start()

    def code(url: str, tenant: str = "default") -> str:
        with daemon.events() as producer:
            told = producer.ask({"type": "a", "data": {}, "tenant": tenant, "callback": {"url": url}})
        assert told["ok"] or told["error"]["field"].startswith("callback")
        return "ok" if told["ok"] else told["error"]["code"]

    assert code(receiver.url("/ok/a")) == "ok"
    assert code("https://other.example/") == "forbidden"
    assert code("https://other.example/", "open") == "ok"
    assert code(receiver.url("/ok/a"), "off") == "forbidden"
    assert code("https://10.0.0.1/", "open") == "forbidden"
    assert code("nonsense") == "invalid_event"
    daemon.configure({"callbacks": {"enabled": False}})
    daemon.signal(1)
    wait_until(lambda: code(receiver.url("/ok/a")) == "forbidden", WAIT_S, daemon.tail)
    assert code(receiver.url("/ok/a"), "open") == "forbidden"


def test_fifteen_hundred_origins_leave_room_for_others(daemon: Daemon, receiver: Receiver) -> None:
    """A thousand dead origins have a lane each, the rest share one; a live endpoint notices nothing."""
    daemon.start()
    daemon.endpoint(receiver.url("/ok/live"), events=["live"])
    dead = [f"http://127.1.{n // 250}.{n % 250 + 1}:9/" for n in range(1500)]
    with daemon.events() as producer:
        events = ({"type": "a", "data": {}, "callback": {"url": url}} for url in dead)
        assert all(told["deliveries"] == 1 for told in producer.pipeline(events))
    assert daemon.sql("SELECT count(*), sum(origin = '') FROM callback_lane") == [(1001, 1)]
    daemon.emit(type="live", id="e1")
    daemon.wait_status("e1", "succeeded")
    daemon.restart()
    daemon.emit(type="live", id="e2")
    daemon.wait_status("e2", "succeeded")
    assert daemon.sql("SELECT count(*) FROM owed") == [(len(dead),)]
