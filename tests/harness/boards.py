"""Boards, lanes and obligations for the tests of the schedule."""

from ringback.core.model import Owed, Phase
from ringback.core.window import Window


def owed(lane, event, *, size=100, phase=Phase.FRESH, due=0):
    """One obligation."""
    return Owed(lane, event, phase, due, 0, size)


def proved(board, number, tenant="t", cap=8, size=None):
    """A lane that has answered well before."""
    lane = board.lane(number, tenant, cap)
    lane.window = Window(float(size or cap), 0, proved=True)
    return lane


def start_all(board, now_s=0.0):
    """Everything that may start now."""
    started = []
    while (one := board.start(now_s)) is not None:
        started.append(one)
    return started


def fill(board, lane, count, first=1, **kwargs):
    """Hand that many events to a lane."""
    for event in range(first, first + count):
        board.hand_off(lane, owed(lane.number, event, **kwargs))
