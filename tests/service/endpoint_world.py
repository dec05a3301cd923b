"""Endpoints over a real writer, and names that resolve as the test says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ringback.core.egress import parse_policy
from ringback.kit.clock import SystemChance, SystemClock
from ringback.service.effective import EndpointDefaults
from ringback.service.endpoint_fields import Refusal
from ringback.service.endpoints import Changed, Endpoints
from ringback.store.database import open_state
from ringback.store.endpoints import EndpointReads
from ringback.store.reader import Reader
from ringback.store.writer import Writer

URL = "https://hooks.example.com/in"


class World:
    """Endpoints over a real writer, and names that resolve as the test says."""

    def __init__(self, endpoints: Endpoints, reads: EndpointReads, names: dict[str, list[str]]) -> None:
        self.endpoints = endpoints
        self.reads = reads
        self.names = names
        self.told: list[int] = []

    async def make(self, **members: object) -> Changed:
        done = await self.endpoints.create({"url": URL, **members})
        assert isinstance(done, Changed), done
        return done

    async def refused(self, **members: object) -> Refusal:
        done = await self.endpoints.create({"url": URL, **members})
        assert isinstance(done, Refusal), done
        return done

    async def change(self, made: Changed, patch: object) -> Changed:
        done = await self.endpoints.patch(made.endpoint.id, patch)
        assert isinstance(done, Changed), done
        return done


@asynccontextmanager
async def open_world(tmp_path: Path) -> AsyncIterator[World]:
    """A fresh state directory with everything endpoints need."""
    clock = SystemClock()
    database = open_state(tmp_path / "state", clock.now_ms())
    writer = Writer(database, clock, on_fatal=pytest.fail)
    await writer.start()
    reader = await Reader(database).open()
    names = {"hooks.example.com": ["8.8.8.8"], "inner.example.com": ["8.8.8.8", "10.0.0.7"]}

    async def resolve(host: str) -> list[str]:
        if host == "silent.example.com":
            raise TimeoutError
        return names.get(host, [])

    endpoints = Endpoints(
        writer=writer,
        policy=parse_policy(False, ["127.0.0.0/8"], []),
        defaults=EndpointDefaults(concurrency=8, timeout_s=30),
        resolve=resolve,
        clock=clock,
        chance=SystemChance(),
    )
    world = World(endpoints, EndpointReads(reader), names)
    endpoints.on_change(world.told.append)
    yield world
    await reader.close()
    await writer.stop()
    database.close()
