"""What a dialect is: one webhook format as a value made of pure functions.

Role: the shape every file in this folder fills in, and what most formats share.
Rules: nothing here or in a dialect does I/O, reads a clock or remembers anything; the same arguments give the same
bytes. Secrets go in and only signatures come out.
Must not know: endpoints, deliveries, how a request is sent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

from ringback.core.model import Event, RetryPolicy, Verdict

USER_AGENT = f"ringback/{version('ringback')}"
JSON = "application/json"

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """A known answer: this event, signed with these secrets at ``now_ms``, is this body and has these headers."""

    why: str
    event: Event
    secrets: tuple[str, ...]
    now_ms: int
    body: bytes
    headers: Headers


def any_type(_type: str) -> bool:
    """For a format that can say every type."""
    return True


def no_options(options: Mapping[str, object]) -> list[str]:
    """For a format without options: each one given is a problem."""
    return [f"this dialect has no option {name!r}" for name in options]


def always_retry(_status: int) -> Verdict:
    """For a format that knows no final failures of its own."""
    return Verdict.RETRY


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One format.

    ``name``: as CONTRACT has it. ``encoder``: the version of ``encode``; goes up with any change of the bytes it makes.
    ``signs``: whether an endpoint without a secret gets one. ``secret_bytes``: how much chance ``new_secret`` wants.
    ``encode(event)``: the body. ``headers(event, body, secrets, now_ms)``: complete but for Host and framing; secrets
    are the live values, newest first, ``()`` is unsigned; ``now_ms`` is when it is signed, wall clock.
    ``check_secret(text)`` and ``check_options(options)``: problems in words. ``expresses(type)``: can it say this type.
    ``judge(status)``: what a final status that is neither 2xx nor 410 means. ``secret_headers``: names, lower case, of
    headers it sends that must be masked when shown. ``vectors``: its known answers.
    """

    name: str
    description: str
    encoder: int
    signs: bool
    encode: Callable[[Event], bytes]
    headers: Callable[[Event, bytes, tuple[str, ...], int], Headers]
    new_secret: Callable[[bytes], str]
    check_secret: Callable[[str], str | None]
    secret_bytes: int = 32
    check_options: Callable[[Mapping[str, object]], list[str]] = no_options
    expresses: Callable[[str], bool] = any_type
    judge: Callable[[int], Verdict] = always_retry
    content_type: str = JSON
    secret_headers: frozenset[str] = frozenset()
    default_timeout_s: float = 30.0
    default_retry: RetryPolicy = field(default_factory=RetryPolicy)
    handshake: str = "none"
    vectors: tuple[Vector, ...] = ()
