"""core.egress: addresses at both edges of each range, and the policy's order."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.core.egress import (
    MAX_NETWORKS,
    SPECIAL_V4,
    SPECIAL_V6,
    EgressPolicy,
    judge_address,
    parse_policy,
)

CLOSED = EgressPolicy()
HTTP = EgressPolicy(allow_http=True)
LOOPBACK = parse_policy(False, ["127.0.0.0/8"], [])

PUBLIC = [
    "1.0.0.0", "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
    "126.255.255.255", "128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0",
    "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.1.255", "192.0.3.0", "192.31.195.255",
    "192.31.197.0", "192.52.192.255", "192.52.194.0", "192.88.98.255", "192.88.100.0", "192.167.255.255",
    "192.169.0.0", "192.175.47.255", "192.175.49.0", "198.17.255.255", "198.20.0.0", "198.51.99.255",
    "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255",
    "2000::", "2000:ffff::", "2001:200::", "2001:db7:ffff::", "2001:db9::", "2001:ffff::", "2003::",
    "2001:4860:4860::8888", "2606:4700::1111", "2620:4f:7fff::", "2620:4f:8001::", "2a00::1",
    "3ffe:ffff::", "3fff:1000::",
    "::ffff:8.8.8.8", "::ffff:808:808",
]  # fmt: skip

FORBIDDEN = [
    "0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.64.0.1", "100.100.100.200",
    "100.127.255.255", "127.0.0.0", "127.0.0.1", "127.255.255.255", "168.63.129.16", "169.254.0.0",
    "169.254.169.254", "169.254.255.255", "172.16.0.0", "172.31.255.255", "192.0.0.0", "192.0.0.8", "192.0.0.9",
    "192.0.0.10", "192.0.0.192", "192.0.0.255", "192.0.2.0", "192.0.2.255", "192.31.196.1", "192.52.193.1",
    "192.88.99.1", "192.168.0.0", "192.168.255.255", "192.175.48.1", "198.18.0.0", "198.19.255.255",
    "198.51.100.1", "203.0.113.1", "224.0.0.0", "224.0.0.1", "233.252.0.1", "239.1.1.1", "239.255.255.255",
    "240.0.0.0", "255.255.255.254", "255.255.255.255",
    "::", "::1", "::2", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:10.1.2.3",
    "::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8", "64:ff9b::", "64:ff9b::a9fe:a9fe", "64:ff9b::8.8.8.8",
    "64:ff9b:1::a00:1", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "64:ff9c::1", "100::1", "100:0:0:1::1", "1fff::",
    "2001::", "2001:0:1::1", "2001:1::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:30::1",
    "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::1", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2002::",
    "2002:7f00:1::1", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2620:4f:8000::1", "3fff::1",
    "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "4000::", "5f00::1", "fbff::", "fc00::1", "fd00:ec2::254", "fdff::1",
    "fe80::1", "febf::1", "fec0::1", "feff::1", "ff00::", "ff02::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
]  # fmt: skip

GARBAGE = [
    "", " ", "localhost", "example.com", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.01", "1.2.3",
    "1.2.3.4.5", "1.2.3.256", "8.8.8.8 ", " 8.8.8.8", "8.8.8.8\n", "8.8.8.8/32", "8.8.8.8:80", "[2606:4700::1]",
    "2606:4700::1%eth0", "2606:4700::1%0", "fe80::1%lo", "::ffff:8.8.8.8%1", "12345::", ":::", "1::2::3",
    "８.8.8.8", "٨.8.8.8", "①②⑦.⓪.⓪.①", "\x00", "\ud800", "8" * 1000,
]  # fmt: skip


def edges(prefix):
    """First and last address of a network."""
    network = ip_network(prefix)
    return [network[0], network[-1]]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address):
    """Public unicast is allowed over https, up to both edges of every forbidden range."""
    assert judge_address(CLOSED, address, "https") is None
    assert judge_address(CLOSED, ip_address(address), "https") is None


@pytest.mark.parametrize("address", FORBIDDEN)
@pytest.mark.parametrize("policy", [CLOSED, HTTP], ids=["closed", "http"])
def test_special_addresses_are_denied(address, policy):
    """Every special-purpose address is denied with a reason, as text and as object, http allowed or not."""
    assert "not a public address" in judge_address(policy, address, "https")
    assert "not a public address" in judge_address(policy, ip_address(address), "http")


@pytest.mark.parametrize("prefix", [prefix for prefix, _ in SPECIAL_V4 + SPECIAL_V6])
def test_every_listed_range_is_denied_to_its_edges(prefix):
    """Each row of the tables denies its first and last address."""
    for address in edges(prefix):
        assert judge_address(HTTP, address, "https") is not None


@pytest.mark.parametrize("address", GARBAGE)
def test_what_is_no_address_is_denied(address):
    """Names, other spellings, zones and noise are denied, never passed and never an exception."""
    open_policy = parse_policy(True, ["0.0.0.0/0", "::/0"], [])
    assert judge_address(open_policy, address, "https") is not None


@pytest.mark.parametrize("address", [None, 2130706433, b"8.8.8.8", ["8.8.8.8"], 8.8])
def test_what_isnt_text_is_denied(address):
    """Even what the types forbid is denied rather than raised: integers would be read as addresses."""
    assert judge_address(CLOSED, address, "https") == "not an address"


def test_a_zone_is_denied_on_objects_too():
    """A scope names an interface of this host; such an address is no public one."""
    assert judge_address(CLOSED, IPv6Address("2606:4700::1%eth0"), "https") is not None


@pytest.mark.parametrize("scheme", ["ws", "ftp", "HTTPS", "", "unix"])
def test_other_schemes_are_denied(scheme):
    """Only http and https have rules, so only they can pass."""
    assert judge_address(HTTP, "8.8.8.8", scheme) is not None


def test_http_needs_permission():
    """Plain http to a public address is denied unless the operator allowed it."""
    assert "plain http" in judge_address(CLOSED, "8.8.8.8", "http")
    assert judge_address(HTTP, "8.8.8.8", "http") is None


def test_allowing_loopback_opens_exactly_that():
    """127.0.0.0/8 opens http and https there, mapped spelling included, and neither ::1 nor its neighbours."""
    for address in ("127.0.0.1", "127.255.255.255", "::ffff:127.0.0.1", IPv6Address("::ffff:7f00:1")):
        assert judge_address(LOOPBACK, address, "http") is None
        assert judge_address(LOOPBACK, address, "https") is None
    for address in ("::1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "126.0.0.1", "128.0.0.1", "10.0.0.1"):
        assert judge_address(LOOPBACK, address, "http") is not None


def test_deny_wins_over_allow_and_allow_over_the_list():
    """The operator's deny is the last word, then the operator's allow, then the built-in list."""
    policy = parse_policy(False, ["10.0.0.0/8", "8.8.8.0/24"], ["10.1.0.0/16", "1.1.1.1", "2606:4700::/32"])
    assert judge_address(policy, "10.2.0.1", "http") is None
    assert judge_address(policy, "8.8.8.8", "http") is None
    assert "deny_networks" in judge_address(policy, "10.1.0.1", "https")
    assert "deny_networks" in judge_address(policy, "::ffff:10.1.0.1", "https")
    assert "deny_networks" in judge_address(policy, "1.1.1.1", "https")
    assert "deny_networks" in judge_address(policy, "2606:4700::1", "https")
    assert judge_address(policy, "1.1.1.2", "https") is None


def test_deny_sees_the_mapped_spelling_too():
    """A deny of all IPv6 also stops an IPv4 address that arrives on an IPv6 socket."""
    policy = parse_policy(False, [], ["::/0"])
    assert judge_address(policy, "::ffff:8.8.8.8", "https") is not None
    assert judge_address(policy, "8.8.8.8", "https") is None


def test_networks_written_mapped_mean_ipv4():
    """Since addresses are unwrapped, so are networks."""
    policy = parse_policy(False, ["::ffff:127.0.0.0/104"], ["::ffff:127.0.0.9"])
    assert judge_address(policy, "127.0.0.1", "http") is None
    assert judge_address(policy, "127.0.0.9", "http") is not None


def test_bad_networks_are_all_named():
    """parse_policy lists every bad network with its key."""
    with pytest.raises(ValueError) as caught:
        parse_policy(False, ["127.0.0.1/8", "10.0.0.0/8", "x"], ["fe80::%1/64", "1.2.3.4/33"])
    message = str(caught.value)
    assert message.count("allow_networks") == 2
    assert message.count("deny_networks") == 2
    for text in ("127.0.0.1/8", "'x'", "fe80::%1/64", "1.2.3.4/33"):
        assert text in message
    assert "10.0.0.0/8'" not in message


def test_too_many_networks_are_refused():
    """Each list has a named limit."""
    with pytest.raises(ValueError, match="at most"):
        parse_policy(False, ["10.0.0.0/8"] * (MAX_NETWORKS + 1), [])
    assert parse_policy(False, ["10.0.0.0/8"] * MAX_NETWORKS, []).allow == (ip_network("10.0.0.0/8"),)


def library_says_inward(address):
    """What the standard library, itself too generous, already calls special."""
    mapped = getattr(address, "ipv4_mapped", None) or address
    return any(
        getattr(mapped, fact)
        for fact in ("is_private", "is_loopback", "is_link_local", "is_multicast", "is_unspecified", "is_reserved")
    )


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_v4_is_never_laxer_than_the_standard_library(address):
    """Over random IPv4 addresses: what ipaddress calls inward never passes."""
    if library_says_inward(address):
        assert judge_address(HTTP, address, "https") is not None


@given(
    st.one_of(
        st.integers(0, 2**128 - 1),
        st.integers(0, 2**32 - 1).map(lambda low: 0xFFFF << 32 | low),
        st.builds(
            lambda high, low: high << 112 | low, st.sampled_from(range(0x1FFF, 0x4001)), st.integers(0, 2**112 - 1)
        ),
    ).map(IPv6Address)
)
def test_v6_is_never_laxer_than_the_standard_library(address):
    """Over random IPv6 addresses: what ipaddress calls inward, or lies outside 2000::/3, never passes."""
    if address.ipv4_mapped is not None:
        assert judge_address(HTTP, address, "https") == judge_address(HTTP, address.ipv4_mapped, "https")
    elif library_says_inward(address) or address not in ip_network("2000::/3"):
        assert judge_address(HTTP, address, "https") is not None


@given(st.one_of(st.text(max_size=60), st.ip_addresses().map(str)), st.sampled_from(["http", "https"]))
def test_judging_never_raises(text, scheme):
    """Any text is judged; only an address can pass."""
    if judge_address(HTTP, text, scheme) is None:
        assert ipaddress.ip_address(text)
