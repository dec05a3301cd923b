"""What counts for an endpoint, defaults filled in: its own word, else the settings', else its dialect's.

Role: pure functions and values.
Must not know: the store, the snapshot, who asks.
"""

import msgspec

from ringback import dialects
from ringback.core.model import Endpoint, RateLimit, RetryPolicy

#: What dialects have that set no time of their own; then the settings' counts.
GENERIC_TIMEOUT_S = 30.0


class Effective(msgspec.Struct, frozen=True):
    """What counts for an endpoint, defaults filled in."""

    concurrency: int
    timeout_s: float
    retry: RetryPolicy
    rates: tuple[RateLimit, ...] = ()


class EndpointDefaults(msgspec.Struct, frozen=True):
    """The part of the settings that endpoints need."""

    dialect: str = "standard"
    concurrency: int = 8
    timeout_s: float = 30.0


def effective(endpoint: Endpoint, defaults: EndpointDefaults) -> Effective:
    """A dialect that sets a time of its own is not overruled by the settings' default."""
    dialect = dialects.get(endpoint.dialect)
    own_time = dialect is not None and dialect.default_timeout_s != GENERIC_TIMEOUT_S
    timeout_s = dialect.default_timeout_s if dialect is not None and own_time else defaults.timeout_s
    return Effective(
        concurrency=endpoint.concurrency or defaults.concurrency,
        timeout_s=endpoint.timeout_s or timeout_s,
        retry=endpoint.retry or (dialect.default_retry if dialect is not None else RetryPolicy()),
        rates=rates_of(endpoint),
    )


def rates_of(endpoint: Endpoint) -> tuple[RateLimit, ...]:
    """Its own limit, and what the receiver allowed; both hold."""
    own = () if endpoint.rate_limit is None else (endpoint.rate_limit,)
    per_min = endpoint.proof.per_min if endpoint.proof is not None else None
    return own if per_min is None else (*own, RateLimit(per_min, 60.0))
