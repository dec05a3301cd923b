"""No request reaches a forbidden address, however it is spelled and whatever the name server says."""

import asyncio
import contextlib

import pytest
from tests.harness.dns_server import DnsServer
from tests.harness.hostile_ports import refusing_port, unaccepting_port
from tests.harness.hostile_server import HostileServer
from tests.harness.waiting import LADDER_S
from tests.transports.http.helpers import request

from ringback.core.egress import judge_address, parse_policy
from ringback.core.model import OutcomeKind

PATIENCE_S = 30.0
LOOPBACK_BUT_ONE = parse_policy(allow_http=False, allow_networks=["127.0.0.0/8"], deny_networks=["127.0.0.66/32"])


def guard(address: str, scheme: str) -> str | None:
    """Loopback is allowed but for 127.0.0.66, where the canary sits."""
    return judge_address(LOOPBACK_BUT_ONE, address, scheme)


@contextlib.asynccontextmanager
async def canary(port: int):
    """A server at the forbidden address, on the allowed one's port."""
    async with HostileServer(host="127.0.0.66", port=port) as running:
        yield running
        assert running.connections == 0


@pytest.mark.parametrize(
    "host", ["127.0.0.66", "[::ffff:127.0.0.66]", "[::1]", "10.1.2.3", "169.254.169.254", "[fd00:ec2::254]", "0.0.0.0"]
)
async def test_forbidden_literals_are_denied(make_sender, server, host):
    """An address in the URL is judged at the dial, and the outcome says why and that nothing was sent."""
    sender = await make_sender(guard)
    async with canary(server.port):
        outcome = await sender.send(request(f"http://{host}:{server.port}/ok"), PATIENCE_S)
    assert outcome.kind is OutcomeKind.EGRESS_DENIED
    assert not outcome.maybe_sent
    assert outcome.error


async def test_the_guard_is_asked_with_address_and_scheme(make_sender, server):
    """What the guard gets is the address that would be dialled, and the URL's scheme."""
    asked = []

    def refuse(address: str, scheme: str) -> str:
        asked.append((address, scheme))
        return "because"

    async with DnsServer({"name.test": [["203.0.113.9"]]}) as dns:
        sender = await make_sender(refuse, nameservers=[dns.address])
        for url in ["http://name.test/", "https://name.test/", "https://[2001:db8::1]/", "http://192.0.2.1:81/"]:
            outcome = await sender.send(request(url), PATIENCE_S)
            assert (outcome.kind, "because" in outcome.error) == (OutcomeKind.EGRESS_DENIED, True)
    assert asked == [("203.0.113.9", "http"), ("203.0.113.9", "https"), ("2001:db8::1", "https"), ("192.0.2.1", "http")]


async def test_names_of_forbidden_addresses_are_denied(make_sender, server):
    """A name that resolves to a forbidden address is denied, without a connection."""
    async with DnsServer({"inside.test": [["127.0.0.66"]]}) as dns, canary(server.port):
        sender = await make_sender(guard, nameservers=[dns.address])
        outcome = await sender.send(request(server.url("ok", "inside.test")), PATIENCE_S)
    assert outcome.kind is OutcomeKind.EGRESS_DENIED


@pytest.mark.parametrize("answer", [["127.0.0.1", "127.0.0.66"], ["127.0.0.66", "127.0.0.1"], ["fd00::1", "127.0.0.1"]])
async def test_of_a_mixed_answer_only_the_allowed_part_is_dialled(make_sender, server, answer):
    """Whatever the order, the allowed address is used and the forbidden one never connected to."""
    async with DnsServer({"mixed.test": [answer]}) as dns, canary(server.port):
        sender = await make_sender(guard, nameservers=[dns.address])
        outcome = await sender.send(request(server.url("ok", "mixed.test")), PATIENCE_S)
    assert outcome.status == 200


async def test_a_mixed_answer_whose_allowed_part_fails_is_denied(make_sender):
    """If the allowed address refuses or hangs, what remains is forbidden: denied, not retried for ever."""
    async with DnsServer({"mixed.test": [["127.0.0.66", "127.0.0.1"]]}) as dns:
        sender = await make_sender(guard, nameservers=[dns.address])
        for broken in [refusing_port, unaccepting_port]:
            with broken() as port:
                for limit_s in LADDER_S:
                    outcome = await sender.send(request(f"http://mixed.test:{port}/", connect_timeout_s=limit_s), 30.0)
                    if outcome.kind is OutcomeKind.EGRESS_DENIED:
                        break
            assert outcome.kind is OutcomeKind.EGRESS_DENIED
            assert not outcome.maybe_sent


async def test_rebinding_changes_nothing(make_sender, server, clock):
    """A name that was allowed once and then points inward is denied at the next dial."""
    async with DnsServer({"rebind.test": [["127.0.0.1"], ["127.0.0.66"]]}) as dns, canary(server.port):
        sender = await make_sender(guard, nameservers=[dns.address], max_idle=0, clock=clock)
        url = server.url("ok", "rebind.test")
        assert (await sender.send(request(url), PATIENCE_S)).status == 200
        clock.advance(2.0)
        outcome = await sender.send(request(url), PATIENCE_S)
    assert outcome.kind is OutcomeKind.EGRESS_DENIED


@pytest.mark.parametrize("broken", [refusing_port, unaccepting_port])
async def test_the_second_address_has_its_turn(make_sender, broken):
    """An address that refuses or hangs costs its share of the time, and the next one is tried."""
    dialled = []

    def note(address: str, _scheme: str) -> None:
        dialled.append(address)

    with broken() as port:  # first, for at this address others have ports too
        async with (
            DnsServer({"two.test": [["127.0.0.1", "127.0.0.2"]]}) as dns,
            HostileServer(host="127.0.0.2", port=port) as server,
        ):
            sender = await make_sender(note, nameservers=[dns.address])
            for limit_s in (0.6, *LADDER_S[1:]):
                dialled.clear()
                outcome = await sender.send(request(server.url("ok", "two.test"), connect_timeout_s=limit_s), 30.0)
                if outcome.kind is OutcomeKind.RESPONSE:
                    break
    assert outcome.status == 200
    assert dialled == ["127.0.0.1", "127.0.0.2"]


async def test_when_every_address_fails_the_last_word_is_told(make_sender):
    """A name with several addresses of which none connects says how many there were and how the last one failed."""
    async with DnsServer({"two.test": [["127.0.0.1", "127.0.0.2"]]}) as dns:
        sender = await make_sender(nameservers=[dns.address])
        with refusing_port() as port:
            outcome = await sender.send(request(f"http://two.test:{port}/"), PATIENCE_S)
    assert outcome.kind is OutcomeKind.CONNECT_FAILED
    assert "2 addresses" in outcome.error
    assert "refused" in outcome.error


async def test_the_environment_names_no_proxy(make_sender, server, monkeypatch):
    """Proxy variables of the environment are not honoured: they would hide the address from the guard."""
    for name in ["no_proxy", "NO_PROXY"]:
        monkeypatch.delenv(name, raising=False)
    with refusing_port() as port:
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]:
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        sender = await make_sender(guard)
        assert (await sender.send(request(server.url("ok")), PATIENCE_S)).status == 200


async def test_a_bug_in_the_guard_denies_and_is_reported(make_sender, server):
    """If judging itself fails nothing is sent, the outcome is our own fault, and the loop's handler gets the trace."""
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reports.append(context))

    def broken(_address: str, _scheme: str) -> str | None:
        raise KeyError("hunter2")

    sender = await make_sender(broken)
    outcome = await sender.send(request(server.url("ok")), PATIENCE_S)
    assert (outcome.kind, outcome.error, outcome.maybe_sent) == (OutcomeKind.INTERNAL_ERROR, "KeyError", False)
    assert isinstance(reports[0]["exception"], KeyError)
    assert server.connections == 0
