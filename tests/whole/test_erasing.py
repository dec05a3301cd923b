"""Erasing in the running daemon: in flight, waiting in memory, over a kill; and what is left in the files."""

import contextlib
import signal

import pytest
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import Receiver
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.whole

WORD = "xyzzy-plugh"
#: So many that a kill right after the answer comes in the middle.
MANY = 8000


def files(daemon: Daemon) -> bytes:
    """Every byte of the state directory."""
    content = []
    for path in daemon.state_dir.iterdir():
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # SQLite's own files come and go
            content.append(path.read_bytes())
    return b"".join(content)


def wait_gone(daemon: Daemon) -> None:
    """Until the word is in no file: the log is emptied behind the answer."""
    wait_until(lambda: WORD.encode() not in files(daemon), 60, lambda: "the word is still in the files")


def test_what_is_in_flight_or_waits_when_it_is_erased(daemon: Daemon, receiver: Receiver) -> None:
    """The answer to one in flight changes nothing, one that waits in memory is never sent; the next one is."""
    daemon.start()
    daemon.endpoint(receiver.url("/hang/a"), concurrency=1)
    for name in ("flying", "waiting"):
        daemon.emit(id=name, data={"said": WORD})
    receiver.wait_for("/hang/a", open_=1)
    erased = [daemon.api("POST", f"/api/v1/events/{name}/erase") for name in ("waiting", "flying")]
    assert [status for status, _ in erased] == [200, 200]
    daemon.emit(id="next")
    receiver.release()
    receiver.wait_for("/hang/a", ids=2)
    receiver.release()
    daemon.wait_status("next", "succeeded")
    assert receiver.seen("/hang/a").keys() == {"flying", "next"}
    assert daemon.wait_log("delivery.stale_report")[0]["event_id"] == "flying"
    for name in ("flying", "waiting"):
        shown = daemon.delivery_of(name)
        assert (shown["status"], shown["attempts"]) == ("cancelled", [])
        assert daemon.get(f"/api/v1/events/{name}")["data"] is None
        assert daemon.emit(id=name, data={"other": 1})["duplicate"] is True
    wait_gone(daemon)
    assert WORD not in daemon.log_text()
    assert daemon.api("POST", "/api/v1/db/check")[1]["problems"] == []


def test_a_tenants_erasure_goes_on_after_a_kill(receiver: Receiver) -> None:
    """Killed in the middle, it is taken up at the next start; nothing is sent of what was there; new events are."""
    for _ in range(10):
        receiver.reset()
        with Daemon() as daemon:
            _erase_and_kill(daemon, receiver)
            if daemon.sql("SELECT count(*) FROM erasure") == [(1,)]:  # else the machine stalled, and it was through
                _goes_on(daemon, receiver)
                return
    pytest.fail("each time all was erased before the kill")


def _erase_and_kill(daemon: Daemon, receiver: Receiver) -> None:
    daemon.start()
    made = daemon.endpoint(receiver.url("/ok/a"), name="crm", tenant="acme")
    assert daemon.api("POST", f"/api/v1/endpoints/{made['id']}/pause")[0] == 202
    callback = {"url": receiver.url(f"/status/503/{WORD}"), "dialect": "pulse"}
    daemon.emit(id="called", type="a.b", tenant="acme", data={"said": WORD}, callback=callback)
    with daemon.events() as producer:
        batch = [{"id": f"e{n}", "type": "a.b", "tenant": "acme", "data": {"said": f"{WORD} {n}"}} for n in range(MANY)]
        assert all(answer["ok"] for answer in producer.pipeline(batch))
    status, told = daemon.api("POST", "/api/v1/tenants/acme/erase")
    assert (status, told["events"], told["endpoints"]) == (202, MANY + 1, 1)
    daemon.kill()


def _goes_on(daemon: Daemon, receiver: Receiver) -> None:
    wait_until(lambda: receiver.stats()["connections"] == 1, 60, lambda: "connections of the killed one still open")
    called = receiver.path(f"/status/503/{WORD}")["requests"]
    daemon.start()
    daemon.endpoint(receiver.url("/ok/b"), name="crm", tenant="acme")
    daemon.emit(id="new", type="a.b", tenant="acme")
    daemon.wait_log("tenant.erased")
    told = daemon.get("/api/v1/tenants/acme")
    assert (told["erasing"], told["left"], told["events"]) == (False, 0, MANY + 2)
    assert daemon.wait_status("new", "succeeded", tenant="acme")["erased_at"] is None
    wait_gone(daemon)
    assert receiver.path("/ok/a")["requests"] == 0
    assert receiver.path(f"/status/503/{WORD}")["requests"] == called
    assert daemon.sql("SELECT count(*) FROM event WHERE length(digest) > 0") == [(1,)]
    assert daemon.sql("SELECT count(*) FROM owed") == [(0,)]
    assert daemon.api("POST", "/api/v1/db/check")[1]["problems"] == []
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
