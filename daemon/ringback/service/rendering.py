"""What one attempt sends: the endpoint, the event and its dialect made into a request's parts.

Role: shared by the attempt, which sends it, and by the API, which shows what was sent. The body is a function of event,
delivery, endpoint revision, encoder version and, where the signature lies in it, key; the headers also of the moment of
signing.
Must not know: the network, the table, whether anything was sent.
"""

import hashlib

import msgspec

from ringback import dialects
from ringback.core.callbacks import extras_of
from ringback.core.model import Endpoint, Event
from ringback.core.names import Names
from ringback.core.signing import live
from ringback.dialects import Dialect, Shot

#: Header that names the real URL when ``delivery.divert_to`` sends everything elsewhere.
DIVERTED_HEADER = "x-ringback-diverted-from"
#: Header that repeats, with every delivery, whom a receiver has allowed (CloudEvents HTTP Webhook).
ORIGIN_HEADER = "webhook-request-origin"

Headers = tuple[tuple[str, str], ...]


def dialect_of(endpoint: Endpoint) -> Dialect:
    """The endpoint's dialect. Raises KeyError if its file is gone: creation checked it."""
    dialect = dialects.get(endpoint.dialect)
    if dialect is None:
        raise KeyError(f"endpoint {endpoint.id} has the dialect {endpoint.dialect!r}, which this version doesn't know")
    return dialect


class Rendered(msgspec.Struct, frozen=True):
    """A request's parts. ``encoded`` is what the dialect made of the event; with GET it goes into the URL instead."""

    method: str
    url: str
    headers: Headers
    body: bytes
    encoded: bytes


def shot_of(names: Names, dialect: Dialect, endpoint: Endpoint, event: Event, accepted_at_ms: int, seq: int) -> Shot:
    """The event as one delivery of it, to this endpoint, is told to the dialect."""
    type_name = names.own(dialect.name, event.type)
    asked = event.callback if not endpoint.id else None
    if asked is None:
        return Shot(event, type_name, accepted_at_ms, seq, endpoint.lane, endpoint.options)
    return Shot(event, type_name, accepted_at_ms, seq, endpoint.lane, {}, extras_of(asked), asked.method)


def body_of(dialect: Dialect, shot: Shot, secrets: tuple[str, ...], encoded: dict[str, bytes]) -> bytes:
    """The body, from the memo of this event if an endpoint of the same dialect had it made and it can be shared."""
    if not dialect.shared:
        return dialect.encode(shot, secrets)
    body = encoded.get(dialect.name)
    if body is None:
        body = encoded[dialect.name] = dialect.encode(shot, secrets)
    return body


def render(
    dialect: Dialect, endpoint: Endpoint, shot: Shot, now_ms: int, divert_to: str, encoded: dict[str, bytes]
) -> Rendered:
    """All that one attempt signed at ``now_ms`` sends; the operator's own headers win over the dialect's plain ones."""
    secrets = live(endpoint.secrets, now_ms)
    made = body_of(dialect, shot, secrets, encoded)
    headers = dialect.headers(shot, made, secrets, now_ms)
    if endpoint.headers:
        own = {name.lower() for name in endpoint.headers}
        headers = (*(h for h in headers if h[0].lower() not in own), *endpoint.headers.items())
    if endpoint.proof is not None and endpoint.proof.origin is not None:
        headers = (*headers, (ORIGIN_HEADER, endpoint.proof.origin))
    if divert_to:
        headers = (*headers, (DIVERTED_HEADER, endpoint.url))
    method = dialect.method(shot)
    url = dialect.target_url(divert_to or endpoint.url, shot, made)
    return Rendered(method, url, headers, b"" if method == "GET" else made, made)


def digest_of(body: bytes) -> bytes:
    """The 16 bytes by which a body shown later is known to be the one that was sent."""
    return hashlib.sha256(body).digest()[:16]
