"""Binding TCP: an address of either kind, and who is there already."""

import socket

import pytest
from tests.harness.ports import NEEDS_IPV6

from ringback.transports.bind import AddressInUse, bind_tcp, shown


@pytest.mark.parametrize("address", ["127.0.0.1", pytest.param("::1", marks=NEEDS_IPV6)])
def test_it_listens_on_a_free_port(address):
    """Port 0 takes one; the listener doesn't block."""
    with bind_tcp(address, 0) as listener:
        port = listener.getsockname()[1]
        assert port
        assert not listener.getblocking()
        socket.create_connection((address, port), timeout=60).close()


def test_a_taken_port_is_named():
    """Whoever else listens there keeps it; the message says where."""
    with bind_tcp("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(AddressInUse, match=rf"127\.0\.0\.1:{port}"):
            bind_tcp("127.0.0.1", port)


def test_an_address_that_is_not_ours_is_an_error():
    """The kernel's reason, with the address."""
    with pytest.raises(OSError, match=r"192\.0\.2\.1:80"):
        bind_tcp("192.0.2.1", 80)


@NEEDS_IPV6
def test_ipv6_alone_is_bound():
    """[::] is not 0.0.0.0: what is opened is what was written."""
    with bind_tcp("::", 0) as listener, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=60)


def test_addresses_are_written_as_people_do():
    """IPv6 in brackets."""
    assert shown("::1", 80) == "[::1]:80"
    assert shown("127.0.0.1", 80) == "127.0.0.1:80"
