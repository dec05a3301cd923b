"""core.target and core.egress.judge_url: spellings of URLs, and what the policy says of them."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.core.egress import MAX_URL, EgressPolicy, judge_address, judge_url, parse_policy
from ringback.core.model import Rejection
from ringback.core.target import Target, parse_url

CLOSED = EgressPolicy()
HTTP = EgressPolicy(allow_http=True)
LOOPBACK = parse_policy(False, ["127.0.0.0/8"], [])

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
