"""When a failed delivery is tried again: two small functions of a policy, a count and the present.

Role: schedule, jitter, Retry-After, and the clamp that keeps a stepped clock from stalling anything.
Rules: time and chance are arguments; the result is wall-clock milliseconds; nothing overflows, whatever the count.
Must not know: what failed, whose delivery it is, where due times are stored.
"""

import math
import re
from datetime import UTC, datetime

from ringback.core.model import RetryPolicy

MAX_DELAYS = 64
MAX_GAP_S = 30 * 86_400  #: 30 days: the longest gap a policy may name, the most a Retry-After is believed
MAX_ATTEMPTS = 1_000
MIN_FACTOR = 1.0
MAX_FACTOR = 10.0
MAX_RETRY_AFTER_CHARS = 64  #: the longest HTTP date has 33 characters

_MAX_GROWTH = 700.0  #: a power whose logarithm is larger may not be a float any more

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_TIME = r"(?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d)"
_HTTP_DATES = (
    re.compile(rf"[a-z]{{3}}, (?P<day>\d\d) (?P<month>[a-z]{{3}}) (?P<year>\d{{4}}) {_TIME} gmt", re.ASCII),
    re.compile(rf"[a-z]{{6,9}}, (?P<day>\d\d)-(?P<month>[a-z]{{3}})-(?P<year>\d\d) {_TIME} gmt", re.ASCII),
    re.compile(rf"[a-z]{{3}} (?P<month>[a-z]{{3}}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})", re.ASCII),
)


def next_due_ms(policy: RetryPolicy, attempts: int, now_ms: int, u: float, retry_after_ms: int | None) -> int | None:
    """When to try again after a failure; None: the policy is used up.

    Args:
        policy: the schedule, already checked by ``check_policy``.
        attempts: attempts made so far, the one that just failed included (at least 1).
        now_ms: the present, wall clock.
        u: chance in [0, 1), for the jitter.
        retry_after_ms: how long the receiver asked to wait from now, if it did (``parse_retry_after``).

    Returns:
        The later of the schedule (jittered) and the receiver's wish, which counts up to the policy's largest gap.
    """
    gap_s = _gap_s(policy, attempts)
    if gap_s is None:
        return None
    wait_ms = round(gap_s * 1000 * (1 + policy.jitter * (2 * u - 1)))
    if retry_after_ms is not None:
        wait_ms = max(wait_ms, min(retry_after_ms, largest_gap_ms(policy)))
    return now_ms + wait_ms


def largest_gap_ms(policy: RetryPolicy) -> int:
    """The longest gap the policy itself can ask for, without jitter. Milliseconds; 0 if it never retries."""
    if policy.delays_s is not None:
        return round(max(policy.delays_s, default=0.0) * 1000)
    last = _gap_s(policy, policy.attempts - 1) if policy.attempts > 1 else None
    return round((last or 0.0) * 1000)


def clamp_due_ms(policy: RetryPolicy, due_ms: int, now_ms: int) -> int:
    """A due time read from disk, brought back to at most the largest jittered gap from now.

    A clock that was wrong when the row was written must not stall it. For a row with ``deliver_after`` hand in
    ``max(now, deliver_after)`` as ``now_ms``: that wish is the producer's and is not clamped.
    """
    return min(due_ms, now_ms + math.ceil(largest_gap_ms(policy) * (1 + policy.jitter)))


def check_policy(policy: RetryPolicy) -> list[str]:
    """Everything wrong with a policy, each as one sentence naming the member; empty if it may be used."""
    problems = _check_list(policy.delays_s) if policy.delays_s is not None else _check_exponential(policy)
    if not 0 <= policy.jitter <= 1:
        problems.append("jitter must be between 0 and 1")
    return problems


def parse_retry_after(value: str, now_ms: int) -> int | None:
    """What a Retry-After header asks for, as milliseconds from now; None if it says nothing that can be used.

    Source: RFC 9110, 10.2.3 and 5.6.7: delta-seconds, or one of three date forms, all in GMT. A date that has passed
    is 0. The result is at most ``MAX_GAP_S``.
    """
    text = value.strip(" \t")
    if not text or len(text) > MAX_RETRY_AFTER_CHARS or not text.isascii():
        return None
    if text.isdigit():
        return min(int(text), MAX_GAP_S) * 1000
    at_ms = parse_http_date(text, now_ms)
    return None if at_ms is None else min(max(at_ms - now_ms, 0), MAX_GAP_S * 1000)


def _gap_s(policy: RetryPolicy, attempts: int) -> float | None:
    """The bare gap after that many attempts, in seconds; None when none is left."""
    if attempts < 1:
        raise ValueError(f"attempts counts the one that failed, so it is at least 1, not {attempts}")
    if policy.delays_s is not None:
        return policy.delays_s[attempts - 1] if attempts <= len(policy.delays_s) else None
    return _exponential_s(policy, attempts - 1) if attempts < policy.attempts else None


def _exponential_s(policy: RetryPolicy, exponent: int) -> float:
    """``min(max_s, initial_s * factor ** exponent)``, compared as logarithms first: the power alone would overflow."""
    if policy.initial_s <= 0 or policy.factor <= 1:
        return min(policy.initial_s, policy.max_s)
    growth = exponent * math.log(policy.factor)
    if policy.initial_s >= policy.max_s or growth >= math.log(policy.max_s) - math.log(policy.initial_s):
        return policy.max_s
    if growth > _MAX_GROWTH:  # only a first gap that is next to nothing gets here
        return min(policy.max_s, math.exp(growth + math.log(policy.initial_s)))
    return min(policy.max_s, policy.initial_s * policy.factor**exponent)


def _check_list(delays_s: tuple[float, ...]) -> list[str]:
    problems = []
    if len(delays_s) > MAX_DELAYS:
        problems.append(f"delays_s must hold at most {MAX_DELAYS} gaps, not {len(delays_s)}")
    wrong = [str(index) for index, gap in enumerate(delays_s[:MAX_DELAYS]) if not 0 <= gap <= MAX_GAP_S]
    if wrong:
        problems.append(f"delays_s: every gap must be between 0 and {MAX_GAP_S} seconds; wrong at {', '.join(wrong)}")
    return problems


def _check_exponential(policy: RetryPolicy) -> list[str]:
    problems = [
        f"{name} must be between 0 and {MAX_GAP_S} seconds"
        for name, gap in (("initial_s", policy.initial_s), ("max_s", policy.max_s))
        if not 0 <= gap <= MAX_GAP_S
    ]
    if not problems and policy.initial_s > policy.max_s:
        problems.append("initial_s must not be larger than max_s")
    if not MIN_FACTOR <= policy.factor <= MAX_FACTOR:
        problems.append(f"factor must be between {MIN_FACTOR:g} and {MAX_FACTOR:g}")
    if not 1 <= policy.attempts <= MAX_ATTEMPTS:
        problems.append(f"attempts must be between 1 and {MAX_ATTEMPTS}")
    return problems


def parse_http_date(text: str, now_ms: int) -> int | None:
    """Milliseconds since the epoch of an HTTP date (RFC 9110, 5.6.7), or None.

    The name of the day isn't checked, as in most parsers.
    """
    match = next((found for form in _HTTP_DATES if (found := form.fullmatch(text.lower()))), None)
    if match is None or match["month"] not in _MONTHS:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        year = _full_year(year, now_ms)
    second = min(int(match["s"]), 59) if match["s"] == "60" else int(match["s"])  # a leap second is legal
    try:
        at = datetime(
            year,
            _MONTHS.index(match["month"]) + 1,
            int(match["day"]),
            int(match["h"]),
            int(match["m"]),
            second,
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return round(at.timestamp()) * 1000


def _full_year(two_digits: int, now_ms: int) -> int:
    """RFC 9110: a two-digit year that seems more than 50 years ahead is the latest past one with those digits."""
    this_year = datetime.fromtimestamp(now_ms / 1000, UTC).year
    year = this_year - this_year % 100 + two_digits
    return year - 100 if year > this_year + 50 else year
