"""Lanes and the table: what is held, given back, asked for, and never brought twice."""

from tests.harness.boards import fill, owed, proved, start_all

from ringback.core.lane import LANE_WINDOW, WEAK_WINDOW
from ringback.core.schedule import Board, Limits
from ringback.core.window import Signal


def test_a_closed_lane_starts_nothing_and_gives_its_memory_back():
    """Paused: the rows wait in the table, only requests in flight remain."""
    board = Board(Limits())
    lane = proved(board, 1, cap=2)
    fill(board, lane, 10)
    started = start_all(board)
    board.close(lane)
    assert board.items == 0
    board.ended(started[0], Signal.SUCCESS, 0.0)
    assert board.start(0.0) is None
    board.open(lane)
    assert board.begin_refill(lane, 0)[0] > 0


def test_a_dead_lane_holds_few_ids():
    """A million owed rows at a dead endpoint are a handful of ids in memory."""
    board = Board(Limits())
    lane = proved(board, 1, cap=8)
    fill(board, lane, LANE_WINDOW)
    one = board.start(0.0)
    board.ended(one, Signal.FAILURE, 0.0)
    assert lane.waiting <= WEAK_WINDOW
    assert lane.overflowed


def test_dead_lanes_cannot_use_up_the_memory_of_healthy_ones():
    """With the shared memory full every lane still gets its small window."""
    board = Board(Limits(window_items=100))
    for number in range(100):
        fill(board, board.lane(number, "t", 8), 50, first=number * 100)
    healthy = proved(board, 999)
    fill(board, healthy, 50, first=10**6)
    assert len(healthy.fresh) == WEAK_WINDOW


def test_a_refill_leaves_out_what_ended_while_it_read():
    """The table is read as it was: an event that was in flight when the read began is not started again."""
    board = Board(Limits())
    lane = proved(board, 1, cap=1)
    fill(board, lane, 1, first=7)
    one = board.start(0.0)
    board.look_again(lane)
    assert board.begin_refill(lane, 10) != (0, 0)
    board.ended(one, Signal.SUCCESS, 0.0)
    board.settled(one)
    board.end_refill(lane, [owed(1, 7), owed(1, 8)], 10, more_fresh=False, next_timed_ms=None)
    assert board.start(0.0).item.event == 8
    assert lane.waiting == 0


def test_a_hand_off_missed_during_a_refill_is_asked_for_again():
    """An event committed after the read's snapshot isn't in its answer: the lane stays thirsty."""
    board = Board(Limits())
    lane = proved(board, 1, cap=1)
    board.look_again(lane)
    board.begin_refill(lane, 10)
    board.thirsty.clear()
    board.hand_off(lane, owed(1, 5))
    board.end_refill(lane, [], 10, more_fresh=False, next_timed_ms=None)
    assert lane.overflowed
    assert lane.number in board.thirsty


def test_what_a_lane_gives_back_during_a_refill_is_asked_for_again():
    """A refill leaves out what the lane knew as it began; a failure then makes the lane give back some of it."""
    board = Board(Limits())
    lane = proved(board, 1, cap=1)
    fill(board, lane, 20)
    board.look_again(lane)
    assert board.begin_refill(lane, 10) != (0, 0)
    one = board.start(0.0)
    board.ended(one, Signal.FAILURE, 0.0)
    assert lane.waiting == WEAK_WINDOW
    answer = [owed(1, event) for event in range(2, 21)]
    board.end_refill(lane, answer, 10, more_fresh=False, next_timed_ms=None)
    assert lane.overflowed, "the others wait in the table"


def test_a_dropped_lane_still_frees_its_slot():
    """An endpoint deleted with a request out: the slot comes back when it ends."""
    board = Board(Limits())
    lane = proved(board, 1)
    fill(board, lane, 3)
    one = board.start(0.0)
    board.drop(lane)
    assert board.start(0.0) is None
    board.ended(one, Signal.SUCCESS, 0.0)
    board.settled(one)
    assert (board.in_flight, board.bytes, board.items, board.uncommitted) == (0, 0, 0, 0)


def test_what_is_withheld_neither_starts_nor_comes_back_by_a_refill():
    """A delivery whose row will change now leaves its lane, and a refill that read the old row is ignored."""
    board = Board(Limits())
    lane = proved(board, 1)
    fill(board, lane, 2)
    lane.overflowed = True
    board.begin_refill(lane, 0)
    board.withhold(lane, 2)
    board.end_refill(lane, [owed(1, 2)], 0, more_fresh=False, next_timed_ms=None)
    assert [one.item.event for one in start_all(board)] == [1]
    assert board.items == 0


def test_what_is_given_back_is_asked_for_again():
    """After the row has changed, or not, the table decides anew whether it is owed."""
    board = Board(Limits())
    lane = proved(board, 1)
    fill(board, lane, 1)
    board.withhold(lane, 1)
    board.give_back(lane, 1)
    fresh, _ = board.begin_refill(lane, 0)
    assert fresh > 0
    board.end_refill(lane, [owed(1, 1)], 0, more_fresh=False, next_timed_ms=None)
    assert [one.item.event for one in start_all(board)] == [1]


def called_off_unsettled():
    """A board, its lane and the attempt of event 1: ended, the answer to its commit not heard, and withheld."""
    board = Board(Limits())
    lane = proved(board, 1)
    fill(board, lane, 1)
    one = board.start(0.0)
    board.ended(one, Signal.FAILURE, 0.0)
    board.withhold(lane, 1)
    return board, lane, one


def test_what_is_withheld_stays_so_though_an_attempt_of_it_is_settled():
    """Its end can be read, and the delivery be called off, before the answer to its commit is heard: not sent again."""
    board, lane, one = called_off_unsettled()
    board.settled(one)
    board.look_again(lane)
    board.begin_refill(lane, 0)
    board.end_refill(lane, [owed(1, 1)], 0, more_fresh=False, next_timed_ms=None)
    assert board.start(1.0) is None
    board.give_back(lane, 1)
    assert lane.known == set()


def test_what_two_withhold_counts_again_when_both_have_given_it_back():
    """Sent now by one and called off by another at once: the first answer must not bring it while the other is due."""
    board = Board(Limits())
    lane = proved(board, 1)
    board.withhold(lane, 1)
    board.withhold(lane, 1)
    for free in (False, True):
        board.give_back(lane, 1)
        board.begin_refill(lane, 0)
        board.end_refill(lane, [owed(1, 1)], 0, more_fresh=False, next_timed_ms=None)
        assert (board.start(1.0) is not None) is free


def test_what_is_given_back_before_its_attempt_is_settled_waits_for_that():
    """The change was refused at once: the attempt's end is still on its way to the disk."""
    board, lane, one = called_off_unsettled()
    board.give_back(lane, 1, unsettled=True)
    assert lane.known == {1}
    board.settled(one)
    assert lane.known == set()
