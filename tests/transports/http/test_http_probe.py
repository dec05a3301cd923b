"""The way of a request told stage by stage: the facts are those a delivery would meet, and no request is made."""

import datetime as dt
import ssl

import pytest
import trustme
from tests.harness.dns_server import SILENT, DnsServer
from tests.harness.hostile_ports import accepting_silence, greeting_port, refusing_port
from tests.harness.hostile_server import HostileServer

from ringback.transports.dial import Origin
from ringback.transports.probe import read_certificate

PATIENCE_S = 30.0
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch):
    """The authority that is trusted here."""
    made = trustme.CA(organization_name="Test authority")
    with made.cert_pem.tempfile() as path:
        monkeypatch.setenv("SSL_CERT_FILE", path)
        yield made


def context_of(leaf: trustme.LeafCert) -> ssl.SSLContext:
    """A server's side with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context


def origin(port: int, scheme: str = "http", host: str = "localhost", *, tls_verify: bool = True) -> Origin:
    """Where to knock."""
    return Origin(scheme, host, port, tls_verify)


async def test_a_name_is_told_with_all_its_addresses(make_sender):
    """Addresses in order; the second look-up says that nobody was asked."""
    async with DnsServer({"name.test": [["192.0.2.1", "192.0.2.2"]]}) as dns:
        prober = (await make_sender(nameservers=[dns.address])).prober
        first = await prober.look_up("name.test", PATIENCE_S)
        again = await prober.look_up("name.test", PATIENCE_S)
    assert first.addresses == again.addresses == ("192.0.2.1", "192.0.2.2")
    assert (first.asked, again.asked) == (True, False)


async def test_a_name_that_fails_is_told_in_words(make_sender):
    """An unknown name has the name server's word, a silent server its deadline's; a literal asks nobody."""
    async with DnsServer({"silent.test": [SILENT]}) as dns:
        prober = (await make_sender(nameservers=[dns.address])).prober
        gone = await prober.look_up("gone.test", PATIENCE_S)
        silent = await prober.look_up("silent.test", 0.05)
        literal = await prober.look_up("192.0.2.9", PATIENCE_S)
    assert gone.error
    assert silent.error == "no name server answered within 0.05 s"
    assert (literal.addresses, literal.asked) == (("192.0.2.9",), False)


async def test_every_address_is_tried_and_told(make_sender, server):
    """An open one, a closed one, and one that the egress rules refuse and nobody connects to."""

    def judge(address: str, _scheme: str) -> str | None:
        return "no private addresses" if address.startswith("10.") else None

    sender = await make_sender(judge)
    knocks = await sender.prober.knock(origin(server.port), ("127.0.0.1", "10.0.0.1"), PATIENCE_S)
    assert [(knock.open, knock.refused) for knock in knocks] == [(True, None), (False, "no private addresses")]
    with refusing_port() as port:
        (closed,) = await sender.prober.knock(origin(port), ("127.0.0.1",), PATIENCE_S)
    assert closed.error == "connection refused"
    assert not server.requests


async def test_a_good_certificate_is_told(sender, authority):
    """Protocol, names and dates; no request is made, and no connection stays."""
    leaf = authority.issue_cert("localhost", "127.0.0.1", common_name="receiver", not_after=NOW + 30 * DAY)
    async with HostileServer(tls=context_of(leaf)) as server:
        shake = await sender.prober.shake(origin(server.port, "https"), "127.0.0.1", PATIENCE_S)
        assert (shake.error, shake.version) == (None, "TLSv1.3")
        assert shake.certificate.names == ("localhost", "127.0.0.1")
        assert shake.certificate.subject == "receiver"
        assert shake.certificate.issuer == "Test authority"
        assert abs(shake.certificate.not_after_ms - (NOW + 30 * DAY).timestamp() * 1000) < 1000
        assert not server.requests
    assert sender.idle_connections == 0


@pytest.mark.parametrize(
    ("name", "changes", "code", "words"),
    [
        ("localhost", {"not_before": NOW - 2 * DAY, "not_after": NOW - DAY}, 10, "expired"),
        ("other.test", {}, 62, "mismatch"),
    ],
)
async def test_a_certificate_that_does_not_verify_is_looked_at_all_the_same(
    sender, authority, name, changes, code, words
):
    """What is wrong by OpenSSL's number, and the certificate itself."""
    async with HostileServer(tls=context_of(authority.issue_cert(name, **changes))) as server:
        shake = await sender.prober.shake(origin(server.port, "https"), "127.0.0.1", PATIENCE_S)
        assert shake.verify_code == code
        assert words in shake.error.lower()
        assert shake.certificate.names == (name,)
        assert not server.requests


async def test_what_is_no_tls_is_told(sender):
    """A plain server, and one that says nothing, fail in words within their time."""
    async with greeting_port(b"220 mail\r\n") as port:
        plain = await sender.prober.shake(origin(port, "https"), "127.0.0.1", PATIENCE_S)
    assert "TLS handshake failed" in plain.error
    assert plain.verify_code == 0
    with accepting_silence() as port:
        silent = await sender.prober.shake(origin(port, "https"), "127.0.0.1", 0.1)
    assert silent.error == "no complete handshake within 0.1 s"


async def test_a_refused_address_is_never_shaken(make_sender, server):
    """The guard stands before the handshake's socket too."""
    sender = await make_sender(lambda _address, _scheme: "closed")
    shake = await sender.prober.shake(origin(server.port, "https"), "127.0.0.1", PATIENCE_S)
    assert shake.error == "closed"
    assert server.connections == 0


def test_bytes_that_are_no_certificate_are_nothing():
    """Rubbish from the network is no exception."""
    assert read_certificate(b"\x30\x03rubbish") is None
    assert read_certificate(None) is None
