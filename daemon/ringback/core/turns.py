"""Turns: which lane is next. Rings of tenants, and within each the rings of its lanes; lanes that wait for their rate.

Role: the queues behind ``core.schedule.Board``, which alone uses them and which decides how much may be in flight.
Rules: classes take turns (the Board's doing), tenants within a class, lanes within a tenant; every step is O(1)
amortised. A lane whose rate has no token left leaves the rings until one is free, so that nobody scans it.
Must not know: slots, bytes, windows, what is sent, what time it is (it is handed in).
"""

import heapq
from collections import deque
from collections.abc import Callable

from ringback.core import rate
from ringback.core.lane import Lane, Rank

#: The group of each class; groups take turns. Idle and busy lanes are one, so that a tenant has one turn, not two.
GROUP = (0, 0, 1, 2)
GROUPS = 3
FAILING = GROUP[Rank.FAILING]
#: How many tenants at or above their fair share are passed over in one pick; the next pick goes on behind them.
SCAN_LIMIT = 16


class Tenant:
    """A tenant's lanes waiting for their turn, a ring for each class; ``queued`` by group."""

    __slots__ = ("busy_turn", "in_flight", "lanes", "name", "queued", "rings")

    def __init__(self, name: str) -> None:
        self.name = name
        self.in_flight = 0
        self.lanes = 0
        self.rings: tuple[deque[Lane], ...] = tuple(deque() for _ in Rank)
        self.queued = [False] * GROUPS
        self.busy_turn = False


class Turns:
    """All tenants and the order they are served in, and the lanes that wait for a token: at most one entry a lane."""

    def __init__(self) -> None:
        self.tenants: dict[str, Tenant] = {}
        self.rings: tuple[deque[Tenant], ...] = tuple(deque() for _ in range(GROUPS))
        self._waiting: list[tuple[float, int, Lane]] = []

    def join(self, lane: Lane) -> None:
        """A lane was made."""
        tenant = self.tenants.get(lane.tenant)
        if tenant is None:
            tenant = self.tenants[lane.tenant] = Tenant(lane.tenant)
        tenant.lanes += 1

    def leave(self, lane: Lane) -> None:
        """A lane is gone (and closed)."""
        self.bring_back(lane)
        self.tenants[lane.tenant].lanes -= 1
        self.forget_if_empty(self.tenants[lane.tenant])

    def forget_if_empty(self, tenant: Tenant) -> None:
        """A tenant without lanes and requests is no tenant any more; fair shares must not count it."""
        if not tenant.lanes and not tenant.in_flight and self.tenants.get(tenant.name) is tenant:
            del self.tenants[tenant.name]

    def queue(self, lane: Lane) -> None:
        """Put a lane that may start into the ring of its class, and its tenant into that class's ring."""
        if lane.ring is not None or not lane.may_start():
            return
        rank = lane.rank()
        tenant = self.tenants[lane.tenant]
        lane.ring = rank
        tenant.rings[rank].append(lane)
        group = GROUP[rank]
        if not tenant.queued[group]:
            tenant.queued[group] = True
            self.rings[group].append(tenant)

    def pick(self, group: int, now_s: float, may_use: Callable[[Tenant], bool] | None) -> tuple[Lane, Tenant] | None:
        """Turn the group's ring until a lane can start; None when it is empty or nobody in reach may.

        ``may_use`` is given when only the reserve is left: whether a tenant may use it. Then only idle lanes may.
        """
        ring = self.rings[group]
        passed_over = 0
        while ring and passed_over < SCAN_LIMIT:
            tenant = ring.popleft()
            if may_use is not None and not may_use(tenant):
                ring.append(tenant)
                passed_over += 1
                continue
            lane = self._next_lane(tenant, group, now_s, idle_only=may_use is not None)
            tenant.queued[group] = any(tenant.rings[rank] for rank in Rank if GROUP[rank] == group)
            if tenant.queued[group]:
                ring.append(tenant)
            if lane is not None:
                return lane, tenant
            passed_over += tenant.queued[group]
        return None

    def _next_lane(self, tenant: Tenant, group: int, now_s: float, *, idle_only: bool) -> Lane | None:
        """The tenant's next lane of this group; those that changed class since they were queued move over."""
        ranks: tuple[Rank, ...] = (Rank(group + 1),)
        if group == 0:
            tenant.busy_turn = not tenant.busy_turn
            busy_first = tenant.busy_turn
            ranks = (Rank.IDLE,) if idle_only else ((Rank.BUSY, Rank.IDLE) if busy_first else (Rank.IDLE, Rank.BUSY))
        for rank in ranks:
            lanes = tenant.rings[rank]
            while lanes:
                lane = lanes.popleft()
                lane.ring = None
                if lane.meter is not None and self._set_aside(lane, lane.meter, now_s):
                    continue
                if lane.rank() is rank and lane.may_start():
                    return lane
                self.queue(lane)
        return None

    # -- rates -------------------------------------------------------------------------------------------------------

    def _set_aside(self, lane: Lane, meter: rate.Meter, now_s: float) -> bool:
        """Take a lane out of turn until its rate has a token; False if it has one now."""
        at_s = rate.free_at_s(meter, now_s)
        if at_s <= now_s:
            return False
        if lane.may_start():
            lane.waits = True
            heapq.heappush(self._waiting, (at_s, lane.number, lane))
        return True

    def wake(self, now_s: float) -> None:
        """Bring back the lanes whose token has come."""
        while self._waiting and self._waiting[0][0] <= now_s:
            lane = heapq.heappop(self._waiting)[2]
            lane.waits = False
            self.queue(lane)

    def bring_back(self, lane: Lane) -> None:
        """Its limits changed, or it is gone: it waits for no token any more. Cold: walks all that wait."""
        if lane.waits:
            lane.waits = False
            self._waiting = [entry for entry in self._waiting if entry[2] is not lane]
            heapq.heapify(self._waiting)

    def next_s(self) -> float | None:
        """When the next token comes (monotonic seconds); None if no lane waits for one."""
        return self._waiting[0][0] if self._waiting else None
