"""The real daemon's API over TCP: tokens from the command line, two tenants, the log without tokens."""

import http.client
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import ROOT, Receiver
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.whole


def token(daemon: Daemon, *args: str) -> dict[str, Any]:
    """``ringback token add --json``, with or without a running daemon."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RINGBACK_")}
    command = [sys.executable, "-m", "ringback", "token", "add", "--json", "--config", str(daemon.config_path), *args]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)


def call(port: int, method: str, path: str, bearer: str | None = None, body: Any = None) -> tuple[int, Any]:
    """One request over TCP."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        raw = answer.read()
        return answer.status, json.loads(raw) if raw else None
    finally:
        connection.close()


def test_tenants_by_tcp_see_their_own(daemon: Daemon) -> None:
    """A token made before the start and one made while it runs both work; each sees its tenant; no log line has one."""
    daemon.configure({"api": {"listen": "127.0.0.1:0"}})
    acme = token(daemon, "--tenant", "acme")["token"]
    daemon.start()
    beta = token(daemon, "--tenant", "beta")["token"]
    port = int(daemon.wait_log("api.listening")[0]["listen"].rpartition(":")[2])

    assert call(port, "GET", "/healthz")[0] == 200
    assert call(port, "GET", "/readyz")[0] == 401
    status, made = call(port, "POST", "/api/v1/endpoints", acme, {"url": "http://127.0.0.1:9/hook"})
    assert (status, made["tenant"]) == (201, "acme")
    assert call(port, "POST", "/api/v1/events", acme, {"id": "a", "type": "x", "data": {}})[1]["deliveries"] == 1
    assert call(port, "GET", f"/api/v1/endpoints/{made['id']}", beta)[0] == 404
    assert call(port, "GET", "/api/v1/events/a", beta)[0] == 404
    assert call(port, "GET", "/api/v1/deliveries", beta)[1]["data"] == []
    assert daemon.deliveries(tenant="acme")[0]["event_id"] == "a"

    assert daemon.wait_log("api.denied")[0]["reason"] == "no token"
    text = daemon.log_text()
    assert acme not in text
    assert beta not in text
    held = b"".join(path.read_bytes() for path in daemon.state_dir.iterdir() if path.is_file())
    assert acme.encode() not in held, "only the digest is stored"
    daemon.signal(15)
    assert daemon.wait() == 0


def test_pings_arrive_and_rotated_secrets_verify(daemon: Daemon, receiver: Receiver) -> None:
    """A ping is delivered signed; while the grace lasts a receiver with the old secret verifies, then no more."""
    daemon.start()
    made = daemon.endpoint(receiver.url("/ok/a"), events=["never.**"])
    path = f"/api/v1/endpoints/{made['id']}"
    for rotation in ({"grace_s": 3600}, None):
        if rotation:
            assert daemon.api("POST", f"{path}/rotate-secret", rotation)[0] == 202
        status, told = daemon.api("POST", f"{path}/ping")
        assert status == 202
        assert daemon.wait_status(told["event_id"], "succeeded")["id"] == told["id"]
    assert receiver.path("/ok/a")["bad"] == 0
    assert daemon.api("POST", f"{path}/rotate-secret", {"grace_s": 0})[0] == 202
    told = daemon.api("POST", f"{path}/test")[1]
    receiver.wait_for("/ok/a", ids=2)
    wait_until(lambda: receiver.path("/ok/a")["bad"] == 1, 60, lambda: str(receiver.path("/ok/a")))


def test_the_history_of_a_deleted_endpoint_is_found_after_a_restart(daemon: Daemon, receiver: Receiver) -> None:
    """By its id, with its statistics gone but its deliveries there."""
    daemon.start()
    made = daemon.endpoint(receiver.url("/ok/a"))
    event = daemon.emit(type="x")["id"]
    daemon.wait_status(event, "succeeded")
    where = f"/api/v1/endpoints/{made['id']}/stats"
    wait_until(lambda: daemon.get(where)["attempts"], 60, lambda: "it is counted right after its commit")
    assert daemon.get(where)["delivered"] == 1
    daemon.signal(15)
    assert daemon.wait() == 0
    daemon.start()
    stats = daemon.get(f"/api/v1/endpoints/{made['id']}/stats")
    assert (stats["attempts"], stats["queue"]["owed"]) == (1, 0), "a stop folds what was counted"
    assert daemon.get("/api/v1/status")["endpoints"]["active"] == 1
    assert daemon.api("DELETE", f"/api/v1/endpoints/{made['id']}")[0] == 204
    daemon.signal(15)
    assert daemon.wait() == 0
    daemon.start()
    assert daemon.api("GET", f"/api/v1/endpoints/{made['id']}/stats")[0] == 404
    assert [row["event_id"] for row in daemon.deliveries(endpoint=made["id"])] == [event]
