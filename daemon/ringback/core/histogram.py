"""A histogram of plain integers: what a measurement costs where everything passes.

Role: counts by upper bound and a sum, folded into the scraper's form only when somebody asks.
Rules: an observation is one bisection and two additions (a quarter of a microsecond); nothing is kept of the value.
Must not know: whose name it has, who reads it.
"""

from bisect import bisect_left

#: Upper bounds, inclusive, of what takes seconds: requests and the wait before them.
LATENCY_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
#: Of the time until a first attempt, which a pause or an outage makes hours.
WAIT_BOUNDS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0, 86_400.0)
#: Of commits: an fsync is tenths of a millisecond to tens of them.
COMMIT_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
#: Of rows in one commit.
ROW_BOUNDS = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0)


class Histogram:
    """Observations by bound. ``counts`` has one place more than there are bounds, for what is beyond the last."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, int]]:
        """(upper bound as text, how many were at most that), ascending, ``+Inf`` last."""
        found, running = [], 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            running += count
            found.append((bound, running))
        return found
