"""Lanes and the table in any order of events, by seed: whatever is owed is sent in the end, and nothing twice.

A model of the table stands for the store, so that a read can be as old as the test wants: taken when it began, or as it
ended, or never answered. Windows are small, so that they overflow all the time. In the end nobody tells a lane anything
any more: what is still owed then must come by the lanes' own memory of it.
"""

import asyncio
import os
import random

import pytest
from tests.harness.boards import owed
from tests.harness.world import FakeClock

from ringback.core.model import Phase
from ringback.core.schedule import Board, Limits
from ringback.core.window import Signal
from ringback.kit.wake import WakeUp
from ringback.service.refill import Refiller
from ringback.store.errors import QueryTimeout
from ringback.store.queue import Refill

SEEDS = 60
LONG_SEEDS = 1200
#: Which of the 20 slices of the long numbers is run, modulo their number: CI takes another one each day.
SLICE = int(os.environ.get("TEST_SLICE", "0"))
LANES, CHAPTERS, STEPS = 4, 8, 40
#: At the end: time until everything is due, and turns until nothing more happens at one moment.
ROUNDS, ROUND_S, TURNS = 60, 10, 300
SIGNALS = [Signal.SUCCESS, Signal.SUCCESS, Signal.FAILURE, Signal.ANSWERED, Signal.NEUTRAL]


def key_of(one):
    """(lane, event)."""
    return (one.item.lane, one.item.event)


class Life:
    """One life: the table, what runs, what is not yet written or not yet heard of, what somebody has in hand."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.clock = FakeClock()
        self.board = Board(Limits(slots=8, body_bytes=5000, window_items=40, uncommitted=10, failing_starts_per_s=20))
        self.refiller = Refiller(self.board, self, self.clock, WakeUp(), lambda _items: None)
        self.table = {number: {} for number in range(LANES)}  # event to (phase, due)
        self.turning = self.read = None
        self.running, self.unwritten, self.unheard, self.withheld = [], [], [], []
        self.count = 0

    def lane(self, number):
        return self.board.lane(number, f"t{number % 2}", 1 + number % 4)

    def some_lane(self):
        return self.lane(self.random.randrange(LANES))

    # -- the table

    def rows(self, asks, now_ms):
        return [self.rows_of(ask, self.table[ask.lane], now_ms) for ask in asks]

    def rows_of(self, ask, rows, now_ms):
        fresh = sorted(event for event, (phase, _) in rows.items() if phase == Phase.FRESH)
        timed = sorted((due, event) for event, (phase, due) in rows.items() if phase == Phase.TIMED and due <= now_ms)
        later = [due for phase, due in rows.values() if phase == Phase.TIMED and due > now_ms]
        items = [owed(ask.lane, event) for event in fresh[: ask.fresh]]
        items += [owed(ask.lane, event, phase=Phase.TIMED, due=due) for due, event in timed[: ask.timed]]
        next_ms = timed[ask.timed][0] if len(timed) > ask.timed else min(later, default=None)
        return Refill(ask.lane, items, next_ms, more_fresh=len(fresh) > ask.fresh)

    async def refill(self, asks, now_ms):
        self.read = (asks, now_ms, self.rows(asks, now_ms), asyncio.get_running_loop().create_future())
        return await self.read[3]

    async def answer(self, how):
        """Answer the read under way: as the table was when it began, as it is now, or not at all."""
        (asks, now_ms, then, future), self.read = self.read, None
        if how == "timeout":
            future.set_exception(QueryTimeout("slow"))
        else:
            future.set_result(then if how == "then" else self.rows(asks, now_ms))
        await self.breathe()

    async def breathe(self):
        for _ in range(6):
            await asyncio.sleep(0)

    # -- what may happen

    async def refill_step(self):
        if self.turning is None:
            self.turning = asyncio.ensure_future(self.refiller.turn(self.clock.now_ms()))
            await self.breathe()
        if self.read is not None and self.random.random() < 0.6:
            await self.answer(self.random.choice(["then", "then", "then", "now", "now", "now", "timeout"]))
        if self.turning.done():
            self.turning.result()
            self.turning = None

    async def accept(self):
        for _ in range(self.random.choice([1, 5, 30])):
            lane, self.count = self.some_lane(), self.count + 1
            in_ms = self.random.choice([None] * 8 + [self.random.randint(1, 8000), -self.random.randint(0, 8000)])
            due_ms = None if in_ms is None else self.clock.now_ms() + in_ms
            phase = Phase.FRESH if due_ms is None else Phase.TIMED
            self.table[lane.number][self.count] = (phase, due_ms or 0)
            if in_ms is not None and in_ms > 0:
                self.refiller.note_due(lane, due_ms)
            else:
                self.board.hand_off(lane, owed(lane.number, self.count, phase=phase, due=due_ms or 0))

    async def start(self):
        self.start_some(self.random.randint(1, 8))

    def start_some(self, most):
        while most and (one := self.board.start(self.clock.monotonic())) is not None:
            key = key_of(one)
            assert key not in self.busy(), "sent while it was being sent, or changed by hand"
            assert one.item.event in self.table[one.item.lane], "sent although nothing was owed any more"
            self.running.append(one)
            most -= 1

    def under_way(self):
        """What runs, or has ended and the table doesn't show it."""
        return {key_of(one) for one in (*self.running, *(one for one, _ in self.unwritten))}

    def busy(self):
        return {*self.under_way(), *(key_of(one) for one, _ in self.unheard), *self.withheld}

    async def end(self):
        if self.running:
            one = self.running.pop(self.random.randrange(len(self.running)))
            self.end_one(one, self.random.choice(SIGNALS))

    def end_one(self, one, signal):
        self.board.ended(one, signal, self.clock.monotonic())
        self.unwritten.append((one, signal))

    async def write(self):
        """An attempt's end is committed: from then on it can be read."""
        if not self.unwritten:
            return
        one, signal = self.unwritten.pop(0)
        rows, due_ms = self.table[one.item.lane], None
        if signal is Signal.SUCCESS:
            del rows[one.item.event]
        elif signal is not Signal.NEUTRAL:
            due_ms = self.clock.now_ms() + self.random.choice([0, 10, 1000, 5000, 20_000])
            rows[one.item.event] = (Phase.TIMED, due_ms)
        self.unheard.append((one, due_ms))
        await self.breathe()

    async def hear(self):
        """The answer to the commit comes."""
        if not self.unheard:
            return
        one, due_ms = self.unheard.pop(0)
        self.board.settled(one)
        if due_ms is not None:
            self.refiller.note_due(one.lane, due_ms)
        elif one.item.event in self.table[one.item.lane]:  # it left its row as it was
            self.board.look_again(one.lane)

    async def stop_or_go(self):
        lane = self.some_lane()
        (self.board.close if lane.open else self.board.open)(lane)

    async def cap(self):
        number = self.random.randrange(LANES)
        self.board.lane(number, f"t{number % 2}", self.random.randint(1, 6))

    async def hasten_all(self):
        lane = self.some_lane()
        for event, (phase, due_ms) in self.table[lane.number].items():
            if phase == Phase.TIMED and due_ms > self.clock.now_ms():
                self.table[lane.number][event] = (Phase.TIMED, 0)
        self.board.look_again(lane)

    async def take_in_hand(self):
        """By anybody, also where others have it in hand already: whatever the table shows as not under way."""
        lane = self.some_lane()
        free = [event for event in self.table[lane.number] if (lane.number, event) not in self.under_way()]
        held = [event for number, event in self.withheld if number == lane.number and event in free]
        if free:
            event = self.random.choice(held if held and self.random.random() < 0.3 else free)
            self.board.withhold(lane, event)
            self.withheld.append((lane.number, event))

    async def let_go(self):
        if self.withheld:
            number, event = self.withheld.pop(0)
            if event in self.table[number]:
                if self.random.random() < 0.5:
                    del self.table[number][event]  # cancelled
                else:
                    self.table[number][event] = (Phase.TIMED, 0)  # sent now
            while any(key_of(one) == (number, event) for one, _ in self.unheard):
                await self.hear()  # of the end that was committed before that
            self.board.give_back(self.lane(number), event)

    async def wait(self):
        self.clock.advance(self.random.choice([0.01, 0.5, 3, 9]))

    async def set_clock(self):
        if self.random.random() < 0.3:
            self.clock.step(self.random.choice([-7, -1, -0.05, 4]))

    # -- a life

    async def live(self):
        steps = [self.refill_step, self.start, self.end, self.write, self.hear] * 3 + [
            self.accept, self.wait, self.stop_or_go, self.cap, self.hasten_all, self.take_in_hand, self.let_go,
            self.set_clock,
        ]  # fmt: skip
        for _ in range(CHAPTERS):
            for _ in range(STEPS):
                await self.random.choice(steps)()
                self.counters_agree()
            await self.finish()

    def counters_agree(self):
        assert self.board.items == sum(lane.waiting for lane in self.board.lanes.values())
        assert self.board.in_flight == len(self.running)
        assert self.board.bytes == sum(one.item.size for one in self.running)
        assert self.board.uncommitted == len(self.unwritten) + len(self.unheard)

    async def finish(self):
        """Everybody gets well, and nobody is told to look again: time alone must bring the rest."""
        for lane in self.board.lanes.values():
            if not lane.open:
                self.board.open(lane)
        while self.withheld:
            await self.let_go()
        for _ in range(ROUNDS):
            await self.settle()
            if not any(self.table.values()):
                break
            self.clock.advance(ROUND_S)
        assert not any(self.table.values()), "a lane has forgotten what it owes"
        assert (self.board.items, self.board.in_flight, self.board.bytes, self.board.uncommitted) == (0, 0, 0, 0)
        assert not any(lane.known or lane.in_flight or lane.bytes for lane in self.board.lanes.values())

    async def settle(self):
        """Turn until nothing happens at this moment."""
        for _ in range(TURNS):
            self.turning = self.turning or asyncio.ensure_future(self.refiller.turn(self.clock.now_ms()))
            await self.breathe()
            if self.read is not None:
                await self.answer(self.random.choice(["then", "now"]))
            delay_s, self.turning = self.turning.result(), None
            self.start_some(100)
            idle = not (self.running or self.unwritten or self.unheard)
            while self.running:
                self.end_one(self.running.pop(), Signal.SUCCESS)
            while self.unwritten:
                await self.write()
            while self.unheard:
                await self.hear()
            if idle and delay_s != 0.0 and not self.board.thirsty:
                return
        raise AssertionError("it never settles")


def pytest_generate_tests(metafunc):
    """A seed a test; twenty times as many under ``--long``."""
    if "seed" in metafunc.fixturenames:
        start = SLICE % (LONG_SEEDS // SEEDS) * SEEDS
        metafunc.parametrize(
            "seed", range(LONG_SEEDS) if metafunc.config.getoption("long") else range(start, start + SEEDS)
        )


async def test_no_lane_forgets_what_it_owes(seed, monkeypatch: pytest.MonkeyPatch):
    """Whatever is started, ends, is called off, sent by hand, held or let go while a read is under way."""
    for name in ("lane", "schedule"):
        monkeypatch.setattr(f"ringback.core.{name}.WEAK_WINDOW", 3)
    monkeypatch.setattr("ringback.core.lane.LANE_WINDOW", 12)
    await Life(seed).live()
