"""Whole lives of the daemon's inside, by seed: bursts, failures, hangs, pauses, deletions, crashes, stepped clocks.

What must hold in every one of them: what was acknowledged is delivered or ended for a reason that is written down;
nothing is sent twice unless it was in flight at a crash; no endpoint's cap is ever passed; in the end nothing is owed.
"""

import asyncio
import json
import os
import random
import sqlite3
from collections import Counter, defaultdict

from tests.harness.world import FakeChance, FakeClock, FakeNetwork, World, answer

from ringback.core.lifecycle import FINAL_STATES
from ringback.core.model import DeliveryState, Outcome, OutcomeKind
from ringback.core.times import rfc3339
from ringback.service.endpoints import Changed
from ringback.store import codec

SEEDS = 50
LONG_SEEDS = 1000
#: Which of the 20 slices of the long numbers is run, modulo their number: CI takes another one each day.
SLICE = int(os.environ.get("TEST_SLICE", "0"))
#: Time until everybody is done: the longest schedule, and hours that the wall clock may have been set back.
ROUNDS, ROUND_S = 200, 300
MODES = ("ok", "ok", "ok", "fail", "refuse", "flaky", "hang", "late")


class Life:
    """One simulated life: what was promised, what the receivers saw, and the random hand that moves everything."""

    def __init__(self, directory, seed):
        self.random = random.Random(seed)
        self.directory = directory
        self.clock = FakeClock()
        self.chance = FakeChance(seed)
        self.network = FakeNetwork(self.answer)
        self.modes = {}
        self.waiting = []
        self.running = Counter()
        self.caps = {}
        self.owed = defaultdict(set)
        self.may_double = set()
        self.deleted = set()
        self.gone = set()
        self.expiring = set()
        self.acknowledged = set()
        self.count = 0

    def acknowledge(self):
        """Take the answers that came."""
        for told in map(json.loads, self.world.answers):
            assert told["ok"], told
            self.acknowledged.add(told["id"])
        self.world.answers.clear()

    def answer(self, request):
        mode = self.modes[request.url]
        self.running[request.url] += 1
        assert self.running[request.url] <= self.caps[request.url], "an endpoint's cap was passed"
        if mode in ("hang", "late"):
            return self._later(request.url, mode)
        self.running[request.url] -= 1
        if mode == "refuse":
            return Outcome(OutcomeKind.CONNECT_FAILED, error="refused", maybe_sent=False)
        if mode == "gone":
            return answer(410)
        failing = mode == "fail" or (mode == "flaky" and self.random.random() < 0.5)
        return answer(self.random.choice([500, 503, 429, 404]) if failing else 200)

    async def _later(self, url, mode):
        future = asyncio.get_running_loop().create_future()
        self.waiting.append((self.clock.elapsed + (30 if mode == "hang" else 3), mode, future))
        try:
            return await future
        finally:
            self.running[url] -= 1

    async def live(self, steps):
        self.world = await World(self.directory, self.clock, self.chance, self.network).start()
        for _ in range(self.random.randint(2, 6)):
            await self.add_endpoint()
        for _ in range(steps):
            await self.random.choice(
                [self.burst, self.burst, self.burst, self.wait, self.wait, self.wait, self.change_mode, self.pause,
                 self.resume, self.crash, self.step_clock, self.delete, self.go]
            )()  # fmt: skip
            for _ in range(self.random.randint(0, 4)):
                await self.world.turns()
            self.acknowledge()
        await self.finish()

    async def add_endpoint(self):
        self.count += 1
        url = f"https://receiver.example/{self.count}"
        self.caps[url] = self.random.choice([1, 2, 8])
        self.modes[url] = self.random.choice(MODES)
        made = await self.world.endpoints.create(
            {
                "url": url,
                "tenant": self.random.choice(["a", "b"]),
                "events": self.random.choice([[], ["stt.**"], ["stt.jobs.completed"]]),
                "concurrency": self.caps[url],
                "retry": {"delays_s": [1, 2, 4, 8, 16, 32, 64, 128], "jitter": 0.2},
            }
        )
        assert isinstance(made, Changed)

    async def burst(self):
        for _ in range(self.random.choice([1, 3, 40])):
            self.count += 1
            tenant, kind = self.random.choice("ab"), self.random.choice(["completed", "failed"])
            line = {"type": f"stt.jobs.{kind}", "data": {"n": self.count}, "tenant": tenant, "id": f"e{self.count}"}
            when = self.random.random()
            if when < 0.1:
                line["deliver_after"] = self.stamp(self.random.randint(-5, 20))
            if 0.1 < when < 0.2:
                line["expires_at"] = self.stamp(self.random.randint(1, 60))
                self.expiring.add(line["id"])
            lanes = self.world.endpoints.match(tenant, line["type"])
            self.world.emit(json.dumps(line).encode())
            self.owed[line["id"]] = {self.world.endpoints.by_lane(lane).url for lane in lanes}
            if self.random.random() < 0.1:
                self.world.emit(json.dumps(line).encode())  # a doubled submission makes nothing new
        if self.random.random() < 0.5:
            await self.world.barrier()

    def stamp(self, seconds):
        ms = self.clock.ms + seconds * 1000
        return rfc3339(ms)

    async def wait(self):
        self.clock.advance(self.random.choice([0.01, 0.5, 2, 10]))
        self.release()

    def release(self):
        still = []
        for until, mode, future in self.waiting:
            if until > self.clock.elapsed:
                still.append((until, mode, future))
            elif not future.done():
                future.set_result(answer(200) if mode == "late" else Outcome(OutcomeKind.TIMEOUT, error="timed out"))
        self.waiting = still

    async def change_mode(self):
        self.modes[self.random.choice(list(self.modes))] = self.random.choice(MODES)

    async def pause(self):
        await self.on_some_endpoint("pause")

    async def resume(self):
        await self.on_some_endpoint("resume")

    async def go(self):
        if self.random.random() < 0.2:
            url = self.random.choice(list(self.modes))
            self.modes[url] = "gone"
            self.gone.add(url)

    async def delete(self):
        if self.random.random() < 0.3 and len(self.world.endpoints) > 2:
            endpoint = self.random.choice(list(self.world.endpoints))
            self.deleted.add(endpoint.url)
            await self.world.endpoints.delete(endpoint.id)

    async def on_some_endpoint(self, verb):
        endpoints = list(self.world.endpoints)
        if endpoints:
            await getattr(self.world.endpoints, verb)(self.random.choice(endpoints).id)

    async def step_clock(self):
        if self.random.random() < 0.5:
            self.clock.step(self.random.choice([-3600, -60, 60, 3600]))

    async def crash(self):
        if self.random.random() < 0.6:
            return
        await self.world.barrier()
        self.acknowledge()
        for event, lane in self.world.dispatch.in_flight():
            endpoint = self.world.endpoints.by_lane(lane)
            if endpoint is not None:
                self.may_double.add((endpoint.url, event))
        await self.world.crash()
        self.waiting = []
        self.running.clear()
        self.world = await World(self.directory, self.clock, self.chance, self.network).start()

    async def finish(self):
        """Everybody gets well; in the end nothing may be owed any more."""
        for url in self.modes:
            self.modes[url] = "ok"
        for _ in range(ROUNDS):
            for endpoint in list(self.world.endpoints):
                await self.world.endpoints.resume(endpoint.id)
            self.clock.advance(ROUND_S)
            self.release()
            await self.world.settle()
            if not self.rows("SELECT 1 FROM owed LIMIT 1"):
                break
        self.acknowledge()
        self.check()
        await self.world.stop()

    def rows(self, sql):
        with sqlite3.connect(f"file:{self.world.database.path}?mode=ro", uri=True) as db:
            found = db.execute(sql).fetchall()
        db.close()
        return found

    def check(self):
        assert not self.world.fatal
        assert self.rows("SELECT count(*) FROM owed") == [(0,)]
        urls, states, seqs = self.urls(), {}, {}
        for event, lane, state in self.rows(
            "SELECT e.id, d.lane, d.state FROM delivery d JOIN event e ON e.seq = d.event"
        ):
            states[event, urls[lane]] = DeliveryState(state)
        for seq, event in self.rows("SELECT seq, id FROM event"):
            seqs[event] = seq
        for event, wanted in self.owed.items():
            if event not in seqs:
                assert event not in self.acknowledged
                continue  # a crash came before its commit
            assert {url for e, url in states if e == event} == wanted
            for url in wanted:
                self.check_one(event, url, states[event, url], seqs[event])

    def check_one(self, event, url, state, seq):
        delivered = self.network.delivered[url, event]
        assert state in FINAL_STATES
        if state is DeliveryState.SUCCEEDED:
            assert delivered >= 1
        elif state is DeliveryState.DEAD:
            assert url in self.gone or self.network.got[url, event] >= 9
        elif state is DeliveryState.EXPIRED:
            assert event in self.expiring
        else:
            assert state is DeliveryState.CANCELLED
            assert url in self.deleted
        if delivered > 1:
            assert (url, seq) in self.may_double, "sent again although it was not in flight at a crash"

    def urls(self):
        return {lane: codec.decode_spec(spec).url for lane, spec in self.rows("SELECT lane, spec FROM endpoint")}


def pytest_generate_tests(metafunc):
    """A seed a test; twenty times as many under ``--long``."""
    if "seed" in metafunc.fixturenames:
        start = SLICE % (LONG_SEEDS // SEEDS) * SEEDS
        metafunc.parametrize(
            "seed", range(LONG_SEEDS) if metafunc.config.getoption("long") else range(start, start + SEEDS)
        )


async def test_a_life_keeps_every_promise(seed, tmp_path):
    """Whatever happens in whatever order: nothing acknowledged is lost, nothing is doubled without a crash."""
    await Life(tmp_path / "state", seed).live(60)
