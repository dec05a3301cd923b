"""The dispatcher at its edges: what a verdict does to an endpoint that changes meanwhile, and a stop on a full disk."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.harness.world import FakeChance, FakeClock, FakeNetwork, World, answer

from ringback.core.model import EndpointStatus
from ringback.service.endpoints import Changed
from ringback.store.ops import Task

OLD, NEW = "https://old.example/", "https://new.example/"


class FullDisk:
    """Keeps changes of endpoints waiting, as the writer does while there is no room for them."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept: list[tuple[Any, Any]] = []
        self.submit = world.writer.submit
        self.full = True
        monkeypatch.setattr(world.writer, "submit", self.take)

    def take(self, op: Any, done: Any, **how: Any) -> None:
        if self.full and isinstance(op, Task) and op.name == "update_endpoint":
            self.kept.append((op, done))
        else:
            self.submit(op, done, **how)

    def empty(self) -> None:
        self.full = False
        for op, done in self.kept:
            self.submit(op, done)


async def until(holds: Callable[[], object], world: World) -> None:
    """Turn until it holds."""
    async with asyncio.timeout(60):
        while not holds():
            await world.turns()


@pytest.fixture
def asked() -> "asyncio.Queue[asyncio.Future[Any]]":
    """Each request that was made, to be answered."""
    return asyncio.Queue()


@pytest.fixture
async def world(tmp_path: Path, asked: "asyncio.Queue[asyncio.Future[Any]]") -> AsyncIterator[World]:
    """A daemon's inside, with one endpoint and one delivery under way."""

    def script(_request: object) -> Any:
        asked.put_nowait(future := asyncio.get_running_loop().create_future())
        return future

    made = await World(tmp_path / "state", FakeClock(), FakeChance(1), FakeNetwork(script)).start()
    assert isinstance(await made.endpoints.create({"url": OLD}), Changed)
    made.emit(json.dumps({"type": "t", "data": {}, "id": "one"}).encode())
    await made.barrier()
    await made.turns()
    yield made
    await made.stop()


async def test_a_410_says_nothing_of_the_url_that_takes_its_place_meanwhile(
    world: World, asked: "asyncio.Queue[asyncio.Future[Any]]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change was being written as the old one's answer came: the endpoint stays active, its lane open."""
    disk = FullDisk(world, monkeypatch)
    (endpoint,) = world.endpoints
    change = asyncio.ensure_future(world.endpoints.patch(endpoint.id, {"url": NEW}))
    await until(lambda: disk.kept, world)
    (await asked.get()).set_result(answer(410))
    await world.turns()
    disk.empty()
    await change
    await until(lambda: not world.dispatch._helpers, world)
    (now,) = world.endpoints
    assert (now.url, now.status) == (NEW, EndpointStatus.ACTIVE)
    assert world.dispatch.board.lanes[now.lane].open


async def test_a_stop_does_not_wait_for_room_on_the_disk(
    world: World, asked: "asyncio.Queue[asyncio.Future[Any]]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint that is to be disabled can't be, as long as the disk is full; the daemon ends all the same."""
    disk = FullDisk(world, monkeypatch)
    (await asked.get()).set_result(answer(410))
    await until(lambda: disk.kept, world)
    assert await asyncio.wait_for(world.dispatch.stop(5), 60) == 0
    disk.empty()
    await until(lambda: next(iter(world.endpoints)).status is EndpointStatus.DISABLED, world)
