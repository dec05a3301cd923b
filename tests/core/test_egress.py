"""core.egress and core.target: addresses at both edges of each range, spellings of URLs, the policy's order."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.core.egress import (
    MAX_NETWORKS,
    MAX_URL,
    SPECIAL_V4,
    SPECIAL_V6,
    EgressPolicy,
    judge_address,
    judge_url,
    parse_policy,
)
from ringback.core.model import Rejection
from ringback.core.target import Target, parse_url

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


GOOD_URLS = [
    ("https://example.com", "example.com", 443, "https://example.com/"),
    ("https://example.com/", "example.com", 443, "https://example.com/"),
    ("HTTPS://EXAMPLE.COM/Path", "example.com", 443, "https://example.com/Path"),
    ("https://example.com:443/x", "example.com", 443, "https://example.com/x"),
    ("https://example.com:8443/x", "example.com", 8443, "https://example.com:8443/x"),
    ("https://example.com:65535/", "example.com", 65535, "https://example.com:65535/"),
    ("https://example.com:1/", "example.com", 1, "https://example.com:1/"),
    ("https://example.com:80/", "example.com", 80, "https://example.com:80/"),
    ("https://example.com./x", "example.com", 443, "https://example.com/x"),
    ("https://example.com?a=1", "example.com", 443, "https://example.com/?a=1"),
    ("https://example.com/a%20b?q=%C3%BC&x[]=1;y", "example.com", 443, "https://example.com/a%20b?q=%C3%BC&x[]=1;y"),
    ("https://example.com/@user:1/?u=a@b", "example.com", 443, "https://example.com/@user:1/?u=a@b"),
    ("https://example.com//a/../b/./", "example.com", 443, "https://example.com//a/../b/./"),
    ("https://bücher.example/x", "xn--bcher-kva.example", 443, "https://xn--bcher-kva.example/x"),
    ("https://BÜCHER.Example./x", "xn--bcher-kva.example", 443, "https://xn--bcher-kva.example/x"),
    ("https://straße.example/", "xn--strae-oqa.example", 443, "https://xn--strae-oqa.example/"),
    ("https://例え。テスト/", "xn--r8jz45g.xn--zckzah", 443, "https://xn--r8jz45g.xn--zckzah/"),
    ("https://ｅｘａｍｐｌｅ.com/", "example.com", 443, "https://example.com/"),
    ("https://my_service.internal-1.example/", "my_service.internal-1.example", 443, None),
    ("https://receiver/", "receiver", 443, "https://receiver/"),
    ("https://1.2.3.4.example/", "1.2.3.4.example", 443, "https://1.2.3.4.example/"),
    ("https://0x7f.example/", "0x7f.example", 443, "https://0x7f.example/"),
    ("https://127.0.0.1.nip.example/", "127.0.0.1.nip.example", 443, "https://127.0.0.1.nip.example/"),
    ("https://dead.beef/", "dead.beef", 443, "https://dead.beef/"),
    ("https://8.8.8.8/x", "8.8.8.8", 443, "https://8.8.8.8/x"),
    ("https://8.8.8.8./x", "8.8.8.8", 443, "https://8.8.8.8/x"),
    ("https://８.８.８.８/x", "8.8.8.8", 443, "https://8.8.8.8/x"),
    ("https://[2606:4700::1111]/", "2606:4700::1111", 443, "https://[2606:4700::1111]/"),
    ("https://[2606:4700:0:0::1111]:8443", "2606:4700::1111", 8443, "https://[2606:4700::1111]:8443/"),
    ("https://[2606:4700::ABCD]/", "2606:4700::abcd", 443, "https://[2606:4700::abcd]/"),
    ("https://[::ffff:8.8.8.8]/", "::ffff:808:808", 443, "https://[::ffff:808:808]/"),
]

FORBIDDEN_URLS = [
    "https://127.0.0.1/", "https://127.0.0.1./", "https://①②⑦.⓪.⓪.①/", "https://127。0。0。1/", "https://127．0．0．1/",
    "https://１２７.0.0.1/", "https://0.0.0.0/", "https://10.0.0.1:8443/x", "https://169.254.169.254/latest/meta-data",
    "https://[::1]/", "https://[::]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/",
    "https://[0:0:0:0:0:ffff:127.0.0.1]/", "https://[::127.0.0.1]/", "https://[64:ff9b::a9fe:a9fe]/",
    "https://[2002:7f00:1::1]/", "https://[fd00:ec2::254]/", "https://localhost/", "https://LOCALHOST/",
    "https://localhost./", "https://localhost:8443/", "https://a.b.localhost/", "https://ｌocalhost/",
    "https://ⓛocalhost/", "https://lo\u00adcalhost/", "http://example.com/", "http://8.8.8.8/", "http://localhost/",
]  # fmt: skip

INVALID_URLS = [
    # numbers that some resolver reads as an address
    "https://2130706433/", "https://0x7f000001/", "https://0X7F000001/", "https://0x7f.1/", "https://127.1/",
    "https://127.0.1/", "https://0177.0.0.1/", "https://017700000001/", "https://0/", "https://0x/", "https://127.0.0.0x1/",
    "https://127.0.0.01/", "https://127.0.0.256/", "https://1.2.3.4.5/", "https://0x7f000001./", "https://0ｘ7f000001/",
    "https://２１３０７０６４３３/", "https://8.8.8/", "https://example.1/", "https://example.0xff/",
    # schemes and shapes
    "", " ", "example.com", "//example.com/", "/x", "https:", "https:/", "https://", "https:///x", "https:example.com",
    "https:/example.com", "https//example.com", "ftp://example.com/", "ws://example.com/", "wss://example.com/",
    "file:///etc/passwd", "unix:///run/x", "javascript://example.com/", "http+unix://x/", "https ://example.com/",
    " https://example.com/", "https://example.com/ ", "\thttps://example.com/",
    # user information and fragments
    "https://user@example.com/", "https://user:pw@example.com/", "https://@example.com/", "https://example.com@127.0.0.1/",
    "https://example.com\\@127.0.0.1/", "https://user%40example.com@8.8.8.8/", "https://example.com/#x",
    "https://example.com#@127.0.0.1/", "https://example.com/?q#", "https://example.com/x#",
    # ports
    "https://example.com:/", "https://example.com:0/", "https://example.com:65536/", "https://example.com:99999/",
    "https://example.com:-1/", "https://example.com:+1/", "https://example.com:007/", "https://example.com:8 0/",
    "https://example.com:80a/", "https://example.com:８０/", "https://example.com:80:80/", "https://example.com:1e3/",
    "https://:443/",
    # hosts
    "https://./", "https://../", "https://.example.com/", "https://example..com/", "https://example.com../",
    "https://exa mple.com/", "https://exam\tple.com/", "https://example.com\n/", "https://example.com\r\nX: y/",
    "https://example.com\x00/", "https://example.com\\.evil.example/", "https://%31%32%37.0.0.1/", "https://127.0.0.1%2f/",
    "https://example.com%00.evil.example/", "https://-example.com/", "https://example-.com/", "https://exa*mple.com/",
    "https://exa,mple.com/", "https://exa'mple.com/", "https://" + "a" * 64 + ".example/",
    "https://" + "a." * 127 + "ab/",
    "https://☃.example/", "https://ex／ample.com/", "https://example.com＠evil.example/", "https://example.com：80/",
    "https://a\u200b.example\u2028/", "https://\ud800.example/", "https://" + "ü" * 250 + ".example/",
    # brackets
    "https://[]/", "https://[::1/", "https://::1/", "https://2606:4700::1111/", "https://[2606:4700::1111/",
    "https://2606:4700::1111]/", "https://[[2606:4700::1111]]/", "https://[2606:4700::1111]x/", "https://[8.8.8.8]/",
    "https://[example.com]/", "https://[fe80::1%25eth0]/", "https://[fe80::1%eth0]/", "https://[v1.fe80]/",
    "https://x[2606:4700::1111]/", "https://[2606:4700::1111]:/", "https://[٢606:4700::1111]/",
    # path and query
    "https://example.com/a b", "https://example.com/ü", "https://example.com/?q=ü", "https://example.com/a\\b",
    "https://example.com/%", "https://example.com/%zz", "https://example.com/%2", "https://example.com/<x>",
    'https://example.com/"', "https://example.com/{x}", "https://example.com/a|b", "https://example.com/^",
    "https://example.com/`", "https://example.com/\x7f", "https://example.com/a\r\nHost: b", "https://example.com/\n",
    "https://example.com/" + "a" * MAX_URL,
]  # fmt: skip


@pytest.mark.parametrize(("url", "host", "port", "sent"), GOOD_URLS)
def test_good_urls_have_one_spelling(url, host, port, sent):
    """A good URL becomes one normalised text, and reading that text again changes nothing."""
    target = judge_url(CLOSED, url)
    assert isinstance(target, Target), target
    assert (target.scheme, target.host, target.port, target.url) == ("https", host, port, sent or url)
    assert judge_url(CLOSED, target.url) == target


@pytest.mark.parametrize("url", FORBIDDEN_URLS)
def test_forbidden_urls(url):
    """Literals in any spelling, names that mean loopback, and plain http are refused by the policy at once."""
    rejection = judge_url(CLOSED, url)
    assert isinstance(rejection, Rejection), rejection
    assert (rejection.code, rejection.field) == ("forbidden", "url")


@pytest.mark.parametrize("url", INVALID_URLS)
def test_invalid_urls(url):
    """What clients could read differently is refused by its form, even under a policy that allows everything."""
    everything = parse_policy(True, ["0.0.0.0/0", "::/0"], [])
    rejection = judge_url(everything, url)
    assert isinstance(rejection, Rejection), rejection
    assert (rejection.code, rejection.field) == ("invalid_url", "url")
    assert rejection.message.startswith("url")


def test_literals_are_known():
    """A Target says whether its host is an address, so that a resolver is never asked for one."""
    assert judge_url(CLOSED, "https://8.8.8.8/").literal == IPv4Address("8.8.8.8")
    assert judge_url(CLOSED, "https://[2606:4700::1]/").literal == IPv6Address("2606:4700::1")
    assert judge_url(CLOSED, "https://example.com/").literal is None
    assert judge_url(LOOPBACK, "https://localhost/").literal is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "a.localhost", "[::ffff:127.0.0.1]", "①②⑦.⓪.⓪.①"])
def test_allowed_loopback_urls(host):
    """With loopback allowed its spellings pass, over http as well."""
    assert isinstance(judge_url(LOOPBACK, f"http://{host}:8080/x"), Target)


def test_http_to_a_name_waits_for_its_addresses():
    """Where some network is allowed, a name may lie in it: http passes here and is judged at the dial."""
    assert isinstance(judge_url(LOOPBACK, "http://receiver.example/"), Target)
    assert isinstance(judge_url(HTTP, "http://receiver.example/"), Target)
    assert judge_url(CLOSED, "http://receiver.example/").code == "forbidden"
    assert judge_url(LOOPBACK, "http://8.8.8.8/").code == "forbidden"


def test_denied_networks_reach_urls():
    """A literal in deny_networks is refused at creation, loopback's names included."""
    policy = parse_policy(True, ["127.0.0.0/8"], ["127.0.0.1"])
    assert judge_url(policy, "http://127.0.0.1/").code == "forbidden"
    assert judge_url(policy, "http://localhost/").code == "forbidden"
    assert isinstance(judge_url(policy, "http://127.0.0.2/"), Target)


def test_length_limit():
    """A URL has at most MAX_URL characters, both as given and as sent."""
    base = "https://example.com/"
    assert isinstance(parse_url(base + "a" * (MAX_URL - len(base))), Target)
    assert parse_url(base + "a" * (MAX_URL - len(base) + 1)).code == "invalid_url"
    wide = "https://bücher.example/"
    assert parse_url(wide + "a" * (MAX_URL - len(wide))).code == "invalid_url"


def test_messages_keep_secrets():
    """No refusal repeats what the URL's query or user information holds."""
    for url in ("https://u:hunter2@a.example/", "https://a.example/?t=hunter2#x", "https://127.0.0.1/?t=hunter2"):
        assert "hunter2" not in judge_url(CLOSED, url).message


URL_ALPHABET = "htps:/.@#?%[]\\ \t\n0123456789abcdefxABZ-_ü①。／：＠\u00ad\u200d%"


@given(
    st.one_of(
        st.text(max_size=60),
        st.text(URL_ALPHABET, max_size=40).map(lambda text: f"https://{text}"),
        st.text(max_size=30).map(lambda text: f"https://{text}/"),
    )
)
def test_reading_never_raises_and_is_idempotent(url):
    """Any text is a Target or a Rejection; a Target's own text is plain ASCII and reads the same again."""
    target = judge_url(HTTP, url)
    if isinstance(target, Target):
        assert target.url.isascii()
        assert target.url.isprintable()
        assert " " not in target.url
        assert target.host == target.host.lower()
        assert judge_url(HTTP, target.url) == target
    else:
        assert target.code in ("invalid_url", "forbidden")


@given(st.integers(0, 2**32 - 1), st.data())
def test_no_number_spelling_passes_as_a_name(number, data):
    """However an IPv4 address is spelled as numbers, it is refused or judged as that address, never a name."""
    octets = list(number.to_bytes(4))
    parts = data.draw(
        st.sampled_from([octets, [octets[0], number & 0xFFFFFF], [octets[0], octets[1], number & 0xFFFF], [number]])
    )
    forms = [str, hex, lambda part: f"0{part:o}", lambda part: f"0X{part:X}"]
    host = ".".join(data.draw(st.sampled_from(forms))(part) for part in parts)
    target = judge_url(HTTP, f"https://{host}{data.draw(st.sampled_from(['', '.']))}/")
    if isinstance(target, Target):
        assert target.literal == IPv4Address(number)
        assert judge_address(HTTP, target.literal, "https") is None
