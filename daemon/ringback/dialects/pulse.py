"""Dialect ``pulse``: the callback of smallest.ai Waves' Pulse: ``status``, the data's members, ``request_id``, extras.

``status`` is ``failed`` for a type that ends in ``.failed``, else ``success``, unless ``data`` has one; ``request_id``
is the data's, else the event's id. Extras are what the caller asked to get back: flat members after the payload's own,
none of which they overwrite, or one object ``webhook_extra`` (option ``extra``). They come with a per-event callback,
or for an endpoint in the option ``webhook_extra``, ``key:value,key:value``. With GET the members are query parameters,
objects and arrays as compact JSON text.
The vendor signs nothing. With a secret, which none is made of, the option ``signature`` says how the operator signs:
``atoms`` (the vendor's sister product: hex HMAC-SHA256 of the body in ``X-Signature``) or ``standard`` (Standard
Webhooks' three headers).
Must not know: anything but the shot and its arguments.
Sources, with confidence: docs.smallest.ai, Waves, webhooks: members, POST and GET, ``key:value`` text, retries after
5xx with back-off (documented, high); ten retries (documented, ambiguous, medium); where extras lie, the GET form, the
failed body, the gaps, 408 and 429 are ours.
"""

from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from ringback.core import signing
from ringback.core.callbacks import MAX_EXTRAS, METHODS, parse_extra
from ringback.core.json_forms import compact_form
from ringback.core.masks import mask_members, mask_pairs
from ringback.core.model import Event, RetryPolicy, Verdict
from ringback.dialects._base import JSON, USER_AGENT, Dialect, Headers, Option, Options, Shot, Vector, check_text_secret

#: Of what a GET appends to the URL. Receivers refuse far less; this bounds what is made and sent.
MAX_QUERY_BYTES = 32_768
ACCEPT = "application/json, text/plain, */*"


def _check_extra(text: str) -> str | None:
    return None if parse_extra(text) is not None else f"must be key:value,key:value, at most {MAX_EXTRAS}"


EXTRA = Option(
    name="extra", meaning="where extras lie: beside the payload's members, or nested", values=("flat", "nested")
)
METHOD = Option(name="method", meaning="how it is called", values=METHODS)
SIGNATURE = Option(
    name="signature", meaning="with a secret: X-Signature, or Standard Webhooks' headers", values=("atoms", "standard")
)
WEBHOOK_EXTRA = Option(
    name="webhook_extra",
    meaning="extras of every delivery: key:value,key:value",
    check=_check_extra,
    shown=mask_pairs,
)

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text = msgspec.json.Decoder(str).decode
_json = msgspec.json.encode


def encode(shot: Shot, _secrets: tuple[str, ...]) -> bytes:
    """The data with what it lacks before and behind; its own bytes stay."""
    data = shot.event.data
    members = _members(data)
    parts = []
    if "status" not in members:
        parts.append(b'"status":"failed"' if shot.type_name.endswith(".failed") else b'"status":"success"')
    own = data[1:-1].strip(b" \t\r\n")
    if own:
        parts.append(own)
    if "request_id" not in members:
        parts.append(b'"request_id":"%b"' % shot.event.id.encode())
    extra = _extra_of(shot)
    return b"{%b}" % b",".join(parts + _extras(shot.options, extra, {*members, "status", "request_id"}))


def _extra_of(shot: Shot) -> Mapping[str, object]:
    return shot.extra or parse_extra(WEBHOOK_EXTRA.of(shot.options)) or {}


def _extras(options: Options, extra: Mapping[str, object], taken: set[str]) -> list[bytes]:
    if EXTRA.of(options) == "nested":
        extra = {"webhook_extra": extra} if extra else {}
    return [b"%b:%b" % (_json(name), _json(value)) for name, value in extra.items() if name not in taken]


def method(shot: Shot) -> str:
    """The callback's, else the endpoint's."""
    return shot.method or METHOD.of(shot.options)


def target_url(url: str, shot: Shot, body: bytes) -> str:
    """With GET the members as query parameters behind what the URL has."""
    if method(shot) != "GET":
        return url
    joint = "?" if "?" not in url else "" if url.endswith(("?", "&")) else "&"
    return url + joint + _query(body)


def _query(body: bytes) -> str:
    return "&".join(
        f"{quote(name, safe='')}={quote(_scalar(bytes(raw)), safe='')}" for name, raw in _members(body).items()
    )


def expresses_data(_type_name: str, data: bytes, options: Options) -> bool:
    """Whether a GET can carry it; a body carries anything. What request_id and extras add is small and not counted."""
    return METHOD.of(options) != "GET" or (len(data) <= MAX_QUERY_BYTES and len(_query(data)) <= MAX_QUERY_BYTES)


def mask(body: bytes, shot: Shot) -> bytes:
    """The body, of whose extras those are hidden that are secret by their name; the data's members are shown."""
    extra, given = _extra_of(shot), _members(shot.event.data)
    if EXTRA.of(shot.options) == "flat":
        return mask_members(body, extra.keys() - given.keys())
    if not extra or "webhook_extra" in given:
        return body
    told = msgspec.json.encode(extra)  # the last member, as ``encode`` wrote it
    return body.removesuffix(told + b"}") + mask_members(told) + b"}" if body.endswith(told + b"}") else body


def _scalar(raw: bytes) -> str:
    if raw[:1] == b'"':
        return _text(raw)
    return compact_form(raw).decode() if raw[:1] in (b"{", b"[") else raw.decode()


def headers(shot: Shot, body: bytes, secrets: tuple[str, ...], now_ms: int) -> Headers:
    """Content type and what it accepts; with a secret the operator's own signature."""
    plain: Headers = (("accept", ACCEPT), ("content-type", JSON), ("user-agent", USER_AGENT))
    if method(shot) == "GET":
        plain, body = (("accept", ACCEPT), ("user-agent", USER_AGENT)), b""
    if not secrets:
        return plain
    if SIGNATURE.of(shot.options) == "atoms":
        return (*plain, ("x-signature", signing.hmac_hex(secrets[0].encode(), body)))
    now_s = now_ms // 1000
    return (
        *plain,
        ("webhook-id", shot.event.id),
        ("webhook-timestamp", str(now_s)),
        ("webhook-signature", signing.sign(secrets, shot.event.id, now_s, body)),
    )


def check_secret(text: str, options: Options) -> str | None:
    """Any text, or a Standard Webhooks secret if it signs so."""
    return signing.check_secret(text) if SIGNATURE.of(options) == "standard" else check_text_secret(text, options)


def judge(status: int) -> Verdict:
    """4xx is final but for 408 and 429."""
    return Verdict.GIVE_UP if 400 <= status <= 499 and status not in (408, 429) else Verdict.RETRY


_EVENT = Event(
    id="019a9c1e-7d0f-7c52-a4b6-0b7f1f0c3d21",
    tenant="default",
    type="stt.jobs.completed",
    data='{"transcription":"Selamat pagi, Bapak José.","words":[],"language":"id"}'.encode(),
    created_at_ms=1_754_476_650_000,
    digest=b"",
)
_FAILED = msgspec.structs.replace(
    _EVENT, type="stt.jobs.failed", data=b'{"request_id":"r1","error":"no audio","region":"eu"}'
)
_HEADERS: Headers = (("accept", ACCEPT), ("content-type", JSON), ("user-agent", USER_AGENT))
_OURS = "members documented, placement ours (medium)"

DIALECT = Dialect(
    name="pulse",
    description="smallest.ai Waves Pulse: status, the data's members, request_id and extras; unsigned",
    encoder=1,
    signs=False,
    shared=False,
    encode=encode,
    headers=headers,
    method=method,
    extras=True,
    target_url=target_url,
    expresses_data=expresses_data,
    wants=f"with GET, data as a query may have {MAX_QUERY_BYTES} bytes",
    mask=mask,
    check_secret=check_secret,
    key_form="none; text or whsec_ if you sign yourself",
    options=(EXTRA, METHOD, WEBHOOK_EXTRA, SIGNATURE),
    words={"stt.jobs.completed": "asr.completed", "stt.jobs.failed": "asr.failed"},
    judge=judge,
    own_headers=frozenset({"accept", "x-signature", "webhook-id", "webhook-timestamp", "webhook-signature"}),
    secret_headers=frozenset({"x-signature", "webhook-signature"}),
    default_retry=RetryPolicy(delays_s=None, initial_s=1.0, factor=2.0, max_s=600.0, attempts=11),
    vectors=(
        Vector(
            why="success, extras flat",
            source=_OURS,
            shot=Shot(_EVENT, "asr.completed", extra={"case_id": "42", "language": "xx"}),
            secrets=(),
            now_ms=1_754_476_650_000,
            body=(
                '{"status":"success","transcription":"Selamat pagi, Bapak José.","words":[],"language":"id",'
                '"request_id":"019a9c1e-7d0f-7c52-a4b6-0b7f1f0c3d21","case_id":"42"}'
            ).encode(),
            headers=_HEADERS,
        ),
        Vector(
            why="failed, extras nested",
            source=_OURS,
            shot=Shot(_FAILED, "asr.failed", options={"extra": "nested", "webhook_extra": "case_id:42,region:us-east"}),
            secrets=(),
            now_ms=1_754_476_650_000,
            body=(
                b'{"status":"failed","request_id":"r1","error":"no audio","region":"eu",'
                b'"webhook_extra":{"case_id":"42","region":"us-east"}}'
            ),
            headers=_HEADERS,
        ),
    ),
)
