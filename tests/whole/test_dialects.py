"""One event through the real daemon to an endpoint of each dialect; a process of its own verifies what comes."""

import base64
import json
import uuid
from collections.abc import Iterator

import pytest
from tests.harness.daemon import Daemon
from tests.harness.vendors_client import VendorsProcess
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.whole

WHSK = "whsk_" + base64.b64encode(bytes(range(32))).decode()
SECRETS = {
    "prosa": "kunci-rahasia",
    "deepva": "geheim-Übermut-42",
    "azure": "contoso",
    "speechlive": "signing-key|geteilt-01",
    "v1a": WHSK,
}
WAIT_S = 60


class Vendors(VendorsProcess):
    """The receiver process and what it told."""

    def requests(self, count: int) -> dict[str, dict]:
        """The next requests by path, handshakes left out."""
        found: dict[str, dict] = {}
        while len(found) < count:
            told = self.next()
            if "validationToken" not in told["query"]:
                found[told["path"]] = told
        return found


@pytest.fixture
def vendors() -> Iterator[Vendors]:
    """The receiver, ended with its test."""
    with Vendors(SECRETS) as running:
        yield running


def wait_active(daemon: Daemon, endpoint_id: str) -> None:
    """Until the handshake is done."""
    wait_until(
        lambda: daemon.get(f"/api/v1/endpoints/{endpoint_id}")["status"] == "active", WAIT_S, daemon.tail, poll_s=0.05
    )


def test_one_event_reaches_every_dialect_in_its_own_form(daemon: Daemon, vendors: Vendors) -> None:
    """Each receiver verifies its own way; names, bodies and ids are the vendor's; who can't say it is left out."""
    daemon.start()
    add = daemon.endpoint
    add(vendors.url("/v1a"), secret=WHSK, name="v1a")
    add(vendors.url("/prosa"), dialect="prosa", secret=SECRETS["prosa"])
    add(vendors.url("/deepva"), dialect="deepva", secret=SECRETS["deepva"])
    add(vendors.url("/pulse"), dialect="pulse", secret=None, options={"webhook_extra": "case:42"})
    add(vendors.url("/pulse/get?k=1"), dialect="pulse", secret=None, options={"method": "GET"})
    azure = add(
        vendors.url("/azure"),
        dialect="azure-speech",
        secret=SECRETS["azure"],
        events=["TranscriptionCompletion"],
        options={"self_template": "https://host.example/transcriptions/{job_id}"},
    )
    add(vendors.url("/azure/no-template"), dialect="azure-speech", secret=SECRETS["azure"], handshake="none")
    speechlive = {"shared_secret": "geteilt-01"}
    made = add(vendors.url("/speechlive"), dialect="speechlive", secret="signing-key", options=speechlive)
    assert daemon.get(f"/api/v1/endpoints/{made['id']}")["options"] == {"shared_secret": "…"}
    wait_active(daemon, azure["id"])

    data = {"job_id": "8c35", "text": "Grüße 😀", "n": 18446744073709551616}
    answer = daemon.emit(id="evt-1", type="stt.jobs.completed", data=data)
    assert answer["deliveries"] == 6
    got = vendors.requests(6)
    assert {path: told["verified"] for path, told in got.items()} == dict.fromkeys(
        ("/v1a", "/prosa", "/deepva", "/pulse", "/pulse/get", "/azure"), True
    )

    prosa = got["/prosa"]
    assert json.loads(prosa["body"]) == data
    assert prosa["headers"]["x-prosa-event"] == "stt.jobs.completed"
    event_uuid = prosa["headers"]["x-prosa-event-uuid"]
    assert uuid.UUID(event_uuid).version == 5
    deepva = json.loads(got["/deepva"]["body"])
    assert (deepva["event"], deepva["id"], deepva["data"]) == ("deepva.transcript.on_created", event_uuid, data)
    pulse = json.loads(got["/pulse"]["body"])
    assert pulse == {"status": "success", **data, "request_id": "evt-1", "case": "42"}
    called = got["/pulse/get"]
    assert (called["method"], called["body"], called["query"]["n"], called["query"]["k"]) == (
        "GET", "", "18446744073709551616", "1",
    )  # fmt: skip
    assert called["query"]["text"] == "Grüße 😀"
    told = got["/azure"]
    assert told["headers"]["x-microsoftspeechservices-event"] == "TranscriptionCompletion"
    body = json.loads(told["body"])
    assert body["self"] == "https://host.example/transcriptions/8c35"
    assert uuid.UUID(body["invocationId"]).version == 5

    assert daemon.emit(id="evt-2", type="dictation.created", data={"id": "d"}, tenant="default")["deliveries"] == 5
    got = vendors.requests(5)
    assert got["/speechlive"]["verified"] is True
    assert json.loads(got["/speechlive"]["body"]) == {"id": "d"}

    def told_why() -> bool:
        reasons = " ".join(line["reason"] for line in daemon.log_lines("delivery.skipped"))
        return "can't express this type" in reasons and "self_template" in reasons

    wait_until(told_why, WAIT_S, daemon.tail)


def test_what_was_sent_is_shown_without_its_signatures(daemon: Daemon, vendors: Vendors) -> None:
    """The history rebuilds each request to the byte, hides what signs it, and tells no secret."""
    daemon.start()
    for path, secret in (("prosa", "kunci-rahasia"), ("deepva", "geheim-Übermut-42")):
        daemon.endpoint(vendors.url(f"/{path}"), dialect=path, secret=secret)
    daemon.endpoint(
        vendors.url("/azure"),
        dialect="azure-speech",
        secret="contoso",
        handshake="none",
        events=["TranscriptionCompletion"],
    )
    daemon.emit(id="e", type="stt.jobs.completed", data={"self": "https://h.example/t/1"})
    got = vendors.requests(3)
    daemon.wait_log("delivery.succeeded", 3)
    shown = [daemon.get(f"/api/v1/deliveries/{row['id']}") for row in daemon.get("/api/v1/deliveries?event=e")["data"]]
    assert len(shown) == 3
    text = json.dumps(shown, ensure_ascii=False) + daemon.log_path.read_text()
    assert "kunci-rahasia" not in text
    assert "geheim-" not in text
    for told in got.values():
        signatures = [value for name, value in told["headers"].items() if "signature" in name]
        if told["path"] == "/deepva":
            signatures.append(json.loads(told["body"])["hmac_signature"])
        assert signatures
        assert not any(signature in text for signature in signatures)
    for delivery in shown:
        (attempt,) = delivery["attempts"]
        assert attempt["request"]["rebuilt"] is True
