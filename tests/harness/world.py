"""A daemon's inside without a process: real store, real services, a clock and a network that the test owns.

Fakes stand at the rim only: ``FakeClock`` moves when the test says so, ``FakeNetwork`` answers by a script. Everything
between them is what runs in production. ``settle`` runs every loop's turns until nothing changes any more.
"""

import asyncio
import random
from collections import Counter
from pathlib import Path

from ringback.core.egress import parse_policy
from ringback.core.events import EventLimits
from ringback.core.model import Outcome, OutcomeKind, Peer
from ringback.core.schedule import Limits
from ringback.service.attempt import Attempts
from ringback.service.callbacks import Callbacks
from ringback.service.dispatch import Dispatch
from ringback.service.effective import EndpointDefaults
from ringback.service.endpoints import Endpoints
from ringback.service.intake import Intake
from ringback.service.janitor import DAY_MS, Janitor, Keep
from ringback.service.verify import Us, Verify
from ringback.store.callbacks import CallbackReads
from ringback.store.database import open_state
from ringback.store.endpoints import EndpointReads
from ringback.store.ops import Task
from ringback.store.queue import QueueReads
from ringback.store.reader import DISPATCH_TIMEOUT_S, Reader
from ringback.store.writer import Writer

#: Where the simulated time begins.
EPOCH_MS = 1_800_000_000_000


class FakeClock:
    """Time that moves only by ``advance``."""

    def __init__(self):
        self.ms = EPOCH_MS
        self.elapsed = 0.0

    def now_ms(self):
        return self.ms

    def monotonic(self):
        return self.elapsed

    async def sleep(self, seconds):
        await asyncio.sleep(0)

    def advance(self, seconds):
        self.ms += round(seconds * 1000)
        self.elapsed += seconds

    def step(self, seconds):
        """The wall clock is set; the monotonic one doesn't notice."""
        self.ms += round(seconds * 1000)


class FakeChance:
    """Chance from a seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.count = 0

    def uniform(self):
        return self.random.random()

    def new_id(self):
        self.count += 1
        head = f"{EPOCH_MS + self.count:012x}"
        tail = f"{self.random.getrandbits(62) | 1 << 63:016x}"
        return f"{head[:8]}-{head[8:]}-7{self.random.getrandbits(12):03x}-{tail[:4]}-{tail[4:]}"

    def token(self, size):
        return self.random.randbytes(size)


class FakeNetwork:
    """Answers by ``script(request) -> Outcome | awaitable``; counts what each receiver got, by webhook-id."""

    def __init__(self, script):
        self.script = script
        self.got = Counter()
        self.delivered = Counter()
        self.in_flight = 0

    async def send(self, request, timeout_s):
        key = (request.url, dict(request.headers).get("webhook-id", "handshake"))
        self.in_flight += 1
        try:
            outcome = self.script(request)
            if not isinstance(outcome, Outcome):
                outcome = await outcome
            self.got[key] += 1
            if outcome.kind is OutcomeKind.RESPONSE and 200 <= outcome.status <= 299:
                self.delivered[key] += 1
            return outcome
        finally:
            self.in_flight -= 1


def answer(status, **kwargs):
    """A response with that status."""
    return Outcome(OutcomeKind.RESPONSE, status=status, **kwargs)


class World:
    """One life of the daemon's inside over a state directory; make another over the same one after a crash."""

    def __init__(self, directory: Path, clock, chance, network, limits=None, us=None):
        self.directory, self.clock, self.chance, self.network = directory, clock, chance, network
        self.limits = limits or Limits()
        self.us = us or Us()
        self.answers = []
        self.fatal = []

    async def start(self):
        clock = self.clock
        self.database = open_state(self.directory, clock.now_ms())
        self.writer = Writer(self.database, clock, on_fatal=self.fatal.append)
        await self.writer.start()
        self.reader = await Reader(self.database, DISPATCH_TIMEOUT_S).open()
        self.reads, self.table = QueueReads(self.reader), EndpointReads(self.reader)

        async def resolve(_host):
            return ["93.184.216.34"]

        self.endpoints = Endpoints(
            writer=self.writer,
            policy=parse_policy(allow_http=False, allow_networks=[], deny_networks=[]),
            defaults=EndpointDefaults(),
            resolve=resolve,
            clock=clock,
            chance=self.chance,
        )
        stored = await self.table.load_all()
        self.endpoints.fill(stored)
        await self.start_callbacks()
        attempts = Attempts(
            sender=self.network, clock=clock, chance=self.chance, connect_timeout_s=5, max_response_bytes=65536
        )
        self.dispatch = Dispatch(
            limits=self.limits,
            endpoints=self.endpoints,
            callbacks=self.callbacks,
            reads=self.reads,
            writer=self.writer,
            attempts=attempts,
            clock=clock,
        )
        self.janitor = Janitor(
            board=self.dispatch.board,
            endpoints=self.endpoints,
            reads=self.reads,
            writer=self.writer,
            clock=clock,
            keep=Keep(30 * DAY_MS, 14 * DAY_MS),
            in_flight=self.dispatch.in_flight,
            kick=self.dispatch.kick,
            deleted=[e.lane for e in stored if e.deleted_at_ms is not None],
            newest_ms=await self.reads.newest_ms(),
            stand_in=self.callbacks.stand_in,
        )
        self.endpoints.on_change(self.dispatch.changed)
        self.endpoints.on_change(self.janitor.changed)
        self.verify = Verify(endpoints=self.endpoints, sender=self.network, clock=clock, chance=self.chance, us=self.us)
        self.verify.fill()
        self.endpoints.on_change(self.verify.changed)
        await self.dispatch.recover({lane: h.failing for lane, h in (await self.table.health()).items()})
        self.intake = Intake(
            matches=self.endpoints, writer=self.writer, dispatch=self.dispatch, callbacks=self.callbacks,
            clock=clock, chance=self.chance, limits=EventLimits(),
        )  # fmt: skip
        return self

    async def start_callbacks(self):
        self.callbacks = Callbacks(parse_policy(allow_http=False, allow_networks=[], deny_networks=[]))
        for lane in await CallbackReads(self.reader).owing():
            self.callbacks.adopt(lane)

    def emit(self, line):
        """Hand a line in; its answer joins ``answers``."""
        self.intake.handle(line, Peer("socket", 1, 1, 1), self.answers.append)

    async def barrier(self):
        """Everything submitted before is committed and answered."""
        await self.writer.run(Task("barrier", lambda _db: None))

    async def turns(self):
        """One turn of each loop."""
        now_ms = self.clock.now_ms()
        await self.verify.turn(now_ms)
        await self.dispatch.refiller.turn(now_ms)
        await self.dispatch.turn(now_ms)
        for _ in range(3):
            await asyncio.sleep(0)
        await self.barrier()

    def _snapshot(self):
        board = self.dispatch.board
        return (board.items, board.in_flight, board.uncommitted, len(board.thirsty), sum(self.network.got.values()))

    async def settle(self, *, janitor=True):
        """Turn until nothing changes any more at this moment."""
        still = 0
        for _ in range(10_000):
            before = self._snapshot()
            await self.turns()
            if janitor:
                await self.janitor.turn(self.clock.now_ms())
            reading = self.reader.waiting > 0  # its thread is behind: an attempt still waits for its event
            still = still + 1 if self._snapshot() == before and not reading else 0
            if still >= 3:
                return
        raise AssertionError("it never settles")

    async def crash(self):
        """Die without a word: what is in flight is forgotten, what is not committed never was."""
        await self.verify.stop()
        for task in list(self.dispatch._tasks.values()):
            task.cancel()
        self.writer.submit = lambda op, done: None
        await asyncio.gather(*self.dispatch._tasks.values(), return_exceptions=True)
        await self.stop()

    async def stop(self):
        """Close the store."""
        await self.verify.stop()
        await self.reader.close()
        await self.writer.stop()
        self.database.close()
