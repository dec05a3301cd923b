"""What is told of a lane: the schedule's own numbers, the busiest first, nothing changed by looking."""

from ringback.core.model import Owed, Phase, RateLimit
from ringback.core.schedule import Board, Limits
from ringback.core.window import Signal, Window
from ringback.service.lane_facts import NOTHING_KNOWN, busiest, failing, lane_facts


def board_of(counts, **limits):
    """A board whose lane n has as many fresh rows as is said."""
    board = Board(Limits(**limits))
    for number, count in enumerate(counts, start=1):
        lane = board.lane(number, "t", cap=8)
        for event in range(count):
            board.hand_off(lane, Owed(number, event + 1, Phase.FRESH, 0, 0, 10))
    return board


def test_a_lane_nobody_used_stands_at_the_beginning():
    """It may send one request and has nothing."""
    assert lane_facts(board_of([]), 7, 0.0) == NOTHING_KNOWN


def test_the_numbers_are_the_schedules():
    """In flight, allowed, waiting; after a failure it is failing."""
    board = board_of([3], slots=1)
    started = board.start(0.0)
    facts = lane_facts(board, 1, 0.0)
    assert (facts.in_flight, facts.allowed, facts.cap, facts.waiting) == (1, 1, 8, 2)
    assert facts.slots_full
    assert not facts.failing
    board.ended(started, Signal.FAILURE, 1.0)
    facts = lane_facts(board, 1, 1.0)
    assert (facts.failing, facts.failures, facts.in_flight, facts.slots_full) == (True, 1, 0, False)


def test_a_rates_wait_is_told():
    """Until its next token comes."""
    board = board_of([3])
    lane = board.lane(1, "t", 8, (RateLimit(1, 10.0),))
    assert lane_facts(board, 1, 0.0).rate_wait_s == 0
    started = board.start(0.0)
    assert started.lane is lane
    assert lane_facts(board, 1, 4.0).rate_wait_s == 6.0


def test_failing_lanes_are_counted():
    """Those that may send and whose latest attempts failed; one that is closed is told by its endpoint's status."""
    board = Board(Limits())
    lanes = [board.lane(number, "acme", 4) for number in (1, 2, 3)]
    assert failing(board) == 0
    for lane in lanes[:2]:
        lane.window = Window(failures=3)
    board.close(lanes[1])
    assert failing(board) == 1


def test_the_busiest_come_first():
    """By requests in flight, then by what waits; no more than asked for."""
    board = board_of([0, 9, 4, 1])
    assert [number for number, _ in busiest(board, 3, 0.0)] == [2, 3, 4]
