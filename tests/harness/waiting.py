"""Waiting for another process: polls until something holds, bounded, and says what was missing."""

import time
from collections.abc import Callable

POLL_S = 0.02


def wait_until(
    holds: Callable[[], object], timeout_s: float, missing: Callable[[], str], poll_s: float = POLL_S
) -> None:
    """Return as soon as ``holds()`` is true; after ``timeout_s`` fail with ``missing()``."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {missing()}"
        time.sleep(poll_s)
