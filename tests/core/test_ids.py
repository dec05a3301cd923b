"""Delivery ids: one to one with what they are made of, and UUIDs to everybody else."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.core.ids import delivery_id, is_uuid, parse_delivery_id

TRIPLES = st.tuples(
    st.integers(min_value=0, max_value=2**48 - 1),
    st.integers(min_value=0, max_value=2**42 - 1),
    st.integers(min_value=0, max_value=2**32 - 1),
)


@given(TRIPLES)
def test_an_id_is_taken_apart_into_what_it_was_made_of(triple: tuple[int, int, int]) -> None:
    """Nothing is lost, in either case of the letters."""
    text = delivery_id(*triple)
    assert parse_delivery_id(text) == triple
    assert parse_delivery_id(text.upper()) == triple


@given(TRIPLES)
def test_an_id_is_a_well_formed_uuid7(triple: tuple[int, int, int]) -> None:
    """Other software sees an RFC 9562 version 7 UUID with the right time in it."""
    text = delivery_id(*triple)
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert parsed.variant == uuid.RFC_4122
    assert parsed.version == 7
    assert parsed.int >> 80 == triple[0]


@given(st.lists(TRIPLES, min_size=2, max_size=8))
def test_ids_sort_as_what_they_are_made_of(triples: list[tuple[int, int, int]]) -> None:
    """Sorting by id is sorting by time, then event, then lane."""
    assert sorted(delivery_id(*t) for t in triples) == [delivery_id(*t) for t in sorted(triples)]


@given(st.uuids())
def test_a_foreign_uuid_is_none_or_itself(foreign: uuid.UUID) -> None:
    """An id that was never ours is refused by its version, or means the one triple that would make it."""
    parsed = parse_delivery_id(str(foreign))
    if foreign.version == 7 and foreign.variant == uuid.RFC_4122:
        assert parsed is not None
        assert delivery_id(*parsed) == str(foreign)
    else:
        assert parsed is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "019aa5db-3d00-7000-875b-cd150000004",
        "019aa5db-3d00-7000-875b-cd150000004dd",
        "019aa5db3d007000875bcd150000004d",
        "{019aa5db-3d00-7000-875b-cd150000004d}",
        "019aa5db-3d00-7000-875b-cd150000004g",
        "019aa5db-3d00-7000-875b-cd150000004d\n",
        "019aa5db-3d00-7000-875b-cd15000000_4",
        "０19aa5db-3d00-7000-875b-cd150000004d",
    ],
)
def test_what_is_no_uuid_is_no_id(text: str) -> None:
    """Only the usual 36 characters count; nothing raises."""
    assert not is_uuid(text)
    assert parse_delivery_id(text) is None


@pytest.mark.parametrize("text", ["019aa5db-3d00-4000-875b-cd150000004d", "019aa5db-3d00-7000-475b-cd150000004d"])
def test_another_version_or_variant_is_no_delivery(text: str) -> None:
    """A UUID of another make is a UUID, but names no delivery."""
    assert is_uuid(text)
    assert parse_delivery_id(text) is None


@pytest.mark.parametrize("triple", [(2**48, 0, 0), (0, 2**42, 0), (0, 0, 2**32), (-1, 0, 0), (0, -1, 0), (0, 0, -1)])
def test_what_does_not_fit_is_a_bug(triple: tuple[int, int, int]) -> None:
    """A number too large for its place must never be folded into another delivery's id."""
    with pytest.raises(ValueError, match="out of range"):
        delivery_id(*triple)
