"""Requests through a proxy: tunnels and absolute form, the guard before them, and proxies that refuse or misbehave."""

import asyncio
import ssl

import pytest
import trustme
from tests.harness.dns_server import SILENT, DnsServer
from tests.harness.hostile_ports import refusing_port, unaccepting_port
from tests.harness.hostile_server import HostileServer
from tests.harness.proxy import HOSTILE, TestingProxy, hang
from tests.harness.waiting import LADDER_S
from tests.transports.http.helpers import allow_all, request

from ringback.core.model import OutcomeKind
from ringback.core.proxy import Proxy, parse_proxy

PATIENCE_S = 30.0
NAME = "hooks.example.com"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The authority that is trusted here."""
    return trustme.CA()


@pytest.fixture(autouse=True)
def _trusted(authority, monkeypatch):
    """Make the default context trust it."""
    with authority.cert_pem.tempfile() as path:
        monkeypatch.setenv("SSL_CERT_FILE", path)
        yield


def encrypted(authority, *names):
    """A receiver that has a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or (NAME,))).configure_cert(context)
    return HostileServer(tls=context)


def at(proxy, credentials=""):
    """The way through this proxy."""
    return parse_proxy(f"http://{credentials}127.0.0.1:{proxy.port}")


@pytest.fixture
async def routed(make_sender):
    """Make senders whose requests go through a proxy, with a name server that knows little."""
    servers = []

    async def make(via, zone=None, judge=allow_all, **changes):
        dns = await DnsServer(zone or {}).__aenter__()
        servers.append(dns)
        changes.setdefault("judge_name", allow_all)
        sender = await make_sender(judge, nameservers=[dns.address], **changes)
        sender.route(via)
        return sender

    yield make
    for dns in servers:
        await dns.__aexit__(None, None, None)


async def test_https_goes_through_a_tunnel_to_the_name(routed, authority):
    """CONNECT with the name and the password; TLS is the receiver's own, which never sees that there is a proxy."""
    async with encrypted(authority) as server, TestingProxy("joe:p@ss", {NAME: server.port}) as proxy:
        sender = await routed(at(proxy, "joe:p%40ss@"))
        for _ in range(2):
            assert (await sender.send(request(server.url("ok", NAME)), PATIENCE_S)).status == 200
        assert proxy.targets == [f"CONNECT {NAME}:{server.port}"], "the tunnel is kept for the next request"
        assert proxy.requests[0].headers["host"] == f"{NAME}:{server.port}"
        assert [seen.turn for seen in server.requests] == [1, 2]
        assert all(b"proxy" not in seen.head.lower() for seen in server.requests)
        assert server.requests[0].head.startswith(b"POST /ok HTTP/1.1\r\n")
        sender.close_idle()


async def test_http_goes_in_absolute_form(routed, server):
    """The proxy reads the whole URL and its own password; the connection to it is kept."""
    async with TestingProxy("joe:", {NAME: server.port}) as proxy:
        sender = await routed(at(proxy, "joe@"))
        for turn in "12":
            assert (await sender.send(request(f"http://{NAME}/ok?turn={turn}"), PATIENCE_S)).status == 200
        assert proxy.targets == [f"POST http://{NAME}/ok?turn=1", f"POST http://{NAME}/ok?turn=2"]
        assert proxy.connections == 1
        assert [seen.query for seen in server.requests] == [{"turn": "1"}, {"turn": "2"}]
        sender.close_idle()


async def test_connections_of_two_ways_never_mix(routed, server):
    """Straight, through a proxy, through it with another password and straight again: each has its own connection."""
    async with TestingProxy() as proxy:
        sender = await routed(None)
        for way, connections in ((None, 0), (at(proxy), 1), (at(proxy, "a:b@"), 2), (None, 2)):
            sender.route(way)
            assert sender.idle_connections == 0
            for _ in range(2):
                assert (await sender.send(request(server.url("ok")), PATIENCE_S)).status == 200
            assert proxy.connections == connections
        assert server.connections == 4
        sender.close_idle()


async def test_a_request_under_way_keeps_its_way(routed, server):
    """What began before a change of route ends by it, and its connection isn't kept."""
    go_on = asyncio.Event()

    async def answer_late(reader, writer):
        await go_on.wait()
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await hang(reader, writer)

    async with TestingProxy(script=answer_late) as proxy:
        sender = await routed(at(proxy))
        flying = asyncio.create_task(sender.send(request(server.url("ok")), PATIENCE_S))
        async with asyncio.timeout(PATIENCE_S):
            await proxy.asked.wait()
        sender.route(None)
        assert (await sender.send(request(server.url("ok")), PATIENCE_S)).status == 200
        go_on.set()
        assert (await flying).status == 204
        assert (proxy.connections, server.connections, sender.idle_connections) == (1, 1, 1)
        sender.close_idle()


def judge(address, _scheme):
    """A guard that forbids one network."""
    return "inside" if address.startswith(("10.", "fd")) else None


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("10.0.0.1", "10.0.0.1: inside"),
        ("[fd00::1]", "fd00::1: inside"),
        ("inside.example.com", "10.0.0.2: inside"),
        ("mixed.example.com", "10.0.0.3: inside"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_guard_judges_the_target(routed, host, words, scheme):
    """Literals and what names resolve to here; one forbidden address is enough, for the proxy chooses."""
    zone = {"inside.example.com": [["10.0.0.2"]], "mixed.example.com": [["192.0.2.1", "10.0.0.3"]]}
    async with TestingProxy() as proxy:
        sender = await routed(at(proxy), zone, judge)
        outcome = await sender.send(request(f"{scheme}://{host}/"), PATIENCE_S)
        assert (outcome.kind, outcome.error, outcome.maybe_sent) == (OutcomeKind.EGRESS_DENIED, words, False)
        assert proxy.connections == 0


async def test_the_proxy_itself_is_not_judged(routed, server):
    """Its address is the operator's word, wherever it lies."""
    async with TestingProxy(names={NAME: server.port}) as proxy:
        sender = await routed(at(proxy), judge=lambda address, _: "inside" if address.startswith("127.") else None)
        assert (await sender.send(request(f"http://{NAME}/ok"), PATIENCE_S)).status == 200
        denied = await sender.send(request(server.url("ok")), PATIENCE_S)
        assert denied.kind is OutcomeKind.EGRESS_DENIED
        sender.close_idle()


async def test_an_unknown_name_is_left_to_the_proxy_only_where_the_guard_agrees(routed, server):
    """Else it is as if it didn't resolve, and is tried again later; the proxy hears nothing of it."""
    async with TestingProxy(names={NAME: server.port}) as proxy:
        sender = await routed(at(proxy), judge_name=lambda host, _: None if host == NAME else "not that one")
        assert (await sender.send(request(f"http://{NAME}/ok"), PATIENCE_S)).status == 200
        outcome = await sender.send(request("http://intranet/ok"), PATIENCE_S)
        assert outcome.kind is OutcomeKind.DNS_FAILED
        assert "intranet" in outcome.error
        assert "not that one" in outcome.error
        assert proxy.targets == [f"POST http://{NAME}/ok"]
        sender.close_idle()


async def test_a_silent_name_server_does_not_hold_a_proxied_request_up(routed, server):
    """Where nobody answers for names the guard's look takes a part of the time, not all of it."""
    async with TestingProxy(names={NAME: server.port}) as proxy:
        sender = await routed(at(proxy), {NAME: [SILENT]})
        for limit_s in (1.0, *LADDER_S[1:]):
            outcome = await sender.send(request(f"http://{NAME}/ok", connect_timeout_s=limit_s), 30.0)
            if outcome.kind is OutcomeKind.RESPONSE:
                break
        assert outcome.status == 200
        sender.close_idle()


@pytest.mark.parametrize(("status", "words"), [(407, "407 Proxy Authentication Required"), (403, "403 Forbidden"),
                                               (502, "502 Bad Gateway"), (799, "799")])  # fmt: skip
async def test_a_refused_tunnel_is_said_to_be_the_proxy_s(routed, status, words):
    """Nothing reached the receiver; the proxy's own words, which here repeat the password, are left out."""
    async with TestingProxy(refuse=status) as proxy:
        sender = await routed(at(proxy, "joe:hunter2@"))
        outcome = await sender.send(request("https://192.0.2.1/"), PATIENCE_S)
        assert (outcome.kind, outcome.maybe_sent) == (OutcomeKind.CONNECT_FAILED, False)
        assert outcome.error == f"the proxy refused: {words}"
        assert sender.open_connections == 0


async def test_a_wrong_password_for_plain_http_is_the_proxy_s_too(routed, server):
    """407 is no receiver's to say, so it isn't taken for an answer to the delivery."""
    async with TestingProxy("joe:right") as proxy:
        sender = await routed(at(proxy, "joe:wrong@"))
        outcome = await sender.send(request(server.url("ok")), PATIENCE_S)
        assert (outcome.kind, outcome.maybe_sent) == (OutcomeKind.CONNECT_FAILED, False)
        assert outcome.error == "the proxy refused: 407 Proxy Authentication Required"
        assert not server.requests


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_proxy_is_a_failure_in_words(routed, name):
    """Whatever comes in place of a tunnel ends the attempt at once, as a failed connection, and holds no socket."""
    script, words = HOSTILE[name]
    async with TestingProxy(script=script) as proxy:
        sender = await routed(at(proxy))
        outcome = await sender.send(request("https://192.0.2.1/"), PATIENCE_S)
        assert (outcome.kind, outcome.maybe_sent) == (OutcomeKind.CONNECT_FAILED, False)
        assert words in outcome.error
        assert sender.open_connections == 0


async def test_a_proxy_that_does_not_answer_has_the_time_to_connect(routed):
    """The outcome says whom it waited for."""
    async with TestingProxy(script=hang) as proxy:
        sender = await routed(at(proxy))
        for limit_s in LADDER_S:
            outcome = await sender.send(request("https://192.0.2.1/", connect_timeout_s=limit_s), 30.0)
            if "the proxy's answer" in outcome.error:
                break
        assert outcome.kind is OutcomeKind.CONNECT_TIMEOUT
        assert "the proxy's answer" in outcome.error


async def test_a_cancelled_request_leaves_no_tunnel(routed):
    """Cut off while the proxy thinks, the socket goes at once: the proxy sees the end."""
    gone = asyncio.Event()

    async def until_gone(reader, writer):
        await hang(reader, writer)
        gone.set()

    async with TestingProxy(script=until_gone) as proxy:
        sender = await routed(at(proxy))
        flying = asyncio.create_task(sender.send(request("https://192.0.2.1/"), PATIENCE_S))
        await proxy.asked.wait()
        flying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flying
        await asyncio.wait_for(gone.wait(), PATIENCE_S)


async def test_a_proxy_that_is_not_there_is_named(routed):
    """Refused, unanswered or unknown: the words say that it is the proxy."""
    with refusing_port() as nobody, unaccepting_port() as busy:
        for via, kind, limit_s in (
            (Proxy("127.0.0.1", nobody), OutcomeKind.CONNECT_FAILED, PATIENCE_S),
            (Proxy("127.0.0.1", busy), OutcomeKind.CONNECT_TIMEOUT, 0.5),
            (Proxy("proxy.example.com", 3128), OutcomeKind.DNS_FAILED, PATIENCE_S),
        ):
            sender = await routed(via)
            outcome = await sender.send(request("https://192.0.2.1/", connect_timeout_s=limit_s), PATIENCE_S)
            assert (outcome.kind, outcome.maybe_sent) == (kind, False)
            assert "proxy" in outcome.error


async def test_the_receiver_s_certificate_counts_not_the_proxy_s_word(routed, authority):
    """A tunnel that leads to somebody else fails in the handshake; nothing is sent."""
    async with encrypted(authority, "other.test") as server, TestingProxy(names={NAME: server.port}) as proxy:
        sender = await routed(at(proxy))
        outcome = await sender.send(request(f"https://{NAME}/ok"), PATIENCE_S)
        assert (outcome.kind, outcome.maybe_sent) == (OutcomeKind.TLS_FAILED, False)
        assert not server.requests
