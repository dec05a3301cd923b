"""The erasing as a service: who is told when, what is tried again, what a start takes up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import structlog
from tests.harness.world import FakeChance, FakeClock
from tests.store.kit import MASTERS, Store, accept, opened, rows

from ringback.core.egress import parse_policy
from ringback.core.model import Callback, Endpoint
from ringback.service.bodies import Bodies
from ringback.service.callbacks import Callbacks
from ringback.service.effective import EndpointDefaults
from ringback.service.endpoint_fields import Refusal
from ringback.service.endpoints import Endpoints
from ringback.service.erasure import AGAIN_S, STEP_EVENTS, Erasure
from ringback.service.tokens import Tokens
from ringback.store.callbacks import CallbackLane
from ringback.store.endpoints import insert
from ringback.store.erase import begin_erasure
from ringback.store.erasure_reads import ErasureReads
from ringback.store.keyring import KEYRING_NAME, Keyring
from ringback.store.ops import Accepted, Task

TIMEOUT_S = 60
ORIGIN = "https://b.example.com:443"


class Made:
    """An erasing over a real store; ``told`` has what it asked of the others, in order."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.told: list[tuple[Any, ...]] = []
        self.free = True
        self.ring = Keyring(store.database.directory / KEYRING_NAME, MASTERS, lambda: 1)
        self.bodies = Bodies(store.queue)
        clock, policy = FakeClock(), parse_policy(False, [], [])
        self.clock = clock
        self.endpoints = Endpoints(
            writer=store.writer, policy=policy, defaults=EndpointDefaults(), resolve=None, clock=clock,
            chance=FakeChance(1),
        )  # fmt: skip
        self.callbacks = Callbacks(policy)
        self.tokens = Tokens(store.writer, clock, FakeChance(2))
        self.erasure = Erasure(
            reads=ErasureReads(store.reader),
            writer=store.writer,
            endpoints=self.endpoints,
            callbacks=self.callbacks,
            tokens=self.tokens,
            dispatch=self,
            clock=clock,
            wipe=self.wipe,
        )

    def withhold(self, event: int, lane: int) -> None:
        self.told.append(("withhold", event, lane))

    def give_back(self, event: int, lane: int) -> None:
        self.told.append(("give_back", event, lane))

    def changed(self, lane: int) -> None:
        self.told.append(("changed", lane))

    def wipe(self) -> bool:
        self.told.append(("wipe",))
        return self.free

    async def run(self) -> int:
        """Turn until nothing is left to do; how many turns that took."""
        turns = 0
        while await self.erasure.turn(1) is not None:
            turns += 1
        return turns


@asynccontextmanager
async def made(folder: Path) -> AsyncIterator[Made]:
    """On a directory."""
    async with opened(folder / "s", masters=MASTERS) as store:
        it = Made(store)
        try:
            yield it
        finally:
            it.ring.close()


async def test_an_event_is_withheld_while_it_is_erased_and_remembered(tmp_path: Path) -> None:
    """All its lanes are; its body can't be sent any more; the log is emptied behind it, again if somebody is there."""
    async with made(tmp_path) as it:
        one = await it.store.run(accept("e1", 7, 8))
        it.bodies.keep(one.seq, accept("e1").event, 1, 2)
        assert isinstance(await it.erasure.event("acme", "e1"), int)
        assert it.told == [
            ("withhold", one.seq, 7), ("withhold", one.seq, 8), ("give_back", one.seq, 7), ("give_back", one.seq, 8),
        ]  # fmt: skip
        assert [one[:2] for one in it.ring.erased(("", ""), 9)] == [("acme", "e1")]
        assert it.bodies.take(one.seq) is None
        assert it.bodies.is_erased(one.seq)
        it.told.clear()
        it.free = False
        assert await it.erasure.turn(1) == AGAIN_S
        it.free = True
        assert await it.erasure.turn(1) is None
        assert await it.erasure.turn(1) is None
        assert it.told == [("wipe",), ("wipe",)]


async def test_asked_again_it_was_erased_the_first_time(tmp_path: Path) -> None:
    """Nothing is done twice; what never was is named."""
    async with made(tmp_path) as it:
        await it.store.run(accept("e1", 7))
        first = await it.erasure.event("acme", "e1")
        it.told.clear()
        assert await it.erasure.event("acme", "e1") == first
        assert it.told == []
        assert isinstance(await it.erasure.event("acme", "e2"), Refusal)


async def test_a_tenants_keys_are_destroyed_before_the_answer_and_its_events_behind_it(tmp_path: Path) -> None:
    """Its endpoints and callbacks' lanes are told; then the events go in steps; other tenants are not touched."""
    async with made(tmp_path) as it:
        endpoint = await it.store.run(insert(Endpoint(0, "x", "acme", "https://a.example.com/", "standard", 1, 1)))
        it.endpoints.fill([endpoint])
        it.endpoints.on_change(it.changed)
        it.callbacks.adopt(CallbackLane(500, "acme", "https://b.example.com:443"))
        it.callbacks.adopt(CallbackLane(501, "beta", "https://b.example.com:443"))
        many = STEP_EVENTS + 1
        await it.store.all(*[accept(f"e{n}", 7) for n in range(many)])
        asked = await it.erasure.tenant("acme")
        assert (asked.events, asked.endpoints) == (many, 1)
        assert it.told == [("changed", 500), ("changed", endpoint.lane)]
        assert it.ring.states([1, 2]) == {1: ("acme", True), 2: ("acme", False)}, "what comes has a new one"
        assert rows(it.store.database.path, "SELECT count(*) FROM event WHERE length(digest) > 0") == [(many,)]
        assert it.endpoints.count("acme") == 0
        assert list(it.callbacks.lanes) == [501]
        assert await it.erasure.is_gone("acme", "e1", 1)
        assert not await it.erasure.is_gone("acme", "new", many + 1)
        with structlog.testing.capture_logs() as lines:
            assert await it.run() == 3
        assert [line["event"] for line in lines] == ["tenant.erased"]
        view = await it.erasure.look("acme")
        assert (view.events, view.erasing, view.left) == (many, False, 0)


async def test_what_comes_in_the_very_commit_behind_it_stays_in_use(tmp_path: Path) -> None:
    """A token and a callback's lane that are made before the erasure has heard its answer: a start would bring them."""
    async with made(tmp_path) as it:
        await it.store.run(accept("e1", 7))
        (old, _), begun, go = await it.tokens.add({"tenant": "acme"}), Event(), Event()
        first = asyncio.ensure_future(it.store.run(Task("wait", lambda _: (begun.set(), go.wait(TIMEOUT_S)))))
        await asyncio.to_thread(begun.wait, TIMEOUT_S)
        erased = asyncio.ensure_future(it.erasure.tenant("acme"))
        while it.store.writer.backlog_rows < 256:  # behind the one that waits
            await it.clock.sleep(0)
        added = asyncio.ensure_future(it.tokens.add({"tenant": "acme"}))
        op = msgspec.structs.replace(
            accept("e2", callback=Callback(f"{ORIGIN}/x")), callback_origin=it.callbacks.reserve("acme", ORIGIN)
        )
        lanes = []

        def written(result: Accepted) -> None:
            lanes.append(result.callback_lane)
            it.callbacks.written("acme", ORIGIN, result.callback_lane)

        it.store.writer.submit(op, written)
        await it.clock.sleep(0)
        go.set()
        await asyncio.gather(first, erased, added)
        made_since, text = added.result()
        assert list(it.callbacks.lanes) == lanes
        assert it.tokens.find(text) is not None
        assert [token.id for token in it.tokens.newest_first()] == [made_since.id]
        assert rows(it.store.database.path, "SELECT id FROM token") == [(made_since.id,)]
        assert old.id != made_since.id


async def test_a_start_takes_up_what_was_left(tmp_path: Path) -> None:
    """Whether its keys were destroyed already or not; what was written since under a new key stays."""
    async with made(tmp_path) as it:
        for tenant in ("acme", "beta"):
            await it.store.run(accept("e1", 7, tenant=tenant))
        await it.store.run(begin_erasure("acme", 1))
        await it.erasure.tenant("beta")
        await it.store.run(accept("e2", 7, tenant="beta"))
    async with made(tmp_path) as it:
        await it.erasure.resume()
        await it.run()
        assert it.told[-1] == ("wipe",)
        assert rows(it.store.database.path, "SELECT id FROM event WHERE length(digest) > 0") == [("e2",)]
        (kept,) = await it.store.queue.load([3])
        assert (kept.event.data, kept.corrupt) == (accept("e2").event.data, False)
        assert rows(it.store.database.path, "SELECT tenant FROM sealed_key") == [("beta",)]


async def test_asked_again_in_the_middle_it_takes_what_came_since(tmp_path: Path) -> None:
    """Also with a step under way."""
    async with made(tmp_path) as it:
        await it.store.all(*[accept(f"e{n}", 7) for n in range(300)])
        await it.erasure.tenant("acme")
        step = asyncio.ensure_future(it.erasure.turn(1))
        await it.store.run(accept("late", 7))
        await it.erasure.tenant("acme")
        await step
        await it.run()
        assert (await it.erasure.look("acme")).erasing is False
        assert rows(it.store.database.path, "SELECT count(*) FROM event WHERE length(digest) > 0") == [(0,)]


async def test_a_step_that_meets_a_new_request_destroys_its_keys_first(tmp_path: Path) -> None:
    """The request is committed, not yet answered: that is no failure, and nothing is put off."""
    async with made(tmp_path) as it:
        await it.store.run(accept("e1", 7))
        await it.erasure.tenant("acme")
        await it.store.run(accept("late", 7))
        await it.store.run(begin_erasure("acme", 1))
        with structlog.testing.capture_logs() as logs:
            await it.run()
        assert [line["event"] for line in logs] == ["tenant.erased"]
        assert rows(it.store.database.path, "SELECT count(*) FROM event WHERE length(digest) > 0") == [(0,)]
        assert rows(it.store.database.path, "SELECT count(*) FROM sealed_key") == [(0,)]
