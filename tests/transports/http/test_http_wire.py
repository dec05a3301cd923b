"""The pure half: a request's bytes, a response's headers, the version check."""

import pytest
from tests.transports.http.helpers import ManualClock, request

from ringback.core.model import Outcome, OutcomeKind
from ringback.transports.http import HttpSender, check_aiohttp
from ringback.transports.wire import (
    MAX_KEPT_HEADER_BYTES,
    MAX_KEPT_HEADERS,
    RefusedRequestError,
    build_head,
    kept_headers,
    parse_url,
)


@pytest.mark.parametrize(
    ("url", "host", "port", "header", "path"),
    [
        ("https://example.com", "example.com", 443, "example.com", "/"),
        ("http://EXAMPLE.com:80?q=1", "example.com", 80, "example.com", "/?q=1"),
        ("https://example.com:8443/a%20b/../c?x=%2F", "example.com", 8443, "example.com:8443", "/a%20b/../c?x=%2F"),
        ("http://[2001:DB8::1]:81/", "2001:db8::1", 81, "[2001:db8::1]:81", "/"),
        ("https://bücher.example/", "xn--bcher-kva.example", 443, "xn--bcher-kva.example", "/"),
    ],
)
def test_urls_are_taken_apart(url, host, port, header, path):
    """Host, port, Host header and request target are what the URL says, untouched where it counts."""
    address = parse_url(url)
    assert (address.host, address.port, address.host_header, address.path) == (host, port, header, path)


@pytest.mark.parametrize("url", ["", "example.com", "http://", "http://2130706433/", "http://a/#b", "http://a b/"])
def test_what_the_egress_reader_refuses_is_refused_here(url):
    """The sender's reader is the guard's reader: nothing passes one and not the other."""
    with pytest.raises(RefusedRequestError):
        parse_url(url)


def test_accept_encoding_can_be_given():
    """A caller's own Accept-Encoding replaces the identity that is otherwise asked for."""
    wanted = request("http://a.test/", headers=(("accept-encoding", "gzip"),))
    assert build_head(wanted, parse_url(wanted.url)).lower().count(b"accept-encoding") == 1


def test_kept_headers_stop_at_both_limits():
    """The count and the size are each a limit, and exactly reaching one is allowed."""
    assert len(kept_headers([(b"n", b"v")] * (MAX_KEPT_HEADERS + 1))) == MAX_KEPT_HEADERS
    half = (b"n", b"v" * (MAX_KEPT_HEADER_BYTES // 2 - 1))
    assert len(kept_headers([half, half, (b"n", b"")])) == 2


@pytest.mark.parametrize("version", ["3.14.3", "3.9.0", "2.99", "3.14.3b1"])
def test_an_old_aiohttp_is_refused(version):
    """A version with known holes is named together with the one that is needed."""
    with pytest.raises(RuntimeError, match=r"3\.14\.4"):
        check_aiohttp(version)


@pytest.mark.parametrize("version", ["3.14.4", "3.15.0", "4.0.0a1"])
def test_a_good_aiohttp_passes(version):
    """The oldest good version and newer ones start."""
    assert check_aiohttp(version) is None


async def test_elapsed_time_is_the_clocks(make_sender, server):
    """elapsed_ms is measured with the clock that was handed in."""
    clock = ManualClock()

    def slow_guard(_address: str, _scheme: str) -> None:
        clock.advance(1.25)

    sender: HttpSender = await make_sender(slow_guard, clock=clock)
    outcome: Outcome = await sender.send(request(server.url("ok")), 5.0)
    assert (outcome.kind, outcome.elapsed_ms) == (OutcomeKind.RESPONSE, 1250)
