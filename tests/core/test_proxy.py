"""The egress proxy's text: what is read of it, what is shown, what is refused; and which names are left to it."""

import base64

import pytest

from ringback.core.egress import parse_policy
from ringback.core.proxy import Proxy, judge_unresolved, masked, parse_proxy

STRICT = parse_policy(allow_http=False, allow_networks=["10.0.0.0/8"], deny_networks=[])
OPEN = parse_policy(allow_http=True, allow_networks=[], deny_networks=[])


@pytest.mark.parametrize(
    ("text", "host", "port", "credentials"),
    [
        ("http://proxy:3128", "proxy", 3128, None),
        ("http://Proxy.Example.com:80/", "proxy.example.com", 80, None),
        ("HTTP://10.0.0.1:8080", "10.0.0.1", 8080, None),
        ("http://[2001:DB8::1]:3128", "2001:db8::1", 3128, None),
        ("http://joe:pw@proxy:3128", "proxy", 3128, b"joe:pw"),
        ("http://joe@proxy:3128", "proxy", 3128, b"joe:"),
        ("http://joe:p%40s%3As%2F%C3%BC@proxy:3128", "proxy", 3128, "joe:p@s:s/ü".encode()),
    ],
)
def test_a_proxy_is_a_place_and_perhaps_credentials(text, host, port, credentials):
    """Host and port as they are dialled, the credentials decoded and made a header."""
    proxy = parse_proxy(text)
    wanted = None if credentials is None else f"Basic {base64.b64encode(credentials).decode()}"
    assert (proxy.host, proxy.port, proxy.authorization) == (host, port, wanted)


def test_no_text_is_no_proxy():
    """The default."""
    assert parse_proxy("") is None
    assert masked("") == ""


@pytest.mark.parametrize(
    "text",
    [
        "proxy:3128", "https://joe:hunter2@proxy:3128", "socks5://joe:hunter2@proxy:1080", "http://joe:hunter2@proxy",
        "http://joe:hunter2@proxy:0", "http://joe:hunter2@proxy:65536", "http://joe:hunter2@proxy:3128/path",
        "http://joe:hunter2@a@proxy:3128", "http://joe:hunter2@:3128", "http://joe:hunter2@2130706433:3128",
        "http://jo%3Ae:hunter2@proxy:3128", "http://joe:hunter2%0d%0aX@proxy:3128", "http://joe:hunter2%@proxy:3128",
        "http://joe:hunter2 x@proxy:3128", "http://joe:hunter2" + "x" * 255 + "@proxy:3128", "http://joe:hunter2@proxy:٣",
        "http://joe:hunter2@[::1:3128", "http://joe:hunter2ü@proxy:3128", "\nhttp://joe:hunter2@proxy:3128",
    ],
)  # fmt: skip
def test_anything_else_is_refused_without_being_repeated(text):
    """A wrong text is named by what is wrong; neither the message nor what is shown holds the password."""
    with pytest.raises(ValueError, match="must") as refused:
        parse_proxy(text)
    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in masked(text)


def test_the_password_is_never_shown():
    """Neither in what people are shown nor in a representation that ends up in a trace."""
    text = "http://joe:hunter2@Proxy:3128/"
    proxy = parse_proxy(text)
    assert masked(text) == "http://joe:****@proxy:3128"
    assert masked("http://proxy:3128") == "http://proxy:3128"
    assert repr(proxy) == "Proxy(proxy:3128)"
    assert str(Proxy("::1", 1, "secret")) == "Proxy([::1]:1)"


@pytest.mark.parametrize("host", ["intranet", "db", "metadata.google.internal", "a.local", "local", "nas.home.arpa"])
def test_names_of_private_networks_are_never_left_to_the_proxy(host):
    """What can't be judged and can only lie inside isn't asked for in somebody else's network either."""
    assert "private" in judge_unresolved(OPEN, host, "https")


def test_other_unknown_names_are_left_to_it_by_https():
    """Many networks know no outside names; plain http still needs the operator's word, which no address can give."""
    assert judge_unresolved(STRICT, "hooks.example.com", "https") is None
    assert judge_unresolved(OPEN, "hooks.example.com", "http") is None
    assert "plain http" in judge_unresolved(STRICT, "hooks.example.com", "http")
    assert judge_unresolved(STRICT, "mylocal.com", "https") is None
