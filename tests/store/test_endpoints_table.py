"""Endpoints in the table: lanes, names, revisions, health."""

import msgspec
import pytest
from tests.store.kit import NOW_MS, Store, accept, opened

from ringback.core.model import Endpoint, EndpointStatus, RetryPolicy, Secret
from ringback.store import endpoints as table
from ringback.store.endpoints import Health, NameTaken
from ringback.store.errors import StoreError
from ringback.store.queue import cancel_owed


def _endpoint(name: str | None = None, **members) -> Endpoint:
    members.setdefault("id", f"id-{name}")
    members.setdefault("tenant", "acme")
    return Endpoint(
        lane=0, url="https://example.com/", dialect="standard", created_at_ms=1, updated_at_ms=1, name=name, **members
    )


async def test_an_endpoint_comes_back_as_it_was_stored(store: Store):
    """Every member survives: secrets, retry policy, maps."""
    made = await store.run(
        table.insert(
            _endpoint(
                "crm",
                events=("stt.**",),
                secrets=(Secret("whsec_x", 5, 9),),
                retry=RetryPolicy(delays_s=None, attempts=3),
                headers={"X-A": "b"},
                metadata={"ö": "ü"},
                status=EndpointStatus.PAUSED,
                below=EndpointStatus.PENDING,
            )
        )
    )
    assert made.lane == 1
    assert await store.endpoints.load_all() == [made]


async def test_a_name_is_unique_among_the_living_of_a_tenant(store: Store):
    """Taken is an answer, not an error; another tenant, no name, or a deleted bearer are no obstacle."""
    first = await store.run(table.insert(_endpoint("a")))
    assert await store.run(table.insert(_endpoint("a", id="x1"))) == NameTaken("a")
    assert (await store.run(table.insert(_endpoint("a", id="x2", tenant="other")))).lane == 2
    assert (await store.run(table.insert(_endpoint(None, id="x3")))).lane == 3
    assert (await store.run(table.insert(_endpoint(None, id="x4")))).lane == 4
    await store.run(table.update(msgspec.structs.replace(first, deleted_at_ms=NOW_MS)))
    again = await store.run(table.insert(_endpoint("a", id="x5")))
    assert again.lane == 5
    second = await store.run(table.insert(_endpoint("b", id="x6")))
    assert await store.run(table.update(msgspec.structs.replace(second, name="a"))) == NameTaken("a")
    assert (await store.run(table.update(again))) == again, "its own name is no obstacle"


async def test_a_lane_is_never_used_twice(tmp_path):
    """Not after a deletion, not after a restart."""
    async with opened(tmp_path / "s") as store:
        first = await store.run(table.insert(_endpoint("a")))
        await store.run(table.update(msgspec.structs.replace(first, deleted_at_ms=NOW_MS)))
    async with opened(tmp_path / "s") as store:
        assert (await store.run(table.insert(_endpoint("a", id="b")))).lane == 2


async def test_a_deleted_endpoint_is_loaded_while_it_owes(store: Store):
    """So that what it owes can be cancelled after a crash; then it is only history."""
    made = await store.run(table.insert(_endpoint("a")))
    await store.run(accept("e", made.lane))
    gone = msgspec.structs.replace(made, deleted_at_ms=NOW_MS)
    await store.run(table.update(gone))
    assert await store.endpoints.load_all() == [gone]
    assert await store.run(cancel_owed(made.lane, 10)) == 1
    assert await store.endpoints.load_all() == []


async def test_each_revision_stays(store: Store):
    """What was sent under a revision can be rebuilt after the endpoint changed."""
    first = await store.run(table.insert(_endpoint("a")))
    second = msgspec.structs.replace(first, revision=2, url="https://example.com/new")
    await store.run(table.update(second))
    await store.run(table.update(msgspec.structs.replace(second, status=EndpointStatus.PAUSED)))
    assert await store.endpoints.revision(first.lane, 1) == first
    assert await store.endpoints.revision(first.lane, 2) == second
    assert await store.endpoints.revision(first.lane, 3) is None


async def test_an_endpoint_that_is_not_there_cannot_be_changed(store: Store):
    """That is a bug of the caller: it fails by name and stores nothing."""
    with pytest.raises(StoreError, match=r"internal_error.*lane 0"):
        await store.run(table.update(_endpoint("ghost")))
    assert await store.endpoints.load_all() == []


async def test_health_remembers_since_when(store: Store):
    """Saying the same thing again doesn't move the time; a change does."""
    await store.run(table.set_health(7, True, 100))
    await store.run(table.set_health(7, True, 200))
    assert await store.endpoints.health() == {7: Health(True, 100)}
    await store.run(table.set_health(7, False, 300))
    assert await store.endpoints.health() == {7: Health(False, 300)}
