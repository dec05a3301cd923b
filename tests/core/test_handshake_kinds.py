"""What each kind of handshake asks, byte for byte, and which answers prove."""

import base64
import hashlib
import hmac
import json
from urllib.parse import parse_qs, urlsplit

import pytest

from ringback.core import handshake_kinds
from ringback.core.handshake_kinds import KINDS, Challenge, ConsentLater, Failure, Proved
from ringback.core.model import Outcome, OutcomeKind

TOKEN = "0123456789abcdef0123456789abcdef"
CHALLENGE = Challenge(
    "https://a.example/hook?key=1",
    TOKEN,
    1_800_000_000_999,
    secrets=("grüße", "old"),
    origin="events.example",
    topic="https://us.example/api/v1/endpoints/e 1",
)


def ask(kind, **more):
    """The request of a kind."""
    return KINDS[kind].ask(Challenge(**({f: getattr(CHALLENGE, f) for f in CHALLENGE.__struct_fields__} | more)))


def judge(kind, status=200, body=b"", challenge=CHALLENGE, **headers):
    """What a kind makes of an answer."""
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return KINDS[kind].judge(challenge, Outcome(OutcomeKind.RESPONSE, status=status, body=body, headers=pairs))


def reason(judged):
    """The name of a failure."""
    assert isinstance(judged, Failure), judged
    return judged.reason


def test_azure_asks_with_the_token_signed():
    """POST, the token behind the url's own query, the event's name, the signature over the token's text, no body."""
    asked = ask("azure-speech")
    mac = base64.b64encode(hmac.new("grüße".encode(), TOKEN.encode(), hashlib.sha256).digest()).decode()
    assert (asked.method, asked.body) == ("POST", b"")
    assert asked.url == f"https://a.example/hook?key=1&validationToken={TOKEN}"
    assert dict(asked.headers) == {
        "X-MicrosoftSpeechServices-Event": "Challenge",
        "X-MicrosoftSpeechServices-Signature": mac,
    }


def test_azure_without_a_secret_sends_no_signature():
    """No secret, no header at all."""
    assert dict(ask("azure-speech", secrets=()).headers) == {"X-MicrosoftSpeechServices-Event": "Challenge"}


@pytest.mark.parametrize(
    ("body", "passes", "strictly"),
    [
        (TOKEN, True, True),
        (f" {TOKEN}\r\n", True, False),
        (f'"{TOKEN}"', True, False),
        (f'\n"{TOKEN}"\n', True, False),
        (f'""{TOKEN}""', False, False),
        (f"'{TOKEN}'", False, False),
        (TOKEN[:-1], False, False),
        ('"', False, False),
        ("", False, False),
    ],
)
def test_azure_takes_the_token_bare_or_quoted(body, passes, strictly):
    """As known receivers answer; the strict kind takes the bare token alone."""
    assert (judge("azure-speech", body=body.encode()) == Proved()) is passes
    assert (judge("azure-speech-strict", body=body.encode()) == Proved()) is strictly
    assert reason(judge("azure-speech", 202, body.encode())) == "bad_status"


def test_graph_asks_in_plain_text():
    """POST, text/plain in UTF-8, the token in the query."""
    asked = ask("graph", url="https://a.example/hook")
    assert asked.method == "POST"
    assert asked.url == f"https://a.example/hook?validationToken={TOKEN}"
    assert asked.headers == (("content-type", "text/plain; charset=utf-8"),)


def test_graph_wants_the_bare_token_as_plain_text():
    """200, text/plain whatever its parameters, nothing but the token."""
    good = {"Content_Type": "Text/Plain; charset=utf-8"}
    assert judge("graph", body=TOKEN.encode(), **good) == Proved()
    assert reason(judge("graph", body=TOKEN.encode(), Content_Type="application/json")) == "wrong_type"
    assert reason(judge("graph", body=TOKEN.encode())) == "wrong_type"
    assert reason(judge("graph", body=TOKEN.encode() + b"\n", **good)) == "wrong_echo"
    assert reason(judge("graph", 202, TOKEN.encode(), **good)) == "bad_status"


def test_cloudevents_asks_by_options():
    """OPTIONS with the origin; a rate and a callback only where there are any."""
    assert ask("cloudevents").headers == (("WebHook-Request-Origin", "events.example"),)
    asked = ask("cloudevents", per_min=120, callback_url="https://us.example/cb")
    assert (asked.method, asked.url) == ("OPTIONS", "https://a.example/hook?key=1")
    assert dict(asked.headers) == {
        "WebHook-Request-Origin": "events.example",
        "WebHook-Request-Callback": "https://us.example/cb",
        "WebHook-Request-Rate": "120",
    }


@pytest.mark.parametrize(
    ("status", "headers", "result"),
    [
        (200, {"WebHook_Allowed_Origin": "events.example"}, Proved(None, "events.example")),
        (204, {"webhook_allowed_origin": "*", "webhook_allowed_rate": "*"}, Proved(None, "events.example")),
        (405, {"WebHook_Allowed_Origin": "EVENTS.example", "WebHook_Allowed_Rate": "30"}, Proved(30, "events.example")),
        (200, {"WebHook_Allowed_Origin": "*", "WebHook_Allowed_Rate": "9" * 18}, Proved(None, "events.example")),
        (200, {"WebHook_Allowed_Origin": "other.example"}, "wrong_origin"),
        (200, {"WebHook_Allowed_Origin": "*", "WebHook_Allowed_Rate": "0"}, "bad_rate"),
        (200, {"WebHook_Allowed_Origin": "*", "WebHook_Allowed_Rate": "-5"}, "bad_rate"),
        (200, {"WebHook_Allowed_Origin": "*", "WebHook_Allowed_Rate": "٣"}, "bad_rate"),
        (200, {"WebHook_Allowed_Origin": "*", "WebHook_Allowed_Rate": "9" * 5000}, "bad_rate"),
        (200, {}, "no_consent"),
        (200, {"WebHook_Allowed_Origin": "*", "webhook_allowed_origin": "events.example"}, "no_consent"),
    ],
)
def test_cloudevents_reads_the_consent_from_the_headers(status, headers, result):
    """The allowed origin decides, whatever the status; the allowed rate is kept."""
    judged = judge("cloudevents", status, **headers)
    assert (judged if isinstance(result, Proved) else reason(judged)) == result


def test_cloudevents_wants_a_rate_if_one_was_asked():
    """The specification demands the header then."""
    challenge = Challenge("https://a.example/", TOKEN, 0, per_min=60)
    assert reason(judge("cloudevents", challenge=challenge, WebHook_Allowed_Origin="*")) == "no_rate"


def test_cloudevents_may_consent_later():
    """Without a word of consent, and with somewhere to call back, it isn't a failure yet."""
    challenge = Challenge("https://a.example/", TOKEN, 0, callback_url="https://us.example/cb")
    assert judge("cloudevents", challenge=challenge) == ConsentLater()


def test_websub_asks_by_get():
    """GET with mode, topic, challenge and lease, percent-encoded, behind the url's own query."""
    asked = ask("websub")
    query = parse_qs(urlsplit(asked.url).query, strict_parsing=True)
    assert (asked.method, asked.body, asked.headers) == ("GET", b"", ())
    assert query == {
        "key": ["1"],
        "hub.mode": ["subscribe"],
        "hub.topic": ["https://us.example/api/v1/endpoints/e 1"],
        "hub.challenge": [TOKEN],
        "hub.lease_seconds": ["864000"],
    }


def test_websub_takes_any_2xx_and_a_404_is_a_refusal():
    """The body is the challenge; 404 says no; all else failed."""
    assert judge("websub", 202, TOKEN.encode()) == Proved()
    assert reason(judge("websub", 404, TOKEN.encode())) == "refused"
    assert reason(judge("websub", 400, TOKEN.encode())) == "bad_status"
    assert reason(judge("websub", 200, TOKEN.encode() + b"\n")) == "wrong_echo"


def test_websub_is_renewed_before_its_lease_ends():
    """The next proof is due while the subscriber still believes the last one."""
    assert KINDS["websub"].renew_after_s < handshake_kinds.LEASE_S


def test_zoom_asks_with_a_signed_event():
    """POST of endpoint.url_validation, signed over v0:timestamp:body with the newest secret."""
    asked = ask("zoom")
    headers = dict(asked.headers)
    assert (asked.method, asked.url) == ("POST", CHALLENGE.url)
    assert json.loads(asked.body) == {
        "payload": {"plainToken": TOKEN},
        "event_ts": 1_800_000_000_999,
        "event": "endpoint.url_validation",
    }
    text = b"v0:1800000000:" + asked.body
    assert headers["x-zm-request-timestamp"] == "1800000000"
    assert headers["x-zm-signature"] == "v0=" + hmac.new("grüße".encode(), text, hashlib.sha256).hexdigest()


def test_zoom_wants_the_keyed_hash_of_the_token():
    """Only who knows the secret can answer; the token alone proves nothing."""
    right = hmac.new("grüße".encode(), TOKEN.encode(), hashlib.sha256).hexdigest()
    old = hmac.new(b"old", TOKEN.encode(), hashlib.sha256).hexdigest()

    def reply(**members):
        return json.dumps({"plainToken": TOKEN, "encryptedToken": right} | members).encode()

    assert judge("zoom", body=reply()) == Proved()
    assert judge("zoom", 204, reply(more=[1])) == Proved()
    assert reason(judge("zoom", 201, reply())) == "bad_status"
    for body in (reply(encryptedToken=old), reply(plainToken="x"), reply(plainToken=1), b"", b"[]", b"\xff", b"null"):
        assert reason(judge("zoom", body=body)) == "wrong_echo"


@pytest.mark.parametrize(
    "body", [b'{"x":' + b"[" * 1000, b'{"x":' * 204, b'{"plainToken":"\\ud800"}', b"\xef\xbb\xbf{}"]
)
def test_zoom_answers_no_json_with_a_failure(body):
    """Whatever fits into an answer is judged by name: brackets as deep as it can hold them raise nothing."""
    assert len(body) <= handshake_kinds.MAX_REPLY_BYTES
    assert reason(judge("zoom", body=body)) == "wrong_echo"


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_is_the_same_twice_and_hides_its_secrets(kind):
    """The same challenge gives the same bytes; no secret is in them; the token has at least 128 bits."""
    asked = kind.ask(CHALLENGE)
    assert asked == kind.ask(CHALLENGE)
    text = f"{asked.url}{asked.headers}{asked.body!r}"
    assert "grüße" not in text
    assert "old" not in text
    assert kind.token_bytes * 8 >= 128
    assert len(asked.url) - len(CHALLENGE.url) <= kind.room


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
@pytest.mark.parametrize("status", [100, 200, 204, 400, 410, 451])
@pytest.mark.parametrize("body", [b"", b"ok", b"\xff\xfe", b'"' * 3, b"{" * 500])
def test_merely_answering_proves_nothing(kind, status, body):
    """No status and no body without the token passes any kind."""
    assert not isinstance(judge(kind.name, status, body, Content_Type="text/plain"), Proved)


def test_what_cannot_be_asked_is_told_at_creation():
    """A keyed kind needs a secret; a url must leave room for what is added; other names are not its business."""
    assert handshake_kinds.check("zoom", "https://a.example/", signed=True) is None
    assert "secret" in handshake_kinds.check("zoom", "https://a.example/", signed=False)
    assert "characters" in handshake_kinds.check("graph", "https://a.example/" + "x" * 1950, signed=False)
    assert handshake_kinds.check("none", "x" * 5000, signed=False) is None
    assert [kind for kind in KINDS if handshake_kinds.signs(kind)] == ["azure-speech", "azure-speech-strict", "zoom"]
