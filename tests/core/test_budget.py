"""The judgement of a database against its budget: one table of looks."""

import pytest

from ringback.core.budget import MIB, Episode, look

MAX = 100 * MIB
QUIET = Episode(130 * MIB)
LEFT_WITH_DEBTS = Episode(130 * MIB, exhausted=True)
REFUSING = Episode(130 * MIB, exhausted=True, refusing="full")
OUTPACED = Episode(110 * MIB, refusing="outpaced")


@pytest.mark.parametrize(
    ("episode", "used_mib", "max_bytes"),
    [(None, 100, MAX), (None, 5000, 0), (QUIET, 90, MAX), (REFUSING, 90, MAX), (REFUSING, 500, 0)],
)
def test_there_is_nothing_to_do_within_the_budget(episode, used_mib, max_bytes):
    """No episode begins up to the budget or without one, and each ends at nine tenths of it or when it is lifted."""
    assert look(episode, used_mib * MIB, max_bytes) is None


def test_an_episode_begins_above_the_budget_and_refuses_nobody_yet():
    """A budget set below what is in use must not refuse events while pruning has only begun."""
    begun = look(None, 300 * MIB, MAX)
    assert begun == Episode(310 * MIB)
    assert look(begun, 305 * MIB, MAX).refusing is None


@pytest.mark.parametrize(
    ("episode", "used_mib", "words"),
    [
        (QUIET, 120, None),
        (QUIET, 131, "faster than old ones can be removed"),
        (LEFT_WITH_DEBTS, 101, "used up by what is owed"),
        (LEFT_WITH_DEBTS, 100, None),
        (REFUSING, 96, "used up by what is owed"),
        (REFUSING, 95, None),
        (OUTPACED, 97, "outpaced"),
        (OUTPACED, 95, None),
    ],
)
def test_events_are_refused_only_when_pruning_cannot_help(episode, used_mib, words):
    """With nothing left to prune, or outpaced; and then until there is some room again, so that it doesn't flap."""
    refusing = look(episode, used_mib * MIB, MAX).refusing
    assert refusing is None if words is None else words in refusing
