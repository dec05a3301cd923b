"""The store's fixtures: a running store, and its heart without the thread."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.store.kit import MASTERS, NOW_MS, Store, opened

from ringback.store.database import open_state
from ringback.store.engine import Engine


@pytest.fixture(params=["plain", "sealed"])
async def store(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """A running store on an empty directory: whatever holds in the clear must hold with encryption."""
    async with opened(tmp_path / "state", masters=MASTERS if request.param == "sealed" else None) as running:
        yield running
        assert running.fatal == [], "no test but those of faults may break the store"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """The writer's heart without its thread."""
    database = open_state(tmp_path / "state", NOW_MS)
    yield Engine(database.writer, database.high_seq)
    database.close()
