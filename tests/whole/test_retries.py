"""What happens to a delivery that doesn't succeed at once."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from tests.harness.daemon import ROOT, Daemon
from tests.harness.receiver_client import Receiver
from tests.harness.waiting import wait_until

from ringback.api.endpoint_verbs import RETRY_ROWS

pytestmark = pytest.mark.whole

#: Deliveries that are to be tried now, or are being tried.
UNDER_WAY = "SELECT count(*) FROM owed WHERE due_ms = 0"

#: Retries as fast as a test wants them.
FAST = {"delays_s": [0.02] * 20, "jitter": 0}


def in_s(seconds: float) -> str:
    """A time that many seconds from now."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_a_failing_delivery_is_tried_again_until_it_succeeds(daemon: Daemon, receiver: Receiver) -> None:
    """Three failures and a success are four attempts under one id, each recorded with its answer."""
    daemon.start()
    daemon.endpoint(receiver.url("/fail-first/3/a"), retry=FAST)
    daemon.emit(id="e")
    delivery = daemon.wait_status("e", "succeeded")
    assert [a["n"] for a in delivery["attempts"]] == [1, 2, 3, 4]
    assert [a["response"]["status"] for a in delivery["attempts"]] == [500, 500, 500, 200]
    assert delivery["attempts"][0]["response"]["body"] == "not yet"
    assert receiver.seen("/fail-first/3/a")["e"].good == 4
    assert [line["attempt"] for line in daemon.wait_log("delivery.retrying", 3)] == [1, 2, 3]


def test_a_used_up_policy_makes_a_delivery_dead_and_a_hand_brings_it_back(daemon: Daemon, receiver: Receiver) -> None:
    """After the last gap it is dead; a retry by hand starts a fresh schedule and can succeed."""
    daemon.start()
    receiver.gate(503)
    daemon.endpoint(receiver.url("/gate/a"), retry={"delays_s": [0.02, 0.02], "jitter": 0})
    daemon.emit(id="e")
    delivery = daemon.wait_status("e", "dead")
    assert len(delivery["attempts"]) == 3
    receiver.gate(200)
    status, _ = daemon.api("POST", f"/api/v1/deliveries/{delivery['id']}/retry")
    assert status == 202
    delivery = daemon.wait_status("e", "succeeded")
    assert [a["response"]["status"] for a in delivery["attempts"]] == [503, 503, 503, 200]


def test_what_waits_for_its_next_try_is_sent_now_by_hand(daemon: Daemon, receiver: Receiver) -> None:
    """One, or all of an endpoint, long before they are due: at once, under their schedule, and the log says so."""
    daemon.start()
    receiver.gate(503)
    made = daemon.endpoint(receiver.url("/gate/a"), retry={"delays_s": [3600, 3600], "jitter": 0})
    for name in ("one", "two", "three"):
        daemon.emit(id=name)
    daemon.wait_log("delivery.retrying", 3)
    one = daemon.delivery_of("one")["id"]
    assert daemon.api("POST", f"/api/v1/deliveries/{one}/retry")[0] == 202
    assert [line["attempt"] for line in daemon.wait_log("delivery.retrying", 4)] == [1, 1, 1, 2]
    receiver.gate(200)
    assert daemon.api("POST", f"/api/v1/deliveries/{one}/retry")[0] == 202
    daemon.wait_status("one", "succeeded")
    status, told = daemon.api("POST", f"/api/v1/endpoints/{made['id']}/retry")
    assert (status, told["deliveries"], told["more"]) == (202, 2, False)
    for name in ("two", "three"):
        daemon.wait_status(name, "succeeded")
    assert [line["delivery_id"] for line in daemon.wait_log("delivery.retried", 2)] == [one, one]
    assert [line["deliveries"] for line in daemon.wait_log("endpoint.retried")] == [2]


def test_a_backlog_loses_one_try_by_one_command(daemon: Daemon, receiver: Receiver) -> None:
    """More than a call looks at, at a receiver that refuses at once: what the first call sent the next doesn't."""
    daemon.start()
    made = daemon.endpoint(
        receiver.url("/status/404/a"), name="crm", retry={"delays_s": [3600, 7200, 9000], "jitter": 0}
    )
    count = RETRY_ROWS + 100
    with daemon.events() as producer:
        list(producer.pipeline({"id": f"e{n}", "type": "t", "data": {}} for n in range(count)))

    def tried() -> list[tuple[int, int]]:
        """(tries, deliveries), once nothing is on its way."""
        wait_until(lambda: daemon.sql(UNDER_WAY) == [(0,)], 120, daemon.tail)
        return daemon.sql("SELECT attempts, count(*) FROM delivery GROUP BY attempts")

    assert tried() == [(1, count)]
    path = f"/api/v1/endpoints/{made['id']}/retry"
    first = daemon.api("POST", path)[1]
    assert (first["deliveries"], first["more"]) == (RETRY_ROWS, True)
    assert tried() == [(1, 100), (2, RETRY_ROWS)]
    rest = daemon.api("POST", f"{path}?cursor={first['next_cursor']}")[1]
    while rest["next_cursor"]:  # it looks at those that wait again, too
        assert rest["deliveries"] in (0, 100)
        rest = daemon.api("POST", f"{path}?cursor={rest['next_cursor']}")[1]
    assert tried() == [(2, count)]
    command = [sys.executable, "-m", "ringback", "endpoint", "retry", "crm", "--socket", str(daemon.control_path)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert told.stdout == f"{count:,} deliveries are due now\n"
    assert tried() == [(3, count)]


def test_a_retry_comes_in_its_time_although_the_one_before_it_was_called_off(
    daemon: Daemon, receiver: Receiver
) -> None:
    """Its lane was to be woken for the earlier one; nothing else happens there that could wake it for this one."""
    daemon.start()
    receiver.gate(503)
    daemon.endpoint(receiver.url("/gate/a"), retry={"delays_s": [1.5] * 50, "jitter": 0})
    for count, name in enumerate(("first", "second"), start=1):
        daemon.emit(id=name)
        daemon.wait_log("delivery.retrying", count)
    receiver.gate(200)
    daemon.api("POST", f"/api/v1/deliveries/{daemon.delivery_of('first')['id']}/cancel")
    daemon.wait_status("second", "succeeded")


def test_retry_after_is_waited_for(daemon: Daemon, receiver: Receiver) -> None:
    """A receiver that asks for a second gets it, although the policy would have come back at once."""
    daemon.start()
    daemon.endpoint(receiver.url("/retry-after/1/a"), retry={"delays_s": [0.02, 5], "jitter": 0})
    daemon.emit(id="e")
    daemon.wait_status("e", "succeeded")
    seen = receiver.seen("/retry-after/1/a")["e"]
    assert seen.count == 2
    assert seen.last_ns - seen.first_ns >= 0.99e9


def test_gone_disables_the_endpoint_and_holds_the_rest(daemon: Daemon, receiver: Receiver) -> None:
    """410: that delivery is dead, the endpoint disabled, what it is owed held; resume and a healthy URL deliver it."""
    daemon.start()
    endpoint = daemon.endpoint(receiver.url("/gone/a"), concurrency=1, retry=FAST)
    path = f"/api/v1/endpoints/{endpoint['id']}"
    daemon.emit(id="first")
    daemon.wait_status("first", "dead")
    wait_until(lambda: daemon.get(path)["status"] == "disabled", 60, lambda: str(daemon.get(path)))
    assert daemon.get(path)["status_reason"]
    assert daemon.emit(id="second")["deliveries"] == 1
    daemon.wait_status("second", "held")
    assert receiver.path("/gone/a")["requests"] == 1
    assert daemon.api("PATCH", path, {"url": receiver.url("/ok/a")})[0] == 200
    assert daemon.api("POST", path + "/resume")[0] in (200, 202)
    daemon.wait_status("second", "succeeded")
    assert daemon.delivery_of("first")["status"] == "dead"
    daemon.wait_log("endpoint.disabled")


def test_a_pause_holds_over_a_restart_and_resume_drains(daemon: Daemon, receiver: Receiver) -> None:
    """Nothing goes out while paused, not even after a crash; resume delivers everything, using up no attempt."""
    daemon.start()
    path = f"/api/v1/endpoints/{daemon.endpoint(receiver.url('/ok/a'))['id']}"
    assert daemon.api("POST", path + "/pause")[0] in (200, 202)
    with daemon.events() as producer:
        list(producer.pipeline({"id": f"e{n}", "type": "t", "data": {}} for n in range(300)))
    assert len(daemon.deliveries(status="held")) == 300
    daemon.restart()
    assert daemon.get(path)["status"] == "paused"
    assert len(daemon.deliveries(status="held")) == 300
    assert receiver.path("/ok/a")["requests"] == 0
    daemon.api("POST", path + "/resume")
    receiver.wait_for("/ok/a", ids=300)
    wait_until(lambda: len(daemon.deliveries(status="succeeded")) == 300, 60, daemon.tail)
    assert len(daemon.delivery_of("e0")["attempts"]) == 1
    assert receiver.path("/ok/a")["doubles"] == 0


def test_deliver_after_is_honoured_over_a_restart(daemon: Daemon, receiver: Receiver) -> None:
    """An event for later arrives later, and not because somebody else's event came meanwhile."""
    daemon.start()
    daemon.endpoint(receiver.url("/ok/a"))
    due = datetime.now(UTC) + timedelta(seconds=2)
    daemon.emit(id="later", deliver_after=due.isoformat())
    daemon.emit(id="now")
    daemon.wait_status("now", "succeeded")
    daemon.restart()
    receiver.wait_for("/ok/a", ids=2)
    assert set(receiver.seen("/ok/a")) == {"now", "later"}
    assert receiver.seen("/ok/a")["later"].first_ns >= due.timestamp() * 1e9 - 2e6


def test_what_expires_is_not_delivered(daemon: Daemon, receiver: Receiver) -> None:
    """expires_at ends a failing delivery and a held one alike; one that was in time arrives."""
    daemon.start()
    failing = daemon.endpoint(receiver.url("/status/500/a"), tenant="failing", retry={"delays_s": [0.1] * 60})
    held = daemon.endpoint(receiver.url("/ok/held"), tenant="held")
    daemon.endpoint(receiver.url("/ok/fine"), tenant="fine")
    daemon.api("POST", f"/api/v1/endpoints/{held['id']}/pause")
    daemon.emit(id="fine", tenant="fine", expires_at=in_s(600))
    daemon.wait_status("fine", "succeeded", tenant="fine")
    for life_s in (1.5, 10, 50):  # longer where the machine stalled while the event lived
        key = f"for-{life_s * 1000:.0f}-ms"
        for tenant in ("failing", "held"):
            daemon.emit(id=key, tenant=tenant, expires_at=in_s(life_s))
        before = daemon.delivery_of(key, tenant="held")["status"]
        attempts = daemon.wait_status(key, "expired", tenant="failing", endpoint=failing["id"])["attempts"]
        daemon.wait_status(key, "expired", tenant="held")
        if before == "held" and attempts:
            break
    assert before == "held"
    assert attempts
    daemon.api("POST", f"/api/v1/endpoints/{held['id']}/resume")
    daemon.emit(id="after", tenant="held")
    receiver.wait_for("/ok/held", ids=1)
    assert set(receiver.seen("/ok/held")) == {"after"}


def test_deleting_an_endpoint_cancels_what_it_is_owed(daemon: Daemon, receiver: Receiver) -> None:
    """After DELETE nothing goes out, the deliveries show cancelled, now and after a restart; history stays."""
    daemon.start()
    endpoint = daemon.endpoint(receiver.url("/ok/a"))
    path = f"/api/v1/endpoints/{endpoint['id']}"
    daemon.emit(id="before")
    daemon.wait_status("before", "succeeded")
    daemon.api("POST", path + "/pause")
    with daemon.events() as producer:
        list(producer.pipeline({"id": f"e{n}", "type": "t", "data": {}} for n in range(50)))
    assert daemon.api("DELETE", path)[0] == 204
    assert {delivery["status"] for delivery in daemon.deliveries()} == {"cancelled", "succeeded"}
    wait_until(lambda: daemon.sql("SELECT count(*) FROM owed") == [(0,)], 60, lambda: "rows still owed")
    assert daemon.emit(id="after")["deliveries"] == 0
    daemon.restart()
    assert len(daemon.deliveries(status="cancelled")) == 50
    assert daemon.delivery_of("before")["status"] == "succeeded"
    assert receiver.path("/ok/a")["requests"] == 1


def test_a_denied_address_is_dead_at_once_and_never_called(daemon: Daemon, receiver: Receiver) -> None:
    """An endpoint whose network is no longer allowed gets nothing; its delivery says so; the guard is at the dial."""
    daemon.start()
    daemon.endpoint(receiver.url("/ok/a"), retry=FAST)
    daemon.kill()
    daemon.configure({"egress": {"allow_networks": []}})
    daemon.start()
    daemon.emit(id="e")
    delivery = daemon.wait_status("e", "dead")
    assert [a["outcome"] for a in delivery["attempts"]] == ["egress_denied"]
    assert receiver.path("/ok/a")["requests"] == 0
    daemon.wait_log("egress.denied")
    status, problem = daemon.api("POST", "/api/v1/endpoints", {"url": receiver.url("/ok/b")})
    assert status == 422, problem


def test_what_is_cancelled_is_not_sent_although_it_waits_in_memory(daemon: Daemon, receiver: Receiver) -> None:
    """A 202 to a cancel means no request is made for it, also when its turn was about to come."""
    daemon.start()
    daemon.endpoint(receiver.url("/hang/a"), concurrency=1)
    for event in ("first", "second", "third"):
        daemon.emit(id=event)
    receiver.wait_for("/hang/a", open_=1)
    delivery = daemon.get("/api/v1/deliveries?event=second")["data"][0]
    assert daemon.api("POST", f"/api/v1/deliveries/{delivery['id']}/cancel")[0] == 202
    receiver.release()
    receiver.wait_for("/hang/a", ids=2)
    receiver.release()
    daemon.wait_status("third", "succeeded")
    assert set(receiver.seen("/hang/a")) == {"first", "third"}
    assert daemon.get(f"/api/v1/deliveries/{delivery['id']}")["status"] == "cancelled"
