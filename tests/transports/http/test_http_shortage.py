"""This process has no descriptor left: that is said as what it is, and nobody else is blamed."""

import pytest
from tests.harness.dns_server import DnsServer
from tests.transports.http.helpers import out_of_files, request

from ringback.core.model import OutcomeKind

DEADLINE_S = 20.0


@pytest.mark.parametrize("host", ["127.0.0.1", "a.test"])
async def test_no_descriptor_is_our_lack(make_sender, server, host):
    """Neither the receiver nor the name server gets the blame, and with descriptors it goes on at once."""
    async with DnsServer({"a.test": [["127.0.0.1"]]}) as dns:
        sender = await make_sender(nameservers=[dns.address])
        ask = request(server.url("ok", host))
        with out_of_files():
            outcome = await sender.send(ask, DEADLINE_S)
        assert outcome.kind is OutcomeKind.NO_RESOURCES
        assert not outcome.maybe_sent
        assert "too many open files" in outcome.error
        assert (await sender.send(ask, DEADLINE_S)).status == 200


async def test_a_shortage_closes_what_is_idle(sender, server):
    """Connections that wait for a next request hold the descriptors this one needs."""
    assert (await sender.send(request(server.url("ok")), DEADLINE_S)).status == 200
    assert sender.idle_connections == 1
    with out_of_files():
        await sender.send(request(server.url("ok", "127.0.0.2")), DEADLINE_S)
    assert sender.idle_connections == 0
