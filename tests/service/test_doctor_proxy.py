"""The doctor behind a proxy: it takes the way deliveries take, and never a straight one beside it."""

import pytest
from tests.harness.hostile_server import HostileServer
from tests.harness.proxy import TestingProxy

from ringback.core.egress import judge_address, parse_policy
from ringback.core.proxy import parse_proxy
from ringback.kit.clock import SystemClock
from ringback.service.doctor import Asked, Doctor, Ways
from ringback.transports.http import HttpSender

POLICY = parse_policy(False, ["127.0.0.0/8"], [])


@pytest.fixture
async def walk():
    """Walk to a URL through a proxy."""
    senders = []

    async def walked(proxy, url, credentials=""):
        via = parse_proxy(f"http://{credentials}127.0.0.1:{proxy.port}")
        clock = SystemClock()
        sender = HttpSender(clock=clock, judge_address=lambda address, scheme: judge_address(POLICY, address, scheme))
        sender.route(via)
        await sender.start()
        senders.append(sender)
        return await Doctor(sender, clock, Ways(POLICY, proxy=via)).walk(Asked(url))

    yield walked
    for sender in senders:
        await sender.stop()


async def test_the_way_leads_through_the_proxy_alone(walk):
    """One step says so, one tells the receiver's answer; the receiver is asked once, by the proxy."""
    async with HostileServer() as server, TestingProxy() as proxy:
        steps = await walk(proxy, server.url("ok"))
        assert [(step.name, str(step.level)) for step in steps] == [("url", "ok"), ("proxy", "ok"), ("http", "ok")]
        assert f"127.0.0.1:{proxy.port}" in steps[1].text
        assert (server.connections, len(proxy.requests)) == (1, 1)


async def test_a_proxy_that_refuses_is_what_to_look_at(walk):
    """The words name the proxy's refusal and where to mend it, and not the password."""
    async with HostileServer() as server, TestingProxy("joe:right") as proxy:
        last = (await walk(proxy, server.url("ok"), "joe:hunter2@"))[-1]
        assert str(last.level) == "problem"
        assert "the proxy refused: 407" in last.text
        assert "egress.proxy" in last.do
        assert "hunter2" not in last.text + last.do
        assert not server.connections
