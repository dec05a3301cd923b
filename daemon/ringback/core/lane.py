"""One endpoint's queue in memory: a bounded window on its rows in the table, and what the schedule knows of it.

A lane holds ids and numbers, never a body. Only ``core.schedule.Board`` changes one.
"""

from collections import deque
from enum import IntEnum

from ringback.core.model import Owed
from ringback.core.rate import Meter
from ringback.core.window import Window

#: Ids of each phase a healthy lane may hold; the rest stays in the table.
LANE_WINDOW = 256
#: The same for a lane that is failing or was never heard from: its window is one request, it needs no more, and a
#: thousand dead endpoints must not fill the memory all lanes share. Every lane may hold this many, whatever the total.
WEAK_WINDOW = 8


class Rank(IntEnum):
    """The class a lane stands in when turns are decided."""

    IDLE = 0  #: healthy, nothing in flight
    BUSY = 1  #: healthy, something in flight
    UNPROVED = 2  #: never heard from
    FAILING = 3  #: its latest attempt failed, or it is silent with a request out


class Lane:
    """The queue of one endpoint.

    ``known`` holds the events in the window, in flight or awaiting commit, or withheld: a refill leaves them out.
    ``withheld``: events whose rows somebody is about to change, and how many do: none of them is started until then.
    ``overflowed``: the table may hold fresh rows that are not here: no direct hand-off until a refill drained it.
    ``refilling``: while a refill is on its way, the events it must not bring: all that were known at any time since it
    began, because it reads the table as it was then. ``missed``: since it began a hand-off failed, or ids went back.
    ``next_timed_ms``: the earliest known due time of a row that is not here (wall clock), None if there is none.
    ``timed_left``: rows that are due already had to stay in the table; asked for when the timed queue is half empty.
    ``suspect``: silent for too long with a request out. ``heard_s``: when it last answered, or started from nothing.
    ``meter``: its rate limits and what was taken of them; ``waits``: set aside until the next token comes.
    ``ring``: the class ring it waits in; ``counted``: the class its in-flight requests are counted under.
    """

    __slots__ = (
        "aged",
        "bytes",
        "cap",
        "counted",
        "fresh",
        "heard_s",
        "in_flight",
        "known",
        "meter",
        "missed",
        "next_timed_ms",
        "number",
        "open",
        "overflowed",
        "refilling",
        "ring",
        "suspect",
        "tenant",
        "timed",
        "timed_left",
        "timed_turn",
        "waits",
        "window",
        "withheld",
    )

    def __init__(self, number: int, tenant: str, cap: int) -> None:
        self.number = number
        self.tenant = tenant
        self.cap = cap
        self.open = True
        self.window = Window()
        self.in_flight = 0
        self.bytes = 0
        self.fresh: deque[Owed] = deque()
        self.timed: deque[Owed] = deque()
        self.known: set[int] = set()
        self.withheld: dict[int, int] = {}
        self.overflowed = False
        self.missed = False
        self.refilling: set[int] | None = None
        self.next_timed_ms: int | None = None
        self.timed_left = False
        self.suspect = False
        self.aged = False
        self.heard_s = 0.0
        self.timed_turn = False
        self.ring: Rank | None = None
        self.counted = Rank.UNPROVED
        self.meter: Meter | None = None
        self.waits = False

    @property
    def waiting(self) -> int:
        """Ids in memory that have not started."""
        return len(self.fresh) + len(self.timed)

    @property
    def drained(self) -> bool:
        """Whether it owes nothing, here or in the table, as far as anybody was told."""
        unread = self.overflowed or self.missed or self.timed_left or self.refilling is not None
        return not (self.known or self.in_flight or unread) and self.next_timed_ms is None

    def rank(self) -> Rank:
        """The class this lane stands in now."""
        if self.suspect or self.window.failures:
            return Rank.FAILING
        if not self.window.proved:
            return Rank.UNPROVED
        return Rank.BUSY if self.in_flight else Rank.IDLE

    def may_start(self) -> bool:
        """Whether the lane itself has something to start and room for it."""
        if self.waits or not self.open or not (self.fresh or self.timed):
            return False
        return self.in_flight < min(self.cap, int(self.window.size))

    def window_items(self) -> int:
        """How many ids of each phase it may hold."""
        return LANE_WINDOW if self.rank() <= Rank.BUSY else WEAK_WINDOW

    def trim(self) -> int:
        """Give back the ids beyond what its class may hold, newest first; returns how many. They wait in the table."""
        limit, given = self.window_items(), 0
        while len(self.fresh) > limit:
            self.known.discard(self.fresh.pop().event)
            self.overflowed = self.missed = True  # a refill under way was told to leave it out
            given += 1
        while len(self.timed) > limit:
            item = self.timed.pop()
            self.known.discard(item.event)
            self.leave(item.due_at_ms)
            given += 1
        return given

    def note_due(self, due_at_ms: int) -> None:
        """A row that is not here is due at that time (wall-clock milliseconds)."""
        if self.next_timed_ms is None or due_at_ms < self.next_timed_ms:
            self.next_timed_ms = due_at_ms

    def leave(self, due_at_ms: int) -> None:
        """A row that is due already had to stay in the table for want of room."""
        self.timed_left = True
        self.note_due(due_at_ms)
