"""What comes back from a misbehaving receiver, and that it never costs more than it may."""

import json

import pytest
from tests.harness.waiting import LADDER_S
from tests.transports.http.helpers import request

from ringback.core.model import OutcomeKind

SHORT_S = 0.15


async def test_a_good_answer_comes_back_whole(post):
    """A plain 200 gives its status, headers, body and a non-negative time."""
    outcome = await post("ok")
    assert (outcome.kind, outcome.status, outcome.body, outcome.truncated) == (OutcomeKind.RESPONSE, 200, b"ok", False)
    assert outcome.headers == (("Content-Type", "text/plain"), ("Content-Length", "2"))
    assert outcome.error is None
    assert outcome.maybe_sent
    assert outcome.elapsed_ms >= 0


async def test_the_request_is_sent_as_given(post, server):
    """Headers, body, path and query go out unchanged, with exactly one Host and Content-Length and nothing invented."""
    headers = (("content-type", "application/json"), ("webhook-signature", "v1,a v1,b"), ("X-Name", "Zürich"))
    body = b'{"n":18446744073709551616}\r\n\x00\xff'
    await post("ok/%7Ea/b;c?q=1&r=%20x", headers=headers, body=body)
    (seen,) = server.requests
    lines = seen.head.split(b"\r\n")
    assert lines[0] == b"POST /ok/%7Ea/b;c?q=1&r=%20x HTTP/1.1"
    assert lines[1] == f"Host: 127.0.0.1:{server.port}".encode()
    assert lines[2:5] == [b"content-type: application/json", b"webhook-signature: v1,a v1,b", "X-Name: Zürich".encode()]
    assert lines[5:] == [b"Accept-Encoding: identity", b"Content-Length: %d" % len(body), b"", b""]
    assert seen.body == body


@pytest.mark.parametrize(("method", "length"), [("GET", []), ("PUT", ["0"]), ("DELETE", ["0"])])
async def test_other_methods_carry_a_length_only_where_a_body_is_expected(post, server, method, length):
    """GET without a body has no Content-Length, PUT and DELETE say 0."""
    outcome = await post("echo", method=method, body=b"")
    assert outcome.status == 200
    assert [value for name, value in server.requests[0].headers if name.lower() == "content-length"] == length


async def test_head_has_no_body_and_keeps_the_connection(post, server):
    """A HEAD response is complete without the body its Content-Length speaks of."""
    assert (await post("echo", method="HEAD", body=b"")).body == b""
    assert (await post("ok")).status == 200
    assert server.connections == 1


@pytest.mark.parametrize("size", [65536, 65537, 3_000_000])
async def test_large_bodies_arrive(post, server, size):
    """A request body of any size arrives complete, whether or not it fits one write."""
    assert (await post("ok", body=b"x" * size)).status == 200
    assert len(server.requests[0].body) == size


@pytest.mark.parametrize(("text", "status"), [("999", 999), ("000", 0), ("204", 204), ("304", 304), ("410", 410)])
async def test_any_three_digits_are_a_status(post, text, status):
    """Odd statuses arrive as numbers: judging them is not the transport's business."""
    outcome = await post(f"status/{text}")
    assert (outcome.kind, outcome.status) == (OutcomeKind.RESPONSE, status)


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("framing", ["bodied", "bodied-chunks"])
async def test_a_body_where_none_can_be_spoils_nothing(post, server, status, framing):
    """Many a framework sends {} with its 204: that is an answer, without the body, on a connection not used again."""
    outcome = await post(f"{framing}/{status}")
    assert (outcome.kind, outcome.status, outcome.body) == (OutcomeKind.RESPONSE, status, b"")
    assert (await post("ok")).status == 200
    assert server.connections == 2


async def test_switching_protocols_is_final_and_ends_the_connection(post, server):
    """A 101 is an answer like any other, and its connection isn't used again."""
    outcome = await post("switching")
    assert (outcome.kind, outcome.status) == (OutcomeKind.RESPONSE, 101)
    await post("ok")
    assert server.connections == 2


async def test_interim_responses_are_skipped(post):
    """1xx heads before the final one don't count."""
    outcome = await post("interim")
    assert (outcome.status, outcome.body) == (200, b"ok")


async def test_a_body_may_end_with_the_connection(post):
    """Without a length the end of the connection ends the body, and nothing is truncated."""
    outcome = await post("until-eof")
    assert (outcome.status, outcome.body, outcome.truncated) == (200, b"no length, just an end", False)


async def test_tiny_chunks_are_honest(post):
    """A chunked body of single bytes, mostly framing, is read in full."""
    outcome = await post("tiny-chunks/40000")
    assert (outcome.kind, outcome.body) == (OutcomeKind.RESPONSE, b"t" * 40000)


@pytest.mark.parametrize(
    "path",
    [
        "endless-100",
        "endless-103",
        "endless-header",
        "endless-reason",
        "header-flood",
        "wide-head",
        "endless-extension",
        "late-extension",
        "many-headers",
        "garbage",
        "http09",
        "tls-bytes",
        "two-lengths",
        "length-and-chunked",
        "nul-in-header",
        "overflowing-length",
    ],
)
async def test_what_is_not_http_ends_at_once(post, path):
    """Floods and malformed heads end as a protocol error long before the deadline, and say so in words."""
    outcome = await post(path, timeout_s=20.0)
    assert outcome.kind is OutcomeKind.PROTOCOL_ERROR
    assert outcome.maybe_sent
    assert outcome.error
    assert outcome.elapsed_ms < 10_000


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("silent", "waiting for the response"),
        ("trickle-head", "waiting for the response"),
        ("trickle-interim", "waiting for the response"),
        ("hang-after-head", "reading the body of a 200 response"),
        ("trickle-body", "reading the body of a 200 response"),
    ],
)
async def test_the_deadline_ends_what_stalls(post, path, words):
    """A stall anywhere after the request ends at the deadline, and the error says where it stood."""
    for timeout_s in LADDER_S:
        outcome = await post(path, timeout_s=timeout_s)
        assert outcome.kind in {OutcomeKind.TIMEOUT, OutcomeKind.CONNECT_TIMEOUT}
        assert outcome.elapsed_ms >= timeout_s * 1000 - 5
        if words in outcome.error:
            break
    assert outcome.kind is OutcomeKind.TIMEOUT
    assert outcome.maybe_sent
    assert words in outcome.error


@pytest.mark.parametrize("path", ["close", "reset", "half-a-head", "reset-mid-head"])
async def test_a_connection_that_ends_before_the_head_is_a_reset(post, server, path):
    """The end of a fresh connection before a complete head is RESET, may have been sent, and isn't tried again."""
    outcome = await post(path)
    assert outcome.kind is OutcomeKind.RESET
    assert outcome.maybe_sent
    assert len(server.requests) == 1


@pytest.mark.parametrize("path", ["half-a-body", "half-a-chunk", "reset-mid-body", "bad-chunk"])
async def test_a_body_that_breaks_off_leaves_the_status(post, path):
    """After a complete head the status stands; what is missing of the body is marked and explained."""
    outcome = await post(path)
    assert (outcome.kind, outcome.status, outcome.truncated) == (OutcomeKind.RESPONSE, 200, True)
    assert outcome.body in {b"only this", b"okay"}
    assert "broke off after" in outcome.error


@pytest.mark.parametrize("path", ["big-body", "endless-body", "endless-promise"])
async def test_bodies_are_cut_at_the_limit(post, server, path):
    """Of a body beyond the limit only the limit is kept, and the connection is closed rather than drained."""
    outcome = await post(path, max_response_bytes=1000)
    assert (outcome.kind, outcome.truncated) == (OutcomeKind.RESPONSE, True)
    assert outcome.body in {b"b" * 1000, b"p" * 1000}
    await post("ok")
    assert server.connections == 2


async def test_a_body_of_exactly_the_limit_is_whole(post, server):
    """The limit itself still fits and leaves the connection usable."""
    outcome = await post("big-body/1000", max_response_bytes=1000)
    assert (len(outcome.body), outcome.truncated) == (1000, False)
    await post("ok")
    assert server.connections == 1


async def test_the_head_budget_is_each_responses_own(make_sender, server):
    """The budget counts all heads of one response, and neither a large body before nor a small one adds to it."""
    sender = await make_sender(max_head_bytes=1000)
    for path, kind in [
        ("interims/30", OutcomeKind.RESPONSE),
        ("big-body/50000", OutcomeKind.RESPONSE),
        ("interims/30", OutcomeKind.RESPONSE),
        ("big-body/50000", OutcomeKind.RESPONSE),
        ("interims/60", OutcomeKind.PROTOCOL_ERROR),
    ]:
        assert (await sender.send(request(server.url(path)), 5.0)).kind is kind
    assert server.connections == 1


async def test_trailers_do_not_run_on(post):
    """Endless trailers end soon, with the status kept or a protocol error, never with a timeout."""
    outcome = await post("endless-trailers", timeout_s=20.0)
    assert outcome.kind in {OutcomeKind.RESPONSE, OutcomeKind.PROTOCOL_ERROR}
    assert outcome.elapsed_ms < 10_000


async def test_nothing_is_inflated(post):
    """A gzip bomb comes back as the compressed bytes it is."""
    outcome = await post("gzip-bomb")
    assert outcome.status == 200
    assert outcome.body.startswith(b"\x1f\x8b")
    assert len(outcome.body) < 65536


async def test_cookies_do_not_come_back(post, server):
    """120 Set-Cookie headers change nothing in the next request to the same host."""
    await post("cookies")
    await post("ok")
    assert not any(name.lower() == "cookie" for name, _ in server.requests[1].headers)


async def test_redirects_are_not_followed(post, server):
    """A redirect is a status like any other, wherever it points."""
    outcome = await post(f"redirect?to=http://169.254.169.254:{server.port}/ok")
    assert outcome.status == 307
    assert ("Location", f"http://169.254.169.254:{server.port}/ok") in outcome.headers
    assert len(server.requests) == 1


async def test_kept_headers_are_bounded(post):
    """At most 64 headers and 8 KiB of them are kept."""
    many = await post("cookies")
    assert len(many.headers) == 64
    long = await post("long-headers")
    assert 0 < sum(len(name) + len(value) for name, value in long.headers) <= 8192


async def test_whatever_comes_becomes_valid_text(post):
    """Headers that are no UTF-8 become escapes, the body stays bytes, and both can be stored as they are."""
    outcome = await post("raw-header")
    headers = dict(outcome.headers)
    assert headers["X"] == "\\xff\\xfe"
    assert headers["Y"] == "ä"
    assert outcome.body == b"\xff\x00\xfe\x80"
    json.dumps(outcome.headers).encode()


async def test_no_secret_of_the_request_is_in_an_error(sender, server):
    """Errors never hold the URL's query nor a request header, whatever went wrong."""
    for path in ["close", "garbage", "reset-mid-body", "silent", "endless-103"]:
        wanted = request(f"{server.url(path)}?token=hunter2", headers=(("authorization", "Bearer hunter2"),))
        outcome = await sender.send(wanted, SHORT_S)
        assert "hunter2" not in repr(outcome)


async def test_a_flood_of_interim_responses_ends_at_their_count(post):
    """A thousand 103s fit into a head's bytes, yet each costs the loop a parser's run: a few dozen are the limit."""
    outcome = await post("interims/1000")
    assert outcome.kind is OutcomeKind.PROTOCOL_ERROR
    assert "interim responses" in outcome.error
    assert outcome.maybe_sent
