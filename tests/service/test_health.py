"""What ended attempts say against an endpoint as a whole: 410, and formats that give up after so many lost."""

import json

from tests.harness.world import FakeChance, FakeClock, FakeNetwork, World, answer

from ringback.core.model import EndpointStatus

LIMIT = 10


async def azure(tmp_path, script):
    """A world with one Azure endpoint that needs no proof."""
    world = await World(tmp_path / "state", FakeClock(), FakeChance(1), FakeNetwork(script)).start()
    body = {"url": "https://receiver.example/h", "dialect": "azure-speech", "handshake": "none"}
    made = await world.endpoints.create(body)
    return world, made.endpoint


async def play(world, events):
    """Emit so many and let their retries run out."""
    for n in range(events):
        line = {"type": "TranscriptionCompletion", "data": {"self": f"https://e.example/{world.chance.count}/{n}"}}
        world.emit(json.dumps(line).encode())
    for _ in range(12):
        await world.settle()
        world.clock.advance(2)
    await world.settle()


async def test_an_azure_endpoint_is_disabled_after_ten_lost_in_a_row(tmp_path):
    """As the vendor's service did; what comes later is held and nothing of it is lost."""
    world, endpoint = await azure(tmp_path, lambda _: answer(500))
    await play(world, LIMIT - 1)
    assert world.endpoints.get(endpoint.id).status is EndpointStatus.ACTIVE
    await play(world, 3)
    now = world.endpoints.get(endpoint.id)
    assert (now.status, now.status_reason) == (EndpointStatus.DISABLED, "lost_in_a_row")
    assert await world.reads.owed_count(endpoint.lane, 9) > 0
    await world.stop()


async def test_one_delivery_in_between_begins_the_count_anew(tmp_path):
    """Ten in a row are meant, not ten in all."""
    status = [500]
    world, endpoint = await azure(tmp_path, lambda _: answer(status[0]))
    for code in (500, 200, 500):
        status[0] = code
        await play(world, LIMIT - 1)
    assert world.endpoints.get(endpoint.id).status is EndpointStatus.ACTIVE
    await world.stop()


async def test_other_formats_count_nothing(tmp_path):
    """An endpoint of another dialect stays active however much it loses."""
    world = await World(tmp_path / "s", FakeClock(), FakeChance(1), FakeNetwork(lambda _: answer(404))).start()
    made = await world.endpoints.create({"url": "https://r.example/", "retry": {"delays_s": []}})
    for n in range(30):
        world.emit(json.dumps({"type": "a", "data": {"n": n}}).encode())
    await world.settle()
    assert world.endpoints.get(made.endpoint.id).status is EndpointStatus.ACTIVE
    await world.stop()
