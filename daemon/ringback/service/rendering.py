"""What one attempt sends: the endpoint, the event and its dialect made into a request's parts.

Role: shared by the attempt, which sends it, and by the API, which shows what was sent. The body is a function of event,
endpoint revision and encoder version alone; the headers also of the moment of signing.
Must not know: the network, the table, whether anything was sent.
"""

import hashlib

from ringback import dialects
from ringback.core.model import Endpoint, Event
from ringback.core.signing import live
from ringback.dialects._base import Dialect

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


def body_of(dialect: Dialect, event: Event, encoded: dict[str, bytes]) -> bytes:
    """The body, from the memo of this event if an endpoint of the same dialect had it made."""
    body = encoded.get(dialect.name)
    if body is None:
        body = encoded[dialect.name] = dialect.encode(event)
    return body


def headers_of(dialect: Dialect, endpoint: Endpoint, event: Event, body: bytes, now_ms: int, divert_to: str) -> Headers:
    """All headers of one attempt signed at ``now_ms``; the operator's own ones win over the dialect's plain ones."""
    headers = dialect.headers(event, body, live(endpoint.secrets, now_ms), now_ms)
    if endpoint.headers:
        own = {name.lower() for name in endpoint.headers}
        headers = (*(h for h in headers if h[0].lower() not in own), *endpoint.headers.items())
    if endpoint.proof is not None and endpoint.proof.origin is not None:
        headers = (*headers, (ORIGIN_HEADER, endpoint.proof.origin))
    if divert_to:
        headers = (*headers, (DIVERTED_HEADER, endpoint.url))
    return headers


def digest_of(body: bytes) -> bytes:
    """The 16 bytes by which a body shown later is known to be the one that was sent."""
    return hashlib.sha256(body).digest()[:16]
