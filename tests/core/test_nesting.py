"""Nesting: exact on JSON, quick on everything."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.core.nesting import nests_deeper


def naive_depth(value: object) -> int:
    """Depth by plain recursion over the parsed value."""
    if isinstance(value, dict):
        return 1 + max(map(naive_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(naive_depth, value), default=0)
    return 0


TEXT = st.text(alphabet='[]{}"\\ab', max_size=6)
VALUES = st.recursive(
    st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=40,
)


@given(VALUES, st.integers(min_value=0, max_value=8))
def test_depth_is_that_of_a_naive_model(value: object, levels: int) -> None:
    """For any JSON, with brackets, quotes and backslashes in its strings, the answer is the recursive one."""
    assert nests_deeper(json.dumps(value).encode(), levels) == (naive_depth(value) > levels)


@pytest.mark.parametrize("depth", range(1, 70))
def test_every_depth_is_told_from_its_neighbour(depth: int) -> None:
    """Wherever the deepest point falls within a group of eight brackets, it is seen exactly."""
    for before in range(9):
        line = b"[" + b"[]," * before + b"[" * (depth - 1) + b"]" * (depth - 1) + b",[]" * 90 + b"]"
        assert nests_deeper(line, depth - 1) or depth == 1
        assert not nests_deeper(line, max(depth, 2))


@given(st.binary(max_size=300), st.integers(min_value=0, max_value=70))
def test_any_bytes_get_an_answer(line: bytes, levels: int) -> None:
    """What is no JSON still gets some answer, never an exception."""
    assert nests_deeper(line, levels) in {True, False}


@pytest.mark.parametrize("line", [b"", b"]]]]", b'"[[[[', b'\\"[[[[', b"\\", b'"\\', b"}{" * 40])
def test_broken_lines_do_no_harm(line: bytes) -> None:
    """Unclosed strings, stray backslashes and closing brackets without an opening one count for nothing."""
    assert not nests_deeper(line, 4)
