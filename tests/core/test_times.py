"""Times: RFC 3339 in, milliseconds; and back."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.core.times import MAX_MS, parse_rfc3339, rfc3339


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-21T10:00:00Z", 1_795_255_200_000),
        ("2026-11-21t10:00:00z", 1_795_255_200_000),
        ("2026-11-21T10:00:00.1Z", 1_795_255_200_100),
        ("2026-11-21T10:00:00.1239999999999999999999999Z", 1_795_255_200_123),
        ("2026-11-21T11:00:00+01:00", 1_795_255_200_000),
        ("2026-11-21T04:30:00-05:30", 1_795_255_200_000),
        ("2026-11-21T10:00:00-00:00", 1_795_255_200_000),
        ("2026-11-22T09:59:00+23:59", 1_795_255_200_000),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ("9999-12-31T23:59:59.999Z", MAX_MS),
        ("1969-12-31T23:00:00-01:00", 0),
    ],
)
def test_instants_are_read_to_the_millisecond(text: str, ms: int) -> None:
    """Every form RFC 3339 allows means its instant; finer fractions are cut off."""
    assert parse_rfc3339(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "1795255200", "2026-11-21", "2026-11-21T10:00:00", "2026-11-21T10:00Z", "2026-11-21 10:00:00Z",
        "2026-11-21T10:00:00.Z", "2026-11-21T10:00:00,5Z", "2026-11-21T10:00:00+0100", "2026-11-21T10:00:00+01",
        "2026-11-21T10:00:00+24:00", "2026-11-21T10:00:00+01:60", "2026-11-21T24:00:00Z", "2026-11-21T23:60:00Z",
        "2026-12-31T23:59:60Z", "2026-02-29T10:00:00Z", "2026-13-01T10:00:00Z", "2026-00-01T10:00:00Z",
        "2026-01-00T10:00:00Z", "2026-04-31T10:00:00Z", "0000-01-01T00:00:00Z", "1969-12-31T23:59:59.999Z",
        "1970-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "10000-01-01T00:00:00Z", "+2026-11-21T10:00:00Z",
        "2026-11-21T10:00:00Z ", " 2026-11-21T10:00:00Z", "2026-11-21T10:00:00Z\n", "２０２６-11-21T10:00:00Z",
        "2026-11-21T10:00:00 Z", "2026-W47-6T10:00:00Z", "2026-325T10:00:00Z", "20261121T100000Z",
    ],
)  # fmt: skip
def test_what_is_no_instant_is_none(text: str) -> None:
    """No offset, no such day, leap seconds, other notations, years outside 1970 to 9999: refused, never guessed."""
    assert parse_rfc3339(text) is None


@given(st.integers(min_value=0, max_value=MAX_MS))
def test_writing_and_reading_are_inverse(ms: int) -> None:
    """Any millisecond of these years survives the way out and back, in one fixed form."""
    text = rfc3339(ms)
    assert parse_rfc3339(text) == ms
    assert text == (datetime(1970, 1, 1) + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds") + "Z"  # noqa: DTZ001


@given(st.datetimes(datetime(1970, 1, 3), datetime(9999, 12, 29)), st.integers(min_value=-1439, max_value=1439))  # noqa: DTZ001
def test_offsets_agree_with_the_standard_library(wall: datetime, offset_min: int) -> None:
    """An offset shifts the instant as the calendar says."""
    sign, rest = ("-" if offset_min < 0 else "+"), abs(offset_min)
    text = f"{wall.isoformat(timespec='milliseconds')}{sign}{rest // 60:02d}:{rest % 60:02d}"
    instant = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    assert parse_rfc3339(text) == instant // timedelta(milliseconds=1)


@pytest.mark.parametrize("ms", [-1, MAX_MS + 1])
def test_a_time_without_a_four_digit_year_is_a_bug(ms: int) -> None:
    """Nothing in the daemon makes such a time, so writing one fails loudly."""
    with pytest.raises(ValueError, match=str(ms)):
        rfc3339(ms)


@given(st.text(max_size=40))
def test_any_text_gets_an_answer(text: str) -> None:
    """Whatever a producer writes for a time, reading it never raises."""
    assert parse_rfc3339(text) is None
