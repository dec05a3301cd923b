"""The kinds of handshake, as values: what each asks of a receiver and what it takes for a proof.

Role: one ``Kind`` a protocol; a further one is one more value in ``KINDS``. Pure functions over text and bytes.
Rules: an echo is compared in constant time; the token is the only thing that proves, so whoever merely answers 200 has
proved nothing; nothing here says when to try again.
Sources: Microsoft's Speech to text and Graph documentation, CloudEvents HTTP Webhook 1.0, W3C WebSub, Zoom's webhook
documentation. What they leave open is said at each kind.
Must not know: the network, storage, other endpoints, what time it is (``now_ms`` is handed in).
"""

import base64
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from ringback.core.model import Outcome
from ringback.core.target import MAX_URL

#: Unguessable bytes of a token, at least 128 bits.
TOKEN_BYTES = 32
#: What Azure Speech itself sends: 32 hex digits, which is as much as some receivers' patterns take.
AZURE_TOKEN_BYTES = 16
#: Seconds a receiver has for the whole exchange.
TIMEOUT_S = 10.0
ZOOM_TIMEOUT_S = 3.0
#: Bytes of an answer that are read: an echo is short.
MAX_REPLY_BYTES = 1024
#: Where the headers decide, the body may be whatever the receiver's server sends along.
MAX_PAGE_BYTES = 65_536
#: The lease named to a WebSub subscriber, and when it is asked anew: before the lease ends.
LEASE_S = 864_000
LEASE_RENEWAL_S = 691_200
ZOOM_RENEWAL_S = 259_200
#: Characters a kind may add to a url.
TOKEN_ROOM = 128
WEBSUB_ROOM = 768
#: The largest number a receiver may say as its rate a minute; more is no limit.
MAX_PER_MIN = 1_000_000

_ASCII_SPACE = b" \t\r\n"
_TEXT = ("content-type", "text/plain; charset=utf-8")


class Challenge(msgspec.Struct, frozen=True):
    """What one challenge is made of. ``token`` is fresh hex text; ``secrets`` are the live ones, newest first.

    ``origin``: the name we go by. ``callback_url``: where consent may be given later, "" nowhere. ``topic``: what is
    subscribed to. ``per_min``: the rate to ask for, None for none.
    """

    url: str
    token: str
    now_ms: int
    secrets: tuple[str, ...] = ()
    origin: str = "localhost"
    callback_url: str = ""
    topic: str = "http://localhost/"
    per_min: int | None = None


class Ask(msgspec.Struct, frozen=True):
    """The request that carries a challenge; ``headers`` are complete but for Host and framing."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Proved(msgspec.Struct, frozen=True):
    """The receiver passed. ``per_min``: the rate it allows, None for no limit; ``origin``: whom it allowed."""

    per_min: int | None = None
    origin: str | None = None


class Failure(msgspec.Struct, frozen=True):
    """It did not. ``reason`` is a constant name, ``detail`` words; ``passing``: it may be otherwise in a while."""

    reason: str
    detail: str
    passing: bool = False

    def __str__(self) -> str:
        """Name and words, as ``status_reason`` shows them."""
        return f"{self.reason}: {self.detail}"


class ConsentLater(msgspec.Struct, frozen=True):
    """It answered without consenting; it may still do so by calling back."""


Judgement = Proved | Failure | ConsentLater


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One protocol. ``ask(challenge)`` is the request; ``judge(challenge, outcome)`` reads a complete answer.

    ``signs``: the secret is part of the proof, so a
    new one must be proved again; ``needs_secret``: it can't be made without. ``renew_after_s``: when to prove again.
    ``calls_back``: its token, brought to the callback, is a consent; another kind's must be good for nothing there.
    """

    name: str
    ask: Callable[[Challenge], Ask]
    judge: Callable[[Challenge, Outcome], Judgement]
    timeout_s: float = TIMEOUT_S
    max_reply_bytes: int = MAX_REPLY_BYTES
    token_bytes: int = TOKEN_BYTES
    room: int = TOKEN_ROOM
    signs: bool = False
    needs_secret: bool = False
    calls_back: bool = False
    renew_after_s: float | None = None


# -- azure-speech ----------------------------------------------------------------------------------------------------


def _ask_azure(challenge: Challenge) -> Ask:
    """The signature is over the token, not the (empty) body; without a secret there is none."""
    headers: list[tuple[str, str]] = [("X-MicrosoftSpeechServices-Event", "Challenge")]
    if challenge.secrets:
        mac = hmac.digest(challenge.secrets[0].encode(), challenge.token.encode(), "sha256")
        headers.append(("X-MicrosoftSpeechServices-Signature", base64.b64encode(mac).decode()))
    return Ask("POST", with_query(challenge.url, validationToken=challenge.token), tuple(headers))


def _judge_azure(challenge: Challenge, outcome: Outcome) -> Judgement:
    """200 and the token. Known receivers send it bare or as a JSON string, under any content type."""
    body = outcome.body.strip(_ASCII_SPACE)
    if len(body) >= 2 and body[:1] == body[-1:] == b'"':
        body = body[1:-1]
    return _only_200(outcome) or _echo(challenge, body)


def _judge_azure_strict(challenge: Challenge, outcome: Outcome) -> Judgement:
    """200 and the token, nothing round it."""
    return _only_200(outcome) or _echo(challenge, outcome.body)


# -- graph -----------------------------------------------------------------------------------------------------------


def _ask_graph(challenge: Challenge) -> Ask:
    return Ask("POST", with_query(challenge.url, validationToken=challenge.token), (_TEXT,))


def _judge_graph(challenge: Challenge, outcome: Outcome) -> Judgement:
    """200, ``text/plain``, the token and nothing else."""
    media = _header(outcome, "content-type").partition(";")[0].strip().lower()
    if outcome.status == 200 and media != "text/plain":
        return Failure("wrong_type", "the answer's content type must be text/plain")
    return _only_200(outcome) or _echo(challenge, outcome.body)


# -- cloudevents -----------------------------------------------------------------------------------------------------


def _ask_cloudevents(challenge: Challenge) -> Ask:
    headers = [("WebHook-Request-Origin", challenge.origin)]
    if challenge.callback_url:
        headers.append(("WebHook-Request-Callback", challenge.callback_url))
    if challenge.per_min is not None:
        headers.append(("WebHook-Request-Rate", str(challenge.per_min)))
    return Ask("OPTIONS", challenge.url, tuple(headers))


def _judge_cloudevents(challenge: Challenge, outcome: Outcome) -> Judgement:
    """The status isn't the consent, the headers are."""
    origin = _header(outcome, "webhook-allowed-origin")
    if not origin:
        if challenge.callback_url:
            return ConsentLater()
        return Failure("no_consent", "the answer has no WebHook-Allowed-Origin header")
    rate = _header(outcome, "webhook-allowed-rate")
    if challenge.per_min is not None and not rate:
        return Failure("no_rate", "a rate was asked for, and the answer has no WebHook-Allowed-Rate header")
    return judge_consent(challenge.origin, origin, rate)


def judge_consent(ours: str, origin: str, rate: str) -> Proved | Failure:
    """What a receiver's words of consent come to; ``rate`` may be empty."""
    if origin != "*" and origin.lower() != ours.lower():
        return Failure("wrong_origin", f"WebHook-Allowed-Origin must be {ours} or *")
    if rate in ("", "*"):
        return Proved(origin=ours)
    if not (rate.isascii() and rate.isdigit()) or len(rate) > 18 or int(rate) == 0:
        return Failure("bad_rate", "WebHook-Allowed-Rate must be a positive integer or *")
    return Proved(int(rate) if int(rate) <= MAX_PER_MIN else None, ours)


# -- websub ----------------------------------------------------------------------------------------------------------


def _ask_websub(challenge: Challenge) -> Ask:
    members = {
        "hub.mode": "subscribe",
        "hub.topic": challenge.topic,
        "hub.challenge": challenge.token,
        "hub.lease_seconds": str(LEASE_S),
    }
    return Ask("GET", with_query(challenge.url, **members))


def _judge_websub(challenge: Challenge, outcome: Outcome) -> Judgement:
    if outcome.status == 404:
        return Failure("refused", "the receiver answered 404: it does not want this subscription")
    return _only_2xx(outcome) or _echo(challenge, outcome.body)


# -- zoom ------------------------------------------------------------------------------------------------------------


class _ZoomReply(msgspec.Struct):
    plain: str = msgspec.field(name="plainToken")
    encrypted: str = msgspec.field(name="encryptedToken")


_zoom_reply = msgspec.json.Decoder(_ZoomReply)


def _hex_mac(secret: str, text: bytes) -> str:
    return hmac.digest(secret.encode(), text, "sha256").hex()


def _ask_zoom(challenge: Challenge) -> Ask:
    """Signed as Zoom signs its events: ``v0:timestamp:body`` under the secret's text."""
    body = b'{"payload":{"plainToken":"%b"},"event_ts":%d,"event":"endpoint.url_validation"}' % (
        challenge.token.encode(),
        challenge.now_ms,
    )
    stamp = str(challenge.now_ms // 1000)
    signature = _hex_mac(_newest(challenge), b"v0:%b:%b" % (stamp.encode(), body))
    headers = (
        ("content-type", "application/json"),
        ("x-zm-request-timestamp", stamp),
        ("x-zm-signature", f"v0={signature}"),
    )
    return Ask("POST", challenge.url, headers, body)


def _judge_zoom(challenge: Challenge, outcome: Outcome) -> Judgement:
    """200 or 204 with the token and its keyed hash: the receiver knows the secret."""
    if outcome.status not in (200, 204):
        return _bad_status(outcome, "200")
    try:
        reply = _zoom_reply.decode(outcome.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # 1 KiB holds a thousand brackets
        return Failure("wrong_echo", "the answer is not JSON with plainToken and encryptedToken")
    wanted = _hex_mac(_newest(challenge), challenge.token.encode())
    right = hmac.compare_digest(reply.encrypted.lower().encode(), wanted.encode())
    if not (hmac.compare_digest(reply.plain.encode(), challenge.token.encode()) and right):
        return Failure("wrong_echo", "plainToken or encryptedToken is not what it must be; is the secret the same?")
    return Proved()


def _newest(challenge: Challenge) -> str:
    return challenge.secrets[0] if challenge.secrets else ""


# -- shared ----------------------------------------------------------------------------------------------------------


def with_query(url: str, **members: str) -> str:
    """The url with these members after those of its own query, percent-encoded."""
    added = "&".join(f"{name}={quote(value, safe='')}" for name, value in members.items())
    joint = "" if url.endswith(("?", "&")) else "&" if "?" in url else "?"
    return f"{url}{joint}{added}"


def _echo(challenge: Challenge, body: bytes) -> Proved | Failure:
    if hmac.compare_digest(body, challenge.token.encode()):
        return Proved()
    return Failure("wrong_echo", "the answer's body is not the token")


def _header(outcome: Outcome, name: str) -> str:
    """A header's value; "" if there is none, and if it came twice: what is ambiguous consents to nothing."""
    values = [value.strip() for key, value in outcome.headers if key.lower() == name]
    return values[0] if len(values) == 1 else ""


def _bad_status(outcome: Outcome, wanted: str) -> Failure:
    return Failure("bad_status", f"the receiver answered {outcome.status}, not {wanted}")


def _only_200(outcome: Outcome) -> Failure | None:
    return None if outcome.status == 200 else _bad_status(outcome, "200")


def _only_2xx(outcome: Outcome) -> Failure | None:
    return None if outcome.status is not None and 200 <= outcome.status <= 299 else _bad_status(outcome, "2xx")


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(name="azure-speech", ask=_ask_azure, judge=_judge_azure, token_bytes=AZURE_TOKEN_BYTES, signs=True),
        Kind(
            name="azure-speech-strict",
            ask=_ask_azure,
            judge=_judge_azure_strict,
            token_bytes=AZURE_TOKEN_BYTES,
            signs=True,
        ),
        Kind(name="graph", ask=_ask_graph, judge=_judge_graph),
        Kind(
            name="cloudevents",
            ask=_ask_cloudevents,
            judge=_judge_cloudevents,
            room=0,
            max_reply_bytes=MAX_PAGE_BYTES,
            calls_back=True,
        ),
        Kind(name="websub", ask=_ask_websub, judge=_judge_websub, room=WEBSUB_ROOM, renew_after_s=LEASE_RENEWAL_S),
        Kind(
            name="zoom",
            ask=_ask_zoom,
            judge=_judge_zoom,
            timeout_s=ZOOM_TIMEOUT_S,
            room=0,
            signs=True,
            needs_secret=True,
            renew_after_s=ZOOM_RENEWAL_S,
        ),
    )
}


def check(name: str, url: str, *, signed: bool) -> str | None:
    """What keeps a kind from being made with this url and secret, worded to follow the field's name; None: nothing."""
    kind = KINDS.get(name)
    if kind is None:
        return None
    if kind.needs_secret and not signed:
        return f"{name} needs a secret"
    if len(url) + kind.room > MAX_URL:
        return f"{name} adds to the url, which may have at most {MAX_URL - kind.room} characters then"
    return None


def signs(name: str) -> bool:
    """Whether the secret is part of this kind's proof."""
    kind = KINDS.get(name)
    return kind is not None and kind.signs
