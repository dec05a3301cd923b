"""What is in flight: every attempt under way, or ended and awaiting its commit.

Role: the dispatcher's memory of it, and the answer to whether a delivery, as its row was read, is in flight.
Rules: a commit can be read a moment before its answer is heard. So of an attempt that has ended it is known what the
row will say, and a row that says so is in flight no longer: else a delivery would be told as in flight beside the
attempt that ended it, or as dead while a retry by hand is refused because an attempt runs.
Must not know: who attempts, when a commit is made.
"""

from ringback.core.model import DeliveryState, Transition
from ringback.store.views import DeliveryRow

Key = tuple[int, int]


class Flights:
    """By (event, lane); None while the attempt runs, then what it makes of its delivery."""

    def __init__(self) -> None:
        self._ends: dict[Key, Transition | None] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._ends

    def keys(self) -> frozenset[Key]:
        """All of them."""
        return frozenset(self._ends)

    def begin(self, key: Key) -> None:
        """An attempt begins."""
        self._ends[key] = None

    def ended(self, key: Key, transition: Transition) -> None:
        """It has ended; what it makes of its delivery is on its way to the disk."""
        self._ends[key] = transition

    def settle(self, key: Key) -> None:
        """That is committed, or never will be."""
        self._ends.pop(key, None)

    def cover(self, row: DeliveryRow) -> bool:
        """Whether an attempt of this delivery was under way, or its end not committed, when the row was read."""
        key = (row.event, row.lane)
        end = self._ends.get(key)
        if end is None:
            return key in self._ends
        if row.state is not DeliveryState.PENDING:
            return False
        return end.due_at_ms is None or row.due_at_ms != end.due_at_ms
