"""Dialect ``prosa``: Prosa.ai's speech webhooks. The body is the event's ``data`` alone; id and type are headers.

``x-prosa-signature`` is ``t=<unix seconds>,v1=<hex>`` with one ``v1`` for each live secret, newest first: plain SHA-256
over secret, full stop and body, no HMAC, ``t`` not covered, as the vendor's own receiver computes it. The option
``signature`` has the rival forms: ``hmac`` puts a second ``v1`` beside each, HMAC-SHA256 over ``t.body`` under the
secret's text, ``hmac-hex`` the same under the secret's hex digits decoded; ``sha256=`` is HMAC-SHA256 over the body
alone, of the newest secret, without ``t``.
Must not know: anything but the shot and its arguments.
Sources, with confidence: docs2.prosa.ai/speech/webhook: body, headers (documented, high), digest (the sample receiver,
high); retries and timeout are second-hand (low); ``sha256=`` is of a second-hand document (low); order of ``v1`` ours.
"""

import hashlib

from ringback.core.ids import uuid_of
from ringback.core.model import Event, RetryPolicy
from ringback.core.names import TEST_TYPE
from ringback.core.signing import hmac_hex
from ringback.dialects._base import (
    JSON,
    Dialect,
    Headers,
    Option,
    Options,
    Shot,
    Vector,
    check_text_secret,
)

#: What the vendor's requests call themselves.
AGENT = "prosa-speech-api"

SIGNATURE = Option(
    name="signature",
    meaning="prosa: plain SHA-256; hmac, hmac-hex: one more v1 beside it, HMAC over t.body; sha256=: HMAC of the body",
    values=("prosa", "hmac", "hmac-hex", "sha256="),
)


def encode(shot: Shot, _secrets: tuple[str, ...]) -> bytes:
    """The producer's bytes, as they are."""
    return shot.event.data


def headers(shot: Shot, body: bytes, secrets: tuple[str, ...], now_ms: int) -> Headers:
    """The headers of one attempt made at ``now_ms``; without secrets the signature is left out."""
    event = shot.event
    plain = (
        ("accept", "*/*"),
        ("user-agent", AGENT),
        ("content-type", JSON),
        ("x-prosa-event", shot.type_name),
        ("x-prosa-event-uuid", uuid_of(event.tenant, event.id)),
    )
    if not secrets:
        return plain
    return (*plain, ("x-prosa-signature", _signature(SIGNATURE.of(shot.options), body, secrets, now_ms // 1000)))


def _signature(form: str, body: bytes, secrets: tuple[str, ...], t: int) -> str:
    if form == "sha256=":
        return "sha256=" + hmac_hex(secrets[0].encode(), body)
    items = [f"t={t}"]
    for secret in secrets:
        items.append("v1=" + hashlib.sha256(b"%b.%b" % (secret.encode(), body)).hexdigest())
        if form != "prosa":
            key = bytes.fromhex(secret) if form == "hmac-hex" else secret.encode()
            items.append("v1=" + hmac_hex(key, b"%d.%b" % (t, body)))
    return ",".join(items)


def check_secret(text: str, options: Options) -> str | None:
    """Any text; hexadecimal if it is read so."""
    problem = check_text_secret(text, options)
    if problem is None and SIGNATURE.of(options) == "hmac-hex":
        try:
            bytes.fromhex(text)
        except ValueError:
            return "must be hexadecimal: the option signature says so"
    return problem


_EVENT = Event(
    id="a7a26ff2-e851-45b6-9634-d595f45458b7",
    tenant="default",
    type="stt.jobs.completed",
    data=b'{"job_id":"063c64da-180d-731e-8000-d11a28529080","result":{"data":[]}}',
    created_at_ms=1_673_940_396_000,
    digest=b"",
)
_SECRET = "a35837907f71e9eaf52848b54ca11135187e9e30e23f2ac001eabbc3321e9bdd"  # noqa: S105 - the vendor's printed sample
_OLD = "kunci-rahasia-pengguna-2024"
_HEADERS: Headers = (
    ("accept", "*/*"),
    ("user-agent", AGENT),
    ("content-type", JSON),
    ("x-prosa-event", "stt.jobs.completed"),
    ("x-prosa-event-uuid", "a7a26ff2-e851-45b6-9634-d595f45458b7"),
)
_NEW_V1 = "c63666718e78bd7bb90412f976ac8ec008db633a66912b567c7dd06d1b40ef04"
_OLD_V1 = "2ea9b41ab504a0f689aafb54743818c95ad783ae47655c3ae7d0e700ae1fa7f0"


def _vector(why: str, source: str, signature: str, secrets: tuple[str, ...], options: Options | None = None) -> Vector:
    return Vector(
        why=why,
        source=source,
        shot=Shot(_EVENT, "stt.jobs.completed", options=options or {}),
        secrets=secrets,
        now_ms=1_673_940_396_999,
        body=_EVENT.data,
        headers=(*_HEADERS, ("x-prosa-signature", signature)),
    )


_SAMPLE = "the vendor's sample receiver, recomputed by hand (high)"

DIALECT = Dialect(
    name="prosa",
    description="Prosa.ai: the data itself, SHA-256 of secret.body in x-prosa-signature",
    encoder=1,
    signs=True,
    shared=True,
    encode=encode,
    headers=headers,
    check_secret=check_secret,
    options=(SIGNATURE,),
    words={
        "stt.jobs.completed": "stt.jobs.completed",
        "stt.jobs.failed": "stt.jobs.failed",
        "tts.jobs.completed": "tts.jobs.completed",
        "tts.jobs.failed": "tts.jobs.failed",
        TEST_TYPE: "webhook.ping",
    },
    aliases={
        "stt.job.completed": "stt.jobs.completed",
        "stt.job.failed": "stt.jobs.failed",
        "tts.job.completed": "tts.jobs.completed",
        "tts.job.failed": "tts.jobs.failed",
    },
    own_headers=frozenset({"x-prosa-event", "x-prosa-event-uuid", "x-prosa-signature"}),
    secret_headers=frozenset({"x-prosa-signature"}),
    default_retry=RetryPolicy(delays_s=(60.0, 300.0, 1800.0, 7200.0), jitter=0.0),
    vectors=(
        _vector("one secret", _SAMPLE, f"t=1673940396,v1={_NEW_V1}", (_SECRET,)),
        _vector(
            "two secrets while one is being replaced: the newest first",
            _SAMPLE,
            f"t=1673940396,v1={_NEW_V1},v1={_OLD_V1}",
            (_SECRET, _OLD),
        ),
        _vector(
            "one more v1 for receivers that check t.body",
            "ours: the vendor documents no HMAC (low)",
            f"t=1673940396,v1={_NEW_V1},v1=9ef88e993d3717ca221269405d3f0c64ecc8cbedf6b31daf3f728559b0a4cf98",
            (_SECRET,),
            {"signature": "hmac"},
        ),
        _vector(
            "the form of the second-hand document",
            "gdplabs.gitbook.io, GL Speech (low)",
            "sha256=749667e76ee2853dc2f29a86989c93775b766414eef08e8b944e07af6bf25eb1",
            (_SECRET,),
            {"signature": "sha256="},
        ),
    ),
)
