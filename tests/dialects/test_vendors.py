"""What single formats promise beyond the suite and the known answers."""

import json

import pytest

from ringback.core.ids import delivery_id
from ringback.core.model import Event, Verdict
from ringback.dialects import Shot, azure_speech, deepva, pulse, speechlive
from ringback.dialects._base import Probe


def shot(data: bytes, options: dict | None = None, type_name: str = "a", **more) -> Shot:
    """An event with this data."""
    event = Event("evt-1", "acme", "a", data, 1_718_618_974_412, b"")
    return Shot(event, type_name, 1_795_255_200_125, more.pop("seq", 7), more.pop("lane", 3), options or {}, **more)


@pytest.mark.parametrize(
    ("data", "type_name", "extra", "wanted"),
    [
        (b"{}", "a", {}, b'{"status":"success","request_id":"evt-1"}'),
        (b"{ }", "a.failed", {}, b'{"status":"failed","request_id":"evt-1"}'),
        (b'{"status":"failed"}', "a", {}, b'{"status":"failed","request_id":"evt-1"}'),
        (b'{"request_id":"r"}', "a", {"status": "x", "request_id": "y"}, b'{"status":"success","request_id":"r"}'),
        (
            b'{"a":1e400}',
            "a",
            {"a": "2", "b": '\u00fc"'},
            '{"status":"success","a":1e400,"request_id":"evt-1","b":"ü\\""}'.encode(),
        ),
    ],
)
def test_pulse_never_overwrites(data: bytes, type_name: str, extra: dict, wanted: bytes) -> None:
    """The payload's own members win over extras, and its bytes stay."""
    assert pulse.encode(shot(data, type_name=type_name, extra=extra), ()) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", {}),
        ("case_id:42,region:us-east", {"case_id": "42", "region": "us-east"}),
        ("url:http://x:1,e:", {"url": "http://x:1", "e": ""}),
        ("a", None),
        (":a", None),
        ("a:1,a:2", None),
        ("a:1,", None),
        (",".join(f"k{n}:v" for n in range(65)), None),
    ],
)
def test_extras_as_text(text: str, wanted: dict | None) -> None:
    """Split at commas, then at the first colon; what is no pair is refused."""
    assert pulse.parse_extra(text) == wanted


def test_pulse_by_get() -> None:
    """Scalars as text, objects and arrays as compact JSON, behind the query there is; no body to describe."""
    asked = shot(b'{"a b":"x&y=\xc3\xbc","n":1.50,"t":true,"z":null,"w":[ {"k" : "\\u00fc"} ]}', {"method": "GET"})
    url = pulse.target_url("https://h/x?k=1", asked, pulse.encode(asked, ()))
    assert url == (
        "https://h/x?k=1&status=success&a%20b=x%26y%3D%C3%BC&n=1.50&t=true&z=null"
        "&w=%5B%7B%22k%22%3A%22%C3%BC%22%7D%5D&request_id=evt-1"
    )
    assert pulse.method(asked) == "GET"
    assert "content-type" not in dict(pulse.headers(asked, b"{}", (), 0))
    assert pulse.method(shot(b"{}", {"method": "GET"}, method="POST")) == "POST"


@pytest.mark.parametrize("url", ["https://h/x", "https://h/x?", "https://h/x?k=1", "https://h/x?k=1&"])
def test_the_query_is_joined_cleanly(url: str) -> None:
    """Whatever the URL ends with, there is one ? and no empty parameter."""
    asked = shot(b"{}", {"method": "GET"})
    made = pulse.target_url(url, asked, b'{"a":1}')
    assert made in ("https://h/x?a=1", "https://h/x?k=1&a=1")


def test_a_get_carries_only_so_much() -> None:
    """What would be too long a URL is not expressible; in a body it is."""
    room = pulse.MAX_QUERY_BYTES - len("a=")
    for data, fits in ((b'{"a":"%b"}' % (b"x" * (room - 8)), True), (b'{"a":"%b"}' % (b"\xc3\xbc" * 6000), False)):
        assert pulse.expresses_data("a.b", data, {"method": "GET"}) is fits
        assert pulse.expresses_data("a.b", data, {})


def test_secret_extras_are_masked_wherever_they_lie() -> None:
    """In the body flat or nested, by their name; the data's own members are shown; so are other extras."""
    extras = {"webhook_extra": "api_token:t0p,case:7"}
    for options in (extras, extras | {"extra": "nested"}):
        one = shot(b'{"token":"of the data"}', options)
        body = pulse.encode(one, ())
        assert b"t0p" in body
        told = pulse.mask(body, one)
        assert b"t0p" not in told
        assert json.loads(told)["token"] == "of the data"
        assert b'"case":"7"' in told
    assert pulse.DIALECT.options_shown(extras) == {"webhook_extra": "api_token:…,case:7"}
    plain = shot(b'{"a":1}')
    assert pulse.mask(pulse.encode(plain, ()), plain) == pulse.encode(plain, ())


def test_a_signed_template_is_masked() -> None:
    """Of self_template and of the self made of it the query's values are hidden, but for places."""
    options = {"self_template": "https://u:p@h/t/{id}?sig=s3cret&job={id}"}
    assert azure_speech.DIALECT.options_shown(options) == {"self_template": "https://h/t/{id}?sig=…&job={id}"}
    one = shot(b'{"id":"7"}', options)
    assert b"s3cret" not in azure_speech.mask(azure_speech.encode(one, ()), one)


def test_an_event_is_never_a_challenge() -> None:
    """A receiver would take it for the handshake: it is not expressible, every other kind is."""
    assert not azure_speech.DIALECT.expresses("Challenge")
    assert all(azure_speech.DIALECT.expresses(kind) for kind in azure_speech.KINDS - {"Challenge"})
    assert len(azure_speech.KINDS) == 22


def test_final_statuses() -> None:
    """Pulse gives up on 4xx but 408 and 429, SpeechLive on every 4xx; 5xx and 3xx are tried again."""
    for status in (400, 404, 422):
        assert pulse.judge(status) is speechlive.judge(status) is Verdict.GIVE_UP
    for status in (408, 429):
        assert (pulse.judge(status), speechlive.judge(status)) == (Verdict.RETRY, Verdict.GIVE_UP)
    for status in (302, 500, 503):
        assert pulse.judge(status) is speechlive.judge(status) is Verdict.RETRY


def test_azures_invocation_is_the_deliverys() -> None:
    """The same on each attempt, another for each endpoint and event; the template encodes what it puts in."""
    first, again, other = (json.loads(azure_speech.encode(s, ())) for s in (
        shot(b'{"self":"u"}'), shot(b'{"self":"u"}'), shot(b'{"self":"u"}', lane=4),
    ))  # fmt: skip
    assert first == again
    assert first["invocationId"] != other["invocationId"]
    assert shot(b"{}").delivery_id == delivery_id(1_795_255_200_125, 7, 3)
    made = azure_speech.encode(shot(b'{"id":"a/\xc3\xbc"}', {"self_template": "https://h/{id}?x={id}"}), ())
    assert json.loads(made)["self"] == "https://h/a%2F%C3%BC?x=a%2F%C3%BC"
    with pytest.raises(ValueError, match="self_template"):
        azure_speech.encode(shot(b"{}"), ())


def test_deepva_without_a_secret_and_with_two() -> None:
    """Null, and the newest alone; ids that are no UUID become one for good."""
    unsigned = json.loads(deepva.encode(shot(b"{}"), ()))
    assert unsigned["hmac_signature"] is None
    assert unsigned["id"] == "c28d50bc-7ab4-5782-a358-8cb3cc76a0b5"
    assert unsigned["timestamp"] == 1718618974.412
    assert deepva.encode(shot(b"{}"), ("new", "old")) == deepva.encode(shot(b"{}"), ("new",))
    signed = deepva.encode(shot(b'{"hmac_signature": "x"}'), ("k",))
    assert json.loads(deepva.mask(signed, shot(b"{}"))) == json.loads(signed) | {"hmac_signature": "…"}
    assert deepva.mask(deepva.encode(shot(b"{}"), ()), shot(b"{}")) == deepva.encode(shot(b"{}"), ())


def test_an_azure_ping_tells_the_hook() -> None:
    """The vendor's members in the vendor's order, times to the second, the kinds it listens for; never a secret."""
    probe = Probe("ping", "e1", "https://h/x", ("stt.jobs.*", "ModelDeletion"), "Köln", None, 1_541_894_400_123, 0)
    body = azure_speech.DIALECT.probe(probe)
    assert body.decode() == (
        '{"displayName":"Köln","properties":{"apiVersion":"2024-11-15"},"webUrl":"https://h/x",'
        '"events":{"modelDeletion":true,"transcriptionCompletion":true},"createdDateTime":"2018-11-11T00:00:00Z",'
        '"lastActionDateTime":"1970-01-01T00:00:00Z","status":"Succeeded"}'
    )
    assert azure_speech.encode(shot(body, type_name="Ping"), ()) == body
    everything = json.loads(azure_speech.hook(Probe("ping", "e1", "https://h/x", description="d")))
    assert (everything["displayName"], everything["description"], len(everything["events"])) == ("e1", "d", 20)
