"""What an hour of attempts at one endpoint came to: counts by outcome, and a histogram of how long they took.

Role: the numbers behind the statistics: counted, merged, asked for percentiles.
Rules: buckets grow with the value, eight to each doubling, so that a percentile is right to an eighth of itself and an
hour of any endpoint is a few dozen numbers. Bounded: outcomes are a fixed set of words, buckets end at ``MAX_MS``.
Must not know: where tallies are kept, whose they are.
"""

from collections.abc import Iterable, Mapping

import msgspec

HOUR_MS = 3_600_000
#: Longer than any request may take.
MAX_MS = (1 << 21) - 1
DELIVERED = "delivered"

_STEPS = 8  # buckets to a doubling
_STEP_BITS = 4  # of a number in [8, 15]


class Tally(msgspec.Struct, array_like=True):
    """Counts. ``outcomes`` by the log's word; ``took`` by bucket of milliseconds; ``dead``: deliveries given up."""

    outcomes: dict[str, int] = {}
    took: dict[int, int] = {}
    dead: int = 0

    @property
    def attempts(self) -> int:
        """All of them."""
        return sum(self.outcomes.values())

    @property
    def delivered(self) -> int:
        """Those that succeeded."""
        return self.outcomes.get(DELIVERED, 0)

    def note(self, outcome: str, elapsed_ms: int, *, dead: bool) -> None:
        """Count one attempt. Called for every attempt there is: what fails to be there is made, not asked for."""
        index = bucket(elapsed_ms)
        try:
            self.outcomes[outcome] += 1
        except KeyError:
            self.outcomes[outcome] = 1
        try:
            self.took[index] += 1
        except KeyError:
            self.took[index] = 1
        if dead:
            self.dead += 1

    def add(self, other: "Tally") -> None:
        """Take up another's counts."""
        for outcome, count in other.outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count
        for index, count in other.took.items():
            self.took[index] = self.took.get(index, 0) + count
        self.dead += other.dead


def total(tallies: Iterable[Tally]) -> Tally:
    """All of them together."""
    whole = Tally()
    for tally in tallies:
        whole.add(tally)
    return whole


def bucket(ms: int) -> int:
    """The bucket of a duration; a negative one counts as none, one that is too long as the longest."""
    if ms < _STEPS:
        return max(ms, 0)
    if ms > MAX_MS:  # noqa: PLR1730 - a call of min costs what all the rest does
        ms = MAX_MS
    shift = ms.bit_length() - _STEP_BITS
    return _STEPS * shift + (ms >> shift)


def upper_ms(index: int) -> int:
    """The longest duration of a bucket."""
    shift = max(0, index // _STEPS - 1)
    return ((index - _STEPS * shift + 1) << shift) - 1


def percentile_ms(took: Mapping[int, int], share: float) -> int | None:
    """The duration that this share of the attempts did not exceed, at most an eighth too long; None without any."""
    wanted = share * sum(took.values())
    seen = 0
    for index in sorted(took):
        seen += took[index]
        if seen >= wanted:
            return upper_ms(index)
    return None
