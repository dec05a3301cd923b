"""What a dialect is: one webhook format as a value made of pure functions.

Role: the shape every file in this folder fills in, and what most formats share.
Rules: nothing here or in a dialect does I/O, reads a clock or remembers anything; the same arguments give the same
bytes. Secrets go in and only signatures come out, but for the formats whose vendor sends one in clear.
Must not know: endpoints, how a request is sent, which formats there are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

import msgspec

from ringback.core.ids import delivery_id
from ringback.core.masks import MASKED
from ringback.core.model import Event, RetryPolicy, Verdict

USER_AGENT = f"ringback/{version('ringback')}"
JSON = "application/json"
JSON_UTF8 = "application/json; charset=utf-8"

#: The longest value of an option.
MAX_OPTION_CHARS = 2048
#: The longest secret of the formats whose secret is plain text.
MAX_TEXT_SECRET_CHARS = 512

Headers = tuple[tuple[str, str], ...]
Options = Mapping[str, str]


class Shot(msgspec.Struct, frozen=True, gc=False):
    """What one request is made of: the event, how this format calls its type, whose delivery it is, how it is set.

    ``seq`` and ``lane`` are the delivery's numbers. ``options`` are the endpoint's. ``extra`` and ``method`` are what a
    per-event callback asks for; ``method`` None is the endpoint's.
    """

    event: Event
    type_name: str
    accepted_at_ms: int = 0
    seq: int = 0
    lane: int = 0
    options: Options = {}
    extra: Mapping[str, object] = {}
    method: str | None = None

    @property
    def delivery_id(self) -> str:
        """The delivery's id, a UUID in text; the same on every attempt."""
        return delivery_id(self.accepted_at_ms, self.seq, self.lane)


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of a format. ``values``: all there are, the default first; else ``check`` says what is wrong.

    ``secret``: its value is masked when shown; ``shown``: what is shown of one that may hold a secret.
    """

    name: str
    meaning: str
    values: tuple[str, ...] = ()
    check: Callable[[str], str | None] | None = None
    secret: bool = False
    shown: Callable[[str], str] | None = None

    def problem(self, value: str) -> str | None:
        """What is wrong with a value, in words that never repeat it; None: nothing."""
        if self.values and value not in self.values:
            return f"option {self.name} must be one of: {', '.join(self.values)}"
        if len(value) > MAX_OPTION_CHARS:
            return f"option {self.name} may have {MAX_OPTION_CHARS} characters"
        said = self.check(value) if self.check else None
        return f"option {self.name} {said}" if said else None

    def of(self, options: Options) -> str:
        """The value in force."""
        return options.get(self.name) or (self.values[0] if self.values else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """A known answer: this shot, signed with these secrets at ``now_ms``, is this body and has these headers.

    ``source``: where the answer comes from, and how sure it is.
    """

    why: str
    source: str
    shot: Shot
    secrets: tuple[str, ...]
    now_ms: int
    body: bytes
    headers: Headers


class Probe(msgspec.Struct, frozen=True):
    """What a ping or a test may tell of the endpoint it goes to. ``kind``: ``ping`` or ``test``."""

    kind: str
    endpoint_id: str
    url: str
    events: tuple[str, ...] = ()
    name: str | None = None
    description: str | None = None
    created_at_ms: int = 0
    updated_at_ms: int = 0


def probe_data(probe: Probe) -> bytes:
    """The data of ``ringback.test`` for a format that has nothing of its own to say."""
    return msgspec.json.encode({"kind": probe.kind, "endpoint_id": probe.endpoint_id, "name": probe.name})


def any_type(_type: str) -> bool:
    """For a format that can say every type."""
    return True


def always_retry(_status: int) -> Verdict:
    """For a format that knows no final failures of its own."""
    return Verdict.RETRY


def post(_shot: Shot) -> str:
    """For a format that only posts."""
    return "POST"


def same_url(url: str, _shot: Shot, _body: bytes) -> str:
    """For a format that leaves the URL alone."""
    return url


def unmasked(body: bytes, _shot: Shot) -> bytes:
    """For a format whose body holds no signature."""
    return body


def check_text_secret(text: str, _options: Options) -> str | None:
    """For a format whose secret is any text, its bytes in UTF-8 the key."""
    if not text or len(text) > MAX_TEXT_SECRET_CHARS:
        return f"must have 1 to {MAX_TEXT_SECRET_CHARS} characters"
    return None if text.isprintable() else "must be printable text"


def new_hex_secret(random_bytes: bytes) -> str:
    """For the same: the bytes in hexadecimal."""
    return random_bytes.hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One format.

    ``name``: as CONTRACT has it. ``encoder``: the version of ``encode``; goes up with any change of the bytes it makes.
    ``signs``: whether an endpoint without a secret gets one. ``secret_bytes``: how much chance ``new_secret`` wants;
    ``key_form``: what a secret looks like, for people.
    ``shared``: the body depends on the event alone, so that all endpoints of this format can have the same bytes.
    ``encode(shot, secrets)``: the body. ``headers(shot, body, secrets, now_ms)``: complete but for Host and framing;
    secrets are the live values, newest first, ``()`` is unsigned; ``now_ms`` is when it is signed, wall clock.
    ``extras``: whether the body has a callback's. ``method(shot)``; with GET nothing is sent but what
    ``target_url(url, shot, body)`` makes of the body.
    ``check_secret(text, options)``: the problem in words. ``options``: its settings. ``words``: common type name to its
    own; ``aliases``: other names of a type. ``expresses(type_name)``: can it say this type, told in its own words;
    ``expresses_data(type_name, data, options)``: for formats where the data decides too, asked when an event is
    matched; ``wants`` tells what such data must have.
    ``probe(probe)``: the data, a JSON object, of the ``ringback.test`` that a ping or a test sends.
    ``judge(status)``: what a final status that is neither 2xx nor 410 means. ``fail_after_lost``: deliveries given up
    in a row after which the endpoint is disabled; 0 is never. ``own_headers``: names, lower case, that
    an operator can't set; ``secret_headers``: those of them that are masked when shown; ``mask(body, shot)`` hides what
    is secret in a body. ``vectors``: its known answers.
    """

    name: str
    description: str
    encoder: int
    signs: bool
    shared: bool
    encode: Callable[[Shot, tuple[str, ...]], bytes]
    headers: Callable[[Shot, bytes, tuple[str, ...], int], Headers]
    new_secret: Callable[[bytes], str] = new_hex_secret
    check_secret: Callable[[str, Options], str | None] = check_text_secret
    secret_bytes: int = 32
    key_form: str = "text"
    method: Callable[[Shot], str] = post
    extras: bool = False
    target_url: Callable[[str, Shot, bytes], str] = same_url
    options: tuple[Option, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    expresses: Callable[[str], bool] = any_type
    expresses_data: Callable[[str, bytes, Options], bool] | None = None
    wants: str = ""
    probe: Callable[[Probe], bytes] = probe_data
    judge: Callable[[int], Verdict] = always_retry
    content_type: str = JSON
    own_headers: frozenset[str] = frozenset()
    secret_headers: frozenset[str] = frozenset()
    mask: Callable[[bytes, Shot], bytes] = unmasked
    default_timeout_s: float = 30.0
    default_retry: RetryPolicy = field(default_factory=RetryPolicy)
    handshake: str = "none"
    fail_after_lost: int = 0
    vectors: tuple[Vector, ...] = ()

    def check_options(self, given: Options) -> list[str]:
        """Every problem of an endpoint's options, in words."""
        known = {option.name: option for option in self.options}
        has = f"it has: {', '.join(sorted(known))}" if known else "it has none"
        problems = [f"this dialect has no option {name!r}; {has}" for name in given if name not in known]
        problems += [said for name, value in given.items() if name in known and (said := known[name].problem(value))]
        return problems

    def options_shown(self, given: Options) -> dict[str, str]:
        """An endpoint's options with what is secret in them masked; one that this format doesn't know is."""
        known = {option.name: option for option in self.options}
        return {name: _shown(known.get(name), value) for name, value in given.items()}


def _shown(option: Option | None, value: str) -> str:
    if option is None or option.secret:
        return MASKED
    return option.shown(value) if option.shown else value
