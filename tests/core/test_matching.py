"""Matching: patterns against a naive model, and the snapshot against the patterns."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.core import matching
from ringback.core.matching import MAX_PATTERN_CHARS, MAX_PATTERNS, Matcher, Route, check_patterns, matches


def everything(_type: str) -> bool:
    """A dialect that can express all."""
    return True


def only_short(type_: str) -> bool:
    """A dialect that can express types of one segment."""
    return "." not in type_


@pytest.mark.parametrize(
    ("pattern", "type_", "wanted"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.B", False),
        ("a.b", "a.b.c", False),
        ("a", "a.b", False),
        ("*", "a", True),
        ("*", "a.b", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("**", "a", True),
        ("**", "a.b.c", True),
        ("a.**", "a", True),
        ("a.**", "a.b.c", True),
        ("a.**", "ab", False),
        ("**.c", "c", True),
        ("**.c", "a.b.c", True),
        ("**.c", "c.a", False),
        ("a.**.c", "a.c", True),
        ("a.**.c", "a.b.b.c", True),
        ("a.**.c", "a.c.b", False),
        ("a.**.c", "a.c.b.c", True),
        ("**.a.**", "b.a.c", True),
        ("*.**", "a", True),
        ("**.*.**", "a", True),
        ("**.*.*", "a", False),
    ],
)
def test_patterns_mean_what_the_contract_says(pattern: str, type_: str, wanted: bool) -> None:
    """One star is one whole segment, two are any number, all else is itself."""
    assert matches((pattern,), type_) is wanted


def test_no_patterns_want_everything_but_our_own() -> None:
    """An empty filter takes every producer's type."""
    assert matches((), "a.b.c")
    assert matches((), "ringback")
    assert not matches((), "ringback.test")


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("*", False), ("**", False), ("*.*", False), ("**.test", False), ("*.test", False), ("ringback", False),
        ("ringback.test", True), ("ringback.*", True), ("ringback.**", True), ("ringback.*.**", True),
    ],
)  # fmt: skip
def test_our_own_types_must_be_named(pattern: str, wanted: bool) -> None:
    """Only a pattern that begins with the word ringback gets the daemon's own types."""
    assert matches((pattern,), "ringback.test") is wanted
    assert matches(("x", pattern), "ringback.test") is wanted
    assert Matcher([Route(1, "t", (pattern,), everything)]).match("t", "ringback.test") == ((1,) if wanted else ())


def naive(pattern: tuple[str, ...], segments: tuple[str, ...]) -> bool:
    """The definition, by recursion."""

    @cache
    def fits(p: int, s: int) -> bool:
        if p == len(pattern):
            return s == len(segments)
        if pattern[p] == "**":
            return fits(p + 1, s) or (s < len(segments) and fits(p, s + 1))
        return s < len(segments) and pattern[p] in ("*", segments[s]) and fits(p + 1, s + 1)

    return fits(0, 0)


SEGMENT = st.sampled_from(["a", "b", "ringback"])
TYPE = st.lists(SEGMENT, min_size=1, max_size=6).map(tuple)
PATTERN = st.lists(SEGMENT | st.sampled_from(["*", "**"]), min_size=1, max_size=6).map(tuple)


@given(PATTERN, TYPE)
def test_matching_is_the_naive_model(pattern: tuple[str, ...], segments: tuple[str, ...]) -> None:
    """For any pattern and type the quick way and the definition agree."""
    own = len(segments) > 1 and segments[0] == "ringback"
    wanted = naive(pattern, segments) and (not own or pattern[0] == "ringback")
    assert matches((".".join(pattern),), ".".join(segments)) == wanted


ROUTES = st.lists(
    st.tuples(st.sampled_from(["t", "u"]), st.lists(PATTERN.map(".".join), max_size=3).map(tuple), st.booleans()),
    max_size=12,
)


@given(ROUTES, st.lists(TYPE.map(".".join), min_size=1, max_size=4))
def test_the_snapshot_is_its_routes_one_by_one(rows: list[tuple[str, tuple[str, ...], bool]], types: list[str]) -> None:
    """However routes are filed, the answer is each route asked alone: own tenant, expressible, wanted; ascending."""
    routes = [
        Route(lane, tenant, patterns, only_short if short else everything)
        for lane, (tenant, patterns, short) in enumerate(rows)
    ]
    matcher = Matcher(reversed(routes))
    for tenant in ("t", "u", "nobody"):
        for type_ in types:
            wanted = [
                r.lane for r in routes if r.tenant == tenant and r.expresses(type_) and matches(r.patterns, type_)
            ]
            assert matcher.match(tenant, type_) == tuple(wanted)
            assert matcher.match(tenant, type_) == tuple(wanted)


def test_stars_do_not_blow_up() -> None:
    """The pattern and type that are worst for a backtracking matcher are answered by few comparisons."""
    pattern = ".".join(["**", "a"] * 60)
    assert not matches((pattern,), ".".join(["a"] * 127 + ["b"]))
    assert matches((pattern,), ".".join(["a"] * 128))


def test_ten_thousand_filters_meet_a_type_in_few_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Filters that differ in one plain segment are found by it, not tried one by one."""
    tried = []
    real = matching._fits
    monkeypatch.setattr(matching, "_fits", lambda pattern, segments: tried.append(pattern) or real(pattern, segments))
    matcher = Matcher([Route(n, "t", (f"jobs.customer{n}.*.done",), everything) for n in range(10_000)])
    assert matcher.match("t", "jobs.customer77.stt.done") == (77,)
    assert len(tried) < 10
    assert matcher.match("t", "jobs.customer78.stt.failed") == ()


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither many types nor wide fan-outs make the memory of answers grow past its limits, and answers stay right."""
    monkeypatch.setattr(matching, "MAX_REMEMBERED", 5)
    matcher = Matcher([Route(n, "t", (), everything) for n in range(3)])
    for n in range(23):
        assert matcher.match("t", f"a.{n}") == (0, 1, 2)
        assert len(matcher._remembered) <= 5
    monkeypatch.setattr(matching, "MAX_REMEMBERED_LANES", 7)
    for n in range(23):
        assert matcher.match("t", f"b.{n}") == (0, 1, 2)
        assert len(matcher._remembered) <= 2


def test_good_filters_have_no_problems() -> None:
    """Everything the contract allows passes, up to the limits."""
    assert check_patterns([]) == []
    assert check_patterns(["*", "**", "a.*.b", "A-Z_0.**", "ringback.**", "x" * MAX_PATTERN_CHARS]) == []
    assert check_patterns(["a"] * MAX_PATTERNS) == []


@pytest.mark.parametrize(
    "pattern", ["", ".", "a.", ".a", "a..b", "a*", "*a", "***", "a.b*.c", "a b", "é", "a\n", "x" * 256]
)
def test_bad_patterns_are_told_by_their_place(pattern: str) -> None:
    """Partial wildcards and malformed segments are refused, each with its position."""
    problems = check_patterns(["ok", pattern])
    assert len(problems) == 1
    assert problems[0].startswith("pattern 2 ")


def test_too_many_patterns_are_one_problem_more() -> None:
    """The number of patterns is limited, and the others' problems are still told."""
    problems = check_patterns(["bad pattern"] + ["a"] * MAX_PATTERNS)
    assert len(problems) == 2
