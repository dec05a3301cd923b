"""The nouns: event, endpoint, delivery, attempt, and the values that travel between the floors.

Role: data only, no behaviour beyond trivial properties. Everything here is immutable.
Units: ``_ms`` is integer milliseconds (wall clock, Unix epoch, unless it says elapsed), ``_s`` seconds.
Must not know: how any of it is stored, sent or shown.
"""

from enum import IntEnum, StrEnum

import msgspec

DEFAULT_TENANT = "default"

#: Types the daemon itself emits; refused from producers, matched only by a pattern that names them.
OWN_TYPE_PREFIX = "ringback."


class Peer(msgspec.Struct, frozen=True, gc=False):
    """Who handed an event in: the kernel's word (SO_PEERCRED) for a Unix socket. ``via``: socket | api | spool."""

    via: str
    uid: int | None = None
    gid: int | None = None
    pid: int | None = None


class Callback(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A URL that gets one delivery of one event. ``method`` None is the dialect's own; ``secret`` "" is unsigned.

    ``url`` is what is sent. ``extra`` is a JSON object whose values go out as they stand, or nothing. The store keeps
    this as an array: append only.
    """

    url: str
    dialect: str = "pulse"
    method: str | None = None
    secret: str = ""
    extra: bytes = b""


class Event(msgspec.Struct, frozen=True, gc=False):
    """What a producer emits. ``data`` is the exact slice of bytes the producer wrote; it is what is delivered.

    ``digest`` is SHA-256 over the members as given: it tells a duplicate from a conflict (SEMANTICS, Events).
    ``id_given`` is False when the daemon made the id, so no duplicate can exist.
    """

    id: str
    tenant: str
    type: str
    data: bytes
    created_at_ms: int
    digest: bytes
    id_given: bool = True
    deliver_after_ms: int | None = None
    expires_at_ms: int | None = None
    callback: Callback | None = None


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """A named refusal of one input. ``code`` is one of CONTRACT's codes; ``field`` the member at fault, if one is."""

    code: str
    message: str
    field: str | None = None


class EndpointStatus(StrEnum):
    """Where an endpoint stands (CONTRACT, Managing)."""

    PENDING = "pending"
    ACTIVE = "active"
    PAUSED = "paused"
    FAILED = "failed"
    DISABLED = "disabled"


class Secret(msgspec.Struct, frozen=True):
    """One signing secret. ``expires_at_ms`` None: live until replaced."""

    value: str
    created_at_ms: int
    expires_at_ms: int | None = None


class RetryPolicy(msgspec.Struct, frozen=True):
    """When a failed delivery is tried again. Exactly one of the two forms is in use: ``delays_s`` if not None.

    ``delays_s``: gaps in seconds after each failure, so N gaps make N + 1 attempts; ``()`` is one attempt.
    Else exponential: ``min(max_s, initial_s * factor ** (k - 1))`` after failure k, ``attempts`` in all.
    ``jitter``: each gap is multiplied by a number in [1 - jitter, 1 + jitter].
    """

    delays_s: tuple[float, ...] | None = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
    initial_s: float = 5.0
    factor: float = 2.0
    max_s: float = 86400.0
    attempts: int = 10
    jitter: float = 0.2


class RateLimit(msgspec.Struct, frozen=True):
    """At most ``requests`` starts in any ``per_s`` seconds."""

    requests: int
    per_s: float


class Proof(msgspec.Struct, frozen=True):
    """What the latest handshake left. ``renew_at_ms``: when it must be made again, None never.

    ``per_min``: requests a minute the receiver allows, None without a limit. ``origin``: what it allowed, sent with
    every delivery. ``consent``: hex SHA-256 of the token by which it may still consent, until ``consent_until_ms``.
    """

    proved_at_ms: int | None = None
    renew_at_ms: int | None = None
    per_min: int | None = None
    origin: str | None = None
    consent: str | None = None
    consent_until_ms: int | None = None


class Endpoint(msgspec.Struct, frozen=True):
    """A receiver. None in ``concurrency``, ``timeout_s``, ``retry`` means: the default of settings or dialect.

    ``lane`` is the row number of the endpoint, the key of its queue. ``secrets`` are newest first.
    ``below`` is the status a pause returns to. ``revision`` counts changes that change what is sent (url, headers,
    options, secret). ``headers`` are sent as they stand. ``declared``: owned by a configuration file. ``proof`` is what
    its handshake left. An empty ``id`` stands in for a callback's receiver, which is no endpoint.
    """

    lane: int
    id: str
    tenant: str
    url: str
    dialect: str
    created_at_ms: int
    updated_at_ms: int
    status: EndpointStatus = EndpointStatus.ACTIVE
    status_reason: str | None = None
    below: EndpointStatus | None = None
    revision: int = 1
    name: str | None = None
    description: str | None = None
    events: tuple[str, ...] = ()
    secrets: tuple[Secret, ...] = ()
    concurrency: int | None = None
    timeout_s: float | None = None
    retry: RetryPolicy | None = None
    handshake: str = "none"
    tls_verify: bool = True
    headers: dict[str, str] = {}
    options: dict[str, str] = {}
    metadata: dict[str, str] = {}
    declared: bool = False
    deleted_at_ms: int | None = None
    rate_limit: RateLimit | None = None
    proof: Proof | None = None


class DeliveryState(IntEnum):
    """What the table stores. ``held`` and ``in_flight`` are derived when read (SEMANTICS, Deliveries)."""

    PENDING = 0
    SUCCEEDED = 1
    DEAD = 2
    EXPIRED = 3
    CANCELLED = 4


class Phase(IntEnum):
    """Which queue of a lane an owed row stands in."""

    FRESH = 0  #: never tried, no wish about time: due_at_ms is 0, order is by event
    TIMED = 1  #: a retry, or a first attempt that waits for ``deliver_after``: order is by due time
    BEHIND = 2  #: waits for an earlier delivery of its order key (not built yet)


class Owed(msgspec.Struct, frozen=True, gc=False):
    """One obligation as a lane holds it: ids and numbers, never a body. ``attempts`` counts those of this run.

    ``size`` is the event's data in bytes: the schedule keeps the byte budget with it.
    """

    lane: int
    event: int
    phase: int
    due_at_ms: int
    attempts: int
    size: int
    expires_at_ms: int | None = None


class OutcomeKind(StrEnum):
    """How one HTTP request ended, as the transport saw it. Foreign exceptions are mapped to these once, there."""

    RESPONSE = "response"  #: a final status line and headers arrived
    DNS_FAILED = "dns_failed"
    CONNECT_FAILED = "connect_failed"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS_FAILED = "tls_failed"
    TIMEOUT = "timeout"  #: the whole-request deadline
    RESET = "reset"  #: the connection ended before a complete response head
    PROTOCOL_ERROR = "protocol_error"  #: what came is not HTTP, or beyond the head's limits
    EGRESS_DENIED = "egress_denied"  #: the policy forbids this address; nothing was sent
    INTERRUPTED = "interrupted"  #: we cut it off (shutdown); never counted
    NO_RESOURCES = "no_resources"  #: we had no file descriptor or memory for a socket; nothing was sent, never counted
    INTERNAL_ERROR = "internal_error"  #: our own bug; counted, so that it can't loop for ever


class Request(msgspec.Struct, frozen=True):
    """One HTTP request to make. ``headers`` are complete but for Host, Content-Length and Connection."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    tls_verify: bool = True
    connect_timeout_s: float = 5.0
    max_response_bytes: int = 65536


class Outcome(msgspec.Struct, frozen=True):
    """What became of one request: always a value, never an exception.

    ``maybe_sent``: whether the receiver may have got it. ``body`` is at most ``max_response_bytes``; ``truncated`` says
    there was more. ``headers`` and ``error`` are valid text whatever the network sent (``backslashreplace``).
    ``elapsed_ms`` is monotonic. ``error`` is words an operator can act on, never holding a URL's query or a secret.
    """

    kind: OutcomeKind
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    truncated: bool = False
    error: str | None = None
    maybe_sent: bool = True
    elapsed_ms: int = 0


class Verdict(StrEnum):
    """What an outcome means for the delivery."""

    DELIVERED = "delivered"
    RETRY = "retry"
    GIVE_UP = "give_up"  #: dead at once, the endpoint stays as it is
    DISABLE = "disable"  #: dead, and the endpoint asked not to be called again (410)
    UNCOUNTED = "uncounted"  #: interrupted: back to pending as if it had not been tried
    POSTPONE = "postpone"  #: we could not even try: pending again, uncounted, after a short pause


class Transition(msgspec.Struct, frozen=True, gc=False):
    """A step of one delivery, made only by the constructors in ``core.lifecycle``; the store applies it, guarded.

    ``to`` PENDING with ``due_at_ms`` is a retry, or a postponement if it isn't counted (0: a retry by hand of one that
    waits); without it is an interruption.
    ``counted``: this attempt uses up one of the schedule. ``reopen`` is a retry by hand: from any final state, fresh
    schedule, next run.
    """

    to: DeliveryState
    due_at_ms: int | None = None
    counted: bool = True
    reopen: bool = False


class AttemptRecord(msgspec.Struct, frozen=True, gc=False):
    """One HTTP request as the log keeps it. ``outcome``: ``delivered``, ``bad_status``, or an OutcomeKind's value.

    ``info`` is what only a look at this attempt needs (AttemptInfo), encoded by the service; opaque to the store.
    ``full_body`` is given when the response is longer than ``info`` keeps: the last 20 of a lane are held in full.
    """

    started_at_ms: int
    elapsed_ms: int
    outcome: str
    status: int | None = None
    error: str | None = None
    info: bytes = b""
    full_body: bytes | None = None


class AttemptInfo(msgspec.Struct, frozen=True, array_like=True):
    """What ``AttemptRecord.info`` holds (msgpack array; append only): enough to rebuild the request, show the answer.

    ``digest`` is the first 16 bytes of SHA-256 over the body that was sent; ``revision`` the endpoint's at that time;
    ``encoder`` the dialect's encoder version; ``signed_at_ms`` what the timestamp header said.
    """

    revision: int
    encoder: int
    signed_at_ms: int
    digest: bytes
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    truncated: bool = False
