"""RFC 3339 text to integer milliseconds and back.

Role: the one place that reads and writes times in JSON (CONTRACT: RFC 3339 UTC with milliseconds).
Rules: an offset is required; only real instants of the years 1970 to 9999 exist here; both directions are pure.
Must not know: what time it is, nor what any time means.
"""

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

#: The latest instant that has a four-digit year: 9999-12-31T23:59:59.999Z.
MAX_MS = 253_402_300_799_999

#: Remembered seconds: events made in one second share all of the text but the milliseconds.
_SECONDS_REMEMBERED = 1024

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_FORM = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)


def parse_rfc3339(text: str) -> int | None:
    """Milliseconds since the epoch (finer fractions are cut off), or None if ``text`` is no instant we take.

    Refused: a missing offset, a space for the ``T``, second 60, days that don't exist, years outside 1970 to 9999.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, off_hour, off_minute = found.groups()
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    seconds = days * 86400 + int(hour) * 3600 + int(minute) * 60 + int(second)
    if sign:
        offset_s = int(off_hour) * 3600 + int(off_minute) * 60
        seconds += offset_s if sign == "-" else -offset_s
    ms = seconds * 1000 + (int(fraction[:3].ljust(3, "0")) if fraction else 0)
    return ms if 0 <= ms <= MAX_MS else None


def rfc3339(ms: int) -> str:
    """UTC with three decimals and ``Z``, from milliseconds since the epoch. ValueError outside 0 to ``MAX_MS``."""
    if not 0 <= ms <= MAX_MS:
        raise ValueError(f"not a time between 1970 and 9999: {ms} ms")
    second, rest = divmod(ms, 1000)
    return f"{_to_second(second)}.{rest:03d}Z"


@lru_cache(maxsize=_SECONDS_REMEMBERED)
def _to_second(second: int) -> str:
    """``2026-11-21T10:00:00``."""
    return (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")
