"""The erasing as a service: who is told when, what is tried again, what a start takes up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
from tests.harness.world import FakeChance, FakeClock
from tests.store.kit import Store, accept, opened, rows

from ringback.core.egress import parse_policy
from ringback.core.model import Endpoint
from ringback.service.bodies import Bodies
from ringback.service.callbacks import Callbacks
from ringback.service.endpoint_fields import Refusal
from ringback.service.endpoints import EndpointDefaults, Endpoints
from ringback.service.erasure import AGAIN_S, STEP_EVENTS, Erasure
from ringback.service.tokens import Tokens
from ringback.store.callbacks import CallbackLane
from ringback.store.endpoints import insert
from ringback.store.erase import ErasureReads


class Made:
    """An erasing over a real store; ``told`` has what it asked of the others, in order."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.told: list[tuple[Any, ...]] = []
        self.broken: OSError | None = None
        self.free = True
        self.bodies = Bodies(store.queue)
        clock, policy = FakeClock(), parse_policy(False, [], [])
        self.endpoints = Endpoints(
            writer=store.writer, policy=policy, defaults=EndpointDefaults(), resolve=None, clock=clock,
            chance=FakeChance(1),
        )  # fmt: skip
        self.callbacks = Callbacks(policy)
        self.erasure = Erasure(
            reads=ErasureReads(store.reader),
            writer=store.writer,
            endpoints=self.endpoints,
            callbacks=self.callbacks,
            tokens=Tokens(store.writer, clock, FakeChance(2)),
            dispatch=self,
            clock=clock,
            wipe=self.wipe,
            destroy=self.destroy,
            remember=self.remember,
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

    async def destroy(self, tenant: str) -> None:
        left = rows(self.store.database.path, "SELECT count(*) FROM event WHERE length(digest) > 0")[0][0]
        self.told.append(("destroy", tenant, left, rows(self.store.database.path, "SELECT done FROM erasure")))
        if self.broken is not None:
            raise self.broken

    async def remember(self, tenant: str, event_id: str) -> None:
        self.told.append(("remember", tenant, event_id))

    async def run(self) -> int:
        """Turn until nothing is left to do; how many turns that took."""
        turns = 0
        while await self.erasure.turn(1) is not None:
            turns += 1
        return turns


@asynccontextmanager
async def made(folder: Path) -> AsyncIterator[Made]:
    """On a directory."""
    async with opened(folder / "s") as store:
        yield Made(store)


async def test_an_event_is_withheld_while_it_is_erased_and_remembered_before_the_answer(tmp_path: Path) -> None:
    """All its lanes are; its body can't be sent any more; the log is emptied behind it, again if somebody is there."""
    async with made(tmp_path) as it:
        one = await it.store.run(accept("e1", 7, 8))
        it.bodies.keep(one.seq, accept("e1").event, 1, 2)
        assert isinstance(await it.erasure.event("acme", "e1"), int)
        assert it.told == [
            ("withhold", one.seq, 7), ("withhold", one.seq, 8), ("give_back", one.seq, 7), ("give_back", one.seq, 8),
            ("remember", "acme", "e1"),
        ]  # fmt: skip
        assert it.bodies.take(one.seq) is None
        assert it.bodies.is_erased(one.seq)
        it.told.clear()
        it.free = False
        assert await it.erasure.turn(1) == AGAIN_S
        it.free = True
        assert await it.erasure.turn(1) is None
        assert await it.erasure.turn(1) is None
        assert it.told == [("wipe",), ("wipe",)]


async def test_asked_again_it_is_remembered_again(tmp_path: Path) -> None:
    """What broke off between the commit and the answer is made good by asking again."""
    async with made(tmp_path) as it:
        await it.store.run(accept("e1", 7))
        first = await it.erasure.event("acme", "e1")
        it.told.clear()
        assert await it.erasure.event("acme", "e1") == first
        assert it.told == [("remember", "acme", "e1")]
        assert isinstance(await it.erasure.event("acme", "e2"), Refusal)


async def test_keys_are_destroyed_after_the_begin_and_before_the_first_step(tmp_path: Path) -> None:
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
        assert it.told == [("changed", endpoint.lane), ("changed", 500), ("destroy", "acme", many, [(-1,)])]
        assert it.endpoints.count("acme") == 0
        assert list(it.callbacks.lanes) == [501]
        assert await it.erasure.is_gone("acme", "e1", 1)
        assert not await it.erasure.is_gone("acme", "new", many + 1)
        with structlog.testing.capture_logs() as lines:
            assert await it.run() == 3
        assert [line["event"] for line in lines] == ["tenant.erased"]
        view = await it.erasure.look("acme")
        assert (view.events, view.erasing, view.left) == (many, False, 0)


async def test_a_key_that_cannot_be_destroyed_holds_the_steps(tmp_path: Path) -> None:
    """It is said, and tried again; until then no event is touched, so that nothing looks done that isn't."""
    async with made(tmp_path) as it:
        await it.store.run(accept("e1", 7))
        it.broken = OSError("no room")
        with structlog.testing.capture_logs() as lines:
            assert (await it.erasure.tenant("acme")).events == 1
            assert await it.erasure.turn(1) == 0.0
        assert [line["event"] for line in lines] == ["tenant.erasing", *["erasure.postponed"] * 2]
        assert (await it.erasure.look("acme")).left == 1
        it.broken = None
        await it.run()
        assert (await it.erasure.look("acme")).left == 0


async def test_a_start_takes_up_what_was_left(tmp_path: Path) -> None:
    """Keys that were not destroyed yet are before anything else, those that were are not touched again."""
    async with made(tmp_path) as it:
        for tenant in ("acme", "beta"):
            await it.store.run(accept("e1", 7, tenant=tenant))
        it.broken = OSError("no room")
        await it.erasure.tenant("acme")
        it.broken = None
        await it.erasure.tenant("beta")
    async with made(tmp_path) as it:
        await it.erasure.resume()
        assert [told[:2] for told in it.told] == [("destroy", "acme")]
        await it.run()
        assert it.told[-1] == ("wipe",)
        assert rows(it.store.database.path, "SELECT count(*) FROM event WHERE length(digest) > 0") == [(0,)]


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
