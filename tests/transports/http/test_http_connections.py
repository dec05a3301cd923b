"""Which connection a request goes over: kept, replaced, bounded, never leaked."""

import asyncio
import contextlib
from pathlib import Path

import pytest
from tests.harness.hostile_ports import refusing_port, unaccepting_port
from tests.harness.hostile_server import HostileServer
from tests.harness.ports import NEEDS_IPV6
from tests.transports.http.helpers import request

from ringback.core.model import OutcomeKind
from ringback.transports.connection import HttpConnection

SHORT_S = 0.2
PATIENCE_S = 30.0
EVENTUALLY_S = 30.0


def open_files() -> int:
    """How many file descriptors this process holds."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def eventually(condition) -> None:
    """Wait until the loop has come round to it."""
    async with asyncio.timeout(EVENTUALLY_S):
        while not condition():  # noqa: ASYNC110 - sockets close in their own time, nothing announces it
            await asyncio.sleep(0.005)


async def test_a_connection_is_used_again(post, server):
    """Requests one after another share one connection."""
    for _ in range(5):
        assert (await post("ok")).status == 200
    assert server.connections == 1
    assert [seen.turn for seen in server.requests] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("path", ["stale", "stale-reset"])
async def test_a_dead_kept_connection_costs_nothing(post, server, path):
    """When the server drops a kept connection as the next request comes, that request is made again on a fresh one."""
    for _ in range(6):
        outcome = await post(path)
        assert (outcome.kind, outcome.status) == (OutcomeKind.RESPONSE, 200)


async def test_every_post_survives_a_server_that_closes_idle_connections(sender, server):
    """Against a server that closes idle connections after some milliseconds no POST fails, whenever it is made."""

    async def lane(pause_ms: float) -> None:
        for _ in range(12):
            outcome = await sender.send(request(server.url("linger/10")), PATIENCE_S)
            assert outcome.status == 200, outcome
            await asyncio.sleep(pause_ms / 1000)

    await asyncio.gather(*(lane(8 + turn / 5) for turn in range(20)))


async def test_a_second_answer_is_not_asked_for_after_its_first_byte(post, server):
    """Once a byte of the response came, a broken reused connection is an outcome and no reason to send again."""
    await post("stale-half-head")
    outcome = await post("stale-half-head")
    assert outcome.kind is OutcomeKind.RESET
    assert len(server.requests) == 2


async def test_it_is_tried_again_only_once(sender):
    """A server that drops every second request gets two tries at most, the second on a fresh connection."""
    async with HostileServer() as server:
        await sender.send(request(server.url("ok")), PATIENCE_S)
        outcome = await sender.send(request(server.url("close")), PATIENCE_S)
        assert outcome.kind is OutcomeKind.RESET
        assert [(seen.path, seen.turn) for seen in server.requests] == [("/ok", 1), ("/close", 2), ("/close", 1)]


async def test_the_second_try_shares_the_deadline(sender, server):
    """A replaced connection doesn't buy time: both tries end at the one deadline."""
    await sender.send(request(server.url("ok")), PATIENCE_S)
    server.requests.clear()
    outcome = await sender.send(request(server.url("silent")), SHORT_S)
    assert outcome.kind is OutcomeKind.TIMEOUT
    assert outcome.elapsed_ms >= SHORT_S * 1000 - 5
    await eventually(lambda: server.requests)
    assert len(server.requests) == 1


async def test_when_the_second_try_cannot_connect_the_first_may_have_arrived(sender):
    """If the server has gone between the two tries, the outcome still says that the request may have been sent."""
    async with HostileServer() as server:
        url = server.url("stale")
        await sender.send(request(url), PATIENCE_S)
        server._server.close()
        outcome = await sender.send(request(url), PATIENCE_S)
    assert outcome.kind is OutcomeKind.CONNECT_FAILED
    assert outcome.maybe_sent


@pytest.mark.parametrize("path", ["unasked", "late-unasked"])
async def test_a_response_nobody_asked_for_answers_nothing(post, sender, server, path):
    """Bytes sent ahead of the next request, at once or later, close the connection and never become its response."""
    assert (await post(path)).status == 200
    await eventually(lambda: sender.open_connections == 0)
    assert (await post("ok")).status == 200
    assert server.connections == 2


async def test_an_early_answer_ends_the_connection(sender, server):
    """A server that answers before it took the whole body keeps its answer but not the connection."""
    outcome = await sender.send(request(server.url("early-answer"), body=b"x" * 20_000_000), PATIENCE_S)
    assert outcome.status == 413
    await eventually(lambda: sender.open_connections == 0)


async def test_idle_connections_are_bounded_in_all(make_sender):
    """However many endpoints there are, no more than the limit stay connected, and the latest used stay longest."""
    sender = await make_sender(max_idle=3)
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(HostileServer()) for _ in range(6)]
        for server in servers:
            await sender.send(request(server.url("ok")), PATIENCE_S)
        assert sender.idle_connections == 3
        await eventually(lambda: sender.open_connections == 3)
        for server in servers[3:]:
            await sender.send(request(server.url("ok")), PATIENCE_S)
        assert [server.connections for server in servers] == [1] * 6


async def test_busy_connections_are_not_limited(make_sender, server):
    """The limit on idle ones holds back no request; the surplus is closed afterwards."""
    sender = await make_sender(max_idle=2)
    outcomes = await asyncio.gather(*(sender.send(request(server.url("ok")), PATIENCE_S) for _ in range(30)))
    assert all(outcome.status == 200 for outcome in outcomes)
    assert sender.idle_connections == 2
    await eventually(lambda: sender.open_connections == 2)


async def test_idle_connections_are_closed_in_time(make_sender, server):
    """A connection idle for longer than the limit is closed by us, without another request."""
    sender = await make_sender(idle_timeout_s=1.0)
    await sender.send(request(server.url("ok")), PATIENCE_S)
    assert sender.idle_connections == 1
    await eventually(lambda: sender.idle_connections == 0 and sender.open_connections == 0)


async def test_the_sweep_goes_on_for_the_younger_ones(make_sender, server):
    """Connections parked at different times are each closed in time."""
    sender = await make_sender(idle_timeout_s=0.08)
    await sender.send(request(server.url("ok")), PATIENCE_S)
    await asyncio.sleep(0.05)
    async with HostileServer() as other:
        await sender.send(request(other.url("ok")), PATIENCE_S)
        await eventually(lambda: sender.open_connections == 0)


async def test_a_policy_change_can_close_what_is_idle(sender, server):
    """After close_idle the next request makes a connection anew, judged anew."""
    await sender.send(request(server.url("ok")), PATIENCE_S)
    sender.close_idle()
    await sender.send(request(server.url("ok")), PATIENCE_S)
    assert server.connections == 2


@NEEDS_IPV6
async def test_ipv6_works(sender):
    """An IPv6 literal is dialled, and its Host header has the brackets."""
    async with HostileServer(host="::1") as server:
        assert (await sender.send(request(server.url("ok")), PATIENCE_S)).status == 200
        assert ("Host", f"[::1]:{server.port}") in server.requests[0].headers


async def test_refusal_is_a_failure_to_connect(sender):
    """A refused connection is CONNECT_FAILED, says so, and nothing was sent."""
    with refusing_port() as port:
        outcome = await sender.send(request(f"http://127.0.0.1:{port}/"), PATIENCE_S)
    assert outcome.kind is OutcomeKind.CONNECT_FAILED
    assert not outcome.maybe_sent
    assert "refused" in outcome.error


async def test_a_connection_that_never_comes_ends_at_its_own_deadline(sender):
    """A host that doesn't answer ends at connect_timeout_s, with the address in words, and nothing was sent."""
    with unaccepting_port() as port:
        outcome = await sender.send(request(f"http://127.0.0.1:{port}/", connect_timeout_s=SHORT_S), PATIENCE_S)
    assert outcome.kind is OutcomeKind.CONNECT_TIMEOUT
    assert not outcome.maybe_sent
    assert "connecting to 127.0.0.1" in outcome.error


async def test_the_whole_deadline_bounds_connecting_too(sender):
    """A whole deadline shorter than the connect deadline ends the connecting."""
    with unaccepting_port() as port:
        outcome = await sender.send(request(f"http://127.0.0.1:{port}/", connect_timeout_s=30.0), SHORT_S)
    assert outcome.kind is OutcomeKind.CONNECT_TIMEOUT
    assert not outcome.maybe_sent


async def test_a_cancelled_send_lets_the_cancellation_through(sender, server):
    """Cancelling a send ends it at once and closes its connection, in whatever stage it is."""
    for path in ["silent", "hang-after-head"]:
        task = asyncio.create_task(sender.send(request(server.url(path)), 30.0))
        await eventually(lambda path=path: any(seen.path == f"/{path}" for seen in server.requests))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    with unaccepting_port() as port:
        task = asyncio.create_task(sender.send(request(f"http://127.0.0.1:{port}/"), 30.0))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await eventually(lambda: sender.open_connections == 0)


async def test_a_send_cancelled_as_its_connection_is_made_leaves_none(sender, server, monkeypatch):
    """Whatever the loop tells of it, a connection that nobody waits for any more isn't counted as open."""
    made = HttpConnection.connection_made

    def made_too_late(connection, transport):
        made(connection, transport)
        task.cancel()

    monkeypatch.setattr(HttpConnection, "connection_made", made_too_late)
    task = asyncio.create_task(sender.send(request(server.url("ok")), PATIENCE_S))
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: sender.open_connections == 0)
    assert sender.idle_connections == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "ftp://example.com/"},
        {"url": "http://user:hunter2@127.0.0.1/"},
        {"url": "http://exa mple.com/"},
        {"url": "http://127.0.0.1:99999/"},
        {"url": "/relative"},
        {"method": "PO ST"},
        {"method": "POST / HTTP/1.1\r\nX:"},
        {"headers": (("X", "hunter2\r\nEvil: 1"),)},
        {"headers": (("X", "hunter2\nEvil: 1"),)},
        {"headers": (("X", "hunter2\x00"),)},
        {"headers": (("X", "hunter2\ud800"),)},
        {"headers": (("X A", "hunter2"),)},
        {"headers": (("", "hunter2"),)},
        {"headers": (("Host", "hunter2"),)},
        {"headers": (("content-LENGTH", "5"),)},
        {"headers": (("Transfer-Encoding", "chunked"),)},
    ],
)
async def test_what_could_break_the_framing_is_not_sent(sender, server, changes):
    """A request that can't be put on the wire safely is refused before any connection, without repeating its values."""
    outcome = await sender.send(request(**{"url": server.url("ok"), **changes}), PATIENCE_S)
    assert outcome.kind is OutcomeKind.INTERNAL_ERROR
    assert not outcome.maybe_sent
    assert "hunter2" not in outcome.error
    assert server.connections == 0


async def test_nothing_leaks_over_many_mixed_sends(make_sender, server):
    """After hundreds of sends of every kind the process holds as many files as before."""
    sender = await make_sender(idle_timeout_s=0.1)
    ending = [
        "ok", "close", "reset", "reset-mid-head", "reset-mid-body", "half-a-body", "garbage", "big-body",
        "endless-103", "endless-body", "stale", "switching", "until-eof",
    ]  # fmt: skip
    await sender.send(request(server.url("ok")), PATIENCE_S)
    await eventually(lambda: sender.open_connections == 0)
    before = open_files()
    with refusing_port() as refused, unaccepting_port() as unaccepting:
        sends = [(server.url(path), PATIENCE_S, PATIENCE_S) for path in ending * 20]
        sends += [(server.url(path), SHORT_S, PATIENCE_S) for path in ["silent", "hang-after-head"] * 20]
        sends += [(f"http://127.0.0.1:{refused}/", PATIENCE_S, PATIENCE_S)]
        sends += [(f"http://127.0.0.1:{unaccepting}/", PATIENCE_S, 1.0)]
        outcomes = await asyncio.gather(
            *(
                sender.send(request(url, max_response_bytes=1000, connect_timeout_s=connect_timeout_s), timeout_s)
                for url, timeout_s, connect_timeout_s in sends
            )
        )
    assert {outcome.kind for outcome in outcomes} >= {
        OutcomeKind.RESPONSE, OutcomeKind.RESET, OutcomeKind.PROTOCOL_ERROR,
        OutcomeKind.CONNECT_FAILED, OutcomeKind.CONNECT_TIMEOUT,
    }  # fmt: skip
    await eventually(lambda: sender.open_connections == 0)
    await eventually(lambda: open_files() <= before)


async def test_a_hostile_crowd_does_not_stop_the_others(sender, server):
    """While thirty connections flood, trickle and hang, a healthy endpoint's requests all succeed."""
    hostile = ["endless-103", "endless-100", "endless-extension", "header-flood", "trickle-body", "silent"] * 5
    crowd = [asyncio.create_task(sender.send(request(server.url(path)), 0.5)) for path in hostile]
    for _ in range(50):
        assert (await sender.send(request(server.url("ok")), PATIENCE_S)).status == 200
    assert all(outcome.kind is not OutcomeKind.RESPONSE for outcome in await asyncio.gather(*crowd))
