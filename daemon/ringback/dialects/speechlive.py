"""Dialect ``speechlive``: Philips SpeechLive's webhooks: ``data`` is the body, the shared secret and a hash in headers.

``X-Trouble-Request-Hash`` is base64 of HMAC-SHA256 over the body under the subscription's signing key, the endpoint's
secret (the newest); ``X-Trouble-Secret`` is the option ``shared_secret`` in clear, left out without one. The body
doesn't name its type: give each event its own URL, as the vendor's set-up does, or set ``event_headers``.
Must not know: anything but the shot and its arguments.
Sources, with confidence: developers-eu.speechlive.com/webhooks: headers, digest, three shapes, 100 s, two retries 2 s
apart, none after 4xx (documented, high). The key's text as UTF-8 is the likelier reading, base64 the other (option
``key``); names of events are ours; ``event_headers`` is of a related product (low); ``escape`` = ``dotnet`` writes
strings as .NET's default encoder would.
"""

import base64
import re

import msgspec

from ringback.core.json_forms import dotnet_escapes
from ringback.core.model import Event, RetryPolicy, Verdict
from ringback.core.names import TEST_TYPE
from ringback.core.signing import hmac_base64
from ringback.dialects._base import (
    JSON_UTF8,
    USER_AGENT,
    Dialect,
    Headers,
    Option,
    Options,
    Shot,
    Vector,
    check_text_secret,
)

TYPES = frozenset(
    {"dictation.created", "dictation.updated", "dictation.deleted", "attachment.created", "attachment.updated"}
)
_FIELD_VALUE = re.compile(r"[!-~](?:[ \t!-~]*[!-~])?")


def _check_shared(text: str) -> str | None:
    return None if _FIELD_VALUE.fullmatch(text) else "must be visible ASCII, with blanks only inside"


SHARED_SECRET = Option(
    name="shared_secret", meaning="sent in clear as X-Trouble-Secret", check=_check_shared, secret=True
)
KEY = Option(
    name="key", meaning="how the signing key is read: as text, or decoded from base64", values=("text", "base64")
)
ESCAPE = Option(
    name="escape", meaning="strings as they are, or escaped as .NET's default encoder does", values=("raw", "dotnet")
)
EVENT_HEADERS = Option(
    name="event_headers", meaning="on: X-Trouble-Event (the type) and X-Trouble-Delivery (a GUID)", values=("off", "on")
)


def encode(shot: Shot, _secrets: tuple[str, ...]) -> bytes:
    """The producer's bytes, escaped otherwise if asked to."""
    data = shot.event.data
    return dotnet_escapes(data) if ESCAPE.of(shot.options) == "dotnet" else data


def headers(shot: Shot, body: bytes, secrets: tuple[str, ...], _now_ms: int) -> Headers:
    """The shared secret, the hash and, if asked for, the event."""
    options = shot.options
    made = [("content-type", JSON_UTF8), ("user-agent", USER_AGENT)]
    if EVENT_HEADERS.of(options) == "on":
        made += [("X-Trouble-Event", shot.type_name.lower()), ("X-Trouble-Delivery", shot.delivery_id)]
    shared = SHARED_SECRET.of(options)
    if shared:
        made.append(("X-Trouble-Secret", shared))
    if secrets:
        made.append(("X-Trouble-Request-Hash", hmac_base64(_key(secrets[0], options), body)))
    return tuple(made)


def _key(secret: str, options: Options) -> bytes:
    return base64.b64decode(secret, validate=True) if KEY.of(options) == "base64" else secret.encode()


def check_secret(text: str, options: Options) -> str | None:
    """Any text; base64 if it is read so."""
    problem = check_text_secret(text, options)
    if problem is None:
        try:
            _key(text, options)
        except ValueError:
            return "must be padded base64: the option key says so"
    return problem


def expresses(type_name: str) -> bool:
    """Dictations and attachments, and a test."""
    return type_name in TYPES or type_name == TEST_TYPE


def judge(status: int) -> Verdict:
    """Every 4xx is final."""
    return Verdict.GIVE_UP if 400 <= status <= 499 else Verdict.RETRY


_EVENT = Event(
    id="e1",
    tenant="default",
    type="dictation.created",
    data='{"id":"1a6f7a55-4f6b-4b57-9f45-0d6f0c9b8e01","title":"Arztbrief – Frau Größl","comment":"a+b"}'.encode(),
    created_at_ms=1_714_979_289_123,
    digest=b"",
)
_KEY = "QmFzZTY0LWxvb2tpbmctc2lnbmluZy1rZXktMDE="
_SHARED = {"shared_secret": "geteiltes-Geheimnis-01"}
_HEADERS: Headers = (("content-type", JSON_UTF8), ("user-agent", USER_AGENT))

DIALECT = Dialect(
    name="speechlive",
    description="Philips SpeechLive: the data itself, HMAC-SHA256 in X-Trouble-Request-Hash",
    encoder=1,
    signs=True,
    shared=False,
    encode=encode,
    headers=headers,
    check_secret=check_secret,
    key_form="text: the subscription's signing key",
    options=(SHARED_SECRET, KEY, ESCAPE, EVENT_HEADERS),
    expresses=expresses,
    judge=judge,
    content_type=JSON_UTF8,
    own_headers=frozenset({"x-trouble-event", "x-trouble-delivery", "x-trouble-secret", "x-trouble-request-hash"}),
    secret_headers=frozenset({"x-trouble-secret", "x-trouble-request-hash"}),
    default_timeout_s=100.0,
    default_retry=RetryPolicy(delays_s=(2.0, 2.0), jitter=0.0),
    vectors=(
        Vector(
            why="key as text",
            source="documented, the key's reading inferred; recomputed by hand (high)",
            shot=Shot(_EVENT, _EVENT.type, options=_SHARED),
            secrets=(_KEY,),
            now_ms=1_714_979_289_123,
            body=_EVENT.data,
            headers=(
                *_HEADERS,
                ("X-Trouble-Secret", "geteiltes-Geheimnis-01"),
                ("X-Trouble-Request-Hash", "eyTQ87NmXN8ZxHErDZXe0mt1upm/BKC2LuPGcDpNpkU="),
            ),
        ),
        Vector(
            why="key from base64, strings as .NET writes them, event in headers",
            source="the other reading; headers of a related product (low)",
            shot=Shot(
                msgspec.structs.replace(_EVENT, type="dictation.deleted"),
                "dictation.deleted",
                1_714_979_289_125,
                7,
                3,
                {"key": "base64", "escape": "dotnet", "event_headers": "on"},
            ),
            secrets=(_KEY,),
            now_ms=1_714_979_289_123,
            body=(
                b'{"id":"1a6f7a55-4f6b-4b57-9f45-0d6f0c9b8e01","title":"Arztbrief \\u2013 Frau Gr\\u00F6\\u00DFl",'
                b'"comment":"a\\u002Bb"}'
            ),
            headers=(
                *_HEADERS,
                ("X-Trouble-Event", "dictation.deleted"),
                ("X-Trouble-Delivery", "018f4cbb-3825-7000-8000-000700000003"),
                ("X-Trouble-Request-Hash", "7fjvT2s71BHzxQ6lADY/s9COCZYJClfAUrIz0kthItk="),
            ),
        ),
    ),
)
