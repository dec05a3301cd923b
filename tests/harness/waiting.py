"""Waiting for another process: polls until something holds, bounded, and says what was missing.

What must run out by itself has no condition to wait for: it gets the limits of ``LADDER_S``, one after the other.
"""

import time
from collections.abc import Callable

POLL_S = 0.02
#: Time limits for what is to run out. The first does unless the machine stalls just then, so that the limit is over
#: before what should happen within it did; then the next is tried, and what the last brought counts.
LADDER_S = (0.2, 2.0, 20.0)


def wait_until(
    holds: Callable[[], object], timeout_s: float, missing: Callable[[], str], poll_s: float = POLL_S
) -> None:
    """Return as soon as ``holds()`` is true; after ``timeout_s`` fail with ``missing()``."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {missing()}"
        time.sleep(poll_s)
