"""``doctor`` at a running daemon: the way it looks at is the way its deliveries go."""

import json
import os
import subprocess
import sys

import pytest
from tests.harness.daemon import Daemon
from tests.harness.receiver_client import Receiver

pytestmark = pytest.mark.whole


def doctor(daemon: Daemon, *args: str) -> tuple[int, dict[str, str], str]:
    """Exit code, level by step, and all that was printed."""
    command = [sys.executable, "-m", "ringback", "doctor", *args, "--json", "--config", str(daemon.config_path)]
    env = {key: value for key, value in os.environ.items() if not key.startswith("RINGBACK_")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    told = json.loads(done.stdout)
    return done.returncode, {step["step"]: step["level"] for step in told["steps"]}, done.stdout + done.stderr


def test_the_way_to_a_receiver_and_a_test_event(daemon: Daemon, receiver: Receiver) -> None:
    """A good receiver gets its test; a failing one is a problem; after a reload the new egress rules are told."""
    daemon.start()
    good = daemon.endpoint(receiver.url("/ok/a"), name="crm")
    daemon.endpoint(receiver.url("/status/503/b"), name="bad", retry={"delays_s": [600]})
    code, steps, printed = doctor(daemon, "crm", "--send")
    assert (code, steps["test"], steps["endpoint"]) == (0, "ok", "ok"), printed
    assert good["secret"] not in printed
    code, steps, printed = doctor(daemon, "bad", "--send")
    assert (code, steps["test"]) == (1, "problem"), printed
    assert "the receiver answered 503" in printed
    daemon.configure({"egress": {"deny_networks": ["127.0.0.0/8"]}})
    daemon.signal(1)
    daemon.wait_log("config.reloaded")
    code, steps, printed = doctor(daemon, receiver.url("/ok/a"))
    assert (code, steps) == (1, {"url": "ok", "egress": "problem"}), printed
