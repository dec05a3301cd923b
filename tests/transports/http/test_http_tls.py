"""Encrypted requests: every way a certificate can be wrong is a failure in words, and never a way around."""

import datetime as dt
import ssl
from collections.abc import Iterator

import pytest
import trustme
from tests.harness.hostile_ports import accepting_silence, greeting_port
from tests.harness.hostile_server import HostileServer
from tests.harness.waiting import LADDER_S
from tests.transports.http.helpers import out_of_files, request

from ringback.core.model import OutcomeKind
from ringback.transports import dial

PATIENCE_S = 30.0
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The authority that is trusted here."""
    return trustme.CA()


@pytest.fixture(autouse=True)
def _trusted(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the default context trust the test's authority, as an operator would."""
    with authority.cert_pem.tempfile() as path:
        monkeypatch.setenv("SSL_CERT_FILE", path)
        yield


def context_of(leaf: trustme.LeafCert) -> ssl.SSLContext:
    """A server's side with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context


def good(authority: trustme.CA) -> ssl.SSLContext:
    """A certificate that is as it should be."""
    return context_of(authority.issue_cert("localhost", "127.0.0.1"))


def wrong_host(authority: trustme.CA) -> ssl.SSLContext:
    """A certificate for somebody else."""
    return context_of(authority.issue_cert("other.test"))


def expired(authority: trustme.CA) -> ssl.SSLContext:
    """A certificate whose time is over."""
    return context_of(authority.issue_cert("localhost", not_before=NOW - 2 * DAY, not_after=NOW - DAY))


def not_yet_valid(authority: trustme.CA) -> ssl.SSLContext:
    """A certificate whose time hasn't come."""
    return context_of(authority.issue_cert("localhost", not_before=NOW + DAY, not_after=NOW + 2 * DAY))


def unknown_authority(_authority: trustme.CA) -> ssl.SSLContext:
    """A certificate of an authority nobody trusts."""
    return context_of(trustme.CA().issue_cert("localhost"))


def missing_intermediate(authority: trustme.CA) -> ssl.SSLContext:
    """A certificate without the chain that leads to the authority."""
    leaf = authority.create_child_ca().issue_cert("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with leaf.private_key_pem.tempfile() as key, leaf.cert_chain_pems[0].tempfile() as certificate:
        context.load_cert_chain(certificate, key)
    return context


def too_wide(authority: trustme.CA) -> ssl.SSLContext:
    """A certificate that would cover a whole top-level domain, and not this host."""
    return context_of(authority.issue_cert("*.test"))


async def test_a_good_certificate_is_good(sender, authority):
    """HTTPS works by name and by address, and keeps its connection."""
    async with HostileServer(tls=good(authority)) as server:
        for host in ["localhost", "127.0.0.1", "localhost"]:
            outcome = await sender.send(request(server.url("ok", host)), PATIENCE_S)
            assert (outcome.status, outcome.error) == (200, None)
        assert server.connections == 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (wrong_host, "hostname mismatch"),
        (expired, "expired"),
        (not_yet_valid, "not yet valid"),
        (unknown_authority, "unable to get local issuer"),
        (missing_intermediate, "unable to get local issuer"),
        (too_wide, "hostname mismatch"),
    ],
)
async def test_a_bad_certificate_is_refused_in_words(sender, authority, make, words):
    """The outcome is TLS_FAILED with the reason an operator can act on; no request was sent."""
    async with HostileServer(tls=make(authority)) as server:
        outcome = await sender.send(request(server.url("ok", "localhost")), PATIENCE_S)
        assert outcome.kind is OutcomeKind.TLS_FAILED
        assert not outcome.maybe_sent
        assert words in outcome.error.lower()
        assert not server.requests


async def test_an_address_needs_a_certificate_for_it(sender, authority):
    """A URL with an address isn't satisfied by a certificate for a name."""
    async with HostileServer(tls=context_of(authority.issue_cert("localhost"))) as server:
        outcome = await sender.send(request(server.url("ok", "127.0.0.1")), PATIENCE_S)
    assert outcome.kind is OutcomeKind.TLS_FAILED
    assert "127.0.0.1" in outcome.error


@pytest.mark.parametrize("make", [wrong_host, expired, not_yet_valid, unknown_authority])
async def test_verification_is_off_only_on_request(sender, authority, make):
    """With tls_verify off a bad certificate passes, and that connection never serves a request that verifies."""
    async with HostileServer(tls=make(authority)) as server:
        url = server.url("ok", "localhost")
        assert (await sender.send(request(url, tls_verify=False), PATIENCE_S)).status == 200
        assert (await sender.send(request(url), PATIENCE_S)).kind is OutcomeKind.TLS_FAILED
        assert (await sender.send(request(url, tls_verify=False), PATIENCE_S)).status == 200
        assert [seen.turn for seen in server.requests] == [1, 2]


async def test_old_protocols_are_refused(sender, authority):
    """A server that speaks nothing newer than TLS 1.1 is refused."""
    context = good(authority)
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    async with HostileServer(tls=context) as server:
        outcome = await sender.send(request(server.url("ok", "localhost")), PATIENCE_S)
    assert outcome.kind is OutcomeKind.TLS_FAILED


async def test_a_server_that_wants_our_certificate_is_a_tls_failure(sender, authority):
    """A server that demands a client certificate fails as TLS_FAILED or as a closed connection, never as a success."""
    context = good(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    async with HostileServer(tls=context) as server:
        outcome = await sender.send(request(server.url("ok", "localhost")), PATIENCE_S)
        assert outcome.kind in {OutcomeKind.TLS_FAILED, OutcomeKind.RESET}
        assert not server.requests


async def test_a_stalled_handshake_ends_at_the_connect_deadline(sender):
    """A peer that accepts and says nothing ends at connect_timeout_s, named as the handshake, with nothing sent."""
    with accepting_silence() as port:
        for limit_s in LADDER_S:
            outcome = await sender.send(request(f"https://127.0.0.1:{port}/", connect_timeout_s=limit_s), 30.0)
            if "TLS handshake" in outcome.error:
                break
    assert outcome.kind is OutcomeKind.CONNECT_TIMEOUT
    assert not outcome.maybe_sent
    assert "TLS handshake" in outcome.error


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(range(256))])
async def test_a_server_without_tls_is_a_tls_failure(sender, greeting):
    """A server that closes or speaks something else instead of the handshake fails as TLS_FAILED; nothing was sent."""
    async with greeting_port(greeting) as port:
        outcome = await sender.send(request(f"https://127.0.0.1:{port}/"), PATIENCE_S)
    assert outcome.kind is OutcomeKind.TLS_FAILED
    assert not outcome.maybe_sent
    assert outcome.error.startswith("TLS handshake failed: ")


async def test_a_stale_encrypted_connection_is_replaced_too(sender, authority):
    """A kept TLS connection that the server drops is replaced like a plain one."""
    async with HostileServer(tls=good(authority)) as server:
        for _ in range(4):
            assert (await sender.send(request(server.url("stale", "localhost")), PATIENCE_S)).status == 200


@pytest.mark.parametrize("path", ["endless-103", "endless-body", "endless-header"])
async def test_floods_over_tls_end_like_others(sender, authority, path):
    """The bounds hold on what comes out of the decryption."""
    async with HostileServer(tls=good(authority)) as server:
        outcome = await sender.send(request(server.url(path, "localhost")), 20.0)
    assert outcome.kind is (OutcomeKind.RESPONSE if path == "endless-body" else OutcomeKind.PROTOCOL_ERROR)
    assert outcome.elapsed_ms < 10_000


async def test_certificates_that_could_not_be_read_are_read_again(sender, authority, monkeypatch):
    """A context made without descriptors would trust nobody for ever: it isn't kept, and nobody else is blamed."""
    make = dial._tls_context

    def without_files(*, verify: bool) -> ssl.SSLContext:
        with out_of_files():
            return make(verify=verify)

    async with HostileServer(tls=good(authority)) as server:
        with monkeypatch.context() as patch:
            patch.setattr(dial, "_tls_context", without_files)
            outcome = await sender.send(request(server.url("ok")), PATIENCE_S)
        assert outcome.kind is OutcomeKind.NO_RESOURCES
        assert (await sender.send(request(server.url("ok")), PATIENCE_S)).status == 200
