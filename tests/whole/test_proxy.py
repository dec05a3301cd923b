"""The real daemon behind a proxy: deliveries go through it, a wrong password is said to be one, and a reload helps."""

import signal

import pytest
from tests.harness.daemon import Daemon
from tests.harness.proxy import TestingProxy
from tests.harness.receiver_client import Receiver

pytestmark = pytest.mark.whole


def test_deliveries_go_through_the_proxy(daemon: Daemon, receiver: Receiver) -> None:
    """With the wrong password nothing arrives and it is retried; with the right one, after a reload, all does."""
    with TestingProxy("joe:hunter2", {"hooks.example.com": receiver.port}).in_thread() as proxy:
        wrong, right = (f"http://joe:{password}@127.0.0.1:{proxy.port}" for password in ("hunter1", "hunter2"))
        daemon.configure({"egress": {"proxy": wrong, "allow_http": True}, "delivery": {"nameservers": ["127.0.0.1:9"]}})
        daemon.start()
        daemon.endpoint("http://hooks.example.com/ok/crm", retry={"delays_s": [0.5] * 60})
        event = daemon.emit()["id"]
        (line, *_) = daemon.wait_log("delivery.retrying")
        assert line["error"] == "the proxy refused: 407 Proxy Authentication Required"
        assert receiver.path("/ok/crm")["requests"] == 0
        daemon.configure({"egress": {"proxy": right}})
        daemon.signal(signal.SIGHUP)
        assert daemon.wait_log("config.reloaded")[0]["changed"] == ["egress.proxy"]
        shown = daemon.wait_status(event, "succeeded")
        receiver.wait_for("/ok/crm", ids=1)
        assert shown["attempts"][0]["outcome"] == "connect_failed"
        assert set(proxy.targets) == {"POST http://hooks.example.com/ok/crm"}
    told = daemon.log_text() + str(shown)
    assert "hunter" not in told
    assert "Basic" not in told
