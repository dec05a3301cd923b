"""Names to addresses: shared, cached within bounds, never waiting for a name server that is silent to somebody else."""

import asyncio

import pytest
from tests.harness.dns_server import SILENT, DnsServer
from tests.transports.http.helpers import request

from ringback.core.model import OutcomeKind
from ringback.transports import resolver as resolver_module
from ringback.transports.resolver import Resolver

PATIENCE_S = 30.0


@pytest.fixture
async def make_resolver(clock):
    """Make started resolvers that ask one test server."""
    started = []

    async def make(dns: DnsServer) -> Resolver:
        resolver = Resolver(clock=clock, nameservers=[dns.address])
        await resolver.start()
        started.append(resolver)
        return resolver

    yield make
    for resolver in started:
        await resolver.stop()


async def test_both_families_are_found(make_resolver):
    """IPv4 and IPv6 addresses of a name come back together, without doubles."""
    async with DnsServer({"both.test": [["192.0.2.1", "192.0.2.2", "2001:db8::1"]]}) as dns:
        resolution = await (await make_resolver(dns)).resolve("both.test")
    assert sorted(resolution.addresses) == ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
    assert resolution.error is None


async def test_localhost_needs_no_name_server(make_resolver):
    """The hosts file and localhost work, whatever the name server says."""
    async with DnsServer({}) as dns:
        resolution = await (await make_resolver(dns)).resolve("localhost")
        assert not dns.queries
    assert "127.0.0.1" in resolution.addresses


@pytest.mark.parametrize("zone", [{}, {"gone.test": [[]]}])
async def test_a_name_without_addresses_says_so(make_resolver, zone):
    """NXDOMAIN and an empty answer are values with words, not exceptions."""
    async with DnsServer(zone) as dns:
        resolution = await (await make_resolver(dns)).resolve("gone.test")
    assert resolution.addresses == ()
    assert resolution.error


@pytest.mark.parametrize("name", ["", "a" * 64 + ".test", "x" * 300, "ä" * 70 + ".test", "a..b"])
async def test_what_is_no_name_is_a_failure(make_resolver, name):
    """A text no name server could be asked for is a failure with words."""
    async with DnsServer({}) as dns:
        resolution = await (await make_resolver(dns)).resolve(name)
    assert resolution.addresses == ()
    assert resolution.error


async def test_answers_are_kept_for_a_while(make_resolver, clock):
    """An answer is used again until its time is up, even one with TTL 0 for a second."""
    async with DnsServer({"name.test": [["192.0.2.1"], ["192.0.2.2"]]}) as dns:
        resolver = await make_resolver(dns)
        assert (await resolver.resolve("name.test")).addresses == ("192.0.2.1",)
        clock.advance(0.9)
        assert (await resolver.resolve("name.test")).addresses == ("192.0.2.1",)
        clock.advance(0.2)
        assert (await resolver.resolve("name.test")).addresses == ("192.0.2.2",)


async def test_long_lived_answers_are_asked_for_again(make_resolver, clock):
    """A TTL of a day is cut to the limit."""
    async with DnsServer({"name.test": [["192.0.2.1"]]}, ttl_s=86400) as dns:
        resolution = await (await make_resolver(dns)).resolve("name.test")
    assert resolution.expires_at == clock.monotonic() + resolver_module.MAX_TTL_S


async def test_failures_are_kept_briefly(make_resolver, clock):
    """A name that failed isn't asked for again at once, but soon."""
    async with DnsServer({}) as dns:
        resolver = await make_resolver(dns)
        await resolver.resolve("gone.test")
        asked = dns.queries.total()
        await resolver.resolve("gone.test")
        assert dns.queries.total() == asked
        dns.zone["gone.test"] = [["192.0.2.1"]]
        clock.advance(resolver_module.FAILURE_TTL_S + 0.1)
        assert (await resolver.resolve("gone.test")).addresses == ("192.0.2.1",)


async def test_the_cache_is_bounded(make_resolver, monkeypatch):
    """Beyond the limit the names unused for longest are forgotten."""
    monkeypatch.setattr(resolver_module, "MAX_CACHED_NAMES", 3)
    async with DnsServer({f"n{n}.test": [["192.0.2.1"]] for n in range(6)}) as dns:
        resolver = await make_resolver(dns)
        for n in range(6):
            await resolver.resolve(f"n{n}.test")
            await resolver.resolve("n0.test")
        assert len(resolver._known) == 3
        assert "n0.test" in resolver._known


async def test_look_ups_in_flight_are_bounded(make_resolver, monkeypatch):
    """One name too many at once is refused in words, and only for as long as the others last."""
    monkeypatch.setattr(resolver_module, "MAX_LOOKUPS", 2)
    async with DnsServer({"n0.test": [SILENT], "n1.test": [SILENT], "n2.test": [["192.0.2.1"]]}) as dns:
        resolver = await make_resolver(dns)
        waiting = [asyncio.create_task(resolver.resolve(f"n{n}.test")) for n in range(2)]
        await asyncio.sleep(0)
        assert "too many" in (await resolver.resolve("n2.test")).error
        for task in waiting:
            task.cancel()
        await resolver.stop()
        assert not resolver._asking


async def test_look_ups_of_one_name_are_shared_and_survive_a_cancelled_waiter(make_resolver):
    """Fifty waiters cause one query a family; cancelling the first one harms none of the others."""
    async with DnsServer({"shared.test": [["192.0.2.1"]]}) as dns:
        resolver = await make_resolver(dns)
        first, *others = [asyncio.create_task(resolver.resolve("shared.test")) for _ in range(50)]
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert {(await other).addresses for other in others} == {("192.0.2.1",)}
        assert dns.queries == {("shared.test", "A"): 1, ("shared.test", "AAAA"): 1}


async def test_silence_for_many_names_delays_no_other(make_resolver):
    """With 200 look-ups hanging at a silent name server, fifty others are answered before any of them has ended."""
    zone = {f"dead{n}.test": [SILENT] for n in range(200)} | {f"live{n}.test": [["192.0.2.1"]] for n in range(50)}
    async with DnsServer(zone) as dns:
        resolver = await make_resolver(dns)
        hanging = []
        async with asyncio.timeout(PATIENCE_S):
            for n in range(200):
                hanging.append(asyncio.create_task(resolver.resolve(f"dead{n}.test")))
                if n % 20 == 19:  # more at once would overflow the test server's socket, which proves nothing
                    await resolver.resolve(f"live{n % 50}.test")
            answers = []
            for n in range(0, 50, 5):  # few at once, for the same reason
                answers += await asyncio.gather(*(resolver.resolve(f"live{m}.test") for m in range(n, n + 5)))
        assert all(answer.addresses == ("192.0.2.1",) for answer in answers)
        assert not any(task.done() for task in hanging)
        for task in hanging:
            task.cancel()


async def test_stopping_ends_what_hangs(make_resolver):
    """Stopping the resolver ends look-ups in flight; asking it afterwards fails in words."""
    async with DnsServer({"dead.test": [SILENT]}) as dns:
        resolver = await make_resolver(dns)
        hanging = asyncio.create_task(resolver.resolve("dead.test"))
        await asyncio.sleep(0.01)
        await resolver.stop()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert "not running" in (await resolver.resolve("other.test")).error


async def test_unusable_name_servers_are_refused_at_start(clock):
    """A name server that is no address is named in a clear error."""
    resolver = Resolver(clock=clock, nameservers=["not an address"])
    with pytest.raises(ValueError, match="not an address"):
        await resolver.start()


async def test_a_name_that_fails_is_its_own_outcome(make_sender):
    """A name that doesn't exist ends as DNS_FAILED, naming the host, with nothing sent."""
    async with DnsServer({}) as dns:
        sender = await make_sender(nameservers=[dns.address])
        outcome = await sender.send(request("http://gone.test/?token=hunter2"), PATIENCE_S)
    assert outcome.kind is OutcomeKind.DNS_FAILED
    assert not outcome.maybe_sent
    assert "gone.test" in outcome.error
    assert "hunter2" not in outcome.error


async def test_a_silent_name_server_ends_at_the_connect_deadline(make_sender):
    """Waiting for a name counts as connecting, and the error says what was waited for."""
    async with DnsServer({"dead.test": [SILENT]}) as dns:
        sender = await make_sender(nameservers=[dns.address])
        outcome = await sender.send(request("http://dead.test/", connect_timeout_s=0.2), PATIENCE_S)
    assert outcome.kind is OutcomeKind.CONNECT_TIMEOUT
    assert not outcome.maybe_sent
    assert "resolving the name" in outcome.error


async def test_the_host_header_carries_the_name(make_sender, server):
    """A request by name says the name, not the address it was sent to."""
    async with DnsServer({"name.test": [["127.0.0.1"]]}) as dns:
        sender = await make_sender(nameservers=[dns.address])
        await sender.send(request(server.url("ok", "name.test")), PATIENCE_S)
        assert await sender.resolve("name.test") == ["127.0.0.1"]
    assert ("Host", f"name.test:{server.port}") in server.requests[0].headers
