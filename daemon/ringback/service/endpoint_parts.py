"""What an endpoint's fields mean: pure functions between a judged body, an endpoint, and what counts for it.

Role: the parts of the endpoint verbs that decide nothing over time.
Must not know: the store, the snapshot, HTTP.
"""

from typing import Any

from ringback.core import handshake_kinds
from ringback.core.model import Endpoint, RateLimit
from ringback.service.endpoint_fields import EndpointFields, Judged, Problem, Refusal, refusal


def voids(old: Endpoint, new: Endpoint) -> bool:
    """Whether what was proved is no longer what would be asked."""
    keyed = handshake_kinds.signs(new.handshake)
    secrets = [[secret.value for secret in one.secrets] for one in (old, new)]
    return old.handshake != new.handshake or (keyed and secrets[0] != secrets[1])


def unaskable(endpoint: Endpoint) -> Refusal | None:
    """Whether its handshake can't be made with this url and secret."""
    text = handshake_kinds.check(endpoint.handshake, endpoint.url, signed=bool(endpoint.secrets))
    return None if text is None else refusal([Problem(("handshake",), text)])


def sent_of(endpoint: Endpoint) -> tuple[object, ...]:
    """What a request is made of: a change of it is a new revision."""
    return (endpoint.url, endpoint.headers, endpoint.options, endpoint.secrets, endpoint.tls_verify)


#: Fields copied as they are, and what null stands for.
_PLAIN: dict[str, object] = {
    "name": None,
    "description": None,
    "concurrency": None,
    "timeout_s": None,
    "handshake": None,
    "tls_verify": True,
}


def members_of(given: EndpointFields, judged: Judged) -> dict[str, Any]:
    """The given fields as an Endpoint's members; null is the default. Secret and status are not among them."""
    named = given.model_fields_set
    members: dict[str, Any] = {}
    for name, default in _PLAIN.items():
        if name in named:
            value = getattr(given, name)
            members[name] = default if value is None else value
    for name in ("headers", "options", "metadata"):
        if name in named:
            members[name] = getattr(given, name) or {}
    if "events" in named:
        members["events"] = tuple(given.events or ())
    if "retry" in named:
        members["retry"] = judged.retry
    if "rate_limit" in named:
        limit = given.rate_limit
        members["rate_limit"] = None if limit is None else RateLimit(limit.requests, limit.per_s)
    if judged.target is not None:
        members["url"] = judged.target.url
    return members
