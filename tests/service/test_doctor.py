"""The doctor's walk on real sockets: it goes as far as a delivery would, sends nothing signed, and is bounded."""

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme
from tests.harness.hostile_ports import accepting_silence, refusing_port
from tests.harness.hostile_server import HostileServer
from tests.harness.waiting import LADDER_S

from ringback.core.egress import judge_address, parse_policy
from ringback.kit.clock import SystemClock
from ringback.service import doctor as module
from ringback.service.doctor import Asked, Doctor, Ways
from ringback.service.endpoint_fields import Refusal
from ringback.transports.http import HttpSender

POLICY = parse_policy(False, ["127.0.0.0/8", "::1/128"], ["127.0.0.9/32"])
WAYS = Ways(POLICY, connect_timeout_s=5.0, timeout_s=10.0)


@pytest.fixture(autouse=True)
def _no_child_stays() -> None:
    """Nothing here starts a process."""


@pytest.fixture
async def sender() -> AsyncIterator[HttpSender]:
    """The daemon's own, on loopback."""
    clock = SystemClock()
    made = HttpSender(clock=clock, judge_address=lambda address, scheme: judge_address(POLICY, address, scheme))
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def doctor(sender: HttpSender) -> Doctor:
    """One that walks on loopback."""
    return Doctor(sender, SystemClock(), WAYS)


async def told(doctor: Doctor, url: str, **asked: object) -> list[tuple[str, str]]:
    """The steps by name and level."""
    return [(step.name, str(step.level)) for step in await doctor.walk(Asked(url, **asked))]


async def test_a_good_way_is_walked_to_its_end(doctor: Doctor) -> None:
    """From the URL to an answer, by one OPTIONS without a body or a signature, with the endpoint's own headers."""
    async with HostileServer() as server:
        steps = await told(doctor, server.url("ok?key=1"), headers=(("x-gateway", "k"),))
        assert steps == [("url", "ok"), ("egress", "ok"), ("tcp", "ok"), ("http", "ok")]
        (seen,) = server.requests
    names = {name.lower() for name, _ in seen.headers}
    assert (seen.method, seen.body, seen.query) == ("OPTIONS", b"", {"key": "1"})
    assert {"x-gateway", "user-agent"} <= names
    assert not any("signature" in name or name.startswith("webhook-") for name in names)


@pytest.mark.parametrize(
    ("url", "last"),
    [
        ("https://", "url"),
        ("https://10.0.0.1/", "egress"),
        ("http://127.0.0.9/", "egress"),
        ("http://8.8.8.8/", "egress"),
        ("https://receiver.invalid/", "dns"),
    ],
)
async def test_it_ends_at_the_first_closed_gate(doctor: Doctor, url: str, last: str) -> None:
    """What comes after a problem isn't looked at: no socket is made towards what the rules forbid."""
    steps = await told(doctor, url)
    assert steps[-1] == (last, "problem")
    assert [level for _, level in steps[:-1]] == ["ok"] * (len(steps) - 1)


async def test_a_closed_port_and_one_that_is_no_tls(doctor: Doctor) -> None:
    """Each ends the walk where it is."""
    with refusing_port() as port:
        assert (await told(doctor, f"http://127.0.0.1:{port}/"))[-1] == ("tcp", "problem")
    with accepting_silence() as port:
        for limit_s in LADDER_S:
            brisk = Doctor(doctor._sender, SystemClock(), Ways(POLICY, connect_timeout_s=limit_s))
            last = (await told(brisk, f"https://127.0.0.1:{port}/"))[-1]
            if last[0] == "tls":
                break
    assert last == ("tls", "problem")


async def test_a_receiver_that_does_not_answer(doctor: Doctor) -> None:
    """The endpoint's own deadline ends it."""
    async with HostileServer() as server:
        steps = await doctor.walk(Asked(server.url("silent"), timeout_s=0.1))
    assert (steps[-1].name, str(steps[-1].level)) == ("http", "problem")
    assert "0.1 s" in steps[-1].text


async def test_encryption_is_told(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good certificate passes; unverified is a warning; one that doesn't verify ends the walk unsent."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with HostileServer(tls=context) as server:
        assert (await told(doctor, server.url("ok")))[-1] == ("tls", "problem")
        assert not server.requests
        assert ("tls", "warning") in await told(doctor, server.url("ok"), tls_verify=False)
    with authority.cert_pem.tempfile() as path:
        monkeypatch.setenv("SSL_CERT_FILE", path)
        fresh = HttpSender(clock=SystemClock(), judge_address=lambda _address, _scheme: None)
        await fresh.start()
        async with HostileServer(tls=context) as server:
            steps = await told(Doctor(fresh, SystemClock(), WAYS), server.url("ok"))
        await fresh.stop()
    assert steps[-2:] == [("tls", "ok"), ("http", "ok")]


async def test_a_change_of_settings_counts_at_once(doctor: Doctor) -> None:
    """After a reload the new egress rules are told."""
    doctor.follow(Ways(parse_policy(False, [], [])))
    assert (await told(doctor, "http://127.0.0.1/"))[-1] == ("egress", "problem")


async def test_only_so_many_at_once(doctor: Doctor) -> None:
    """One too many is refused by name; a place that was left is free again."""
    async with HostileServer() as server:
        asked = Asked(server.url("silent"), timeout_s=10.0)
        walks = [asyncio.ensure_future(doctor.walk(asked)) for _ in range(module.MAX_AT_ONCE)]
        await asyncio.sleep(0)  # each has begun
        refused = await doctor.walk(asked)
        assert isinstance(refused, Refusal)
        assert refused.code == "overloaded"
        for walk in walks:
            walk.cancel()
        await asyncio.gather(*walks, return_exceptions=True)
        assert not isinstance(await doctor.walk(Asked(server.url("ok"))), Refusal)
