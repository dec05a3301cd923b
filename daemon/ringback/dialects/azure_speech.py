"""Dialect ``azure-speech``: Azure Speech's batch webhooks: ``{"self", "invocationId"}``, kind and signature in headers.

``self`` is the entity's URL: the data's, else made of the option ``self_template`` (``https://host/transcriptions/
{job_id}``), whose names in braces stand for string and number members of ``data``; an event that has neither can't be
said. ``invocationId`` is a UUID derived from the delivery's id, the same on every attempt, so that receivers can drop
doubles. ``X-MicrosoftSpeechServices-Signature`` is base64 of HMAC-SHA256 over the body, key the secret's text, of the
newest secret; left out without one. A ping's body is its data: the hook as the vendor's GET shows it, but for its
secret, which no request needs, and for ``self`` and ``links``, which lead nowhere without the vendor's management API.
Must not know: anything but the shot and its arguments; how the handshake goes.
Sources, with confidence: learn.microsoft.com/rest/api/speechtotext and the vendor's sample receiver: kinds, headers,
digest, members (documented, high); compact, in this order, with this content type (inferred); an ``invocationId`` that
stays over attempts is ours; five more tries a second apart is of the 2019 service (medium), the timeout ours. The 2019
page also says that a completion is told whether the job succeeded or not, so ``stt.jobs.failed`` is one too.
"""

import re
from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from ringback.core.ids import derived
from ringback.core.masks import mask_template
from ringback.core.matching import matches
from ringback.core.model import Event, RetryPolicy
from ringback.core.names import TEST_TYPE
from ringback.core.signing import hmac_base64
from ringback.core.times import rfc3339
from ringback.dialects._base import JSON_UTF8, USER_AGENT, Dialect, Headers, Option, Options, Probe, Shot, Vector

ENTITIES = ("Dataset", "Model", "Evaluation", "Transcription", "Endpoint")
STEPS = ("Creation", "Processing", "Completion", "Deletion")
PING, CHALLENGE = "Ping", "Challenge"
#: The version of the vendor's API these are the forms of.
API_VERSION = "2024-11-15"
#: Common names of types in the vendor's words.
WORDS = {
    "stt.jobs.completed": "TranscriptionCompletion",
    "stt.jobs.failed": "TranscriptionCompletion",
    TEST_TYPE: PING,
}
#: The 22 kinds.
KINDS = frozenset({PING, CHALLENGE, *(entity + step for entity in ENTITIES for step in STEPS)})
#: Those an event may be. A challenge is ours alone to make: as an event a receiver would take it for the handshake.
EVENT_KINDS = KINDS - {CHALLENGE}

_PLACE = re.compile(r"\{([A-Za-z0-9_-]+)\}")
_SELF_MEMBER = re.compile(rb'^(\{"self":")([^"\\]*)"')
_TEMPLATE = re.compile(r"https?://[!-z|~]+")


def _check_template(text: str) -> str | None:
    bare = _PLACE.sub("x", text)
    return None if _TEMPLATE.fullmatch(bare) else "must be an http:// or https:// URL with members of data in {braces}"


SELF_TEMPLATE = Option(
    name="self_template",
    meaning="the entity's URL where data has no self, e.g. https://host/speechtotext/transcriptions/{job_id}",
    check=_check_template,
    shown=mask_template,
)


class _Self(msgspec.Struct):
    self_: msgspec.Raw | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="self")


_self = msgspec.json.Decoder(_Self).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_value = msgspec.json.Decoder(str | int).decode


def entity_url(data: bytes, options: Options) -> bytes | None:
    """The value of ``self`` as a JSON string; None if neither data nor template give one."""
    given = _self(data).self_
    if given is not msgspec.UNSET and (raw := bytes(given)).startswith(b'"') and raw != b'""':
        return raw
    template = SELF_TEMPLATE.of(options)
    if not template:
        return None
    members = _members(data)
    values = {name: _segment(members, name) for name in _PLACE.findall(template)}
    if not all(values.values()):
        return None
    return msgspec.json.encode(_PLACE.sub(lambda place: values[place[1]] or "", template))


def _segment(members: Mapping[str, msgspec.Raw], name: str) -> str | None:
    """A member as a URL takes it; None if it isn't there or is neither text nor whole number."""
    try:
        return quote(str(_value(members[name])), safe="") if name in members else None
    except msgspec.ValidationError:
        return None


def encode(shot: Shot, _secrets: tuple[str, ...]) -> bytes:
    """The body. ValueError without ``self``: matching leaves such an event out."""
    if shot.type_name == PING:
        return shot.event.data
    url = entity_url(shot.event.data, shot.options)
    if url is None:
        raise ValueError("the event has no self and the endpoint no fitting self_template")
    return b'{"self":%b,"invocationId":"%b"}' % (url, derived(shot.delivery_id, "invocation").encode())


def mask(body: bytes, _shot: Shot) -> bytes:
    """The body, of whose ``self`` a template with a signed link may have made a secret."""
    return _SELF_MEMBER.sub(lambda found: found[1] + mask_template(found[2].decode()).encode() + b'"', body)


def headers(shot: Shot, body: bytes, secrets: tuple[str, ...], _now_ms: int) -> Headers:
    """Kind and signature."""
    plain = (
        ("content-type", JSON_UTF8),
        ("user-agent", USER_AGENT),
        ("X-MicrosoftSpeechServices-Event", shot.type_name),
    )
    return (*plain, ("X-MicrosoftSpeechServices-Signature", sign(secrets[0], body))) if secrets else plain


def sign(secret: str, payload: bytes) -> str:
    """The signature of a body, or of a challenge's token."""
    return hmac_base64(secret.encode(), payload)


def expresses_data(type_name: str, data: bytes, options: Options) -> bool:
    """Whether there is an entity to point at."""
    return type_name == PING or entity_url(data, options) is not None


def hook(probe: Probe) -> bytes:
    """What a ping tells: the hook, members in the vendor's order. What is pinged is proved."""
    told: dict[str, object] = {"displayName": probe.name or probe.endpoint_id}
    if probe.description:
        told["description"] = probe.description
    told |= {
        "properties": {"apiVersion": API_VERSION},
        "webUrl": probe.url,
        "events": {kind[0].lower() + kind[1:]: True for kind in _kinds_of(probe.events)},
        "createdDateTime": _seconds(probe.created_at_ms),
        "lastActionDateTime": _seconds(probe.updated_at_ms),
        "status": "Succeeded",
    }
    return msgspec.json.encode(told)


def _kinds_of(patterns: tuple[str, ...]) -> list[str]:
    """The kinds of entities' events that a filter lets through, asked for under their own or a common name."""
    kinds = [entity + step for entity in ENTITIES for step in STEPS]
    common = {WORDS[name] for name in WORDS if matches(patterns, name)}
    return [kind for kind in kinds if kind in common or matches(patterns, kind)]


def _seconds(ms: int) -> str:
    return rfc3339(ms).partition(".")[0] + "Z"


_EVENT = Event(
    id="e1",
    tenant="default",
    type="stt.jobs.completed",
    data=b'{"job_id":"ba7ea6a1","self":"https://westus.example.com/speechtotext/transcriptions/ba7ea6a1"}',
    created_at_ms=1_754_476_650_000,
    digest=b"",
)
_FAILED = msgspec.structs.replace(_EVENT, type="stt.jobs.failed", data=b'{"job_id":"a b/7"}')
_SECRET = "contoso-webhook-secret"  # noqa: S105 - the vendor's sample


def _plain(kind: str) -> Headers:
    return (("content-type", JSON_UTF8), ("user-agent", USER_AGENT), ("X-MicrosoftSpeechServices-Event", kind))


DIALECT = Dialect(
    name="azure-speech",
    description="Azure Speech: self and invocationId, HMAC-SHA256 in X-MicrosoftSpeechServices-Signature",
    encoder=1,
    signs=True,
    shared=False,
    encode=encode,
    headers=headers,
    options=(SELF_TEMPLATE,),
    words=WORDS,
    probe=hook,
    expresses=EVENT_KINDS.__contains__,
    expresses_data=expresses_data,
    wants="data needs self, or the endpoint a self_template whose members data has",
    content_type=JSON_UTF8,
    own_headers=frozenset({"x-microsoftspeechservices-event", "x-microsoftspeechservices-signature"}),
    mask=mask,
    secret_headers=frozenset({"x-microsoftspeechservices-signature"}),
    default_timeout_s=10.0,
    default_retry=RetryPolicy(delays_s=(1.0,) * 5, jitter=0.0),
    handshake="azure-speech",
    fail_after_lost=10,  # as the 2019 service did
    vectors=(
        Vector(
            why="self of the data",
            source="the vendor's sample receiver, recomputed by hand (high)",
            shot=Shot(_EVENT, "TranscriptionCompletion", 1_754_476_650_001, 4711, 3),
            secrets=(_SECRET,),
            now_ms=1_754_476_650_002,
            body=b'{"self":"https://westus.example.com/speechtotext/transcriptions/ba7ea6a1",'
            b'"invocationId":"2fd7ffbb-0153-5d6b-843d-3571ec2c1967"}',
            headers=(
                *_plain("TranscriptionCompletion"),
                ("X-MicrosoftSpeechServices-Signature", "FWWvuTuIaBGpZGJL+LUBewSPr5f+ifEg1jhkRuJqTL8="),
            ),
        ),
        Vector(
            why="self of the template, unsigned",
            source="documented: no header without a secret (high); the template is ours",
            shot=Shot(
                _FAILED,
                "TranscriptionCompletion",
                1_754_476_650_001,
                4711,
                3,
                {"self_template": "https://host.example.com/transcriptions/{job_id}?v=1"},
            ),
            secrets=(),
            now_ms=1_754_476_650_002,
            body=b'{"self":"https://host.example.com/transcriptions/a%20b%2F7?v=1",'
            b'"invocationId":"2fd7ffbb-0153-5d6b-843d-3571ec2c1967"}',
            headers=_plain("TranscriptionCompletion"),
        ),
    ),
)
