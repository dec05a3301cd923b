"""Dialect ``standard``: Standard Webhooks, any event type, signed with HMAC-SHA256 (v1) or Ed25519 (v1a).

Body ``{"type":…,"timestamp":…,"data":…}`` without blanks, ``data`` being the producer's own bytes. Headers
``webhook-id`` (the event's id, the same on every attempt), ``webhook-timestamp`` (Unix seconds of this attempt) and
``webhook-signature`` (one item for each live secret: ``v1`` for a ``whsec_`` one, ``v1a`` for a ``whsk_`` one).
Must not know: anything but the event and its arguments.
Source: standardwebhooks.com; CONTRACT, Dialects.
"""

from ringback.core import signing
from ringback.core.model import Event
from ringback.core.times import rfc3339
from ringback.dialects._base import JSON, USER_AGENT, Dialect, Headers, Options, Shot, Vector


def encode(shot: Shot, _secrets: tuple[str, ...]) -> bytes:
    """The body. Nothing in it needs escaping: type and time are plain, ``data`` is JSON already."""
    event = shot.event
    return b'{"type":"%b","timestamp":"%b","data":%b}' % (
        event.type.encode(),
        rfc3339(event.created_at_ms).encode(),
        event.data,
    )


def headers(shot: Shot, body: bytes, secrets: tuple[str, ...], now_ms: int) -> Headers:
    """The headers of one attempt made at ``now_ms``; without secrets the signature is left out."""
    event_id = shot.event.id
    now_s = now_ms // 1000
    plain = (
        ("content-type", JSON),
        ("user-agent", USER_AGENT),
        ("webhook-id", event_id),
        ("webhook-timestamp", str(now_s)),
    )
    if not secrets:
        return plain
    return (*plain, ("webhook-signature", signing.sign(secrets, event_id, now_s, body)))


def check_secret(text: str, _options: Options) -> str | None:
    """What is wrong with a secret, in words."""
    return signing.check_secret(text)


_EVENT = Event(
    id="msg_p5jXN8AQM9LWM0D4loKWxJek",
    tenant="default",
    type="stt.jobs.completed",
    data=b'{"job_id": "8c35", "big": 18446744073709551616}',
    created_at_ms=1_614_265_329_007,
    digest=b"",
)
_SHOT = Shot(_EVENT, _EVENT.type)
_BODY = (
    b'{"type":"stt.jobs.completed","timestamp":"2021-02-25T15:02:09.007Z",'
    b'"data":{"job_id": "8c35", "big": 18446744073709551616}}'
)
_HEADERS: Headers = (
    ("content-type", JSON),
    ("user-agent", USER_AGENT),
    ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
    ("webhook-timestamp", "1614265330"),
)
_SIGNED = "v1,npm52ZWiv45/2jQ2R99cPrVy/SmRJqG24PSUcdTCLgU="
_SIGNED_OLD = "v1,PnIoriDrBdMSmovbIYBpNae4rnCBlthU9r3BNcLq8lo="

#: The published libraries verify these (tests).
_SOURCE = "the specification; checked with the published library"

DIALECT = Dialect(
    name="standard",
    description="Standard Webhooks: any event type, signed with HMAC-SHA256 (v1) or Ed25519 (v1a)",
    encoder=1,
    signs=True,
    shared=True,
    encode=encode,
    headers=headers,
    new_secret=signing.new_secret,
    check_secret=check_secret,
    secret_bytes=signing.NEW_KEY_BYTES,
    key_form="whsec_ or whsk_ and base64",
    own_headers=frozenset({"webhook-id", "webhook-timestamp", "webhook-signature"}),
    secret_headers=frozenset({"webhook-signature"}),
    vectors=(
        Vector(
            why="one secret",
            source=_SOURCE,
            shot=_SHOT,
            secrets=("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",),
            now_ms=1_614_265_330_999,
            body=_BODY,
            headers=(*_HEADERS, ("webhook-signature", _SIGNED)),
        ),
        Vector(
            why="two secrets while one is being replaced: the newest signs first",
            source=_SOURCE,
            shot=_SHOT,
            secrets=(
                "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            ),
            now_ms=1_614_265_330_000,
            body=_BODY,
            headers=(*_HEADERS, ("webhook-signature", f"{_SIGNED_OLD} {_SIGNED}")),
        ),
        Vector(
            why="unsigned on purpose",
            source=_SOURCE,
            shot=_SHOT,
            secrets=(),
            now_ms=1_614_265_330_000,
            body=_BODY,
            headers=_HEADERS,
        ),
    ),
)
