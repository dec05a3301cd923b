"""What is in flight, and which rows show that an attempt has ended although nobody has heard the answer yet."""

import pytest

from ringback.core.lifecycle import dead, interrupted, postponed, retry_at, succeeded
from ringback.core.model import DeliveryState, Transition
from ringback.service.flights import Flights
from ringback.store.views import DeliveryRow

KEY = (7, 2)
DUE_MS = 1_800_000_005_000


def row(state: DeliveryState, due_at_ms: int | None = None, event: int = KEY[0]) -> DeliveryRow:
    """A delivery's row."""
    untold = None, None, None, None, None
    return DeliveryRow(event, KEY[1], state, 1, 0, due_at_ms, *untold, "e1", "acme", "a.b", DUE_MS, DUE_MS)


OWED = row(DeliveryState.PENDING, 0)


def test_a_running_attempt_covers_its_row_alone():
    """From its begin until it is settled, and no other delivery's."""
    flights = Flights()
    assert (flights.cover(OWED), KEY in flights) == (False, False)
    flights.begin(KEY)
    assert (flights.cover(OWED), KEY in flights, flights.keys()) == (True, True, {KEY})
    assert not flights.cover(row(DeliveryState.PENDING, 0, event=8))
    flights.settle(KEY)
    assert (flights.cover(OWED), KEY in flights) == (False, False)


@pytest.mark.parametrize(
    ("end", "committed"),
    [
        (succeeded(), row(DeliveryState.SUCCEEDED)),
        (dead(), row(DeliveryState.DEAD)),
        (retry_at(DUE_MS), row(DeliveryState.PENDING, DUE_MS)),
        (postponed(DUE_MS), row(DeliveryState.PENDING, DUE_MS)),
    ],
)
def test_a_row_that_shows_the_end_is_in_flight_no_longer(end: Transition, committed: DeliveryRow):
    """The row as it was before the commit is; the one that was read after it isn't, though nobody has settled yet."""
    flights = Flights()
    flights.begin(KEY)
    flights.ended(KEY, end)
    assert flights.cover(OWED)
    assert not flights.cover(committed)


def test_an_attempt_that_was_cut_off_covers_until_it_is_settled():
    """It leaves the row as it was, so nothing tells when it is written."""
    flights = Flights()
    flights.begin(KEY)
    flights.ended(KEY, interrupted())
    assert flights.cover(OWED)
