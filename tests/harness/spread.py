"""How the tests are spread over the processes that run them (``-n``): one by one, but some files in one piece.

Role: the scheduler that ``tests/conftest.py`` hands to pytest-xdist, and the order it is given the tests in.
Rules: what takes a machine-wide resource stays in one process; the tests that wait longest start first, so that at the
end no process waits for another. The mark ``xdist_group`` is not used: pytest 9.2 made it do nothing, silently.
"""

from collections.abc import Sequence

import pytest
from xdist.scheduler import LoadScopeScheduling

#: Files whose tests run in one process, one after the other.
TOGETHER = (
    "tests/test_shape.py",  # it parses the whole tree, once for each process
    "tests/whole/test_power_cut.py",  # a free loop device is looked for first and taken then
    "tests/whole/test_systemd.py",  # one booted machine serves them all
)
#: Tests that start the real daemon: seconds each, most of them spent waiting.
SLOW_MARK = "whole"


def scope_of(test_id: str) -> str:
    """What a test must share a process with: its file, if that stays together, else nothing but itself."""
    path = test_id.split("::", 1)[0]
    return path if path in TOGETHER else test_id


def slow_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The same tests with the slow ones in front; otherwise in the order they had."""
    return sorted(items, key=lambda item: SLOW_MARK not in item.keywords)


class Spread(LoadScopeScheduling):
    """Hands each process the next piece when it has nearly done its own; pieces of several tests come first."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)
