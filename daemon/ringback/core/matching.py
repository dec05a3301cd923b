"""Which endpoints want an event: patterns over dotted types, and the snapshot that answers for all endpoints.

Role: ``check_patterns`` and ``matches`` say what a pattern means; ``Matcher`` answers ``(tenant, type) -> lanes``.
Rules: ``*`` is one whole segment, ``**`` zero or more, all else stands for itself, case-sensitive; no patterns: all.
Types under ``ringback.`` are the daemon's own: only a pattern whose first segment is ``ringback`` matches them.
A type matches under its other names too: a pattern without wildcards, or one that begins with a plain segment, so that
``*`` and ``**.done`` count the segments of the name the producer gave.
No pattern costs more than its segments times the type's. A Matcher never changes; changed endpoints make a new one.
Must not know: endpoints beyond the four values of a Route, nor what is done with the answer.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from ringback.core.model import OWN_TYPE_PREFIX

MAX_PATTERNS = 64
MAX_PATTERN_CHARS = 255
#: Answers a Matcher remembers: this many, holding this many lanes in all; then it starts anew.
MAX_REMEMBERED = 8192
MAX_REMEMBERED_LANES = 1_000_000

_FORM = re.compile(r"(?:\*\*?|[A-Za-z0-9_-]+)(?:\.(?:\*\*?|[A-Za-z0-9_-]+))*")
_OWN_SEGMENT = OWN_TYPE_PREFIX.rstrip(".")


class Route(msgspec.Struct, frozen=True):
    """One endpoint as matching sees it. ``expresses`` is its dialect's word on whether it can say a type at all."""

    lane: int
    tenant: str
    patterns: tuple[str, ...]
    expresses: Callable[[str], bool]


def check_patterns(patterns: list[str]) -> list[str]:
    """Every problem of an endpoint's filter, in words; none: an empty list."""
    problems = []
    if len(patterns) > MAX_PATTERNS:
        problems.append(f"at most {MAX_PATTERNS} patterns, not {len(patterns)}")
    for place, pattern in enumerate(patterns[:MAX_PATTERNS], start=1):
        if not 1 <= len(pattern) <= MAX_PATTERN_CHARS:
            problems.append(f"pattern {place} must have 1 to {MAX_PATTERN_CHARS} characters")
        elif not _FORM.fullmatch(pattern):
            problems.append(f"pattern {place} must be segments of A-Z a-z 0-9 _ -, or * or **, joined by dots")
    return problems


def matches(patterns: tuple[str, ...], type: str) -> bool:  # noqa: A002 - the word everybody uses for it
    """Whether an endpoint with these patterns wants this type."""
    segments = type.split(".")
    if type.startswith(OWN_TYPE_PREFIX):
        patterns = tuple(pattern for pattern in patterns if pattern.split(".", 1)[0] == _OWN_SEGMENT)
    elif not patterns:
        return True
    return any(_fits(tuple(pattern.split(".")), segments) for pattern in patterns)


def _fits(pattern: tuple[str, ...], segments: list[str]) -> bool:
    """One pattern against one type. On a mismatch only the latest ``**`` takes one segment more: never exponential."""
    here = at = 0
    star, star_at = -1, 0
    while at < len(segments):
        wanted = pattern[here] if here < len(pattern) else None
        if wanted == "**":
            star, star_at = here, at
            here += 1
        elif wanted is not None and wanted in ("*", segments[at]):
            here += 1
            at += 1
        elif star >= 0:
            star_at += 1
            here, at = star + 1, star_at
        else:
            return False
    return all(rest == "**" for rest in pattern[here:])


class _Index:
    """The routes of one tenant that share one ``expresses``, filed so that a type meets few of their patterns.

    A pattern without wildcards is looked up whole. One with wildcards is filed under the rarest of its plain segments:
    ten thousand filters like ``jobs.CUSTOMER.*`` then cost one look-up, not ten thousand comparisons.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._everything: list[int] = []
        self._exact: dict[str, list[int]] = {}
        wild: dict[str, list[int]] = {}
        for route in routes:
            if not route.patterns:
                self._everything.append(route.lane)
            for pattern in route.patterns:
                (wild if "*" in pattern else self._exact).setdefault(pattern, []).append(route.lane)
        self._wild = _by_rarest_segment(wild)

    def collect(self, type_: str, found: set[int]) -> None:
        """Add the lanes that want this type."""
        own = type_.startswith(OWN_TYPE_PREFIX)
        if not own:
            found.update(self._everything)
        found.update(self._exact.get(type_, ()))
        segments = type_.split(".")
        for key in {"", *segments}:
            for pattern, lanes in self._wild.get(key, ()):
                if (not own or pattern[0] == _OWN_SEGMENT) and _fits(pattern, segments):
                    found.update(lanes)

    def collect_also(self, name: str, found: set[int]) -> None:
        """Add the lanes that ask for a type under this other name of it."""
        found.update(self._exact.get(name, ()))
        segments = name.split(".")
        for key in segments:
            for pattern, lanes in self._wild.get(key, ()):
                if "*" not in pattern[0] and _fits(pattern, segments):
                    found.update(lanes)


_Filed = tuple[tuple[str, ...], list[int]]


def _by_rarest_segment(wild: dict[str, list[int]]) -> dict[str, list[_Filed]]:
    """Patterns with their lanes, under one plain segment a matching type must have; ``""`` for those that have none."""
    split = [(tuple(pattern.split(".")), lanes) for pattern, lanes in wild.items()]
    uses = Counter(segment for pattern, _ in split for segment in set(pattern))
    filed: dict[str, list[_Filed]] = {}
    for pattern, lanes in split:
        plain = [segment for segment in pattern if "*" not in segment]
        filed.setdefault(min(plain, key=uses.__getitem__, default=""), []).append((pattern, lanes))
    return filed


class Matcher:
    """All endpoints' filters at one moment. Equal patterns are tried once however many endpoints share them.

    ``also(type)`` are the other names of a type. ``unsaid`` gathers (tenant, type, lanes that want it but can't say it)
    as types are met for the first time; whoever reads it clears it.
    """

    def __init__(self, routes: Iterable[Route], also: Callable[[str], tuple[str, ...]] = lambda _: ()) -> None:
        self.unsaid: list[tuple[str, str, tuple[int, ...]]] = []
        self._also = also
        self._tenants: dict[str, list[tuple[Callable[[str], bool], _Index]]] = {}
        self._remembered: dict[tuple[str, str], tuple[int, ...]] = {}
        self._remembered_lanes = 0
        alike: dict[tuple[str, Callable[[str], bool]], list[Route]] = {}
        for route in routes:
            alike.setdefault((route.tenant, route.expresses), []).append(route)
        for (tenant, expresses), group in alike.items():
            self._tenants.setdefault(tenant, []).append((expresses, _Index(group)))

    def match(self, tenant: str, type: str) -> tuple[int, ...]:  # noqa: A002 - as above
        """The lanes of the tenant's endpoints that want this type and can express it, ascending."""
        known = self._remembered.get((tenant, type))
        return self._remember(tenant, type) if known is None else known

    def _remember(self, tenant: str, type_: str) -> tuple[int, ...]:
        lanes = self._find(tenant, type_)
        self._remembered_lanes += len(lanes)
        if len(self._remembered) >= MAX_REMEMBERED or self._remembered_lanes > MAX_REMEMBERED_LANES:
            self._remembered.clear()
            self._remembered_lanes = len(lanes)
        self._remembered[tenant, type_] = lanes
        return lanes

    def _find(self, tenant: str, type_: str) -> tuple[int, ...]:
        found: set[int] = set()
        unsaid: set[int] = set()
        names = self._also(type_)
        for expresses, index in self._tenants.get(tenant, ()):
            wanting = found if expresses(type_) else unsaid
            index.collect(type_, wanting)
            for name in names:
                index.collect_also(name, wanting)
        if unsaid and len(self.unsaid) < MAX_REMEMBERED:
            self.unsaid.append((tenant, type_, tuple(sorted(unsaid))))
        return tuple(sorted(found))
