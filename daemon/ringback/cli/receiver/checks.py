"""Judging one received request: which parts are right, which are wrong, and why probably.

Role: a function for each dialect, ``CHECKS[name](captured, settings)``, used by ``ringback verify`` and ``listen`` and
by the demo's receiver.
Rules: the rules are the vendors' own (docs/dialects.md), written anew; nothing is shared with ``dialects/``. A request
is right if every finding is. Digests are compared in constant time.
Must not know: the sender's code, the network, the terminal.
"""

import hashlib
import json
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import msgspec

from ringback.cli.receiver.captured import Captured, Finding, Settings
from ringback.cli.receiver.forensics import decoded, fits, guess, hmac_sha256

Check = Callable[[Captured, Settings], list[Finding]]

#: Digits of a time that is worth reading as a number.
MAX_STAMP_DIGITS = 18

AZURE_ENTITIES = ("Dataset", "Model", "Evaluation", "Transcription", "Endpoint")
AZURE_KINDS = frozenset(
    {"Ping", "Challenge"}
    | {entity + step for entity in AZURE_ENTITIES for step in ("Creation", "Processing", "Completion", "Deletion")}
)


def check(dialect: str, captured: Captured, settings: Settings) -> list[Finding]:
    """All findings. KeyError if there is no such dialect."""
    return CHECKS[dialect](captured, settings)


def _header(captured: Captured, name: str) -> tuple[str, Finding]:
    value = captured.headers.get(name, "")
    said = f"{name} is there" if value else f"the header {name} is missing"
    return value, Finding(name, bool(value), said)


def _age(text: str, part: str, settings: Settings, *, ahead_is_fine: bool = False) -> Finding:
    if not (text.isascii() and text.isdigit()) or len(text) > MAX_STAMP_DIGITS:
        return Finding(part, ok=False, said=f"{text[:40]!r} is no number of Unix seconds")
    away_s = settings.now_s - int(text)
    if abs(away_s) <= settings.tolerance_s or (ahead_is_fine and away_s < 0):
        return Finding(part, ok=True, said=f"signed {abs(away_s)} s {'ago' if away_s >= 0 else 'ahead of this clock'}")
    hint = (
        "your clock is wrong, or an old request is being played again" if away_s > 0 else "one of the clocks is wrong"
    )
    too = "ago" if away_s > 0 else "in the future"
    return Finding(part, ok=False, said=f"signed {abs(away_s)} s {too}; {settings.tolerance_s} are allowed", hint=hint)


def _no_secret(part: str) -> Finding:
    return Finding(part, ok=False, said="there is a signature, but no secret to check it with", hint="give --secret")


def _signature(
    part: str, given: set[bytes], captured: Captured, settings: Settings, rule: Callable[[bytes, bytes], bytes]
) -> Finding:
    """One signature over the body under the secret's text, by ``rule(key, body)``."""
    if not settings.secrets:
        return _no_secret(part)
    if any(fits(given, rule(secret.encode(), captured.body)) for secret in settings.secrets):
        return Finding(part, ok=True, said="the signature fits")
    hint = guess(given, settings.secrets, captured.body, str.encode, rule)
    return Finding(part, ok=False, said="the signature does not fit", hint=hint or "another secret, or another body")


def standard(captured: Captured, settings: Settings) -> list[Finding]:
    """Standard Webhooks: ``id.timestamp.body`` under the decoded key, v1 (HMAC) or v1a (ed25519)."""
    message_id, has_id = _header(captured, "webhook-id")
    stamp, has_stamp = _header(captured, "webhook-timestamp")
    given, has_signature = _header(captured, "webhook-signature")
    found = [has_id, _age(stamp, "webhook-timestamp", settings) if stamp else has_stamp]
    if not given:
        unsigned = Finding("webhook-signature", ok=True, said="the request is unsigned")
        return [*found, has_signature if settings.secrets else unsigned]
    if not settings.secrets:
        return [*found, _no_secret("webhook-signature")]

    unreadable = _unreadable(settings.secrets)
    if unreadable:
        return [*found, unreadable]

    def rule(key: bytes, body: bytes) -> bytes:
        return hmac_sha256(key, f"{message_id}.{stamp}.".encode() + body)

    def key_of(secret: str) -> bytes:
        return decoded(secret.removeprefix("whsec_"))

    items = [item.partition(",") for item in given.split(" ")]
    macs = {decoded(value) for version, _, value in items if version == "v1"}
    signed = [decoded(value) for version, _, value in items if version == "v1a"]
    content = f"{message_id}.{stamp}.".encode() + captured.body
    for secret in settings.secrets:
        fitting = (
            any(_ed25519(secret, one, content) for one in signed)
            if secret.startswith(("whsk_", "whpk_"))
            else fits(macs, rule(key_of(secret), captured.body))
        )
        if fitting:
            return [*found, Finding("webhook-signature", ok=True, said="the signature fits")]
    shared = tuple(secret for secret in settings.secrets if not secret.startswith(("whsk_", "whpk_")))
    hint = guess(macs, shared, captured.body, key_of, rule) or "another secret, or another body"
    return [*found, Finding("webhook-signature", ok=False, said="no signature fits", hint=hint)]


def _unreadable(secrets: tuple[str, ...]) -> Finding | None:
    """A secret without a key in it must not be read as the empty one, under which anybody can sign."""
    if all(decoded(secret.removeprefix("whsec_").removeprefix("whsk_").removeprefix("whpk_")) for secret in secrets):
        return None
    said = "a secret given here is not whsec_, whsk_ or whpk_ and padded base64"
    return Finding("secret", ok=False, said=said, hint="it was cut, or it is another dialect's")


def _ed25519(secret: str, signature: bytes, content: bytes) -> bool:
    """Check one v1a item with a public key, or with the public half of a private one."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - only asymmetric keys need it
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - the same
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    key = decoded(secret[5:])
    try:
        public = (
            Ed25519PublicKey.from_public_bytes(key)
            if secret.startswith("whpk_")
            else Ed25519PrivateKey.from_private_bytes(key[:32]).public_key()
        )
        public.verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


def prosa(captured: Captured, settings: Settings) -> list[Finding]:
    """Prosa: ``t=…,v1=…``: SHA-256 of secret, full stop, body; or the rival ``sha256=`` HMAC."""
    found = [_header(captured, "x-prosa-event")[1], _header(captured, "x-prosa-event-uuid")[1]]
    given, has_signature = _header(captured, "x-prosa-signature")
    if not given:
        return [*found, has_signature]
    if given.startswith("sha256="):
        macs = {_unhex(given[7:])}
        return [*found, _signature("x-prosa-signature", macs, captured, settings, hmac_sha256)]
    items = [item.partition("=") for item in given.split(",")]
    stamp = next((value for name, _, value in items if name == "t"), "")
    digests = {_unhex(value) for name, _, value in items if name == "v1"}

    def rule(key: bytes, body: bytes) -> bytes:
        return hashlib.sha256(key + b"." + body).digest()

    found.append(_age(stamp, "x-prosa-signature t", settings, ahead_is_fine=True))  # as the vendor's receiver has it
    return [*found, _signature("x-prosa-signature", digests, captured, settings, rule)]


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


class _Envelope(msgspec.Struct):
    event: str
    id: str
    data: msgspec.Raw
    timestamp: float
    hmac_signature: str | None = None


def deepva(captured: Captured, settings: Settings) -> list[Finding]:
    """DeepVA: the member ``hmac_signature`` over the very bytes of ``data``."""
    try:
        envelope = msgspec.json.decode(captured.body, type=_Envelope)
    except (msgspec.MsgspecError, ValueError, RecursionError) as problem:
        return [Finding("body", ok=False, said=f"it is no envelope: {problem}")]
    found = [Finding("body", ok=True, said=f"an envelope of {envelope.event}")]
    if envelope.hmac_signature is None:
        return [*found, Finding("hmac_signature", not settings.secrets, "the event is unsigned")]
    data = msgspec.structs.replace(captured, body=bytes(envelope.data))
    return [*found, _signature("hmac_signature", {decoded(envelope.hmac_signature)}, data, settings, hmac_sha256)]


def pulse(captured: Captured, settings: Settings) -> list[Finding]:
    """Pulse: nothing is signed unless the operator asked for it; the members are what can be judged."""
    found = [_pulse_members(captured)]
    if "webhook-signature" in captured.headers:
        return found + standard(captured, settings)
    if given := captured.headers.get("x-signature"):
        return [*found, _signature("x-signature", {_unhex(given)}, captured, settings, hmac_sha256)]
    said = "the vendor signs nothing: only the secrecy of the URL tells who called"
    return [*found, Finding("signature", not settings.secrets, said)]


def _pulse_members(captured: Captured) -> Finding:
    if captured.method == "GET":
        there = {"status", "request_id"} <= parse_qs(urlsplit(captured.url).query).keys()
        return Finding(
            "query", there, "status and request_id are there" if there else "status or request_id is missing"
        )
    try:
        members = json.loads(captured.body)
    except (ValueError, RecursionError):
        return Finding("body", ok=False, said="it is no JSON, or deeper than any event")
    if not isinstance(members, dict) or not {"status", "request_id"} <= members.keys():
        return Finding("body", ok=False, said="status or request_id is missing")
    return Finding("body", ok=True, said=f"{members['status']} of request {members['request_id']}")


def azure_speech(captured: Captured, settings: Settings) -> list[Finding]:
    """Azure Speech: base64 of HMAC-SHA256 over the body, or a challenge's token; the kind in a header."""
    kind, has_kind = _header(captured, "x-microsoftspeechservices-event")
    if kind:
        has_kind = Finding(
            "event", kind in AZURE_KINDS, f"{kind} is {'a' if kind in AZURE_KINDS else 'no'} kind of event"
        )
    given = captured.headers.get("x-microsoftspeechservices-signature", "")
    part = "x-microsoftspeechservices-signature"
    if not given:
        return [has_kind, Finding(part, not settings.secrets, "the request is unsigned")]
    if kind == "Challenge":
        token = parse_qs(urlsplit(captured.url).query).get("validationToken", [""])[0]
        if not token:
            said = "a challenge is signed over the validationToken of its URL, which has none"
            return [has_kind, Finding(part, ok=False, said=said, hint="give --url, with its query")]
        captured = msgspec.structs.replace(captured, body=token.encode())
    return [has_kind, _signature(part, {decoded(given)}, captured, settings, hmac_sha256)]


def speechlive(captured: Captured, settings: Settings) -> list[Finding]:
    """SpeechLive: the shared secret in clear, and base64 of HMAC-SHA256 over the body."""
    found = []
    shared = settings.options.get("shared_secret", "")
    sent = captured.headers.get("x-trouble-secret", "")
    if shared or sent:
        same = shared == sent
        said = "the shared secret is right" if same else "the shared secret is another one, or missing"
        found.append(Finding("x-trouble-secret", same, said))
    given = captured.headers.get("x-trouble-request-hash", "")
    if not given:
        return [*found, Finding("x-trouble-request-hash", not settings.secrets, "the request is unsigned")]
    if settings.options.get("key") == "base64":
        secrets = [decoded(secret) for secret in settings.secrets]
        ok = any(key and fits({decoded(given)}, hmac_sha256(key, captured.body)) for key in secrets)
        said = "the signature fits" if ok else "the signature does not fit"
        if not all(secrets):
            said += "; a secret given here is not padded base64"
        return [*found, Finding("x-trouble-request-hash", ok, said)]
    return [*found, _signature("x-trouble-request-hash", {decoded(given)}, captured, settings, hmac_sha256)]


CHECKS: dict[str, Check] = {
    "standard": standard,
    "prosa": prosa,
    "deepva": deepva,
    "pulse": pulse,
    "azure-speech": azure_speech,
    "speechlive": speechlive,
}


def recognise(captured: Captured) -> str:
    """Which dialect a request looks like; ``standard`` if it looks like none."""
    names = captured.headers.keys()
    marks = {
        "prosa": "x-prosa-event",
        "azure-speech": "x-microsoftspeechservices-event",
        "speechlive": "x-trouble-",
    }
    for dialect, mark in marks.items():
        if any(name.startswith(mark) for name in names):
            return dialect
    if "webhook-signature" not in names and b'"hmac_signature"' in captured.body:
        return "deepva"
    if "webhook-id" not in names and (b'"request_id"' in captured.body or "request_id=" in captured.url):
        return "pulse"
    return "standard"
