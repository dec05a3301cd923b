"""Which endpoints want an event: patterns over dotted types, and the snapshot that answers for all endpoints.

Role: ``check_patterns`` and ``matches`` say what a pattern means; ``Matcher`` answers ``(tenant, type) -> lanes``.
Rules: ``*`` is one whole segment, ``**`` zero or more, all else stands for itself, case-sensitive; no patterns: all.
Types under ``ringback.`` are the daemon's own: only a pattern whose first segment is ``ringback`` matches them.
No pattern costs more than its segments times the type's. A Matcher never changes; changed endpoints make a new one.
Must not know: endpoints beyond the four values of a Route, nor what is done with the answer.
"""

import re
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
        return any(names_own(pattern) and _fits(tuple(pattern.split(".")), segments) for pattern in patterns)
    return not patterns or any(_fits(tuple(pattern.split(".")), segments) for pattern in patterns)


def names_own(pattern: str) -> bool:
    """Whether a pattern speaks of the daemon's own types."""
    return pattern.split(".", 1)[0] == _OWN_SEGMENT


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
    """The routes of one tenant that share one ``expresses``: by how they are found."""

    def __init__(self) -> None:
        self.everything: list[int] = []
        self.exact: dict[str, list[int]] = {}
        self.wild: dict[str, list[int]] = {}
        self._split: dict[str, tuple[str, ...]] = {}

    def add(self, route: Route) -> None:
        """File one endpoint."""
        if not route.patterns:
            self.everything.append(route.lane)
        for pattern in route.patterns:
            if "*" in pattern:
                self.wild.setdefault(pattern, []).append(route.lane)
                self._split[pattern] = tuple(pattern.split("."))
            else:
                self.exact.setdefault(pattern, []).append(route.lane)

    def collect(self, type_: str, found: set[int]) -> None:
        """Add the lanes that want this type."""
        own = type_.startswith(OWN_TYPE_PREFIX)
        if not own:
            found.update(self.everything)
        found.update(self.exact.get(type_, ()))
        segments = type_.split(".")
        for pattern, lanes in self.wild.items():
            if (not own or names_own(pattern)) and _fits(self._split[pattern], segments):
                found.update(lanes)


class Matcher:
    """All endpoints' filters at one moment. Equal patterns are tried once however many endpoints share them."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._tenants: dict[str, dict[Callable[[str], bool], _Index]] = {}
        self._remembered: dict[tuple[str, str], tuple[int, ...]] = {}
        self._remembered_lanes = 0
        for route in routes:
            by_dialect = self._tenants.setdefault(route.tenant, {})
            by_dialect.setdefault(route.expresses, _Index()).add(route)

    def match(self, tenant: str, type: str) -> tuple[int, ...]:  # noqa: A002 - as above
        """The lanes of the tenant's endpoints that want this type and can express it, ascending."""
        known = self._remembered.get((tenant, type))
        return self._remember(tenant, type) if known is None else known

    def _remember(self, tenant: str, type_: str) -> tuple[int, ...]:
        found: set[int] = set()
        for expresses, index in self._tenants.get(tenant, {}).items():
            if expresses(type_):
                index.collect(type_, found)
        lanes = tuple(sorted(found))
        self._remembered_lanes += len(lanes)
        if len(self._remembered) >= MAX_REMEMBERED or self._remembered_lanes > MAX_REMEMBERED_LANES:
            self._remembered.clear()
            self._remembered_lanes = len(lanes)
        self._remembered[tenant, type_] = lanes
        return lanes
