"""Who starts now: the board of lanes, the global budget and the fair turns.

The decision maker has neither disk nor network (OpenSMTPD's scheduler): the dispatcher tells it what is owed, what
ended and what time it is; it answers with one delivery to start, or none. Every method is synchronous and O(1)
amortised. Only the dispatcher calls it, so nothing here is locked.

Rules, in the order they are asked (SEMANTICS, Isolation):

1. Global: at most ``slots`` requests in flight, at most ``body_bytes`` of bodies (and one more body), at most
   ``uncommitted`` results unwritten.
2. Class (``lane.Rank``): failing lanes together hold at most a quarter of the budget, failing and unproved ones
   together at most three quarters, so proved endpoints find room however many dead ones there are. Failing lanes also
   start at most ``failing_starts_per_s`` requests: a million owed rows at a refused port must not eat the processor.
3. Reserve: the last eighth of the slots goes only to idle lanes of tenants below their fair share, so that a tenant
   with 2,000 endpoints can't own all of them, nor busy lanes keep an idle one waiting.
4. Turns: classes take turns, tenants within a class, lanes within a tenant, fresh and due-again within a lane.
5. Lane: at most ``floor(window)`` in flight, never above the endpoint's cap, never faster than its rate limits.

What this can't do: when more proved lanes than there are slots fall silent in the same moment, their requests hold the
slots until their deadline, once; from then on they count as failing.

Must not know: what time it is (monotonic seconds are handed in), SQL, HTTP, what a body holds.
"""

from collections import OrderedDict, deque

import msgspec

from ringback.core import rate
from ringback.core.lane import WEAK_WINDOW, Lane, Rank
from ringback.core.model import Owed, Phase, RateLimit
from ringback.core.turns import FAILING, GROUPS, Tenant, Turns
from ringback.core.window import Signal, after

#: Failing lanes may start this much of a second's worth at once. Small, because requests that start together time out
#: together: waves of 128 ends in one turn of the event loop were what a healthy endpoint felt of hanging ones.
FAILING_BURST_S = 0.05
#: A lane with a request out and no answer for this long counts as failing until it answers well (seen within twice it).
SUSPECT_AFTER_S = 2.0


class Limits(msgspec.Struct, frozen=True):
    """The named bounds. ``window_items``: ids that healthy lanes together may hold in memory."""

    slots: int = 512
    body_bytes: int = 64 * 1024 * 1024
    window_items: int = 100_000
    uncommitted: int = 4096
    failing_starts_per_s: float = 200.0


class Started(msgspec.Struct, frozen=True):
    """One delivery that may start now; given back through ``Board.ended`` and ``Board.settled``."""

    item: Owed
    lane: Lane


class Board:
    """All lanes, and the one place that decides whose turn it is."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.lanes: dict[int, Lane] = {}
        self.in_flight = 0
        self.bytes = 0
        self.items = 0
        self.uncommitted = 0
        #: nothing starts before this (monotonic seconds): this process lacks what a request needs
        self.rest_until_s = 0.0
        #: lanes that may want a refill, who waits longest first; the dispatcher empties it
        self.thirsty: OrderedDict[int, Lane] = OrderedDict()
        self._turns = Turns()
        self._active_tenants = 0
        self._slots = [0] * len(Rank)
        self._bytes = [0] * len(Rank)
        self._ages: deque[tuple[float, Lane]] = deque()
        self._pace = limits.failing_starts_per_s * FAILING_BURST_S
        self._pace_at_s = 0.0
        self._next_group = 0

    # -- what the dispatcher tells -----------------------------------------------------------------------------------

    def lane(self, number: int, tenant: str, cap: int, rates: tuple[RateLimit, ...] = ()) -> Lane:
        """The lane of that number, made if need be, with this cap and these rates from now on."""
        lane = self.lanes.get(number)
        if lane is None:
            lane = self.lanes[number] = Lane(number, tenant, cap)
            self._turns.join(lane)
        if lane.cap != cap:
            lane.cap = cap
            self._turns.queue(lane)
        if (lane.meter.limits if lane.meter else ()) != rates:
            lane.meter = rate.meter(rates, lane.meter)
            self._turns.bring_back(lane)
            self._turns.queue(lane)
        return lane

    def drop(self, lane: Lane) -> None:
        """Forget a lane whose endpoint is gone; what it has in flight still ends through ``ended``."""
        if self.lanes.pop(lane.number, None) is lane:
            self.close(lane)
            self._turns.leave(lane)

    def close(self, lane: Lane) -> None:
        """Stop starting from it and give its memory back: its rows wait in the table (held)."""
        lane.open = False
        for item in (*lane.fresh, *lane.timed):
            lane.known.discard(item.event)
        self.items -= lane.waiting
        lane.fresh.clear()
        lane.timed.clear()
        lane.overflowed, lane.next_timed_ms = True, 0

    def open(self, lane: Lane) -> None:
        """Let it start again: what the table owes it has to be asked for."""
        lane.open = True
        self.look_again(lane)
        self._turns.queue(lane)

    def look_again(self, lane: Lane) -> None:
        """Rows may have appeared in the table that nobody handed off (a retry by hand, a start): ask for them."""
        lane.overflowed, lane.missed, lane.next_timed_ms = True, True, 0
        self.thirsty[lane.number] = lane

    def hand_off(self, lane: Lane, item: Owed) -> bool:
        """A row was just committed: take its id without asking the table, if the lane has nothing waiting there.

        False: it waits in the table.
        """
        if not lane.overflowed and self._take(lane, item):
            return True
        lane.overflowed = lane.missed = True
        if not lane.waiting:
            self.thirsty[lane.number] = lane
        return False

    def begin_refill(self, lane: Lane, now_ms: int) -> tuple[int, int]:
        """Open a refill: how many fresh and timed ids to ask the table for; (0, 0) if it wants none now."""
        fresh, timed = self.room(lane)
        fresh = fresh if lane.overflowed else 0
        due = lane.next_timed_ms is not None and lane.next_timed_ms <= now_ms
        lane.timed_left = due and not timed
        timed = timed if due else 0
        if lane.refilling is not None or not (fresh or timed):
            return 0, 0
        lane.refilling, lane.missed = set(lane.known), False
        if timed:
            lane.next_timed_ms = None
        return fresh, timed

    def end_refill(
        self, lane: Lane, items: list[Owed], now_ms: int, *, more_fresh: bool, next_timed_ms: int | None
    ) -> None:
        """What the table answered. ``more_fresh``: it has fresh rows beyond these, or was not asked for any."""
        exclude, lane.refilling = lane.refilling or set(), None
        lane.overflowed = (lane.overflowed and more_fresh) or lane.missed
        if next_timed_ms is not None:
            lane.note_due(next_timed_ms)
            lane.timed_left |= next_timed_ms <= now_ms
        for item in items:
            if item.event in exclude or self._take(lane, item):
                continue
            if item.phase == Phase.TIMED:
                lane.leave(item.due_at_ms)
            else:
                lane.overflowed = True
        fresh, timed = self.room(lane)
        if (lane.overflowed and fresh) or (lane.timed_left and timed):
            self.thirsty[lane.number] = lane

    def ended(self, started: Started, signal: Signal, now_s: float) -> None:
        """An attempt is over: its slot and bytes are free. Its event stays known until ``settled``."""
        lane, size = started.lane, started.item.size
        self.in_flight -= 1
        self.bytes -= size
        self.uncommitted += 1
        self._slots[lane.counted] -= 1
        self._bytes[lane.counted] -= size
        tenant = self._turns.tenants[lane.tenant]
        tenant.in_flight -= 1
        if not tenant.in_flight:
            self._active_tenants -= 1
            self._turns.forget_if_empty(tenant)
        lane.window = after(lane.window, signal, lane.in_flight, lane.cap)
        lane.in_flight -= 1
        lane.bytes -= size
        if signal is not Signal.FAILURE:
            lane.heard_s = now_s
            if signal is not Signal.NEUTRAL:
                lane.suspect = False
        self._recount(lane)
        if lane.counted is Rank.FAILING:
            self.items -= lane.trim()
        self._turns.queue(lane)

    def settled(self, started: Started) -> bool:
        """The result of an ended attempt is committed, or never will be: a refill may name this event again.

        True if it was one of so many that nothing could start: then something may now.
        """
        stalled = self.uncommitted >= self.limits.uncommitted
        self.uncommitted -= 1
        if started.item.event not in started.lane.withheld:
            started.lane.known.discard(started.item.event)
        return stalled

    def withhold(self, lane: Lane, event: int) -> None:
        """Let an event not be started (again), nor brought by a refill, until ``give_back`` by all who withhold it."""
        for queue in (lane.fresh, lane.timed):
            for item in [item for item in queue if item.event == event]:
                queue.remove(item)
                self.items -= 1
        lane.known.add(event)
        lane.withheld[event] = lane.withheld.get(event, 0) + 1
        if lane.refilling is not None:
            lane.refilling.add(event)

    def give_back(self, lane: Lane, event: int, *, unsettled: bool = False) -> None:
        """Whatever the table says of that event counts again; if it is ``unsettled``, from its attempt's end on."""
        others = lane.withheld.pop(event, 1) - 1
        if others:
            lane.withheld[event] = others
        elif not unsettled:
            lane.known.discard(event)
            self.look_again(lane)

    # -- what the dispatcher asks ------------------------------------------------------------------------------------

    def start(self, now_s: float) -> Started | None:
        """The next delivery to start at ``now_s`` (monotonic seconds), or None when nothing may start now."""
        if (
            self.in_flight >= self.limits.slots
            or self.uncommitted >= self.limits.uncommitted
            or now_s < self.rest_until_s
        ):
            return None
        self._mark_suspects(now_s)
        self._turns.wake(now_s)
        for step in range(2 * GROUPS):  # twice: a lane found in the wrong ring may move to one that is past already
            group = (self._next_group + step) % GROUPS
            if self._turns.rings[group] and self._admits(group, now_s):
                started = self._pick(group, now_s)
                if started is not None:
                    self._next_group = (group + 1) % GROUPS
                    return started
        return None

    def wake_in_s(self, now_s: float) -> float | None:
        """Seconds until time alone could let something start (the failing lanes' pace, a rate's token), or None."""
        if self.in_flight >= self.limits.slots or self.uncommitted >= self.limits.uncommitted:
            return None
        if now_s < self.rest_until_s:
            return self.rest_until_s - now_s
        waits = []
        if self._turns.rings[FAILING] and self._has_room(FAILING):  # without room no time helps: it would spin
            rate_s = self.limits.failing_starts_per_s
            waits.append((1.0 - self._pace - (now_s - self._pace_at_s) * rate_s) / rate_s)
        if (token_s := self._turns.next_s()) is not None:
            waits.append(token_s - now_s)
        return max(0.0, min(waits)) if waits else None

    def room(self, lane: Lane) -> tuple[int, int]:
        """How many fresh and timed ids a refill may bring; 0 while a queue is more than half full."""
        if not lane.open:
            return 0, 0
        limit = max(WEAK_WINDOW, min(lane.window_items(), self.limits.window_items - self.items))
        fresh, timed = len(lane.fresh), len(lane.timed)
        return (limit - fresh if fresh <= limit // 2 else 0), (limit - timed if timed <= limit // 2 else 0)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _take(self, lane: Lane, item: Owed) -> bool:
        """Put an id into a lane's window; False when it has no room. One it knows already is left as it is."""
        if item.event in lane.known:
            return True
        queue = lane.timed if item.phase == Phase.TIMED else lane.fresh
        limit = lane.window_items() if self.items < self.limits.window_items else WEAK_WINDOW
        if not lane.open or len(queue) >= limit:
            return False
        queue.append(item)
        lane.known.add(item.event)
        if lane.refilling is not None:
            lane.refilling.add(item.event)
        self.items += 1
        if lane.ring is None:
            self._turns.queue(lane)
        return True

    def _admits(self, group: int, now_s: float) -> bool:
        """Whether the group as a whole may start one more, by its room and its pace."""
        if not self._has_room(group):
            return False
        if group == FAILING:
            rate = self.limits.failing_starts_per_s
            self._pace = min(max(1.0, rate * FAILING_BURST_S), self._pace + (now_s - self._pace_at_s) * rate)
            self._pace_at_s = now_s
            return self._pace >= 1.0
        return True

    def _has_room(self, group: int) -> bool:
        """Whether the group as a whole may hold one more, in slots and bytes."""
        slots, room = self.limits.slots, self.limits.body_bytes
        if self.bytes >= room:
            return False
        if group == 0:
            return True
        if self.in_flight >= slots - self._reserve():
            return False
        if group == FAILING:
            held, weight = self._slots[Rank.FAILING], self._bytes[Rank.FAILING]
            if held >= max(1, slots // 4) or weight >= max(1, room // 4):
                return False
        weak_slots = self._slots[Rank.FAILING] + self._slots[Rank.UNPROVED]
        weak_bytes = self._bytes[Rank.FAILING] + self._bytes[Rank.UNPROVED]
        return weak_slots < max(1, slots - slots // 4) and weak_bytes < max(1, room - room // 4)

    def _reserve(self) -> int:
        """Slots kept for idle lanes; a board of one lane has nobody to keep them for."""
        return self.limits.slots // 8 if len(self.lanes) > 1 else 0

    def _pick(self, group: int, now_s: float) -> Started | None:
        """Start the group's next lane; None when none of it may start."""
        reserve_only = self.in_flight >= self.limits.slots - self._reserve()
        picked = self._turns.pick(group, now_s, self._below_fair_share if reserve_only else None)
        return self._begin(*picked, now_s) if picked else None

    def _begin(self, lane: Lane, tenant: Tenant, now_s: float) -> Started:
        """Take the lane's next item: fresh and timed in turns, so that neither starves the other."""
        take_timed = bool(lane.timed) and (lane.timed_turn or not lane.fresh)
        item = lane.timed.popleft() if take_timed else lane.fresh.popleft()
        lane.timed_turn = not take_timed
        if (lane.overflowed or lane.timed_left) and min(len(lane.fresh), len(lane.timed)) <= lane.window_items() // 2:
            self.thirsty[lane.number] = lane
        self.items -= 1
        self.in_flight += 1
        self.bytes += item.size
        if not tenant.in_flight:
            self._active_tenants += 1
        tenant.in_flight += 1
        if not lane.in_flight:
            lane.heard_s = now_s
        self._recount(lane)
        lane.in_flight += 1
        lane.bytes += item.size
        if lane.meter is not None:
            lane.meter = rate.take(lane.meter, now_s)
        self._slots[lane.counted] += 1
        self._bytes[lane.counted] += item.size
        if lane.counted is Rank.FAILING:
            self._pace -= 1.0
        if not lane.aged:
            lane.aged = True
            self._ages.append((now_s, lane))
        self._turns.queue(lane)
        return Started(item, lane)

    def _below_fair_share(self, tenant: Tenant) -> bool:
        """Whether a tenant may use the reserve: it holds less than an equal share; a lone tenant always may."""
        if len(self._turns.tenants) <= 1:
            return True
        return tenant.in_flight < self.limits.slots // max(2, self._active_tenants)

    def _recount(self, lane: Lane) -> None:
        """Count a lane's requests under the class it stands in now."""
        rank = lane.rank()
        if rank is not lane.counted:
            self._slots[lane.counted] -= lane.in_flight
            self._bytes[lane.counted] -= lane.bytes
            self._slots[rank] += lane.in_flight
            self._bytes[rank] += lane.bytes
            lane.counted = rank

    def _mark_suspects(self, now_s: float) -> None:
        """Lanes that have been silent too long with a request out count as failing, before any time-out says so."""
        ages, horizon = self._ages, now_s - SUSPECT_AFTER_S
        while ages and ages[0][0] <= horizon:
            _, lane = ages.popleft()
            if not lane.in_flight:
                lane.aged = False
            elif lane.heard_s <= horizon:
                lane.aged, lane.suspect = False, True
                self._recount(lane)
                self.items -= lane.trim()
            else:
                ages.append((now_s, lane))
