"""The callback member: what is taken, what is refused and by which name, the key:value text, the host patterns."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.core.callbacks import (
    MAX_CALLBACK_BYTES,
    MAX_EXTRAS,
    check_host_pattern,
    extras_of,
    host_allowed,
    origin_of,
    parse_callback,
    parse_extra,
)
from ringback.core.events import EventLimits, parse_line
from ringback.core.model import Callback, Event, Rejection
from ringback.core.target import parse_url

URL = '"url":"https://h.example/cb?k=1"'
words = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters=",:"), min_size=1, max_size=8)


def callback(members: str) -> Callback:
    """The callback of these members, which must be taken."""
    found = parse_callback(f"{{{members}}}".encode())
    assert isinstance(found, Callback), found
    return found


def test_a_url_is_enough() -> None:
    """Dialect pulse, the dialect's method, unsigned, no extras."""
    assert callback(URL) == Callback("https://h.example/cb?k=1", "pulse", None, "", b"")


def test_every_member_arrives() -> None:
    """All five, the URL as it will be sent, the object of extras as it was written."""
    made = callback(
        '"url":"HTTPS://H.example","dialect":"standard","method":"GET","secret":"s","extra":{ "n" : 1.50, "l":[1, 2] }'
    )
    assert made == Callback("https://h.example/", "standard", "GET", "s", b'{ "n" : 1.50, "l":[1, 2] }')
    assert {name: bytes(raw) for name, raw in extras_of(made).items()} == {"n": b"1.50", "l": b"[1, 2]"}


@pytest.mark.parametrize(
    ("members", "code", "field"),
    [
        ("", "invalid_event", "callback.url"),
        ('"url":1', "invalid_event", "callback.url"),
        ('"url":null', "invalid_event", "callback.url"),
        ('"url":"ftp://h.example/"', "invalid_event", "callback.url"),
        ('"url":"/path"', "invalid_event", "callback.url"),
        (f'{URL},"method":"PUT"', "invalid_event", "callback.method"),
        (f'{URL},"method":null', "invalid_event", "callback.method"),
        (f'{URL},"secret":5', "invalid_event", "callback.secret"),
        (f'{URL},"dialect":[]', "invalid_event", "callback.dialect"),
        (f'{URL},"extra":"a:b,c"', "invalid_event", "callback.extra"),
        (f'{URL},"extra":"a:1,a:2"', "invalid_event", "callback.extra"),
        (f'{URL},"extra":7', "invalid_event", "callback.extra"),
        (f'{URL},"extra":null', "invalid_event", "callback.extra"),
        (f'{URL},"extra":{{"a":1,"a":2}}', "invalid_event", "callback.extra"),
        (f'{URL},"extra":{{"a":1,"\\u0061":2}}', "invalid_event", "callback.extra"),
        (f"{URL},{URL}", "invalid_json", "callback"),
        (f'{URL},"\\u0075rl":"https://x.example/"', "invalid_json", "callback"),
        (f'{URL},"urn":"x"', "unknown_field", "callback.urn"),
        (f'{URL},"extra":"k:{"v" * MAX_CALLBACK_BYTES}"', "invalid_event", "callback"),
    ],
)
def test_what_is_wrong_is_named(members: str, code: str, field: str) -> None:
    """Each fault has its code and names its member, and the message repeats nothing of a URL."""
    found = parse_callback(f"{{{members}}}".encode())
    assert isinstance(found, Rejection)
    assert (found.code, found.field) == (code, field)
    assert "k=1" not in found.message


@pytest.mark.parametrize("raw", [b'"https://h.example/"', b"[]", b"null", b"1"])
def test_it_is_an_object(raw: bytes) -> None:
    """Nothing but an object is a callback."""
    found = parse_callback(raw)
    assert isinstance(found, Rejection)
    assert (found.code, found.field) == ("invalid_event", "callback")


def test_extras_are_bounded() -> None:
    """As many as the limit pass in both forms, one more doesn't."""
    for count, fits in ((MAX_EXTRAS, True), (MAX_EXTRAS + 1, False)):
        pairs = {f"k{n}": "v" for n in range(count)}
        text = ",".join(f"{key}:{value}" for key, value in pairs.items())
        for extra in (pairs, text):
            found = parse_callback(f'{{{URL},"extra":{json.dumps(extra)}}}'.encode())
            assert isinstance(found, Callback) is fits


def test_numbers_beyond_any_integer_pass() -> None:
    """A number of 5,000 digits goes back as it came."""
    made = callback(f'{URL},"extra":{{"n":{"9" * 5000}}}')
    assert bytes(extras_of(made)["n"]) == b"9" * 5000


@given(
    st.dictionaries(words, st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters=","), max_size=9))
)
def test_the_text_form_says_the_pairs(pairs: dict[str, str]) -> None:
    """Any pairs without commas, and keys without colons, come back from the text."""
    text = ",".join(f"{key}:{value}" for key, value in pairs.items())
    wanted = pairs if len(pairs) <= MAX_EXTRAS else None
    assert parse_extra(text) == wanted


@given(st.text(max_size=40))
def test_any_text_is_pairs_or_refused(text: str) -> None:
    """No text raises; what is taken is the pairs at its commas, each with a key, no key twice."""
    found = parse_extra(text)
    if found is not None:
        assert ",".join(f"{key}:{value}" for key, value in found.items()) == text


leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


@given(st.dictionaries(st.text(max_size=6), values, max_size=6))
def test_an_object_of_extras_stays_as_written(extra: dict[str, object]) -> None:
    """Whatever the names and values, colons and braces in them too, the object is taken and kept to the byte."""
    raw = json.dumps(extra)
    made = callback(f'{URL},"extra":{raw}')
    assert made.extra == raw.encode()
    assert {name: msgspec.json.decode(value) for name, value in extras_of(made).items()} == extra


def test_the_digest_covers_the_callback_as_given() -> None:
    """The same callback written otherwise is other content; the very same is the same."""

    def digest(member: str) -> bytes:
        event = parse_line(b'{"type":"a","data":{},"callback":' + member.encode() + b"}", EventLimits(), 0, "f")
        assert isinstance(event, Event)
        return event.digest

    plain = f"{{{URL}}}"
    assert digest(plain) == digest(plain)
    assert len({digest(plain), digest(f"{{ {URL}}}"), digest(f'{{{URL},"dialect":"pulse"}}')}) == 3


def test_an_event_carries_its_callback() -> None:
    """The event's callback is the judged one, and a refusal is the event's."""
    event = parse_line(f'{{"type":"a","data":{{}},"callback":{{{URL}}}}}'.encode(), EventLimits(), 0, "f")
    assert isinstance(event, Event)
    assert event.callback == callback(URL)
    refused = parse_line(b'{"type":"a","data":{},"callback":{}}', EventLimits(), 0, "f")
    assert isinstance(refused, Rejection)
    assert refused.field == "callback.url"


@pytest.mark.parametrize(
    ("pattern", "host", "fits"),
    [
        ("*", "any.example", True),
        ("hooks.example", "hooks.example", True),
        ("HOOKS.Example.", "hooks.example", True),
        ("hooks.example", "a.hooks.example", False),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "evilexample.com", False),
        ("*.example.com", "example.com.evil.org", False),
        ("münchen.example", "xn--mnchen-3ya.example", True),
        ("10.0.0.1", "10.0.0.1", True),
        ("2001:db8::1", "2001:db8::1", True),
        ("[2001:DB8::1]", "2001:db8::1", True),
    ],
)
def test_patterns_mean_hosts(pattern: str, host: str, fits: bool) -> None:
    """One host, all below one, or every one; spelled as URLs' hosts are."""
    assert check_host_pattern(pattern) is None
    assert host_allowed([pattern], host) is fits
    assert host_allowed([], host) is False


@pytest.mark.parametrize(
    "pattern", ["", "*.", "**", "a.*", "*.*.a", "https://a", "a/b", "a:443", "a b", "u@h", "1.2.3"]
)
def test_no_pattern_is_half_understood(pattern: str) -> None:
    """What isn't exactly one of the three forms is refused."""
    assert check_host_pattern(pattern) is not None


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://H.example/a?b", "https://h.example:443"),
        ("http://h.example:80/", "http://h.example:80"),
        ("https://[2001:db8::1]:8443/", "https://[2001:db8::1]:8443"),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, origin: str) -> None:
    """Paths and queries share a lane; schemes and ports don't."""
    target = parse_url(url)
    assert not isinstance(target, Rejection)
    assert origin_of(target) == origin
